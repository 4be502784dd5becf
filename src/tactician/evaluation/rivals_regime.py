"""Baselines that hold regimes: a constant one, the best one of the past, and regimes at random."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import FULL_CASH, HOLD, MarketTensors
from tactician.evaluation.available import NotAvailable
from tactician.evaluation.backtest import Path, action_targets, backtest
from tactician.evaluation.question import Baseline, Question, Targets

_HALVINGS = 10
"""Trials of `random_regimes`: a thousandth of the sessions."""

PREFIX = "regime:"
"""A constant regime is named by it and the regime."""


def constant_regimes(market: MarketTensors) -> dict[str, Baseline]:
    """One baseline per regime of the market's table, except HOLD, which is no portfolio."""
    return {
        PREFIX + market.regimes.names[action]: Baseline(
            constant_label(market.regimes.names[action]), _Always(action), group="regime"
        )
        for action in portfolios(market)
    }


def constant_label(regime: str) -> str:
    """How tables name a constant regime."""
    return f"Always {regime}"


def portfolios(market: MarketTensors) -> list[int]:
    """Actions that stand for target weights: all but HOLD."""
    return torch.nonzero(~market.regimes.is_hold)[:, 0].tolist()


class _Always:
    """One regime, traded to in every session."""

    def __init__(self, action: int) -> None:
        self.action = action

    def __call__(self, question: Question) -> Targets:
        return follow(question, torch.full((len(question.rows),), self.action))


def follow(question: Question, actions: Int64[Tensor, " step"]) -> Targets:
    """The targets of a path of regimes. A row of HOLD repeats the weights before, and is not traded."""
    market = question.market
    targets, hold = (part[:, 0] for part in action_targets(market, question.rows, actions.to(market.device)))
    # Weights of a row that holds mean nothing to the ledger; they sum to 1 all the same.
    traded = torch.where(hold, 0, torch.arange(1, len(hold) + 1, device=hold.device)).cummax(0).values
    cash = torch.zeros_like(targets[:1])
    cash[:, -1] = 1
    return torch.cat([cash, targets])[traded], hold


def constants_path(question: Question, rows: range, more: Sequence[Targets] = ()) -> Path:
    """The ledger's account of every constant regime over some rows, by `portfolios`, then of other targets."""
    market = question.market
    asked = Question(market, rows)
    paths = [*(_Always(action)(asked) for action in portfolios(market)), *more]
    targets, hold = (torch.stack(parts, 1) for parts in zip(*paths, strict=True))
    return backtest(market, rows, targets, hold, question.frictions, question.portfolio_value, liquidate=True)


def best_constants(question: Question) -> tuple[int, ...]:
    """For every piece, the regime with the largest net log growth over the piece's validation range.

    Raises:
        NotAvailable: a piece has no validation range.
    """
    chosen: list[int] = []
    for piece in question.pieces:
        if not piece.validation:
            raise NotAvailable("there is no validation range to choose a regime on")
        growth = constants_path(question, piece.validation).growth.sum(0)
        chosen.append(portfolios(question.market)[int(growth.argmax())])
    return tuple(chosen)


def best_constant(question: Question) -> Targets:
    """In every piece the regime that was best on its validation range, traded to in every session."""
    lengths = torch.tensor([len(piece.rows) for piece in question.pieces])
    return follow(question, torch.tensor(best_constants(question)).repeat_interleave(lengths))


def regimes_in_force(actions: Int64[Tensor, " step"]) -> Int64[Tensor, " step"]:
    """The regime that each session ends in. HOLD continues the one before, and the beginning is cash."""
    decided = torch.where(actions == HOLD, 0, torch.arange(1, len(actions) + 1, device=actions.device))
    return torch.cat([actions.new_full((1,), FULL_CASH), actions])[decided.cummax(0).values]


