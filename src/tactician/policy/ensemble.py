"""Several policies that act as one: by the mean of their action probabilities."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tactician.policy.network import Architecture, Network


class Ensemble(Network):
    """The mean of M policies of one architecture. It acts and does not learn.

    Log-probabilities take the place of logits, and values are the mean of the members'. The recurrent states of the members
    lie one after the other in the first dimension.

    Raises:
        ValueError: there is no member, or they differ in architecture.
    """

    name = "ensemble"

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        if not members or any(m.architecture != members[0].architecture for m in members):
            raise ValueError("an ensemble needs members of one architecture")
        self.members = nn.ModuleList(members)
        self.obs_dim, self.shares_memory = members[0].obs_dim, members[0].shares_memory
        self.register_buffer("value_scale", members[0].value_scale.clone())

    @property
    def policies(self) -> tuple[Network, ...]:
        """The members."""
        return cast("tuple[Network, ...]", tuple(self.members))

    @property
    def architecture(self) -> Architecture:
        """That of each member, and how many there are."""
        return Architecture(**{**self.policies[0].architecture, "members": len(self.members)})

    def initial_state(self, n_memories: int) -> Float[Tensor, "layer memory hidden"]:
        """The members' states, one after the other."""
        return torch.cat([m.initial_state(n_memories) for m in self.policies])

    def trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer memory hidden"],
        masks: Float[Tensor, "mask memory hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step memory feature"], Float[Tensor, "layer memory hidden"]]:
        """The members' features, one after the other in the last dimension. There are no masks: nothing is learnt."""
        parts = [m.trunk(obs, h) for m, h in zip(self.policies, hidden.chunk(len(self.members)), strict=True)]
        return torch.cat([features for features, _ in parts], -1), torch.cat([after for _, after in parts])

    def heads(
        self, features: Float[Tensor, "*batch memory feature"], portfolio: Float[Tensor, "*batch env entry"]
    ) -> tuple[Float[Tensor, "*batch env action"], Float[Tensor, "*batch env"]]:
        """Logarithm of the mean action probabilities, and the mean value."""
        own = features.chunk(len(self.members), -1)
        each = [m.heads(x, portfolio) for m, x in zip(self.policies, own, strict=True)]
        chances = torch.stack([logits.softmax(-1) for logits, _ in each]).mean(0)
        return chances.log(), torch.stack([value for _, value in each]).mean(0)

    def masks(self, index: Int64[Tensor, " memory"], seed: int, iteration: int) -> None:
        """None: nothing is learnt."""

    def critic_parameters(self) -> list[nn.Parameter]:
        """Those of all members."""
        return [p for m in self.policies for p in m.critic_parameters()]


class EqualWeight(Network):
    """A policy that has found nothing: it chooses one regime in every session, whatever it sees.

    Args:
        obs_dim: entries of an observation.
        n_actions: actions to choose from.
        action: the one that it chooses.
    """

    name = "equal_weight"

    def __init__(self, obs_dim: int, n_actions: int, action: int) -> None:
        super().__init__()
        self.obs_dim, self.n_actions, self.action = obs_dim, n_actions, action
        self.register_buffer("value_scale", torch.ones(()))

    @property
    def architecture(self) -> Architecture:
        """It has none: a checkpoint holds the members that found nothing."""
        raise TypeError("a policy that holds equal weight has no architecture")

    def initial_state(self, n_memories: int) -> Float[Tensor, "0 memory 1"]:
        """It remembers nothing."""
        return self.value_scale.new_zeros(0, n_memories, 1)

    def trunk(self, obs: Tensor, hidden: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Nothing of the observation."""
        return obs[..., :1] * 0, hidden

    def heads(self, features: Tensor, portfolio: Tensor) -> tuple[Tensor, Tensor]:
        """All probability on its regime, as far as finite numbers say it; values are not known, and 0."""
        logits = features.new_full((*features.shape[:-1], self.n_actions), _NEVER)
        logits[..., self.action] = 0.0
        return logits, features[..., 0]

    def masks(self, index: Int64[Tensor, " memory"], seed: int, iteration: int) -> None:
        """None: nothing is learnt."""

    def critic_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []


_NEVER = -50.0
"""Logit of a regime that is never chosen: a probability of 2e-22."""
