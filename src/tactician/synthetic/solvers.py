"""Dynamic programming, in float64: what the best policy of a market does, found without simulating a single trade.

A market is exogenous: what is known about it (a *situation*) moves on its own, whatever is held. So a policy's worth
splits into what a regime earns in a situation, and what it costs to get there from the regime held.
"""

# Written apart from the environment on purpose: an optimum computed by the code that it judges would share its faults.
# tests/synthetic plays each solution through the environment, where it must earn what is said here.

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Solution:
    """The optimum of an endless market."""

    growth: float
    """Mean log growth per session."""
    values: Float[Tensor, "situation regime"]
    """Worth of being in a regime after a trade, this session's growth and the future included, up to a constant."""


def solve(
    growth: Float[Tensor, "situation regime"],
    costs: Float[Tensor, "regime regime"],
    transition: Float[Tensor, "situation situation"],
) -> Solution:
    """Highest mean growth per session, by relative value iteration (Puterman 1994, "Markov Decision Processes", §8.5.5).

        Q(s, a) = growth(s, a) + Σ_s' P(s, s') · V(s', a),    V(s, h) = max_a Q(s, a) − costs(h, a)

    Args:
        growth: expected log growth of a regime in a situation.
        costs: log cost of each switch.
        transition: probability of each next situation; rows sum to 1.
    """
    # V is worth before the trade, held h; Q is worth after it, in a. The maximum over a pays for the way from h.
    growth_rate, worth = _iterate_values(
        lambda value: growth + transition @ value, lambda worth: (worth[:, None, :] - costs[None]).amax(-1), growth
    )
    return Solution(growth_rate, worth)


def solve_drifting(
    growth: Float[Tensor, "situation exposure"],
    drifted: Float[Tensor, "outcome situation exposure"],
    costs: Float[Tensor, "outcome situation exposure target"],
    targets: Int64[Tensor, " target"],
    transition: Float[Tensor, "situation situation"],
) -> tuple[float, Float[Tensor, "situation exposure action"]]:
    """The same where a session passes between decision and trade: what is held drifts for free, a trade leads to a target.

    Exposures are multiples of 1/M; values between them are interpolated linearly.

    Args:
        growth: expected log growth of every exposure in every situation, after the trade.
        drifted: the exposure at the trade of every exposure at the decision, by equally likely outcomes.
        costs: log cost of the trade from there to each target.
        targets: indices of the targets among the exposures.
        transition: probability of each next situation.

    Returns:
        Mean log growth per session, and the worth of every action, up to a constant: HOLD, then each target.
    """
    # Drift leads between the grid's points. The clamp keeps the upper neighbour on the grid where the exposure is 1. What a
    # trade costs is averaged over the outcomes, because the decision is made before any of them is known.
    place = drifted * (growth.shape[1] - 1)
    low = place.long().clamp(max=growth.shape[1] - 2)
    share, price = place - low, costs.mean(0)

    def worth_of(value: Tensor) -> Tensor:
        traded = growth + transition @ value
        held = traded.expand_as(drifted)
        # HOLD ends where the drift has led, and pays nothing. A trade ends at its target, wherever it started.
        kept = ((1 - share) * held.gather(-1, low) + share * held.gather(-1, low + 1)).mean(0)
        return torch.cat([kept[..., None], traded[:, None, targets] - price], -1)

    return _iterate_values(worth_of, lambda worth: worth.amax(-1), growth)


def _iterate_values(
    worth_of: Callable[[Tensor], Tensor], best_of: Callable[[Tensor], Tensor], like: Tensor
) -> tuple[float, Tensor]:
    """Worth from the value before the trade, and back, until all values rise alike: growth per session and worth."""
    # Undiscounted values grow by the optimal rate at each step without end. Their differences converge, which is all that a
    # decision needs; so one of them is subtracted. The span of the change bounds the error of the rate from both sides.
    value = torch.zeros_like(like)
    while True:
        worth = worth_of(value)
        new = best_of(worth)
        change = new - value
        if float(change.amax() - change.amin()) < _TOLERANCE:
            return float(change.mean()), worth
        value = new - new[0, 0]


def solve_backwards(
    growth: Float[Tensor, "day regime"], costs: Float[Tensor, "regime regime"]
) -> Float[Tensor, "day regime"]:
    """The optimum on one path whose every return is known: worth of being in a regime after the trade of each day."""
    # Bellman's recursion from the last day, after which nothing is worth anything.
    worth = torch.empty_like(growth)
    after = torch.zeros_like(growth[0])
    for t in range(len(growth) - 1, -1, -1):
        worth[t] = growth[t] + after
        after = (worth[t][None] - costs).amax(-1)
    return worth


