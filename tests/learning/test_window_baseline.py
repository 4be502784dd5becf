"""Baselines that know the days' luck leave the policy's gradient as it is, exactly, and take noise out of it."""

import itertools
from dataclasses import replace

import pytest
import torch

from tactician.environment import observe
from tactician.learning import (
    collect_rollout,
    generalised_advantages,
    leave_one_out,
    make_learner,
    update,
)
from tactician.policy import make_network
from tests.learning.test_ratio_is_one import HYPER, make_run

F64 = torch.float64
COST = 0.3


def small_market(theta, starts, combine):
    """Expectation and spread of the gradient estimator Σ ∇ln π·A over every path of a market of two days and P portfolios.

    A portfolio holds (1) or not (0); the day's luck ±1 is shared, a change costs. ``combine`` makes advantages from the
    returns [step, portfolio], of the same shape.
    """
    n = len(starts)
    mean, square = torch.zeros_like(theta), torch.zeros(())
    for luck in itertools.product((1.0, -1.0), repeat=2):
        for actions in itertools.product((0, 1), repeat=2 * n):
            weights = torch.tensor(1 / 4, dtype=F64)
            leaves = theta.clone().requires_grad_()
            logs, rewards = [], []
            held = list(starts)
            for t in range(2):
                row = actions[t * n : (t + 1) * n]
                log = torch.stack([torch.log_softmax(leaves[h], -1)[a] for h, a in zip(held, row, strict=True)])
                rewards.append([luck[t] * a - COST * (a != h) for h, a in zip(held, row, strict=True)])
                logs.append(log)
                held = list(row)
            weights = weights * torch.stack(logs).sum().exp().detach()
            r = torch.tensor(rewards, dtype=F64)
            zeros = torch.zeros_like(r)
            continues = torch.tensor([[True] * n, [False] * n])
            returns = generalised_advantages(r, zeros, zeros, continues, 1.0, 1.0)
            advantages = combine(returns)
            (gradient,) = torch.autograd.grad((torch.stack(logs) * advantages).sum() / n, leaves)
            mean += weights * gradient
            square = square + weights * gradient.square().sum()
    return mean, float(square - mean.square().sum())


def exact_gradient(theta, starts):
    """Of the expected sum of rewards, by differentiating it."""
    leaves = theta.clone().requires_grad_()
    policy = torch.softmax(leaves, -1)
    total = torch.zeros((), dtype=F64)
    for start in starts:
        occupied = torch.nn.functional.one_hot(torch.tensor(start), 2).double()
        for _ in range(2):
            # The luck has mean 0, so only the cost of changing counts.
            total = total - COST * (occupied[0] * policy[0, 1] + occupied[1] * policy[1, 0])
            occupied = occupied @ policy
    (gradient,) = torch.autograd.grad(total / len(starts), leaves)
    return gradient


THETA = torch.tensor([[0.3, -0.2], [-0.5, 0.4]], dtype=F64)


@pytest.mark.parametrize("starts", [(0, 1), (1, 1), (0, 1, 1)])
def test_the_expected_gradient_is_the_exact_one_with_every_baseline(starts):
    exact = exact_gradient(THETA, starts)
    n = len(starts)
    spreads = []
    for combine in (lambda a: a, lambda a: leave_one_out(a, n)):
        mean, spread = small_market(THETA, starts, combine)
        assert torch.allclose(mean, exact, atol=1e-12)
        spreads.append(spread)
    if n > 2:  # of two, the other's own noise weighs as much as the luck that it takes out
        assert spreads[1] < spreads[0]


def test_a_mean_that_includes_the_portfolio_itself_is_biased():
    """The test above can fail: the mean of all portfolios shrinks the gradient by 1 − 1/P."""
    mean, _ = small_market(THETA, (0, 1), lambda a: a - a.mean(1, keepdim=True))
    assert torch.allclose(mean, exact_gradient(THETA, (0, 1)) / 2, atol=1e-12)


def test_leave_one_out_by_hand():
    advantages = torch.tensor([[1.0, 2.0, 6.0, 10.0, 20.0, 60.0]])
    expected = [[1 - 4, 2 - 3.5, 6 - 1.5, 10 - 40, 20 - 35, 60 - 15]]
    assert torch.allclose(leave_one_out(advantages, 3), torch.tensor(expected).float())


def test_the_update_uses_the_baseline_for_the_policy_and_not_for_the_critic():
    def learn(kind):
        env, policy, state, hidden = make_run(dropout=0.0, per_window=4, n_windows=2)
        rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
        hyper = replace(HYPER, baseline=kind, portfolios_per_window=4, value_coef=0.0, ppo_epochs=1, batch_size=10**6)
        figures = update(make_learner(policy, hyper), rollout, hyper, seed=0, iteration=0)
        return policy, figures

    plain, figures = learn("critic")
    other, others = learn("window")
    assert torch.equal(figures["explained_variance"], others["explained_variance"])
    assert not torch.equal(plain.policy_head[-1].weight, other.policy_head[-1].weight)
    assert torch.equal(figures["value_loss"], others["value_loss"])  # before the first step: the same targets


def test_a_window_of_one_has_nothing_to_compare_with(refused, tiny):
    said = refused("train", "--config", str(tiny), "--baseline", "window", "--portfolios-per-window", "1", "--dry-run")
    assert "portfolios_per_window" in said


def test_a_lean_policy_holds_as_often_as_it_was_told():
    env, policy, state, hidden = make_run()
    fresh = make_network(policy.architecture)
    fresh.lean_towards(0, 0.8)
    logits, _, _ = fresh(observe(env, state)[None], hidden, None)
    assert torch.allclose(logits.softmax(-1)[..., 0], torch.tensor(0.8), atol=0.02)