def random_regimes(question: Question) -> Targets:
    """Regimes at random that trade as much as the agent's, between targets.

    The first move is in the first session, the others in sessions drawn without replacement. Each goes to a regime drawn
    evenly from all others; regimes with the same targets count as one. Sessions without a move hold, or go on with their
    regime, in the agent's proportion. The number of trading sessions is the one at which the sum of the changes of targets
    is nearest to the agent's. An agent that stays in cash has no moves.

    Raises:
        NotAvailable: there is no agent.
    """
    if question.actions is None:
        raise NotAvailable("there is no agent whose turnover it could match")
    canonical = question.market.canonical_regimes(question.rows).cpu()
    actions = question.actions.cpu()
    moves = int(_moves(canonical[regimes_in_force(actions)], int(canonical[FULL_CASH])).sum())
    trades = max(int((actions != HOLD).sum()), moves)
    question.notes.append(f"The random regimes are one draw, with seed {question.seed}.")
    if not moves:
        return _drawn(question, canonical, 0, trades)
    own = _changed(follow(question, actions))
    low, high, best = 0.0, len(actions) / trades, (math.inf, _drawn(question, canonical, moves, trades))
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        drawn = _drawn(question, canonical, max(1, round(share * moves)), max(1, round(share * trades)))
        gap = _changed(drawn) - own
        best = min(best, (abs(gap), drawn), key=lambda pair: pair[0])
        low, high = (share, high) if gap < 0 else (low, share)
    return best[1]


def _drawn(question: Question, canonical: Int64[Tensor, " regime"], moves: int, trades: int) -> Targets:
    """A path with so many moves, in so many sessions that trade. The same seed gives the same draws in the same order."""
    generator = torch.Generator().manual_seed(question.seed)
    n = len(question.rows)
    later, still = (torch.randperm(n - 1, generator=generator) + 1 for _ in range(2))
    drawn = torch.zeros(n, dtype=torch.bool)
    if moves:
        drawn[0] = True
        drawn[later[: moves - 1]] = True
    choices = sorted({int(canonical[action]) for action in portfolios(question.market)})
    steps = torch.randint(len(choices) - 1, (n,), generator=generator).tolist() if len(choices) > 1 else [0] * n
    regime, path = int(canonical[FULL_CASH]), []
    for move, step in zip(drawn.tolist(), steps, strict=True):
        if move:
            others = [choice for choice in choices if choice != regime] or choices
            regime = others[step]
        path.append(regime)
    trading = drawn.clone()
    free = [int(k) for k in still if not drawn[k]] + ([] if drawn[0] else [0])
    trading[free[: trades - moves]] = True
    return follow(question, torch.where(trading, torch.tensor(path), HOLD))


def _changed(path: Targets) -> float:
    """The sum of the changes of targets from session to session, from cash on. A path that holds changes nothing."""
    targets, _ = path
    cash = torch.zeros_like(targets[:1])
    cash[:, -1] = 1
    return float((targets - torch.cat([cash, targets[:-1]])).abs().sum()) / 2


def _moves(regimes: Int64[Tensor, " step"], start: int) -> Tensor:
    return torch.cat([regimes.new_full((1,), start), regimes[:-1]]) != regimes


def shuffled(actions: Int64[Tensor, " step"], order: Int64[Tensor, "path step"]) -> Int64[Tensor, "path step"]:
    """The agent's own regimes in another order of sessions.

    A session takes its regime in force and its choice to hold with it. Where the regime before is another one, the session
    trades to its own. The order 0, 1, 2 … gives the agent's own path back.

    Args:
        actions: the agent's regimes.
        order: for each path a permutation of the session numbers.
    """
    regimes = regimes_in_force(actions)[order]
    before = torch.cat([regimes.new_full((len(order), 1), FULL_CASH), regimes[:, :-1]], 1)
    stays = (actions == HOLD)[order] & (regimes == before)
    # Sessions that chose a regime keep it, even if it is the one before: they rebalance.
    return torch.where(stays, HOLD, regimes)


def paths_of_regimes(
    market: MarketTensors, rows: range, actions: Int64[Tensor, "path step"]
) -> tuple[Float[Tensor, "step path asset+1"], Tensor]:
    """Targets and hold flags of many paths of regimes at once, for `backtest`; as `action_targets` of each."""
    days = slice(rows.start, rows.stop)
    weights = market.regimes.weights(market.factor_ranks[days].double(), market.tradable[days])
    chosen = actions.T.to(market.device)
    return weights[torch.arange(len(rows), device=market.device)[:, None], chosen], chosen == HOLD
