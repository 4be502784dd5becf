"""Backtests against the environment, hand-worked figures and numpy."""

import math

import numpy as np
import pytest
import torch

from tactician.environment import Environment, first_state, step
from tactician.evaluation import (
    Path,
    action_targets,
    backtest,
    baseline_targets,
    difference,
    performance,
)
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market


def path_of(*growth: float) -> Path:
    n = len(growth)
    column = torch.tensor(growth, dtype=torch.float64)[:, None]
    zeros = torch.zeros(n, 1, dtype=torch.float64)
    return Path(column, torch.zeros(n, 1, 4, dtype=torch.float64), zeros, torch.zeros(n, dtype=torch.float64))


def test_the_agents_path_earns_what_the_environment_pays():
    market = random_market()
    rows = range(200, 300)
    env = Environment(
        market, Frictions.specification(), rows, episode_length=100, first_holdings="cash", random_slippage=False
    )
    actions = torch.randint(0, 12, (100,), generator=torch.Generator().manual_seed(0))
    state = first_state(env, torch.zeros(1, dtype=torch.int64))
    rewards = []
    for action in actions:
        state, outcome = step(env, state, action[None])
        rewards.append(outcome.reward)
    targets, hold = action_targets(market, rows, actions)
    path = backtest(market, rows, targets, hold, env.frictions)
    assert torch.allclose(100 * path.growth[:, 0], torch.cat(rewards).double(), atol=2e-4)


def test_buy_and_hold_without_costs_is_the_mean_of_the_assets_wealth():
    market = random_market(listing=False)
    rows = range(50, 150)
    names, targets, hold = baseline_targets(market, rows)
    path = backtest(market, rows, targets, hold, Frictions.zero())
    wealth = (1 + market.returns[50:150].double()).prod(0).mean()
    k = names.index("buy_and_hold")
    assert path.growth[:, k].sum().exp().item() == pytest.approx(float(wealth), rel=1e-12)
    assert path.turnover[1:, k].abs().max() == 0


def test_cash_earns_its_rate_and_equal_weight_the_mean_return():
    market = random_market(listing=False)
    rows = range(50, 150)
    names, targets, hold = baseline_targets(market, rows)
    path = backtest(market, rows, targets, hold, Frictions.zero())
    assert torch.allclose(path.growth[:, names.index("cash")], path.cash_growth, atol=1e-15)
    expected = torch.log1p(market.returns[50:150].double().mean(-1))
    assert torch.allclose(path.growth[:, names.index("equal_weight")], expected, atol=1e-12)


def test_baselines_pay_for_their_first_purchase():
    market = random_market()
    rows = range(200, 210)
    names, targets, hold = baseline_targets(market, rows)
    path = backtest(market, rows, targets, hold, Frictions.specification())
    first = path.costs[0].sum(-1)
    # Five assets at a fifth: 5 · (0.0002 + 0.00025 + 0.01·√0.2)·0.2 of what is traded, a little less after the cost itself.
    assert float(first[names.index("buy_and_hold")]) == pytest.approx(0.00045 + 0.01 * math.sqrt(0.2), rel=0.01)
    assert float(first[names.index("cash")]) == 0


def test_figures_by_hand():
    # Wealth 1 → 1.1 → 0.88 → 0.968: the drawdown is 20 %, the total −3.2 %.
    figures = performance(path_of(math.log(1.1), math.log(0.8), math.log(1.1)), 0)
    assert figures.total_return == pytest.approx(-0.032)
    assert figures.max_drawdown == pytest.approx(0.2)
    assert figures.annual_return == pytest.approx(0.968 ** (252 / 3) - 1)


def test_figures_equal_numpys():
    rng = np.random.default_rng(0)
    simple = rng.normal(0.0005, 0.01, 504)
    figures = performance(path_of(*np.log1p(simple)), 0)
    assert figures.annual_volatility == pytest.approx(simple.std(ddof=1) * np.sqrt(252))
    assert figures.sharpe == pytest.approx(simple.mean() / simple.std(ddof=1) * np.sqrt(252))
    # finance textbooks' rule of thumb: about 1/√years for small Sharpe ratios
    assert figures.sharpe_standard_error == pytest.approx(1 / np.sqrt(2), rel=0.01)
    wealth = np.concatenate([[1.0], np.cumprod(1 + simple)])
    assert figures.max_drawdown == pytest.approx(np.max(1 - wealth / np.maximum.accumulate(wealth)))


def test_a_loss_on_the_first_day_is_a_drawdown():
    assert performance(path_of(math.log(0.9), math.log(1.05)), 0).max_drawdown == pytest.approx(0.1)


def test_difference_and_its_error_equal_numpys_paired_figures():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.001, 0.01, 400), rng.normal(0.0, 0.01, 400)
    two = Path(
        torch.tensor(np.stack([a, b], 1)),
        torch.zeros(400, 2, 4),
        torch.zeros(400, 2),
        torch.zeros(400, dtype=torch.float64),
    )
    gap, error = difference(two, 0, 1)
    assert gap == pytest.approx((a - b).mean() * 252)
    assert error == pytest.approx((a - b).std(ddof=1) / np.sqrt(400) * 252)
