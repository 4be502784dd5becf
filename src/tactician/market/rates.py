"""Returns of cash, from an annual rate or from a file of rates as its publisher writes them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tactician.bars.findings import Finding
from tactician.config_values import HIGHEST_RATE, LOWEST_RATE, rate_fault
from tactician.errors import UserError

MAX_RATE_AGE = 10
"""Sessions that a rate may be carried forward."""
IN_PERCENT = (
    "dtb3",
    "dtb4wk",
    "dtb6",
    "dtb1yr",
    "dgs1mo",
    "dgs3mo",
    "dgs6mo",
    "dgs1",
    "dff",
    "effr",
    "sofr",
    "obfr",
    "iorb",
    "ioer",
    "ecbdfr",
    "ecbestrvolwgttrmdmnrt",
    "iudsoia",
    "tb3ms",
    "tb4wk",
    "tb6ms",
    "gs1m",
    "gs3m",
    "fedfunds",
)
"""FRED's names of short rates. All of them are in percent per year."""
_DAILY_INSTEAD = {
    "tb3ms": "DTB3",
    "tb4wk": "DTB4WK",
    "tb6ms": "DTB6",
    "fedfunds": "DFF",
    "gs1m": "DGS1MO",
    "gs3m": "DGS3MO",
}
_DATE_NAMES = ("date", "observation_date")
_DATE = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})(?:[T ].*)?")
_UNPUBLISHED = ("", ".", "-", "nan", "na", "n/a", "#n/a", "nd", "none", "null", "<na>", "nat")
_LOWEST_DAILY, _HIGHEST_DAILY = -0.0005, 0.002
"""A daily rate outside these bounds must be a rate per year, or in percent."""
_HIGH, _JUMP = 0.08, 0.01
"""An annual rate above the first, or a move between sessions of the second, may be percent by mistake."""
_LARGER = ", or a truly larger one as rf_daily, per session"
_DAILY = (_LOWEST_DAILY, _HIGHEST_DAILY, "an annual rate or percent", "")
_ANNUAL = (LOWEST_RATE, HIGHEST_RATE, "percent where 0.02 is 2 %", _LARGER)
_IN_PERCENT = (LOWEST_RATE, HIGHEST_RATE, "no rate in percent", _LARGER)
"""Lowest and highest rate, what a rate outside looks like, and what to do if the rate is correct."""
_MONTHLY = 20
"""A series with at least this median number of days between rates is monthly."""


def cash_returns(rate: float | Path, sessions: pd.DatetimeIndex, per_year: int = 252) -> np.ndarray:
    """Return of cash from each session to the next, at the rate quoted in the session.

    Args:
        rate: an annual constant, which is compounded over the sessions of a year, or a file. A file has a column ``date``
            and one column of rates. That column is ``rf_daily`` (simple, per session), ``rate_annual`` (0.02 is 2 %), or a
            FRED series under its name (percent per year). A session without a rate takes the last one, up to 10 sessions
            old.
        sessions: the sessions whose rates are wanted.
        per_year: sessions per year.

    Raises:
        UserError: the constant is not a possible rate, the file cannot be read, or a session has no recent rate.
    """
    if not isinstance(rate, Path):
        if fault := rate_fault(rate):
            raise UserError(f"cash_rate cannot be {rate!r}: {fault}.")
        return np.full(len(sessions), (1 + float(rate)) ** (1 / per_year) - 1)
    quoted = _rates(rate, per_year)
    published = pd.DatetimeIndex(quoted.index)
    latest = published.searchsorted(sessions, side="right") - 1
    age = _age(published[np.maximum(latest, 0)], sessions, per_year)
    unknown = (latest < 0) | (age > MAX_RATE_AGE)
    if unknown.any():
        missing = sessions[int(unknown.argmax())]
        raise UserError(
            f"cash_rate: {rate} has no rate for {missing:%Y-%m-%d} or the {MAX_RATE_AGE} sessions before; extend it."
        )
    return quoted.to_numpy()[latest]


