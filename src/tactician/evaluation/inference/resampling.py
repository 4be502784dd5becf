"""Resamples of a time series in blocks, as counts: how often each session occurs in each of them.

A moment of a resample is a product of counts and values. So one matrix of counts serves all statistics of all strategies.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]
"""One value per session."""

RESAMPLES = 2_000
"""Enough for the second digit of a 95 % interval's ends."""
FEWEST = 40
"""Sessions. With fewer no interval keeps its level, so there is none."""

_SEED = 20_140_601


_BLOCKS = tuple(k * 2**e for e in range(12) for k in (2, 3))
"""Lengths of blocks beyond 1. There are few, so that strategies share their resamples."""


@lru_cache(maxsize=16)
def counts(n: int, block: int, resamples: int = RESAMPLES) -> NDArray[np.uint16]:
    """Counts of the stationary bootstrap (Politis and Romano 1994), ``[resample, session]``; the same at every call.

    Args:
        n: sessions.
        block: mean length of a block.
        resamples: rows.
    """
    from arch.bootstrap import StationaryBootstrap

    drawn = StationaryBootstrap(block, np.arange(n), seed=_SEED).bootstrap(resamples)
    return np.stack([np.bincount(data[0], minlength=n).astype(np.uint16) for data, _ in drawn])


def block_length(x: Series) -> int:
    """Mean length of a block for a series: that of Politis and White (2004), corrected by Patton et al. (2009).

    It is rounded up to 1, 2, 3, 4, 6, 8, 12 …
    """
    from arch.bootstrap import optimal_block_length

    with np.errstate(all="ignore"):  # autocorrelations of a series that is zero almost everywhere are 0/0
        length = float(optimal_block_length(x)["stationary"].iloc[0])
    length = min(length, len(x) / 4) if np.isfinite(length) else 1.0
    return 1 if length <= 1 else next(block for block in _BLOCKS if block >= length)


def usable(*series: Series) -> bool:
    """Whether all series are finite and long enough."""
    return all(len(x) >= FEWEST and bool(np.isfinite(x).all()) for x in series)


def varies(x: Series) -> bool:
    """Whether a series is more than rounding around a constant."""
    return bool(x.std() > 1e-12 + 1e-9 * np.abs(x).max())
