"""The batched environment against a slow scalar one, and its promises about time, windows and episodes."""

import math
import random

import pytest
import torch

from tactician.environment import (
    OBS_DIM,
    Environment,
    first_state,
    narrow,
    observe,
    portfolio_index,
    restart_finished,
    step,
)
from tactician.environment.noise import Stream, uniform
from tactician.errors import UserError
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market


def make_env(market=None, **options) -> Environment:
    market = random_market() if market is None else market
    settings = {"rows": range(1, market.n_days), "episode_length": 32, **options}
    return Environment(market, Frictions.specification(), **settings)


def scalar_step(env, market, holdings, day, action, slippage):
    """One portfolio, one session, plain Python floats."""
    f = env.frictions
    n = len(holdings) - 1

    def earn(h, t):
        r = [float(x) for x in market.returns[t]] + [float(market.cash_return[t])]
        return [a * (1 + b) for a, b in zip(h, r, strict=True)]

    h = earn(holdings, day - 1)
    value = sum(h)
    cost = 0.0
    if action != 0:
        w = [float(x) for x in market.regime_weights[day, action]]

        def total_cost(after):
            x = [abs(w[k] * after - h[k]) for k in range(n)]
            return sum(
                x[k] * (f.spread + slippage[k] + f.impact * math.sqrt(x[k] / value) + f.commission) for k in range(n)
            )

        after = value
        for _ in range(60):
            after = value - total_cost(after)
        cost = value - after
        h = [w[k] * after for k in range(n + 1)]
    end = sum(earn(h, day))
    return h, 100 * math.log(end / value), cost / value


def test_step_equals_a_scalar_simulation():
    market = random_market(seed=3)
    env = make_env(market, seed=11)
    windows = torch.arange(6)
    state = first_state(env, windows)
    held = [[float(x) for x in row] for row in state.holdings]
    chooser = random.Random(5)
    for age in range(32):
        actions = [chooser.randrange(market.regimes.n_actions) for _ in windows]
        before = state
        state, outcome = step(env, state, torch.tensor(actions))
        for k, action in enumerate(actions):
            drawn = env.frictions.slippage_max * uniform(11, Stream.SLIPPAGE, k, age, torch.arange(5))
            held[k], reward, cost = scalar_step(
                env, market, held[k], int(before.day[k]), action, [float(x) for x in drawn]
            )
            assert outcome.reward[k].item() == pytest.approx(reward, abs=2e-4)
            assert outcome.costs[k].sum().item() == pytest.approx(cost, abs=2e-6)
            assert state.holdings[k].tolist() == pytest.approx(held[k], abs=1e-5)


def test_different_actions_lead_to_different_wealth():
    env = make_env()
    state = first_state(env, torch.zeros(12, dtype=torch.int64))
    # The same window number twelve times: the same days, the same start, twelve actions.
    after, outcome = step(env, state, torch.arange(12))
    assert (after.day == after.day[0]).all()
    assert len({round(float(x), 6) for x in outcome.reward}) >= 10


def test_portfolios_of_a_window_share_their_days_and_nothing_else():
    env = make_env(portfolios_per_window=4)
    state = first_state(env, torch.arange(3))
    assert state.day.shape == (3,) and state.holdings.shape == (12, 6)
    assert portfolio_index(env, state).tolist() == list(range(12))
    assert torch.equal(observe(env, state)[:4, :44], observe(env, state)[:1, :44].expand(4, -1))
    _, outcome = step(env, state, torch.full((12,), 4))
    same_target = outcome.reward.view(3, 4)
    # Equal targets, but other first holdings and other slippage: costs differ inside a window.
    assert (same_target.std(1) > 0).all()


def test_a_window_lives_the_same_alone_or_beside_others():
    env = make_env(portfolios_per_window=2)
    many, one = first_state(env, torch.arange(5)), first_state(env, torch.tensor([3]))
    for t in range(40):
        action = torch.full((10,), 1 + t % 11)
        many, outcome = step(env, many, action)
        one, alone = step(env, one, action[:2])
        many, one = restart_finished(env, many)[0], restart_finished(env, one)[0]
        assert torch.equal(outcome.reward[6:8], alone.reward)
        assert torch.equal(many.holdings[6:8], one.holdings)


def test_episodes_have_a_fixed_length_and_stay_inside_the_range():
    market = random_market(n_days=120)
    env = make_env(market, rows=range(10, 60), episode_length=32)
    state = first_state(env, torch.arange(500))
    assert state.day.min() == 10 and state.day.max() == 60 - 32  # both ends are reached, neither is passed
    for _ in range(32):
        assert not restart_finished(env, state)[1].any()
        state, _ = step(env, state, torch.zeros(500, dtype=torch.int64))
    assert (state.day <= 60).all()
    fresh, restarted = restart_finished(env, state)
    assert restarted.all() and (fresh.age == 0).all() and (fresh.episode == 1).all()
    assert (fresh.holdings.sum(-1) - 1).abs().max() < 1e-6


def test_no_reward_uses_a_return_outside_the_range():
    market = random_market(n_days=120)
    outside = market.returns.clone()
    outside[60:] = math.nan
    outside[:9] = math.nan
    from dataclasses import replace

    env = make_env(replace(market, returns=outside), rows=range(10, 60), episode_length=50)
    state = first_state(env, torch.arange(8))
    for _ in range(50):
        state, outcome = step(env, state, torch.full((8,), 5))
        assert outcome.reward.isfinite().all()


