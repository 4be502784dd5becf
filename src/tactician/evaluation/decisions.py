"""What a policy decides over a range of sessions: one deterministic pass, its memory carried as in training and in live use.

A policy has learnt in episodes of L sessions and has never remembered more. So the recurrent state of a decision is rebuilt
from the last L sessions: it begins L − 1 sessions before as the initial state, and takes in what was observed since. Training
never makes a state that was carried for years, and nobody could rebuild one in live use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import Environment, EnvState, first_state, observe, portfolio_of, step
from tactician.evaluation.rivals_known import equal_weights
from tactician.policy import Network
from tactician.portfolio.regimes import EQUAL_WEIGHT_REGIME


@dataclass(frozen=True)
class Start:
    """What a portfolio holds before its first decision."""

    name: str
    regime: int | None = None
    """The regime whose weights it holds; None for cash."""
    equal: bool = False
    """It holds equal weight, which is no regime of the table."""


IN_CASH = Start("cash")


@dataclass(frozen=True)
class Decisions:
    """The regimes that a policy, or a mean of policies, chose over T sessions, from each of S starts."""

    rows: range
    actions: Int64[Tensor, "step start"]
    probabilities: Float[Tensor, "step start action"]
    observations: Float[Tensor, "step obs"]
    """Of the first start."""
    memories: tuple[Float[Tensor, "step layer hidden"], ...]
    """Recurrent state of each policy before each decision, of the first start."""
    last: EnvState
    """The portfolios after the last decision."""
    paper: Float[Tensor, "before obs"]
    """What was observed in the at most L − 1 sessions that were lived on paper."""
    finite: bool
    """Whether all outputs of the policies were finite."""


class _Memory:
    """Recurrent states of one policy that began in each of the last L sessions.

    Stream j begins anew in every step s with s mod L = j. In step s the stream that has seen the last L steps is the one that
    began in step s − L + 1. Before there are L steps, it is one that has seen all of them.
    """

    def __init__(self, policy: Network, length: int) -> None:
        self._policy = policy
        # A policy without memory needs one stream.
        self._length = length if policy.initial_state(1).numel() else 1
        self._fresh = policy.initial_state(1)
        self._hidden = self._fresh.repeat(1, self._length, 1)
        self._step = 0

    @property
    def before(self) -> Tensor:
        """The state with which the next decision is taken, of the first portfolio."""
        return self._hidden[:, self._due]

    @property
    def _due(self) -> int:
        return (self._step + 1) % self._length

    def share(self, n_starts: int) -> None:
        """From here on, as many portfolios as this have the memory of the first."""
        self._hidden = self._hidden[:, : self._length].repeat(1, n_starts, 1)

    def decide(self, observation: Float[Tensor, "start obs"]) -> Float[Tensor, "start action"]:
        """Logits for each portfolio's observation. All streams see it."""
        n_starts, due = len(observation), self._due
        seen = observation.repeat_interleave(self._length, 0)
        features, after = self._policy.trunk(seen[None], self._hidden)
        layers, _, width = self._fresh.shape
        self._hidden = after.contiguous()
        self._hidden.view(layers, n_starts, self._length, width)[:, :, due] = self._fresh
        self._step += 1
        logits, _ = self._policy.heads(features[0].view(n_starts, self._length, -1)[:, due], portfolio_of(observation))
        return logits


