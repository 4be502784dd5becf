"""Statistics over many strategies: the best of many looks good by luck, and these say how much of it is."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tactician.evaluation.inference.resampling import Series, block_length, counts, usable, varies

_RESAMPLES, _SEED, _BLOCKS = 1_000, 7, 10
_FEWEST_PER_BLOCK = 10


def superior_predictive_ability(benchmark: Series, others: NDArray[np.float64]) -> float:
    """p-value of the hypothesis that none of the others beats the benchmark; NaN if not available.

    Hansen (2005), "A test for superior predictive ability", the consistent p-value, computed by arch. The differences are
    studentised, so that a wild strategy does not hide the edge of a steady one.

    Args:
        benchmark: log growth per session, of shape [T].
        others: of the strategies, [T, K]. Those that are the benchmark to rounding are left out.
    """
    differ = [others[:, k] for k in range(others.shape[1]) if varies(others[:, k] - benchmark)]
    if not differ or not usable(benchmark, *differ):
        return math.nan
    from arch.bootstrap import SPA

    beyond = np.stack(differ, 1) - benchmark[:, None]
    block = max(block_length(x) for x in beyond.T)
    # arch 8.0 takes `studentize` and does not use it, so the differences come in units of their errors. The column of zeros is
    # the 0 of Hansen's statistic max(0, t₁, t₂, …), which arch leaves out.
    resampled = counts(len(beyond), block).astype(np.float64) @ beyond / len(beyond)
    zero = np.zeros_like(benchmark)
    losses = -np.column_stack([beyond / resampled.std(0), zero])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = SPA(zero, losses, block_size=block, reps=_RESAMPLES, seed=_SEED)
        test.compute()
    return float(test.pvalues["consistent"])


def model_confidence_set(growth: NDArray[np.float64], names: Sequence[str], size: float = 0.1) -> list[str] | None:
    """Strategies that cannot be told from the best at a level of 1 − size; None if not available.

    Hansen, Lunde and Nason (2011), "The model confidence set", computed by arch.

    Args:
        growth: log growth per session, [T, K].
        names: of the K strategies. One that equals an earlier one to rounding shares its fate.
        size: of the test.
    """
    first: dict[int, int] = {}
    for k in range(growth.shape[1]):
        first[k] = next((j for j in range(k) if not varies(growth[:, k] - growth[:, j])), k)
    distinct = sorted(set(first.values()))
    if len(distinct) < 2 or not usable(*(growth[:, k] for k in distinct)):
        return None
    from arch.bootstrap import MCS

    losses = -growth[:, distinct]
    block = max(block_length(losses[:, k] - losses.mean(1)) for k in range(len(distinct)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = MCS(losses, size=size, reps=_RESAMPLES, block_size=block, seed=_SEED)
        test.compute()
    kept = {column for k, column in enumerate(distinct) if k in set(test.included)}
    return [name for k, name in enumerate(names) if first[k] in kept]


def probability_of_overfitting(excess: NDArray[np.float64]) -> float:
    """How often the strategy with the best Sharpe ratio in one half of the sessions is below the median in the other.

    Bailey, Borwein, López de Prado and Zhu (2017), "The probability of backtest overfitting", by combinatorially symmetric
    cross-validation over 10 blocks (252 splits), computed by purgedcv.

    Args:
        excess: simple returns in excess of cash per session, [T, K]. Strategies that do not vary are left out.

    Returns:
        NaN with fewer than two strategies, or fewer than 10 sessions per block.
    """
    kept = [excess[:, k] for k in range(excess.shape[1]) if np.isfinite(excess[:, k]).all() and varies(excess[:, k])]
    if len(kept) < 2 or len(excess) < _BLOCKS * _FEWEST_PER_BLOCK:
        return math.nan
    from purgedcv import probability_of_backtest_overfitting

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(probability_of_backtest_overfitting(np.stack(kept), n_splits=_BLOCKS).pbo)