def normal_nodes(count: int, dimensions: int = 1) -> tuple[Float[Tensor, "node dim"], Float[Tensor, " node"]]:
    """Gauss–Hermite nodes and weights for expectations under independent standard normals."""
    # "hermite_e" is the probabilists' polynomial, of weight exp(−x²/2): nodes need no √2, and weights over their sum are
    # probabilities.
    x, w = np.polynomial.hermite_e.hermegauss(count)
    grid = torch.cartesian_prod(*[torch.from_numpy(x)] * dimensions).view(-1, dimensions)
    weights = torch.cartesian_prod(*[torch.from_numpy(w / w.sum())] * dimensions).view(-1, dimensions).prod(-1)
    return grid, weights


def expected_log_growth(mean: Float[Tensor, "..."], std: Float[Tensor, "..."], nodes: int = 15) -> Float[Tensor, "..."]:
    """E ln(1 + r) for a normal r that keeps as far from −1 as daily returns do."""
    x, w = normal_nodes(nodes)
    return (torch.log1p(mean[..., None] + std[..., None] * x[:, 0]) * w).sum(-1)


@dataclass(frozen=True)
class BeliefGrid:
    """A regular grid on the simplex of beliefs over K states, with linear interpolation between its points.

    A belief is a mixture of at most K grid points, by Freudenthal's triangulation (Lovejoy 1991, "Computationally feasible
    bounds for partially observed Markov decision processes").
    """

    n_states: int
    resolution: int

    @property
    def points(self) -> Float[Tensor, "point state"]:
        """All beliefs whose entries are multiples of 1/resolution."""
        axes = torch.cartesian_prod(*[torch.arange(self.resolution + 1)] * (self.n_states - 1)).view(
            -1, self.n_states - 1
        )
        axes = axes[axes.sum(-1) <= self.resolution]
        return torch.cat([axes, self.resolution - axes.sum(-1, keepdim=True)], -1).double() / self.resolution

    def interpolation(self, beliefs: Float[Tensor, "belief state"]) -> tuple[Tensor, Float[Tensor, "belief vertex"]]:
        """Indices of the grid points around each belief, and their weights, [belief, K] both."""
        # Partial sums from the last entry up turn the simplex into x₁ = M ≥ x₂ ≥ … ≥ 0 on the integer lattice.
        x = self.resolution * beliefs.double().flip(-1).cumsum(-1).flip(-1)
        x[:, 0] = self.resolution
        # 1e-9: a point of the grid that rounding put just below itself stays that point.
        base = (x + 1e-9).floor().clamp(max=self.resolution)
        part = (x - base).clamp(min=0.0)
        part[:, 0] = 0.0
        # The corners of the simplex around x: from the base, one step per coordinate, the largest fraction first. The weights
        # are the differences of the sorted fractions.
        order = part[:, 1:].argsort(dim=-1, descending=True, stable=True)
        sorted_part = part[:, 1:].gather(-1, order)
        ones = torch.ones_like(sorted_part[:, :1])
        edges = torch.cat([ones, sorted_part, torch.zeros_like(ones)], -1)
        weights = edges[:, :-1] - edges[:, 1:]
        corners = [base]
        for k in range(self.n_states - 1):
            corners.append(corners[-1].scatter_add(-1, order[:, k : k + 1] + 1, ones))
        lattice = torch.stack(corners, 1)
        tail = torch.cat([lattice[..., 1:], torch.zeros_like(lattice[..., :1])], -1)
        counts = (lattice - tail).round().long()
        # A corner of weight zero may lie outside the simplex; any point will do for it.
        counts = torch.where(weights[..., None] > 0, counts, torch.zeros_like(counts))
        return self._index(counts), weights

    def interpolate(
        self, values: Float[Tensor, "point regime"], beliefs: Float[Tensor, "belief state"]
    ) -> Float[Tensor, "belief regime"]:
        """Values given at the grid's points, read between them."""
        index, weights = self.interpolation(beliefs)
        return (values[index] * weights[..., None]).sum(1)

    def _index(self, counts: Tensor) -> Tensor:
        scale = self.resolution + 1
        # K − 1 counts name a point, since all K add up to the resolution. They are the digits of its key.
        powers = torch.tensor([scale**k for k in range(self.n_states - 2, -1, -1)])
        keys = ((self.points * self.resolution).round().long()[:, :-1] * powers).sum(-1)
        position = torch.full((scale ** (self.n_states - 1),), 0)
        position[keys] = torch.arange(len(keys))
        return position[(counts[..., :-1] * powers).sum(-1)]


