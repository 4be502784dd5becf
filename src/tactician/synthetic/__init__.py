"""Synthetic markets with a known best policy, as MarketTensors, and their optima."""

from tactician.synthetic.markets import (
    ALL_PROBLEMS,
    N_TRAIN,
    PREDICTABLE,
    PROBLEMS,
    PredictableLaw,
    observable_regime,
    threshold_cost,
)
from tactician.synthetic.problem import WARM_UP, Choose, Played, Problem, best_constant, constant, play

__all__ = [
    "ALL_PROBLEMS",
    "N_TRAIN",
    "PREDICTABLE",
    "PROBLEMS",
    "WARM_UP",
    "Choose",
    "Played",
    "PredictableLaw",
    "Problem",
    "best_constant",
    "constant",
    "observable_regime",
    "play",
    "threshold_cost",
]
