"""The memory of the market: one for all portfolios of a window, the same as one for each, and of the past alone."""

from dataclasses import replace

import pytest
import torch

from tactician.environment import FEATURE_NAMES, OBS_DIM, Environment
from tactician.evaluation.decisions import decide
from tactician.learning import ALONE, begin_memory, collect_rollout
from tactician.learning.memory import WATCHED
from tactician.learning.sequences import Dealer, prepare
from tactician.policy import MarketMemory
from tactician.portfolio.frictions import Frictions
from tests.learning.test_ratio_is_one import make_run
from tests.markets import random_market

MARKET = len(FEATURE_NAMES)
PER_WINDOW, WINDOWS, STEPS = 3, 4, 7


def network(dropout=0.0, **changes):
    policy = MarketMemory(
        **{"obs_dim": OBS_DIM, "n_actions": 5, "hidden_dim": 16, "n_gru_layers": 2, **changes},
        dropout=dropout,
        generator=torch.Generator().manual_seed(0),
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy.double()


def windows():
    """Observations of windows whose portfolios see one market, and hold different things."""
    generator = torch.Generator().manual_seed(2)
    market = torch.randn(STEPS, WINDOWS, MARKET, generator=generator, dtype=torch.float64)
    portfolio = torch.randn(STEPS, WINDOWS * PER_WINDOW, OBS_DIM - MARKET, generator=generator, dtype=torch.float64)
    return torch.cat([market.repeat_interleave(PER_WINDOW, 1), portfolio], -1)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_one_memory_for_a_window_is_a_memory_for_each_portfolio(dropout):
    policy, obs = network(dropout), windows()
    hidden = policy.initial_state(WINDOWS) + 0.1
    masks = policy.masks(torch.arange(WINDOWS), 0, 0)
    masks = None if masks is None else masks.double()
    results = []
    for each in (1, PER_WINDOW):
        own = None if masks is None else masks.repeat_interleave(each, 1)
        logits, values, after = policy(obs, hidden.repeat_interleave(each, 1), own)
        outputs = logits, values, after[:, ::each]
        gradient = torch.autograd.grad(
            sum((x.sin() * (k + 1)).sum() for k, x in enumerate(outputs)), policy.parameters()
        )
        results.append((*outputs, *gradient))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_heads_read_the_summary_beside_the_portfolio():
    """Their first layer is computed in two parts, and is the one layer of both together."""
    policy, obs = network(), windows()
    summary, _ = policy.trunk(obs, policy.initial_state(WINDOWS))
    both = torch.cat([summary.repeat_interleave(PER_WINDOW, 1), obs[..., MARKET:]], -1)
    logits, values = policy.heads(summary, obs[..., MARKET:])
    assert torch.allclose(logits, policy.policy_head(both), atol=1e-12)
    assert torch.allclose(values, policy.value_head(both)[..., 0], atol=1e-12)


def test_what_a_portfolio_holds_leaves_no_trace_in_the_memory_but_decides_today():
    policy, obs = network(), windows()
    other = obs.clone()
    other[2, :, MARKET:] += 1
    hidden = policy.initial_state(obs.shape[1])
    (logits, values, after), (others, other_values, other_after) = policy(obs, hidden), policy(other, hidden)
    assert torch.equal(after, other_after)
    rest = [t for t in range(STEPS) if t != 2]
    assert torch.equal(logits[rest], others[rest]) and torch.equal(values[rest], other_values[rest])
    assert (logits[2] != others[2]).any(-1).all() and (values[2] != other_values[2]).all()
    other[2, :, :MARKET] += 1
    assert (policy(other, hidden)[2] != after).any()


def test_the_summary_is_of_the_market_and_the_rest_is_the_portfolio():
    policy, obs = network(), windows()
    features, _ = policy.trunk(obs, policy.initial_state(obs.shape[1]))
    assert features.shape == (STEPS, WINDOWS * PER_WINDOW, 64)
    assert torch.equal(features[:, 0], features[:, 1]) and not torch.equal(features[0, 0], features[0, 3])
    assert torch.equal(policy.trunk(obs, policy.initial_state(WINDOWS))[0], features[:, ::PER_WINDOW])


@pytest.mark.parametrize("memories", [0, 5, 24])
def test_memories_that_environments_cannot_share_are_refused(memories):
    policy, obs = network(), windows()
    with pytest.raises(ValueError, match=f"12 environments cannot share {memories} memories"):
        policy(obs, policy.initial_state(memories))


def test_an_observation_of_the_market_alone_is_refused():
    with pytest.raises(ValueError, match="obs_dim is 44: it must exceed the market's 44 entries"):
        network(obs_dim=MARKET)


def environment(per_window=2, **changes):
    market = random_market()
    defaults = {"rows": range(1, market.n_days), "episode_length": 32, "portfolios_per_window": per_window}
    return Environment(market, Frictions.specification(), **{**defaults, **changes})


def test_an_episode_begins_with_the_memory_of_the_sessions_before_it():
    env, policy = environment(), network().float()
    days = torch.tensor([1, 20, WATCHED + 1, WATCHED + 30])
    begun = begin_memory(env, policy, days)
    assert begun.shape == (2, 4, 16)
    for k, day in enumerate(days.tolist()):
        hidden = policy.initial_state(1)
        for row in range(day - WATCHED, day):
            seen = torch.cat([env.market.features[max(row, 1)], torch.zeros(OBS_DIM - MARKET)])
            _, _, hidden = policy(seen[None, None], hidden)
        assert torch.allclose(begun[:, k], hidden[:, 0], atol=1e-6)


def test_the_memory_that_an_episode_begins_with_knows_nothing_of_its_days():
    env, policy, day = environment(), network().float(), 100
    features = env.market.features.clone()
    features[day:] = 77.0
    later = replace(env, market=replace(env.market, features=features))
    days = torch.tensor([day])
    assert torch.equal(begin_memory(env, policy, days), begin_memory(later, policy, days))
    features[day - 1] = 77.0  # seen the session before the first decision
    assert not torch.equal(begin_memory(env, policy, days), begin_memory(later, policy, days))


@pytest.mark.parametrize("n_steps", [32, 8])
def test_a_restart_begins_the_memory_anew_in_its_window_alone(n_steps):
    env, policy, state, hidden = make_run(0.0, n_steps, 32, kind=MarketMemory, per_window=4)
    hidden = hidden + 1  # of another past: a memory that has seen the same sessions is soon the same
    rollout, after, carried = collect_rollout(env, policy, state, hidden, n_steps=n_steps, seed=0, iteration=0)
    fresh = begin_memory(env, policy, after.day)
    restarted = after.age == 0
    same = torch.isclose(carried, fresh, atol=1e-6).all(-1).all(0)
    assert torch.equal(same, restarted) and restarted.any()
    assert rollout.shared == 4 and bool(restarted.all()) == (n_steps == 32)
    # The others have seen what a loop over the days shows.
    expected = hidden
    for t in range(n_steps):
        seen = torch.cat([env.market.features[rollout.day[t]], rollout.portfolio[t]], -1)
        _, _, expected = policy(seen[None], expected)
    assert torch.allclose(carried[:, ~restarted], expected[:, ~restarted], atol=1e-6)


def test_a_minibatch_holds_whole_windows_and_an_epoch_every_sequence_once():
    env, policy, state, hidden = make_run(0.3, 8, 32, kind=MarketMemory, per_window=4)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=8, sequence_length=4, seed=0, iteration=0)
    data = prepare(rollout, torch.zeros_like(rollout.rewards), rollout.values)
    dealer = Dealer(
        n_chunks=2,
        first_env=0,
        n_envs=32,
        all_envs=32,
        length=4,
        batch_size=48,
        shared=4,
        seed=0,
        iteration=0,
        collective=ALONE,
    )
    parts = [batch.index for batch in dealer.deal(data, 1)]
    assert len(parts) == dealer.count() == 5
    assert torch.cat(parts).sort().values.tolist() == list(range(64))
    for part in parts:
        groups = part.view(-1, 4)
        assert torch.equal(groups, groups[:, :1] + torch.arange(4)) and (groups[:, 0] % 4 == 0).all()
        assert torch.equal(data.day[:, groups], data.day[:, groups[:, :1]].expand(-1, -1, 4))
        # What acted is replayed: sequences, states and masks belong together.
        taken = data.take(part)
        with torch.no_grad():
            logits, values, _ = policy(taken.obs, taken.first_hidden, taken.masks)
        log_prob = logits.log_softmax(-1).gather(-1, taken.actions[..., None].long())[..., 0]
        assert torch.allclose(log_prob, taken.log_probs, atol=1e-5)
        assert torch.allclose(values, taken.targets, atol=1e-4)


def test_a_shared_memory_decides_as_one_that_is_rebuilt_every_day():
    """The judge gives every decision a memory of the last L sessions; portfolios beside one another change nothing."""
    env, policy = environment(per_window=1, random_slippage=False), network(n_actions=12).float()
    rows = range(120, 140)
    decided = decide(env, [policy], rows)
    for k, row in enumerate(rows):
        hidden = policy.initial_state(1)
        for before in range(row - env.episode_length + 1, row + 1):
            seen = torch.cat([env.market.features[before], decided.observations[k, MARKET:]])
            logits, _, hidden = policy(seen[None, None], hidden)
        assert torch.allclose(logits.softmax(-1)[0, 0], decided.probabilities[k, 0], atol=1e-5)
