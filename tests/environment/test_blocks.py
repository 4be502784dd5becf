"""Environments are computed in blocks of windows: each equals a slow obvious version, and no window notices its block."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.environment import OBSERVATION_NAMES, Environment, first_state, observe, step
from tactician.environment import environment as stepping
from tactician.environment import observation as observing
from tactician.environment.environment import blocks
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

COSTS = ("cost_to_cash", "cost_to_equal_weight", "cost_cheapest", "cost_mean", "cost_refresh")


def cost_of_a_move(held: list[float], target: list[float], f: Frictions, vol: list[float], adv: list[float]) -> float:
    """Percent of the value, asset by asset. Weights include cash last; ``adv`` is in units of the portfolio's value."""
    cost = 0.0
    for a in range(len(held) - 1):
        x = abs(target[a] - held[a])
        root = f.impact
        if f.impact_adv:
            volume = adv[a] if adv[a] > 0 else 0.0
            share = min(1.0, (0.1 / max(f.impact_adv * vol[a], 1e-30)) ** 2)
            x = min(x, volume * share)
            root += f.impact_adv * vol[a] / math.sqrt(volume + 1e-8)
        rate = f.spread + f.commission + f.slippage_max / 2 + root * math.sqrt(x) + f.impact_linear * x
        cost += rate * x
    return 100 * cost


def slow_costs(env: Environment, state, n: int) -> list[float]:
    """The five costs that environment n observes: one regime and one asset after the other."""
    market, day = env.market, int(state.day[n // env.portfolios_per_window])
    money = state.holdings[n].double()
    held = (money / money.sum()).tolist()
    vol = market.vol_daily[day].tolist()
    adv = (market.dollar_volume[day].double() / env.portfolio_value / money.sum()).tolist()
    live = market.tradable[day].tolist()
    equal = [1 / sum(live) if a else 0.0 for a in live] + [0.0]
    targets = market.regime_weights[day].double().tolist()
    moves = [cost_of_a_move(held, target, env.frictions, vol, adv) for target in targets[1:]]
    regime = int(state.regime[n])
    return [
        cost_of_a_move(held, [0.0] * len(live) + [1.0], env.frictions, vol, adv),
        cost_of_a_move(held, equal, env.frictions, vol, adv),
        min(moves),
        sum(moves) / len(moves),
        moves[regime - 1] if regime else 0.0,
    ]


@st.composite
def situations(draw):
    """An environment and a state, after a few trades in a market with gaps and missing volumes."""
    market = random_market(
        n_days=60,
        n_assets=draw(st.integers(3, 8)),
        seed=draw(st.integers(0, 99)),
        regimes=draw(st.sampled_from(["factor", "static", "expanded"])),
    )
    chance = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    market = replace(market, fillable=torch.rand(market.fillable.shape, generator=chance) > 0.2)
    market.dollar_volume.mul_(torch.rand(market.dollar_volume.shape, generator=chance) ** 4)
    market.dollar_volume[torch.rand(market.dollar_volume.shape, generator=chance) < 0.1] = 0.0
    frictions = Frictions(
        impact=draw(st.sampled_from([0.0, 0.01])),
        commission=draw(st.sampled_from([0.0, 0.001])),
        impact_adv=draw(st.sampled_from([0.0, 0.5])),
        impact_linear=draw(st.sampled_from([0.0, 0.02])),
    )
    env = Environment(
        market,
        frictions,
        range(1, 60),
        episode_length=16,
        portfolios_per_window=draw(st.integers(1, 4)),
        portfolio_value=draw(st.sampled_from([1e3, 1e6])),
        first_holdings=draw(st.sampled_from(["random", "cash"])),
    )
    state = first_state(env, torch.arange(draw(st.integers(1, 4))))
    for _ in range(draw(st.integers(0, 4))):
        action = torch.randint(0, market.regimes.n_actions, state.regime.shape, generator=chance)
        state, _ = step(env, state, action)
    return env, state


@given(situations())
@settings(deadline=None, max_examples=60)
def test_observed_costs_are_those_of_one_regime_and_one_asset_after_the_other(situation):
    env, state = situation
    columns = [OBSERVATION_NAMES.index(name) for name in COSTS]
    seen = observe(env, state)[:, columns]
    expected = torch.tensor([slow_costs(env, state, n) for n in range(len(seen))])
    # A weight has an error of 1e-7. Where target and holding are that close, so is the trade's relative error to 1.
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("portfolios", [1, 3])
@pytest.mark.parametrize("impact_adv", [0.0, 0.5])
@pytest.mark.parametrize("gaps", [False, True])
def test_blocks_of_any_size_give_the_same_bits(monkeypatch, portfolios, impact_adv, gaps):
    market = random_market(n_days=120, n_assets=30)
    if gaps:
        market = replace(market, fillable=torch.rand(market.fillable.shape) > 0.2)
    env = Environment(
        market, Frictions(impact_adv=impact_adv), range(1, 120), episode_length=32, portfolios_per_window=portfolios
    )

    def live(size: int) -> list[torch.Tensor]:
        def cut(env, n_windows, numbers):
            return [slice(k, min(k + size, n_windows)) for k in range(0, n_windows, size)]

        monkeypatch.setattr(stepping, "blocks", cut)
        monkeypatch.setattr(observing, "blocks", cut)
        state, seen = first_state(env, torch.arange(7)), []
        for t in range(12):
            seen.append(observe(env, state))
            state, outcome = step(env, state, (torch.arange(7 * portfolios) + t) % market.regimes.n_actions)
            seen += [outcome.reward, outcome.costs, outcome.turnover, *state.state_dict().values()]
        return seen

    whole = live(7)
    for size in (1, 3):
        assert all(torch.equal(a, b) for a, b in zip(whole, live(size), strict=True))


def test_a_large_universe_needs_several_blocks_and_they_cover_every_window_once():
    env = Environment(random_market(n_assets=300, n_days=60), Frictions(), range(1, 60), episode_length=32)
    cut = blocks(env, 1000, 12 * 301)
    assert len(cut) > 2
    assert [w for some in cut for w in range(some.start, some.stop)] == list(range(1000))
    assert blocks(env, 5, 10**9) == [slice(k, k + 1) for k in range(5)]  # a window is never divided
    assert blocks(env, 8, 20) == [slice(0, 8)]
