"""A memory of the market alone, one for all portfolios of a window (docs/market_memory.md).

market entries → encoder → GRU × L → Linear ReLU LayerNorm → summary                         once per window and day
summary, portfolio entries → Linear ReLU LayerNorm Linear → action logits                    per portfolio
                           ↘ Linear ReLU LayerNorm Linear → value

The part of the heads' first layer that reads the summary is also computed once: W [s, p] = W_s s + W_p p.
"""

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
    them. The arguments are those of `ActorCritic`.

    Raises:
        ValueError: an observation has no entries beside the market's; otherwise as `ActorCritic`.
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
        hidden: Float[Tensor, "layer memory hidden"],
        masks: Float[Tensor, "mask memory hidden"] | None = None,
    ) -> tuple[Float[Tensor, "step memory feature"], Float[Tensor, "layer memory hidden"]]:
        """The summary of the market, and the recurrent state after the last step.

        Of N environments with M memories every N/M in a row share one, and see the same days: the first stands for all.

        Raises:
            ValueError: M does not divide N; otherwise as `ActorCritic.trunk`.
        """
        envs, memories = obs.shape[1], hidden.shape[1]
        if memories == 0 or envs % memories:
            raise ValueError(f"{envs} environments cannot share {memories} memories: the second must divide the first")
        remembered, after = super().trunk(obs[:, :: envs // memories, :_N_MARKET], hidden, masks)
        return self.summary(remembered), after

    def _first(self, layer: nn.Linear, features: Tensor, portfolio: Tensor) -> Float[Tensor, "*batch env unit"]:
        """The layer of summary and portfolio in two parts, of which that of the summary is computed once per memory."""
        of_summary, of_portfolio = layer.weight.split([_SUMMARY_DIM, portfolio.shape[-1]], -1)
        common = nn.functional.linear(features, of_summary, layer.bias)
        own = nn.functional.linear(portfolio.unflatten(-2, (features.shape[-2], -1)), of_portfolio)
        return own.add_(common[..., None, :]).flatten(-3, -2)  # in place: no derivative needs what was there
