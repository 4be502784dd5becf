"""At the first minibatch the update sees the policy that acted: every probability ratio is 1."""

import pytest
import torch

from tactician.environment import OBS_DIM, Environment, assemble, first_state
from tactician.learning import Hyperparameters, begin_memory, collect_rollout, make_learner, prepare, update
from tactician.policy import ActorCritic, MarketMemory
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

HYPER = Hyperparameters(
    batch_size=128,
    ppo_epochs=2,
    critic_epochs=2,
    gamma=0.99,
    gae_lambda=0.95,
    baseline="critic",
    portfolios_per_window=1,
    clip=0.2,
    entropy_coef=0.01,
    value_coef=0.5,
    max_grad_norm=0.5,
    actor_lr=3e-4,
    critic_lr=9e-4,
    target_kl=None,
)


def make_run(dropout=0.1, n_steps=32, episode_length=32, layers=2, n_windows=8, per_window=1, kind=ActorCritic):
    market = random_market()
    env = Environment(
        market,
        Frictions.specification(),
        rows=range(1, market.n_days),
        episode_length=episode_length,
        portfolios_per_window=per_window,
    )
    policy = kind(
        OBS_DIM, 12, hidden_dim=16, n_gru_layers=layers, dropout=dropout, generator=torch.Generator().manual_seed(0)
    )
    # A policy with opinions: a near-uniform one would hide errors.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    state = first_state(env, torch.arange(n_windows), stagger=n_steps)
    return env, policy, state, begin_memory(env, policy, state.day)


@pytest.mark.parametrize(("kind", "per_window"), [(ActorCritic, 1), (MarketMemory, 4), (MarketMemory, 1)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("n_steps", "episode_length"), [(32, 32), (64, 32), (8, 32)])
def test_replayed_log_probabilities_and_values_equal_the_rollouts(dropout, n_steps, episode_length, kind, per_window):
    env, policy, state, hidden = make_run(dropout, n_steps, episode_length, kind=kind, per_window=per_window)
    for iteration in range(3):  # later rollouts begin with a hidden state and, if short, in mid-episode
        rollout, state, hidden = collect_rollout(
            env, policy, state, hidden, n_steps=n_steps, seed=0, iteration=iteration
        )
        data = prepare(rollout, torch.zeros_like(rollout.rewards), rollout.values)
        with torch.no_grad():
            logits, values, _ = policy(data.obs, data.first_hidden, data.masks)
        log_prob = logits.log_softmax(-1).gather(-1, data.actions[..., None].long())[..., 0]
        ratio = (log_prob - data.log_probs).exp()
        assert (ratio - 1).abs().max() <= 1e-5
        assert torch.allclose(values, data.targets, atol=1e-4)


def test_the_update_sees_no_divergence_before_its_first_step():
    from dataclasses import replace

    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    one_batch = replace(HYPER, batch_size=10_000, ppo_epochs=1)
    metrics = update(make_learner(policy, one_batch), rollout, one_batch, seed=0, iteration=0)
    assert float(metrics["kl"]) < 1e-9 and float(metrics["clip_fraction"]) == 0


def test_other_masks_would_break_it():
    env, policy, state, hidden = make_run(dropout=0.3)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    data = prepare(rollout, torch.zeros_like(rollout.rewards), rollout.rewards)
    with torch.no_grad():
        logits, _, _ = policy(data.obs, data.first_hidden, data.masks.roll(1, dims=1))
    log_prob = logits.log_softmax(-1).gather(-1, data.actions[..., None].long())[..., 0]
    assert ((log_prob - data.log_probs).exp() - 1).abs().max() > 1e-2


def test_next_values_are_read_before_the_restart_without_advancing_the_state():
    env, policy, state, hidden = make_run(dropout=0.0, n_steps=64, episode_length=32)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=64, seed=0, iteration=0)
    assert rollout.continues.sum(0).eq(62).all() and not rollout.continues[31].any() and not rollout.continues[63].any()
    inside = [t for t in range(63) if t != 31]
    assert torch.equal(rollout.next_values[inside], rollout.values[[t + 1 for t in inside]])
    # At the seam: the value of the state that the old episode reached, so not the first value of the new one.
    assert (rollout.next_values[31] - rollout.values[32]).abs().min() > 0
    assert rollout.first_hidden[1].abs().max() == 0
    # Replaying the old episode and one more observation gives that value again.
    from tactician.environment import observe, step

    replayed = state
    for t in range(32):
        replayed, _ = step(env, replayed, rollout.actions[t])
    with torch.no_grad():
        _, _, h = policy(assemble(rollout.market, rollout.day, rollout.portfolio)[:32], hidden)
        _, value, _ = policy(observe(env, replayed)[None], h)
    assert torch.allclose(value[0], rollout.next_values[31], atol=1e-5)


def test_an_episode_that_goes_on_keeps_its_hidden_state():
    env, policy, state, hidden = make_run(dropout=0.0, n_steps=8, episode_length=32)
    _, after, carried = collect_rollout(env, policy, state, hidden, n_steps=8, seed=0, iteration=0)
    # Windows 0…7 began at ages 0, 8, 16, 24, 0, …: those that began at 24 are done.
    assert after.age.tolist() == [8, 16, 24, 0, 8, 16, 24, 0]
    assert carried[:, [3, 7]].abs().max() == 0 and carried[:, [0, 1, 2]].abs().min(-1).values.max() > 0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_shorter_sequences_are_the_same_rollout_cut_finer(dropout):
    whole_run, cut_run = make_run(dropout, 64, 32), make_run(dropout, 64, 32)
    whole, whole_state, whole_hidden = collect_rollout(*whole_run, n_steps=64, seed=0, iteration=0)
    cut, cut_state, cut_hidden = collect_rollout(*cut_run, n_steps=64, sequence_length=8, seed=0, iteration=0)
    for name in ("day", "portfolio", "actions", "log_probs", "values", "next_values", "rewards", "continues"):
        assert torch.equal(getattr(whole, name), getattr(cut, name)), name
    assert torch.equal(whole_hidden, cut_hidden) and torch.equal(whole_state.holdings, cut_state.holdings)
    assert (whole.sequence_length, cut.sequence_length) == (32, 8)
    data = prepare(cut, torch.zeros_like(cut.rewards), cut.values)
    with torch.no_grad():
        logits, values, _ = cut_run[1](data.obs, data.first_hidden, data.masks)
    log_prob = logits.log_softmax(-1).gather(-1, data.actions[..., None].long())[..., 0]
    assert ((log_prob - data.log_probs).exp() - 1).abs().max() <= 1e-5
    assert torch.allclose(values, data.targets, atol=1e-4)
