"""An upper bound: the path of regimes that turned out best."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.evaluation.question import Question, Targets
from tactician.evaluation.rivals_regime import constants_path, follow, portfolios
from tactician.portfolio.ledger import grow, move_cost, settle

_CHUNK = 2**22
"""Largest number of elements of a table of moves."""


def hindsight(question: Question) -> Targets:
    """The best path of regimes that are traded to in every session, known afterwards, net of costs.

    It is found by dynamic programming over (session, regime): Bellman (1957), "Dynamic programming". A regime holds its
    targets exactly after each trade, so the next cost depends on the two regimes alone. Costs are those of `move_cost`, whose
    error is about the cost squared, and include the sale in the end. Volumes are compared with the initial wealth, and every
    order is taken as filled. If one constant regime beats the path in the ledger itself, that regime is the answer.

    No path that trades to a regime in every session beats it, up to these errors. A path with HOLD may, by the small costs
    of rebalancing that it saves.
    """
    path = _best_path(*_gains(question))
    actions = torch.tensor(portfolios(question.market))
    found = follow(question, actions[path])
    growth = constants_path(question, question.rows, [found]).growth.sum(0).cpu()
    best = int(growth.argmax())
    return found if best == len(actions) else follow(question, actions[best].expand(len(question.rows)))


def _gains(
    question: Question,
) -> tuple[Float[Tensor, "step regime"], Float[Tensor, "step regime regime"]]:
    """Log growth of each regime per session, the last with its sale; and the log of one less the cost of each move.

    The move in session k is from the regime before (row) to that of the session (column). All rows of the first one are cash.
    """
    market, rows = question.market.to("cpu"), question.rows
    days = slice(rows.start, rows.stop)
    weights = market.regimes.weights(market.factor_ranks[days].double(), market.tradable[days])[:, portfolios(market)]
    grown = grow(weights, market.returns[days].double()[:, None], market.cash_return[days].double()[:, None])
    growth = grown.sum(-1).log()
    held = grown / grown.sum(-1, keepdim=True)
    cash = torch.zeros_like(held[:1])
    cash[..., -1] = 1
    before = settle(torch.cat([cash, held[:-1]]), market.delisted[days][:, None])
    size = max(1, _CHUNK // (weights.shape[1] * weights[0].numel()))
    moves = torch.cat(
        [
            _log_costs(question, rows[k : k + size], before[k : k + size], weights[k : k + size])
            for k in range(0, len(rows), size)
        ]
    )
    growth[-1] += _log_costs(question, rows[-1:], held[-1:], cash[:, :1])[0, :, 0]
    return growth, moves


def _log_costs(
    question: Question,
    rows: range,
    holdings: Float[Tensor, "step regime asset+1"],
    targets: Float[Tensor, "step to asset+1"],
) -> Float[Tensor, "step regime to"]:
    market, days = question.market, slice(rows.start, rows.stop)
    cost = move_cost(
        holdings,
        targets[:, None],
        question.frictions,
        vol_daily=market.vol_daily[days, None].double().cpu(),
        adv=market.dollar_volume[days, None].double().cpu() / question.portfolio_value,
    )
    return torch.log1p(-cost)


def _best_path(
    growth: Float[Tensor, "step regime"], moves: Float[Tensor, "step regime regime"]
) -> Int64[Tensor, " step"]:
    """The path with the largest sum (Viterbi 1967)."""
    score = torch.zeros_like(growth[0])
    came = []
    for gain, move in zip(growth, moves, strict=True):
        best = (score[:, None] + move).max(0)
        came.append(best.indices)
        score = best.values + gain
    path = [int(score.argmax())]
    for indices in reversed(came[1:]):
        path.append(int(indices[path[-1]]))
    return torch.tensor(path[::-1])
