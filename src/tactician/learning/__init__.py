"""The algorithm: rollout, advantages, PPO loss, two optimisers, critic epochs."""

from tactician.learning.advantages import explained_variance, generalised_advantages
from tactician.learning.ppo import Hyperparameters, Learner, make_learner, minibatches, policy_loss, prepare, update
from tactician.learning.rollout import Rollout, collect_rollout, dropout_masks, sample_action

__all__ = [
    "Hyperparameters",
    "Learner",
    "Rollout",
    "collect_rollout",
    "dropout_masks",
    "explained_variance",
    "generalised_advantages",
    "make_learner",
    "minibatches",
    "policy_loss",
    "prepare",
    "sample_action",
    "update",
]