@torch.no_grad()
def decide(
    env: Environment,
    policies: Sequence[Network],
    rows: range,
    starts: Sequence[Start] = (IN_CASH,),
    before: EnvState | None = None,
) -> Decisions:
    """Let policies decide over a range: the most probable regime, no dropout, the mean of slippage.

    Several policies are an ensemble: the mean of their action probabilities counts. The L − 1 sessions before the range are
    lived on paper, from cash, so that the first decision has a memory. Fewer do if the market begins later.

    Args:
        env: gives the market (features normalised), frictions, portfolio value and L = ``episode_length``.
        policies: one, or an ensemble.
        rows: the T decision rows.
        starts: what each of S portfolios holds before the first of them.
        before: portfolios of an earlier range, with which this one goes on, instead of ``starts``.
    """
    paper = range(max(1, rows.start - env.episode_length + 1), rows.start)
    whole = range(paper.start, rows.stop)
    alone = replace(
        env,
        rows=whole,
        episode_length=len(whole),
        portfolios_per_window=1,
        first_holdings="cash",
        random_slippage=False,
    )
    memories = [_Memory(policy, env.episode_length) for policy in policies]
    state, finite = first_state(alone, torch.zeros(1, dtype=torch.int64, device=env.market.device)), []
    lived = []
    for _ in paper:
        lived.append(observe(alone, state))
        probabilities = _mean([memory.decide(lived[-1]) for memory in memories])
        finite.append(probabilities.isfinite().all())
        state, _ = step(alone, state, probabilities.argmax(-1))
    # The judged portfolios take the place of the one on paper, with its memory.
    state = _begin(env, state, rows, starts) if before is None else replace(before, age=state.age)
    n_starts = len(state.holdings)
    together = replace(alone, portfolios_per_window=n_starts)
    for memory in memories:
        memory.share(n_starts)
    actions, chances, seen, remembered = [], [], [], []
    for _ in rows:
        observation = observe(together, state)
        seen.append(observation[0])
        remembered.append([memory.before for memory in memories])
        chances.append(_mean([memory.decide(observation) for memory in memories]))
        actions.append(chances[-1].argmax(-1))
        state, _ = step(together, state, actions[-1])
    finite += [chance.isfinite().all() for chance in chances]
    return Decisions(
        rows=rows,
        actions=torch.stack(actions),
        probabilities=torch.stack(chances),
        observations=torch.stack(seen),
        memories=tuple(torch.stack(states) for states in zip(*remembered, strict=True)),
        last=state,
        paper=torch.cat(lived) if lived else torch.empty(0, seen[0].shape[-1], device=env.market.device),
        finite=bool(torch.stack(finite).all()),
    )


def all_starts(env: Environment) -> tuple[Start, ...]:
    """Cash, equal weight, and every regime that holds something else: a verdict must not hang on where a portfolio begins."""
    regimes = env.market.regimes
    held = [k for k, kind in enumerate(regimes.kinds) if kind != "hold" and regimes.regimes[k].cash < 1]
    equal = () if EQUAL_WEIGHT_REGIME in regimes.names else (Start(EQUAL_WEIGHT_REGIME, equal=True),)
    return (IN_CASH, *equal, *(Start(regimes.names[k], k) for k in held))


def starting_weights(env: Environment, rows: range, starts: Sequence[Start]) -> Float[Tensor, "start asset+1"]:
    """What each start holds before the first row, with cash in the last column."""
    market = env.market
    cash = torch.zeros(market.returns.shape[1] + 1, device=market.device)
    cash[-1] = 1
    equal = equal_weights(market, range(rows.start, rows.start + 1))[0].to(cash)
    return torch.stack(
        [
            equal if s.equal else cash if s.regime is None else market.regime_weights[rows.start, s.regime]
            for s in starts
        ]
    )


def _begin(env: Environment, paper: EnvState, rows: range, starts: Sequence[Start]) -> EnvState:
    n, device = len(starts), env.market.device
    none = torch.zeros(n, dtype=torch.int64, device=device)
    return replace(
        paper,
        holdings=starting_weights(env, rows, starts),
        regime=torch.tensor([s.regime or 0 for s in starts], device=device),
        since_trade=none,
        trade_growth=torch.zeros(n, device=device),
        in_trade=none.bool(),
    )


def _mean(logits: Sequence[Float[Tensor, "start action"]]) -> Float[Tensor, "start action"]:
    """Mean of the policies' action probabilities."""
    return torch.stack([x.softmax(-1) for x in logits]).mean(0)
