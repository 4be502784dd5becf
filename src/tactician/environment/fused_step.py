"""One step of the environments in one kernel. `environment.step_eager` and the ledger are its definition.

Names and order are those of `portfolio.ledger`. Masked markets have assets that cannot be filled or that end.
"""

import math
from dataclasses import replace

import torch
import triton
import triton.language as tl
from jaxtyping import Int64
from torch import Tensor

from tactician.environment.environment import Environment, EnvState, Outcome
from tactician.environment.fused_parts import (
    absorb,
    as_uniform,
    assets,
    cost_multiple,
    impact_rate,
    mix,
    row_max,
    row_sum,
    tile,
    total_cost,
    wide,
)
from tactician.environment.noise import GOLDEN, Stream, mixed, signed

_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
_GOLDEN = tl.constexpr(signed(GOLDEN))
_MAX_SLOPE = tl.constexpr(0.5)  # of the ledger


@triton.jit
def _expm1(x: tl.tensor) -> tl.tensor:
    """exp(x) − 1; near 0, where the difference would cancel, by its series."""
    series = 1.0 + x * (1.0 / 7.0) * (1.0 + x * 0.125)
    series = 1.0 + x * 0.25 * (1.0 + x * 0.2 * (1.0 + x * (1.0 / 6.0) * series))
    series = x * (1.0 + x * 0.5 * (1.0 + x * (1.0 / 3.0) * series))
    return tl.where(tl.abs(x) < 0.5, series, tl.exp(x) - 1.0)


@triton.jit
def _towards(
    after: tl.tensor, before: tl.tensor, weights: tl.tensor, free: tl.tensor, masked: tl.constexpr
) -> tl.tensor:
    """Risky holdings for a value after costs. What cannot be filled stays."""
    risky = wide(after) * weights
    if masked:
        risky = tl.where(free, risky, before)
    return risky


@triton.jit
def _value_after_cost(
    value: tl.tensor,
    before: tl.tensor,
    weights: tl.tensor,
    free: tl.tensor,
    noise: tl.tensor,
    linear: tl.tensor,
    root: tl.tensor,
    square: tl.tensor,
    rooted: tl.constexpr,
    squared: tl.constexpr,
    masked: tl.constexpr,
) -> tl.tensor:
    """Solve ``v = V − cost(|v·w − h|)`` by the secant method, then lower v if cash would not be positive."""
    after = value
    traded = tl.abs(_towards(after, before, weights, free, masked) - before)
    result = value - total_cost(traded, linear, root, square, rooted, squared)
    slope = value * 0.0
    for _ in tl.static_range(2):
        next_after = after + (result - after) / (1.0 - slope)
        traded = tl.abs(_towards(next_after, before, weights, free, masked) - before)
        next_result = value - total_cost(traded, linear, root, square, rooted, squared)
        slope = (next_result - result) / (next_after - after + _TINY)
        slope = tl.minimum(tl.maximum(slope, -_MAX_SLOPE), _MAX_SLOPE)
        after = next_after
        result = next_result
    cash = result - after * row_sum(weights)
    return after - 2.0 * tl.maximum(noise - cash, 0.0)


@triton.jit
def _affordable(
    value: tl.tensor,
    before: tl.tensor,
    cash: tl.tensor,
    risky: tl.tensor,
    noise: tl.tensor,
    linear: tl.tensor,
    root: tl.tensor,
    square: tl.tensor,
    rooted: tl.constexpr,
    squared: tl.constexpr,
) -> tl.tensor:
    """Shrink all buys by one factor if cash and sells cannot pay for them."""
    trade = risky - before
    buys, sells = tl.maximum(trade, 0.0), tl.maximum(-trade, 0.0)
    wanted = row_sum(buys)
    earned = row_sum(sells) - total_cost(sells, linear, root, square, rooted, squared)
    cost = total_cost(tl.abs(trade), linear, root, square, rooted, squared)
    short = value - cost - row_sum(risky) < noise * 0.5
    spendable = tl.maximum(cash + earned - 2.0 * noise, 0.0)
    factor = wanted * 0.0 + 1.0
    for _ in tl.static_range(3):  # odd, so the last step ends on the side that can be paid
        cost = total_cost(wide(factor) * buys, linear, root, square, rooted, squared) / tl.maximum(factor, _TINY)
        factor = tl.minimum(spendable / tl.maximum(wanted + cost, _TINY), 1.0)
    shrunk = before + tl.minimum(trade, 0.0) + wide(factor) * buys
    return tl.where(wide(short), shrunk, risky)


