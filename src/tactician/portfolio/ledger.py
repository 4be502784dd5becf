"""The ledger: holdings in currency, trades that pay their costs, and growth.

One session has three parts (Boyd et al. 2017, "Multi-Period Trading via Convex Optimization", §2). Trades change the
holdings, ``h⁺ = h + u``. Costs leave cash. Everything, cash included, is multiplied by one plus its return. Holdings ``h``
are ``[..., asset + 1]`` in currency with cash in the last column. The functions are pure, broadcast over the leading
dimensions and work in the dtype they are given.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.portfolio.frictions import CostRates, Frictions, component_costs, cost_rates, largest_trade

_MAX_SLOPE = 0.5
"""Bound on d cost / d V⁺. Costs of 1 % have slopes near 0.01. A larger estimate than the bound is rounding noise."""


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
    fillable: Bool[Tensor, "*#batch asset"] | None = None,
    slippage: Float[Tensor, "*batch asset"] | None = None,
    vol_daily: Float[Tensor, "*#batch asset"] | None = None,
    adv: Float[Tensor, "*#batch asset"] | None = None,
    multiple: Float[Tensor, "*batch"] | None = None,
    iterations: int = 5,
) -> Trade:
    """Trade to target weights so that they hold exactly *after* the costs of the trade.

    The function solves ``V⁺ = V − cost(|V⁺·w − h|)``, with impact relative to the value V before the trade. It trades the
    difference ``V⁺·w − h``. Cash is the rest, ``V − Σ costs − Σ risky``, and is never negative: a fully invested target is
    missed by a few units of rounding, which stay in cash.

    An asset that cannot be filled keeps its holding. If the holding is below its target, the difference stays in cash. If
    it is above, all buys shrink by one factor to what cash and sells can pay. The same holds for a trade that is cut to
    `largest_trade`.

    Args:
        holdings: currency before the trade, cash last, all non-negative.
        target_weights: non-negative, each row sums to 1.
        frictions: coefficients of the trading costs.
        hold: portfolios that do not trade. Their holdings are returned bit for bit, and their targets are ignored.
        fillable: assets in which an order can be filled; None for all.
        slippage: drawn slippage as a fraction of the traded value; without it the mean.
        vol_daily: daily volatility σ, for ``impact_adv``.
        adv: average daily traded value, for ``impact_adv``.
        multiple: factor of all costs of a portfolio; None for 1. Times it, the frictions must be valid ones.
        iterations: evaluations of the cost while solving; five reach double precision, three single precision.

    Raises:
        ValueError: ``impact_adv`` is on and σ or ADV is missing.
    """
    value = holdings.sum(-1)
    rates = cost_rates(value, frictions, slippage, vol_daily, adv, multiple)
    before, weights = holdings[..., :-1], target_weights[..., :-1]
    limit = _limit(before, frictions, fillable, vol_daily, adv, multiple)
    # The target is V⁺·w, with V⁺ the value *after* costs. Trading to V·w and paying afterwards would miss the target, and
    # would put a fully invested portfolio in debt.
    value_after = _value_after_cost(value, before, weights, rates, limit, iterations)
    risky = _towards(value_after, before, weights, limit)
    if limit is not None:
        risky = _affordable(holdings, risky, rates, iterations)
    if hold is not None:
        # The holdings are selected, not computed: (h/V)·V is not h to the last bit, and its rounding would cost as a trade.
        risky = torch.where(hold.unsqueeze(-1), before, risky)
    traded = (risky - before).abs()
    costs = component_costs(traded, frictions, rates)
    # Cash follows by subtraction, so money is conserved whatever the solver's error. A clamp at 0 would create money.
    # Instead the solver stays slightly below what can be paid.
    cash = value - costs.sum(-1) - risky.sum(-1)
    if limit is not None:
        # If all assets are locked and there is no cash, the sum over assets may round to more than the value. Then cash is
        # computed from the trades, which do not have this error.
        cash = torch.where(cash < 0, holdings[..., -1] - (risky - before).sum(-1) - costs.sum(-1), cash)
    if hold is not None:
        cash = torch.where(hold, holdings[..., -1], cash)
    turnover = traded.sum(-1) / value.clamp_min(torch.finfo(value.dtype).tiny)
    return Trade(torch.cat([risky, cash.unsqueeze(-1)], dim=-1), costs, traded, turnover)


def _limit(
    before: Tensor,
    frictions: Frictions,
    fillable: Tensor | None,
    vol_daily: Tensor | None,
    adv: Tensor | None,
    multiple: Tensor | None,
) -> Tensor | None:
    """Largest trade by asset, in currency; None if no trade is limited."""
    limit = None if frictions.impact_adv == 0 else largest_trade(frictions, vol_daily, adv, multiple).to(before.dtype)
    if fillable is None:
        return limit
    # An asset without a bar has a largest trade of 0, so one rule covers both cases.
    free = torch.full_like(before, torch.inf) if limit is None else limit
    return torch.where(fillable, free, 0.0)


def _towards(
    after: Float[Tensor, "*batch"],
    before: Float[Tensor, "*batch asset"],
    weights: Float[Tensor, "*batch asset"],
    limit: Float[Tensor, "*batch asset"] | None,
) -> Float[Tensor, "*batch asset"]:
    """Risky holdings for a value after costs: the target's, or the nearest ones that the limits allow."""
    wanted = after.unsqueeze(-1) * weights
    if limit is None:
        return wanted
    trade = wanted - before
    # Within the limits the target itself is taken, because before + trade may miss it by rounding. At a limit of 0,
    # before + 0 keeps the position to the last bit.
    return torch.where(trade.abs() <= limit, wanted, before + trade.clamp(-limit, limit))


