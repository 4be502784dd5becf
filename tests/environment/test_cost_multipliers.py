"""Random multiples of all costs: one per window and episode, paid and observed, and equal to frictions that are as high."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.environment import (
    OBSERVATION_NAMES,
    Environment,
    Stream,
    cost_multiple,
    first_state,
    observe,
    restart_finished,
    step,
    uniform,
)
from tactician.errors import UserError
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import move_cost, rebalance
from tests.markets import random_market
from tests.portfolio.test_ledger import random_weights

ALL_KINDS = Frictions(0.0004, 0.001, 0.012, 0.0003, impact_adv=0.8, impact_linear=0.01)
BOUNDS = (0.5, 3.0)
COSTS = [k for k, name in enumerate(OBSERVATION_NAMES) if name.startswith("cost_")]


def make_env(frictions: Frictions = ALL_KINDS, **options) -> Environment:
    market = random_market(seed=8)
    given = {"rows": range(1, 300), "episode_length": 16, "portfolios_per_window": 3, "portfolio_value": 1e6, **options}
    return Environment(market, frictions, **given)


@settings(deadline=None, max_examples=30)
@given(
    factors=st.lists(st.floats(0.2, 5), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    iterations=st.sampled_from([3, 5]),
)
def test_a_multiple_costs_what_frictions_cost_that_are_as_high(factors, seed, iterations):
    n = len(factors)
    generator = torch.Generator().manual_seed(seed)
    holdings, targets = 1e6 * random_weights(n, 5, seed=seed), random_weights(n, 5, seed=seed + 1)
    given = {
        "vol_daily": 0.02 * torch.rand(n, 4, dtype=torch.float64, generator=generator) + 0.005,
        "adv": 1e6 * torch.rand(n, 4, dtype=torch.float64, generator=generator),
        "fillable": torch.rand(n, 4, generator=generator) < 0.8,
        "slippage": 0.001 * torch.rand(n, 4, dtype=torch.float64, generator=generator),
    }
    multiple = torch.tensor(factors, dtype=torch.float64)
    both = rebalance(holdings, targets, ALL_KINDS, **given, multiple=multiple, iterations=iterations)
    volumes = {name: given[name] for name in ("vol_daily", "adv")}
    observed = move_cost(holdings, targets[:, None], ALL_KINDS, **volumes, multiple=multiple)
    for k, factor in enumerate(factors):
        own = {name: x[k : k + 1] * factor if name == "slippage" else x[k : k + 1] for name, x in given.items()}
        alone = rebalance(
            holdings[k : k + 1], targets[k : k + 1], ALL_KINDS.scaled(factor), **own, iterations=iterations
        )
        for one, other in zip((both.holdings, both.costs), (alone.holdings, alone.costs), strict=True):
            torch.testing.assert_close(one[k], other[0], rtol=1e-12, atol=1e-6)
        seen = move_cost(
            holdings[k : k + 1],
            targets[k : k + 1, None],
            ALL_KINDS.scaled(factor),
            vol_daily=own["vol_daily"],
            adv=own["adv"],
        )
        torch.testing.assert_close(observed[k], seen[0], rtol=1e-12, atol=1e-15)


def test_a_multiple_of_one_is_no_multiple():
    holdings, targets = random_weights(50, 5), random_weights(50, 5, seed=1)
    plain = rebalance(holdings, targets, Frictions())
    one = rebalance(holdings, targets, Frictions(), multiple=torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(plain.holdings, one.holdings, rtol=0, atol=1e-15)
    torch.testing.assert_close(plain.costs, one.costs, rtol=0, atol=1e-15)


def test_the_costs_are_paid_and_add_up_with_a_multiple():
    holdings, targets = random_weights(200, 5), random_weights(200, 5, seed=1)
    multiple = torch.linspace(0.5, 3, 200, dtype=torch.float64)
    trade = rebalance(holdings, targets, Frictions(), multiple=multiple)
    torch.testing.assert_close(trade.holdings.sum(-1) + trade.costs.sum(-1), holdings.sum(-1), rtol=0, atol=1e-15)
    assert (trade.holdings >= 0).all()


def test_each_window_lives_as_if_its_frictions_were_the_multiple():
    env = make_env(cost_multipliers=BOUNDS, seed=3)
    state = first_state(env, torch.arange(5))
    multiple = cost_multiple(env, state)
    alone = [replace(env, frictions=ALL_KINDS.scaled(float(m)), cost_multipliers=(1.0, 1.0)) for m in multiple]
    states = [first_state(one, torch.tensor([k])) for k, one in enumerate(alone)]
    for t in range(16):
        seen = observe(env, state).unflatten(0, (5, 3))
        for k, one in enumerate(alone):
            torch.testing.assert_close(seen[k], observe(one, states[k]), rtol=1e-4, atol=1e-5)
        action = torch.arange(15) + t
        state, outcome = step(env, state, action % 12)
        for k, one in enumerate(alone):
            states[k], its = step(one, states[k], action[3 * k : 3 * k + 3] % 12)
            torch.testing.assert_close(outcome.reward.view(5, 3)[k], its.reward, rtol=0, atol=2e-4)
            torch.testing.assert_close(outcome.costs.view(5, 3, 4)[k], its.costs, rtol=1e-4, atol=1e-7)


def test_the_multiple_lasts_an_episode_and_is_drawn_anew_for_the_next():
    env = make_env(cost_multipliers=BOUNDS)
    state = first_state(env, torch.arange(9))
    first = cost_multiple(env, state)
    for _ in range(16):
        state, _ = step(env, state, torch.zeros(27, dtype=torch.int64))
        assert torch.equal(cost_multiple(env, state), first)
    after, restarted = restart_finished(env, state)
    assert restarted.all() and (cost_multiple(env, after) != first).all()
    assert torch.equal(cost_multiple(env, first_state(env, torch.tensor([7]))), first[7:8])
    assert not torch.equal(cost_multiple(replace(env, seed=1), first_state(env, torch.arange(9))), first)


def test_the_multiple_is_log_uniform_between_its_bounds():
    env = make_env(cost_multipliers=BOUNDS)
    state = first_state(env, torch.arange(20_000))
    drawn = cost_multiple(env, state).double()
    assert drawn.min() >= 0.5 * (1 - 1e-6) and drawn.max() <= 3 * (1 + 1e-6)
    place = (drawn.log() - math.log(0.5)) / math.log(6)
    assert float(place.mean()) == pytest.approx(0.5, abs=0.01)
    assert float((place < 0.25).double().mean()) == pytest.approx(0.25, abs=0.01)
    by_hand = 0.5 * 6 ** uniform(0, Stream.COST_MULTIPLE, torch.tensor([11]), torch.tensor([0])).item()
    assert float(drawn[11]) == pytest.approx(by_hand, rel=1e-6)


def test_only_the_observed_costs_show_the_multiple():
    plain, env = make_env(Frictions()), make_env(Frictions(), cost_multipliers=(2.0, 2.0))
    a, b = (observe(each, first_state(each, torch.arange(20))) for each in (plain, env))
    others = [k for k in range(a.shape[1]) if k not in COSTS]
    assert torch.equal(a[:, others], b[:, others])
    torch.testing.assert_close(2 * a[:, COSTS], b[:, COSTS], rtol=1e-5, atol=1e-7)
    assert (b[:, COSTS] > 0).any(1).all()


def test_no_drawn_costs_are_the_costs_as_they_are_to_the_bit():
    env = make_env()
    assert cost_multiple(env, first_state(env, torch.arange(3))) is None


def test_multiples_that_take_too_much_of_a_trade_are_refused_with_their_key():
    with pytest.raises(UserError, match=r"cost_multipliers of up to 40, spread .* is .*lower them"):
        make_env(cost_multipliers=(1.0, 40.0))
