"""Baselines: strategies without learning that the agent is compared with, through the same ledger.

docs/baselines.md lists them.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.evaluation.available import NotAvailable
from tactician.evaluation.question import Baseline, Question, Targets
from tactician.evaluation.rivals_estimated import (
    Estimated,
    Estimator,
    hierarchical_risk_parity,
    inverse_volatility,
    maximum_sharpe,
    minimum_variance,
)
from tactician.evaluation.rivals_hindsight import hindsight
from tactician.evaluation.rivals_regime import PREFIX, best_constant, constant_label, constant_regimes, random_regimes
from tactician.evaluation.rivals_rules import downside_volatility_target, time_series_momentum
from tactician.evaluation.rivals_simple import (
    buy_and_hold,
    cash,
    equal_weight,
    equal_weight_banded,
    equal_weight_monthly,
)

AGENT = "agent"
"""Name of the agent's strategy, the first of every path."""

EQUAL_WEIGHT = "equal_weight"
"""The baseline that verdicts compare the agent with."""


def _estimated(label: str, estimator: Estimator, may_leave: bool = False) -> Baseline:
    return Baseline(label, Estimated(label, estimator, may_leave), "classical")


BASELINES: dict[str, Baseline] = {
    EQUAL_WEIGHT: Baseline("Equal weight", equal_weight, always=True),
    "cash": Baseline("Cash", cash, always=True),
    "buy_and_hold": Baseline("Buy and hold", buy_and_hold, always=True),
    "equal_weight_monthly": Baseline("Equal weight, monthly", equal_weight_monthly),
    "equal_weight_banded": Baseline("Equal weight, banded", equal_weight_banded),
    "best_constant": Baseline("Best constant regime", best_constant, "regime"),
    "random_regimes": Baseline("Random regimes", random_regimes, "agent's own"),
    "inverse_volatility": _estimated("Inverse volatility", inverse_volatility),
    "minimum_variance": _estimated("Minimum variance", minimum_variance),
    "hierarchical_risk_parity": _estimated("Hierarchical risk parity", hierarchical_risk_parity),
    "maximum_sharpe": _estimated("Maximum Sharpe ratio", maximum_sharpe, may_leave=True),
    "time_series_momentum": Baseline("12-month momentum", time_series_momentum, "classical"),
    "downside_volatility_target": Baseline("Downside-volatility target", downside_volatility_target, "classical"),
    "hindsight": Baseline("Best path in hindsight", hindsight, "hindsight"),
}
"""By name, in the order in which results list them. `baselines_of` adds the constant regimes."""


def always() -> dict[str, Baseline]:
    """The cheap baselines that every validation and every printed table has."""
    return {name: baseline for name, baseline in BASELINES.items() if baseline.always}


def baselines_of(market: MarketTensors) -> dict[str, Baseline]:
    """All baselines in their order, with one per regime of the market's table before the other regimes."""
    simple = {name: baseline for name, baseline in BASELINES.items() if baseline.group == "simple"}
    return {**simple, **constant_regimes(market), **BASELINES}


def answers(question: Question, baselines: Mapping[str, Baseline]) -> tuple[dict[str, Targets], dict[str, str]]:
    """Ask baselines.

    Returns:
        Targets by name, and for every baseline that is not available its reason.
    """
    targets: dict[str, Targets] = {}
    missing: dict[str, str] = {}
    for name, baseline in baselines.items():
        try:
            targets[name] = baseline.targets(question)
        except NotAvailable as refusal:
            missing[name] = refusal.reason
    return targets, missing


def baseline_targets(
    question: Question, baselines: Mapping[str, Baseline] | None = None
) -> tuple[tuple[str, ...], Float[Tensor, "step strategy asset+1"], Bool[Tensor, "step strategy"]]:
    """Target weights of the baselines that are available, by default of those that are `always` there.

    Returns:
        Their names, target weights and hold flags, for `backtest`.
    """
    targets, _ = answers(question, always() if baselines is None else baselines)
    weights, hold = (torch.stack(parts, dim=1) for parts in zip(*targets.values(), strict=True))
    return tuple(targets), weights, hold


def label_of(strategy: str) -> str:
    """A strategy's name in tables."""
    if strategy.startswith(PREFIX):
        return constant_label(strategy.removeprefix(PREFIX))
    return "Agent" if strategy == AGENT else BASELINES[strategy].label