@triton.jit(
    do_not_specialize=["n_envs", "n_assets", "n_regimes", "episode_length", "slippage_number", "multiple_number"]
)
def _step(
    window: tl.tensor,
    episode: tl.tensor,
    age: tl.tensor,
    day: tl.tensor,
    holdings: tl.tensor,
    regime: tl.tensor,
    since_trade: tl.tensor,
    trade_growth: tl.tensor,
    in_trade: tl.tensor,
    action: tl.tensor,
    new_age: tl.tensor,
    new_day: tl.tensor,
    new_holdings: tl.tensor,
    new_regime: tl.tensor,
    new_since_trade: tl.tensor,
    new_trade_growth: tl.tensor,
    new_in_trade: tl.tensor,
    reward: tl.tensor,
    costs: tl.tensor,
    turnover: tl.tensor,
    trade_closed: tl.tensor,
    trade_return: tl.tensor,
    returns: tl.tensor,
    cash_return: tl.tensor,
    regime_weights: tl.tensor,
    fillable: tl.tensor,
    delisted: tl.tensor,
    n_envs: tl.tensor,
    n_assets: tl.tensor,
    n_regimes: tl.tensor,
    episode_length: tl.tensor,
    spread: tl.tensor,
    slippage_max: tl.tensor,
    impact: tl.tensor,
    impact_linear: tl.tensor,
    commission: tl.tensor,
    rounding: tl.tensor,
    log_low: tl.tensor,
    log_range: tl.tensor,
    slippage_number: tl.tensor,
    multiple_number: tl.tensor,
    portfolios: tl.constexpr,
    masked: tl.constexpr,
    drawn: tl.constexpr,
    rooted: tl.constexpr,
    squared: tl.constexpr,
    multiplied: tl.constexpr,
    groups: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    env = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    there = env < n_envs
    asset = assets(groups, lanes)
    inside = wide(there) & (asset < n_assets)
    w = env // portfolios
    now = tl.load(day + w, mask=there, other=1)
    age_now = tl.load(age + w, mask=there, other=0)
    window_now = tl.load(window + w, mask=there, other=0)
    episode_now = tl.load(episode + w, mask=there, other=0)
    cell = wide(now * n_assets) + asset
    held = env * (n_assets + 1)

    # Drift to the close, and delistings. Rows beyond the last environment are computed on a portfolio in cash.
    before = tl.load(holdings + wide(held) + asset, mask=inside, other=0.0)
    cash_before = tl.load(holdings + held + n_assets, mask=there, other=1.0)
    before *= 1.0 + tl.load(returns + (cell - n_assets), mask=inside, other=0.0)
    cash_before *= 1.0 + tl.load(cash_return + (now - 1), mask=there, other=0.0)
    free = inside
    if masked:
        gone = tl.where(tl.load(delisted + cell, mask=inside, other=0), before, 0.0)
        before -= gone
        cash_before += row_sum(gone)
        free = tl.load(fillable + cell, mask=inside, other=1)
    value = row_sum(before) + cash_before

    # The costs' coefficients.
    times = tl.full([rows], 1.0, tl.float32)
    if multiplied:
        times = cost_multiple(window_now, episode_now, multiple_number, log_low, log_range)
    known = tl.maximum(value, _TINY)
    root = wide(impact * tl.rsqrt(known) * times)
    square = wide(impact_linear / known * times)
    if drawn:
        portfolio = window_now * portfolios + env % portfolios
        moment = episode_now * episode_length + age_now
        place = wide(absorb(absorb(slippage_number, portfolio), moment))
        slippage = slippage_max * as_uniform(mix((asset.to(tl.int64) * _GOLDEN) ^ place)) * wide(times)
    else:
        slippage = wide(slippage_max * 0.5 * times)
    linear = slippage + wide((spread + commission) * times)

    # The trade.
    act = tl.load(action + env, mask=there, other=0).to(tl.int64)
    hold = act == 0
    regime_now = tl.load(regime + env, mask=there, other=0)
    target = (now * n_regimes + act) * (n_assets + 1)
    other = (now * n_regimes + regime_now) * (n_assets + 1)
    weights = tl.load(regime_weights + wide(target) + asset, mask=inside, other=0.0)
    noise = rounding * value
    after = _value_after_cost(value, before, weights, free, noise, linear, root, square, rooted, squared, masked)
    risky = _towards(after, before, weights, free, masked)
    if masked:
        risky = _affordable(value, before, cash_before, risky, noise, linear, root, square, rooted, squared)
    risky = tl.where(wide(hold), before, risky)  # selected, not computed, so that it is the same to the last bit
    traded = tl.abs(risky - before)
    volume = row_sum(traded)
    slipped = row_sum(traded * slippage)
    impacted = row_sum(traded * impact_rate(traded, root, square, rooted, squared))
    charged = volume * times
    paid = charged * spread + slipped + impacted + charged * commission
    cash = value - paid - row_sum(risky)
    if masked:
        # As in the ledger: with everything locked the sum over the assets may round to more than the value.
        cash = tl.where(cash < 0.0, cash_before - row_sum(risky - before) - paid, cash)
    cash = tl.where(hold, cash_before, cash)

    # Growth to the next close enters the reward alone.
    grown = row_sum(risky * (1.0 + tl.load(returns + cell, mask=inside, other=0.0)))
    grown += cash * (1.0 + tl.load(cash_return + now, mask=there, other=0.0))
    growth = tl.log(tl.div_rn(grown, value))

    # What the agent did.
    old_weights = tl.load(regime_weights + wide(other) + asset, mask=inside, other=0.0)
    target_cash = tl.load(regime_weights + target + n_assets, mask=there, other=0.0)
    old_cash = tl.load(regime_weights + other + n_assets, mask=there, other=0.0)
    differs = (row_max((weights != old_weights).to(tl.int32)) > 0) | (target_cash != old_cash)
    was_in = tl.load(in_trade + env, mask=there, other=0)
    switched = (act != 0) & differs
    closed = switched & was_in
    bought = (act != 0) & (switched | (was_in == 0))
    since = tl.load(since_trade + env, mask=there, other=0)
    grown_before = tl.load(trade_growth + env, mask=there, other=0.0)

    tl.store(new_holdings + wide(held) + asset, risky, mask=inside)
    tl.store(new_holdings + held + n_assets, cash, mask=there)
    tl.store(new_regime + env, tl.where(hold, regime_now, act), mask=there)
    tl.store(new_since_trade + env, tl.where(switched, 0, since + 1), mask=there)
    tl.store(new_trade_growth + env, tl.where(bought, 0.0, grown_before) + growth, mask=there)
    tl.store(new_in_trade + env, tl.where(bought, act != 1, was_in), mask=there)  # 1 is cash
    first = there & (env % portfolios == 0)
    tl.store(new_age + w, age_now + 1, mask=first)
    tl.store(new_day + w, now + 1, mask=first)
    tl.store(reward + env, 100.0 * growth, mask=there)
    tl.store(costs + env * 4, charged * spread / value, mask=there)
    tl.store(costs + env * 4 + 1, slipped / value, mask=there)
    tl.store(costs + env * 4 + 2, impacted / value, mask=there)
    tl.store(costs + env * 4 + 3, charged * commission / value, mask=there)
    tl.store(turnover + env, volume / known, mask=there)
    tl.store(trade_closed + env, closed, mask=there)
    tl.store(trade_return + env, tl.where(closed, _expm1(grown_before), 0.0), mask=there)


def fused_step(env: Environment, state: EnvState, action: Int64[Tensor, " env"]) -> tuple[EnvState, Outcome]:
    """`environment.step` in one kernel, for what `fused.supported` allows."""
    market, frictions, (low, high) = env.market, env.frictions, env.cost_multipliers
    n_envs, (n_regimes, columns) = len(state.regime), market.regime_weights.shape[1:]
    shape = tile(columns - 1)
    changing = ("age", "day", "holdings", "regime", "since_trade", "trade_growth", "in_trade")
    new_state = replace(
        state,
        **{name: torch.empty_like(getattr(state, name), memory_format=torch.contiguous_format) for name in changing},
    )
    outcome = Outcome(
        reward=torch.empty_like(new_state.trade_growth),
        costs=torch.empty(n_envs, 4, device=state.holdings.device),
        turnover=torch.empty_like(new_state.trade_growth),
        trade_closed=torch.empty_like(new_state.in_trade),
        trade_return=torch.empty_like(new_state.trade_growth),
    )
    with torch.cuda.device_of(state.holdings):
        _step[(triton.cdiv(n_envs, shape.rows),)](
            *(tensor.contiguous() for tensor in state.state_dict().values()),
            action.contiguous(),
            *(getattr(new_state, name) for name in changing),
            *vars(outcome).values(),
            market.returns.contiguous(),
            market.cash_return.contiguous(),
            market.regime_weights.contiguous(),
            market.fillable.contiguous(),
            market.delisted.contiguous(),
            n_envs,
            columns - 1,
            n_regimes,
            env.episode_length,
            float(frictions.spread),
            float(frictions.slippage_max),
            float(frictions.impact),
            float(frictions.impact_linear),
            float(frictions.commission),
            (columns - 1 + 8) * torch.finfo(torch.float32).eps,  # `ledger._noise`, per unit of value
            math.log(low),
            math.log(high) - math.log(low),
            mixed(env.seed, Stream.SLIPPAGE),
            mixed(env.seed, Stream.COST_MULTIPLE),
            portfolios=env.portfolios_per_window,
            masked=not market.always_fillable,
            drawn=env.random_slippage,
            rooted=frictions.impact > 0,
            squared=frictions.impact_linear > 0,
            multiplied=not low == high == 1,
            groups=shape.groups,
            rows=shape.rows,
            lanes=shape.lanes,
            num_warps=shape.warps,
            # Without fused products the trades are the differences of the stored holdings to the last bit.
            enable_fp_fusion=False,
        )
    return new_state, outcome
