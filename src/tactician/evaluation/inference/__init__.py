"""Inference: what of a result is luck. Pure functions on values per session; NaN is "not available".

Each statistic comes from its library, or is tested against another implementation or a published number.
docs/statistics.md says what each one means.
"""

from tactician.evaluation.inference.interval import (
    NOT_AVAILABLE,
    Interval,
    growth_difference,
    minimum_detectable_return_difference,
    minimum_detectable_sharpe_difference,
    return_difference,
    sharpe_difference,
    sharpe_interval,
)
from tactician.evaluation.inference.many import (
    model_confidence_set,
    probability_of_overfitting,
    superior_predictive_ability,
)
from tactician.evaluation.inference.regression import Regression, alpha_beta
from tactician.evaluation.inference.resampling import FEWEST
from tactician.evaluation.inference.skill import deflated_sharpe, probabilistic_sharpe
from tactician.evaluation.inference.timing import block_permutations, permutation_p_value

__all__ = [
    "FEWEST",
    "NOT_AVAILABLE",
    "Interval",
    "Regression",
    "alpha_beta",
    "block_permutations",
    "deflated_sharpe",
    "growth_difference",
    "minimum_detectable_return_difference",
    "minimum_detectable_sharpe_difference",
    "model_confidence_set",
    "permutation_p_value",
    "probabilistic_sharpe",
    "probability_of_overfitting",
    "return_difference",
    "sharpe_difference",
    "sharpe_interval",
    "superior_predictive_ability",
]
