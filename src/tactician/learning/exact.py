"""The lattice's half of an update: exact advantages of all actions, in every book that the policy visits.

The days, the memory and the dropout masks are those of a rollout. Its portfolios are not used: each sequence begins with the
book of a random regime, and the lattice says with which probability each book is held on each day. PPO's clipped objective
is then a sum instead of a mean over samples, with ρ_k = π_k / π_old,k:

    L = −Σ_t Σ_x p_t(x) Σ_k π_old(k | t, x) · min(ρ_k · A_k, clip(ρ_k, 1 ± ε) · A_k) − c_e · Σ_t Σ_x p_t(x) · H(π(· | t, x))

At ρ = 1 its gradient is Σ p Σ_k ∇π_k · A_k, the exact policy gradient on these days (Sutton et al. 2000, "Policy gradient
methods for RL with function approximation", theorem 1). The critic serves beyond a sequence's last day alone, where it gives
V of every book. It learns in its own epochs, from the rollout.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import Environment
from tactician.learning import lattice
from tactician.learning.collective import Collective
from tactician.learning.objective import Objective
from tactician.learning.precision import Precision
from tactician.learning.sequences import Sequences
from tactician.policy.market_memory import MarketMemory, beside

_NEGLIGIBLE = 1e-3
"""Probability of a book below which the update passes over it. A decided policy visits few."""

_AT_ONCE = 1 << 24
"""Numbers of the largest tensor that is made at once, for some windows: days × books × regimes × assets."""


@dataclass(frozen=True)
class Visited:
    """The books that a policy visits in the windows of a rollout, and what each action is worth there."""

    sequences: Sequences
    """One per window: all its portfolios have the same days."""
    step: Int64[Tensor, " visit"]
    window: Int64[Tensor, " visit"]
    probability: Float[Tensor, " visit"]
    """Of the book on that day; 0 on days that do not count."""
    portfolio: Float[Tensor, "visit 20"]
    log_probs: Float[Tensor, "visit action"]
    """Of all actions, when the policy acted."""
    advantages: Float[Tensor, "visit action"]
    """Q − V, in units of their standard deviation."""

    def __len__(self) -> int:
        return len(self.sequences)

    def take(self, index: Int64[Tensor, " env"], shared: int) -> "Visited":
        """The windows of a minibatch, given by all their environments."""
        windows = index[::shared] // shared
        place = torch.full((len(self),), -1, dtype=torch.int64, device=index.device)
        place[windows] = torch.arange(len(windows), device=index.device)
        mine = place[self.window] >= 0
        return Visited(
            sequences=self.sequences.take(windows),
            step=self.step[mine],
            window=place[self.window[mine]],
            probability=self.probability[mine],
            portfolio=self.portfolio[mine],
            log_probs=self.log_probs[mine],
            advantages=self.advantages[mine],
        )


@torch.no_grad()
def visit(
    env: Environment,
    policy: MarketMemory,
    data: Sequences,
    *,
    ages: int,
    gamma: float,
    objective: Objective,
    precision: Precision,
    collective: Collective,
    negligible: float = _NEGLIGIBLE,
) -> Visited:
    """Evaluate a policy in every book, on the days of a rollout.

    Args:
        env: market and costs.
        policy: as it acted in the rollout.
        data: the rollout's sequences.
        ages: A of the lattice.
        gamma: discount per day.
        objective: what is to be maximised.
        precision: of the forward passes.
        collective: the processes of the run, which normalise together.
        negligible: books that are less probable are left out.
    """
    shared = data.shared
    every = torch.arange(0, len(data), shared, device=data.day.device)
    windows = replace(data.take(every), shared=1)
    regimes, assets = env.market.regimes.n_actions - 1, env.market.returns.shape[1]
    together = max(1, _AT_ONCE // (len(data.day) * regimes * ages * regimes * assets))
    parts = [
        _visit(env, policy, windows.take(part), part, ages, gamma, objective, precision, negligible)
        for part in torch.arange(len(windows), device=every.device).split(together)
    ]
    joined = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
    growth, step, window, probability, portfolio, log_probs, advantages = joined
    if windows.weight is not None:
        probability = probability * windows.weight[step, window]
    # Scaled by their size where the policy is, as PPO's are, so that clip range, entropy bonus and rates mean the same in
    # both. Their mean is 0 in every book by definition.
    likely = probability[:, None] * log_probs.exp()
    total = torch.stack([(likely * advantages.square()).sum(), probability.sum()]).double()
    squares, count = collective.add_up(total)
    scale = (squares / count).sqrt().to(advantages.dtype)
    advantages = advantages / (scale + 1e-8)
    if (emphasis := objective.emphasis(growth, collective)) is not None:
        advantages = advantages * emphasis[window, None]
    return Visited(windows, step, window, probability, portfolio, log_probs, advantages)


def _visit(
    env: Environment,
    policy: MarketMemory,
    windows: Sequences,
    numbers: Tensor,
    ages: int,
    gamma: float,
    objective: Objective,
    precision: Precision,
    negligible: float,
) -> tuple[Tensor, ...]:
    n_days, n_windows = windows.day.shape
    n_actions = env.market.regimes.n_actions
    day = windows.day.long()
    # One day more: the books that the last decision leads to, of which the critic says what they are worth.
    seen = torch.cat([day, (day[-1:] + 1).clamp(max=env.market.n_days - 1)])
    held = lattice.books(env, seen.flatten(), ages)
    entries = lattice.portfolio_entries(env, seen.flatten(), held, ages).view(n_days + 1, n_windows, -1, 20)
    reward = lattice.rewards(env, day.flatten(), held[: day.numel()]).view(n_days, n_windows, -1, n_actions)
    reward = objective.rewards(env.market, day, reward)
    with precision.autocast():
        summary, _ = policy.remember(env.market.features[seen], windows.first_hidden, windows.masks)
        features = beside(summary[:, :, None].expand(-1, -1, entries.shape[2], -1), entries)
        logits = policy.policy_head(features[:-1])
        beyond = policy.values(features[-1])
    log_probs = torch.log_softmax(logits.float(), -1)
    chosen = log_probs.exp()
    q, v = lattice.values(reward, chosen, beyond.float(), gamma)
    probability = lattice.occupancy(chosen, lattice.fresh_books(n_windows, n_actions, ages, chosen))
    growth = (probability * (chosen * reward).sum(-1)).sum((0, 2))
    step, window, state = (probability > negligible).nonzero(as_tuple=True)
    there = (step, window, state)
    advantages = q[there] - v[there][:, None]
    return growth, step, numbers[window], probability[there], entries[there], log_probs[there], advantages


def exact_loss(
    policy: MarketMemory, visited: Visited, n_days: Tensor, *, clip: float, entropy_coef: float, precision: Precision
) -> tuple[Tensor, Float[Tensor, "5"]]:
    """The loss of a minibatch of windows, and its figures as of `tactician.learning.ppo`; the value loss is 0.

    Args:
        policy: learns.
        visited: windows of the minibatch that this process holds.
        n_days: days of the whole minibatch.
        clip: ε.
        entropy_coef: c_e.
        precision: of the forward passes.
    """
    windows = visited.sequences
    with precision.autocast():
        market = windows.market.features[windows.day]
        summary, _ = policy.remember(market, windows.first_hidden, windows.masks)
        logits = policy.policy_head(beside(summary[visited.step, visited.window], visited.portfolio))
    now = torch.log_softmax(logits.float(), -1)
    change = now - visited.log_probs
    ratio, likely = change.exp(), visited.log_probs.exp()
    surrogate = torch.minimum(ratio * visited.advantages, ratio.clamp(1 - clip, 1 + clip) * visited.advantages)

    def mean(x: Tensor) -> Tensor:
        return (visited.probability * x).sum() / n_days

    loss = -mean((likely * surrogate).sum(-1))
    entropy = mean(-(now.exp() * now).sum(-1))
    with torch.no_grad():
        kl = mean((likely * -change).sum(-1))
        clipped = mean((likely * ((ratio - 1).abs() > clip)).sum(-1))
        figures = torch.stack([loss, torch.zeros_like(loss), entropy, kl, clipped])
    return loss - entropy_coef * entropy, figures
