"""Metrics of one iteration, computed on the device and read once."""

import torch
from jaxtyping import Bool
from torch import Tensor

from tactician.learning import Collective, Rollout
from tactician.portfolio.frictions import COMPONENTS


def rollout_metrics(
    rollout: Rollout,
    valid: Bool[Tensor, "step env"] | None,
    regime_names: tuple[str, ...],
    collective: Collective,
) -> dict[str, Tensor]:
    """Trading figures of a rollout, over all processes, as scalar tensors. docs/learning.md has their glossary.

    Without a closed trade, win rate and trade return are NaN (not available).
    """
    per_year = rollout.market.sessions_per_year
    weight = torch.ones_like(rollout.rewards) if valid is None else valid.to(rollout.rewards.dtype)
    closed = weight * rollout.trade_closed
    use = torch.zeros(len(regime_names), device=weight.device)
    use.index_add_(0, rollout.actions.flatten(), weight.flatten())
    sums = {
        "samples": weight.sum(),
        "reward": (rollout.rewards * weight).sum(),
        "turnover": (rollout.turnover * weight).sum(),
        "trades": closed.sum(),
        "wins": (closed * (rollout.trade_return > 0)).sum(),
        "trade_return": (closed * rollout.trade_return).sum(),
    }
    costs = (rollout.costs * weight[..., None]).sum((0, 1))
    vector = collective.add_up(torch.cat([torch.stack(list(sums.values())), costs, use]).double())
    total = dict(zip(sums, vector, strict=False))
    costs, use = vector[len(sums) :].split([len(COMPONENTS), len(regime_names)])
    mean_cost = costs / total["samples"] * per_year
    mean_reward = total["reward"] / total["samples"]
    return {
        "reward": mean_reward,
        "log_growth_annual": mean_reward / 100 * per_year,
        "trades": total["trades"],
        "winning_trades": total["wins"],
        "win_rate": total["wins"] / total["trades"],
        "trade_return": total["trade_return"] / total["trades"],
        "turnover_daily": total["turnover"] / total["samples"],
        "cost_annual": mean_cost.sum(),
        **{f"cost_{name}_annual": mean_cost[k] for k, name in enumerate(COMPONENTS)},
        **{f"use_{name}": use[k] / total["samples"] for k, name in enumerate(regime_names)},
    }


def read_once(figures: dict[str, Tensor]) -> dict[str, float]:
    """Gather scalar tensors in one vector and copy it to the host: the only synchronisation of an iteration."""
    device = next(iter(figures.values())).device
    vector = torch.stack([value.to(device, torch.float64) for value in figures.values()])
    return dict(zip(figures, vector.tolist(), strict=True))
