"""The judge: a policy's path beside baselines, other starts, dearer costs and late execution, through one ledger."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment import Environment, EnvState, MarketTensors
from tactician.evaluation.agent import Evaluation, beyond, side_of, summarised
from tactician.evaluation.backtest import Path, action_targets, backtest
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT, answers, baselines_of
from tactician.evaluation.decisions import IN_CASH, Decisions, Start, all_starts, decide, starting_weights
from tactician.evaluation.inference import FEWEST, Interval, block_permutations, permutation_p_value
from tactician.evaluation.question import Piece, Question, Targets
from tactician.evaluation.rivals_regime import paths_of_regimes, shuffled
from tactician.policy import Network

MULTIPLIERS = (0.0, 1.0, 2.0, 5.0)
"""Factors on all trading costs."""
DELAYS = (0, 1, 2, 5)
"""Sessions from a decision to its execution, beyond the one that is always between."""

_HANGS = 0.02
"""Difference in annual return between two starts from which on a result hangs on the start."""
_PERMUTATIONS, _BLOCK = 200, 20
_AT_ONCE = 20_000_000
"""Weights of permuted paths in memory at a time: 160 MB."""


@dataclass(frozen=True)
class Turn:
    """A stretch of the judged range, and who decides in it."""

    piece: Piece
    environment: Environment
    """Its market's features are normalised as the policies know them."""
    policies: tuple[Network, ...]
    """Who decides. Several are an ensemble."""
    seeds: tuple[Network, ...] | None = None
    """Policies whose own paths are shown, if they are several; default: ``policies``. Each is followed all the way: how far
    the agent is followed was found by all of them together, and says nothing of one alone."""

    @property
    def alone(self) -> tuple[Network, ...]:
        """The policies whose own paths are shown; none if there is one."""
        shown = self.policies if self.seeds is None else self.seeds
        return shown if len(shown) > 1 else ()


@dataclass(frozen=True)
class Strategy:
    """A column of the path, or a baseline that could not have one."""

    name: str
    label: str
    group: str
    missing: str = ""
    """Why there is no path."""


