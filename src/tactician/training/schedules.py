"""Schedules of a run: annealing of learning rates and entropy bonus, sharpening of the policy.

Each is a function of the environment steps done and of the run's settings. So a run that is resumed computes the same as one
that never stopped. A run that is prolonged does so too where ``anneal_steps`` is given. By default it is the duration with
which the run began, so N steps prolonged to 2N differ from 2N at once: they end at the lowest rates.
"""

from dataclasses import replace

from tactician.learning import Hyperparameters
from tactician.training.setup import Setup

_SHARPER, _SHARP = 0.5, 0.9
"""Shares of the annealing between which the logits grow."""
_DECIDED = 0.75
"""Share of the annealing after which the policy is sharp enough to be the one that will be judged."""
_LEAST = 0.05
"""Share of the learning rates and the entropy bonus that is left after annealing, so that learning never stops."""


def annealed(setup: Setup, timesteps: int) -> Hyperparameters:
    """The hyperparameters for an update.

    Learning rates and entropy bonus fall linearly, to a twentieth.
    """
    hyper, config = setup.hyper, setup.config
    if not config.anneal_steps:
        return hyper
    share = max(1 - timesteps / config.anneal_steps, _LEAST)
    return replace(
        hyper,
        actor_lr=share * hyper.actor_lr,
        critic_lr=share * hyper.critic_lr,
        entropy_coef=share * hyper.entropy_coef,
    )


def sharpness(setup: Setup, timesteps: int) -> float:
    """Factor by which the policy's logits have been multiplied so far: 1 at first, ``sharpening`` at the end.

    It rises exponentially, from half of the annealing to nine tenths. Steps that are done decide alone, so the factors of
    iterations multiply to the same whatever their sizes.
    """
    # The judge and live use take the most probable regime. A policy that is still undecided at the end is another one: it
    # draws, trades far more and pays for it. Larger logits leave the most probable regime what it is, and every relation
    # between the others. A penalty on entropy does not: it decides before the advantages do where the signal is faint.
    config = setup.config
    if not config.anneal_steps:
        return 1.0
    done = (timesteps / config.anneal_steps - _SHARPER) / (_SHARP - _SHARPER)
    return float(config.sharpening ** min(max(done, 0.0), 1.0))


def decided(setup: Setup, timesteps: int) -> bool:
    """Whether the policy is sharp enough to be what will be judged; true if it is never sharpened."""
    config = setup.config
    if not config.anneal_steps or config.sharpening == 1:
        return True
    return timesteps >= _DECIDED * config.anneal_steps
