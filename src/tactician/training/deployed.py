"""What was trained beside what is judged: the policy that draws its regimes, and the one that takes the most probable.

PPO trains a policy that draws. The judge and live use take the most probable regime. If the policy is undecided, the two are
different policies: the one that draws trades far more.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tactician.environment import Environment, Stream, first_state, observe, step, uniform
from tactician.learning import begin_memory
from tactician.policy import Network

_EPISODES = 256
"""Enough that the gap's own error is a few hundredths: both policies live through the same days."""
_NEARLY_NONE = 0.001
"""A smaller annual growth is no measure for a gap."""


@dataclass(frozen=True)
class Lived:
    """Means over episodes of the training range."""

    growth: float
    """Annual log growth, net of costs."""
    turnover: float
    """Annual, in portfolios."""
    beyond_equal_weight: float = math.nan
    """Annual log growth beyond equal weight of the same days without costs."""


@dataclass(frozen=True)
class Deployed:
    """The policy as it is judged, and as it was trained."""

    deployed: Lived
    """The most probable regime in every session."""
    sampled: Lived
    """A regime drawn in every session."""

    @property
    def gap(self) -> float:
        """|g_sampled − g_deployed| / |g_deployed| of the annual log growths g; NaN if the policy hardly grows."""
        if not abs(self.deployed.growth) > _NEARLY_NONE:
            return math.nan
        return abs(self.sampled.growth - self.deployed.growth) / abs(self.deployed.growth)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"deployed": asdict(self.deployed), "sampled": asdict(self.sampled), "gap": self.gap}


@torch.no_grad()
def deployed_gap(env: Environment, policy: Network, seed: int) -> Deployed:
    """Let a policy live through whole episodes of the training range, once drawing its regimes and once not.

    Both see the same days from the same first holdings, as in training, without dropout, and pay the mean of slippage.

    Args:
        env: of training; its rows are the training range.
        policy: any.
        seed: of the drawn regimes and the episodes.
    """
    alone = replace(env, portfolios_per_window=1, random_slippage=False, seed=seed)
    windows = torch.arange(_EPISODES, device=env.market.device)
    return Deployed(_live(alone, policy, windows, draw=False), _live(alone, policy, windows, draw=True))


def _live(env: Environment, policy: Network, windows: Tensor, *, draw: bool) -> Lived:
    state = first_state(env, windows)
    hidden = begin_memory(env, policy, state.day)
    growth, turnover, equal = [], [], []
    shared = torch.log1p(env.market.equal_weight_returns.double())
    for k in range(env.episode_length):
        logits, _, hidden = policy(observe(env, state)[None], hidden)
        action = _drawn(logits[0].softmax(-1), env.seed, windows, k) if draw else logits[0].argmax(-1)
        equal.append(shared[state.day].mean())
        state, outcome = step(env, state, action)
        growth.append(outcome.reward.double().mean() / 100)
        turnover.append(outcome.turnover.double().mean())
    grown, traded, theirs = (
        float(torch.stack(x).mean()) * env.market.sessions_per_year for x in (growth, turnover, equal)
    )
    return Lived(grown, traded, grown - theirs)


def _drawn(probabilities: Tensor, seed: int, windows: Tensor, moment: int) -> Tensor:
    """One regime per portfolio, by the inverse of the cumulated probabilities."""
    place = uniform(seed, Stream.ACTION, windows, moment)[:, None]
    return (probabilities.cumsum(-1) < place).sum(-1).clamp(max=probabilities.shape[-1] - 1)
