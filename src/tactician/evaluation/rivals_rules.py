"""Classical rules without an optimiser: momentum in time, and a target for downside volatility."""

from jaxtyping import Float
from torch import Tensor

from tactician.evaluation.available import NotAvailable
from tactician.evaluation.question import Piece, Question, Targets
from tactician.evaluation.rivals_known import FEWEST, equal_weights, known, month_starts
from tactician.evaluation.rivals_simple import within_band


def time_series_momentum(question: Question) -> Targets:
    """Each month, an equal share in every asset that beat cash over the last 252 known sessions, and the rest in cash.

    Moskowitz, Ooi and Pedersen (2012), "Time series momentum", long only and without scaling by volatility. An asset that was
    not listed for the whole window has its share in cash. Until 60 sessions are known, the weights are equal.
    """
    market, rows = question.market.to("cpu"), question.rows
    weights, trades = equal_weights(market, rows), month_starts(market, rows)
    for k, t in enumerate(rows):
        past = known(market, t) if trades[k] else None
        if past is not None:
            chosen = ((1 + past.returns).prod(0) > (1 + past.cash).prod()) & past.usable
            shares = market.tradable[t].sum().double().clamp_min(1)
            weights[k, :-1] = chosen / shares
            weights[k, -1] = 1 - chosen.sum() / shares
        elif not trades[k]:
            weights[k] = weights[k - 1]
    return weights.to(question.market.device), ~trades.to(question.market.device)


def downside_volatility_target(question: Question) -> Targets:
    """Equal weight with an exposure that aims at a constant downside volatility, and the rest in cash.

    The exposure is target / estimate, and at most 1. The estimate is the downside deviation of equal weight over the last 60
    known sessions. The target is that over the piece's training range, or over all known sessions before the range. It trades
    when a weight leaves its band (`BAND`), so that noise of the estimate costs little. Moreira and Muir (2017),
    "Volatility-managed portfolios", with the downside deviation of Sortino and van der Meer (1991) in place of the variance.

    Raises:
        NotAvailable: fewer than 60 sessions lie before the range.
    """
    market, rows = question.market.to("cpu"), question.rows
    everything = range(rows.stop)
    daily = (equal_weights(market, everything)[:, :-1] * market.returns[: rows.stop].double()).sum(-1)
    weights = equal_weights(market, rows)
    for piece in question.pieces:
        target = _downside(daily[_reference(piece, rows)])
        for t in piece.rows:
            if t - 1 >= FEWEST:
                estimate = _downside(daily[t - 1 - FEWEST : t - 1])
                weights[t - rows.start, :-1] *= (target / estimate).clamp_max(1.0) if estimate > 0 else 1.0
    weights[:, -1] = (1 - weights[:, :-1].sum(-1)).clamp_min(0)  # a sum may round to more than 1
    return weights.to(question.market.device), within_band(question.market, rows, weights)


def _reference(piece: Piece, rows: range) -> slice:
    """The sessions that a piece's target comes from."""
    train = piece.train or range(max(rows.start - 1, 0))
    if len(train) < FEWEST:
        raise NotAvailable(f"fewer than {FEWEST} sessions before the range tell what volatility to aim at")
    return slice(train.start, train.stop)


def _downside(returns: Float[Tensor, " session"]) -> Tensor:
    """Root mean square of the losses; gains count as 0."""
    return returns.clamp_max(0).square().mean().sqrt()
