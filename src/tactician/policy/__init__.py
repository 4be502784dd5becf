"""The networks: a recurrent actor-critic and the GRU layer that makes it fast."""

from tactician.policy.actor_critic import ActorCritic, Architecture
from tactician.policy.gru import GruLayer

__all__ = ["ActorCritic", "Architecture", "GruLayer"]