def _value_after_cost(
    value: Float[Tensor, "*batch"],
    before: Float[Tensor, "*batch asset"],
    weights: Float[Tensor, "*batch asset"],
    rates: CostRates,
    limit: Float[Tensor, "*batch asset"] | None,
    iterations: int,
) -> Float[Tensor, "*batch"]:
    """Solve ``v = g(v)`` with ``g(v) = V − cost(|v·w − h|)``, then lower v if cash would not be positive.

    The plain iteration v ← g(v) contracts by the slope g', about 0.01. The secant method divides the residual by 1 − g',
    with g' from the last two evaluations. It converges faster and needs no further evaluation of the cost.
    """
    # There is one solution, since g is a contraction (Banach's theorem). |g'| is at most the marginal cost of a trade, and
    # Frictions keeps that well below 1. A plain step multiplies the error by about g', and a secant step by about the error
    # of the previous step. At the default costs the error is 1e-4, 1e-8 and 1e-14 of V after two, three and four evaluations.

    def left(after: Tensor) -> Tensor:
        return value - rates.total((_towards(after, before, weights, limit) - before).abs())

    tiny = torch.finfo(value.dtype).tiny
    after, result, slope = value, left(value), torch.zeros_like(value)
    # The first step has slope 0, so it is a plain one: a slope needs two points.
    for _ in range(iterations - 1):
        next_after = after + (result - after) / (1 - slope)
        next_result = left(next_after)
        # Once v has converged, both differences are rounding errors, and their quotient is arbitrary. The bound limits it.
        slope = ((next_result - result) / (next_after - after + tiny)).clamp(-_MAX_SLOPE, _MAX_SLOPE)
        after, result = next_after, next_result
    # The last evaluation gives the cash that the target at v would leave, after the costs at exactly that v.
    cash = result - after * weights.sum(-1)
    # Lowering v by d adds at least (1 − MAX_SLOPE)·d to cash if the target is (nearly) fully invested.
    return after - 2 * (_noise(value, weights.shape[-1]) - cash).clamp_min(0.0)


