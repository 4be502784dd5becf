"""What changes in the course of a run: trading costs that warm up, learning rates and entropy bonus that anneal.

Each is a function of the environment steps done and of nothing else, so that a run that is resumed or prolonged goes the
same way as one that never stopped.
"""

from dataclasses import replace

from tactician.environment import Environment
from tactician.learning import Hyperparameters
from tactician.training.setup import Setup

_LEAST = 0.05
"""Share of the learning rates and the entropy bonus that is left when they are annealed: learning never quite stops."""


def training_environment(setup: Setup, timesteps: int) -> Environment:
    """The environment in which to train: while costs warm up, with a share of them."""
    if timesteps >= setup.config.cost_warmup:
        return setup.environment
    share = timesteps / setup.config.cost_warmup
    return replace(setup.environment, frictions=setup.environment.frictions.scaled(share))


def annealed(setup: Setup, timesteps: int) -> Hyperparameters:
    """The hyperparameters with which to learn: rates and entropy bonus fall in a straight line, to a twentieth."""
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
