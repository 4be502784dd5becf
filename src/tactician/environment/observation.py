"""The observation: 44 features of the market and 20 of the portfolio, for 3 assets or 300 and for any regime table.

docs/features.md lists every entry.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tactician.environment.environment import FULL_CASH, HOLD, Environment, EnvState, blocks, cost_multiple
from tactician.environment.features import FEATURE_NAMES
from tactician.environment.fused import uses_kernels
from tactician.environment.market_tensors import MarketTensors
from tactician.portfolio.ledger import move_cost

PORTFOLIO_NAMES: tuple[str, ...] = (
    "cash_weight",
    "effective_names",
    "largest_weight",
    "tilt_momentum",
    "tilt_low_vol",
    "tilt_quality",
    "tilt_size",
    "distance_to_equal_weight",
    "cost_to_cash",
    "cost_to_equal_weight",
    "cost_cheapest",
    "cost_mean",
    "cost_refresh",
    "since_trade",
    *(f"regime_bit_{k}" for k in range(6)),
)
OBSERVATION_NAMES = (*FEATURE_NAMES, *PORTFOLIO_NAMES)
OBS_DIM = len(OBSERVATION_NAMES)
MAX_REGIMES = 64

_CLIP = 5.0


def fit_normaliser(market: MarketTensors, *rows: range) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Mean and standard deviation of each market feature, over the training rows only.

    A feature that is constant there gets a deviation of 1. Otherwise a later change would explode.

    Args:
        market: with features in their own units.
        rows: the training rows, in one part or in several.
    """
    # Moments of later rows would leak the volatility of the test range into training.
    seen = _features(market, rows).double()
    std = seen.std(0)
    return seen.mean(0).float(), torch.where(std > 1e-9, std, 1.0).float()


def feature_range(market: MarketTensors, *rows: range) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Lowest and highest value of each market feature over some rows, in one part or in several, in its own unit."""
    seen = _features(market, rows)
    return seen.amin(0), seen.amax(0)


def _features(market: MarketTensors, parts: Sequence[range]) -> Float[Tensor, "row feature"]:
    return torch.cat([market.features[part.start : part.stop] for part in parts])


def normalise(market: MarketTensors, mean: Float[Tensor, " feature"], std: Float[Tensor, " feature"]) -> MarketTensors:
    """The market with standardised features, clipped to ±5 standard deviations."""
    # Clipped, because a crash larger than any in training would push the network's inputs outside its training range.
    mean, std = mean.to(market.device), std.to(market.device)
    return market.with_features(lambda features: ((features - mean) / std).clamp(-_CLIP, _CLIP))


def observe(env: Environment, state: EnvState) -> Float[Tensor, "env 64"]:
    """The observation of every environment for the decision at its window's day. It uses sessions ≤ day − 1 only."""
    day = observed_day(env, state)
    return assemble(env.market, day, observe_portfolio(env, state, day))


def observed_day(env: Environment, state: EnvState) -> Int64[Tensor, " env"]:
    """Row of the market that each environment sees.

    The last state of an episode may lie one session beyond the market's last row, where only its value is needed for
    bootstrapping. It sees the last row.
    """
    day = state.day.repeat_interleave(env.portfolios_per_window) if env.portfolios_per_window > 1 else state.day
    return day.clamp(max=env.market.n_days - 1)


def assemble(
    market: MarketTensors, day: Int[Tensor, "*batch"], portfolio: Float[Tensor, "*batch 20"]
) -> Float[Tensor, "*batch 64"]:
    """The observation from its two parts: the row of the market and the entries of the portfolio.

    A rollout stores the two parts, since the market's entries can be looked up: 84 bytes instead of 256 per observation.
    """
    return torch.cat([market.features[day], portfolio], dim=-1)


def portfolio_of(observation: Float[Tensor, "*batch 64"]) -> Float[Tensor, "*batch 20"]:
    """The portfolio's entries of an observation."""
    return observation[..., len(FEATURE_NAMES) :]


def observe_portfolio(env: Environment, state: EnvState, day: Int64[Tensor, " env"]) -> Float[Tensor, "env 20"]:
    """The portfolio's entries of the observation. ``day`` is `observed_day`."""
    if uses_kernels(env):
        from tactician.environment.fused_observation import fused_observe_portfolio

        return fused_observe_portfolio(env, state, day)
    return observe_portfolio_eager(env, state, day)


