"""The ledger: holdings in currency, trades that pay their costs, and growth.

One session in three lines, as in Boyd et al. (2017), "Multi-Period Trading via Convex Optimization", §2:
``h⁺ = h + u``; costs leave cash; everything, cash included, is multiplied by one plus its return. Holdings ``h`` are
``[..., asset + 1]`` in currency with cash in the last column. The functions are pure, broadcast over the leading
dimensions and work in the dtype they are given.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.portfolio.frictions import CostRates, Frictions, component_costs, cost_rates

_MAX_SLOPE = 0.5
"""Bound on d cost / d V⁺. Costs of 1 % have slopes near 0.01; a larger estimate than this is rounding noise."""


@dataclass(frozen=True)
class Trade:
    """The outcome of one rebalance."""

    holdings: Float[Tensor, "*batch asset_and_cash"]
    """Currency, after the trade and its costs."""
    costs: Float[Tensor, "*batch 4"]
    """Currency, by component (:data:`~tactician.portfolio.frictions.COMPONENTS`)."""
    traded: Float[Tensor, "*batch asset"]
    """Absolute traded value by risky asset, in currency."""
    turnover: Float[Tensor, "*batch"]
    """Buys plus sells of risky assets, from drifted holdings, as a fraction of the value before the trade."""


def rebalance(
    holdings: Float[Tensor, "*batch asset_and_cash"],
    target_weights: Float[Tensor, "*#batch asset_and_cash"],
    frictions: Frictions,
    *,
    hold: Bool[Tensor, "*batch"] | None = None,
    slippage: Float[Tensor, "*batch asset"] | None = None,
    vol_daily: Float[Tensor, "*#batch asset"] | None = None,
    adv: Float[Tensor, "*#batch asset"] | None = None,
    iterations: int = 5,
) -> Trade:
    """Trade to target weights so that they hold exactly *after* the costs of getting there.

    Solves ``V⁺ = V − cost(|V⁺·w − h|)``, with impact relative to the value V before the trade, buys and sells the
    difference ``V⁺·w − h``, and leaves in cash exactly what remains: ``V − Σ costs − Σ risky``. Cash is never
    negative: a fully invested target is missed by some units of rounding instead, which stay in cash.

    Args:
        holdings: currency before the trade, cash last, all non-negative.
        target_weights: non-negative, each row sums to 1.
        frictions: what trading costs.
        hold: portfolios that do not trade; their holdings come back bit for bit and their targets are ignored.
        slippage: drawn slippage as a fraction of the traded value; without it the mean.
        vol_daily: daily volatility σ, for ``impact_adv``.
        adv: average daily traded value, for ``impact_adv``.
        iterations: evaluations of the cost while solving; five reach double precision, three single precision.

    Raises:
        ValueError: ``impact_adv`` is on and σ or ADV is missing.
    """
    value = holdings.sum(-1)
    rates = cost_rates(value, frictions, slippage, vol_daily, adv)
    before, weights = holdings[..., :-1], target_weights[..., :-1]
    value_after = _value_after_cost(value, before, weights, rates, iterations)
    risky = value_after.unsqueeze(-1) * weights
    if hold is not None:
        risky = torch.where(hold.unsqueeze(-1), before, risky)
    traded = (risky - before).abs()
    costs = component_costs(traded, frictions, rates)
    cash = value - costs.sum(-1) - risky.sum(-1)
    if hold is not None:
        cash = torch.where(hold, holdings[..., -1], cash)
    turnover = traded.sum(-1) / value.clamp_min(torch.finfo(value.dtype).tiny)
    return Trade(torch.cat([risky, cash.unsqueeze(-1)], dim=-1), costs, traded, turnover)


def _value_after_cost(
    value: Float[Tensor, "*batch"],
    before: Float[Tensor, "*batch asset"],
    weights: Float[Tensor, "*batch asset"],
    rates: CostRates,
    iterations: int,
) -> Float[Tensor, "*batch"]:
    """Solve ``v = g(v)`` with ``g(v) = V − cost(|v·w − h|)``, then step down where cash would not be positive.

    The plain iteration v ← g(v) contracts by the slope g', about 0.01. Dividing the residual by 1 − g', with g' from
    the last two evaluations (the secant method), converges faster at no further evaluation of the cost.
    """

    def left(after: Tensor) -> Tensor:
        return value - rates.total((after.unsqueeze(-1) * weights - before).abs())

    tiny = torch.finfo(value.dtype).tiny
    after, result, slope = value, left(value), torch.zeros_like(value)
    for _ in range(iterations - 1):
        next_after = after + (result - after) / (1 - slope)
        next_result = left(next_after)
        slope = ((next_result - result) / (next_after - after + tiny)).clamp(-_MAX_SLOPE, _MAX_SLOPE)
        after, result = next_after, next_result
    # What rounding can move: each of A terms by eps/2 of V, twice (here and in the caller's own sums).
    noise = (weights.shape[-1] + 8) * torch.finfo(value.dtype).eps * value
    cash = result - after * weights.sum(-1)
    # Lowering v by d adds at least (1 − MAX_SLOPE)·d to cash wherever the target is (nearly) fully invested.
    return after - 2 * (noise - cash).clamp_min(0.0)


def grow(
    holdings: Float[Tensor, "*batch asset_and_cash"],
    returns: Float[Tensor, "*#batch asset"],
    cash_return: Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch asset_and_cash"]:
    """Holdings one session later: every asset and cash times one plus its simple return of the session."""
    growth = torch.cat([returns, cash_return.unsqueeze(-1).expand(*returns.shape[:-1], 1)], dim=-1)
    return holdings * (1 + growth)


def move_cost(
    holdings: Float[Tensor, "*batch asset_and_cash"],
    targets: Float[Tensor, "*#batch regime asset_and_cash"],
    frictions: Frictions,
    *,
    hold: Bool[Tensor, " regime"] | None = None,
    vol_daily: Float[Tensor, "*#batch asset"] | None = None,
    adv: Float[Tensor, "*#batch asset"] | None = None,
) -> Float[Tensor, "*batch regime"]:
    """What it would cost to move to each target, as a fraction of the portfolio's value.

    A first-order estimate (trades of ``|V·w − h|``, without the fixed point) at the expected slippage: exact to about
    the cost squared, and cheap enough to be observed at every step.

    Args:
        holdings: currency, cash last.
        targets: target weights of every regime.
        frictions: what trading costs.
        hold: regimes that do not trade; they cost 0.
        vol_daily: daily volatility σ, for ``impact_adv``.
        adv: average daily traded value in the currency of the holdings, for ``impact_adv``.

    Raises:
        ValueError: ``impact_adv`` is on and σ or ADV is missing.
    """
    value = holdings.sum(-1, keepdim=True)
    weights = holdings[..., :-1] / value.clamp_min(torch.finfo(value.dtype).tiny)
    # In units of V: x/V takes the place of x, and ADV/V that of ADV.
    rates = cost_rates(
        torch.ones_like(value),
        frictions,
        vol_daily=None if vol_daily is None else vol_daily.unsqueeze(-2),
        adv=None if adv is None else (adv / value).unsqueeze(-2),
    )
    cost = rates.total((targets[..., :-1] - weights.unsqueeze(-2)).abs())
    return cost if hold is None else cost.masked_fill(hold, 0.0)
