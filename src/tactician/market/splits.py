"""Splits that are missing from the adjusted prices, told apart from crashes and rallies.

A split moves the price by a ratio of small whole numbers, and changes nothing else. The days before and after are as calm as
usual, and the traded value is usual too. A crash of that size comes in turmoil, or with many times the usual traded value.
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
"""New shares per old share (or the inverse). Smaller ratios, 11:10 and 21:20, are left out: such moves occur on any day."""
_SMALLEST_UNSEEN = 3 / 2
"""Smallest ratio reported without volumes. Drops by a quarter after earnings reports are as frequent as splits."""
_EXTREME = np.log(4.0)
"""A larger move is always reported."""
_ALSO_MOVED = 0.05
"""A jump fits a ratio if it is within this distance, or `_FIT` usual moves: the stock also moves on the day of a split."""
_FIT = 3.0
_JUMP_SEEN, _JUMP_UNSEEN, _JUMP_SMALL = 6.0, 15.0, 20.0
"""Smallest jump in usual moves: with volumes; without volumes; without volumes for a ratio below 2."""
_QUIET_VALUE = 2.0
"""Traded value relative to its median of 20 bars. With more, the move was a real one."""
_BEFORE, _AFTER, _FEWEST = 60, 20, 10
_LEAST_SIGMA = 0.005
_MARKET = 5
"""From this many assets, their median move counts as the market's."""


def split_jumps(f: pd.DataFrame) -> Iterator[Fault]:
    """Adjusted closes that jump like a split.

    The jump is the asset's log return less the day's median log return. It is measured in usual moves (1.4826 × median
    absolute move). Of the usual moves of the 60 bars before and of the 20 bars after, the larger counts. The check uses
    hindsight, so it only warns and changes no bar.
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
    sigma = np.fmax(np.fmax(before, after), _LEAST_SIGMA)  # NaN if both windows are too short: then no split
    ratio = np.abs(jump[:, None] - np.log(RATIOS))
    nearest = ratio.argmin(1)
    fits = ratio.min(1) <= np.fmax(_ALSO_MOVED, _FIT * sigma)
    known = np.isfinite(np.fmax(before, after))
    value = _relative_value(f, rows, lives)
    seen = np.isfinite(value)
    # Without volumes a crash cannot be told by its traded value, so the jump must stand out more.
    quiet = seen & (value <= _QUIET_VALUE) & (jump >= _JUMP_SEEN * sigma)
    needed = np.where(RATIOS[nearest] < 2, _JUMP_SMALL, _JUMP_UNSEEN)
    unseen = ~seen & (jump >= needed * sigma) & (RATIOS[nearest] >= _SMALLEST_UNSEEN)
    return known & fits & (quiet | unseen) & _overnight(f, rows, sigma)


def _overnight(f: pd.DataFrame, rows: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Whether the jump happened before the open: the move from open to close is usual. True if the open is not known."""
    if "open" not in f:
        return np.ones(len(rows), dtype=bool)
    first, last = f["open"].to_numpy(dtype=np.float64)[rows], f["close"].to_numpy(dtype=np.float64)[rows]
    day = np.abs(np.log(np.where(first > 0, first, np.nan) / last))
    return ~(day > np.fmax(_ALSO_MOVED, _FIT * sigma))


def _relative_value(f: pd.DataFrame, rows: np.ndarray, lives: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Traded value of the day relative to its median of the 20 bars before (after, if those are few); NaN without volumes."""
    if "volume" not in f:
        return np.full(len(rows), np.nan)
    volume = f["volume"].to_numpy(dtype=np.float64)
    value = np.where(volume > 0, volume, np.nan) * f["close"].to_numpy(dtype=np.float64)
    before = _median(_window(value, rows, range(-20, 0), lives))
    after = _median(_window(value, rows, range(1, 21), lives))
    return value[rows] / np.where(np.isfinite(before), before, after)


def _bounds(f: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """First row of each symbol, with the end of the frame appended, and each row's symbol number."""
    symbol = f["symbol"].to_numpy()
    begins = np.flatnonzero(np.concatenate([[True], symbol[1:] != symbol[:-1]]))
    number = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(f))))
    return np.append(begins, len(f)), number


def _window(x: np.ndarray, rows: np.ndarray, offsets: range, lives: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Values around the given rows, within the same symbol; NaN outside."""
    begins, number = lives
    at = rows[:, None] + np.array(offsets)
    inside = (at >= begins[number[rows]][:, None]) & (at < begins[number[rows] + 1][:, None])
    return np.where(inside, x[np.clip(at, 0, len(x) - 1)], np.nan)


def _typical(moves: np.ndarray) -> np.ndarray:
    """A robust standard deviation: single jumps hardly change it."""
    return 1.4826 * _median(np.abs(moves))


def _median(x: np.ndarray) -> np.ndarray:
    """Median per row, without NaN; NaN with fewer than ten values."""
    enough = np.isfinite(x).sum(1) >= _FEWEST
    out = np.full(len(x), np.nan)
    if enough.any():
        out[enough] = np.nanmedian(x[enough], axis=1)
    return out


def _market(step: np.ndarray, dates: np.ndarray) -> np.ndarray:
    by_day = pd.Series(step).groupby(dates)
    return np.where(by_day.transform("count") >= _MARKET, by_day.transform("median"), 0.0)
