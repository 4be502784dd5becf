"""The networks: their common interface, one file per network, and the table of their names."""

from tactician.policy.actor_critic import ActorCritic
from tactician.policy.ensemble import Ensemble, EqualWeight
from tactician.policy.gru import GruLayer, Kernels
from tactician.policy.market_memory import MarketMemory
from tactician.policy.network import Architecture, Network
from tactician.policy.networks import DEFAULT_NETWORK, NETWORKS, make_network, network_of
from tactician.policy.parity import settle_recurrence, use_kernels

__all__ = [
    "DEFAULT_NETWORK",
    "NETWORKS",
    "ActorCritic",
    "Architecture",
    "Ensemble",
    "EqualWeight",
    "GruLayer",
    "Kernels",
    "MarketMemory",
    "Network",
    "make_network",
    "network_of",
    "settle_recurrence",
    "use_kernels",
]
