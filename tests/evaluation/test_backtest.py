"""Backtests against the environment and by hand."""

import importlib
import math
from dataclasses import fields, replace

import pytest
import torch

from tactician.environment import Environment, first_state, step
from tactician.evaluation import AGENT, EQUAL_WEIGHT, Question, action_targets, backtest, baseline_targets, label_of
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import rebalance
from tests.markets import random_market


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


def test_in_double_precision_the_environment_and_the_backtest_agree_to_nine_digits(monkeypatch):
    """The environment solves for the value after costs with three evaluations, enough for float32; here it takes five."""
    module = importlib.import_module("tactician.environment.environment")
    monkeypatch.setattr(module, "rebalance", lambda *args, iterations, **kw: rebalance(*args, iterations=5, **kw))
    market, rows = random_market(), range(200, 300)
    ranks = market.factor_ranks.double()
    double = {f.name: v.double() for f in fields(market) if torch.is_floating_point(v := _tensor(market, f.name))}
    double["regime_weights"] = market.regimes.weights(ranks, market.tradable)
    market = replace(market, **double)
    torch.set_default_dtype(torch.float64)
    try:
        env = Environment(
            market, Frictions.specification(), rows, episode_length=100, first_holdings="cash", random_slippage=False
        )
        actions = torch.randint(0, 12, (100,), generator=torch.Generator().manual_seed(0))
        state, growth, costs, turnover = first_state(env, torch.zeros(1, dtype=torch.int64)), [], [], []
        for action in actions:
            state, outcome = step(env, state, action[None])
            growth.append(outcome.reward / 100)
            costs.append(outcome.costs)
            turnover.append(outcome.turnover)
    finally:
        torch.set_default_dtype(torch.float32)
    targets, hold = action_targets(market, rows, actions)
    path = backtest(market, rows, targets, hold, env.frictions)
    for ours, theirs in ((path.growth, growth), (path.turnover, turnover), (path.costs[:, 0], costs)):
        theirs = torch.cat(theirs)
        assert theirs.dtype == torch.float64
        assert float((ours.squeeze() - theirs).abs().max()) < 1e-9


def _tensor(market, name):
    value = getattr(market, name)
    return value if torch.is_tensor(value) else torch.zeros(0, dtype=torch.int64)


def test_the_end_sells_everything_at_the_costs_of_a_sale():
    market, rows = random_market(listing=False), range(50, 60)
    names, targets, hold = baseline_targets(Question(market, rows))
    k = names.index("buy_and_hold")
    kept = backtest(market, rows, targets, hold, Frictions.specification())
    sold = backtest(market, rows, targets, hold, Frictions.specification(), liquidate=True)
    # By hand: the shares drift ten sessions from equal weights; 0.0002 + 0.00025 + 0.01·√x of each x are paid.
    wealth = torch.cumprod(1 + market.returns[50:60].double(), 0)[-1]
    shares = (wealth / wealth.sum()).tolist()
    cost = sum(x * (0.00045 + 0.01 * math.sqrt(x)) for x in shares)
    assert float(sold.growth[-1, k] - kept.growth[-1, k]) == pytest.approx(math.log1p(-cost), rel=1e-6)
    assert torch.equal(sold.growth[:-1], kept.growth[:-1])
    last_return = float(torch.expm1(kept.growth[-1, k]))
    assert float(sold.turnover[-1, k]) == pytest.approx(1) and float(sold.costs[-1, k].sum()) == pytest.approx(
        cost * (1 + last_return), rel=1e-6
    )
    assert torch.equal(sold.growth[:, names.index("cash")], kept.growth[:, names.index("cash")])


def test_a_start_of_shares_is_no_trade():
    market, rows = random_market(listing=False), range(50, 60)
    start = torch.tensor([[0.5, 0.5, 0, 0, 0, 0.0]])
    path = backtest(
        market,
        rows,
        torch.zeros(10, 1, 6),
        torch.ones(10, 1).bool(),
        Frictions.specification(),
        start=start,
        liquidate=False,
    )
    two = market.returns[49:60, :2].double()
    wealth = torch.cumprod(1 + two, 0).mean(1)
    assert torch.allclose(path.growth[:, 0], torch.log(wealth[1:] / wealth[:-1]), atol=1e-7)
    assert float(path.costs.sum()) == 0


def test_buy_and_hold_without_costs_is_the_mean_of_the_assets_wealth():
    market = random_market(listing=False)
    rows = range(50, 150)
    names, targets, hold = baseline_targets(Question(market, rows))
    path = backtest(market, rows, targets, hold, Frictions.zero())
    wealth = (1 + market.returns[50:150].double()).prod(0).mean()
    k = names.index("buy_and_hold")
    assert path.growth[:, k].sum().exp().item() == pytest.approx(float(wealth), rel=1e-12)
    assert path.turnover[1:, k].abs().max() == 0


def test_cash_earns_its_rate_and_equal_weight_the_mean_return():
    market = random_market(listing=False)
    rows = range(50, 150)
    names, targets, hold = baseline_targets(Question(market, rows))
    path = backtest(market, rows, targets, hold, Frictions.zero())
    assert torch.allclose(path.growth[:, names.index("cash")], path.cash_growth, atol=1e-15)
    expected = torch.log1p(market.returns[50:150].double().mean(-1))
    assert torch.allclose(path.growth[:, names.index("equal_weight")], expected, atol=1e-12)


def test_baselines_are_listed_in_the_order_of_their_table_and_equal_weight_is_that_of_verdicts():
    names, targets, hold = baseline_targets(Question(random_market(), range(50, 60)))
    assert names == ("equal_weight", "cash", "buy_and_hold") and EQUAL_WEIGHT == "equal_weight"
    assert targets.shape == (10, 3, 6) and hold.shape == (10, 3)
    assert [label_of(name) for name in (AGENT, *names)] == ["Agent", "Equal weight", "Cash", "Buy and hold"]


def test_baselines_pay_for_their_first_purchase():
    market = random_market()
    rows = range(200, 210)
    names, targets, hold = baseline_targets(Question(market, rows))
    path = backtest(market, rows, targets, hold, Frictions.specification())
    first = path.costs[0].sum(-1)
    # Five assets at a fifth: 5 · (0.0002 + 0.00025 + 0.01·√0.2)·0.2 of what is traded, a little less after the cost itself.
    assert float(first[names.index("buy_and_hold")]) == pytest.approx(0.00045 + 0.01 * math.sqrt(0.2), rel=0.01)
    assert float(first[names.index("cash")]) == 0


@pytest.mark.parametrize("sessions", [252, 365])
def test_a_path_is_annualised_by_its_markets_year(sessions):
    market = replace(random_market(listing=False), sessions_per_year=sessions)
    rows = range(50, 150)
    _, targets, hold = baseline_targets(Question(market, rows))
    assert backtest(market, rows, targets, hold, Frictions.zero()).sessions_per_year == sessions
