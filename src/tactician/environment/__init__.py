"""What the agent sees and does: market tensors, observation, state and step."""

from tactician.environment.cache import cache_key, load_cached_market, load_market, save_market
from tactician.environment.environment import (
    FULL_CASH,
    HOLD,
    PER_WINDOW,
    Environment,
    EnvState,
    Outcome,
    first_state,
    narrow,
    portfolio_index,
    restart_finished,
    step,
)
from tactician.environment.features import FEATURE_NAMES, FEATURE_VERSION
from tactician.environment.market_tensors import MarketTensors, build_market_tensors
from tactician.environment.noise import Stream, permutation, uniform
from tactician.environment.observation import (
    MAX_REGIMES,
    OBS_DIM,
    OBSERVATION_NAMES,
    PORTFOLIO_NAMES,
    assemble,
    feature_range,
    fit_normaliser,
    normalise,
    observe,
    observe_portfolio,
    observed_day,
)
from tactician.environment.ranges import LOOK_BACK, InnerFold, inner_folds, split_rows
from tactician.environment.training_days import OLDER, Distance, Names, RangeDistance, TrainingDays

__all__ = [
    "FEATURE_NAMES",
    "FEATURE_VERSION",
    "FULL_CASH",
    "HOLD",
    "LOOK_BACK",
    "MAX_REGIMES",
    "OBSERVATION_NAMES",
    "OBS_DIM",
    "OLDER",
    "PER_WINDOW",
    "PORTFOLIO_NAMES",
    "Distance",
    "EnvState",
    "Environment",
    "InnerFold",
    "MarketTensors",
    "Names",
    "Outcome",
    "RangeDistance",
    "Stream",
    "TrainingDays",
    "assemble",
    "build_market_tensors",
    "cache_key",
    "feature_range",
    "first_state",
    "fit_normaliser",
    "inner_folds",
    "load_cached_market",
    "load_market",
    "narrow",
    "normalise",
    "observe",
    "observe_portfolio",
    "observed_day",
    "permutation",
    "portfolio_index",
    "restart_finished",
    "save_market",
    "split_rows",
    "step",
    "uniform",
]
