"""What the policy is to maximise: growth, growth less its variance, or growth where it is worst.

With r_t the log growth of a session net of costs, in percent, and J_w the log growth of a training sequence w:

* growth: E[Σ r].
* mean_variance: E[Σ r − λ/2 · (r − r̄)²/100], with r̄ the mean of the rollout. That is the per-step variance penalty of Zhang,
  Liu and Whiteson (2021), "Mean-variance policy iteration for risk-averse RL", with r̄ renewed in every iteration.
* softmin: −1/τ · ln mean_w exp(−τ·J_w). Its gradient is that of growth with the weights softmax(−τ·J) over the windows (the
  entropic value at risk's dual form; Föllmer and Schied 2002). J_w is the mean growth of the window's other portfolios, so
  that a weight does not depend on the action that it weighs.

Growth of wealth is itself the logarithm's aversion to risk. λ and τ add to that.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.learning.collective import Collective


@dataclass(frozen=True)
class Objective:
    """Turns net rewards into those that are learnt from."""

    kind: str
    """growth, mean_variance or softmin."""
    aversion: float
    """λ of mean_variance, τ of softmin."""
    relative: bool
    """Whether the growth of equal weight is subtracted. No action changes it, so the best policy stays the same."""
    mean: Tensor | float = 0.0
    """r̄, of the net rewards."""

    def rewards(
        self, market: MarketTensors, day: Int[Tensor, "step env"], net: Float[Tensor, "step env"]
    ) -> Float[Tensor, "step env"]:
        """The rewards to learn from.

        Args:
            market: of the days.
            day: row of each session.
            net: 100 · log growth net of costs.
        """
        rewards = net
        if self.kind == "mean_variance":
            rewards = net - self.aversion / 200 * (net - self.mean).square()
        # Only now: the variance is that of growth. Of relative growth it would be the tracking error, another objective.
        return rewards - equal_weight_growth(market)[day.long()] if self.relative else rewards

    def emphasis(
        self, growth: Float[Tensor, "*window"], counts: Bool[Tensor, "*window"], collective: Collective
    ) -> Float[Tensor, "*window"]:
        """The weights of softmin, with mean 1 over the windows that count in all processes.

        Args:
            growth: log growth of each window, in percent.
            counts: whether any of its days counts.
            collective: the processes of the run.
        """
        bad = torch.where(counts, -self.aversion * growth.double() / 100, 0.0)
        number, total = collective.add_up(torch.stack([counts.sum().double(), bad.sum()]))
        # Around the mean, since only differences count: exp of large numbers would overflow.
        raw = torch.where(counts, (bad - total / number).clamp(max=60.0).exp(), 0.0)
        return (raw * number / collective.add_up(raw.sum())).to(growth.dtype)


def equal_weight_growth(market: MarketTensors) -> Float[Tensor, " day"]:
    """100 · log growth of equal weight in the session after each row's trade, without costs."""
    return 100 * torch.log1p(market.equal_weight_returns)
