"""The interface of a network: four methods, and what optimisers and checkpoints need."""

from abc import ABC, abstractmethod
from typing import NotRequired, TypedDict

from jaxtyping import Float, Int64
from torch import Tensor, nn


class Architecture(TypedDict):
    """Everything needed to rebuild a network: its name in `NETWORKS`, and the arguments that all networks take."""

    network: str
    obs_dim: int
    n_actions: int
    hidden_dim: int
    n_gru_layers: int
    dropout: float
    encoder_layers: NotRequired[int]
    """2 in files older than the key."""
    members: NotRequired[int]
    """Of an ensemble: how many networks of this kind it has."""


class Network(nn.Module, ABC):
    """A policy over discrete actions and a value function on a shared trunk, known by four methods.

    `initial_state`, `trunk`, `heads` and `masks` say how it acts and learns; `forward` puts the middle two together. Tensors
    are time-major. The recurrent state and the masks have three dimensions, of which the second counts environments, whatever
    the others mean. The state goes in and comes out; nothing that changes with data lives on the module, and nothing depends
    on training or evaluation mode.

    A network is made as ``kind(obs_dim=…, n_actions=…, hidden_dim=…, n_gru_layers=…, dropout=…, encoder_layers=…,
    value_scale=…, generator=…)`` by `make_network`, and passes over what it has no use for.
    """

    name: str
    """Its name in `NETWORKS`."""
    obs_dim: int
    """Entries of an observation."""
    shares_memory: bool = False
    """Whether the recurrent state depends on the market alone, so that all portfolios of a window have the same one."""
    value_scale: Tensor
    """A buffer: the size of values, in units of reward. The value head learns at unit scale."""

    @abstractmethod
    def initial_state(self, n_envs: int) -> Float[Tensor, "layer env hidden"]:
        """The recurrent state at the start of an episode, the same for every environment, on the parameters' device."""

    @abstractmethod
    def trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer env hidden"],
        masks: Float[Tensor, "mask env hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step env feature"], Float[Tensor, "layer env hidden"]]:
        """The features that both heads read, for every step of a sequence, and the recurrent state after the last step."""

    def shared_trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer env hidden"],
        masks: Float[Tensor, "mask env hidden"] | None,
        shared: int,
    ) -> tuple[Float[Tensor, "step env feature"], Float[Tensor, "layer env hidden"]]:
        """The `trunk`, of environments of which every ``shared`` in a row have the same days, memory and masks.

        A network that shares its memory computes it once for them. Others have ``shared`` 1.
        """
        return self.trunk(obs, hidden, masks)

    @abstractmethod
    def heads(
        self, features: Float[Tensor, "*batch feature"]
    ) -> tuple[Float[Tensor, "*batch action"], Float[Tensor, "*batch"]]:
        """Action logits, and values: the expected discounted return, in units of reward.

        Values keep the parameters' precision under autocast.
        """

    @abstractmethod
    def masks(self, index: Int64[Tensor, " env"], seed: int, iteration: int) -> Float[Tensor, "mask env hidden"] | None:
        """Dropout of environments in an iteration: a function of its arguments, so that the update replays what acted.

        Returns:
            What `trunk` takes; None without dropout.
        """

    @property
    @abstractmethod
    def architecture(self) -> Architecture:
        """The architecture from which the network was made."""

    @abstractmethod
    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters that only the values depend on: those that the critic's optimiser owns."""

    def lean_towards(self, action: int, probability: float) -> None:
        """Make an untrained policy choose an action with about this probability, and the others alike.

        A network that does not define it begins as it is.
        """

    def sharpen(self, factor: float) -> None:
        """Multiply all action logits by a factor. A network that does not define it stays as it is."""

    def actor_parameters(self) -> list[nn.Parameter]:
        """All other parameters: those that the actor's optimiser owns."""
        critics = {id(p) for p in self.critic_parameters()}
        return [p for p in self.parameters() if id(p) not in critics]

    def memory_weights(self) -> list[nn.Parameter]:
        """The matrices of the recurrent layers, which `weight_decay` shrinks. A network that does not define it has none."""
        return []

    def values(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The second of the `heads` alone, for the critic's own epochs."""
        return self.heads(features)[1]

    def forward(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer env hidden"],
        masks: Float[Tensor, "mask env hidden"] | None = None,
        shared: int = 1,
    ) -> tuple[Float[Tensor, "step env action"], Float[Tensor, "step env"], Float[Tensor, "layer env hidden"]]:
        """Action logits, values and the next recurrent state; arguments and errors as for `shared_trunk`."""
        features, after = self.shared_trunk(obs, hidden, masks, shared)
        return *self.heads(features), after
