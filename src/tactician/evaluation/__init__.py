"""Judging a policy or a path of weights."""

from tactician.evaluation.agent import Evaluation, NotFinite, PolicyNotFinite, act, evaluate
from tactician.evaluation.backtest import Path, action_targets, backtest, baseline_targets
from tactician.evaluation.statistics import Performance, difference, performance, return_difference
from tactician.evaluation.table import performance_table

__all__ = [
    "Evaluation",
    "NotFinite",
    "Path",
    "Performance",
    "PolicyNotFinite",
    "act",
    "action_targets",
    "backtest",
    "baseline_targets",
    "difference",
    "evaluate",
    "performance",
    "performance_table",
    "return_difference",
]
