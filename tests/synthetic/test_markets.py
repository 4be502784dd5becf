"""Six markets: what their optimum earns in the environment is what was solved for, and nothing simple beats it."""

from dataclasses import replace
from functools import cache

import pytest
import torch

import tactician.synthetic.markets as markets
from tactician.environment import FEATURE_NAMES, HOLD
from tactician.synthetic import (
    ALL_PROBLEMS,
    PREDICTABLE,
    PROBLEMS,
    best_constant,
    constant,
    observable_regime,
    play,
    threshold_cost,
)
from tactician.synthetic.markets import N_TRAIN, PERSISTENCE
from tactician.synthetic.problem import CASH, switching_costs
from tests.synthetic import garleanu_pedersen


@cache
def made(name):
    return ALL_PROBLEMS[name](0)


@pytest.fixture(params=list(ALL_PROBLEMS))
def problem(request):
    return made(request.param)


def test_the_optimum_earns_in_the_environment_what_the_solver_says(problem):
    played = play(problem, problem.optimum)
    # A tenth of what is to be gained: luck of the path, and for some the drift that the solver leaves out.
    assert played.growth == pytest.approx(problem.growth, abs=max(0.12 * abs(problem.growth), 2e-5))


@pytest.mark.parametrize("name", ["oracle", "observable", "predictable"])
def test_no_constant_regime_beats_the_optimum(name):
    problem = made(name)
    _, naive = best_constant(problem)
    assert naive.growth <= play(problem, problem.optimum).growth + 1e-12


def test_the_optimum_beats_its_own_neighbours(problem):
    """A step later, or with one choice in twenty spoilt: worse wherever there is something to gain."""
    if problem.never_trades:
        pytest.skip("there is nothing to gain here")
    best = play(problem, problem.optimum).growth
    late = replace(problem, best_actions=problem.best_actions.roll(1, 0))
    assert play(problem, late.optimum).growth < best
    generator = torch.Generator().manual_seed(0)
    actions = problem.best_actions.clone()
    spoilt = torch.rand(actions.shape, generator=generator) < 0.05
    actions[spoilt] = torch.randint(1, problem.market.regimes.n_actions, (int(spoilt.sum()),), generator=generator).to(
        actions
    )
    assert play(problem, replace(problem, best_actions=actions).optimum).growth < best


@pytest.mark.parametrize("name", ["observable", "null"])
def test_the_same_seed_gives_the_same_market_and_another_seed_another(name):
    make, problem = PROBLEMS[name], made(name)
    assert torch.equal(make(0).market.returns, problem.market.returns)
    assert not torch.equal(make(1).market.returns, problem.market.returns)


def test_only_the_oracle_sees_a_return_before_it_is_earned():
    for name in PROBLEMS:
        market = made(name).market
        seen, earned = market.features[:, 0].double(), market.returns.double().mean(1)
        same_day = torch.corrcoef(torch.stack([seen, market.returns[:, 0].double()]))[0, 1]
        if name == "oracle":
            assert same_day == pytest.approx(1, abs=1e-6)
        elif name in ("hidden", "regimes", "null"):
            assert torch.equal(market.features[2:, 0], market.returns[:-2, 0])
        elif name == "observable":  # the day's own state would be seen at 0.45
            assert abs(same_day) < 0.4 and earned.std() > 0
        else:
            assert abs(same_day) < 0.2 and earned.std() > 0


def test_trading_stops_at_the_threshold_of_the_closed_form():
    below, above = observable_regime(0, 0.98), observable_regime(0, 1.02)
    asset = 2
    assert set(below.best_actions[:, CASH].unique().tolist()) == {HOLD, asset}
    assert set(below.best_actions[:, asset].unique().tolist()) == {HOLD, CASH}
    # Above it the asset is never bought: half its variance is lost each session and nothing gained.
    assert bool((above.best_actions[:, [HOLD, CASH]] == HOLD).all())
    assert threshold_cost(0.9, 0.005) == pytest.approx(0.02)
    # What following earns: m/2 − c(1 − p), with m = (2p − 1)·μ, less the half variance that log growth takes.
    follow = observable_regime(0, 0.25)
    assert follow.growth == pytest.approx(0.004 / 2 - 0.005 * 0.1, rel=0.03)


