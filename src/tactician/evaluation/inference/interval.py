"""Confidence intervals of a path's figures, from the stationary bootstrap.

All are studentised (bootstrap-t): the error of a resample is measured in its own standard error. Percentile intervals are too
short for heavy tails and short samples; docs/statistics.md has the table. A standard error is that of the statistic's
influence function ψ over independent sessions, std(ψ)/√T. What blocks of dependent sessions do to it is in the distribution of
the resampled errors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tactician.evaluation.inference.resampling import Series, block_length, counts, usable, varies

LEVEL = 0.95

_NORMAL_975, _NORMAL_80 = 1.959963984540054, 0.8416212335729143


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; NaN if it is not available."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """The interval of a positive multiple."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)


NOT_AVAILABLE = Interval(math.nan, math.nan, math.nan)

Moments = NDArray[np.float64]
Statistic = Callable[[Moments], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""A statistic and the variance of its ψ, from moments in the last dimension."""


def growth_difference(mine: Series, theirs: Series, per_year: int) -> Interval:
    """Annual log growth of one path beyond another's, from paired sessions.

    Args:
        mine: log growth per session, of shape [T].
        theirs: of the same sessions.
        per_year: sessions per year.
    """
    if not usable(mine, theirs):
        return NOT_AVAILABLE
    gap = mine - theirs
    if not varies(gap):  # such as that of equal weight beside itself: there is nothing that chance could change
        return Interval(*(3 * (float(gap.mean()) * per_year,)))
    return _studentised(_powers(gap, 2), _mean, block_length(gap)).scaled(per_year)


def return_difference(mine: Series, theirs: Series, per_year: int) -> Interval:
    """Annual return of one path beyond another's: exp(a) − exp(b) = L·(a − b) with annual log growths a and b.

    L is the logarithmic mean of the two annual wealths (Carlson 1972, "The logarithmic mean"). It is taken as known: its
    error is that of the market's level, which both share. So the interval excludes zero exactly if that of a − b does.

    Args:
        mine: log growth per session, of shape [T].
        theirs: of the same sessions.
        per_year: sessions per year.
    """
    gap = growth_difference(mine, theirs, per_year)
    if not math.isfinite(gap.value):
        return NOT_AVAILABLE
    found = gap.scaled(logarithmic_mean(mine, theirs, per_year))
    return found if all(map(math.isfinite, (found.value, found.low, found.high))) else NOT_AVAILABLE


def sharpe_interval(excess: Series, per_year: int) -> Interval:
    """Annual Sharpe ratio, m/s of the returns in excess of cash times √(sessions per year).

    Its ψ is z − S·(z² − 1)/2 with z the standardised return (Mertens 2002; Lo 2002 for normal returns).

    Args:
        excess: simple returns in excess of cash per session, of shape [T].
        per_year: sessions per year.
    """
    if not usable(excess) or not varies(excess):
        return NOT_AVAILABLE
    return _studentised(_powers(_in_unit(excess), 4), _sharpe, block_length(excess)).scaled(_per_year(excess, per_year))


def sharpe_difference(mine: Series, theirs: Series, per_year: int) -> Interval:
    """Annual Sharpe ratio of one path beyond another's, from paired sessions.

    Ledoit and Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio", with the variance of ψ over sessions
    and the stationary bootstrap.

    Args:
        mine: simple returns in excess of cash per session, of shape [T].
        theirs: of the same sessions.
        per_year: sessions per year.
    """
    if not usable(mine, theirs) or not varies(mine) or not varies(theirs):
        return NOT_AVAILABLE
    if not varies(mine - theirs):
        return Interval(0.0, 0.0, 0.0)
    moments = _cross_powers(_in_unit(mine), _in_unit(theirs))
    return _studentised(moments, _sharpe_gap, block_length(mine - theirs)).scaled(_per_year(mine, per_year))


def minimum_detectable_return_difference(mine: Series, theirs: Series, per_year: int) -> float:
    """The smallest true difference of annual returns that these sessions would show in 80 % of samples, at a level of 5 %.

    (z₀.₉₇₅ + z₀.₈)·s.e. with the bootstrap's standard error of the paired difference. Arguments as for `return_difference`.
    """
    if not usable(mine, theirs) or not varies(mine - theirs):
        return math.nan
    gap = mine - theirs
    error = _error(_powers(gap, 2), _mean, block_length(gap)) * per_year
    return (_NORMAL_975 + _NORMAL_80) * error * logarithmic_mean(mine, theirs, per_year)


def minimum_detectable_sharpe_difference(mine: Series, theirs: Series, per_year: int) -> float:
    """The smallest true difference of annual Sharpe ratios that these sessions would show in 80 % of samples.

    See `minimum_detectable_return_difference`; arguments as for `sharpe_difference`.
    """
    if not usable(mine, theirs) or not (varies(mine) and varies(theirs) and varies(mine - theirs)):
        return math.nan
    moments = _cross_powers(_in_unit(mine), _in_unit(theirs))
    error = _error(moments, _sharpe_gap, block_length(mine - theirs)) * _per_year(mine, per_year)
    return (_NORMAL_975 + _NORMAL_80) * error


def _studentised(terms: Moments, statistic: Statistic, block: int) -> Interval:
    """Bootstrap-t: θ − t₀.₉₇₅·s.e. to θ − t₀.₀₂₅·s.e. with t = (θ* − θ)/s.e.* over resamples.

    Efron and Tibshirani (1993), "An introduction to the bootstrap", §12.5.
    """
    n = len(terms)
    value, variance = (float(x) for x in statistic(terms.mean(0)))
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample that does not vary has no ratio
        again, variances = statistic(counts(n, block).astype(np.float64) @ terms / n)
    kept = _kept(variances, variance)
    if kept is None:
        return NOT_AVAILABLE
    error = math.sqrt(max(variance, 0.0) / n)
    t = (again[kept] - value) / np.sqrt(variances[kept] / n)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(t, [tail, 1 - tail])
    found = Interval(value, value - float(high) * error, value - float(low) * error)
    return found if all(map(math.isfinite, (found.low, found.high))) else NOT_AVAILABLE


def _per_year(x: Series, per_year: int) -> float:
    """√(sessions per year), with the deviation's n − 1 in place of n, so that all reports of a ratio agree."""
    return math.sqrt(per_year * (1 - 1 / len(x)))


def _kept(variances: NDArray[np.float64], variance: float) -> NDArray[np.bool_] | None:
    """The resamples that have an error; None if all that varies is in so few sessions that resamples miss them."""
    kept = variances > 1e-12 * max(variance, 1e-300)  # a resample of a single session has no error
    return None if 1 - kept.mean() > (1 - LEVEL) / 2 else kept


def _error(terms: Moments, statistic: Statistic, block: int) -> float:
    """Standard error of a statistic over resamples; NaN if too many of them do not vary (see `_studentised`)."""
    _, variance = statistic(terms.mean(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        again, variances = statistic(counts(len(terms), block).astype(np.float64) @ terms / len(terms))
    kept = _kept(variances, float(variance))
    return math.nan if kept is None else float(np.std(again[kept]))


def _powers(x: Series, largest: int) -> Moments:
    return np.stack([x**k for k in range(1, largest + 1)], -1)


def _mean(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    m = moments[..., 0]
    return m, moments[..., 1] - m**2


def _sharpe(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """m/s, and 1 − S·skew + S²·(kurtosis − 1)/4."""
    m, square, cube, fourth = (moments[..., k] for k in range(4))
    s = np.sqrt(np.maximum(square - m**2, 1e-300))
    skew = (cube - 3 * m * square + 2 * m**3) / s**3
    kurtosis = (fourth - 4 * m * cube + 6 * m**2 * square - 3 * m**4) / s**4
    sharpe = m / s
    return sharpe, 1 - sharpe * skew + sharpe**2 * (kurtosis - 1) / 4


_PAIRS = ((1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (3, 0), (2, 1), (1, 2), (0, 3), (4, 0), (2, 2), (0, 4))
"""Powers (i, j) of the terms aⁱ·bʲ."""


def _cross_powers(a: Series, b: Series) -> Moments:
    return np.stack([a**i * b**j for i, j in _PAIRS], -1)


def _sharpe_gap(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """S_a − S_b, and ∇ᵀ Cov ∇ over v = (a, b, a², b²), as Ledoit and Wolf (2008, §3.1) have it."""
    at = {pair: moments[..., k] for k, pair in enumerate(_PAIRS)}
    order = ((1, 0), (0, 1), (2, 0), (0, 2))
    spread_a = np.maximum(at[2, 0] - at[1, 0] ** 2, 1e-300)
    spread_b = np.maximum(at[0, 2] - at[0, 1] ** 2, 1e-300)
    slope = (
        at[2, 0] / spread_a**1.5,
        -at[0, 2] / spread_b**1.5,
        -at[1, 0] / (2 * spread_a**1.5),
        at[0, 1] / (2 * spread_b**1.5),
    )
    variance = sum(
        slope[p] * slope[q] * (at[i + k, j + m] - at[i, j] * at[k, m])
        for p, (i, j) in enumerate(order)
        for q, (k, m) in enumerate(order)
    )
    return at[1, 0] / np.sqrt(spread_a) - at[0, 1] / np.sqrt(spread_b), np.asarray(variance)


def _in_unit(x: Series) -> Series:
    """The series in units of its standard deviation, which no Sharpe ratio depends on, so that moments do not cancel."""
    return x / x.std()


def logarithmic_mean(mine: Series, theirs: Series, per_year: int) -> float:
    """(A − B)/(ln A − ln B) of the annual wealths A and B."""
    a, b = float(mine.mean()) * per_year, float(theirs.mean()) * per_year
    try:
        # If the two are nearly equal, the quotient would be rounding error, so L is their mean.
        return (math.expm1(a) - math.expm1(b)) / (a - b) if abs(a - b) > 1e-6 else (math.exp(a) + math.exp(b)) / 2
    except OverflowError:  # wealth beyond the largest float
        return math.nan
