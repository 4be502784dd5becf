"""Evaluation of a policy or of a path of weights, beside baselines."""

from tactician.evaluation.abstention import Found, HeldOut, found_from, hold_equal_weight, on_held_out_days, weigh
from tactician.evaluation.agent import Evaluation, NotFinite, PolicyNotFinite, beyond, evaluate, reservations
from tactician.evaluation.available import NotAvailable
from tactician.evaluation.backtest import Path, action_targets, backtest
from tactician.evaluation.baselines import (
    AGENT,
    BASELINES,
    EQUAL_WEIGHT,
    answers,
    baseline_targets,
    baselines_of,
    label_of,
)
from tactician.evaluation.document import document
from tactician.evaluation.judge import Judged, Turn, judge
from tactician.evaluation.question import Baseline, Piece, Question, Targets
from tactician.evaluation.rivals_regime import best_constants
from tactician.evaluation.statistics import (
    STATISTICS,
    Column,
    Performance,
    Statistic,
    difference,
    performance,
    return_difference,
)
from tactician.evaluation.table import performance_table

__all__ = [
    "AGENT",
    "BASELINES",
    "EQUAL_WEIGHT",
    "STATISTICS",
    "Baseline",
    "Column",
    "Evaluation",
    "Found",
    "HeldOut",
    "Judged",
    "NotAvailable",
    "NotFinite",
    "Path",
    "Performance",
    "Piece",
    "PolicyNotFinite",
    "Question",
    "Statistic",
    "Targets",
    "Turn",
    "action_targets",
    "answers",
    "backtest",
    "baseline_targets",
    "baselines_of",
    "best_constants",
    "beyond",
    "difference",
    "document",
    "evaluate",
    "found_from",
    "hold_equal_weight",
    "judge",
    "label_of",
    "on_held_out_days",
    "performance",
    "performance_table",
    "reservations",
    "return_difference",
    "weigh",
]