def rate_findings(cash_returns: np.ndarray, per_year: int, rate: float | Path) -> tuple[Finding, ...]:
    """Warn of high rates and of large moves between sessions: no fixed bound can tell 0.09 from 0.09 %.

    Args:
        cash_returns: return of cash per session.
        per_year: sessions per year.
        rate: the constant or the file that it came from.
    """
    annual = (1 + cash_returns) ** per_year - 1
    moves = np.abs(np.diff(annual)).max(initial=0.0)
    if annual.max(initial=0.0) <= _HIGH and moves < _JUMP - 1e-9:
        return ()
    mean = np.prod(1 + cash_returns) ** (per_year / len(cash_returns)) - 1
    moved = f", with moves up to {moves:.1%} from one session to the next" if moves >= _JUMP - 1e-9 else ""
    text = (
        f"by {rate}, cash earns {mean:.1%} per year on average, between {annual.min():.1%} and {annual.max():.1%}{moved}; "
        "that looks like rates in percent where 0.02 is 2 %"
    )
    return (Finding("cash_rate", "warning", text, action="look at its unit"),)


def _age(published: pd.DatetimeIndex, sessions: pd.DatetimeIndex, per_year: int) -> np.ndarray:
    """Age of each session's rate: the number of sessions since its publication."""
    held = sessions.searchsorted(published, side="right") - 1
    age = np.arange(len(sessions)) - held
    # A rate may precede the first session. The days in between are not among the sessions, so weekdays are counted.
    days = published.to_numpy("datetime64[D]"), np.full(len(sessions), sessions[:1].to_numpy("datetime64[D]"))
    before = (days[1] - days[0]).astype(int) if per_year > 300 else np.busday_count(*days)
    return np.where(held < 0, np.arange(len(sessions)) + np.maximum(before, 1), age)


def _rates(file: Path, per_year: int) -> pd.Series:
    """Simple rate per session, by date of publication, each date once, in order."""
    table = _table(file)
    column = _rate_column(table, file)
    date_column = next((name for name in _DATE_NAMES if name in table), None)
    if date_column is None:
        raise UserError(f"cash_rate: cannot read {file} (it has no column 'date'); give columns date and rf_daily.")
    numbers, dates = _numbers(table[column], column, file), _dates(table[date_column], file)
    known = pd.DataFrame({"date": dates, "rate": numbers}).dropna(subset="rate").drop_duplicates().sort_values("date")
    if known.empty:
        raise UserError(f"cash_rate: {file} has no rate in column {column}; give another file.")
    twice = known["date"].duplicated()
    if twice.any():
        raise UserError(
            f"cash_rate: {file} has two different rates for {known.loc[twice, 'date'].iloc[0]:%Y-%m-%d}; remove one."
        )
    _refuse_monthly(known["date"], column, file)
    rates = pd.Series(known["rate"].to_numpy(), index=pd.DatetimeIndex(known["date"]))
    if column == "rf_daily":
        return _in_bounds(rates, column, file, 1, _DAILY)
    scale = 100 if column in IN_PERCENT else 1
    _in_bounds(rates, column, file, scale, _IN_PERCENT if column in IN_PERCENT else _ANNUAL)
    return (1 + rates / scale) ** (1 / per_year) - 1


def _in_bounds(rates: pd.Series, column: str, file: Path, scale: int, unit: tuple[float, float, str, str]) -> pd.Series:
    low, high, looks, larger = unit
    low, high = low * scale, high * scale
    beyond = ((rates < low) | (rates > high) | ~np.isfinite(rates)).to_numpy()
    if beyond.any():
        k = int(beyond.argmax())
        raise UserError(
            f"cash_rate: {file} has {rates.iloc[k]:g} in column {column} on {rates.index[k]:%Y-%m-%d}, which looks like "
            f"{looks}; write rates between {low:g} and {high:g}{larger}."
        )
    return rates


