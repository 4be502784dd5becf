"""Baselines that estimate nothing: cash, and equal weight with more or less rebalancing."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.evaluation.question import Question, Targets
from tactician.evaluation.rivals_known import equal_weights, month_starts
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import grow, rebalance, settle

BAND = 0.2
"""A weight may be off its target by 20 % of the target. Daryanani (2008), "Opportunistic rebalancing", Journal of Financial
Planning 21(1), found bands of this width best."""


def equal_weight(question: Question) -> Targets:
    """Equal weight, rebalanced in every session."""
    return equal_weights(question.market, question.rows), _hold(question, False)


def cash(question: Question) -> Targets:
    """All in cash."""
    weights = torch.zeros_like(equal_weights(question.market, question.rows))
    weights[:, -1] = 1
    return weights, _hold(question, False)


def buy_and_hold(question: Question) -> Targets:
    """Equal weight, bought in the first session."""
    hold = _hold(question, True)
    hold[:1] = False
    return equal_weights(question.market, question.rows), hold


def equal_weight_monthly(question: Question) -> Targets:
    """Equal weight, rebalanced in the first session of each calendar month."""
    return equal_weights(question.market, question.rows), ~month_starts(question.market, question.rows)


def equal_weight_banded(question: Question) -> Targets:
    """Equal weight, rebalanced when a weight has left its band."""
    weights = equal_weights(question.market, question.rows)
    return weights, within_band(question.market, question.rows, weights)


def within_band(
    market: MarketTensors, rows: range, targets: Float[Tensor, "step asset+1"], band: float = BAND
) -> Bool[Tensor, " step"]:
    """Rows in which no asset's known weight differs from its target by more than a share of the target.

    The known weight is that of the close before. It follows from the market alone: the ledger hits a target exactly after
    costs, so costs do not move weights. An order that could not be filled is known one session later, and tried again.

    Args:
        market: gives returns, fills and delistings.
        rows: decision rows. The first one trades.
        targets: weights that a trade goes to.
        band: largest difference, as a share of the target.
    """
    market, targets = market.to("cpu"), targets.cpu()
    hold = torch.zeros(len(rows), dtype=torch.bool)
    holdings = torch.zeros_like(targets[0])
    holdings[-1] = 1
    for k, t in enumerate(rows):
        if k > 0:
            # Valued at the close of t − 1, after the trade there. What t − 1 earned until now is not known yet.
            off = (holdings / holdings.sum() - targets[k])[:-1].abs()
            hold[k] = (off <= band * targets[k, :-1]).all()
            holdings = grow(holdings, market.returns[t - 1].double(), market.cash_return[t - 1].double())
        holdings = settle(holdings, market.delisted[t])
        if not hold[k]:
            holdings = rebalance(holdings, targets[k], Frictions.zero(), fillable=market.fillable[t]).holdings
    return hold.to(market.device)


def _hold(question: Question, value: bool) -> Bool[Tensor, " step"]:
    return torch.full((len(question.rows),), value, device=question.market.device)
