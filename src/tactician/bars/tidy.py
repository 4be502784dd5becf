"""Tidy bars from a table of known layout, with notes: rows without a price, wrong order, missing kinds of closes."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tactician.bars.cells import read_numbers
from tactician.bars.findings import Finding
from tactician.bars.layouts import PRICES, Block, Layout
from tactician.bars.stamps import read_dates
from tactician.bars.tables import Table
from tactician.errors import UserError

_UNADJUSTED = "closes make the returns, without dividends unless they are adjusted already"
_RETURNS_SHARE = 0.1
"""A wide table with a larger share of numbers at or below 0 is taken for returns; prices are all above 0."""


@dataclass(frozen=True)
class Part:
    """The bars of one file."""

    frame: pd.DataFrame
    """As `Bars.frame`, in any order, of the wanted symbols."""
    available: tuple[str, ...]
    """All symbols of the file."""
    notes: tuple[Finding, ...]


def tidy(table: Table, layout: Layout, symbols: Collection[str] | None, calendar: str) -> Part:
    """Read a table's numbers, dates and symbols.

    Args:
        table: as it was read.
        layout: the meaning of its columns.
        symbols: the wanted symbols; None for all.
        calendar: determines the dates of stamps with a time zone.

    Raises:
        UserError: a cell cannot be read, or the bars are not daily.
    """
    labels = None if layout.symbol is None else _labels(table.cells[layout.symbol])
    blocks = [b for b in layout.blocks if symbols is None or b.symbol is None or b.symbol in symbols]
    available = tuple(b.symbol for b in layout.blocks if b.symbol is not None)
    if labels is not None:
        available = tuple(symbol for symbol in labels.unique() if symbol)
        if symbols is not None:
            # Rows without a symbol are kept here, so that they are refused below.
            chosen = labels.isin([*symbols, ""]).to_numpy()
            table, labels = Table(table.file, table.headings, table.cells[chosen], table.separator), labels[chosen]
    if not blocks or table.cells.empty:
        return Part(pd.DataFrame(), available, ())
    numbers = _numbers(table, blocks)
    if layout.kind == "wide":
        _refuse_returns(table, blocks, numbers)
    priced = [_priced(block, numbers) for block in blocks]
    needed = np.logical_or.reduce(priced)
    day, stamp = read_dates(table, layout.date, needed, calendar)
    if labels is not None and (needed & (labels == "").to_numpy()).any():
        row = int((needed & (labels == "").to_numpy()).argmax())
        raise UserError(f"{table.where(row)}: the symbol is missing; add it.")
    rows = _rows(blocks, numbers, priced, day, stamp, labels)
    if layout.time is not None:
        clock = pd.factorize(table.cells[layout.time])[0].astype("timedelta64[s]")
        rows["stamp"] += clock[rows["row"].to_numpy()]
    _refuse_intraday(rows, table)
    notes = [*_empty(table, layout, blocks, priced, labels, day), *_disorder(rows, table), *_closes(rows, table)]
    return Part(_complete(rows.drop(columns=["stamp", "row"])), available, tuple(notes))


def _labels(cells: pd.Series) -> pd.Series:
    """Symbols as written; a symbol that was read as a number becomes its digits."""
    if pd.api.types.is_float_dtype(cells) and (cells.dropna() % 1 == 0).all():
        cells = cells.astype("Int64")
    codes, distinct = pd.factorize(cells)
    texts = np.array([*(str(value).strip() for value in distinct), ""], dtype=object)
    return pd.Series(texts[codes], dtype=object)


def _numbers(table: Table, blocks: list[Block]) -> dict[int, np.ndarray]:
    columns = [position for block in blocks for position in block.fields.values()]
    volumes = {block.fields["volume"] for block in blocks if "volume" in block.fields}
    return read_numbers(table, columns, volumes)


def _priced(block: Block, numbers: dict[int, np.ndarray]) -> np.ndarray:
    """Which rows have any price."""
    return np.logical_or.reduce([~np.isnan(numbers[p]) for field, p in block.fields.items() if field in PRICES])


def _refuse_returns(table: Table, blocks: list[Block], numbers: dict[int, np.ndarray]) -> None:
    columns = [block.fields["close"] for block in blocks]
    values = np.concatenate([numbers[column] for column in columns])
    values = values[~np.isnan(values)]
    share = float((values <= 0).mean()) if len(values) else 0.0
    if share > _RETURNS_SHARE:
        names = ", ".join(table.name(column) for column in columns[:3]) + (" …" if len(columns) > 3 else "")
        raise UserError(
            f"{table.file}: {share:.0%} of the numbers under {names} are not above 0, so they are returns or "
            "something else; give prices."
        )


def _rows(
    blocks: list[Block],
    numbers: dict[int, np.ndarray],
    priced: list[np.ndarray],
    day: np.ndarray,
    stamp: np.ndarray,
    labels: pd.Series | None,
) -> pd.DataFrame:
    """Rows with a price, of all blocks. An empty column is left out."""
    frames = []
    for block, kept in zip(blocks, priced, strict=True):
        symbol = block.symbol if labels is None else labels.to_numpy()[kept]
        fields = {field: numbers[position][kept] for field, position in block.fields.items()}
        row = np.flatnonzero(kept)
        if len(row) > 0:
            columns = {"date": day[kept], "symbol": symbol, "stamp": stamp[kept], "row": row}
            frames.append(pd.DataFrame({**columns, **fields}))
    if not frames:
        return pd.DataFrame({"date": day[:0], "symbol": [], "stamp": stamp[:0], "row": [], "close": []})
    rows = pd.concat(frames, ignore_index=True)
    return rows.drop(columns=[field for field in (*PRICES, "volume") if field in rows and rows[field].isna().all()])


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the missing kind of close: if a file has only one, it stands in for the other."""
    if "adj_close" not in frame:
        return frame.assign(adj_close=frame["close"])
    return frame if "close" in frame else frame.assign(close=frame["adj_close"])


