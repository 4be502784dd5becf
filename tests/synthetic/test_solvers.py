"""The optima's own mathematics, against enumeration, published numbers and slow definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.synthetic.solvers import (
    BeliefGrid,
    HiddenChain,
    expected_log_growth,
    normal_nodes,
    solve,
    solve_backwards,
    solve_drifting,
)
from tests.synthetic.garleanu_pedersen import aim_coefficient, trading_rate

F64 = torch.float64


def stationary_growth(growth, costs, transition, policy):
    """Mean growth of one deterministic policy [situation, held] → regime, from the stationary law of the joint chain."""
    n, r = growth.shape
    joint = np.zeros((n * r, n * r))
    earned = np.zeros(n * r)
    for s, h in itertools.product(range(n), range(r)):
        a = policy[s][h]
        earned[s * r + h] = growth[s, a] - costs[h, a]
        for after in range(n):
            joint[s * r + h, after * r + a] += transition[s, after]
    # Mean over a long horizon from the first state: robust to several recurrent classes.
    law, total = np.full(n * r, 0.0), 0.0
    law[0] = 1.0
    averaged = np.linalg.matrix_power(0.5 * joint + 0.5 * np.eye(n * r), 2**16)
    total = (law @ averaged) @ earned
    return total


@pytest.mark.parametrize("seed", range(5))
def test_value_iteration_agrees_with_trying_every_policy(seed):
    draw = np.random.default_rng(seed)
    growth, transition = draw.normal(0, 0.01, (2, 2)), draw.dirichlet([2, 2], 2)
    costs = np.array([[0, draw.uniform(0, 0.02)], [draw.uniform(0, 0.02), 0]])
    best = max(
        stationary_growth(growth, costs, transition, [choice[:2], choice[2:]])
        for choice in itertools.product(range(2), repeat=4)
    )
    found = solve(torch.tensor(growth), torch.tensor(costs), torch.tensor(transition))
    assert found.growth == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_backward_induction_agrees_with_trying_every_path(seed):
    draw = np.random.default_rng(seed)
    growth, costs = draw.normal(0, 0.01, (5, 3)), draw.uniform(0, 0.01, (3, 3)) * (1 - np.eye(3))
    best = max(
        sum(growth[t, a] - costs[h, a] for t, (h, a) in enumerate(itertools.pairwise((0, *path))))
        for path in itertools.product(range(3), repeat=5)
    )
    worth = solve_backwards(torch.tensor(growth), torch.tensor(costs))
    assert float((worth[0] - torch.tensor(costs[0])).max()) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("gamma", "rho", "cost", "phi", "b", "variance", "rate", "coefficient"),
    [
        (1, 0.01, 10, 0.05, 0.5, 0.04, 0.265933230, 2.934036476),
        (2, 0.02, 50, 0.2, 1, 0.09, 0.172063777, 0.513841944),
        (5, 0.001, 1, 0.5, 0.1, 0.01, 0.853974533, 1.573570181),
    ],
)
def test_the_closed_form_has_the_known_rates_and_coefficients(gamma, rho, cost, phi, b, variance, rate, coefficient):
    found = trading_rate(gamma, rho, cost) / cost
    assert found == pytest.approx(rate, abs=5e-10)
    assert found * b * aim_coefficient(gamma, rho, cost, phi, variance) == pytest.approx(coefficient, abs=5e-9)


def test_without_drift_the_drifting_solver_finds_what_the_other_finds():
    generator = torch.Generator().manual_seed(0)
    growth = torch.randn(4, 6, generator=generator, dtype=F64)
    x = torch.arange(6, dtype=F64) / 5
    costs = 0.7 * (x[:, None] - x).abs()
    transition = torch.rand(4, 4, generator=generator, dtype=F64).softmax(-1)
    plain = solve(growth, costs, transition)
    best, worth = solve_drifting(growth, x.expand(2, 4, 6), costs.expand(2, 4, 6, 6), torch.arange(6), transition)
    assert best == pytest.approx(plain.growth, abs=1e-10)
    kept = worth[..., 0]
    assert torch.allclose(kept - kept[0, 0], plain.values - plain.values[0, 0], atol=1e-9)
    assert torch.allclose(worth[..., 1:], kept[:, None] - costs, atol=1e-12)


def test_the_drifting_solver_earns_what_it_says_along_a_long_path():
    """Two targets, exposures that drift half a step or not at all: its policy, lived through 200,000 sessions."""
    growth = torch.tensor([[0.0, 0.1, 0.3, 0.5, 0.2], [0.3, 0.2, 0.1, 0.0, -0.1]], dtype=F64)
    x = torch.arange(5, dtype=F64) / 4
    drifted = torch.stack([x.expand(2, 5), (x + 0.25).clamp(max=1).expand(2, 5)])
    targets = torch.tensor([0, 2])
    costs = 0.5 * (drifted[..., None] - x[targets]).abs()
    transition = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=F64)
    best, worth = solve_drifting(growth, drifted, costs, targets, transition)
    actions, gains, stays = worth.argmax(-1).tolist(), growth.tolist(), transition.diag().tolist()
    s, h, earned = 0, 0, 0.0
    draws = np.random.default_rng(0).random((200_000, 2)).tolist()
    for jump, move in draws:
        action = actions[s][h]  # decided before it is known where the drift leads
        h = min(h + (move < 0.5), 4)
        if action:
            target = (0, 2)[action - 1]
            earned -= 0.5 * abs(h - target) / 4
            h = target
        earned += gains[s][h]
        s = s if jump < stays[s] else 1 - s
    assert earned / len(draws) == pytest.approx(best, abs=0.005)


def test_the_closed_form_solves_the_riccati_equation_of_its_problem():
    # One exposure x, signal f: max E Σ (1−ρ)^t [x f − γσ²/2 x² − λσ²/2 Δx²]; the policy by iterating the value function.
    gamma, rho, cost, phi, variance = 1.5, 0.03, 7.0, 0.2, 0.05
    q = m = 0.0  # V(x, f) = −½ q x² + m x f + …; x is the exposure held.
    kept, k = 1 - rho, 7.0 * 0.05
    for _ in range(5000):
        curvature = gamma * variance + k + kept * q
        slope = 1 + kept * m * (1 - phi)
        q, m = k - k * k / curvature, k * slope / curvature
    curvature = gamma * variance + k + kept * q
    slope = 1 + kept * m * (1 - phi)
    # x = (k/curvature)·x_before + (slope/curvature)·f. Discounting starts a period earlier in the paper's timing.
    assert 1 - k / curvature == pytest.approx(trading_rate(gamma, rho, cost * 1.0) / cost, rel=0.05)
    assert slope / curvature == pytest.approx(
        trading_rate(gamma, rho, cost) / cost * aim_coefficient(gamma, rho, cost, phi, variance), rel=0.05
    )


def test_expected_log_growth_against_integration():
    x = torch.linspace(-9, 9, 200_001, dtype=F64)
    density = (-x.square() / 2).exp() / math.sqrt(2 * math.pi)
    slow = torch.trapezoid(torch.log1p(0.01 + 0.05 * x) * density, x)
    fast = expected_log_growth(torch.tensor(0.01, dtype=F64), torch.tensor(0.05, dtype=F64))
    assert float(fast) == pytest.approx(float(slow), abs=1e-9)


def test_normal_nodes_have_the_moments_of_independent_normals():
    x, w = normal_nodes(8, 2)
    assert float(w.sum()) == pytest.approx(1)
    second = (x[:, :, None] * x[:, None, :] * w[:, None, None]).sum(0)
    assert torch.allclose(second, torch.eye(2, dtype=F64), atol=1e-12)
    assert float((x[:, 0] ** 4 * w).sum()) == pytest.approx(3)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 4), st.integers(1, 9), st.integers(0, 10_000))
def test_a_belief_is_the_mixture_of_its_corners(n_states, resolution, seed):
    grid = BeliefGrid(n_states, resolution)
    beliefs = torch.from_numpy(np.random.default_rng(seed).dirichlet([0.5] * n_states, 20))
    index, weights = grid.interpolation(beliefs)
    assert bool((weights >= -1e-9).all()) and torch.allclose(weights.sum(-1), torch.ones(20, dtype=F64))
    assert torch.allclose((grid.points[index] * weights[..., None]).sum(1), beliefs, atol=1e-8)
    assert torch.allclose(grid.interpolate(grid.points, grid.points), grid.points, atol=1e-8)


def chain(n_states=3):
    means = torch.tensor([[0.01, 0.0], [-0.005, 0.01], [0.0, -0.01]], dtype=F64)[:n_states]
    return HiddenChain(0.9, means, 0.01)


def test_the_filter_agrees_with_bayes_over_every_path_of_states():
    model = chain()
    _, returns = model.sample(5, torch.Generator().manual_seed(1))
    belief = model.filter(returns)
    weight = np.zeros(3)
    for path in itertools.product(range(3), repeat=5):
        p = 1 / 3
        for t, state in enumerate(path):
            if t:
                p *= model.transition[path[t - 1], state].item()
            p *= math.exp(-float((returns[t] - model.means[state]).square().sum()) / (2 * model.std**2))
        weight[path[-1]] += p
    # The first belief is moved once before it is seen, which leaves the uniform one as it is.
    assert belief[-1].tolist() == pytest.approx((weight / weight.sum()).tolist(), abs=1e-10)


def test_the_chain_stays_and_moves_as_often_as_it_says():
    states, _ = chain().sample(200_000, torch.Generator().manual_seed(0))
    moves = torch.zeros(3, 3, dtype=F64).index_put_((states[:-1], states[1:]), torch.ones(199_999, dtype=F64), True)
    assert torch.allclose(moves / moves.sum(-1, keepdim=True), chain().transition, atol=0.01)


@pytest.mark.parametrize("n_states", [2, 3])
def test_beliefs_move_on_the_grid_as_the_filter_moves_them(n_states):
    model, grid = chain(n_states), BeliefGrid(n_states, 20)
    transition = model.belief_transition(grid)
    assert torch.allclose(transition.sum(-1), torch.ones(len(grid.points), dtype=F64))
    # A filter's belief is a martingale but for the chain's own moves: its mean is the prior.
    assert torch.allclose(transition @ grid.points, grid.points @ model.transition, atol=2e-3)
    # And its spread is that of simulated Bayes steps.
    start = grid.points[len(grid.points) // 2]
    prior = start @ model.transition
    generator = torch.Generator().manual_seed(0)
    states = torch.multinomial(prior, 100_000, replacement=True, generator=generator)
    noise = torch.randn(100_000, 2, generator=generator, dtype=F64)
    posterior = prior * model.log_likelihood(model.means[states] + model.std * noise).softmax(-1)
    posterior = posterior / posterior.sum(-1, keepdim=True)
    row = transition[len(grid.points) // 2]
    assert torch.allclose(row @ grid.points.square(), posterior.square().mean(0), atol=6e-3)