def _affordable(
    holdings: Float[Tensor, "*batch asset_and_cash"],
    risky: Float[Tensor, "*batch asset"],
    rates: CostRates,
    iterations: int,
) -> Float[Tensor, "*batch asset"]:
    """Shrink all buys by one factor if cash and sells cannot pay for them.

    A is the money that can be spent, B the buys, and C(λ) the cost of λ·B. The factor solves λ·B + C(λ) = A. C(λ)/λ rises
    with λ, so λ ← A / (B + C(λ)/λ) steps from one side of the solution to the other. An odd number of steps from 1 ends
    below it. With costs of a few percent, each step gains about two digits.
    """
    # One factor keeps the proportions of the buys. Filling them in some order would favour the first assets of the
    # universe. Sells stay whole, because they bring cash.
    before, cash = holdings[..., :-1], holdings[..., -1]
    trade = risky - before
    buys, sells = trade.clamp_min(0.0), (-trade).clamp_min(0.0)
    wanted, earned = buys.sum(-1), sells.sum(-1) - rates.total(sells)
    value = holdings.sum(-1)
    noise = _noise(value, before.shape[-1])
    # If all targets can be filled, at least the noise is left in cash. With less than half of it, the caller's sums could
    # come out negative.
    short = value - rates.total(trade.abs()) - risky.sum(-1) < noise / 2
    if short.device.type == "cpu" and not bool(short.any()):  # on a GPU this test would wait for the device
        return risky
    # Slightly less than there is, so that rounding in the following sums cannot take cash below 0.
    spendable = (cash + earned - 2 * noise).clamp_min(0.0)
    tiny = torch.finfo(risky.dtype).tiny
    factor = torch.ones_like(wanted)
    # 2k − 3 is odd, so the last step ends on the side that can be paid.
    for _ in range(max(1, 2 * iterations - 3)):
        cost = rates.total(factor.unsqueeze(-1) * buys) / factor.clamp_min(tiny)
        factor = (spendable / (wanted + cost).clamp_min(tiny)).clamp_max(1.0)
    # An asset that is not traded gets before + 0 + factor·0: locked positions stay to the last bit here too.
    shrunk = before + trade.clamp_max(0.0) + factor.unsqueeze(-1) * buys
    return torch.where(short.unsqueeze(-1), shrunk, risky)


def _noise(value: Float[Tensor, "*batch"], assets: int) -> Float[Tensor, "*batch"]:
    """Bound on rounding errors: eps/2 of V for each of A terms, twice (here and in the caller's own sums)."""
    return (assets + 8) * torch.finfo(value.dtype).eps * value


def settle(
    holdings: Float[Tensor, "*batch asset_and_cash"], delisted: Bool[Tensor, "*#batch asset"]
) -> Float[Tensor, "*batch asset_and_cash"]:
    """Turn holdings in delisted assets into cash, without a trade and without cost."""
    # The money is not lost when the bars end. The asset's last return already includes `delisting_return`.
    gone = torch.where(delisted, holdings[..., :-1], 0.0)
    return torch.cat([holdings[..., :-1] - gone, holdings[..., -1:] + gone.sum(-1, keepdim=True)], dim=-1)


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
    multiple: Float[Tensor, "*#batch"] | None = None,
) -> Float[Tensor, "*batch regime"]:
    """Cost of moving to each target, as a fraction of the portfolio's value.

    It is a first-order estimate: the cost of the trades ``|V·w − h|``, without the fixed point, at the expected slippage.
    Its error is about the cost squared, and it is cheap enough to be observed at every step.

    Args:
        holdings: currency, cash last.
        targets: target weights of every regime.
        frictions: coefficients of the trading costs.
        hold: regimes that do not trade; they cost 0.
        vol_daily: daily volatility σ, for ``impact_adv``.
        adv: average daily traded value in the currency of the holdings, for ``impact_adv``.
        multiple: factor of all costs of a portfolio; None for 1.

    Raises:
        ValueError: ``impact_adv`` is on and σ or ADV is missing.
    """
    value = holdings.sum(-1, keepdim=True)
    weights = holdings[..., :-1] / value.clamp_min(torch.finfo(value.dtype).tiny)
    # All values are in units of V: x/V replaces x, ADV/V replaces ADV, and V itself is 1 for all portfolios.
    rates = cost_rates(
        value.new_ones(()),
        frictions,
        vol_daily=None if vol_daily is None else vol_daily.unsqueeze(-2),
        adv=None if adv is None else (adv / value).unsqueeze(-2),
        multiple=None if multiple is None else multiple.unsqueeze(-1),
    )
    traded = (targets[..., :-1] - weights.unsqueeze(-2)).abs_()
    # As in `rebalance`, the part beyond the largest trade is not traded and costs nothing.
    if frictions.impact_adv and vol_daily is not None and adv is not None:
        traded = traded.minimum(largest_trade(frictions, vol_daily, adv / value, multiple).unsqueeze(-2))
    cost = rates.total(traded)
    return cost if hold is None else cost.masked_fill(hold, 0.0)
