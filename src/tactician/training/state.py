"""TrainState: all that changes during a run. A checkpoint is this object on disk."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.environment import EnvState, first_state
from tactician.learning import Learner, make_learner
from tactician.training.setup import Setup


@dataclass(frozen=True)
class Progress:
    """Counters and bests, plain numbers."""

    iteration: int = 0
    """Iterations finished."""
    timesteps: int = 0
    """Environment steps finished and learnt from."""
    total_trades: int = 0
    winning_trades: int = 0
    best_reward: float = float("-inf")
    """Highest mean reward per step of an iteration, in percent."""
    best_validation: float = float("-inf")
    """Highest annual log growth on the validation range."""
    best_iteration: int = 0
    seconds: float = 0.0
    """Spent in rollouts and updates."""

    @property
    def win_rate(self) -> float:
        """Share of all closed trades that ended with a gain."""
        return self.winning_trades / self.total_trades if self.total_trades else 0.0


@dataclass(frozen=True)
class TrainState:
    """Learner (changed in place by the update), environments, recurrent state, progress.

    Random numbers are functions of seed and counters (`tactician.environment.noise`), so there is no generator to keep.
    """

    learner: Learner
    env_state: EnvState
    hidden: Float[Tensor, "layer env hidden"]
    progress: Progress = field(default_factory=Progress)

    def state_dict(self) -> dict[str, Any]:
        """Nested tensors and plain values, loadable with ``weights_only=True``."""
        return {
            "model_state_dict": self.learner.policy.state_dict(),
            "actor_optimizer_state_dict": self.learner.actor_optimiser.state_dict(),
            "critic_optimizer_state_dict": self.learner.critic_optimiser.state_dict(),
            "env_state": self.env_state.state_dict(),
            "hidden": self.hidden,
            "progress": vars(self.progress).copy(),
        }


def first_train_state(setup: Setup) -> TrainState:
    """The state before the first iteration."""
    policy = setup.make_policy()
    windows = torch.arange(setup.n_windows, device=setup.device)
    return TrainState(
        learner=make_learner(policy, setup.hyper),
        env_state=first_state(setup.environment, windows, stagger=setup.config.n_steps),
        hidden=policy.initial_state(setup.n_envs).to(setup.device),
    )
