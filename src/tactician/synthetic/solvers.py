"""Dynamic programming in float64: the best policy of a market, found without simulating a single trade.

A market is exogenous: the knowledge about it (a *situation*) does not depend on the holdings. So the value of a policy has two
parts: the growth of a regime in a situation, and the cost of switching to that regime.
"""

# The solvers share no code with the environment on purpose: an optimum from the code that it judges would share its faults.
# tests/synthetic plays each solution through the environment, where it must earn the growth computed here.

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Solution:
    """The optimum of a market with an infinite horizon."""

    growth: float
    """Mean log growth per session."""
    values: Float[Tensor, "situation regime"]
    """Value of a regime after a trade, this session's growth and the future included, up to a constant."""


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
    # V is the value before the trade, holding h. Q is the value after it, holding a. The maximum includes the cost h → a.
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
    """As `solve`, with a session between decision and trade. Holdings drift for free, and a trade leads to a target.

    Exposures are multiples of 1/M. Values between them are interpolated linearly.

    Args:
        growth: expected log growth of every exposure in every situation, after the trade.
        drifted: exposure at the trade for every exposure at the decision, by equally likely outcomes.
        costs: log cost of the trade from the drifted exposure to each target.
        targets: indices of the targets among the exposures.
        transition: probability of each next situation.

    Returns:
        Mean log growth per session, and the value of every action, up to a constant. The actions are HOLD, then each target.
    """
    # Drifted exposures lie between the grid's points. The clamp keeps the upper neighbour on the grid at exposure 1. Trading
    # costs are averaged over the outcomes, because the decision is made before the outcome is known.
    place = drifted * (growth.shape[1] - 1)
    low = place.long().clamp(max=growth.shape[1] - 2)
    share, price = place - low, costs.mean(0)

    def worth_of(value: Tensor) -> Tensor:
        traded = growth + transition @ value
        held = traded.expand_as(drifted)
        # HOLD ends at the drifted exposure and costs nothing. A trade ends at its target, wherever it started.
        kept = ((1 - share) * held.gather(-1, low) + share * held.gather(-1, low + 1)).mean(0)
        return torch.cat([kept[..., None], traded[:, None, targets] - price], -1)

    return _iterate_values(worth_of, lambda worth: worth.amax(-1), growth)


def _iterate_values(
    worth_of: Callable[[Tensor], Tensor], best_of: Callable[[Tensor], Tensor], like: Tensor
) -> tuple[float, Tensor]:
    """Iterate values until all rise by the same amount; return the growth per session and the values after the trade."""
    # Undiscounted values rise at each step by the optimal growth rate, without limit. A decision needs only their
    # differences, which converge, so one value is subtracted from all. The smallest and the largest change bound the rate.
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
    """The optimum on one path with known returns: the value of each regime after the trade of each day."""
    # Bellman's recursion, backwards from the last day, after which all values are 0.
    worth = torch.empty_like(growth)
    after = torch.zeros_like(growth[0])
    for t in range(len(growth) - 1, -1, -1):
        worth[t] = growth[t] + after
        after = (worth[t][None] - costs).amax(-1)
    return worth


def normal_nodes(count: int, dimensions: int = 1) -> tuple[Float[Tensor, "node dim"], Float[Tensor, " node"]]:
    """Gauss–Hermite nodes and weights for expectations under independent standard normals."""
    # "hermite_e" is the probabilists' polynomial, with weight exp(−x²/2). So the nodes need no factor √2, and the weights
    # divided by their sum are probabilities.
    x, w = np.polynomial.hermite_e.hermegauss(count)
    grid = torch.cartesian_prod(*[torch.from_numpy(x)] * dimensions).view(-1, dimensions)
    weights = torch.cartesian_prod(*[torch.from_numpy(w / w.sum())] * dimensions).view(-1, dimensions).prod(-1)
    return grid, weights


