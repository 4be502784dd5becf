"""Does the trainer find the best policy where it is known? One training on one synthetic market, beside its optimum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from tactician.config import make_config
from tactician.environment import Environment, EnvState, observe
from tactician.learning import begin_memory
from tactician.monitor.progress import Reporter
from tactician.policy import Network
from tactician.synthetic import WARM_UP, Choose, Played, Problem, best_constant, play
from tactician.training.loop import iterate
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


def beyond_equal_weight(problem: Problem, choose: Choose, env: Environment | None = None) -> float:
    """Annual log growth of a policy beyond equal weight without costs, on the days that it was trained on.

    Where the market holds nothing to learn, it is what was memorised. Of a long training range, only as many of its last
    rows count as are judged.
    """
    first = max(1, problem.n_train - len(problem.judged))
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
            played = play(problem, deterministic(setup, state.learner.policy), setup.environment)
            share = yardstick.share(played)
            progress = state.progress
            points.append(
                Point(progress.timesteps, progress.seconds, share, played.growth, played.turnover, played.agreement)
            )
            on_point(points[-1])
    return points, state.learner.policy


def deterministic(setup: Setup, policy: Network) -> Choose:
    """The policy's most probable action, its recurrent state kept from call to call; no dropout."""
    env = replace(setup.environment, portfolios_per_window=1)
    hidden: Tensor | None = None

    @torch.no_grad()
    def choose(state: EnvState) -> Int64[Tensor, " env"]:
        nonlocal hidden
        if hidden is None:
            hidden = begin_memory(env, policy, state.day)
        logits, _, hidden = policy(observe(env, state)[None], hidden)
        return logits[0].argmax(-1)

    return choose
