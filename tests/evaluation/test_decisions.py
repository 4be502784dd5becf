"""The recurrent state of a decision is rebuilt from the last sessions, so training, judge and live use have the same memory."""

from dataclasses import replace

import pytest
import torch

from tactician.environment import HOLD, Environment, first_state, observe, step
from tactician.evaluation.decisions import IN_CASH, Start, all_starts, decide
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market


def environment(length: int = 12, n_days: int = 200, **changes) -> Environment:
    market = replace(random_market(n_days, listing=False), **changes)
    return Environment(market, Frictions.specification(), range(1, n_days - 5), episode_length=length)


def network(layers: int = 2, seed: int = 0) -> ActorCritic:
    policy = ActorCritic(
        64,
        12,
        hidden_dim=16,
        n_gru_layers=layers,
        dropout=0.0,
        value_scale=1.0,
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():  # so that observations and memory decide, not the last bias
        for parameter in policy.parameters():
            parameter.mul_(3)
    return policy


def lived(env: Environment, first: int, actions: torch.Tensor) -> torch.Tensor:
    """Observations of a portfolio that begins in cash at row ``first`` and takes these actions."""
    alone = replace(
        env,
        rows=range(first, first + len(actions)),
        episode_length=len(actions),
        first_holdings="cash",
        random_slippage=False,
    )
    state, seen = first_state(alone, torch.zeros(1, dtype=torch.int64)), []
    for action in actions:
        seen.append(observe(alone, state)[0])
        state, _ = step(alone, state, action[None])
    return torch.stack(seen)


@pytest.mark.parametrize("length", [1, 2, 12, 40])
@pytest.mark.parametrize("layers", [0, 1, 2])
@torch.no_grad()
def test_the_state_is_that_of_the_last_sessions_and_of_no_others(length, layers):
    env, policy = environment(length), network(layers)
    found = decide(env, (policy,), range(1, 160))  # row 1 has nothing before it, so all that is remembered was lived
    assert len(found.actions.unique()) > 2  # else the test could not fail
    for k in (0, 1, 5, 50, 158):
        window = found.observations[max(0, k - length + 1) : k + 1]
        logits, _, _ = policy(window[:, None], policy.initial_state(1))
        assert torch.allclose(logits[-1, 0].softmax(-1), found.probabilities[k, 0], atol=1e-5)
        if layers:
            _, _, hidden = policy(window[:-1, None], policy.initial_state(1)) if len(window) > 1 else (0, 0, None)
            expected = policy.initial_state(1) if hidden is None else hidden
            assert torch.allclose(expected[:, 0], found.memories[0][k], atol=1e-5)


@torch.no_grad()
def test_the_sessions_before_the_range_are_lived_on_paper():
    env, policy, rows = environment(12), network(), range(60, 90)
    found = decide(env, (policy,), rows)
    hidden, alone = (
        policy.initial_state(1),
        replace(env, rows=range(49, 90), episode_length=41, first_holdings="cash", random_slippage=False),
    )
    state = first_state(alone, torch.zeros(1, dtype=torch.int64))
    for _ in range(49, 60):
        logits, _, hidden = policy(observe(alone, state)[None], hidden)
        state, _ = step(alone, state, logits[0].argmax(-1))
    assert torch.allclose(hidden[:, 0], found.memories[0][0], atol=1e-5)
    assert torch.equal(found.observations[0], lived(env, 60, found.actions[:1, 0])[0])  # and begins in cash again


def test_a_change_older_than_an_episode_changes_nothing():
    env, policy, rows = environment(12), network(), range(60, 90)
    features = env.market.features.clone()
    features[:49] += 3  # the first session on paper is 49
    older = replace(env, market=replace(env.market, features=features))
    assert torch.equal(decide(older, (policy,), rows).probabilities, decide(env, (policy,), rows).probabilities)
    features[49] += 3
    nearer = replace(env, market=replace(env.market, features=features))
    assert not torch.equal(decide(nearer, (policy,), rows).probabilities, decide(env, (policy,), rows).probabilities)


def test_portfolios_side_by_side_decide_as_each_would_alone():
    env, policy, rows = environment(12), network(), range(60, 90)
    starts = all_starts(env)
    assert starts[0] == IN_CASH and "EQUAL_WEIGHT" in {s.name for s in starts}
    together = decide(env, (policy,), rows, starts)
    for k, start in enumerate(starts):
        alone = decide(env, (policy,), rows, (start,))
        assert torch.allclose(together.probabilities[:, k], alone.probabilities[:, 0], atol=1e-5)
        assert torch.equal(together.actions[:, k], alone.actions[:, 0])


def test_an_ensemble_decides_by_the_mean_probability():
    policies, rows = (network(seed=1), network(seed=2)), range(60, 61)
    # The two alone would have another past on paper than the ensemble, so a memory of one session is compared.
    short = environment(1)
    both = decide(short, policies, rows)
    each = [decide(short, (policy,), rows).probabilities for policy in policies]
    assert torch.allclose(both.probabilities, torch.stack(each).mean(0), atol=1e-6)
    assert len(both.memories) == 2


def test_a_range_in_two_parts_is_the_range_with_its_holdings_handed_over():
    env, policy = environment(1), network(0)
    whole = decide(env, (policy,), range(60, 100))
    first = decide(env, (policy,), range(60, 80))
    second = decide(env, (policy,), range(80, 100), before=first.last)
    assert torch.equal(torch.cat([first.actions, second.actions]), whole.actions)
    assert torch.equal(second.last.holdings, whole.last.holdings)


def test_a_start_holds_its_regime_without_having_paid_for_it():
    env = environment(12)

    class Holds(ActorCritic):
        def heads(self, features, portfolio):
            logits = torch.zeros(*features.shape[:-1], 12)
            logits[..., HOLD] = 1
            return logits, logits[..., 0]

    policy = Holds(64, 12, 16, 1, 0.0, 1.0, torch.Generator())
    equal = env.market.regimes.names.index("EQUAL_WEIGHT")
    found = decide(env, (policy,), range(60, 62), (IN_CASH, Start("EQUAL_WEIGHT", equal)))
    assert found.last.holdings[0, -1] > 0.99 and found.last.holdings[1, -1] == 0
    assert torch.equal(found.last.regime, torch.tensor([0, equal]))
