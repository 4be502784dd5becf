"""Is a Sharpe ratio more than luck? The probabilistic Sharpe ratio, and the one that is deflated by the number of trials."""

import math
from collections.abc import Sequence

import numpy as np

from tactician.evaluation.inference.resampling import Series, usable, varies


def probabilistic_sharpe(excess: Series, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark; NaN if not available.

    Φ((S − S*)·√(T − 1)/√(1 − skew·S + (kurtosis − 1)/4·S²)): Bailey and López de Prado (2012), "The Sharpe ratio efficient
    frontier", computed by skfolio.

    Args:
        excess: simple returns in excess of cash per session, of shape [T].
        benchmark: Sharpe ratio per session.
    """
    if not usable(excess) or not varies(excess):
        return math.nan
    from skfolio.measures import probabilistic_sharpe_ratio

    return float(probabilistic_sharpe_ratio(excess, benchmark_sharpe_ratio=benchmark))


def deflated_sharpe(excess: Series, n_trials: int | None, trial_sharpes: Sequence[float]) -> float:
    """Probability that the true Sharpe ratio exceeds the best one that as many trials without skill would show.

    `probabilistic_sharpe` against E[max] = σ·((1 − γ)·Φ⁻¹(1 − 1/N) + γ·Φ⁻¹(1 − 1/(N·e))), with σ the standard deviation of the
    trials' Sharpe ratios and γ Euler's constant: Bailey and López de Prado (2014), "The deflated Sharpe ratio", computed by
    skfolio.

    Args:
        excess: simple returns in excess of cash per session, of shape [T].
        n_trials: trials in all, this one included; None if not known.
        trial_sharpes: Sharpe ratios per session of those trials that have one.

    Returns:
        NaN if the number is not known, or if there are several trials and fewer than two Sharpe ratios.
    """
    if n_trials is None or n_trials < 1:
        return math.nan
    if n_trials == 1:
        return probabilistic_sharpe(excess)
    known = np.asarray(trial_sharpes, dtype=float)
    if len(known) < 2 or not np.isfinite(known).all():
        return math.nan
    from skfolio.measures import expected_max_sharpe_ratio

    best = expected_max_sharpe_ratio(n_trials=n_trials, trial_sharpe_ratio_std=float(known.std(ddof=1)))
    return probabilistic_sharpe(excess, float(best))
