"""Numbers as vendors write them: decimal commas, thousands, currency signs, 12.5M, and marks for no value."""

import re
from collections.abc import Collection

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tactician.bars.tables import Table, shown
from tactician.errors import UserError

_NO_VALUE = pa.array(["", "-", "--", "–", "—", ".", "null", "none", "nil", "nan", "na", "n/a", "#n/a", "<na>", "nat"])
_BLANK = "\\s\u00a0\u202f\u2009"
"""White space within a character class. RE2's own class lacks the no-break, the narrow no-break and the thin space."""
_SPACES = "[ \u00a0\u202f\u2009'\u2019]"
"""Thousands separators beside comma and point: four kinds of space and two apostrophes."""
_CURRENCY = "[$\u20ac\u00a3\u00a5\u20b9]"
"""Signs of dollar, euro, pound, yen or yuan, and rupee."""


def read_numbers(table: Table, columns: Collection[int], volumes: Collection[int]) -> dict[int, np.ndarray]:
    """Read columns of numbers. Text becomes the nearest double, as Python's own float() does it.

    Args:
        table: holds the columns.
        columns: their positions.
        volumes: positions of columns in which 12.5M means 12,500,000.

    Returns:
        A float64 array per column, with NaN for a cell without a value.

    Raises:
        UserError: a cell is no number, or the decimal mark cannot be told from the thousands separator.
    """
    numbers: dict[int, np.ndarray] = {}
    text: dict[int, pa.Array] = {}
    odd = []
    for column in columns:
        cells = table.cells[column]
        if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
            numbers[column] = cells.to_numpy("float64", na_value=np.nan)
            continue
        text[column] = _text(cells)
        try:
            numbers[column] = _floats(text[column])
        except pa.ArrowInvalid:
            odd.append(column)
    # In a file with semicolons a plain-looking 1.234 may also mean 1234.
    if odd or table.separator == ";":
        bare = {column: _bare(cells, column in volumes) for column, cells in text.items()}
        mark = _decimal_mark(table, list(bare.values()))
        # With decimal commas a plain-looking 1.234 means 1234, so all columns are read anew.
        for column in text if mark == "," else odd:
            numbers[column] = _grouped(table, column, text[column], bare[column], mark)
    return numbers


def _text(cells: pd.Series) -> pa.Array:
    """Cells as text, trimmed, and null where they hold no value."""
    try:
        text = pa.array(cells, pa.string(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # decimals and other objects
        text = pa.array(cells.astype(str), pa.string())
    text = pc.utf8_trim_whitespace(text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text)
    return pc.if_else(pc.is_in(pc.utf8_lower(text), _NO_VALUE), pa.scalar(None, pa.string()), text)


def _floats(text: pa.Array) -> np.ndarray:
    return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)


def _bare(text: pa.Array, is_volume: bool) -> pa.Array:
    """Remove the currency sign, and write K, M, B and T as exponents, which keeps every bit."""
    text = pc.replace_substring_regex(text, rf"^([+-]?)[{_BLANK}]*{_CURRENCY}[{_BLANK}]*", r"\1")
    text = pc.replace_substring_regex(text, rf"[{_BLANK}]*{_CURRENCY}$", "")
    if is_volume:
        for letter, exponent in (("k", 3), ("m", 6), ("b", 9), ("t", 12)):
            text = pc.replace_substring_regex(text, rf"(?i)[{_BLANK}]*{letter}$", f"e{exponent}")
    return text


def _decimal_mark(table: Table, columns: list[pa.Array]) -> str:
    """Point or comma, decided from all cells together."""
    comma, point = _example(columns, r"\.", ","), _example(columns, ",", r"\.")
    if comma is not None and point is not None:
        raise UserError(
            f"{table.file} writes '{comma}' with a decimal comma and '{point}' with a decimal point; "
            "write all numbers as 1234.56."
        )
    if comma is not None:
        return ","
    # In a file separated by commas, a cell with a comma was quoted, as is usual for thousands.
    # Semicolons are used where the comma is the decimal mark.
    unclear = None
    if point is None and table.separator != ",":
        unclear = _first(columns, r"^[^.]*,[^.]*$")
        if unclear is None and table.separator == ";":
            unclear = _first(columns, r"^[^.,]*\.\d{3}$")
    if unclear is not None:
        whole, fraction = re.sub("[,.]", "", unclear), unclear.replace(",", ".")
        longer = re.sub(r"\d(?!.*\d)|\d(?=e)", r"\g<0>0", fraction, count=1, flags=re.IGNORECASE)
        raise UserError(f"{table.file}: '{unclear}' may be {whole} or {fraction}; write it as {whole} or {longer}.")
    return "."


def _example(columns: list[pa.Array], group: str, mark: str) -> str | None:
    """A cell in which only `mark` can be the decimal mark and `group` the thousands separator; None if no cell is so."""
    end = r"(e[+-]?\d+)?$"
    alone = rf"^[^.,]*{mark}(\d{{1,2}}|\d{{4,}}){end}|^[+-]?(0*|\d{{4,}}){mark}\d+{end}"
    return _first(columns, rf"{group}.*{mark}|{group}\d+{group}|{alone}")


def _first(columns: list[pa.Array], pattern: str) -> str | None:
    for cells in columns:
        found = pc.index(pc.match_substring_regex(cells, pattern, ignore_case=True), True).as_py()
        if found >= 0:
            return cells[found].as_py()
    return None


def _grouped(table: Table, column: int, written: pa.Array, bare: pa.Array, mark: str) -> np.ndarray:
    """Read numbers with thousands separators, or with a decimal comma."""
    group = "," if mark == "." else "."
    between = f"[{group}{_SPACES[1:]}"
    pattern = rf"^[+-]?(\d{{1,3}}({between}\d{{2,3}})*{between}\d{{3}}|\d*)([{mark}]\d*)?(e[+-]?\d+)?$"
    good = pc.and_(
        pc.match_substring_regex(bare, pattern, ignore_case=True), pc.match_substring_regex(bare, r"^[^e]*\d")
    )
    bad = pc.index(good, False).as_py()
    if bad >= 0:
        raise _no_number(table, column, bad, written[bad].as_py())
    digits = pc.replace_substring_regex(bare, between, "")
    return _floats(pc.replace_substring(digits, mark, "."))


def _no_number(table: Table, column: int, row: int, cell: str) -> UserError:
    where, name, cell = table.where(row), table.name(column), shown(cell)
    if cell.endswith("%"):
        return UserError(f"{where}: '{cell}' in column {name} is a percentage, not a price; give prices.")
    return UserError(f"{where}: '{cell}' in column {name} is no number; write it as 1234.56.")
