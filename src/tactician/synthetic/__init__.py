"""Synthetic markets with a known best policy, as MarketTensors, and their optima."""

from tactician.synthetic.markets import (
    PREDICTABLE,
    PROBLEMS,
    PredictableLaw,
    observable_regime,
    threshold_cost,
)
from tactician.synthetic.problem import Choose, Played, Problem, best_constant, constant, play

__all__ = [
    "PREDICTABLE",
    "PROBLEMS",
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
