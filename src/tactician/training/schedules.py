"""Schedules of a run: the warm-up of trading costs, and the annealing of learning rates and entropy bonus.

Each is a function of the environment steps done and of nothing else. So a run that is resumed or prolonged computes the same
as one that never stopped.
"""

from dataclasses import replace

from tactician.environment import Environment
from tactician.learning import Hyperparameters
from tactician.training.setup import Setup

_LEAST = 0.05
"""Share of the learning rates and the entropy bonus that is left after annealing, so that learning never stops."""


def training_environment(setup: Setup, timesteps: int) -> Environment:
    """The environment for training; during the warm-up it has only a share of the costs."""
    if timesteps >= setup.config.cost_warmup:
        return setup.environment
    share = timesteps / setup.config.cost_warmup
    return replace(setup.environment, frictions=setup.environment.frictions.scaled(share))


def annealed(setup: Setup, timesteps: int) -> Hyperparameters:
    """The hyperparameters for an update: learning rates and entropy bonus fall linearly, to a twentieth."""
    hyper = setup.hyper
    if not setup.config.anneal_steps:
        return hyper
    share = max(1 - timesteps / setup.config.anneal_steps, _LEAST)
    return replace(
        hyper,
        actor_lr=share * hyper.actor_lr,
        critic_lr=share * hyper.critic_lr,
        entropy_coef=share * hyper.entropy_coef,
    )
