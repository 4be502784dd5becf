"""Kept bars: one symbol's bars in a Parquet file of the local store, and the file's name."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from tactician.bars.bars import Bars
from tactician.storage import checksum, write_atomically

_META = b"tactician"
_VERSION = 1
_PLAIN = re.compile(r"[A-Z0-9][A-Z0-9.-]{0,39}")
"""Names that are file names as they are. Lower case is not: some disks take it for upper case."""
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|(COM|LPT)\d)(\..*)?")
"""Names that Windows keeps for devices, with any ending."""


class DamagedError(ValueError):
    """A file of the store that cannot be read, or does not hold what was written."""


@dataclass(frozen=True)
class Kept:
    """The bars of one symbol as they were stored."""

    frame: pd.DataFrame
    """As `Bars.frame`, of one symbol; its last row has a price."""
    asked_from: date | None
    """The first date that the vendor was asked for; None for all."""
    as_traded: bool
    """As `Bars.as_traded`."""

    @property
    def last(self) -> date:
        """The last stored date."""
        return self.frame["date"].iloc[-1].date()

    @cached_property
    def seal(self) -> str:
        """sha256 of all that is stored."""
        fingerprint = Bars(self.frame, (), "").fingerprint
        return checksum({"bars": fingerprint, "asked_from": str(self.asked_from or ""), "as_traded": self.as_traded})

    def reaches_back_to(self, start: date | None) -> bool:
        """Whether the vendor was asked for all from a date on."""
        return self.asked_from is None or (start is not None and self.asked_from <= start)


def file_name(name: str, whole: str | None = None) -> str:
    """A safe name for a file or folder, distinct on every disk.

    Args:
        name: of a symbol, a source or a file.
        whole: what tells equal names apart, such as a path. Then the file name ends with its hash, as do the names in which
            letters had to be replaced.
    """
    if whole is None and _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name):
        return name
    shown = re.sub(r"[^A-Za-z0-9.-]", "_", name)[:40]
    return f"_{shown}-{hashlib.sha256((whole or name).encode()).hexdigest()[:8]}"


def cut_at(frame: pd.DataFrame, last: date) -> pd.DataFrame:
    """The rows up to a date. Rows without a price at the end are no bars yet, and are left out."""
    frame = frame[frame["date"] <= pd.Timestamp(last)].reset_index(drop=True)
    priced = np.flatnonzero(frame[["close", "adj_close"]].notna().any(axis=1))
    return frame.iloc[: priced[-1] + 1 if len(priced) else 0]


def write_kept(path: Path, kept: Kept) -> None:
    """Write the file atomically, so that a reader or another writer never meets a half.

    Raises:
        UserError: the folder cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    said = {"version": _VERSION, "asked_from": str(kept.asked_from or ""), "as_traded": kept.as_traded}
    meta = json.dumps({**said, "sha256": kept.seal}).encode()
    table = pyarrow.Table.from_pandas(kept.frame, preserve_index=False).replace_schema_metadata({_META: meta})
    write_atomically(path, lambda file: pyarrow.parquet.write_table(table, file))


def read_kept(path: Path) -> Kept | None:
    """Read such a file; None if there is none.

    Raises:
        DamagedError: the file cannot be read, is of another program, or a bit of it has flipped.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # From its bytes: from its path, the names of its folders would be read as columns.
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(path.read_bytes()))
        said = json.loads(table.schema.metadata[_META])
        asked = date.fromisoformat(said["asked_from"]) if said["asked_from"] else None
        kept = Kept(table.to_pandas(), asked, said["as_traded"])
        if said["version"] != _VERSION or said["sha256"] != kept.seal:
            raise DamagedError("the content does not match its checksum")
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file makes the Parquet reader raise whatever it meets first
        raise DamagedError(str(error)) from error
    return kept
