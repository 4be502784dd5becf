"""The algorithm: rollout, advantages, PPO loss, two optimisers, critic epochs, precision, processes."""

from tactician.learning.advantages import generalised_advantages, leave_one_out
from tactician.learning.checksum import checksum
from tactician.learning.collective import ALONE, Collective
from tactician.learning.learner import Hyperparameters, Learner, make_learner
from tactician.learning.memory import begin_memory, sharing
from tactician.learning.ppo import policy_loss, update
from tactician.learning.precision import FULL, Precision, make_precision
from tactician.learning.rollout import Rollout, collect_rollout, sample_action, sample_action_eager
from tactician.learning.sequences import explained_variance, minibatches, moments, prepare
from tactician.learning.statistics import STATISTIC, describe, extremes

__all__ = [
    "ALONE",
    "FULL",
    "STATISTIC",
    "Collective",
    "Hyperparameters",
    "Learner",
    "Precision",
    "Rollout",
    "begin_memory",
    "checksum",
    "collect_rollout",
    "describe",
    "explained_variance",
    "extremes",
    "generalised_advantages",
    "leave_one_out",
    "make_learner",
    "make_precision",
    "minibatches",
    "moments",
    "policy_loss",
    "prepare",
    "sample_action",
    "sample_action_eager",
    "sharing",
    "update",
]
