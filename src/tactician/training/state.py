"""TrainState: everything that changes during a run. A checkpoint is this object on disk."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.environment import PER_WINDOW, EnvState, first_state
from tactician.hardware.processes import Process
from tactician.learning import Learner, begin_memory, make_learner, make_precision
from tactician.policy import Network
from tactician.training.lineage import Seen, run_name, seen_by_run
from tactician.training.setup import Setup


@dataclass(frozen=True)
class Progress:
    """Counters and best figures, as plain numbers."""

    iteration: int = 0
    """Iterations finished."""
    timesteps: int = 0
    """Environment steps finished and used in updates."""
    total_trades: int = 0
    winning_trades: int = 0
    best_reward: float = float("-inf")
    """Highest mean reward per step in an iteration, in percent."""
    best_validation: float = float("-inf")
    """Highest figure on the validation range that picks the best model (``best_by``)."""
    best_iteration: int = 0
    dropped_updates: int = 0
    """Minibatches whose loss or gradient was not finite."""
    dropped_in_a_row: int = 0
    """Consecutive joint updates dropped at the end of the last iteration."""
    seconds: float = 0.0
    """Time spent in rollouts and updates."""

    @property
    def win_rate(self) -> float:
        """Share of all closed trades with a gain; NaN without a closed trade."""
        return self.winning_trades / self.total_trades if self.total_trades else math.nan

    def after(self, metrics: Mapping[str, float], samples: int, seconds: float, dropped_in_a_row: int) -> "Progress":
        """The progress after one more iteration.

        Args:
            metrics: of the iteration.
            samples: environment steps used in its updates.
            seconds: its duration.
            dropped_in_a_row: consecutive joint updates dropped at its end.
        """
        return replace(
            self,
            iteration=self.iteration + 1,
            timesteps=self.timesteps + samples,
            total_trades=self.total_trades + int(metrics["trades"]),
            winning_trades=self.winning_trades + int(metrics["winning_trades"]),
            best_reward=max(self.best_reward, metrics["reward"]),
            dropped_updates=self.dropped_updates + int(metrics["dropped_updates"]),
            dropped_in_a_row=dropped_in_a_row,
            seconds=self.seconds + seconds,
        )


@dataclass(frozen=True)
class TrainState:
    """Learner (changed in place by the update), environments, recurrent state, lineage, progress.

    Random numbers are functions of seed and counters (`tactician.environment.noise`), so there is no generator to save.
    """

    learner: Learner
    env_state: EnvState
    """Of this process's windows."""
    hidden: Float[Tensor, "layer memory hidden"]
    """Of this process's windows if the policy shares its memory, or else of their environments."""
    run: str
    """Name of the run (`lineage.run_name`)."""
    seen: Seen
    """The data that the weights have seen, in this run and its ancestors."""
    progress: Progress = field(default_factory=Progress)
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last iteration."""

    def state_dict(self, process: Process) -> dict[str, Any]:
        """Nested tensors and plain values, loadable with ``weights_only=True``, with the environments of all processes."""
        return {
            "model_state_dict": self.learner.policy.state_dict(),
            "actor_optimizer_state_dict": self.learner.actor_optimiser.state_dict(),
            "critic_optimizer_state_dict": self.learner.critic_optimiser.state_dict(),
            "precision": self.learner.precision.state_dict(),
            "env_state": {name: process.gather(x, 0) for name, x in self.env_state.state_dict().items()},
            "hidden": process.gather(self.hidden, 1),
            "run": self.run,
            "seen": self.seen.as_dict(),
            "progress": vars(self.progress).copy(),
            "metrics": dict(self.metrics),
        }


def snapshot(learner: Learner) -> Callable[[], None]:
    """Copy a learner's state, which updates change in place. The returned function restores it."""
    parts: tuple[Any, ...] = (learner.policy, learner.actor_optimiser, learner.critic_optimiser, learner.precision)
    before = [copy.deepcopy(part.state_dict()) for part in parts]

    def put_it_back() -> None:
        for part, saved in zip(parts, before, strict=True):
            part.load_state_dict(saved)

    return put_it_back


def load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load moments and step counts from a checkpoint. Learning rates and kernel stay those of the configuration."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(saved)
    for group, setting in zip(optimiser.param_groups, settings, strict=True):
        group.update(setting)


def first_train_state(setup: Setup) -> TrainState:
    """The state before the first iteration."""
    policy = setup.make_policy()
    return TrainState(
        learner=make_learner(
            policy,
            setup.hyper,
            make_precision(setup.autocast_dtype, setup.device.type),
            setup.process.collective,
            recorded=setup.config.fused,
        ),
        **fresh_environments(setup, policy),
        run=run_name(setup.config.model_dump(mode="json"), setup.environment.market.fingerprint),
        seen=seen_by_run(setup),
    )


def fresh_environments(setup: Setup, policy: Network) -> dict[str, Any]:
    """This process's environments at the beginning of their first episodes."""
    state = _first_states(setup)
    return {"env_state": state, "hidden": begin_memory(setup.training_environment, policy, state.day)}


def _first_states(setup: Setup) -> EnvState:
    windows = torch.arange(setup.windows.start, setup.windows.stop, device=setup.device)
    return first_state(setup.training_environment, windows, stagger=setup.sizes.n_steps)


def restored_environments(setup: Setup, policy: Network, content: dict[str, Any]) -> dict[str, Any]:
    """This process's part of a checkpoint's environments; zeros for tensors that an older checkpoint lacks."""
    per_window, windows = setup.config.portfolios_per_window, setup.windows
    envs = slice(windows.start * per_window, windows.stop * per_window)
    saved = content["env_state"]

    def own(name: str, like: Tensor) -> Tensor:
        if name not in saved:
            return torch.zeros_like(like)
        return saved[name][slice(windows.start, windows.stop) if name in PER_WINDOW else envs].to(setup.device)

    state = EnvState(**{name: own(name, like) for name, like in _first_states(setup).state_dict().items()})
    hidden = content["hidden"]
    if policy.shares_memory:
        # Older checkpoints repeat a window's memory for each of its portfolios.
        repeats = hidden.shape[1] // len(saved["day"])
        hidden = hidden[:, ::repeats][:, windows.start : windows.stop]
    else:
        hidden = hidden[:, envs]
    return {"env_state": state, "hidden": hidden.contiguous().to(setup.device)}


def put_back(whole: EnvState, part: EnvState) -> EnvState:
    """The state with its first windows and their portfolios replaced; the inverse of `environment.narrow`."""
    merged = {}
    for f in fields(whole):
        old, new = getattr(whole, f.name), getattr(part, f.name)
        merged[f.name] = new if len(new) == len(old) else torch.cat([new, old[len(new) :]])
    return replace(whole, **merged)
