"""The observation: 44 features of the market and 20 of the portfolio, for 3 assets or 300 and for any regime table.

docs/features.md lists every entry.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tactician.environment.environment import Environment, EnvState
from tactician.environment.features import FEATURE_NAMES
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


def fit_normaliser(market: MarketTensors, rows: range) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Mean and standard deviation of each market feature, over the training rows only.

    A feature that is constant there gets a deviation of 1. Otherwise a later change would explode.
    """
    # Moments of later rows would leak the volatility of the test range into training.
    seen = market.features[rows.start : rows.stop].double()
    std = seen.std(0)
    return seen.mean(0).float(), torch.where(std > 1e-9, std, 1.0).float()


def normalise(market: MarketTensors, mean: Float[Tensor, " feature"], std: Float[Tensor, " feature"]) -> MarketTensors:
    """The market with standardised features, clipped to ±5 standard deviations."""
    # Clipped, because a crash larger than any in training would push the network's inputs outside its training range.
    scaled = (market.features - mean.to(market.device)) / std.to(market.device)
    return replace(market, features=scaled.clamp(-_CLIP, _CLIP))


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


def observe_portfolio(env: Environment, state: EnvState, day: Int64[Tensor, " env"]) -> Float[Tensor, "env 20"]:
    """The portfolio's entries of the observation."""
    # Weights, not amounts: growth and costs are proportional to wealth, except for impact on volume. So the best decision
    # does not depend on wealth.
    market = env.market
    weights = state.holdings / state.holdings.sum(-1, keepdim=True)
    risky = weights[:, :-1]
    invested = risky.sum(-1)
    tradable = market.tradable[day].to(weights.dtype)
    n_tradable = tradable.sum(-1).clamp(min=1)
    equal = tradable / n_tradable[:, None]
    # The effective number of assets (inverse Herfindahl index of the invested part), as a share of the tradable assets.
    names = invested.square() / risky.square().sum(-1).clamp(min=1e-12) / n_tradable
    # Exposure of the holdings to the four factors: four numbers for any universe, unlike one weight per asset.
    tilts = (risky[..., None] * market.factor_ranks[day]).sum(1)
    columns = [
        weights[:, -1],
        torch.where(invested > 1e-6, names, 0.0),
        risky.amax(-1),
        *tilts.unbind(-1),
        # Half of the summed absolute differences is the share of the portfolio that would have to move.
        0.5 * (weights[:, -1] + (risky - equal).abs().sum(-1)),
        *_cost_features(env, state, day, equal),
        # After a year this is ln(253)/5 = 1.1, so the entry stays near unit scale without a clip.
        torch.log1p(state.since_trade.to(weights.dtype)) / 5,
        # Bits instead of one entry per regime, so that the observation has one length for all tables up to 64 regimes.
        *(((state.regime >> bit) & 1).to(weights.dtype) for bit in range(6)),
    ]
    return torch.stack(columns, dim=1)


def _cost_features(env: Environment, state: EnvState, day: Tensor, equal: Tensor) -> list[Tensor]:
    """Costs of possible moves, in percent of the portfolio's value, at the last close that the agent has seen."""
    market = env.market
    targets = market.regime_weights[day]
    # All cash and equal weight are added to the targets, because a regime table may lack equal weight.
    no_cash = torch.zeros_like(equal[:, :1])
    extra = torch.stack([torch.cat([torch.zeros_like(equal), 1 - no_cash], 1), torch.cat([equal, no_cash], 1)], dim=1)
    impact_adv = env.frictions.impact_adv > 0
    cost = 100 * move_cost(
        state.holdings,
        torch.cat([extra, targets[:, 1:]], dim=1),
        env.frictions,
        vol_daily=market.vol_daily[day] if impact_adv else None,
        adv=market.dollar_volume[day] / env.portfolio_value if impact_adv else None,
    )
    # HOLD is left out, since it costs nothing and would always be the cheapest. So regime r is in column r + 1.
    moves = cost[:, 2:]
    refresh = cost.gather(1, (state.regime + 1).clamp(min=2)[:, None])[:, 0]
    return [
        cost[:, 0],
        cost[:, 1],
        moves.amin(1),
        moves.mean(1),
        torch.where(state.regime > 0, refresh, 0.0),
    ]
