"""The interface of a network: four methods, and what optimisers and checkpoints need."""

from abc import ABC, abstractmethod
from typing import NotRequired, TypedDict

from jaxtyping import Float, Int64
from torch import Tensor, nn

from tactician.environment import portfolio_of


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
    are time-major. The recurrent state and the masks have three dimensions, of which the second counts memories, whatever
    the others mean. The state goes in and comes out; nothing that changes with data lives on the module, and nothing depends
    on training or evaluation mode.

    An environment has a memory of its own. Only with `shares_memory` may there be fewer: with N environments and M memories
    every N/M environments in a row share one.

    A network is made as ``kind(obs_dim=…, n_actions=…, hidden_dim=…, n_gru_layers=…, dropout=…, encoder_layers=…,
    value_scale=…, generator=…)`` by `make_network`, and passes over what it has no use for.
    """

    name: str
    """Its name in `NETWORKS`."""
    obs_dim: int
    """Entries of an observation."""
    shares_memory: bool = False
    """Whether the recurrent state depends on the market alone, so that all portfolios of a window can have one."""
    value_scale: Tensor
    """A buffer: the size of values, in units of reward. The value head learns at unit scale."""

    @abstractmethod
    def initial_state(self, n_memories: int) -> Float[Tensor, "layer memory hidden"]:
        """The recurrent state at the start of an episode, the same for every memory, on the parameters' device."""

    @abstractmethod
    def trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer memory hidden"],
        masks: Float[Tensor, "mask memory hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step memory feature"], Float[Tensor, "layer memory hidden"]]:
        """What both heads read of the memory, for every step of a sequence, and the recurrent state after the last step."""

    @abstractmethod
    def heads(
        self, features: Float[Tensor, "*batch memory feature"], portfolio: Float[Tensor, "*batch env entry"]
    ) -> tuple[Float[Tensor, "*batch env action"], Float[Tensor, "*batch env"]]:
        """Action logits, and values: the expected discounted return, in units of reward.

        Values keep the parameters' precision under autocast.

        Args:
            features: of the trunk.
            portfolio: the observation's entries of the portfolio (`portfolio_of`). A network whose trunk has read them has no
                use for them.
        """

    @abstractmethod
    def masks(
        self, index: Int64[Tensor, " memory"], seed: int, iteration: int
    ) -> Float[Tensor, "mask memory hidden"] | None:
        """Dropout of memories in an iteration: a function of its arguments, so that the update replays what acted.

        Args:
            index: global number of the environment that has the memory, or of the first one.
            seed: of the run.
            iteration: number of the rollout.

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

    def values(
        self, features: Float[Tensor, "*batch memory feature"], portfolio: Float[Tensor, "*batch env entry"]
    ) -> Float[Tensor, "*batch env"]:
        """The second of the `heads` alone, for the critic's own epochs."""
        return self.heads(features, portfolio)[1]

    def forward(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer memory hidden"],
        masks: Float[Tensor, "mask memory hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step env action"], Float[Tensor, "step env"], Float[Tensor, "layer memory hidden"]]:
        """Action logits, values and the next recurrent state; arguments and errors as for `trunk`."""
        features, after = self.trunk(obs, hidden, masks)
        return *self.heads(features, portfolio_of(obs)), after
