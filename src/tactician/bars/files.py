"""Reading bars from CSV and Parquet: long, wide, headings of two levels, one file or a folder of them."""

from collections.abc import Collection
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd

from tactician.bars.bars import Bars, make_bars, require_symbols
from tactician.bars.findings import Finding
from tactician.bars.layouts import recognise
from tactician.bars.tables import NotBarsError, read_table, suffix
from tactician.bars.tidy import Part, stand_in, tidy
from tactician.errors import UserError

_COUNTED = {"no_close": "files", "no_adjusted_close": "files", "empty_column": "columns"}
"""What a finding counts, if not rows."""
_PASSED_OVER = (".", "readme", "license")
"""Beginnings of the names of files that lie beside the bars and are ignored."""


def read_bars(
    path: Path,
    symbols: tuple[str, ...] | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    calendar: str = "XNYS",
) -> Bars:
    """Read daily bars from a file or a folder, as vendors deliver them. docs/data.md lists the supported formats.

    A *long* file has one row per symbol and date. A *wide* file has one row per date and one column of prices per symbol.
    Headings may have two levels, field and symbol. In a folder, a file without a symbol column holds the symbol that it is
    named after.

    Args:
        path: CSV or Parquet file, or a folder of them.
        symbols: those wanted, in order; None for all. In a folder of files per symbol only theirs are read.
        start: first date wanted.
        end: last date wanted.
        calendar: exchange calendar. A bar stamped with a time gets its date in the calendar's time zone; 'bars' keeps the
            date as written.

    Raises:
        UserError: names the file, the line, row or column that cannot be read, and the remedy.
    """
    parts = _read_folder(path, symbols, calendar) if path.is_dir() else [_read_file(path, None, symbols, calendar)]
    frame = _joined([part.frame for part in parts])
    available = {symbol for part in parts for symbol in part.available}
    require_symbols(str(path), symbols or (), available)
    if frame.empty:
        raise UserError(f"{path} has no row with a price; give a file with a row per symbol and date.")
    notes = _gathered([note for part in parts for note in part.notes])
    frame, unadjusted = stand_in(frame, path)
    return make_bars(frame, str(path), symbols, start, end, (*notes, *unadjusted))


def _read_file(file: Path, stem: str | None, symbols: Collection[str] | None, calendar: str) -> Part:
    table = read_table(file)
    return tidy(table, recognise(table, stem), symbols, calendar)


def _read_folder(folder: Path, symbols: tuple[str, ...] | None, calendar: str) -> list[Part]:
    files = sorted(file for file in folder.iterdir() if suffix(file) and not file.name.lower().startswith(_PASSED_OVER))
    if not files:
        raise UserError(f"The folder {folder} holds no .csv or .parquet file; name a folder of bars.")
    if symbols is None:
        return [_read_file(file, _stem(file), None, calendar) for file in files]
    owners = {symbol: _files_of(symbol, files) for symbol in symbols}
    named = {file: symbol for symbol, own in owners.items() for file in own}
    parts, refused = [], []
    for file in named if all(owners.values()) else files:
        try:
            parts.append(_read_file(file, named.get(file, _stem(file)), symbols, calendar))
        except NotBarsError as problem:
            # A file of other content may lie beside the bars, but not one that is named after a wanted symbol.
            if file in named:
                raise
            refused.append(problem)
    if not parts:
        raise refused[0]
    return parts


def _stem(file: Path) -> str:
    return file.name[: -len(suffix(file))]


def _files_of(symbol: str, files: list[Path]) -> list[Path]:
    """Files named after a symbol: exactly, or in other letter case if only one name matches so."""
    exact = [file for file in files if _stem(file) == symbol]
    alike = [file for file in files if _stem(file).casefold() == symbol.casefold()]
    return exact or (alike if len({_stem(file) for file in alike}) == 1 else [])


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all files. A price column that only some files have is left out: the other rows would lack it."""
    filled = [frame for frame in frames if not frame.empty]
    if not filled:
        return frames[0]
    shared = set.intersection(*(set(frame.columns) for frame in filled)) | {"volume"}
    return pd.concat([frame[[c for c in frame.columns if c in shared]] for frame in filled], ignore_index=True)


def _gathered(notes: list[Finding]) -> tuple[Finding, ...]:
    """One finding per kind, with its first example and the count of all."""
    first: dict[str, Finding] = {}
    for note in notes:
        known = first.get(note.name)
        first[note.name] = note if known is None else replace(known, count=known.count + note.count)
    return tuple(replace(note, message=note.message + _more(note)) for note in first.values())


def _more(note: Finding) -> str:
    return f" (first of {note.count} such {_COUNTED.get(note.name, 'rows')})" if note.count > 1 else ""
