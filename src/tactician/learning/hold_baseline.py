"""What a portfolio would have earned had it kept what it held: a baseline that knows the days' luck and not the action.

The market is exogenous, so the return of *not* trading is known after the fact without simulating it. It depends on the
holdings before the action and on the returns that followed, never on the action, so subtracting it from an advantage leaves
the expectation of the policy's gradient as it is (an input-dependent baseline: Mao et al. 2019, "Variance reduction for
reinforcement learning in input-driven environments"). What remains is what the action changed: a portfolio that trades
little keeps little of the market's noise in its advantage.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.environment import Environment, EnvState
from tactician.portfolio.ledger import grow


@dataclass(frozen=True)
class HoldBaseline:
    """Discounted future returns of every asset, from every row of the training range on."""

    discounted: Float[Tensor, "day asset+1"]
    """Row t: Σ_k d^k · 100 · r_{t+k}, cash last, up to the last row of the range."""
    decay: float
    """d = γλ, as in the advantages."""

    def read(self, env: Environment, state: EnvState, steps_left: int) -> Float[Tensor, " env"]:
        """Discounted return, in percent, of keeping the weights held at the close of each window's day.

        The weights stand still and the returns add up, which is off by the products of returns; a baseline may be.

        Args:
            env: the environment.
            state: before the action.
            steps_left: of the rollout; the sum ends there or with the episode, as the advantage does.
        """
        per_window = env.portfolios_per_window
        ahead = (env.episode_length - state.age).clamp(max=steps_left)
        end = state.day + ahead
        rest = self.decay ** ahead.to(self.discounted.dtype)
        sums = self.discounted[state.day] - rest[:, None] * self.discounted[end]
        day = state.day - 1
        returns, cash = env.market.returns[day], env.market.cash_return[day]
        if per_window > 1:
            sums, returns, cash = (x.repeat_interleave(per_window, 0) for x in (sums, returns, cash))
        held = grow(state.holdings, returns, cash)
        return (held * sums).sum(-1) / held.sum(-1)


def make_hold_baseline(env: Environment, gamma: float, gae_lambda: float) -> HoldBaseline:
    """The baseline of an environment's rows, and of no others."""
    market, decay = env.market, gamma * gae_lambda
    discounted = torch.zeros(env.rows.stop + 1, market.returns.shape[1] + 1, dtype=torch.float64)
    returns = 100 * torch.cat([market.returns, market.cash_return[:, None]], 1)[: env.rows.stop].cpu().double()
    for t in range(env.rows.stop - 1, env.rows.start - 1, -1):
        discounted[t] = returns[t] + decay * discounted[t + 1]
    return HoldBaseline(discounted.to(market.device, market.returns.dtype), decay)
