"""The learner: a policy with its two optimisers, and the hyperparameters of its update."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tactician.learning.collective import ALONE, Collective
from tactician.learning.precision import FULL, Precision
from tactician.learning.recorded import Recorded
from tactician.policy import Network


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the update; `tactician.config.Config` documents each and holds the defaults."""

    batch_size: int
    ppo_epochs: int
    critic_epochs: int
    gamma: float
    gae_lambda: float
    baseline: str
    portfolios_per_window: int
    clip: float
    entropy_coef: float
    value_coef: float
    max_grad_norm: float
    actor_lr: float
    critic_lr: float
    target_kl: float | None
    objective: str = "growth"
    risk_aversion: float = 1.0
    reward: str = "net"
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Learner:
    """A policy and its two optimisers, which the update changes in place, with precision and processes."""

    policy: Network
    actor_optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer
    precision: Precision = FULL
    collective: Collective = ALONE
    recorded: bool = False
    """Whether a GPU repeats minibatches from recordings."""


def make_learner(
    policy: Network,
    hyper: Hyperparameters,
    precision: Precision = FULL,
    collective: Collective = ALONE,
    *,
    recorded: bool = False,
) -> Learner:
    """Adam for the actor and Adam for the critic, ε = 1e-5 (Huang et al. 2022, "The 37 implementation details of PPO", 3).

    Fused, so that a bad step is skipped without asking the device (see `precision.guarded_step`).
    """
    # Two, as specified: each has its own rate, and the critic epochs step the value head alone. Both losses reach the trunk,
    # but it has one owner, the actor's: two Adams would move it twice per minibatch.
    actor, critic = policy.actor_parameters(), policy.critic_parameters()
    return Learner(
        policy,
        torch.optim.Adam(actor, lr=hyper.actor_lr, eps=1e-5, fused=True),
        torch.optim.Adam(critic, lr=hyper.critic_lr, eps=1e-5, fused=True),
        precision,
        collective,
        recorded,
    )


def set_rates(learner: Learner, hyper: Hyperparameters) -> None:
    """Give both optimisers their learning rates."""
    # Set in each iteration, since rates are annealed, and a restored optimiser has the rates of its checkpoint.
    for optimiser, rate in ((learner.actor_optimiser, hyper.actor_lr), (learner.critic_optimiser, hyper.critic_lr)):
        for group in optimiser.param_groups:
            group["lr"] = rate


def recorded_update(learn: Callable[[Tensor, Tensor], None], learner: Learner) -> Recorded:
    """A minibatch's update, which a GPU repeats from a recording if the learner says so.

    Not with several processes, whose messages are not part of the GPU's work, nor with a loss scale.
    """
    alone = learner.collective.size == 1 and not learner.precision.actor_scaler.is_enabled()
    enabled = learner.recorded and alone and learner.policy.value_scale.is_cuda
    for optimiser in (learner.actor_optimiser, learner.critic_optimiser):
        for group in optimiser.param_groups:
            group["capturable"] = enabled  # torch's leave to record a step. Its fused step is the same with it
    return Recorded(learn, enabled=enabled)
