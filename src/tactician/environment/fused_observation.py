"""The portfolio's part of the observation in one kernel. `observation.observe_portfolio_eager` is its definition.

The costs of moving to the regimes are the bulk of it. They are computed one regime after another, and only what is observed of
them is kept: least, mean, and the costs of three of them.
"""

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment.environment import Environment, EnvState
from tactician.environment.fused_parts import assets, cost_multiple, row_max, row_sum, tile, total_cost, wide
from tactician.environment.noise import Stream, mixed


@triton.jit(do_not_specialize=["n_envs", "n_assets", "number"])
def _observe(
    seen: tl.tensor,  # [env, 20], the result
    day: tl.tensor,
    holdings: tl.tensor,
    regime: tl.tensor,
    since_trade: tl.tensor,
    window: tl.tensor,
    episode: tl.tensor,
    regime_weights: tl.tensor,
    tradable: tl.tensor,
    factor_ranks: tl.tensor,
    n_envs: tl.tensor,
    n_assets: tl.tensor,
    linear: tl.tensor,
    root: tl.tensor,
    square: tl.tensor,
    log_low: tl.tensor,
    log_range: tl.tensor,
    number: tl.tensor,
    n_regimes: tl.constexpr,
    portfolios: tl.constexpr,
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
    now = tl.load(day + env, mask=there, other=0)
    cell = wide(now * n_assets) + asset
    held = env * (n_assets + 1)
    # Rows beyond the last environment are computed on a portfolio in cash, so that nothing divides by 0.
    risky = tl.load(holdings + wide(held) + asset, mask=inside, other=0.0)
    cash = tl.load(holdings + held + n_assets, mask=there, other=1.0)
    value = row_sum(risky) + cash
    risky = risky / wide(value)
    cash = cash / value
    invested = row_sum(risky)
    may = tl.load(tradable + cell, mask=inside, other=0).to(tl.float32)
    n_tradable = tl.maximum(row_sum(may), 1.0)
    distance = tl.abs(risky - may / wide(n_tradable))
    names = invested * invested / tl.maximum(row_sum(risky * risky), 1e-12) / n_tradable

    # The four ranks of an asset lie together, so they are read as one.
    factor = tl.arange(0, 4)[None, :]
    places = factor_ranks + cell[:, :, :, None] * 4 + factor[:, None, None, :]
    ranks = tl.load(places, mask=inside[:, :, :, None], other=0.0)
    tilts = row_sum(risky[:, :, :, None] * ranks)

    # All values are in units of V, so the coefficients are those of a portfolio worth 1, times the episode's multiple.
    linear_rate = tl.full([rows], 1.0, tl.float32) * linear
    root_rate = tl.full([rows], 1.0, tl.float32) * root
    square_rate = tl.full([rows], 1.0, tl.float32) * square
    if multiplied:
        w = env // portfolios
        begun = tl.load(episode + w, mask=there, other=0)
        times = cost_multiple(tl.load(window + w, mask=there, other=0), begun, number, log_low, log_range)
        linear_rate *= times
        root_rate *= times
        square_rate *= times
    linear_rate, root_rate, square_rate = wide(linear_rate), wide(root_rate), wide(square_rate)

    regime_now = tl.load(regime + env, mask=there, other=0)
    since = tl.load(since_trade + env, mask=there, other=0)
    # HOLD, the table's row 0, is left out. Row 1 is cash.
    targets = regime_weights + wide((now * n_regimes + 1) * (n_assets + 1)) + asset
    traded = tl.abs(tl.load(targets, mask=inside, other=0.0) - risky)
    to_cash = total_cost(traded, linear_rate, root_rate, square_rate, rooted, squared)
    least = to_cash
    total = to_cash
    refresh = tl.where(regime_now == 1, to_cash, 0.0)
    for r in range(2, n_regimes):
        targets += n_assets + 1
        traded = tl.abs(tl.load(targets, mask=inside, other=0.0) - risky)
        cost = total_cost(traded, linear_rate, root_rate, square_rate, rooted, squared)
        least = tl.minimum(least, cost)
        total += cost
        refresh = tl.where(regime_now == r, cost, refresh)
    to_equal = total_cost(distance, linear_rate, root_rate, square_rate, rooted, squared)

    row = seen + env * 20
    tl.store(row, cash, mask=there)
    tl.store(row + 1, tl.where(invested > 1e-6, names, 0.0), mask=there)
    tl.store(row + 2, row_max(risky), mask=there)  # holdings are not negative, so the padding's zeros do not matter
    tl.store(row[:, None] + (3 + factor), tilts, mask=there[:, None])
    tl.store(row + 7, 0.5 * (cash + row_sum(distance)), mask=there)
    tl.store(row + 8, 100.0 * to_cash, mask=there)
    tl.store(row + 9, 100.0 * to_equal, mask=there)
    tl.store(row + 10, 100.0 * least, mask=there)
    tl.store(row + 11, 100.0 * total / (n_regimes - 1), mask=there)
    tl.store(row + 12, 100.0 * refresh, mask=there)
    tl.store(row + 13, tl.log(1.0 + since.to(tl.float32)) / 5.0, mask=there)  # 1 + an integer is exact
    for bit in tl.static_range(6):
        tl.store(row + (14 + bit), ((regime_now >> bit) & 1).to(tl.float32), mask=there)


def fused_observe_portfolio(env: Environment, state: EnvState, day: Int64[Tensor, " env"]) -> Float[Tensor, "env 20"]:
    """`observation.observe_portfolio` in one kernel, for what `fused.supported` allows."""
    market, frictions, (low, high) = env.market, env.frictions, env.cost_multipliers
    n_envs, (n_regimes, columns) = len(state.regime), market.regime_weights.shape[1:]
    shape = tile(columns - 1)
    seen = torch.empty(n_envs, 20, device=state.holdings.device)
    with torch.cuda.device_of(state.holdings):
        _observe[(triton.cdiv(n_envs, shape.rows),)](
            seen,
            day.contiguous(),
            state.holdings.contiguous(),
            state.regime.contiguous(),
            state.since_trade.contiguous(),
            state.window.contiguous(),
            state.episode.contiguous(),
            market.regime_weights.contiguous(),
            market.tradable.contiguous(),
            market.factor_ranks.contiguous(),
            n_envs,
            columns - 1,
            # Slippage is observed at its mean.
            float(frictions.slippage_max / 2 + (frictions.spread + frictions.commission)),
            float(frictions.impact),
            float(frictions.impact_linear),
            math.log(low),
            math.log(high) - math.log(low),
            mixed(env.seed, Stream.COST_MULTIPLE),
            n_regimes=n_regimes,
            portfolios=env.portfolios_per_window,
            rooted=frictions.impact > 0,
            squared=frictions.impact_linear > 0,
            multiplied=not low == high == 1,
            groups=shape.groups,
            rows=shape.rows,
            lanes=shape.lanes,
            num_warps=shape.warps,
        )
    return seen
