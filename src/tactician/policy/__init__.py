"""The networks: a recurrent actor-critic and the GRU layer that makes it fast."""

from tactician.policy.actor_critic import ActorCritic, Architecture
from tactician.policy.gru import GruLayer
from tactician.policy.parity import settle_recurrence, use_native

__all__ = ["ActorCritic", "Architecture", "GruLayer", "settle_recurrence", "use_native"]
