"""Tables: the cells of a CSV or Parquet file as written, under one or two levels of headings."""

import ast
import csv
import gzip
import io
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tactician.errors import UserError

SUFFIXES = (".csv", ".txt", ".tsv", ".csv.gz", ".txt.gz", ".tsv.gz", ".parquet", ".pq")
PARQUET_SUFFIXES = (".parquet", ".pq")
_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_LINES = 50
_SHOWN_LENGTH = 40
_DATE_CORNERS = ("date", "datetime", "timestamp")
_CORNERS = ("", "price", "ticker", "tickers", "symbol", "symbols", "attributes", *_DATE_CORNERS)
FIELD_NAMES = frozenset(
    (
        *("open", "high", "low", "close", "adjclose", "adjustedclose", "volume", "adjopen", "adjhigh", "adjlow"),
        *("dividends", "stocksplits", "capitalgains", "repaired"),
    )
)
"""Names of fields, reduced by `plain`, in headings of two levels."""


class NotBarsError(UserError):
    """The file as a whole is no table of bars."""


@dataclass(frozen=True)
class Table:
    """Cells under headings."""

    file: Path
    headings: tuple[tuple[str, ...], ...]
    """Each column's heading, stripped, with one or two levels."""
    cells: pd.DataFrame
    """Columns by position. The index counts lines of a CSV file, or rows of a Parquet file, from 1. CSV cells are text."""
    separator: str | None
    """What separates the cells of a line; None for Parquet."""

    @property
    def levels(self) -> int:
        """Number of levels of the headings."""
        return len(self.headings[0])

    def name(self, position: int) -> str:
        """A column's heading for messages."""
        return shown(" ".join(level for level in self.headings[position] if level))

    def row_name(self, row: int) -> str:
        """Position of a row in the file for messages, such as 'line 7'."""
        return f"{'row' if self.separator is None else 'line'} {self.cells.index[row]}"

    def where(self, row: int) -> str:
        """File and row for messages."""
        return f"{self.file}, {self.row_name(row)}"


def shown(text: str) -> str:
    """A cell's text, shortened for a message of one line."""
    text = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"


def plain(heading: str) -> str:
    """A heading reduced to small letters and digits: 'Adj. Close*' is 'adjclose', '4. close' is 'close'."""
    return re.sub(r"[\W_]", "", re.sub(r"^\d+\.\s*", "", heading.strip()).lower())


def suffix(file: Path) -> str:
    """The longest known suffix of a file, in small letters; '' if it has no known one."""
    name = file.name.lower()
    return max((known for known in SUFFIXES if name.endswith(known)), key=len, default="")


def read_table(file: Path) -> Table:
    """Read a file's cells.

    Raises:
        UserError: the file is missing, of another kind, damaged or empty.
    """
    kind = suffix(file)
    if not kind:
        raise NotBarsError(
            f"{file} is neither .csv nor .parquet (nor .txt, .tsv, .pq, .csv.gz); convert it or name another file."
        )
    try:
        table = _read_parquet(file) if kind in PARQUET_SUFFIXES else _read_text(file, kind)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"Cannot read bars from {file}: there is no such file; check the path.") from error
    except Exception as error:  # readers raise many kinds; all mean that the file is not readable
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"Cannot read bars from {file}: {text}; check the file.") from error
    if table.cells.empty:
        raise NotBarsError(f"{file} is empty below its headings; give a file with a row per symbol and date.")
    return table


def _read_text(file: Path, kind: str) -> Table:
    content = file.read_bytes()
    text = _decode(gzip.decompress(content) if kind.endswith(".gz") else content)
    sample = list(itertools.islice(io.StringIO(text, newline=""), _SAMPLE_LINES))
    if not text.strip():
        raise NotBarsError(f"{file} is empty; give a file with a row per symbol and date.")
    before, separator = _before_headings(sample)
    body = sample[before:]
    width = max(len(row) for row in csv.reader(body, delimiter=separator))
    cells = _parse(file, text[sum(map(len, sample[:before])) :], separator, width, before)
    cells.index = pd.RangeIndex(before + 1, before + len(cells) + 1)
    maybe = cells[cells[0] == ""]
    cells = cells.drop(index=maybe.index[(maybe == "").all(axis=1)])
    headings, rows = _text_headings(cells.iloc[:3].values.tolist())
    headings = tuple(tuple(level.strip() for level in heading) for heading in headings)
    return Table(file, headings, cells.iloc[rows:], separator)


def _parse(file: Path, text: str, separator: str, width: int, before: int) -> pd.DataFrame:
    """Read every cell as text, so that no symbol and no last bit of a number is changed."""
    try:
        return pd.read_csv(
            io.BytesIO(text.encode()),
            sep=separator,
            header=None,
            names=range(width),
            index_col=False,
            dtype=object,
            na_filter=False,
            skip_blank_lines=False,
        )
    except pd.errors.ParserError as error:
        wider = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if wider is None:
            raise
        raise UserError(
            f"{file}, line {before + int(wider[2])} has {wider[3]} cells where {wider[1]} are expected; correct the line."
        ) from error


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if b"\0" in content[:200]:
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _before_headings(lines: list[str]) -> tuple[int, str]:
    """Number of lines before the headings, and the separator of cells.

    Excel writes sep=; into the first line. Vendors write an address or a title above the headings, in lines of one cell.
    """
    told = re.fullmatch(r'"?sep=(.)"?\s*', lines[0])
    if told is not None:
        return 1, told[1]
    for k, line in enumerate(lines):
        separator = _separator(line)
        if len(next(csv.reader([line], delimiter=separator), [])) > 1:
            return k, separator
    return 0, _SEPARATORS[0]


