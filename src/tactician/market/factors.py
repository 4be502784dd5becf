"""Factor scores and their inputs: pure functions of [session, asset] tensors. Row s uses sessions ≤ s only."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FACTORS = ("momentum", "low_vol", "quality", "size")
"""Order of the scores everywhere. A higher score is preferred."""

WINDOW = 20
"""Look-back of the scores in sessions, as in the specification."""

MAX_GAP = 5
"""An asset stays tradable through this many consecutive missing sessions."""

_FLOOR = 1e-8
"""Lowest daily volatility: an asset that never moves gets a large, finite score."""


def factor_scores(
    returns: Float[Tensor, "session asset"],
    listed: Bool[Tensor, "session asset"],
    closes: Float[Tensor, "session asset"],
    sessions_per_year: int = 252,
) -> Float[Tensor, "session asset factor"]:
    """The four scores of the specification, as known after each session's close.

    * momentum = P_s / P_{s−20} − 1 on total-return prices.
    * low_vol = 1/σ of the last 20 daily returns (ddof 1).
    * quality = their mean/σ·√(sessions per year), with a zero risk-free rate.
    * size = 1/close, on closes as traded.

    Args:
        returns: simple total returns, s − 1 → s.
        listed: the asset has had a bar.
        closes: price as traded; NaN if not known.
        sessions_per_year: 252 on XNYS.

    Returns:
        Scores in the order of `FACTORS`; NaN in the first 20 sessions and before the asset is listed.
    """
    momentum = torch.expm1(_rolling(torch.log1p(returns)).sum(-1))
    window = _rolling(returns)
    sigma = window.std(-1).clamp(min=_FLOOR)
    quality = window.mean(-1) / sigma * math.sqrt(sessions_per_year)
    scores = torch.stack([momentum, 1 / sigma, quality, 1 / closes], dim=-1)
    return torch.where(listed[..., None], scores, torch.nan)


def rolling_volatility(returns: Float[Tensor, "session asset"]) -> Float[Tensor, "session asset"]:
    """Standard deviation (ddof 1) of the last 20 daily returns; NaN in the first 20 sessions."""
    return _rolling(returns).std(-1)


def rolling_dollar_volume(traded: Float[Tensor, "session asset"]) -> Float[Tensor, "session asset"]:
    """Mean traded value of the last 20 sessions, in currency."""
    return _rolling(traded).mean(-1)


def tradable_mask(priced: Bool[Tensor, "session asset"], warmup: int) -> Bool[Tensor, "session asset"]:
    """Whether a rule may hold an asset, as known after each session's close.

    An asset needs ``warmup`` bars before its latest one. A single missing bar changes nothing here: at the close it cannot
    be told from a halt of one day. (No order is filled without a bar; see `Market.fillable`.) After more than `MAX_GAP`
    consecutive missing sessions the asset is not tradable, until it has `WINDOW` new bars for the scores.

    Args:
        priced: whether there is a bar at which an order can be filled.
        warmup: number of bars that must lie before the latest one.
    """
    bars = priced.to(torch.int64).cumsum(0)
    session = torch.arange(len(priced))[:, None]
    last_bar = torch.where(priced, session, -1).cummax(0).values
    missing = session - last_bar
    # Number of bars when the asset was last in a long gap. The sessions before the listing are left to the warm-up.
    amid = (missing > MAX_GAP) & (last_bar >= 0)
    before_gap = torch.where(amid, bars, -WINDOW).cummax(0).values
    return (bars > warmup) & ~amid & (bars - before_gap >= WINDOW)


def delisted_mask(priced: Bool[Tensor, "session asset"]) -> Bool[Tensor, "session asset"]:
    """Sessions after an asset's last bar, if more than `MAX_GAP` of them are known.

    Fewer missing sessions at the end of the data may be a halt, or a vendor that delivers late.
    """
    after = ~priced.flip(0).cumsum(0).flip(0).bool()
    return after & (after.sum(0) > MAX_GAP)


def _rolling(x: Tensor) -> Tensor:
    """The last WINDOW rows up to each row, as a new last dimension; NaN for missing returns at the start."""
    # Row 0 has no return, so row WINDOW is the first with WINDOW returns.
    padding = torch.full((WINDOW, *x.shape[1:]), torch.nan, dtype=x.dtype)
    return torch.cat([padding, x[1:]]).unfold(0, WINDOW, 1)
