"""Growth, growth less variance, and the worst windows: each against its definition."""

import math
from dataclasses import replace

import pytest
import torch

from tactician.environment import OBS_DIM, first_state
from tactician.learning import (
    ALONE,
    begin_memory,
    collect_rollout,
    generalised_advantages,
    leave_one_out,
    make_learner,
    update,
)
from tactician.learning.objective import Objective, equal_weight_growth
from tactician.policy import MarketMemory
from tests.learning.test_ratio_is_one import HYPER, make_run
from tests.markets import random_market

GROWTH = Objective("growth", 1.0, relative=False)


def test_growth_is_the_reward_as_it_is():
    market, net = random_market(), torch.randn(3, 4)
    assert torch.equal(GROWTH.rewards(market, torch.zeros(3, 4, dtype=torch.int32), net), net)


def test_variance_costs_half_the_aversion_times_the_squared_deviation():
    net = torch.tensor([1.0, -1.0, 3.0])  # percent
    found = Objective("mean_variance", 4.0, False, mean=1.0).rewards(random_market(), torch.zeros(3).long(), net)
    by_hand = [100 * (r - 4.0 / 2 * (r - 0.01) ** 2) for r in (0.01, -0.01, 0.03)]
    assert found.tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize("aversion", [0.0, 3.0, 5000.0])
def test_softmins_weights_are_the_gradient_of_its_definition(aversion):
    growth = torch.tensor([[5.0, -3.0], [0.5, -20.0]], dtype=torch.float64, requires_grad=True)  # percent
    weights = Objective("softmin", aversion, False).emphasis(growth.detach(), growth > -99, ALONE)
    if aversion == 0:
        assert torch.equal(weights, torch.ones_like(weights))
        return
    decimal = growth / 100
    worst = -(torch.logsumexp(-aversion * decimal.flatten(), 0) - math.log(4)) / aversion
    worst.backward()
    assert torch.allclose(weights / 4, 100 * growth.grad, rtol=1e-9, atol=1e-12)
    assert weights.mean() == pytest.approx(1)


def test_equal_weights_growth_is_that_of_the_assets_that_can_be_held():
    market = random_market()  # the last asset is listed later
    growth = equal_weight_growth(market)
    for day in (0, 10, 200, 399):
        held = [k for k in range(5) if market.tradable[day, k]]
        mean = sum(float(market.returns[day, k]) for k in held) / len(held)
        assert float(growth[day]) == pytest.approx(100 * math.log1p(mean), abs=1e-5)
    assert not market.tradable[10].all() and market.tradable[200].all()


@pytest.mark.parametrize("kind", ["growth", "mean_variance", "softmin"])
def test_a_relative_reward_lacks_the_growth_of_its_day_whatever_the_objective(kind):
    market, day, net = random_market(), torch.tensor([[5, 7], [8, 9]]), torch.randn(2, 2)
    plain = Objective(kind, 20.0, relative=False, mean=0.1).rewards(market, day, net)
    found = Objective(kind, 20.0, relative=True, mean=0.1).rewards(market, day, net)
    for t in range(2):
        for w in range(2):
            assert float(found[t, w]) == pytest.approx(
                float(plain[t, w] - equal_weight_growth(market)[day[t, w]]), abs=1e-5
            )


def test_windows_that_do_not_count_have_no_say():
    growth, counts = torch.tensor([1.0, -5.0, 2.0, -90.0]), torch.tensor([True, True, True, False])
    objective = Objective("softmin", 30.0, relative=False)
    found = objective.emphasis(growth, counts, ALONE)
    assert torch.allclose(found[:3], objective.emphasis(growth[:3], counts[:3], ALONE)) and found[3] == 0


def test_what_no_action_changes_leaves_compared_advantages_as_they_are():
    env, policy, state, hidden = make_run(0.0, 16, 32, kind=MarketMemory, per_window=4)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=16, seed=0, iteration=0)
    found = []
    for objective in (GROWTH, replace(GROWTH, relative=True)):
        rewards = objective.rewards(rollout.market, rollout.day, rollout.rewards)
        advantages = generalised_advantages(
            rewards, rollout.values, rollout.next_values, rollout.continues, gamma=0.95, gae_lambda=0.9
        )
        found.append((advantages, leave_one_out(advantages, 4)))
    (plain, compared), (other, other_compared) = found
    assert (plain - other).abs().max() > 0.1
    assert torch.allclose(compared, other_compared, atol=1e-4)


@pytest.mark.parametrize(
    "change", [{"objective": "mean_variance"}, {"objective": "softmin", "risk_aversion": 100.0}, {"reward": "relative"}]
)
def test_each_changes_what_is_learnt(change):
    env, policy, state, hidden = make_run(0.0, 16, 32, kind=MarketMemory, per_window=4)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=16, seed=0, iteration=0)
    hyper = replace(HYPER, portfolios_per_window=4, baseline="window", risk_aversion=50.0)
    learnt = []
    for chosen in (hyper, replace(hyper, **change)):
        copy = MarketMemory(OBS_DIM, 12, hidden_dim=16, n_gru_layers=2, dropout=0.0)
        copy.load_state_dict(policy.state_dict())
        update(make_learner(copy, chosen), rollout, chosen, seed=0, iteration=0)
        learnt.append(copy.state_dict())
    assert any(not torch.equal(learnt[0][name], learnt[1][name]) for name in learnt[0])


def test_windows_of_a_rollout_with_several_sequences_are_weighed_one_by_one():
    env, policy, _, _ = make_run(0.0, 16, 32, kind=MarketMemory, per_window=4)
    state = first_state(env, torch.arange(8))
    rollout, _, _ = collect_rollout(
        env, policy, state, begin_memory(env, policy, state.day), n_steps=16, sequence_length=8, seed=0, iteration=0
    )
    from tactician.learning.ppo import _emphasis

    weights = _emphasis(Objective("softmin", 50.0, False), rollout, None, 4, ALONE)
    growth = rollout.rewards.view(2, 8, 8, 4).sum(1).double() / 100
    others = torch.stack([growth[..., [k for k in range(4) if k != p]].mean(-1) for p in range(4)], -1)
    expected = torch.softmax(-50.0 * others.flatten(), 0).view(2, 8, 4) * 64
    for chunk in range(2):
        part = weights[8 * chunk : 8 * chunk + 8].view(8, 8, 4)
        assert torch.allclose(part, expected[chunk].float().expand(8, 8, 4), rtol=1e-3)


def test_a_sample_that_does_not_count_leaves_the_weights_as_they_are():
    from tactician.learning.ppo import _emphasis

    env, policy, state, hidden = make_run(0.0, 16, 32, kind=MarketMemory, per_window=2)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=16, seed=0, iteration=0)
    valid = torch.ones(16, 16, dtype=torch.bool)
    valid[:, 6:] = valid[9:] = False  # whole windows, and the last days of the others
    objective = Objective("softmin", 50.0, False)
    found = _emphasis(objective, rollout, valid, 2, ALONE)
    spoilt = replace(rollout, rewards=torch.where(valid, rollout.rewards, 1e4))
    assert torch.equal(_emphasis(objective, spoilt, valid, 2, ALONE)[valid], found[valid])
    assert float(found[:9, :6].mean()) == pytest.approx(1, rel=1e-4)


def test_softmin_needs_others_to_compare_with(tiny):
    from tactician.config import load_config
    from tactician.errors import UserError

    with pytest.raises(
        UserError, match="objective 'softmin' compares portfolios of a window; raise portfolios_per_window"
    ):
        load_config(tiny, {"objective": "softmin", "portfolios_per_window": 1, "baseline": "critic"})
