"""Reading bars from CSV and Parquet: tidy long or wide, one file or a folder of them."""

from datetime import date
from pathlib import Path

import pandas as pd

from tactician.errors import UserError
from tactician.market.bars import COLUMNS, Bars, make_bars
from tactician.market.findings import Finding

_SUFFIXES = (".csv", ".parquet")
_DATE_NAMES = ("date", "datetime", "timestamp", "time", "index", "unnamed:_0")
_SYMBOL_NAMES = ("symbol", "ticker")


def read_bars(
    path: Path,
    symbols: tuple[str, ...] | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    calendar: str = "XNYS",
) -> Bars:
    """Read bars from a file or a folder.

    A *long* file has a row a symbol and date (columns date, symbol, close and, if there, adj_close, open, high, low,
    volume; names in any case, spaces as underscores). A *wide* file has a row a date and a column a symbol, of prices. In
    a folder, a file without a symbol column holds the symbol it is named after.

    Args:
        path: CSV or Parquet file, or a folder of them.
        symbols: those wanted, in order; None for all.
        start: first date wanted.
        end: last date wanted.
        calendar: exchange calendar, in whose zone a bar that is stamped with a time has its date.

    Raises:
        UserError: names the file, and the row or column, that cannot be read, and the remedy.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise UserError(f"The folder {path} holds no .csv or .parquet file; name a folder of bars.")
    else:
        files = [path]
    tables = [_tidy(_read(file), file, alone=path.is_dir()) for file in files]
    frame = pd.concat(tables, ignore_index=True)
    notes: tuple[Finding, ...] = ()
    if "adj_close" not in frame:
        text = f"{path} has no adj_close; closes are used, so dividends are missing."
        notes = (Finding("no_adjusted_close", "warning", text),)
        frame["adj_close"] = frame["close"]
    return make_bars(frame, str(path), symbols, start, end, notes)


def _read(file: Path) -> pd.DataFrame:
    if file.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{file} is neither .csv nor .parquet; convert it or name another file.")
    try:
        parquet = file.suffix.lower() == ".parquet"
        # pandas' default reader of numbers errs in the last bit.
        frame = pd.read_parquet(file) if parquet else pd.read_csv(file, float_precision="round_trip")
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    except Exception as error:  # readers raise many kinds; all mean that the file is not readable
        raise UserError(f"Cannot read bars from {file}: {str(error).splitlines()[0]}; check the file.") from error
    if frame.empty:
        raise UserError(f"{file} is empty; give a file with a row a symbol and date.")
    if frame.index.name or isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index()
    return frame


def _tidy(frame: pd.DataFrame, file: Path, *, alone: bool) -> pd.DataFrame:
    plain = {column: str(column).strip().lower().replace(" ", "_") for column in frame.columns}
    date_column = next((c for c, name in plain.items() if name in _DATE_NAMES), None)
    if date_column is None:
        raise UserError(f"{file} has no date column; name it 'date'.")
    dates = _dates(frame[date_column], file)
    symbol_column = next((c for c, name in plain.items() if name in _SYMBOL_NAMES), None)
    if symbol_column is None and "close" not in plain.values():
        return _from_wide(frame.drop(columns=date_column), dates, file)
    if "close" not in plain.values():
        raise UserError(f"{file} has no column 'close'; add it.")
    if symbol_column is None and not alone:
        raise UserError(f"{file} has no column 'symbol'; add it, or put one file a symbol into a folder.")
    numbers = {name: _numbers(frame[column], name, file) for column, name in plain.items() if name in COLUMNS}
    labels = file.stem if symbol_column is None else frame[symbol_column].astype(str).to_numpy()
    tidy = pd.DataFrame({"date": dates.to_numpy(), "symbol": labels, **numbers})
    _refuse_disorder(tidy, file)
    return tidy


def _from_wide(prices: pd.DataFrame, dates: pd.Series, file: Path) -> pd.DataFrame:
    wide = pd.DataFrame({str(c): _numbers(prices[c], str(c), file) for c in prices.columns})
    if wide.shape[1] == 0:
        raise UserError(f"{file} has a date column and no prices; add a column a symbol.")
    wide.insert(0, "date", dates.to_numpy())
    tidy = wide.melt("date", var_name="symbol", value_name="close")
    _refuse_disorder(tidy, file)
    # An empty cell of a wide table says that there is no bar, not that a price is broken.
    return tidy.dropna(subset="close")


def _dates(column: pd.Series, file: Path) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        raise UserError(f"{file}: the date column holds numbers; write dates as 2020-03-16.")
    parsed = pd.to_datetime(column, errors="coerce", utc=None, format=None if len(column) == 0 else "mixed")
    if parsed.isna().any():
        row = int(parsed.isna().to_numpy().argmax())
        raise UserError(f"{file}, row {row + 1}: '{column.iloc[row]}' is no date; write it as 2020-03-16.")
    if getattr(parsed.dt, "tz", None) is not None:
        parsed = parsed.dt.tz_convert("America/New_York").dt.tz_localize(None)
    return parsed.dt.normalize().astype("datetime64[ns]")


def _numbers(column: pd.Series, name: str, file: Path) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    broken = numbers.isna() & column.notna()
    if broken.any():
        row = int(broken.to_numpy().argmax())
        raise UserError(f"{file}, row {row + 1}: '{column.iloc[row]}' in column {name} is no number; correct it.")
    return numbers.reset_index(drop=True)


def _refuse_disorder(tidy: pd.DataFrame, file: Path) -> None:
    """Dates must rise within a symbol: a shuffled file is more likely broken than unsorted."""
    backwards = tidy.groupby("symbol", sort=False)["date"].diff() < pd.Timedelta(0)
    if backwards.any():
        row = int(backwards.to_numpy().argmax())
        broken = tidy.iloc[row]
        raise UserError(
            f"{file}, row {row + 1}: {broken['symbol']} {broken['date']:%Y-%m-%d} comes after a later date (out_of_order); "
            "sort the file by date."
        )
