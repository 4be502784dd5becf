"""The figures of one iteration, computed on the device and read once."""

import torch
from torch import Tensor

from tactician.learning import Rollout
from tactician.portfolio.frictions import COMPONENTS

_YEAR = 252


def rollout_metrics(rollout: Rollout, valid: Tensor | None, regime_names: tuple[str, ...]) -> dict[str, Tensor]:
    """Trading figures of a rollout as scalar tensors; docs/learning.md is their glossary."""
    weight = torch.ones_like(rollout.rewards) if valid is None else valid.to(rollout.rewards.dtype)
    total = weight.sum()
    closed = weight * rollout.trade_closed
    trades = closed.sum()
    per_trade = trades.clamp(min=1)
    use = torch.zeros(len(regime_names), device=weight.device)
    use.index_add_(0, rollout.actions.flatten(), weight.flatten())
    mean_reward = (rollout.rewards * weight).sum() / total
    mean_cost = (rollout.costs * weight[..., None]).sum((0, 1)) / total
    return {
        "reward": mean_reward,
        "log_growth_annual": mean_reward / 100 * _YEAR,
        "trades": trades,
        "winning_trades": (closed * (rollout.trade_return > 0)).sum(),
        "win_rate": (closed * (rollout.trade_return > 0)).sum() / per_trade,
        "trade_return": (closed * rollout.trade_return).sum() / per_trade,
        "turnover_daily": (rollout.turnover * weight).sum() / total,
        "cost_annual": mean_cost.sum() * _YEAR,
        **{f"cost_{name}_annual": mean_cost[k] * _YEAR for k, name in enumerate(COMPONENTS)},
        **{f"use_{name}": use[k] / total for k, name in enumerate(regime_names)},
    }


def read_once(figures: dict[str, Tensor]) -> dict[str, float]:
    """Gather scalar tensors in one vector and bring it to the host: the iteration's only synchronisation."""
    device = next(iter(figures.values())).device
    vector = torch.stack([value.to(device, torch.float64) for value in figures.values()])
    return dict(zip(figures, vector.tolist(), strict=True))