def expected_log_growth(mean: Float[Tensor, "..."], std: Float[Tensor, "..."], nodes: int = 15) -> Float[Tensor, "..."]:
    """E ln(1 + r) for a normal r that stays far from −1, as daily returns do."""
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
        """Indices of the grid points around each belief, and their weights; both are [belief, K]."""
        # Partial sums from the last entry upwards map the simplex to x₁ = M ≥ x₂ ≥ … ≥ 0 on the integer lattice.
        x = self.resolution * beliefs.double().flip(-1).cumsum(-1).flip(-1)
        x[:, 0] = self.resolution
        # The 1e-9 keeps a grid point that rounding has put just below its integer.
        base = (x + 1e-9).floor().clamp(max=self.resolution)
        part = (x - base).clamp(min=0.0)
        part[:, 0] = 0.0
        # The corners of the simplex around x start from the base and take one step per coordinate, the largest fraction
        # first. The weights are the differences of the sorted fractions.
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
        # A corner with weight zero may lie outside the simplex. It is replaced by any valid point.
        counts = torch.where(weights[..., None] > 0, counts, torch.zeros_like(counts))
        return self._index(counts), weights

    def interpolate(
        self, values: Float[Tensor, "point regime"], beliefs: Float[Tensor, "belief state"]
    ) -> Float[Tensor, "belief regime"]:
        """Interpolate values given at the grid's points."""
        index, weights = self.interpolation(beliefs)
        return (values[index] * weights[..., None]).sum(1)

    def _index(self, counts: Tensor) -> Tensor:
        scale = self.resolution + 1
        # K − 1 counts identify a point, since all K add up to the resolution. They are the digits of its key.
        powers = torch.tensor([scale**k for k in range(self.n_states - 2, -1, -1)])
        keys = ((self.points * self.resolution).round().long()[:, :-1] * powers).sum(-1)
        position = torch.full((scale ** (self.n_states - 1),), 0)
        position[keys] = torch.arange(len(keys))
        return position[(counts[..., :-1] * powers).sum(-1)]


@dataclass(frozen=True)
class HiddenChain:
    """A hidden Markov chain of K states. Returns are r ~ N(means[state], std²), independent across assets."""

    stay: float
    """Probability of staying. The other states are equally likely."""
    means: Float[Tensor, "state asset"]
    std: float

    @property
    def n_states(self) -> int:
        """Number of states K."""
        return len(self.means)

    @property
    def transition(self) -> Float[Tensor, "state state"]:
        """Probabilities of the next state."""
        k = self.n_states
        move = (1 - self.stay) / (k - 1)
        return torch.full((k, k), move, dtype=torch.float64) + (self.stay - move) * torch.eye(k, dtype=torch.float64)

    def sample(self, days: int, generator: torch.Generator) -> tuple[Tensor, Float[Tensor, "day asset"]]:
        """A path of states, and its returns."""
        # A jump moves by 1 … K − 1, modulo K, so it never stays in its state, and all others are equally likely.
        jump = torch.rand(days, generator=generator) >= self.stay
        step = torch.randint(1, self.n_states, (days,), generator=generator)
        states = torch.where(jump, step, 0).cumsum(0) % self.n_states
        noise = torch.randn(days, self.means.shape[1], generator=generator, dtype=torch.float64)
        return states, self.means[states] + self.std * noise

    def log_likelihood(self, returns: Float[Tensor, "*batch asset"]) -> Float[Tensor, "*batch state"]:
        """Log of p(r | state), up to a term that is equal for all states."""
        # The term r² of −(r − μ)²/(2σ²) is equal for all states and cancels when the filter normalises.
        return (returns @ self.means.T - self.means.square().sum(-1) / 2) / self.std**2

    def filter(self, returns: Float[Tensor, "day asset"]) -> Float[Tensor, "day state"]:
        """P(state of day t | returns up to day t), exactly: b_t ∝ L(r_t) · Pᵀ b_{t−1}, from the uniform belief."""
        logs = self.log_likelihood(returns)
        # The largest is subtracted before exp. Otherwise extreme returns would make all likelihoods 0.
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
        """Transition probabilities of the filter's belief from day to day, on the grid's points."""
        # Noise orthogonal to the differences of the means changes all likelihoods alike. So Gauss–Hermite integrates only
        # over the directions that these span: one instead of two for two assets and two states.
        difference = self.means - self.means[:1]
        basis = torch.linalg.svd(difference, full_matrices=False).Vh[: torch.linalg.matrix_rank(difference)]
        centres = self.means @ basis.T
        noise, weights = normal_nodes(nodes, len(basis))
        prior = grid.points @ self.transition
        result = torch.zeros(len(prior), len(prior), dtype=torch.float64)
        rows = torch.arange(len(prior))[:, None, None]
        # Tomorrow's state is k with probability prior[k]. The return is drawn around that state's mean, and Bayes' rule
        # updates the belief. Its mass is spread over the grid points around it.
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