def _table(file: Path) -> pd.DataFrame:
    """The file with its column names in lower case. The cells of a CSV stay text."""
    if not file.exists() and re.fullmatch(r"-?[\d.,]+ ?%?", file.name):
        raise UserError(f"cash_rate: '{file}' is no rate and no file; write 1.7 % as 0.017.")
    try:
        parquet = file.suffix.lower() == ".parquet"
        # The cells are read as text, so that an error can name the cell, and '.' counts as not published.
        table = (
            pd.read_parquet(file)
            if parquet
            else pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        )
    except Exception as error:  # readers raise many kinds; all mean that the file is not readable
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cash_rate: cannot read {file} ({reason}); give a file with columns date and rf_daily."
        ) from error
    if table.index.name is not None or isinstance(table.index, pd.DatetimeIndex):
        table = table.rename_axis(table.index.name or "date").reset_index()
    table.columns = [str(c).strip().lower().replace(" ", "_") for c in table.columns]
    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        raise UserError(
            f"cash_rate: cannot read {file} (its columns are separated by semicolons); separate them by commas."
        )
    return table


def _rate_column(table: pd.DataFrame, file: Path) -> str:
    names = pd.Index([re.sub(r"\.\d+$", "", name) for name in table.columns])  # a CSV's second 'x' is read as 'x.1'
    for name in ("rf_daily", "rate_annual", *IN_PERCENT, *_DATE_NAMES):
        if (names == name).sum() > 1:
            raise UserError(f"cash_rate: {file} has two columns {name}; remove one.")
    for name in ("rf_daily", "rate_annual"):
        if name in table:
            return name
    series = [str(name) for name in table.columns if name in IN_PERCENT]
    if len(series) == 1:
        return series[0]
    what = f"several series ({', '.join(series)})" if series else "neither a column rf_daily nor rate_annual"
    raise UserError(
        f"cash_rate: {file} has {what}; name the one that is meant rf_daily, rate_annual (0.02 is 2 %), or as FRED does."
    )


def _numbers(column: pd.Series, name: str, file: Path) -> np.ndarray:
    text = column.astype(str).str.strip()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.isnan(numbers) & ~text.str.lower().isin(_UNPUBLISHED).to_numpy()
    if wrong.any():
        k = int(wrong.argmax())
        raise UserError(
            f"cash_rate: {file}, row {k + 1}: '{text.iloc[k]}' in column {name} is no rate; write it as "
            f"{_written(text.iloc[k], name)}."
        )
    return numbers


def _written(text: str, column: str) -> str:
    """How a rate should be written in a column: the user's own if it can be read, else an example."""
    number = re.fullmatch(r"(-?\d*[.,]?\d+) ?(%?)", text)
    if number and (column != "rf_daily" or not number[2]):  # a percentage may be per day or per year
        value = float(number[1].replace(",", "."))
        return f"{value / 100 if number[2] and column not in IN_PERCENT else value:g}"
    return "0.0002" if column == "rf_daily" else "5.25" if column in IN_PERCENT else "0.0525"


def _dates(column: pd.Series, file: Path) -> np.ndarray:
    """The written dates; a time zone is ignored."""
    text = column.astype(str).str.strip()
    parts = text.str.extract(f"^{_DATE.pattern}$")
    iso = parts[0] + "-" + parts[2] + "-" + parts[3]
    dates = pd.to_datetime(iso, format="%Y-%m-%d", errors="coerce")
    if dates.isna().any():
        k = int(dates.isna().to_numpy().argmax())
        raise UserError(f"cash_rate: {file}, row {k + 1}: '{text.iloc[k]}' is no date; write it as 2020-03-16.")
    return dates.to_numpy("datetime64[ns]")


def _refuse_monthly(dates: pd.Series, column: str, file: Path) -> None:
    """Refuse a monthly series. It is dated at the beginning of the month, but is known only after it."""
    if len(dates) >= 3 and dates.diff().dt.days.median() >= _MONTHLY:
        instead = f"the daily series {_DAILY_INSTEAD[column]}" if column in _DAILY_INSTEAD else "a daily series"
        raise UserError(f"cash_rate: {file} is a monthly series, known only after the month; give {instead}.")