def observe_portfolio_eager(env: Environment, state: EnvState, day: Int64[Tensor, " env"]) -> Float[Tensor, "env 20"]:
    """`observe_portfolio` in torch's own operations, on any device. The kernel is held to it."""
    market, p = env.market, env.portfolios_per_window
    # The portfolios of a window share the day, so what depends on the day alone is looked up once per window.
    day, holdings = day[::p], state.holdings.unflatten(0, (-1, p))
    regime, since_trade = state.regime.unflatten(0, (-1, p)), state.since_trade.unflatten(0, (-1, p))
    # The costs of all moves take R × A numbers per portfolio, and the exposures to the factors F × A.
    multiple = cost_multiple(env, state)
    n_moves, n_tilts = math.prod(market.regime_weights.shape[1:]), math.prod(market.factor_ranks.shape[1:])
    *described, to_equal = torch.cat(
        [_describe(env, day[some], holdings[some], _some(multiple, some)) for some in blocks(env, len(day), n_tilts)]
    ).unbind(-1)
    # HOLD is left out, since it costs nothing and would always be the cheapest. So regime r is in column r − 1.
    moves = torch.cat(
        [_move_costs(env, day[some], holdings[some], _some(multiple, some)) for some in blocks(env, len(day), n_moves)]
    )
    refresh = moves.gather(-1, (regime - 1).clamp(min=0)[..., None])[..., 0]
    columns = [
        *described,
        moves[..., FULL_CASH - 1],
        to_equal,
        moves.amin(-1),
        moves.mean(-1),
        torch.where(regime > 0, refresh, 0.0),
        # After a year this is ln(253)/5 = 1.1, so the entry stays near unit scale without a clip.
        torch.log1p(since_trade.to(moves.dtype)) / 5,
        # Bits instead of one entry per regime, so that the observation has one length for all tables up to 64 regimes.
        *(((regime >> bit) & 1).to(moves.dtype) for bit in range(6)),
    ]
    return torch.stack(columns, dim=-1).flatten(0, 1)


def _some(multiple: Tensor | None, windows: slice) -> Tensor | None:
    return None if multiple is None else multiple[windows]


def _describe(
    env: Environment,
    day: Int64[Tensor, " window"],
    holdings: Float[Tensor, "window portfolio asset+1"],
    multiple: Float[Tensor, " window"] | None,
) -> Float[Tensor, "window portfolio 9"]:
    """The entries from the weight of cash to the distance to equal weight, and the cost of moving there."""
    # Weights, not amounts: growth and costs are proportional to wealth, except for impact on volume. So the best decision
    # does not depend on wealth.
    market = env.market
    weights = holdings / holdings.sum(-1, keepdim=True)
    cash, risky = weights[..., -1], weights[..., :-1]
    invested = risky.sum(-1)
    tradable = market.tradable[day, None].to(weights.dtype)
    n_tradable = tradable.sum(-1).clamp(min=1)
    equal = tradable / n_tradable[..., None]
    # The effective number of assets (inverse Herfindahl index of the invested part), as a share of the tradable assets.
    names = invested.square() / risky.square().sum(-1).clamp(min=1e-12) / n_tradable
    # Exposure of the holdings to the four factors: four numbers for any universe, unlike one weight per asset.
    tilts = (risky[..., None] * market.factor_ranks[day, None]).sum(-2)
    target = torch.cat([equal, torch.zeros_like(equal[..., :1])], dim=-1)
    columns = [
        cash,
        torch.where(invested > 1e-6, names, 0.0),
        risky.amax(-1),
        *tilts.unbind(-1),
        # Half of the summed absolute differences is the share of the portfolio that would have to move.
        0.5 * (cash + (risky - equal).abs().sum(-1)),
        # Of its own, because a regime table may lack equal weight.
        _costs(env, day, holdings, target[:, None], multiple)[..., 0],
    ]
    return torch.stack(columns, dim=-1)


def _move_costs(
    env: Environment,
    day: Int64[Tensor, " window"],
    holdings: Float[Tensor, "window portfolio asset+1"],
    multiple: Float[Tensor, " window"] | None,
) -> Float[Tensor, "window portfolio regime-1"]:
    """Costs of moving to each regime but HOLD."""
    return _costs(env, day, holdings, env.market.regime_weights[day, None, HOLD + 1 :], multiple)


def _costs(
    env: Environment,
    day: Int64[Tensor, " window"],
    holdings: Float[Tensor, "window portfolio asset+1"],
    targets: Float[Tensor, "window 1 target asset+1"],
    multiple: Float[Tensor, " window"] | None,
) -> Float[Tensor, "window portfolio target"]:
    """Costs of possible moves, in percent of the portfolio's value, at the last close that the agent has seen."""
    market, impact_adv = env.market, env.frictions.impact_adv > 0
    return 100 * move_cost(
        holdings,
        targets,
        env.frictions,
        vol_daily=market.vol_daily[day, None] if impact_adv else None,
        adv=market.dollar_volume[day, None] / env.portfolio_value if impact_adv else None,
        multiple=None if multiple is None else multiple[:, None],
    )
