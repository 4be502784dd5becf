"""Trainers that run in the race: each trains on the same environment, one iteration at a time, and can be asked what to do.

All have the network's size, market, costs, regimes and horizon from one setup. A peer gets its own best settings for a CPU.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tactician.environment import EnvState, observe
from tactician.environment.gymnasium import stable_baselines
from tactician.monitor.progress import Reporter
from tactician.studies.learnability import deterministic
from tactician.synthetic import Choose
from tactician.training.loop import iterate
from tactician.training.setup import Setup
from tactician.training.state import first_train_state


class Ours:
    """Tactician's own loop, whatever network the setup names."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.state = setup, first_train_state(setup)

    def train(self) -> int:
        """One iteration; the environment steps that it made."""
        before = self.state.progress.timesteps
        self.state = iterate(self.setup, self.state, Reporter("quiet", silent=True))
        return self.state.progress.timesteps - before

    def choose(self) -> Choose:
        """The most probable regime."""
        return deterministic(self.setup, self.state.learner.policy)


class StableBaselines:
    """sb3-contrib's RecurrentPPO: an LSTM as wide and as deep, heads of 128, four epochs, the same discount and λ."""

    def __init__(self, setup: Setup, rate: float = 1e-3) -> None:
        from sb3_contrib import RecurrentPPO

        config = setup.config
        self.setup = setup
        self.model = RecurrentPPO(
            "MlpLstmPolicy",
            stable_baselines(setup.environment, setup.n_envs),
            learning_rate=rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.ppo_epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            ent_coef=config.entropy_coef,
            seed=config.seed,
            device=setup.device,
            policy_kwargs={
                "lstm_hidden_size": config.hidden_dim,
                "n_lstm_layers": config.n_gru_layers,
                "shared_lstm": True,
                "enable_critic_lstm": False,
                "net_arch": {"pi": [128], "vf": [128]},
            },
        )
        self._begun = False

    def train(self) -> int:
        """One iteration; the environment steps that it made."""
        steps = self.setup.config.n_steps * self.setup.n_envs
        self.model.learn(steps, reset_num_timesteps=not self._begun)
        self._begun = True
        return steps

    def choose(self) -> Choose:
        """The most probable regime, with the recurrent state kept from call to call."""
        from dataclasses import replace

        env = replace(self.setup.environment, portfolios_per_window=1)
        memory: Any = None

        def choose(state: EnvState) -> torch.Tensor:
            nonlocal memory
            begun = np.full(len(state.day), memory is None)
            seen = observe(env, state).cpu().numpy()
            action, memory = self.model.predict(seen, memory, begun, deterministic=True)
            return torch.from_numpy(action).long()

        return choose


@dataclass(frozen=True)
class Contestant:
    """A trainer and the settings of its run."""

    name: str
    make: Callable[[Setup], Any]
    settings: dict[str, Any]


CONTESTANTS = (
    Contestant("specified network", Ours, {}),
    Contestant("market memory", Ours, {"network": "market_memory", "portfolios_per_window": 32}),
    Contestant("sb3-contrib RecurrentPPO", StableBaselines, {"portfolios_per_window": 1, "baseline": "critic"}),
)


def timed(runner: Any) -> tuple[int, float]:
    """Steps and seconds of one iteration."""
    begun = time.perf_counter()
    return runner.train(), time.perf_counter() - begun