def test_memory_is_worth_something_in_the_hidden_market():
    """Following the last return alone, at any threshold, falls far short of the filter."""
    problem = made("hidden")
    seen = problem.market.features[:, 0]

    def follow(cut):
        buy_or_sell = torch.where(seen > cut, 2, torch.where(seen < -cut, CASH, HOLD))
        return play(problem, lambda state: buy_or_sell[state.day]).growth

    best = max(follow(cut) for cut in (0.0, 0.005, 0.01, 0.015, 0.02))
    assert best < 0.85 * play(problem, problem.optimum).growth


def test_the_regimes_market_needs_several_of_the_twelve_and_pays_their_real_costs():
    problem = made("regimes")
    wanted = problem.best_actions[N_TRAIN:].unique()
    assert len(wanted) >= 4  # HOLD and one for each hidden state
    # From cash into ten assets alike: 4.5 basis points, and an impact of 0.01·x^1.5 on each tenth.
    costs = switching_costs(problem.market.regime_weights[0, 1:], problem.frictions)
    assert float(costs[0, problem.market.regimes.names.index("EQUAL_WEIGHT") - 1]) == pytest.approx(
        0.00045 + 10 * 0.01 * 0.1**1.5, rel=0.01
    )


def test_every_regime_of_the_null_market_grows_alike():
    market = made("null").market
    growth = torch.log1p((market.regime_weights[:, 1:, :-1].double() * market.returns[:, None].double()).sum(-1))
    error = growth.std(0) / len(growth) ** 0.5
    assert bool((growth.mean(0).abs() <= 3 * error + 4e-6).all())


def test_the_closed_form_is_nearly_the_optimum_of_the_grid():
    problem, law = made("predictable"), PREDICTABLE
    signal = problem.market.features[:, 0].double()
    steps = len(markets.EXPOSURES) - 1
    rate, aim = garleanu_pedersen.closed_form(law, signal)

    def closed_form(state):
        """Part of the way from where the portfolio drifted to the aim, to the nearest exposure that can be had."""
        held = 1 - (state.holdings[:, -1] / state.holdings.sum(-1)).double()
        wanted = ((1 - rate) * held + rate * aim[state.day]).clamp(0, 1)
        target = (wanted * steps).round()
        nearer = (wanted - target / steps).abs() < (wanted - held).abs()
        return torch.where(nearer, target.long() + 1, HOLD)

    best, naive = play(problem, problem.optimum), play(problem, constant(1 + steps // 2))

    def share(choose):
        return (play(problem, choose).growth - naive.growth) / (best.growth - naive.growth)

    assert 0.96 < share(closed_form) < 1.0
    # Markowitz's portfolio, which does not mind the costs, is far from it.
    greedy = (((law.mean + signal) / law.std**2).clamp(0, 1) * steps).round().long() + 1
    assert share(lambda state: greedy[state.day]) < 0.85


def test_value_iteration_trades_at_the_closed_forms_rate():
    """On a fine grid with little noise, so that neither steps nor drift matter, the solver finds the closed form."""
    law, fine = markets.PredictableLaw(std=0.01, cost=4.0, spread=0.1), 200
    grid, _ = law.signal_chain(41)
    _, worth = law.solve(fine, torch.arange(fine + 1), points=41)
    chosen = worth[:, fine // 2, 1:].argmax(-1) / fine
    rate, aim = garleanu_pedersen.closed_form(law, grid)
    expected = 0.5 + rate * (aim - 0.5)
    inner = grid.abs() < 2 * law.signal_std
    assert torch.allclose(chosen[inner].double(), expected[inner], atol=0.008)


def test_lifelike_features_are_as_persistent_as_their_models_and_know_nothing_of_returns():
    market = made("null_lifelike").market
    features = market.features.double()
    assert features.shape[1] == len(PERSISTENCE) == len(FEATURE_NAMES)
    kept = (features[1:] * features[:-1]).mean(0) / features.square().mean(0)
    assert torch.allclose(kept, torch.tensor(PERSISTENCE, dtype=torch.float64), atol=0.02)
    seen = torch.corrcoef(torch.cat([features.T, market.returns[:, :1].double().T]))[-1, :-1]
    quick = torch.tensor(PERSISTENCE) < 0.9
    assert bool((seen[quick].abs() < 5 / len(features) ** 0.5).all())


@pytest.mark.parametrize("name", ["regimes", "predictable"])
def test_a_faint_signal_leaves_less_to_gain_but_something(name):
    gains = []
    for kind in (name, f"{name}_faint"):
        problem = made(kind)
        gains.append(play(problem, problem.optimum).growth - best_constant(problem)[1].growth)
    assert 0.02 * gains[0] < gains[1] < 0.5 * gains[0]
