"""Layouts: what each column of a table means. Long, wide, one symbol per file, or headings of field and symbol."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tactician.bars.stamps import looks_dated
from tactician.bars.tables import FIELD_NAMES, NotBarsError, Table, plain, shown
from tactician.errors import UserError

# The names in a tuple have equal rank; an earlier tuple is preferred to a later one.
_DATE = (
    ("date",),
    ("tradedate", "tradingdate", "datetime", "timestamp", "observationdate", "windowstart", "opentime", "snappedat"),
    ("time",),
    ("day",),
    ("index",),
)
_NAMELESS = ("unnamed0", "")
_SYMBOL = tuple(
    (name,)
    for name in (
        *("symbol", "ticker", "tic", "sym", "tscode", "stockcode", "code"),
        *("instrument", "asset", "sid", "isin", "name"),
    )
)
_FIELDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "open": (("open",), ("openprice",)),
    "high": (("high",), ("highprice",)),
    "low": (("low",), ("lowprice",)),
    "close": (("close",), ("closelast",), ("closeprice",)),
    "adj_close": (("adjclose", "adjustedclose", "closeadj", "closeadjusted"),),
    "volume": (("volume",), ("vol",)),
}
_LOOSE_CLOSE = (("price",), ("last",), ("lastprice",), ("ltp",), ("value",))
"""Names that mean a close only if the table has no other close. Beside a close, a value is a turnover."""
_CLOSES = frozenset(name for names in (*_FIELDS["close"], *_LOOSE_CLOSE) for name in names)
_TOLD = frozenset(("close", "adjclose", "adjustedclose", "volume", "closeprice", "pxlast", "pxvolume"))
"""Names of fields that cannot be symbols."""
_MELTED = ("field", "variable", "metric", "measure", "attribute", "item")
"""Names of a column whose cells name the field of the number beside them."""
_FURTHER = re.compile(
    r"volume|^vol$|turnover|amount|value|vwap|wap$|average|avg|trade|change|chg|pct|percent|return|cap$|dividend|split|prev|"
    r"deliver|spread|^bid|^ask|quantity|qty|shares|ratio|factor|interest|^oi$|^per$"
)
"""Columns that vendors write beside the prices of one asset. A column of such a name does not make a table wide."""
PRICES = ("open", "high", "low", "close", "adj_close")
_JOINED = re.compile(r"(?:^|[\W_])(open|high|low|close|volume)(?:$|[\W_])", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """The columns of one symbol, or of all."""

    symbol: str | None
    """None if a column names the symbol in every row."""
    fields: dict[str, int]
    """Position of each field's column."""


@dataclass(frozen=True)
class Layout:
    """Positions of a table's columns."""

    date: int
    blocks: tuple[Block, ...]
    symbol: int | None = None
    time: int | None = None
    """Of the column with the time of day, if there is one beside the date."""
    kind: str = "long"
    """'long', 'wide' (a column per symbol) or 'two_level'. Only in 'long' must every row have a price."""


def recognise(table: Table, stem: str | None) -> Layout:
    """Find out what a table's columns mean.

    Args:
        table: as it was read.
        stem: the symbol that the file is named after; None if the file itself must name it.

    Raises:
        NotBarsError: the table has no dates or no prices.
        UserError: two columns have the same meaning, or no symbol is named.
    """
    if table.levels == 2:
        return _two_level(table)
    names = [plain(heading[0]) for heading in table.headings]
    date = _date(table, names)
    others = [k for k in range(len(names)) if k != date and not _is_blank(table, k)]
    symbol = _find(table, names, _SYMBOL, others)
    fields = _fields(table, names, others)
    if not _has_own_close(names, fields):
        _refuse_melted(table, names, others)
    if not {"close", "adj_close"} & set(fields):
        if _is_wide(table, others, symbol, fields):
            return _wide(table, date, others)
        raise _no_close(table)
    if symbol is None and _is_wide_beside_close(table, names, others, fields, stem):
        return _wide(table, date, others)
    _refuse_other_periods(table)
    time = _find(table, names, (("time",),), others)
    if symbol is None and stem is None:
        raise UserError(
            f"{table.file} has no column 'symbol' among {_shown(table)}; add it, or put one file per symbol into a folder."
        )
    return Layout(date, (Block(None if symbol is not None else stem, fields),), symbol, time)