def _separator(heading: str) -> str:
    """The separator that splits the heading into most cells; names contain none of the separators."""
    return max(_SEPARATORS, key=lambda separator: len(next(csv.reader([heading], delimiter=separator), [])))


def _text_headings(rows: list[list[str]]) -> tuple[tuple[tuple[str, ...], ...], int]:
    """The headings and the number of rows that they take: 1 for one level, 2 or 3 for two levels."""
    rows = [["" if cell.startswith("Unnamed:") else cell.strip() for cell in row] for row in rows]
    if len(rows) < 2 or not _are_two_levels(rows[0], rows[1]):
        return unpack(rows[0]), 1
    upper, lower = list(rows[0]), list(rows[1])
    taken = 2
    if len(rows) > 2 and plain(rows[2][0]) in _DATE_CORNERS and not any(rows[2][1:]):
        upper[0], lower[0] = rows[2][0], ""
        taken = 3
    elif plain(upper[0]) not in _DATE_CORNERS and plain(lower[0]) not in _DATE_CORNERS:
        # The corner holds the names of the levels, or nothing; the column below it holds the dates.
        is_dated = any(plain(cell) in _DATE_CORNERS for cell in (*upper, *lower))
        upper[0], lower[0] = ("", "") if is_dated else ("Date", "")
    # pandas numbers repeated names: Close, Close.1. The number is removed.
    return tuple(
        (re.sub(r"\.\d+$", "", u) if plain(re.sub(r"\.\d+$", "", u)) in FIELD_NAMES else u, w)
        for u, w in zip(upper, lower, strict=True)
    ), taken


def _are_two_levels(upper: list[str], lower: list[str]) -> bool:
    """Whether the second row belongs to the heading: then one row names fields, and the other symbols."""
    if plain(upper[0]) not in _CORNERS or plain(lower[0]) not in _CORNERS:
        return False
    pairs = [(u, w) for u, w in zip(upper[1:], lower[1:], strict=True) if u and w]
    numbers = all(re.fullmatch(r"[\d.,+-]+", w) for _, w in pairs)
    if not pairs or (numbers and not plain(lower[0])):
        return False
    fields = [
        [plain(re.sub(r"\.\d+$", "", level)) in FIELD_NAMES for level in levels] for levels in zip(*pairs, strict=True)
    ]
    return all(fields[0]) or all(fields[1])


def unpack(headings: list[str]) -> tuple[tuple[str, ...], ...]:
    """Headings of one level, or of two if pandas wrote pairs as text: "('Close', 'AAA')"."""
    pairs = [re.fullmatch(r"\(\s*('.*'|\".*\")\s*,\s*('.*'|\".*\")\s*\)", heading) for heading in headings]
    if not any(pairs) or sum(pair is None for pair in pairs) > 2:
        return tuple((heading,) for heading in headings)
    return tuple(
        (heading, "") if pair is None else tuple(str(level).strip() for level in ast.literal_eval(heading))
        for heading, pair in zip(headings, pairs, strict=True)
    )


def _read_parquet(file: Path) -> Table:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as parquet:
        frame = parquet.read().to_pandas(date_as_object=False)
    frame = _with_index(frame)
    if frame.columns.nlevels > 2:
        raise NotBarsError(f"{file} has {frame.columns.nlevels} levels of columns; give one, or field and symbol.")
    if frame.columns.nlevels == 2:
        headings: tuple[tuple[str, ...], ...] = tuple(
            tuple(str(level).strip() for level in column) for column in frame.columns
        )
    else:
        headings = unpack([str(column).strip() for column in frame.columns])
    frame.columns = pd.RangeIndex(frame.shape[1])
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return Table(file, headings, frame, None)


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn the levels of the index into columns. A level without a name is named 'date' or 'symbol' after its content."""
    if frame.index.nlevels == 1 and frame.index.name is None and not _holds_labels(frame.index):
        return frame
    names = [
        name if name is not None else "date" if pd.api.types.is_datetime64_any_dtype(level.dtype) else "symbol"
        for name, level in ((name, frame.index.get_level_values(k)) for k, name in enumerate(frame.index.names))
    ]
    if frame.index.nlevels == 1 and frame.index.name is None:
        names = ["date"]
    if len(set(names)) < len(names):
        names = [f"{name}_{k}" for k, name in enumerate(names)]
    return frame.set_axis(frame.index.set_names(names), axis=0).reset_index()


def _holds_labels(index: pd.Index) -> bool:
    """Whether an index without a name holds dates or text, rather than counting rows."""
    return pd.api.types.is_datetime64_any_dtype(index.dtype) or not pd.api.types.is_numeric_dtype(index.dtype)
