"""The table of networks by name."""

from collections.abc import Mapping
from typing import Any

import torch

from tactician.errors import UserError
from tactician.policy.actor_critic import ActorCritic
from tactician.policy.ensemble import Ensemble
from tactician.policy.market_memory import MarketMemory
from tactician.policy.network import Network

NETWORKS: dict[str, type[Network]] = {kind.name: kind for kind in (ActorCritic, MarketMemory)}
"""Networks by the name that an architecture has."""

DEFAULT_NETWORK = ActorCritic.name
"""The network that a run trains. It is also that of an architecture without a name, in files older than the table."""


def make_network(
    architecture: Mapping[str, Any], value_scale: float = 1.0, generator: torch.Generator | None = None
) -> Network:
    """Build the network of an architecture.

    Args:
        architecture: see `Architecture`; without a name it is the default network's.
        value_scale: size of the values, in units of reward.
        generator: source of the initial weights; None for torch's global one.

    Raises:
        UserError: no network has the name.
    """
    if n_members := architecture.get("members"):
        alone = {key: value for key, value in architecture.items() if key != "members"}
        return Ensemble([make_network(alone, value_scale, generator) for _ in range(n_members)])
    arguments = {key: value for key, value in architecture.items() if key != "network"}
    name = network_of(architecture)
    if name not in NETWORKS:
        raise UserError(
            f"There is no network '{name}', only {', '.join(NETWORKS)}; change the key 'network', or use the "
            "version of tactician that saved the model."
        )
    return NETWORKS[name](**arguments, value_scale=value_scale, generator=generator)


def network_of(architecture: Mapping[str, Any]) -> str:
    """The name of an architecture's network."""
    return str(architecture.get("network", DEFAULT_NETWORK))
