"""Market features: 44 numbers per session, whatever the size of the universe.

Row s uses sessions ≤ s only. The one-session lag between information and decision is applied in `market_tensors`.
docs/features.md lists every feature with its formula, unit and reason, in this order.

An asset is *live* in session s if it was tradable at the close of s − 1. The *equal-weight index* earns the mean return of
the live assets.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.market import FACTORS, Market
from tactician.portfolio.regimes import tilt_weights

FEATURE_VERSION = 2
"""Must be raised whenever a formula below changes, so that caches with old features are refused."""

_RETURN_DAYS = (1, 2, 5, 10, 20, 60, 120, 252)
_VOL_DAYS = (5, 20, 60, 252)
_EXCESS_DAYS = (5, 20, 60)
_YEAR = 252
"""Sessions of the longest look-back. Annual figures use the market's own sessions per year."""

FEATURE_NAMES: tuple[str, ...] = (
    *(f"index_return_{n}" for n in _RETURN_DAYS),
    *(f"index_vol_{n}" for n in _VOL_DAYS),
    "vol_ratio_5_60",
    "vol_ratio_20_252",
    "index_skew_60",
    "drawdown_252",
    "high_age_252",
    "dispersion_1",
    "dispersion_20",
    "correlation_20",
    "correlation_60",
    "breadth_1",
    "breadth_20",
    "breadth_mean_60",
    *(f"excess_{factor}_{n}" for factor in FACTORS for n in _EXCESS_DAYS),
    *(f"spread_{factor}" for factor in FACTORS),
    "cash_rate",
    "year_sin",
    "year_cos",
    "days_waited",
)


def market_features(market: Market) -> Float[Tensor, "session feature"]:
    """All features of every session, float64; NaN until the look-back (252 sessions after the warm-up) is full.

    Args:
        market: validated market of S sessions and A assets.

    Returns:
        Tensor of shape [S, 44] in the order of `FEATURE_NAMES`.
    """
    returns, tradable = market.returns, market.tradable
    live = torch.cat([torch.zeros_like(tradable[:1]), tradable[:-1]])
    index = torch.log1p(_masked_mean(returns, live))
    columns = [
        *_index_features(index, market.sessions_per_year),
        *_cross_section_features(returns, live, tradable),
        *_factor_features(market, index),
        *_calendar_features(market),
    ]
    return torch.stack(columns, dim=1)


def rank_scores(
    scores: Float[Tensor, "session asset factor"], tradable: Bool[Tensor, "session asset"]
) -> Float[Tensor, "session asset factor"]:
    """Cross-sectional ranks in [−1, 1], the best highest: comparable across factors, universes and decades.

    The k-th best of the n tradable assets gets 1 − 2(k − 1)/(n − 1), or 0 if n = 1. Ties go by asset order. A missing score
    ranks last. An asset that is not tradable gets 0. All get 0 if no tradable asset has a score, or all have the same.
    """
    keyed = torch.where(tradable[..., None] & ~scores.isnan(), scores, -math.inf)
    # Missing scores become the lowest finite number, so they rank after all scores and before untradable assets.
    # Sorting the order again gives each asset's position, which is its rank.
    keyed = torch.where(tradable[..., None], keyed.clamp(min=torch.finfo(scores.dtype).min), -math.inf)
    position = keyed.argsort(dim=1, descending=True, stable=True).argsort(dim=1).to(scores.dtype)
    count = tradable.sum(1).to(scores.dtype)[:, None, None]
    rank = 1 - 2 * position / (count - 1).clamp(min=1)
    best = tradable[..., None] & (keyed == keyed.amax(1, keepdim=True)) & ~scores.isnan()
    differ = best.any(1, keepdim=True) & (tradable[..., None] & ~best).any(1, keepdim=True)
    return torch.where(tradable[..., None] & (count > 1) & differ, rank, 0.0)


def _index_features(index: Tensor, per_year: int) -> list[Tensor]:
    vol = {n: _rolling(index, n).std(-1) * math.sqrt(per_year) for n in _VOL_DAYS}
    window = _rolling(index, 60)
    centred = window - window.mean(-1, keepdim=True)
    skew = centred.pow(3).mean(-1) / centred.pow(2).mean(-1).pow(1.5).clamp(min=1e-12)
    # The path of the last year, relative to its start. The sum stays inside the window, so nothing older has an effect.
    path = _rolling(index, _YEAR).cumsum(-1)
    high, where = path.max(-1)
    age = (_YEAR - 1 - where).to(index.dtype) / _YEAR
    age = torch.where(path[:, -1].isnan(), path[:, -1], age)
    floor = 1e-6
    return [
        *(_rolling(index, n).sum(-1) for n in _RETURN_DAYS),
        *vol.values(),
        torch.log((vol[5] + floor) / (vol[60] + floor)),
        torch.log((vol[20] + floor) / (vol[252] + floor)),
        skew,
        path[:, -1] - high,
        age,
    ]