@dataclass(frozen=True)
class HiddenChain:
    """A Markov chain of K states that is seen only through returns, r ~ N(means[state], std²) independent across assets."""

    stay: float
    """Probability of staying; every other state is equally likely."""
    means: Float[Tensor, "state asset"]
    std: float

    @property
    def n_states(self) -> int:
        """K."""
        return len(self.means)

    @property
    def transition(self) -> Float[Tensor, "state state"]:
        """Probabilities of the next state."""
        k = self.n_states
        move = (1 - self.stay) / (k - 1)
        return torch.full((k, k), move, dtype=torch.float64) + (self.stay - move) * torch.eye(k, dtype=torch.float64)

    def sample(self, days: int, generator: torch.Generator) -> tuple[Tensor, Float[Tensor, "day asset"]]:
        """A path of states, and the returns they bring."""
        # A jump moves by 1 … K − 1, modulo K: never back to the same state, and to all others alike.
        jump = torch.rand(days, generator=generator) >= self.stay
        step = torch.randint(1, self.n_states, (days,), generator=generator)
        states = torch.where(jump, step, 0).cumsum(0) % self.n_states
        noise = torch.randn(days, self.means.shape[1], generator=generator, dtype=torch.float64)
        return states, self.means[states] + self.std * noise

    def log_likelihood(self, returns: Float[Tensor, "*batch asset"]) -> Float[Tensor, "*batch state"]:
        """Log of p(r | state), up to a term that is the same for all states."""
        # Of −(r − μ)²/(2σ²) the term r² is the same for all states, and goes when the filter normalises.
        return (returns @ self.means.T - self.means.square().sum(-1) / 2) / self.std**2

    def filter(self, returns: Float[Tensor, "day asset"]) -> Float[Tensor, "day state"]:
        """P(state of day t | returns up to day t), exactly: b_t ∝ L(r_t) · Pᵀ b_{t−1}, from the uniform belief."""
        logs = self.log_likelihood(returns)
        # The largest is taken out before exp, or far returns would make all likelihoods 0.
        likelihood = (logs - logs.amax(-1, keepdim=True)).exp().numpy()
        move = self.transition.numpy()
        belief = np.full(self.n_states, 1 / self.n_states)
        out = np.empty_like(likelihood)
        for t, seen in enumerate(likelihood):
            belief = seen * (belief @ move)
            belief /= belief.sum()
            out[t] = belief
        return torch.from_numpy(out)

    def belief_transition(self, grid: BeliefGrid, nodes: int = 16) -> Float[Tensor, "point point"]:
        """How the filter's belief moves from day to day, as a chain on the grid's points."""
        # Noise at right angles to the means' differences moves all likelihoods alike. So Gauss–Hermite integrates only over the
        # directions that they span: for two assets and two states one instead of two.
        difference = self.means - self.means[:1]
        basis = torch.linalg.svd(difference, full_matrices=False).Vh[: torch.linalg.matrix_rank(difference)]
        centres = self.means @ basis.T
        noise, weights = normal_nodes(nodes, len(basis))
        prior = grid.points @ self.transition
        result = torch.zeros(len(prior), len(prior), dtype=torch.float64)
        rows = torch.arange(len(prior))[:, None, None]
        # Tomorrow's state is k with probability prior[k]; the return is drawn around that state's mean, and Bayes' rule moves
        # the belief. Its mass is spread over the corners of the grid around it.
        for k in range(self.n_states):
            seen = centres[k] + self.std * noise
            likelihood = (seen @ centres.T - centres.square().sum(-1) / 2) / self.std**2
            posterior = prior[:, None, :] * (likelihood - likelihood.amax(-1, keepdim=True)).exp()
            posterior = posterior / posterior.sum(-1, keepdim=True)
            index, mix = grid.interpolation(posterior.flatten(0, 1))
            shape = (len(prior), len(weights), grid.n_states)
            mass = prior[:, k, None, None] * weights[:, None] * mix.view(shape)
            result.index_put_((rows.expand(shape), index.view(shape)), mass, accumulate=True)
        return result
