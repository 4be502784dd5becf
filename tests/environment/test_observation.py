"""What is observed: 64 entries, a normaliser of the training range, and portfolio entries worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch

from tactician.environment import (
    FEATURE_NAMES,
    OBS_DIM,
    OBSERVATION_NAMES,
    Environment,
    assemble,
    first_state,
    fit_normaliser,
    normalise,
    observe,
    step,
)
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import rebalance
from tests.markets import random_market

SIMPLE = Frictions(spread=0.0004, slippage_max=0.0005, impact=0.0)


def make(market, **changes) -> Environment:
    arguments = {"rows": range(1, market.n_days), "episode_length": 32, "frictions": SIMPLE} | changes
    return Environment(market=market, **arguments)


def named(observation: torch.Tensor) -> dict[str, float]:
    return dict(zip(OBSERVATION_NAMES, observation.tolist(), strict=True))


@pytest.mark.parametrize("n_assets", [2, 5, 30])
@pytest.mark.parametrize("regimes", ["factor", "static", "expanded"])
def test_64_entries_for_any_universe_and_regime_table(n_assets, regimes):
    groups_needed = regimes == "factor" or n_assets > 2
    if not groups_needed:
        pytest.skip("two assets do not fill three groups")
    env = make(random_market(n_assets=n_assets, regimes=regimes, listing=False))
    observation = observe(env, first_state(env, torch.arange(6)))
    assert observation.shape == (6, 64) and OBS_DIM == 64 and observation.isfinite().all()


def test_the_normaliser_knows_the_training_rows_only():
    market = random_market()
    rows = range(1, 200)
    mean, std = fit_normaliser(market, rows)
    other = market.features.clone()
    other[200:] += 100
    other[0] -= 100
    mean2, std2 = fit_normaliser(replace(market, features=other), rows)
    assert torch.equal(mean, mean2) and torch.equal(std, std2)
    other[150] += 1
    assert not torch.equal(fit_normaliser(replace(market, features=other), rows)[0], mean)


def test_normalised_features_have_mean_0_and_deviation_1_there_and_are_clipped_at_5():
    market = random_market()
    spread = market.features * torch.linspace(0.001, 1000, 44) + 7
    spread[300] = 1e9
    rows = range(1, 200)
    market = replace(market, features=spread)
    scaled = normalise(market, *fit_normaliser(market, rows)).features
    inside = scaled[1:200]
    assert inside.mean(0).abs().max() < 1e-3 and (inside.std(0) - 1).abs().max() < 1e-3
    assert (scaled[300] == 5).all()


def test_a_constant_feature_stays_at_0():
    market = random_market()
    constant = market.features.clone()
    constant[:200, 3] = 0.25
    market = replace(market, features=constant)
    scaled = normalise(market, *fit_normaliser(market, range(1, 200))).features
    assert scaled[:200, 3].abs().max() < 1e-6


def state_with(env, holdings, regime=0, since_trade=0, day=50):
    state = first_state(env, torch.arange(1))
    weights = torch.tensor([holdings])
    return replace(
        state,
        holdings=weights,
        regime=torch.tensor([regime]),
        since_trade=torch.tensor([since_trade]),
        day=torch.tensor([day]),
    )


def test_portfolio_entries_worked_by_hand():
    market = random_market(n_assets=4, listing=False)
    env = make(market)
    ranks = torch.tensor([[1.0, 0.0, 0.0, -1.0], [0.5, 0.0, 0.0, 0.0], [-0.5, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 1.0]])
    market.factor_ranks[50] = ranks
    # Worth 2 in all: 40 % and 20 % in two stocks, 40 % in cash.
    seen = named(observe(env, state_with(env, [0.8, 0.4, 0.0, 0.0, 0.8], regime=5, since_trade=9))[0])
    assert [seen[n] for n in FEATURE_NAMES] == pytest.approx(market.features[50].tolist())
    assert seen["cash_weight"] == pytest.approx(0.4)
    assert seen["effective_names"] == pytest.approx(0.6**2 / (0.4**2 + 0.2**2) / 4)
    assert seen["largest_weight"] == pytest.approx(0.4)
    assert seen["tilt_momentum"] == pytest.approx(0.4 * 1 + 0.2 * 0.5)
    assert seen["tilt_size"] == pytest.approx(-0.4)
    # Equal weight is a quarter each: |0.4−0.25| + |0.2−0.25| + 2·0.25 + 0.4 in cash, halved.
    assert seen["distance_to_equal_weight"] == pytest.approx(0.5 * (0.15 + 0.05 + 0.5 + 0.4))
    assert seen["since_trade"] == pytest.approx(math.log(10) / 5)
    assert [seen[f"regime_bit_{k}"] for k in range(6)] == [1, 0, 1, 0, 0, 0]


def test_costs_of_moving_are_what_the_ledger_takes():
    market = random_market(n_assets=4, listing=False)
    env = make(market, frictions=Frictions.specification())
    holdings = [0.5, 0.2, 0.1, 0.0, 0.2]
    seen = named(observe(env, state_with(env, holdings, regime=4))[0])
    before = torch.tensor([holdings], dtype=torch.float64)

    def cost(target):
        trade = rebalance(before, target[None].double(), env.frictions)
        return 100 * float(trade.costs.sum())

    cash, equal = torch.eye(5)[4], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0])
    regimes = [cost(target) for target in market.regime_weights[50, 1:]]
    # First order in the costs, which are below a percent.
    assert seen["cost_to_cash"] == pytest.approx(cost(cash), rel=0.02)
    assert seen["cost_to_equal_weight"] == pytest.approx(cost(equal), rel=0.02)
    assert seen["cost_cheapest"] == pytest.approx(min(regimes), rel=0.02)
    assert seen["cost_mean"] == pytest.approx(sum(regimes) / len(regimes), rel=0.02)
    assert seen["cost_refresh"] == pytest.approx(regimes[3], rel=0.02)


def test_without_a_regime_there_is_nothing_to_refresh():
    env = make(random_market(n_assets=4, listing=False))
    assert named(observe(env, state_with(env, [0.0, 0.0, 0.0, 0.0, 1.0]))[0])["cost_refresh"] == 0


def test_all_in_cash_has_no_names():
    env = make(random_market(n_assets=4, listing=False))
    seen = named(observe(env, state_with(env, [0.0, 0.0, 0.0, 0.0, 3.0]))[0])
    assert (seen["cash_weight"], seen["effective_names"], seen["largest_weight"]) == (1, 0, 0)
    assert seen["cost_to_cash"] == 0


def test_the_two_parts_make_the_whole():
    env = make(random_market(), portfolios_per_window=2)
    state = first_state(env, torch.arange(3))
    whole = observe(env, state)
    day = state.day.repeat_interleave(2)
    assert torch.equal(assemble(env.market, day.int(), whole[:, 44:]), whole)


def test_one_session_beyond_the_last_row_shows_the_last_row():
    market = random_market()
    env = make(market, rows=range(market.n_days - 32, market.n_days), episode_length=32)
    state = first_state(env, torch.arange(2))
    for _ in range(32):
        state, _ = step(env, state, torch.ones(2, dtype=torch.int64))
    assert (state.day == market.n_days).all()
    assert torch.equal(observe(env, state)[:, :44], market.features[-1:].expand(2, -1))
