"""Baselines: strategies without learning that the agent is compared with, through the same ledger."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.portfolio.regimes import FactorTilt

AGENT = "agent"
"""Name of the agent's strategy, the first of every path."""

EQUAL_WEIGHT = "equal_weight"
"""The baseline that verdicts compare the agent with."""

Targets = tuple[Float[Tensor, "step asset+1"], Bool[Tensor, " step"]]
"""Weights to trade to at each row's close, cash last, and the rows in which nothing is traded."""


@dataclass(frozen=True)
class Baseline:
    """A strategy that depends on the market alone."""

    label: str
    """Its name in tables."""
    targets: Callable[[MarketTensors, range], Targets]
    """Computes its target weights over a range of rows, float64."""


def _every_session(market: MarketTensors, rows: range) -> Targets:
    """Equal weight, rebalanced in every session."""
    days = slice(rows.start, rows.stop)
    # The same rule and precision as the regime EQUAL_WEIGHT in `action_targets`, so the paths agree to the last bit.
    risky = FactorTilt().weights(market.factor_ranks[days].double(), market.tradable[days])
    weights = torch.cat([risky, (risky.sum(-1, keepdim=True) == 0).double()], -1)
    return weights, torch.zeros(len(rows), dtype=torch.bool, device=market.device)


def _cash(market: MarketTensors, rows: range) -> Targets:
    weights, hold = _every_session(market, rows)
    cash = torch.zeros_like(weights)
    cash[:, -1] = 1
    return cash, hold


def _once(market: MarketTensors, rows: range) -> Targets:
    """Equal weight, bought in the first session."""
    weights, hold = _every_session(market, rows)
    hold[1:] = True
    return weights, hold


BASELINES: dict[str, Baseline] = {
    EQUAL_WEIGHT: Baseline("Equal weight", _every_session),
    "cash": Baseline("Cash", _cash),
    "buy_and_hold": Baseline("Buy and hold", _once),
}
"""By name, in the order in which results list them."""


def baseline_targets(
    market: MarketTensors, rows: range
) -> tuple[tuple[str, ...], Float[Tensor, "step strategy asset+1"], Bool[Tensor, "step strategy"]]:
    """Target weights of all baselines over a range of rows.

    Returns:
        Their names, target weights and hold flags, for `backtest`.
    """
    paths = [baseline.targets(market, rows) for baseline in BASELINES.values()]
    targets, hold = (torch.stack(parts, dim=1) for parts in zip(*paths, strict=True))
    return tuple(BASELINES), targets, hold


def label_of(strategy: str) -> str:
    """A strategy's name in tables."""
    return "Agent" if strategy == AGENT else BASELINES[strategy].label