def test_hold_keeps_everything_and_costs_nothing():
    env = make_env()
    state = first_state(env, torch.arange(6))
    after, outcome = step(env, state, torch.zeros(6, dtype=torch.int64))
    assert (outcome.costs == 0).all() and (outcome.turnover == 0).all()
    assert torch.equal(after.regime, state.regime) and (after.since_trade == 1).all()


def test_a_trade_closes_when_another_regime_is_chosen_and_its_return_is_what_wealth_did():
    env = make_env(first_holdings="cash")
    state = first_state(env, torch.arange(4))
    growth = torch.zeros(4)
    for action in (4, 0, 4):  # enter equal weight, hold, rebalance to it: one trade
        state, outcome = step(env, state, torch.full((4,), action))
        growth += outcome.reward / 100
        assert not outcome.trade_closed.any()
    state, outcome = step(env, state, torch.full((4,), 1))
    assert outcome.trade_closed.all()
    assert torch.allclose(outcome.trade_return, torch.expm1(growth), atol=1e-6)
    assert (state.regime == 1).all() and (state.since_trade == 0).all()


def test_observation_has_64_entries_for_any_universe_and_table():
    for n_assets, regimes in ((3, "static"), (3, "factor"), (40, "factor")):
        market = random_market(n_assets=n_assets, regimes=regimes)
        env = make_env(market)
        obs = observe(env, first_state(env, torch.arange(7)))
        assert obs.shape == (7, OBS_DIM) == (7, 64)
        assert obs.isfinite().all()


def test_observed_cost_to_cash_is_the_cost_of_going_there():
    market = random_market(vol=0.0)
    env = make_env(market, random_slippage=False)
    state = first_state(env, torch.arange(20))
    expected = observe(env, state)[:, 52]
    _, outcome = step(env, state, torch.ones(20, dtype=torch.int64))
    # Prices hardly move here and slippage is at its mean, so the estimate is the bill.
    assert torch.allclose(100 * outcome.costs.sum(-1), expected, atol=2e-3)


def test_staggered_windows_show_every_phase_of_an_episode():
    env = make_env()
    state = first_state(env, torch.arange(8), stagger=8)
    assert state.age.tolist() == [0, 8, 16, 24, 0, 8, 16, 24]


def test_narrow_takes_whole_windows():
    env = make_env(portfolios_per_window=3)
    part = narrow(env, first_state(env, torch.arange(4)), 2)
    assert len(part.day) == 2 and len(part.regime) == 6


def test_an_episode_begins_with_cash_equal_weight_or_any_regime_each_as_often():
    market = random_market(n_assets=5)
    env = make_env(market, portfolios_per_window=8)
    state = first_state(env, torch.arange(4000))
    day, n_regimes = state.day.repeat_interleave(8), market.regimes.n_actions
    tradable = market.tradable[day].float()
    equal = torch.cat([tradable / tradable.sum(-1, keepdim=True), torch.zeros(len(day), 1)], -1)
    cash = torch.eye(6)[5].expand_as(equal)
    unchosen = state.regime == 0
    in_cash, is_equal = ((state.holdings - x).abs().amax(-1) < 1e-6 for x in (cash, equal))
    assert bool((in_cash | is_equal)[unchosen].all())
    assert torch.equal(state.holdings[~unchosen], market.regime_weights[day, state.regime][~unchosen])
    counts = [int((unchosen & in_cash).sum()), int((unchosen & is_equal).sum())]
    counts += torch.bincount(state.regime, minlength=n_regimes)[1:].tolist()
    expected = 32_000 / (n_regimes + 1)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts)


def test_episodes_lie_inside_the_stretches_and_begin_on_each_of_their_days_alike():
    stretches = (range(1, 20), range(30, 64), range(70, 110))  # the first is shorter than an episode
    env = make_env(rows=stretches)
    begun = first_state(env, torch.arange(20_000)).day
    allowed = [t for part in stretches for t in range(part.start, part.stop - 31)]
    assert sorted(set(begun.tolist())) == allowed == [30, 31, 32, *range(70, 79)]
    counts = torch.bincount(begun)[allowed]
    assert bool(((counts - 20_000 / 12).abs() < 5 * (20_000 / 12) ** 0.5).all())
    whole = first_state(make_env(rows=make_env().stretches), torch.arange(50)).day
    assert torch.equal(whole, first_state(make_env(), torch.arange(50)).day)


def test_stretches_that_are_all_too_short_are_refused():
    with pytest.raises(UserError, match="too few"):
        make_env(rows=(range(1, 32), range(40, 71)))


def test_a_range_too_short_for_an_episode_is_refused_in_one_sentence():
    with pytest.raises(UserError, match=r"has 20 decision sessions, too few for one episode of 32"):
        make_env(rows=range(1, 21))


def test_impact_on_volume_without_volumes_is_refused():
    from dataclasses import replace

    market = random_market()
    volumes = market.dollar_volume.clone()
    volumes[:, 2] = math.nan
    market = replace(market, dollar_volume=volumes)
    with pytest.raises(UserError, match="impact_adv needs traded values, and the market cache has none of S2;"):
        Environment(market, Frictions(impact_adv=0.1), rows=range(1, 100), episode_length=32)