def _date(table: Table, names: Sequence[str]) -> int:
    """Find the column of dates. TIME, DAY and INDEX may be symbols, so a column whose cells look like dates is preferred."""
    named = {name for equals in _DATE for name in equals}
    like = [k for k in range(len(names)) if names[k] in named and looks_dated(table, k)]
    is_nameless = names[0] in _NAMELESS and (names[0] != "" or not table.headings[0][0])
    first = [0] if is_nameless else []
    date = _find(
        table, names, (*_DATE[:2], _NAMELESS, *_DATE[2:]), [*(k for k in first if looks_dated(table, k)), *like]
    )
    if date is None:
        date = _find(table, names, (*_DATE, _NAMELESS), [*first, *(k for k in range(len(names)) if names[k] in named)])
    if date is None:
        raise NotBarsError(
            f"{table.file} has no date column among {_shown(table)}; name one 'date', beside 'symbol' and 'close', "
            "or beside a column per symbol."
        )
    return date


def _has_own_close(names: Sequence[str], fields: dict[str, int]) -> bool:
    return "adj_close" in fields or ("close" in fields and (names[fields["close"]],) in _FIELDS["close"])


def _refuse_melted(table: Table, names: Sequence[str], others: Sequence[int]) -> None:
    """Refuse a table with one number per row, where another cell says whether it is a close or a volume."""
    for k in others:
        first = next((str(cell) for cell in table.cells[k] if not pd.isna(cell) and cell != ""), "")
        if not first[:1].isalpha():
            continue
        held = {plain(str(cell)) for cell in table.cells[k].dropna().unique()} - {""}
        # If the column says 'close' in every row, all numbers are closes and nothing is mixed.
        if held != {"close"} and (names[k] in _MELTED or (held & _TOLD and held <= FIELD_NAMES | _CLOSES | _TOLD)):
            raise NotBarsError(
                f"{table.file} has one field per row, told by column '{table.name(k)}' ('{shown(first)}' …); "
                "pivot it to a column per field, or name that column 'symbol' if it holds symbols."
            )


def _shown(table: Table) -> str:
    names = [f"'{name}'" for k in range(len(table.headings)) if (name := table.name(k))]
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")


def _find(
    table: Table, names: Sequence[str], choices: tuple[tuple[str, ...], ...], among: Sequence[int] | None = None
) -> int | None:
    """Position of the most preferred name in the table; None if it has none of them."""
    for equals in choices:
        found = [k for k in (range(len(names)) if among is None else among) if names[k] in equals]
        if len(found) > 1 and "" not in equals:
            both = " and ".join(f"'{table.name(k)}'" for k in found[:2])
            raise UserError(f"{table.file} has two columns for the same, {both}; remove or rename one.")
        if found:
            return found[0]
    return None


def _fields(table: Table, names: Sequence[str], among: Sequence[int]) -> dict[str, int]:
    found = {field: _find(table, names, choices, among) for field, choices in _FIELDS.items()}
    if found["close"] is None and found["adj_close"] is None:
        found["close"] = _find(table, names, _LOOSE_CLOSE, among)
    return {field: position for field, position in found.items() if position is not None}


def _is_blank(table: Table, position: int) -> bool:
    """Whether a column has no heading: an index that pandas wrote, or separators at the end of every line."""
    name = plain(table.headings[position][0])
    if name and not name.startswith("unnamed"):
        return False
    cells = table.cells[position]
    filled = ~(cells.isna() | (cells == "")).to_numpy()
    if position > 0 and filled.any():
        raise UserError(
            f"{table.where(int(filled.argmax()))} has a cell in column {position + 1}, which has no heading; name the column, "
            "or write numbers as 1234.56."
        )
    return True