@dataclass(frozen=True)
class Judged:
    """The judge's findings."""

    turns: tuple[Turn, ...]
    question: Question
    """What the baselines were asked."""
    result: Evaluation
    """The agent beside the baselines that are always there."""
    decisions: Decisions
    """The agent's, from cash. With several policies the agent is their ensemble."""
    memories: tuple[tuple[Tensor, ...], ...]
    """Recurrent state of each policy before each decision, by turn: turns may have policies of different kinds."""
    path: Path
    """The agent, its seeds if there are several, then the baselines."""
    strategies: tuple[Strategy, ...]
    """All, in the order of the path; those without a path in between."""
    notes: tuple[str, ...]
    """Remarks on baselines."""
    by_cost: dict[float, Path]
    """Agent and equal weight, by factor on the costs."""
    by_delay: dict[int, Path]
    """Agent and equal weight, by delay of the agent's trades in sessions."""
    by_start: Path
    """The agent from every start, named so, then equal weight from the same."""
    timing: float
    """p-value of the agent's timing: how often its own regimes, shuffled in blocks, grew as much."""

    @cached_property
    def starts(self) -> dict[str, Interval]:
        """Annual return beyond equal weight by start. Equal weight begins in the same place."""
        names = self.by_start.strategies[: len(self.by_start.strategies) // 2]
        return {name: beyond(self.by_start, name, _equal_from(name)) for name in names}

    @property
    def spread(self) -> str | None:
        """A sentence if the result hangs on where the agent starts; None if it does not."""
        if not all(math.isfinite(gap.value) for gap in self.starts.values()):
            return None
        found = sorted((gap.value, name) for name, gap in self.starts.items())
        (low, worst), (high, best) = found[0], found[-1]
        headline = side_of(self.starts[IN_CASH.name])
        others = sum(side_of(gap) != headline for gap in self.starts.values())
        if high - low < _HANGS and not others:
            return None
        said = (
            f"The result hangs on the start: beside equal weight the agent earns {100 * low:+.1f} % per year from {worst} and "
            f"{100 * high:+.1f} % from {best}. The table begins in cash, as the baselines do."
        )
        return f"{said} From {others} of {len(self.starts)} starts the verdict is another." if others else said

    @property
    def market(self) -> MarketTensors:
        """The market."""
        return self.turns[0].environment.market

    @property
    def rows(self) -> range:
        """The judged rows."""
        return self.decisions.rows

    @property
    def seeds(self) -> tuple[str, ...]:
        """The seeds' strategies; none if there is one policy."""
        return tuple(s.name for s in self.strategies if s.group == "seed")


def judge(turns: Sequence[Turn], seed: int = 0) -> Judged:
    """Judge policies over a range in which they take turns.

    The pieces are stitched through one ledger: a policy goes on with what its predecessor holds.

    Args:
        turns: in order; the rows of their pieces join up.
        seed: of random baselines and permutations.

    Raises:
        NotFinite: a growth of the agent, or an output of a policy, is not a finite number.
    """
    turns = tuple(turns)
    env = turns[0].environment
    parts = _in_turn(turns, lambda turn: turn.policies)
    decisions = _joined(parts)
    pieces = tuple(turn.piece for turn in turns)
    # Baselines and seeds follow the regimes all the way, however far the agent is followed.
    market = env.market.with_strength(1.0)
    agents = {AGENT: _targets(turns, decisions.actions[:, 0]), **_seeds(turns)}
    question = Question(
        market, decisions.rows, pieces, env.frictions, env.portfolio_value, decisions.actions[:, 0], seed
    )
    runs = _Runs(env, decisions.rows)
    strategies, targets, hold = _everyone(question, agents)
    path = runs(targets, hold, [s.name for s in strategies if not s.missing])
    # Where all regimes hold equal weight, a move between two is no trade. So turns are told apart by the regimes' own targets.
    told_apart_by = market if len(turns) > 1 else env.market
    result = summarised(told_apart_by, decisions, path)  # refuses figures that are not finite
    pair = [path.column(AGENT), path.column(EQUAL_WEIGHT)]
    by_cost = {
        m: path.only(_PAIR) if m == 1 else runs(targets[:, pair], hold[:, pair], _PAIR, costs=m) for m in MULTIPLIERS
    }
    return Judged(
        turns=turns,
        question=question,
        result=result,
        decisions=decisions,
        memories=tuple(part.memories for part in parts),
        path=path,
        strategies=tuple(strategies),
        notes=tuple(question.notes),
        by_cost=by_cost,
        by_delay=_late(runs, targets[:, pair], hold[:, pair]),
        by_start=_from_all_starts(turns, runs, targets[:, pair[1:]], hold[:, pair[1:]]),
        timing=_timing(turns, question, runs, float(by_cost[0.0].growth[:, 0].sum())),
    )


_PAIR = (AGENT, EQUAL_WEIGHT)


@dataclass(frozen=True)
class _Runs:
    """Backtests over the judged rows, with the agent's frictions."""

    env: Environment
    rows: range

    def __call__(
        self,
        targets: Float[Tensor, "step strategy asset+1"],
        hold: Bool[Tensor, "step strategy"],
        names: Sequence[str] = (),
        costs: float = 1.0,
        start: Tensor | None = None,
    ) -> Path:
        frictions = self.env.frictions if costs == 1 else self.env.frictions.scaled(costs)
        value = self.env.portfolio_value
        return backtest(
            self.env.market, self.rows, targets, hold, frictions, value, tuple(names), start=start, liquidate=True
        )


def _in_turn(
    turns: Sequence[Turn], who: Callable[[Turn], Sequence[Network]], starts: Sequence[Start] = (IN_CASH,)
) -> list[Decisions]:
    """Decisions of each turn, going on from the holdings of the one before."""
    parts: list[Decisions] = []
    held: EnvState | None = None
    for turn in turns:
        parts.append(decide(turn.environment, who(turn), turn.piece.rows, starts, held))
        held = parts[-1].last
    return parts


def _joined(parts: Sequence[Decisions]) -> Decisions:
    """Decisions over all turns; their memories stay apart."""
    return replace(
        parts[-1],
        rows=range(parts[0].rows.start, parts[-1].rows.stop),
        actions=torch.cat([p.actions for p in parts]),
        probabilities=torch.cat([p.probabilities for p in parts]),
        observations=torch.cat([p.observations for p in parts]),
        memories=(),
        finite=all(p.finite for p in parts),
    )


def _seeds(turns: Sequence[Turn]) -> dict[str, Targets]:
    """What each seed's policies would have done alone, followed all the way; nothing if there is one."""
    fully = [replace(turn, environment=_followed_all_the_way(turn.environment)) for turn in turns if turn.alone]

    def alone(k: int) -> Targets:
        return _targets(fully, _joined(_in_turn(fully, lambda turn: turn.alone[k : k + 1])).actions[:, 0])

    return {f"seed:{k}": alone(k) for k in range(len(turns[0].alone))}


def _followed_all_the_way(env: Environment) -> Environment:
    """The same where regimes are their own targets."""
    return replace(env, market=env.market.with_strength(1.0))


def _targets(turns: Sequence[Turn], actions: Int64[Tensor, " step"]) -> Targets:
    """The weights of a path of regimes, each turn's as far as its agent is followed."""
    done, parts = 0, []
    for turn in turns:
        rows = turn.piece.rows
        parts.append(action_targets(turn.environment.market, rows, actions[done : done + len(rows)]))
        done += len(rows)
    return torch.cat([weights[:, 0] for weights, _ in parts]), torch.cat([waits[:, 0] for _, waits in parts])


def _everyone(
    question: Question, agents: dict[str, Targets]
) -> tuple[list[Strategy], Float[Tensor, "step strategy asset+1"], Bool[Tensor, "step strategy"]]:
    """All strategies, and the targets of those that have a path."""
    strategies, targets, hold = [], [], []
    for name, (weights, waits) in agents.items():
        known = name == AGENT
        strategies.append(
            Strategy(name, "Agent" if known else name.replace(":", " ").capitalize(), "agent" if known else "seed")
        )
        targets.append(weights)
        hold.append(waits)
    baselines = baselines_of(question.market)
    answered, missing = answers(question, baselines)
    strategies += [Strategy(name, b.label, b.group, missing.get(name, "")) for name, b in baselines.items()]
    targets += [weights for weights, _ in answered.values()]
    hold += [waits for _, waits in answered.values()]
    return strategies, torch.stack(targets, 1), torch.stack(hold, 1)


def _late(runs: _Runs, targets: Tensor, hold: Tensor) -> dict[int, Path]:
    """The agent's trades some sessions later, beside equal weight. Before the first of them the agent holds cash."""
    late, waits = [targets[:, 1]], [hold[:, 1]]
    for k in DELAYS:
        late.append(targets[:, 0].roll(k, 0))
        waits.append(hold[:, 0].roll(k, 0))
        waits[-1][:k] = True
    names = (EQUAL_WEIGHT, *(f"{AGENT} {k} late" for k in DELAYS))
    path = runs(torch.stack(late, 1), torch.stack(waits, 1), names)
    return {k: path.only((f"{AGENT} {k} late", EQUAL_WEIGHT)).named(_PAIR) for k in DELAYS}


def _equal_from(start: str) -> str:
    return f"{EQUAL_WEIGHT} from {start}"


def _from_all_starts(turns: Sequence[Turn], runs: _Runs, equal: Tensor, waits: Tensor) -> Path:
    env = turns[0].environment
    starts = all_starts(env)
    decisions = _joined(_in_turn(turns, lambda turn: turn.policies, starts))
    parts = [_targets(turns, decisions.actions[:, k]) for k in range(len(starts))]
    n = len(starts)
    targets = torch.cat([torch.stack([weights for weights, _ in parts], 1), equal.expand(-1, n, -1)], 1)
    hold = torch.cat([torch.stack([still for _, still in parts], 1), waits.expand(-1, n)], 1)
    names = [*(s.name for s in starts), *(_equal_from(s.name) for s in starts)]
    return runs(targets, hold, names, start=starting_weights(env, decisions.rows, starts).repeat(2, 1))


def _timing(turns: Sequence[Turn], question: Question, runs: _Runs, growth: float) -> float:
    """p-value of the agent's timing against its own regimes in another order, in blocks of 20 sessions.

    Growth is before costs: each join of two blocks is a trade that the agent did not make, and costs would speak for it.
    """
    actions, market = question.actions, question.market
    assert actions is not None
    n = len(actions)
    if n < FEWEST:
        return math.nan
    orders = torch.from_numpy(block_permutations(n, min(_BLOCK, max(n // 4, 1)), _PERMUTATIONS, question.seed))
    at_once = max(_AT_ONCE // (n * (len(market.symbols) + 1)), 1)
    grown = [
        runs(*_paths(turns, shuffled(actions.cpu(), some)), costs=0.0).growth.sum(0) for some in orders.split(at_once)
    ]
    return permutation_p_value(growth, torch.cat(grown).cpu().numpy())


def _paths(
    turns: Sequence[Turn], actions: Int64[Tensor, "path step"]
) -> tuple[Float[Tensor, "step path asset+1"], Bool[Tensor, "step path"]]:
    """As `_targets`, for many paths at once."""
    lengths = [len(turn.piece.rows) for turn in turns]
    parts = [
        paths_of_regimes(turn.environment.market, turn.piece.rows, some)
        for turn, some in zip(turns, actions.split(lengths, 1), strict=True)
    ]
    return torch.cat([targets for targets, _ in parts]), torch.cat([hold for _, hold in parts])