def stand_in(frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Use closes as adjusted closes for the symbols that have no adjusted close at all, and report it.

    If only some rows of a symbol lack it, closes would mix two price bases in one history. The checks handle such rows.
    """
    if frame["adj_close"].notna().all():
        return frame, ()
    has = frame[["close", "adj_close"]].notna().groupby(frame["symbol"]).transform("any")
    bare = has["close"] & ~has["adj_close"]
    names = [str(symbol) for symbol in frame.loc[bare, "symbol"].unique()]
    if not names:
        return frame, ()
    others = "" if len(names) == 1 else f" (first of {len(names)} such symbols)"
    text = f"{path} has no adj_close of {names[0]}; its {_UNADJUSTED}{others}"
    rows = tuple((name, "", f"{path} has no adj_close of {name}; its {_UNADJUSTED}") for name in names)
    finding = Finding("no_adjusted_close", "warning", text, names[0], count=len(names), rows=rows)
    return frame.assign(adj_close=frame["adj_close"].where(~bare, frame["close"])), (finding,)


def _refuse_intraday(rows: pd.DataFrame, table: Table) -> None:
    if (rows["stamp"] == rows["date"]).all():
        return
    repeated = rows[rows.duplicated(["date", "symbol"], keep=False)]
    stamps = repeated.groupby(["date", "symbol"], sort=False)["stamp"].nunique()
    several = stamps[stamps > 1]
    # Some vendors add the running bar to that of the last day, so two stamps of a single day are left to the checks.
    if several.index.get_level_values("date").nunique() > 1 or (several > 2).any():
        day, symbol = several.index[0]
        raise UserError(
            f"{table.file} holds hourly bars or other parts of a day: {symbol} has {several.iloc[0]} of "
            f"{day:%Y-%m-%d}; resample them to daily bars."
        )


def _empty(
    table: Table,
    layout: Layout,
    blocks: list[Block],
    priced: list[np.ndarray],
    labels: pd.Series | None,
    day: np.ndarray,
) -> list[Finding]:
    """Report rows or columns without a price.

    In a long table a row without a price is a fault. In the other layouts an empty cell only means that there is no bar.
    """
    if layout.kind != "long":
        empty = [str(block.symbol) for block, kept in zip(blocks, priced, strict=True) if not kept.any()]
        text = f"{table.file} has a column of {empty[0] if empty else ''} without any price"
        return [Finding("empty_column", "warning", text, empty[0], count=len(empty))] if empty else []
    missing = np.flatnonzero(~priced[0])
    if len(missing) == 0:
        return []
    row = int(missing[0])
    symbol = blocks[0].symbol if labels is None else labels.iloc[row] or None
    date = None if np.isnat(day[row]) else f"{pd.Timestamp(day[row]):%Y-%m-%d}"
    named = " ".join(word for word in (symbol, date) if word)
    text = f"{table.where(row)}{': ' + named if named else ''} has no price; the row is left out"
    return [Finding("empty_row", "repair", text, symbol, date, len(missing))]


def _disorder(rows: pd.DataFrame, table: Table) -> list[Finding]:
    """Report dates that fall while the others rise. A file that begins with its newest date is in order too."""
    codes = pd.factorize(rows["symbol"])[0]
    order = np.argsort(codes, kind="stable")
    step = np.diff(rows["date"].to_numpy()[order]).astype("int64")
    same = codes[order][1:] == codes[order][:-1]
    back, forth = same & (step < 0), same & (step > 0)
    mixed = np.intersect1d(codes[order][1:][back], codes[order][1:][forth])
    out = np.sort(order[1:][back & np.isin(codes[order][1:], mixed)])
    if len(out) == 0:
        return []
    first = rows.iloc[int(out[0])]
    symbol, date = str(first["symbol"]), f"{first['date']:%Y-%m-%d}"
    text = f"{table.where(int(first['row']))}: {symbol} {date} comes after a later date; the rows are sorted"
    return [Finding("out_of_order", "repair", text, symbol, date, len(out))]


def _closes(rows: pd.DataFrame, table: Table) -> list[Finding]:
    if rows.empty:
        return []
    if "adj_close" not in rows:
        text = f"{table.file} has no adj_close; {_UNADJUSTED}"
        return [Finding("no_adjusted_close", "warning", text)]
    if "close" not in rows:
        text = f"{table.file} has only adjusted closes; there is no traded price, so they stand in for it"
        return [Finding("no_close", "warning", text)]
    return []
