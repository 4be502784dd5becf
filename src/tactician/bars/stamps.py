"""Dates as vendors write them: one format per column, and the exchange's local date for a stamp with a time zone."""

import re

import numpy as np
import pandas as pd

from tactician.bars.exchanges import FROM_BARS, exchange_zone
from tactician.bars.tables import Table, shown
from tactician.errors import UserError

_REMEDY = "write dates as 2020-03-16"
_YEARS = (1900, 2200)
"""First and last year of a bar. Other years are placeholders such as 9999-12-31, which overflow datetime64[ns]."""
_TIME = (
    r"(?:[T ]\s*(?P<hour>[01]?\d|2[0-3]):?(?P<minute>[0-5]\d)(?::?(?P<second>[0-5]\d(?:\.\d+)?))?"
    r"\s*(?P<half>[AaPp][Mm])?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<month>(?i:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*)\.?"
_WEEKDAY = r"(?:(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_NUMBERS = r"(?P<one>\d{1,2})([-/.])(?P<two>\d{1,2})\2(?P<year>\d{4})"
_FORMATS = (
    r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})",
    r"(?P<year>(?:19|20)\d{2})(?P<month>0[1-9]|1[0-2])(?P<day>[0-3]\d)",
    _NUMBERS,
    rf"{_WEEKDAY}(?P<day>\d{{1,2}})[- ]{_MONTH}[-, ]\s*(?P<year>\d{{4}})",
    rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}}),?\s+(?P<year>\d{{4}})",
)
_TWO_DIGITS = rf"(?:\d{{1,2}}([-/.])\d{{1,2}}\1\d{{2}}|\d{{1,2}}[- ]{_MONTH}[-, ]\s*'?\d{{2}})"
"""Dates with years of two digits. 01-02-03 has six readings."""
_EPOCH = r"-?\d+(?:\.0*)?"
_EPOCH_UNITS = (1, 10**3, 10**6, 10**9)  # of a second: from seconds to nanoseconds
_EPOCH_RANGE = (-631152000, 4102444800)  # 1950 to 2100 in seconds
_EPOCH_LEAST = 10**8  # Seconds below it are 1970 to 1973; counters and serial numbers look alike.
_DIGITS_WITH_HOUR = r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])[0-3]\d[0-2]\d(?:[0-5]\d){0,2}"
_LOOKED_AT = 20
_EXCEL = r"[2-5]\d{4}(?:\.\d+)?"


