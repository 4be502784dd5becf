"""The recurrent actor-critic: one trunk that remembers, one head that acts, one head that values.

obs → encoder → GRU × L → Linear ReLU LayerNorm Linear → action logits
                        ↘ Linear ReLU LayerNorm Linear → value

The encoder is [Linear ReLU LayerNorm] × E, or one Linear where E = 0.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tactician.environment import Stream, uniform
from tactician.policy.gru import GruLayer
from tactician.policy.network import Architecture, Network
from tactician.policy.relu_norm import ReluNorm

HEAD_DIM = 128
"""Width of both heads' hidden layer, whatever the trunk's."""


class ActorCritic(Network):
    """A policy over discrete actions and a value function on a shared recurrent trunk.

    Dropout is variational (Gal and Ghahramani 2016, "A theoretically grounded application of dropout in recurrent neural
    networks"). Its masks are an argument, constant over the steps of a sequence. So what acted can be replayed for learning.

    Initial weights are orthogonal (Saxe et al. 2014), gate by gate in the GRU. The gain is √2 before a ReLU and in a
    linear encoder, 0.01 at the policy's last layer (a near-uniform first policy) and 0.1 at the value's. Biases start at 0.

    Args:
        obs_dim: entries of an observation.
        n_actions: actions to choose from.
        hidden_dim: width of encoder and GRU.
        n_gru_layers: GRU layers; 0 for a policy without memory (and without dropout, whose place is before a GRU layer).
        dropout: p, in [0, 1): the share of units that `masks` drop.
        value_scale: the value is this times the head's output, so that the head learns at unit scale.
        generator: source of the initial weights; None for torch's global one.
        encoder_layers: layers with a ReLU before the GRU; 0 for one linear map.

    Raises:
        ValueError: a number of layers is negative, or the dropout is not in [0, 1).
    """

    name = "recurrent"

    def __init__(
        self,
        obs_dim: int,
        n_actions: int,
        hidden_dim: int = 256,
        n_gru_layers: int = 2,
        dropout: float = 0.1,
        value_scale: float = 1.0,
        generator: torch.Generator | None = None,
        encoder_layers: int = 2,
    ) -> None:
        super().__init__()
        for name, layers in (("n_gru_layers", n_gru_layers), ("encoder_layers", encoder_layers)):
            if layers < 0:
                raise ValueError(f"{name} is {layers}: it cannot be negative")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: it must lie in [0, 1)")
        self.obs_dim, self.n_actions = obs_dim, n_actions
        self.hidden_dim, self.n_gru_layers, self.dropout = hidden_dim, n_gru_layers, dropout
        self.encoder_layers = encoder_layers
        self._make_layers()
        # A buffer, not a parameter: a constant of the run that travels with the weights.
        self.register_buffer("value_scale", torch.tensor(float(value_scale)))
        self._initialise(generator)

    def _make_layers(self) -> None:
        # Actor and critic share the trunk: what tells where the market stands serves both, and memory is learnt once.
        self._make_trunk(self.obs_dim)
        self._make_heads(self.hidden_dim)

    def _make_trunk(self, n_in: int) -> None:
        widths = (n_in, *[self.hidden_dim] * self.encoder_layers)
        layers = [layer for pair in pairwise(widths) for layer in dense(*pair)]
        self.encoder = nn.Sequential(*(layers or [nn.Linear(n_in, self.hidden_dim)]))
        self.gru = nn.ModuleList(GruLayer(self.hidden_dim, self.hidden_dim) for _ in range(self.n_gru_layers))

    def _make_heads(self, n_in: int) -> None:
        self.policy_head = nn.Sequential(*dense(n_in, HEAD_DIM), nn.Linear(HEAD_DIM, self.n_actions))
        self.value_head = nn.Sequential(*dense(n_in, HEAD_DIM), nn.Linear(HEAD_DIM, 1))

    @property
    def architecture(self) -> Architecture:
        """The arguments that fix the parameters' shapes, and the dropout they were trained with."""
        return Architecture(
            network=self.name,
            obs_dim=self.obs_dim,
            n_actions=self.n_actions,
            hidden_dim=self.hidden_dim,
            n_gru_layers=self.n_gru_layers,
            dropout=self.dropout,
            encoder_layers=self.encoder_layers,
        )

    def initial_state(self, n_memories: int) -> Float[Tensor, "layer memory hidden"]:
        """The recurrent state in which an episode begins: zeros, where and as precise as the parameters."""
        like = next(self.parameters())
        return torch.zeros(self.n_gru_layers, n_memories, self.hidden_dim, dtype=like.dtype, device=like.device)

    def trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer env hidden"],
        masks: Float[Tensor, "mask env hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step env hidden"], Float[Tensor, "layer env hidden"]]:
        """What both heads read, for every step of a sequence.

        Args:
            obs: observations.
            hidden: recurrent state before the first step.
            masks: dropout masks with values 0 and 1/(1 − p), as many as GRU layers: mask i multiplies the input of layer
                i at every step. None for no dropout.

        Returns:
            The features and the recurrent state after the last step.

        Raises:
            ValueError: the recurrent state or the masks do not have the shape [GRU layers, environments, hidden_dim].
        """
        expected = (self.n_gru_layers, obs.shape[1], self.hidden_dim)
        for name, tensor in (("recurrent state", hidden), ("dropout masks", masks)):
            if tensor is not None and tensor.shape != expected:
                raise ValueError(f"{name} of shape {tuple(tensor.shape)} for a network that needs {expected}")
        # The encoder has no memory: it reads all steps at once. Only the GRU layers go through time.
        x = self.encoder(obs)
        last = []
        for i, layer in enumerate(cast("Iterable[GruLayer]", self.gru)):
            # The mask lies on a layer's input, not on its recurrent state, where a dropped unit would remember nothing.
            x = layer.sequence(x if masks is None else x * masks[i].to(x.dtype), hidden[i])
            last.append(x[-1].to(hidden.dtype))
        return x, torch.stack(last) if last else hidden

    def values(
        self, features: Float[Tensor, "*batch memory feature"], portfolio: Float[Tensor, "*batch env entry"]
    ) -> Float[Tensor, "*batch env"]:
        """Expected discounted return, in units of reward; in the parameters' precision, also under autocast."""
        x = self._head(self.value_head, features, portfolio)
        last = cast("nn.Linear", self.value_head[-1])
        # An advantage is a small difference of large values: rounded to 16 bits they would be noise in it.
        with torch.autocast(features.device.type, enabled=False):
            value = last(x.to(last.weight.dtype)).squeeze(-1)
        # Discounted returns in percent are of the order of 10, fresh outputs of the order of 0.1. Adam moves a weight by about
        # its rate per step, so without the scale most updates would go into reaching that size.
        return self.value_scale * value

    def heads(
        self, features: Float[Tensor, "*batch memory feature"], portfolio: Float[Tensor, "*batch env entry"]
    ) -> tuple[Float[Tensor, "*batch env action"], Float[Tensor, "*batch env"]]:
        """Action logits and values."""
        logits = self.policy_head[-1](self._head(self.policy_head, features, portfolio))
        return logits, self.values(features, portfolio)

    def _head(
        self,
        head: nn.Sequential,
        features: Float[Tensor, "*batch memory feature"],
        portfolio: Float[Tensor, "*batch env entry"],
    ) -> Float[Tensor, "*batch env unit"]:
        """What the last layer of a head reads."""
        first, *others, _ = cast("Iterable[nn.Linear]", head)
        x = self._first(first, features, portfolio)
        for layer in others:
            x = layer(x)
        return x

    def _first(self, layer: nn.Linear, features: Tensor, portfolio: Tensor) -> Float[Tensor, "*batch env unit"]:
        """The first layer of a head. The trunk has read the portfolio's entries already."""
        return cast("Tensor", layer(features))

    def masks(
        self, index: Int64[Tensor, " memory"], seed: int, iteration: int
    ) -> Float[Tensor, "mask memory hidden"] | None:
        """One thinned network per memory and iteration, 0 or 1/(1 − p); None without dropout.

        A mask is a function of seed, iteration and environment, so the update replays the network that acted. With fresh
        masks the probability ratio would not be 1 at the first minibatch.
        """
        if self.dropout == 0:
            return None
        layer = torch.arange(self.n_gru_layers, device=index.device)[:, None, None]
        unit = torch.arange(self.hidden_dim, device=index.device)
        keep = uniform(seed, Stream.DROPOUT, iteration, layer, index[:, None], unit) >= self.dropout
        return keep.to(torch.float32) / (1 - self.dropout)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters of the value head."""
        return list(self.value_head.parameters())

    def memory_weights(self) -> list[nn.Parameter]:
        """The GRU layers' matrices."""
        return [weight for weight in self.gru.parameters() if weight.dim() > 1]

    def lean_towards(self, action: int, probability: float) -> None:
        """Make an untrained policy choose an action with about this probability, and the others alike."""
        # All other logits are about 0: softmax gives p to the action when its logit is ln(p/(1 − p)·(n − 1)).
        odds = probability / (1 - probability) * (self.n_actions - 1)
        with torch.no_grad():
            cast("nn.Linear", self.policy_head[-1]).bias[action] = math.log(odds)

    def sharpen(self, factor: float) -> None:
        """Multiply all action logits by a factor: the policy head's last layer is linear."""
        last = cast("nn.Linear", self.policy_head[-1])
        with torch.no_grad():
            last.weight.mul_(factor)
            last.bias.mul_(factor)

    def _initialise(self, generator: torch.Generator | None) -> None:
        # 0.01: the first policy shows no preference before it has seen a reward (Andrychowicz et al. 2021, "What matters for
        # on-policy deep actor-critic methods?", §3.2). 0.1: the first values are near 0, and δ is the reward.
        gains = {self.policy_head[-1]: 0.01, self.value_head[-1]: 0.1}
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, gains.get(module, 2**0.5), generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, GruLayer):
                # Gate by gate: the stacked matrix of three gates could not be orthogonal in each of them.
                for weight in (module.weight_ih_l0, module.weight_hh_l0):
                    for gate in weight.data.chunk(3):
                        nn.init.orthogonal_(gate, generator=generator)
                nn.init.zeros_(module.bias_ih_l0)
                nn.init.zeros_(module.bias_hh_l0)


def dense(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    """Linear, ReLU and LayerNorm."""
    # The second does nothing. It stands for the ReLU, so that the third keeps its name in files of weights.
    return nn.Linear(n_in, n_out), nn.Identity(), ReluNorm(n_out)
