"""Advantages: generalised estimation, and the comparison with the other portfolios of a window."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def generalised_advantages(
    rewards: Float[Tensor, "step env"],
    values: Float[Tensor, "step env"],
    next_values: Float[Tensor, "step env"],
    continues: Bool[Tensor, "step env"],
    gamma: float,
    gae_lambda: float,
) -> Float[Tensor, "step env"]:
    """Advantages of Schulman et al. (2016), "High-dimensional continuous control using GAE", eq. 16, backwards in time.

    δ_t = r_t + γ·V(s_{t+1}) − V(s_t);  A_t = δ_t + γλ·c_t·A_{t+1}.

    An episode's end is a truncation: wealth goes on, only the simulation stops. So δ always bootstraps from the value of
    the state that the action led to (Pardo et al. 2018, "Time limits in reinforcement learning"). Only the trace is cut.

    Args:
        rewards: r_t.
        values: V(s_t).
        next_values: V(s_{t+1}) of the state reached, before any restart.
        continues: c_t, whether row t + 1 belongs to the same episode.
        gamma: discount per step.
        gae_lambda: trace decay.

    Returns:
        A_t; the value targets are A_t + V(s_t).
    """
    # next_values has no mask: at a time limit a portfolio keeps its future value. A mask, as after a terminal state, would
    # teach the critic that money is worth nothing there. And the agent cannot see that an end is near.
    delta = rewards + gamma * next_values - values
    # The trace is cut, because row t + 1 belongs to another episode: it begins on a random day with other holdings.
    decay = gamma * gae_lambda * continues.to(delta.dtype)
    advantages = torch.empty_like(delta)
    trace = torch.zeros_like(delta[0])
    # The loop runs backwards, since A_t contains A_{t+1}. It starts from 0: after the rollout only V(s_T) is known.
    for t in range(len(delta) - 1, -1, -1):
        trace = delta[t] + decay[t] * trace
        advantages[t] = trace
    return advantages


def leave_one_out(advantages: Float[Tensor, "step env"], portfolios_per_window: int) -> Float[Tensor, "step env"]:
    """Advantages less the mean advantage of the *other* portfolios of their window at the same step.

    The portfolios of a window live through the same days and act independently: none depends on another's action. So the
    mean of the others is an input-dependent baseline (Mao et al. 2019, "Variance reduction for reinforcement learning in
    input-driven environments"). It takes the luck of the days out of the gradient and leaves its expectation unchanged.

    Args:
        advantages: of windows × portfolios environments, the portfolios of a window side by side.
        portfolios_per_window: P, at least 2.
    """
    grouped = advantages.unflatten(1, (-1, portfolios_per_window))
    # The mean leaves the portfolio itself out. Its own advantage depends on its action, and would shrink the gradient by
    # 1 − 1/P.
    others = (grouped.sum(-1, keepdim=True) - grouped) / (portfolios_per_window - 1)
    return (grouped - others).flatten(1)