def read_dates(table: Table, column: int, needed: np.ndarray, calendar: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the sessions of a column of dates or stamps.

    A stamp without a zone keeps its written date. Stamps with a zone keep it too if all of them are at midnight.
    Otherwise the date is the exchange's local one.

    Args:
        table: holds the column.
        column: its position.
        needed: whether each row's date must be readable; these rows determine the format.
        calendar: exchange calendar, whose time zone determines the date of a stamp with a zone.

    Returns:
        Session and written stamp of each row (datetime64[ns]; NaT if not readable).

    Raises:
        UserError: a needed date cannot be read, or days cannot be told from months.
    """
    codes, distinct = pd.factorize(table.cells[column], use_na_sentinel=True)
    wanted = np.zeros(len(distinct) + 1, dtype=bool)
    wanted[codes[needed]] = True  # code -1, no value, is the last entry
    if wanted[-1]:
        raise UserError(f"{table.where(_first_row(codes, needed, -1))}: the date is missing; {_REMEDY}.")
    try:
        wall, offset = _stamps(distinct, wanted[:-1])
    except _UnreadableError as problem:
        row = _first_row(codes, needed, problem.code)
        cell = _written(table.cells[column], row)
        text = problem.text.replace("{cell}", f"'{cell}'") if cell else "the date is missing"
        raise UserError(f"{table.where(row)}: {text}; {problem.remedy}.") from problem
    session = _sessions(wall, offset, wanted[:-1], calendar)
    missing = [np.datetime64("NaT", "ns")]
    return np.append(session, missing)[codes], np.append(wall, missing)[codes]


def looks_dated(table: Table, column: int) -> bool:
    """Whether the first non-empty cells of a column are dates or stamps."""
    cells = table.cells[column].head(_LOOKED_AT).dropna()
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return True
    text = _as_text(pd.Index(cells))
    text = text[text != ""].reset_index(drop=True)
    try:
        _from_text(text, np.ones(len(text), dtype=bool))
    except _UnreadableError as problem:
        # 04/01/2021 looks like a date, although day and month are ambiguous.
        return any(re.fullmatch(f + _TIME, text[problem.code]) for f in _FORMATS)
    return len(text) > 0


class _UnreadableError(Exception):
    def __init__(self, code: int, text: str, remedy: str = _REMEDY) -> None:
        super().__init__(text)
        self.code, self.text, self.remedy = code, text, remedy


def _written(cells: pd.Series, row: int) -> str:
    """A cell for messages. A stamp with a zone is shown in UTC, where it cannot overflow."""
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        cells = cells.dt.tz_convert("UTC")
    return re.sub(r" 00:00:00(\+00:00)?$", "", shown(str(cells.iloc[row])))


def _first_row(codes: np.ndarray, needed: np.ndarray, code: int) -> int:
    return int(((codes == code) & needed).argmax())


def _stamps(distinct: pd.Index, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wall times (datetime64[ns]) and their offsets from UTC (timedelta64[ns]; NaT if the cell has no zone)."""
    if not pd.api.types.is_datetime64_any_dtype(distinct.dtype):
        wall, offset = _from_text(_as_text(distinct), wanted)
        _refuse_other_centuries(_years(wall), wanted)
        return wall, offset
    stamps = pd.DatetimeIndex(distinct)
    zone = stamps.tz
    utc = stamps if zone is None else stamps.tz_convert("UTC").tz_localize(None)
    utc = utc.where(~_refuse_other_centuries(np.asarray(utc.year, dtype="float64"), wanted), pd.NaT)
    instant = utc.to_numpy("datetime64[ns]")
    if zone is None:
        return instant, np.full(len(instant), np.timedelta64("NaT", "ns"))
    wall = utc.tz_localize("UTC").tz_convert(zone).tz_localize(None).to_numpy("datetime64[ns]")
    return wall, wall - instant


def _years(wall: np.ndarray) -> np.ndarray:
    return np.where(np.isnat(wall), np.nan, wall.astype("datetime64[Y]").astype("int64") + 1970.0)


def _refuse_other_centuries(year: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mark the years that no bar can have, and raise if one of them is needed. NaN passes."""
    strange = (year < _YEARS[0]) | (year > _YEARS[1])
    if (strange & wanted).any():
        text = f"{{cell}} is no date of a bar, whose years are {_YEARS[0]} to {_YEARS[1]}"
        raise _UnreadableError(int((strange & wanted).argmax()), text, "correct the date or remove the row")
    return strange


def _as_text(distinct: pd.Index) -> pd.Series:
    if pd.api.types.is_float_dtype(distinct.dtype):
        return pd.Series([str(int(v)) if float(v).is_integer() else str(v) for v in distinct], dtype=object)
    return pd.Series([str(v).strip() for v in distinct], dtype=object)


def _from_text(text: pd.Series, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not wanted.any():
        return np.full(len(text), np.datetime64("NaT", "ns")), np.full(len(text), np.timedelta64("NaT", "ns"))
    sample = text[wanted]
    first = sample.iloc[0]
    # By far the most common format is tried first, and fast: a folder may hold thousands of files.
    wall = pd.to_datetime(text, format="%Y-%m-%d", errors="coerce").to_numpy("datetime64[ns]")
    if not np.isnat(wall[wanted]).any():
        return wall, np.full(len(wall), np.timedelta64("NaT", "ns"))
    pattern = next((f + _TIME for f in _FORMATS if re.fullmatch(f + _TIME, first)), None)
    if pattern is None:
        return _from_epoch(text, wanted)
    other = ~sample.str.fullmatch(pattern).astype(bool)
    if other.any():
        raise _written_otherwise(sample, int(other.to_numpy().argmax()), first)
    parts = text.str.extract(rf"^{pattern}$")
    if pattern == _NUMBERS + _TIME:
        parts = _days_and_months(parts, wanted, first)
    _refuse_other_centuries(parts["year"].astype("float64").to_numpy(), wanted)
    wall = _wall(parts)
    unreadable = np.isnat(wall) & wanted
    if unreadable.any():
        raise _UnreadableError(int(unreadable.argmax()), "{cell} is no date")
    return wall, _offsets(parts["zone"])


def _written_otherwise(sample: pd.Series, position: int, first: str) -> _UnreadableError:
    code, cell = int(sample.index[position]), sample.iloc[position]
    known = any(re.fullmatch(f + _TIME, cell) for f in _FORMATS)
    # Some programs swap day and month in those dates that look like their local format.
    return _UnreadableError(code, f"{{cell}} is written otherwise than '{first}'" if known else "{cell} is no date")


def _days_and_months(parts: pd.DataFrame, wanted: np.ndarray, first: str) -> pd.DataFrame:
    """Decide which of two numbers is the day: the one that exceeds 12 somewhere. With points it is the first (31.01.2020)."""
    one, two = (parts.loc[wanted, name].astype(int) > 12 for name in ("one", "two"))
    both = one.any() and two.any()
    if both:
        second = two if one.to_numpy().argmax() < two.to_numpy().argmax() else one
        raise _UnreadableError(
            int(second.index[second.to_numpy().argmax()]), "{cell} has day and month in another order"
        )
    if not one.any() and not two.any() and "." not in first.split(" ")[0]:
        raise _UnreadableError(
            int(np.flatnonzero(wanted)[0]), "{cell} may be day/month or month/day, as may all others"
        )
    return parts.rename(columns={"one": "month", "two": "day"} if two.any() else {"one": "day", "two": "month"})


def _wall(parts: pd.DataFrame) -> np.ndarray:
    month = parts["month"].str.lower().str[:3]
    month = month.map({name: str(k + 1) for k, name in enumerate(_MONTHS)}).fillna(month)
    day = parts["year"] + "-" + month.str.zfill(2) + "-" + parts["day"].str.zfill(2)
    wall = pd.to_datetime(day, format="%Y-%m-%d", errors="coerce").to_numpy("datetime64[ns]")
    if parts["hour"].notna().any():
        wall = wall + _time_of_day(parts)
    return wall


def _time_of_day(parts: pd.DataFrame) -> np.ndarray:
    hour = parts["hour"].fillna("0").astype(int)
    half = parts["half"].str.lower()
    hour = hour.where(half.isna(), hour % 12 + 12 * (half == "pm"))
    clock = hour.astype(str) + ":" + parts["minute"].fillna("00") + ":" + parts["second"].fillna("00")
    return pd.to_timedelta(clock).to_numpy("timedelta64[ns]")


def _offsets(zone: pd.Series) -> np.ndarray:
    minutes = {written: np.timedelta64(_minutes(written), "m") for written in zone.dropna().unique()}
    return zone.map(minutes).to_numpy("timedelta64[ns]")


def _minutes(zone: str) -> int:
    """Offset of a written zone in minutes east of UTC."""
    if zone[0] not in "+-":
        return 0
    size = 60 * int(zone[1:3]) + int(zone[3:].lstrip(":") or 0)
    return size if zone[0] == "+" else -size


def _from_epoch(text: pd.Series, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read seconds, milliseconds, microseconds or nanoseconds since 1970 in UTC, if all lie between 1950 and 2100."""
    code = int(np.flatnonzero(wanted)[0])
    if re.fullmatch(_TWO_DIGITS + _TIME, text.iloc[code]):
        raise _UnreadableError(code, "{cell} has a year of two digits", "write years with four, as in 2020-03-16")
    whole = text.str.fullmatch(_EPOCH).to_numpy(dtype=bool)
    if text[wanted].str.fullmatch(_EXCEL).all():
        raise _UnreadableError(code, "{cell} looks like a serial number of Excel")
    if not whole[wanted].any() or text[wanted].str.fullmatch(_DIGITS_WITH_HOUR).all():
        raise _UnreadableError(code, "{cell} is no date")
    if not whole[wanted].all():
        raise _UnreadableError(int((wanted & ~whole).argmax()), "{cell} is no date")
    counts = text.where(whole, "0").str.replace(r"\.0*$", "", regex=True).map(int)
    chosen = counts[wanted]
    low, high = _EPOCH_RANGE
    for scale in _EPOCH_UNITS:
        if chosen.between(low * scale, high * scale).all() and chosen.abs().max() >= _EPOCH_LEAST * scale:
            plausible = whole & counts.between(low * scale, high * scale).to_numpy()
            ns = counts.where(plausible, 0).astype("int64").to_numpy() * (10**9 // scale)
            wall = np.where(plausible, ns.astype("datetime64[ns]"), np.datetime64("NaT", "ns"))
            return wall, np.zeros(len(wall), dtype="timedelta64[ns]")
    raise _UnreadableError(code, "{cell} is no date")


def _sessions(wall: np.ndarray, offset: np.ndarray, wanted: np.ndarray, calendar: str) -> np.ndarray:
    date = wall.astype("datetime64[D]").astype("datetime64[ns]")
    zoned = ~np.isnat(offset)
    timed = (wall != date) & zoned & wanted
    if calendar == FROM_BARS or not timed.any():
        return date
    local = pd.DatetimeIndex(wall - offset).tz_localize("UTC").tz_convert(exchange_zone(calendar)).tz_localize(None)
    return np.where(zoned, local.normalize().to_numpy("datetime64[ns]"), date)