def _is_wide(table: Table, others: Sequence[int], symbol: int | None, fields: dict[str, int]) -> bool:
    """Whether the columns are symbols. LOW, OPEN and SYM are symbols too if they stand in capitals among other symbols."""
    if not others:
        return False
    known = [*fields.values(), *([] if symbol is None else [symbol])]
    strange = [k for k in others if k not in known]
    if known and (len(strange) < len(known) or not all(table.name(k).isupper() for k in known)):
        return False
    if symbol is not None and not _holds_numbers(table, symbol):
        return False
    joined = [match[1].lower() for k in strange if (match := _JOINED.search(table.name(k)))]
    if len(set(joined)) > 1:
        first = next(table.name(k) for k in strange if _JOINED.search(table.name(k)))
        raise NotBarsError(
            f"{table.file} joins field and symbol in headings such as '{first}'; "
            "give columns date, symbol, close, or a column of closes per symbol."
        )
    return True


def _is_wide_beside_close(
    table: Table, names: Sequence[str], others: Sequence[int], fields: dict[str, int], stem: str | None
) -> bool:
    """Whether LAST or CLOSE is a symbol among others. In a file that is named after its symbol, CLOSE is the close."""
    if set(fields) != {"close"} or (stem is not None and names[fields["close"]] == "close"):
        return False
    strange = [k for k in others if names[k] not in _CLOSES]
    if not strange or not all(table.name(k).isupper() and _holds_numbers(table, k) for k in others):
        return False
    return not any(_FURTHER.search(names[k]) for k in strange)


def _holds_numbers(table: Table, position: int) -> bool:
    cells = table.cells[position].head(100).astype(str).str.strip()
    cells = cells[cells != ""]
    return bool(pd.to_numeric(cells, errors="coerce").notna().all())


def _no_close(table: Table) -> NotBarsError:
    if len(table.headings) == 1:
        return NotBarsError(f"{table.file} has a date column and no prices; add a column per symbol.")
    return NotBarsError(
        f"{table.file} has no column 'close' among {_shown(table)}; name the column of closing prices 'close'."
    )


def _refuse_other_periods(table: Table) -> None:
    """Refuse bars that are not daily; Stooq writes the period of each bar beside it."""
    headings = [heading[0].upper() for heading in table.headings]
    if "<PER>" not in headings:
        return
    other = table.cells[headings.index("<PER>")].str.strip() != "D"
    if other.any():
        row = int(other.to_numpy().argmax())
        period = table.cells[headings.index("<PER>")].iloc[row]
        raise UserError(f"{table.where(row)}: <PER> is '{period}', not D; give daily bars.")


def _wide(table: Table, date: int, columns: Sequence[int]) -> Layout:
    symbols = [table.headings[k][0] for k in columns]
    repeated = [symbol for symbol, count in Counter(symbols).items() if count > 1]
    if repeated:
        raise UserError(f"{table.file} has two columns '{repeated[0]}'; remove or rename one.")
    return Layout(date, tuple(Block(s, {"close": k}) for s, k in zip(symbols, columns, strict=True)), kind="wide")


def _two_level(table: Table) -> Layout:
    """Layout of headings with field and symbol, in either order; other fields are ignored."""
    pairs = table.headings
    paired = [k for k, levels in enumerate(pairs) if all(levels)]
    dates = [plain("".join(levels)) if not all(levels) else None for levels in pairs]
    date = next((dates.index(name) for equals in _DATE for name in equals if name in dates), None)
    upper = next((level for level in (0, 1) if _names_fields(pairs, paired, level)), None)
    if date is None or upper is None:
        raise NotBarsError(
            f"{table.file} has two levels of headings, {_shown(table)}; expected are a date column, and field and symbol, "
            "such as Close and SPY."
        )
    blocks = []
    names = [plain(levels[upper]) for levels in pairs]
    for symbol in dict.fromkeys(pairs[k][1 - upper] for k in paired):
        fields = _fields(table, names, [k for k in paired if pairs[k][1 - upper] == symbol])
        if not {"close", "adj_close"} & set(fields):
            raise NotBarsError(f"{table.file} has no 'Close' of {symbol}; add it.")
        blocks.append(Block(symbol, fields))
    return Layout(date, tuple(blocks), kind="two_level")


def _names_fields(pairs: Sequence[tuple[str, ...]], paired: Sequence[int], level: int) -> bool:
    names = {plain(pairs[k][level]) for k in paired}
    return bool(names & {"close", "adjclose", "adjustedclose"}) and names <= FIELD_NAMES
