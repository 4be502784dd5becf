"""Judging a policy or a path of weights."""

from tactician.evaluation.agent import Evaluation, act, evaluate
from tactician.evaluation.backtest import (
    Path,
    Performance,
    action_targets,
    backtest,
    baseline_targets,
    difference,
    performance,
)

__all__ = [
    "Evaluation",
    "Path",
    "Performance",
    "act",
    "action_targets",
    "backtest",
    "baseline_targets",
    "difference",
    "evaluate",
    "performance",
]
