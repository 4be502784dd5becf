"""Does the trainer find the best policy where it is known? One training on one synthetic market, beside its optimum."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from tactician.config import make_config
from tactician.environment import Environment, EnvState, fold_of_member, observe
from tactician.evaluation import Found, evaluate, hold_equal_weight, on_held_out_days, weigh
from tactician.learning import begin_memory
from tactician.monitor.progress import Reporter
from tactician.policy import Ensemble, Network
from tactician.synthetic import WARM_UP, Choose, Played, Problem, best_constant, play
from tactician.training.loop import iterate
from tactician.training.members import member_seed
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import first_train_state

_NOWHERE = Path("unused")


@dataclass(frozen=True)
class Yardstick:
    """Figures of the optimum and of the naive policy on the judged rows of a market."""

    optimum: Played
    naive: Played
    naive_regime: str

    def share(self, played: Played) -> float:
        """(J − J_naive) / (J_opt − J_naive): 0 is the best constant regime, 1 the optimum; NaN if nothing is to gain."""
        gap = self.optimum.growth - self.naive.growth
        return (played.growth - self.naive.growth) / gap if gap > 1e-9 else float("nan")


@dataclass(frozen=True)
class Point:
    """The result of a policy at one point of its training."""

    timesteps: int
    seconds: float
    """Spent in rollouts and updates."""
    share: float
    growth: float
    turnover: float
    agreement: float


def measure(problem: Problem) -> Yardstick:
    """The optimum and the best constant regime, through the environment."""
    regime, naive = best_constant(problem)
    return Yardstick(play(problem, problem.optimum), naive, problem.market.regimes.names[regime])


_MOST_ROWS = 8192
"""Rows of a training range on which a policy is judged: enough to show what was memorised, and seconds less than all."""


def beyond_equal_weight(problem: Problem, choose: Choose, env: Environment | None = None) -> float:
    """Annual log growth of a policy beyond equal weight without costs, on the days that it was trained on.

    Where the market holds nothing to learn, it is what was memorised. Of a long training range, only the last rows count.
    """
    first = max(1, problem.n_train - _MOST_ROWS)
    rows = range(first, problem.n_train)
    window = min(512, len(rows))
    played = play(problem, choose, env, window, rows)
    # The same sessions: whole windows, each without its warm-up.
    counted = torch.arange(rows.start, rows.stop).split(window)[: len(rows) // window]
    days = torch.cat([part[WARM_UP:] for part in counted])
    equal = torch.log1p(problem.market.equal_weight_returns[days].double()).mean()
    return (played.growth - float(equal)) * problem.market.sessions_per_year


def problem_setup(problem: Problem, settings: Mapping[str, Any]) -> Setup:
    """A run's setup on a synthetic market.

    Args:
        problem: the market; its costs count, whatever the settings say of costs.
        settings: configuration keys.

    Raises:
        UserError: an unknown key or a value that cannot be.
    """
    market = problem.market
    config = make_config(
        {
            "universe": {"all": market.symbols},
            "train_until": market.date_of(problem.n_train),
            "validation_until": market.date_of(problem.n_train + 3),
            "cache_path": _NOWHERE,
            "checkpoint_dir": _NOWHERE,
            "device": "cpu",
            **settings,
            **vars(problem.frictions),
        },
        "learnability",
    )
    return prepare_run(config, market)


def train_on(
    problem: Problem,
    setup: Setup,
    yardstick: Yardstick,
    judge_every: int = 10,
    on_point: Callable[[Point], None] = lambda _: None,
) -> tuple[list[Point], Network]:
    """Train for the setup's duration, and judge the deterministic policy in between and at the end.

    Returns:
        The judgements, and the policy of the last.
    """
    state, points = first_train_state(setup), []
    quiet = Reporter("quiet", silent=True)
    while state.progress.timesteps < setup.total_timesteps:
        state = iterate(setup, state, quiet)
        last = state.progress.timesteps >= setup.total_timesteps
        if state.progress.iteration % judge_every == 0 or last:
            played = play(problem, deterministic(setup.environment, state.learner.policy), setup.environment)
            share = yardstick.share(played)
            progress = state.progress
            points.append(
                Point(progress.timesteps, progress.seconds, share, played.growth, played.turnover, played.agreement)
            )
            on_point(points[-1])
    return points, state.learner.policy


def train_ensemble_on(problem: Problem, settings: Mapping[str, Any], yardstick: Yardstick) -> dict[str, Any]:
    """Train an ensemble as `tactician train` does, and judge it as it is deployed.

    Args:
        problem: the market.
        settings: configuration keys, ``members`` among them; its seed is that of the first member.
        yardstick: of the market.

    Returns:
        Plain values: ``points`` with one judgement, ``training``, ``strength``, ``difference`` (what members earn beyond equal
        weight on days left out, with its interval), and ``alone``: each member's share.
    """
    policies, pieces, gaps, alone, seconds, steps = [], [], [], [], 0.0, 0
    for number in range(1, int(settings["members"]) + 1):
        own = {"member": number, "seed": member_seed(settings["seed"], number)}
        setup = problem_setup(problem, {**settings, **own})
        points, policy = train_on(problem, setup, yardstick, judge_every=sys.maxsize)
        piece, gap = on_held_out_days(
            evaluate(setup.environment, policy, fold_of_member(setup.config, setup.splits["train"]).held_out)
        )
        policies.append(policy)
        pieces.append(piece)
        gaps.append(gap)
        alone.append(points[-1].share)
        seconds, steps = seconds + points[-1].seconds, steps + points[-1].timesteps
    found = weigh(pieces, gaps, problem.market.sessions_per_year)
    deployed = _deployed(setup, policies, found)
    played = play(problem, deterministic(*deployed), deployed[0])
    point = Point(steps, seconds, yardstick.share(played), played.growth, played.turnover, played.agreement)
    return {
        "gap": None,
        "training": beyond_equal_weight(problem, deterministic(*deployed), deployed[0]),
        "strength": found.strength,
        "difference": [found.difference.value, found.difference.low, found.difference.high],
        "alone": alone,
        "points": [asdict(point)],
    }


def _deployed(setup: Setup, policies: Sequence[Network], found: Found) -> tuple[Environment, Network]:
    """The environment and the policy of an ensemble, followed as far as was found."""
    market = setup.environment.market.with_strength(found.strength)
    env = replace(setup.environment, market=market)
    if found.strength:
        return env, Ensemble(policies)
    return env, hold_equal_weight(policies[0].obs_dim, market.regimes.names)


def deterministic(environment: Environment, policy: Network) -> Choose:
    """The policy's most probable action, its recurrent state kept from call to call; no dropout."""
    env = replace(environment, portfolios_per_window=1)
    hidden: Tensor | None = None

    @torch.no_grad()
    def choose(state: EnvState) -> Int64[Tensor, " env"]:
        nonlocal hidden
        if hidden is None:
            hidden = begin_memory(env, policy, state.day)
        logits, _, hidden = policy(observe(env, state)[None], hidden)
        return logits[0].argmax(-1)

    return choose
