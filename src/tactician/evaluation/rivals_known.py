"""What a baseline knows at a decision, and when it decides.

The decision in row t uses sessions up to t − 1. ``returns[t]`` is earned from close t to close t + 1, so the last known row of
returns is t − 2.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.portfolio.regimes import FactorTilt

WINDOW = 252
"""Sessions of an estimate: one year."""
FEWEST = 60
"""An estimate from fewer sessions is not made."""


class Known(NamedTuple):
    """The last sessions that the decision in a row knows."""

    returns: Float[Tensor, "session asset"]
    """Simple returns, float64."""
    cash: Float[Tensor, " session"]
    usable: Bool[Tensor, " asset"]
    """Assets that a rule may hold now and that were listed before the first of these sessions."""


def known(market: MarketTensors, row: int, sessions: int = WINDOW) -> Known | None:
    """What the decision in a row knows of the last sessions; None if they are fewer than `FEWEST`."""
    stop = max(row - 1, 0)
    start = max(stop - sessions, 0)
    if stop - start < FEWEST:
        return None
    days = slice(start, stop)
    # `fillable` of the past is known. An asset without a bar until then has returns of 0 that nobody earned.
    listed = market.fillable[: start + 1].any(0)
    return Known(market.returns[days].double(), market.cash_return[days].double(), market.tradable[row] & listed)


def equal_weights(market: MarketTensors, rows: range) -> Float[Tensor, "step asset+1"]:
    """Equal weights of the tradable assets; all in cash if there are none."""
    days = slice(rows.start, rows.stop)
    # The same rule and precision as the regime EQUAL_WEIGHT in `action_targets`, so the paths agree to the last bit.
    risky = FactorTilt().weights(market.factor_ranks[days].double(), market.tradable[days])
    return torch.cat([risky, (risky.sum(-1, keepdim=True) == 0).double()], -1)


def month_starts(market: MarketTensors, rows: range) -> Bool[Tensor, " step"]:
    """The first row, and every row that decides in the first session of a calendar month."""
    months = torch.from_numpy(
        market.dates.cpu().numpy().astype("datetime64[D]").astype("datetime64[M]").astype("int64")
    )
    first = torch.ones(len(rows), dtype=torch.bool)
    first[1:] = (months[1:] != months[:-1])[rows.start : rows.stop - 1]
    return first.to(market.device)
