"""The update: loss, ownership of parameters, minibatches, samples that do not count, and learning at all."""

import math
from dataclasses import replace

import pytest
import torch

from tactician.environment import Stream, permutation
from tactician.learning import (
    ALONE,
    collect_rollout,
    make_learner,
    make_precision,
    minibatches,
    policy_loss,
    prepare,
    sample_action_eager,
    update,
)
from tactician.learning.guard import Guard
from tactician.learning.ppo import _critic_epochs, _value_losses
from tactician.learning.sequences import Dealer
from tests.learning.test_ratio_is_one import HYPER, make_run


def critic_epochs(learner, data, hyper, keep_features=True):
    dealer = Dealer(1, 0, len(data), len(data), len(data.obs), hyper.batch_size, 0, 0, ALONE)
    _critic_epochs(learner, data, hyper, dealer, Guard(torch.device("cpu")), keep_features, lambda *_: None)


def snapshot(policy):
    return {name: p.detach().clone() for name, p in policy.named_parameters()}


def test_clipped_surrogate_by_hand():
    # ρ = 1.5, A = 2: min(3, 1.2·2) = 2.4. ρ = 0.5, A = −1: min(−0.5, −0.8) = −0.8. ρ = 1.5, A = −1: min(−1.5, −1.2) = −1.5.
    log = torch.tensor([math.log(1.5), math.log(0.5), math.log(1.5)])
    loss, ratio = policy_loss(log, torch.zeros(3), torch.tensor([2.0, -1.0, -1.0]), 0.2)
    assert loss.tolist() == pytest.approx([-2.4, 0.8, 1.5], rel=1e-6)
    assert ratio.tolist() == pytest.approx([1.5, 0.5, 1.5], rel=1e-6)


def test_actions_follow_their_probabilities():
    logits = torch.log(torch.tensor([0.1, 0.6, 0.3])).expand(100_000, 3)
    noise = (torch.arange(100_000) + 0.5) / 100_000
    action, log_prob = sample_action_eager(logits, noise)
    assert torch.bincount(action).tolist() == pytest.approx([10_000, 60_000, 30_000], abs=2)
    assert torch.allclose(log_prob.exp(), torch.tensor([0.1, 0.6, 0.3])[action], atol=1e-6)
    assert sample_action_eager(torch.zeros(1, 3), torch.tensor([1 - 2**-24]))[0].item() == 2


def test_critic_epochs_change_the_value_head_alone():
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    hyper = replace(HYPER, ppo_epochs=0, critic_epochs=3)
    before = snapshot(policy)
    # ppo_epochs = 0 is not a setting; here it isolates the critic's part.
    critic_epochs(make_learner(policy, hyper), prepare(rollout, rollout.rewards, rollout.rewards), hyper)
    owned = {id(p) for p in policy.critic_parameters()}
    for name, parameter in policy.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) not in owned), name


@pytest.mark.parametrize("keep_features", [True, False])
def test_critic_epochs_on_features_equal_epochs_through_the_whole_network(keep_features):
    hyper = replace(HYPER, critic_epochs=2)
    results = []
    for on_features in (True, False):
        env, policy, state, hidden = make_run()
        rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
        data = prepare(rollout, rollout.rewards, rollout.rewards)
        learner = make_learner(policy, hyper)
        if on_features:
            critic_epochs(learner, data, hyper, keep_features)
        else:
            for epoch in (1, 2):
                order = permutation(len(data), 0, Stream.MINIBATCH, 0, -epoch, device=torch.device("cpu"))
                for index in minibatches(len(data), len(data.obs), hyper.batch_size, order):
                    batch = data.take(index)
                    _, values, _ = policy(batch.obs, batch.first_hidden, batch.masks)
                    learner.critic_optimiser.zero_grad()
                    _value_losses(policy, values, batch.targets).mean().backward()
                    torch.nn.utils.clip_grad_norm_(policy.critic_parameters(), hyper.max_grad_norm)
                    learner.critic_optimiser.step()
        results.append(torch.cat([p.flatten() for p in policy.critic_parameters()]).detach())
    assert torch.allclose(results[0], results[1], atol=1e-6)


