"""Schedules of a run: the warm-up of trading costs, and the annealing of learning rates and entropy bonus.

Each is a function of the environment steps done and of the run's settings. So a run that is resumed computes the same as one
that never stopped. A run that is prolonged does so too where ``anneal_steps`` is given. By default it is the duration with
which the run began, so N steps prolonged to 2N differ from 2N at once: they end at the lowest rates.
"""

from dataclasses import replace

from tactician.environment import Environment
from tactician.learning import Hyperparameters
from tactician.training.setup import Setup

_DECIDED = 0.75
"""Share of the annealing after which the penalty on entropy has its full weight."""
_LEAST = 0.05
"""Share of the learning rates and the entropy bonus that is left after annealing, so that learning never stops."""


def training_environment(setup: Setup, timesteps: int) -> Environment:
    """The environment for training; during the warm-up it has only a share of the costs."""
    if timesteps >= setup.config.cost_warmup:
        return setup.environment
    share = timesteps / setup.config.cost_warmup
    return replace(setup.environment, frictions=setup.environment.frictions.scaled(share))


def annealed(setup: Setup, timesteps: int) -> Hyperparameters:
    """The hyperparameters for an update.

    Learning rates and entropy bonus fall linearly, to a twentieth. A penalty on entropy rises linearly until the policy is to
    have `decided`.
    """
    hyper, config = setup.hyper, setup.config
    if not config.anneal_steps:
        return hyper
    done = timesteps / config.anneal_steps
    share, pressure = max(1 - done, _LEAST), min(done / _DECIDED, 1.0)
    # The judge and live use take the most probable regime. A policy that is still undecided at the end is another one: it
    # draws, trades far more and pays for it. A bonus alone leaves it undecided where the signal is faint, as in real prices.
    return replace(
        hyper,
        actor_lr=share * hyper.actor_lr,
        critic_lr=share * hyper.critic_lr,
        entropy_coef=share * hyper.entropy_coef - pressure * config.decide_coef,
    )


def decided(setup: Setup, timesteps: int) -> bool:
    """Whether the penalty on entropy has its full weight, so that a model is what will be judged; true without a penalty."""
    config = setup.config
    if not config.anneal_steps or not config.decide_coef:
        return True
    return timesteps >= _DECIDED * config.anneal_steps