def _cross_section_features(returns: Tensor, live: Tensor, tradable: Tensor) -> list[Tensor]:
    log_returns = torch.log1p(returns)
    past_20 = _rolling(log_returns, 20).sum(-1)
    level = log_returns.cumsum(0)
    above_mean = level > _rolling(level.exp(), 60).mean(-1).log()
    known = ~_rolling(returns[:, 0], 60)[:, 0].isnan()
    return [
        _masked_std(returns, live),
        _masked_std(past_20, tradable),
        _average_correlation(returns, tradable, 20),
        _average_correlation(returns, tradable, 60),
        _masked_mean((returns > 0).to(returns.dtype), live),
        _masked_mean((past_20 > 0).to(returns.dtype), tradable),
        torch.where(known, _masked_mean(above_mean.to(returns.dtype), tradable), torch.nan),
    ]


def _factor_features(market: Market, index: Tensor) -> list[Tensor]:
    returns, tradable, scores = market.returns, market.tradable, market.scores
    excess, spreads = [], []
    for k, factor in enumerate(FACTORS):
        if bool(scores[..., k].isnan().all()):  # no such score in this market
            excess += [torch.zeros_like(index)] * len(_EXCESS_DAYS)
            spreads.append(torch.zeros_like(index))
            continue
        weights = tilt_weights(scores[..., k], tradable)
        held = torch.cat([torch.zeros_like(weights[:1]), weights[:-1]])
        tilt = torch.log1p((held * returns).sum(-1)) - index
        excess += [_rolling(tilt, n).sum(-1) for n in _EXCESS_DAYS]
        size = {"low_vol": lambda s: math.sqrt(market.sessions_per_year) / s, "size": lambda s: -s.log()}.get(
            factor, lambda s: s
        )
        spreads.append(_half_spread(size(scores[..., k]), scores[..., k], tradable))
    return [*excess, *spreads]


def _half_spread(quantity: Tensor, score: Tensor, tradable: Tensor) -> Tensor:
    """Mean of a quantity over the better half by score, less its mean over the rest; 0 if all scores are equal."""
    usable = tradable & quantity.isfinite()
    top = (tilt_weights(score, usable, overweight=math.inf) > 0) & usable
    rest = usable & ~top
    upper = _masked_mean(quantity, top)
    return torch.where(rest.any(-1), upper - _masked_mean(quantity, rest).nan_to_num(), 0.0 * upper)


def _calendar_features(market: Market) -> list[Tensor]:
    annual = (1 + market.cash_returns).pow(market.sessions_per_year) - 1
    angle = torch.from_numpy(2 * math.pi * (market.sessions.dayofyear.to_numpy() - 1) / 365.25).to(annual.dtype)
    return [annual, angle.sin(), angle.cos(), market.days_to_next.to(annual.dtype)]


def _average_correlation(returns: Tensor, tradable: Tensor, n: int) -> Tensor:
    """Mean pairwise correlation of the tradable assets over n sessions, weighted by the product of their volatilities.

    It follows from the variance of their equal-weight portfolio: (k²σ_p² − Σσ_i²) / ((Σσ_i)² − Σσ_i²). So no k × k matrix
    is needed.
    """
    out = []
    for rows, mask in zip(_rolling(returns, n).split(256), tradable.split(256), strict=True):
        chosen = torch.where(mask[..., None], rows, 0.0)
        total = chosen.sum(1).var(-1)
        variance = chosen.var(-1)
        own = variance.sum(-1)
        cross = variance.sqrt().sum(-1).square() - own
        out.append(torch.where(cross > 1e-18, (total - own) / cross.clamp(min=1e-18), 0.0 * total))
    return torch.cat(out)


def _rolling(x: Tensor, n: int) -> Tensor:
    """The last n rows up to each row, as a new last dimension; NaN for rows before the first."""
    padding = torch.full((n - 1, *x.shape[1:]), torch.nan, dtype=x.dtype)
    return torch.cat([padding, x]).unfold(0, n, 1)


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the assets in the mask; 0 in a session without any, NaN before the first session with one."""
    mean = torch.where(mask, x, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
    begun = mask.any(-1).cumsum(0) > 0
    return torch.where(begun, mean, torch.nan)


def _masked_std(x: Tensor, mask: Tensor) -> Tensor:
    centred = torch.where(mask, x - _masked_mean(x, mask)[:, None], 0.0)
    return _masked_mean(centred.square(), mask).sqrt()
