"""Splits that an adjusted price was not adjusted for, told apart from crashes and rallies.

A split moves the price by a ratio of small whole numbers and nothing else: the days before and after are as calm as ever, and
no more money changes hands. A crash of that size comes amid turmoil, or with many times the usual traded value.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tactician.market.checks import Fault

RATIOS = np.array(
    [
        6 / 5,
        5 / 4,
        4 / 3,
        3 / 2,
        5 / 3,
        7 / 4,
        2,
        5 / 2,
        3,
        7 / 2,
        *(4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100),
    ]
)
"""New shares for an old one (or the inverse). Smaller ones, 11:10 and 21:20, are moves that occur on any day."""
_SMALLEST_UNSEEN = 3 / 2
"""The smallest ratio that is told where no volume speaks: drops by a quarter after results are as frequent as splits."""
_EXTREME = np.log(4.0)
"""A move beyond is told whatever surrounds it."""
_ALSO_MOVED = 0.05
"""The stock's own move on the day of a split, at least this far or `_FIT` usual moves from the ratio."""
_FIT = 3.0
_JUMP_SEEN, _JUMP_UNSEEN, _JUMP_SMALL = 6.0, 15.0, 20.0
"""Usual moves that a jump must have: with volumes; without; and without for a ratio below 2."""
_QUIET_VALUE = 2.0
"""Traded value beside its median of 20 bars: beyond, the move was traded for."""
_BEFORE, _AFTER, _FEWEST = 60, 20, 10
_LEAST_SIGMA = 0.005
_MARKET = 5
"""Assets of which the median move is the market's."""


def split_jumps(f: pd.DataFrame) -> Iterator[Fault]:
    """Adjusted closes that jump like a split.

    The jump is the log return less the median one of the day. Its scale is the larger of the usual moves (1.4826 × median
    absolute move) of the 60 bars before and of the 20 after. It is hindsight, and only tells.
    """
    start, end = _bounds(f)
    step = np.diff(np.log(f["adj_close"].to_numpy(dtype=np.float64)), prepend=np.nan)
    step[start[:-1]] = np.nan
    move = step - _market(step, f["date"].to_numpy())
    candidates = np.flatnonzero(np.abs(move) > np.log(RATIOS[0]) - _ALSO_MOVED)
    rows = np.zeros(len(f), dtype=bool)
    for part in np.array_split(candidates, len(candidates) // 10_000 + 1):
        rows[part] = _like_split(f, move, part, (start, end))
    rows |= np.abs(step) > _EXTREME
    what = "moves like a split that was not adjusted for"
    yield Fault("split_like_jump", "warning", rows, what, "tell", growth=np.exp(step))


def _like_split(
    f: pd.DataFrame, move: np.ndarray, rows: np.ndarray, lives: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    jump = np.abs(move[rows])
    before = _typical(_window(move, rows, range(-_BEFORE, 0), lives))
    after = _typical(_window(move, rows, range(1, _AFTER + 1), lives))
    sigma = np.fmax(np.fmax(before, after), _LEAST_SIGMA)  # NaN where both are too short, and so no split
    ratio = np.abs(jump[:, None] - np.log(RATIOS))
    nearest = ratio.argmin(1)
    fits = ratio.min(1) <= np.fmax(_ALSO_MOVED, _FIT * sigma)
    known = np.isfinite(np.fmax(before, after))
    value = _relative_value(f, rows, lives)
    seen = np.isfinite(value)
    quiet = seen & (value <= _QUIET_VALUE) & (jump >= _JUMP_SEEN * sigma)
    needed = np.where(RATIOS[nearest] < 2, _JUMP_SMALL, _JUMP_UNSEEN)
    unseen = ~seen & (jump >= needed * sigma) & (RATIOS[nearest] >= _SMALLEST_UNSEEN)
    return known & fits & (quiet | unseen) & _overnight(f, rows, sigma)


def _overnight(f: pd.DataFrame, rows: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The jump was there at the open: the way from open to close is usual; also where no open is known."""
    if "open" not in f:
        return np.ones(len(rows), dtype=bool)
    first, last = f["open"].to_numpy(dtype=np.float64)[rows], f["close"].to_numpy(dtype=np.float64)[rows]
    day = np.abs(np.log(np.where(first > 0, first, np.nan) / last))
    return ~(day > np.fmax(_ALSO_MOVED, _FIT * sigma))


def _relative_value(f: pd.DataFrame, rows: np.ndarray, lives: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Traded value of the day beside the median of the 20 bars before (or after, where there are few); NaN without volumes."""
    if "volume" not in f:
        return np.full(len(rows), np.nan)
    volume = f["volume"].to_numpy(dtype=np.float64)
    value = np.where(volume > 0, volume, np.nan) * f["close"].to_numpy(dtype=np.float64)
    before = _median(_window(value, rows, range(-20, 0), lives))
    after = _median(_window(value, rows, range(1, 21), lives))
    return value[rows] / np.where(np.isfinite(before), before, after)


def _bounds(f: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Where each symbol's rows begin (and the end of all), and for each row the symbol's number."""
    symbol = f["symbol"].to_numpy()
    begins = np.flatnonzero(np.concatenate([[True], symbol[1:] != symbol[:-1]]))
    number = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(f))))
    return np.append(begins, len(f)), number


def _window(x: np.ndarray, rows: np.ndarray, offsets: range, lives: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Values around some rows, within the symbol; NaN outside."""
    begins, number = lives
    at = rows[:, None] + np.array(offsets)
    inside = (at >= begins[number[rows]][:, None]) & (at < begins[number[rows] + 1][:, None])
    return np.where(inside, x[np.clip(at, 0, len(x) - 1)], np.nan)


def _typical(moves: np.ndarray) -> np.ndarray:
    """A standard deviation that no jump shifts."""
    return 1.4826 * _median(np.abs(moves))


def _median(x: np.ndarray) -> np.ndarray:
    """By row, of what is there; NaN with fewer than ten values."""
    enough = np.isfinite(x).sum(1) >= _FEWEST
    out = np.full(len(x), np.nan)
    if enough.any():
        out[enough] = np.nanmedian(x[enough], axis=1)
    return out


def _market(step: np.ndarray, dates: np.ndarray) -> np.ndarray:
    by_day = pd.Series(step).groupby(dates)
    return np.where(by_day.transform("count") >= _MARKET, by_day.transform("median"), 0.0)
