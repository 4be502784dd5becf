"""The local store of bars: what is new is downloaded, and a past that a vendor restated is noticed."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tactician.bars.bars import Bars, make_bars
from tactician.bars.kept import DamagedError, Kept, cut_at, file_name, read_kept, write_kept
from tactician.bars.restated import Restatement, restatement
from tactician.bars.sources import SOURCES, read_source
from tactician.config import Config
from tactician.errors import UserError
from tactician.monitor.wording import count

_OVERLAP = 10
"""Stored sessions before the last one that are read again and compared."""
_WAYS = ("read whole", "extended", "already stored")
"""What a refresh does with a symbol."""
_TOLD = 5
"""Sentences about restated symbols; the others are counted."""

Ask = Callable[[date | None], Bars]
"""Reads the bars of a symbol from a date on; None for all."""


@dataclass(frozen=True)
class Refreshed:
    """The bars of a configuration, as new as its source has them."""

    bars: Bars
    """The whole history from ``config.start`` to the last finished session."""
    told: tuple[str, ...]
    """Sentences for the user: what was read, what was damaged, what was restated."""
    restated: bool
    """Whether the past differs from what was stored."""


@dataclass(frozen=True)
class _Update:
    """What a refresh makes of the file of a symbol."""

    symbol: str
    path: Path
    old: Kept | None
    damaged: bool
    new: Kept
    how: str
    """One of `_WAYS`."""
    restated: Restatement | None
    """What the source changed of the stored past."""

    @property
    def added(self) -> int:
        """Bars after the last one that was stored."""
        frame = self.new.frame
        return len(frame) if self.old is None else int((frame["date"] > pd.Timestamp(self.old.last)).sum())


def refresh(config: Config, folder: Path, until: date) -> Refreshed:
    """Bring the stored bars of a configuration's universe up to a session.

    A source that can be asked for a part is asked for the last stored sessions and what follows. If it says the same of the
    stored ones, the new ones are appended. Otherwise the symbol is read whole. A file is read whole each time. The old file of
    a symbol whose past was restated stays beside the new one, with the ending ``.before``. Bars that come with a package
    never change, and are not stored.

    Args:
        config: gives bars, symbols, start, calendar and closes; its end is ignored.
        folder: the store, with a folder per source and a file per symbol; made if need be.
        until: the last finished session. Later bars, which may still move, are left out.

    Raises:
        UserError: the source lacks a symbol or cannot be read, or the folder cannot be written.
    """
    source = SOURCES.get(config.bars)
    if source is None:
        return _refresh_files(config, folder, until)
    if source.since is None:
        return Refreshed(source.read(config.model_copy(update={"end": until})), (), False)
    updates, within = [], folder / config.bars
    for symbol in config.symbols:
        path = _path(within, symbol)
        old, damaged = _load(path)
        new, how = _brought_up(old, partial(source.since, config, symbol), config.start, until)
        updates.append(_update(symbol, path, old, damaged, new, how))
    told, restated = _finish(updates, config.bars, until)
    frame = pd.concat([update.new.frame for update in updates], ignore_index=True)
    as_traded = all(update.new.as_traded for update in updates)
    return Refreshed(make_bars(frame, config.bars, config.symbols, config.start, until, (), as_traded), told, restated)


def _refresh_files(config: Config, folder: Path, until: date) -> Refreshed:
    """Read a file or a folder whole, compare it with what was stored, and store it."""
    bars = read_source(config.model_copy(update={"start": None, "end": None}))
    path = os.path.abspath(config.bars)
    updates, within = [], folder / file_name(os.path.basename(path), path)
    parts = dict(list(bars.frame.groupby("symbol", sort=False)))
    for symbol in bars.symbols:
        place = _path(within, symbol)
        old, damaged = _load(place)
        # What was stored was finished then, also if it is later than the session asked for now.
        frame = cut_at(parts.get(symbol, bars.frame[:0]), until if old is None else max(until, old.last))
        new = Kept(frame, None, bars.as_traded)
        updates.append(_update(symbol, place, old, damaged, new, "read whole"))
    told, restated = _finish(updates, config.bars, until)
    cut = make_bars(bars.frame, bars.source, bars.symbols, config.start, until, bars.notes, bars.as_traded)
    return Refreshed(cut, told, restated)


def _path(within: Path, symbol: str) -> Path:
    return within / f"{file_name(symbol)}.parquet"


def _load(path: Path) -> tuple[Kept | None, bool]:
    """What was stored, and whether it is damaged."""
    try:
        return read_kept(path), False
    except DamagedError:
        return None, True


def _brought_up(old: Kept | None, ask: Ask, start: date | None, until: date) -> tuple[Kept, str]:
    """The bars of a symbol up to a session, from the store as far as possible, and how that was done."""
    if old is None:
        return _whole(ask, start, until), "read whole"
    if old.reaches_back_to(start):
        if old.last >= until:
            return old, "already stored"
        if (longer := _extended(old, ask, until)) is not None:
            return longer, "extended"
    # A later start must not shorten the store.
    earliest = None if start is None or old.asked_from is None else min(start, old.asked_from)
    return _whole(ask, earliest, max(until, old.last)), "read whole"


def _whole(ask: Ask, start: date | None, until: date) -> Kept:
    bars = ask(start)
    frame = cut_at(bars.frame, until)
    if frame.empty:
        raise UserError(
            f"{bars.source} has no bars of {bars.symbols[0]} until {until}; take the symbol out of the universe until it has."
        )
    return Kept(frame, start, bars.as_traded)


def _extended(old: Kept, ask: Ask, until: date) -> Kept | None:
    """The stored bars and the new ones; None if the source says something else of the last stored sessions than before.

    A source rescales all earlier adjusted closes at each dividend and split. The stored ones are multiplied to join the new
    ones, so that no stored return changes.
    """
    first = old.frame["date"].iloc[max(0, len(old.frame) - 1 - _OVERLAP)]
    bars = ask(first.date())
    fresh, overlap = cut_at(bars.frame, until), old.frame[old.frame["date"] >= first]
    both = overlap.merge(fresh, on="date", suffixes=("", "_now")).drop_duplicates("date")
    factor = (both["adj_close_now"] / both["adj_close"]).to_numpy()
    usable = factor[np.isfinite(factor) & (factor > 0)]
    if len(usable) == 0 or restatement(overlap, fresh, bars.as_traded) is not None:
        return None
    stored = old.frame.assign(adj_close=old.frame["adj_close"] * usable[-1])
    if "volume_now" in both:  # a volume grows for some hours after the close
        volume = both.set_index("date")["volume_now"]
        stored["volume"] = stored["date"].map(volume).fillna(stored["volume"])
    added = fresh[fresh["date"] > pd.Timestamp(old.last)]
    return replace(old, frame=pd.concat([stored, added], ignore_index=True))


def _update(symbol: str, path: Path, old: Kept | None, damaged: bool, new: Kept, how: str) -> _Update:
    """Compare old and new, and store the new ones.

    What was restated or damaged is not replaced here but when all symbols have been read. If one of them could not be, nothing
    would be told, and the next refresh has to notice it again.
    """
    restated = None if old is None or old is new else restatement(old.frame, new.frame, new.as_traded)
    # A file of the user's may have no more bars of a symbol; the stored ones stay.
    changed = not new.frame.empty and (old is None or old.seal != new.seal)
    if changed and restated is None and not damaged:
        write_kept(path, new)
    return _Update(symbol, path, old, damaged, new, how, restated)


def _finish(updates: list[_Update], source: str, until: date) -> tuple[tuple[str, ...], bool]:
    """Replace what was restated or damaged, with the old files beside, and tell what happened."""
    restated = [(update, update.restated) for update in updates if update.restated is not None]
    damaged = [update for update in updates if update.damaged]
    replaced = [update for update, _ in restated if not update.new.frame.empty]
    for update in replaced:
        if update.old is not None:
            write_kept(update.path.with_name(f"{update.path.name}.before"), update.old)
    for update in (*replaced, *(one for one in damaged if not one.new.frame.empty)):
        write_kept(update.path, update.new)
    told = [_read(updates, source, until)]
    told += [
        f"{one.path} was damaged; {one.symbol} was read anew, without a look at what was stored." for one in damaged
    ]
    told += [found.told(source) for _, found in restated[:_TOLD]]
    if len(restated) > _TOLD:
        told.append(f"{source} restated {count(len(restated) - _TOLD, 'more symbol')}.")
    if replaced:
        told.append(f"The bars as they were are in {replaced[0].path.parent}, in files that end in .before.")
    return tuple(told), bool(restated)


def _read(updates: list[_Update], source: str, until: date) -> str:
    """What was read, as one sentence."""
    numbers = {way: sum(update.how == way for update in updates) for way in _WAYS}
    done = ", ".join(f"{count(n, 'symbol')} {way}" for way, n in numbers.items() if n)
    return f"{source}: {done}; {count(sum(update.added for update in updates), 'new bar')} until {until}."
