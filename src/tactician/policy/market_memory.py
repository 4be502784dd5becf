"""A memory of the market alone, one for all portfolios of a window (docs/market_memory.md).

market entries → [Linear ReLU LayerNorm]² → GRU × L → Linear ReLU LayerNorm → summary        once per window and day
summary, portfolio entries → Linear ReLU LayerNorm Linear → action logits                    per portfolio
                           ↘ Linear ReLU LayerNorm Linear → value
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tactician.environment import FEATURE_NAMES
from tactician.policy.actor_critic import ActorCritic, dense

_N_MARKET = len(FEATURE_NAMES)
"""The first entries of an observation are the market's, the others the portfolio's."""

_SUMMARY_DIM = 64
"""Width of what the heads see of the memory. They run per portfolio, so it decides what a portfolio costs."""


class MarketMemory(ActorCritic):
    """An actor-critic whose encoder and GRU read the market, and whose heads also read the portfolio.

    No action changes the market, so all portfolios of a window have the same memory. In training it is computed once for
    them. The arguments and errors are those of `ActorCritic`.

    Raises:
        ValueError: an observation has no entries beside the market's.
    """

    name = "market_memory"
    shares_memory = True

    def _make_layers(self) -> None:
        if self.obs_dim <= _N_MARKET:
            raise ValueError(f"obs_dim is {self.obs_dim}: it must exceed the market's {_N_MARKET} entries")
        self._make_trunk(_N_MARKET)
        self.summary = nn.Sequential(*dense(self.hidden_dim, _SUMMARY_DIM))
        self._make_heads(_SUMMARY_DIM + self.obs_dim - _N_MARKET)

    def trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer env hidden"],
        masks: Float[Tensor, "mask env hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step env feature"], Float[Tensor, "layer env hidden"]]:
        """The summary of the market and the portfolio's entries, and the recurrent state after the last step."""
        return self.shared_trunk(obs, hidden, masks, 1)

    def shared_trunk(
        self,
        obs: Float[Tensor, "step env obs"],
        hidden: Float[Tensor, "layer env hidden"],
        masks: Float[Tensor, "mask env hidden"] | None,
        shared: int,
    ) -> tuple[Float[Tensor, "step env feature"], Float[Tensor, "layer env hidden"]]:
        """The `trunk`; of every ``shared`` environments in a row the memory of the first stands for all."""
        market, portfolio = obs[..., :_N_MARKET], obs[..., _N_MARKET:]
        remembered, after = super().trunk(
            market[:, ::shared], hidden[:, ::shared], None if masks is None else masks[:, ::shared]
        )
        summary = self.summary(remembered).repeat_interleave(shared, 1)
        return torch.cat([summary, portfolio.to(summary.dtype)], -1), after.repeat_interleave(shared, 1)