def test_joint_epochs_move_actor_and_critic():
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    before = snapshot(policy)
    metrics = update(make_learner(policy, HYPER), rollout, HYPER, seed=0, iteration=0)
    moved = {name: float((p - before[name]).detach().abs().max()) for name, p in policy.named_parameters()}
    assert all(distance > 0 for distance in moved.values()), moved
    assert all(value.isfinite() for value in metrics.values())


def test_weight_decay_equals_adamw_on_the_memory_and_adam_elsewhere():
    """One update of the product beside torch's own AdamW, from the same gradients."""
    # A rate this small makes the order, first the step or first the decay, a matter of 1e-6 of a weight.
    hyper = replace(HYPER, ppo_epochs=1, critic_epochs=0, batch_size=10**6, weight_decay=100.0, actor_lr=1e-5)
    ends = []
    for decay in (0.0, 100.0):
        env, policy, state, hidden = make_run()
        rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
        before, changed = snapshot(policy), replace(hyper, weight_decay=decay)
        update(make_learner(policy, changed), rollout, changed, seed=0, iteration=0)
        ends.append(snapshot(policy))
    for name, plain in ends[0].items():
        memory = name.startswith("gru") and plain.dim() > 1
        expected = plain - 1e-5 * 100.0 * before[name] if memory else plain  # θ ← θ − lr·λ·θ, then Adam's step
        assert torch.allclose(ends[1][name], expected, rtol=0, atol=1e-7), name
        assert torch.equal(ends[1][name], plain) != memory


def test_a_dropped_update_decays_nothing():
    hyper = replace(HYPER, weight_decay=100.0)
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    broken, before = replace(rollout, rewards=rollout.rewards * torch.nan), snapshot(policy)
    update(make_learner(policy, hyper), broken, hyper, seed=0, iteration=0)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())


def test_minibatches_hold_every_sequence_once_in_nearly_equal_parts():
    parts = minibatches(10, 256, 1024, torch.arange(10))  # 2,560 samples in batches of about 1,024
    assert [len(part) for part in parts] == [5, 5]
    assert torch.equal(torch.cat(parts), torch.arange(10))
    assert len(minibatches(3, 256, 1, torch.arange(3))) == 3  # never less than a sequence
    assert len(minibatches(3, 256, 10**9, torch.arange(3))) == 1


def test_samples_that_do_not_count_do_not_matter():
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    valid = torch.ones(32, 8, dtype=torch.bool)
    valid[20:, 7] = False
    hyper = replace(HYPER, critic_epochs=1, gae_lambda=0.0)
    spoilt = replace(rollout, rewards=torch.where(valid, rollout.rewards, 1000.0))
    outcomes = []
    for data in (rollout, spoilt):
        _, fresh, _, _ = make_run()
        metrics = update(make_learner(fresh, hyper), data, hyper, seed=0, iteration=0, valid=valid)
        outcomes.append((snapshot(fresh), metrics))
    for name, value in outcomes[0][0].items():
        assert torch.equal(value, outcomes[1][0][name]), name
    assert outcomes[0][1]["explained_variance"] == outcomes[1][1]["explained_variance"]


def test_a_kl_above_the_target_ends_the_joint_epochs():
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    eager = replace(HYPER, actor_lr=0.05, ppo_epochs=6)
    assert float(update(make_learner(policy, eager), rollout, eager, seed=0, iteration=0)["ppo_epochs"]) == 6
    env, policy, state, hidden = make_run()
    stopped = replace(eager, target_kl=1e-3)
    assert float(update(make_learner(policy, stopped), rollout, stopped, seed=0, iteration=0)["ppo_epochs"]) == 1


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_gradient_that_is_not_finite_stops_actor_and_critic_alike(dtype):
    env, policy, state, hidden = make_run(dropout=0.0)
    precision = make_precision(dtype, "cpu")
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0, precision=precision)
    hyper = replace(HYPER, ppo_epochs=1, critic_epochs=0)
    before = snapshot(policy)
    policy.policy_head[-1].bias.register_hook(lambda gradient: gradient * torch.inf)
    metrics = update(make_learner(policy, hyper, precision), rollout, hyper, seed=0, iteration=0)
    assert float(metrics["dropped_updates"]) == float(metrics["dropped_at_the_end"]) > 0
    for name, parameter in policy.named_parameters():
        assert torch.equal(parameter, before[name]), name
