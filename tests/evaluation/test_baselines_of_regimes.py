"""Baselines made of regimes, and the path that was best in hindsight, against slow versions."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from tactician.environment import FULL_CASH, HOLD
from tactician.evaluation import NotAvailable, Piece, Question, action_targets, backtest, baselines_of
from tactician.evaluation.rivals_regime import best_constants, follow, paths_of_regimes, regimes_in_force, shuffled
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market
from tests.portfolio.scalar_ledger import Coefficients, grow, trade

ROWS = range(200, 300)


def growths(question: Question, *targets) -> torch.Tensor:
    weights, hold = (torch.stack(parts, 1) for parts in zip(*targets, strict=True))
    path = backtest(
        question.market, question.rows, weights, hold, question.frictions, question.portfolio_value, liquidate=True
    )
    return path.growth.sum(0)


def test_a_constant_regime_is_the_agent_that_always_chooses_it():
    market = random_market()
    for action, name in enumerate(market.regimes.names[1:], start=1):
        weights, hold = baselines_of(market)[f"regime:{name}"].targets(Question(market, ROWS))
        expected, expected_hold = action_targets(market, ROWS, torch.full((100,), action))
        assert torch.equal(weights, expected[:, 0]) and torch.equal(hold, expected_hold[:, 0]) and not hold.any()


@pytest.mark.parametrize("frictions", [Frictions.zero(), Frictions.specification()])
def test_the_best_constant_is_chosen_on_each_validation_range_and_net_of_costs(frictions):
    market = random_market(seed=3, vol=0.02)
    pieces = Piece(range(200, 260), range(150, 199)), Piece(range(260, 300), range(210, 259))
    question = Question(market, ROWS, pieces, frictions)
    weights, hold = baselines_of(market)["best_constant"].targets(question)
    for piece, chosen in zip(pieces, best_constants(question), strict=True):
        asked = Question(market, piece.validation, frictions=frictions)
        alone = {k: float(growths(asked, always(market, piece.validation, k))) for k in range(1, 12)}
        assert chosen == max(alone, key=alone.get)
        mine = slice(piece.rows.start - 200, piece.rows.stop - 200)
        assert torch.equal(weights[mine], always(market, piece.rows, chosen)[0]) and not hold.any()


def always(market, rows, action):
    weights, hold = action_targets(market, rows, torch.full((len(rows),), action))
    return weights[:, 0], hold[:, 0]


def test_costs_change_which_constant_is_best():
    market = random_market(seed=3, vol=0.02)
    pieces = (Piece(ROWS, range(150, 199)),)
    free, dear = (best_constants(Question(market, ROWS, pieces, f)) for f in (Frictions.zero(), Frictions().scaled(5)))
    assert free != dear


AGENT = torch.tensor([HOLD, HOLD, 5, HOLD, 5, 6, HOLD, HOLD, FULL_CASH, 4, HOLD, 4])


def test_hold_continues_the_regime_before_and_the_beginning_is_cash():
    assert regimes_in_force(AGENT).tolist() == [1, 1, 5, 5, 5, 6, 6, 6, 1, 4, 4, 4]


def changed(path):
    """The sum of the changes of targets, from cash on."""
    targets, _ = path
    cash = torch.eye(targets.shape[1], dtype=targets.dtype)[-1:]
    return float((targets - torch.cat([cash, targets[:-1]])).abs().sum()) / 2


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kinds", [[4, 5, 6], [FULL_CASH, 4, 11, *[HOLD] * 6], [*[HOLD] * 8, 5, FULL_CASH]])
def test_random_regimes_trade_as_much_as_the_agent(kinds, seed):
    market = random_market(n_assets=20)  # in which no two tilts agree by chance
    drawn = torch.Generator().manual_seed(seed)
    actions = torch.tensor(kinds)[torch.randint(len(kinds), (100,), generator=drawn)]
    question = Question(market, ROWS, actions=actions, seed=seed)
    path = baselines_of(market)["random_regimes"].targets(question)
    # The last move decides: one is worth up to a whole portfolio.
    assert changed(path) == pytest.approx(changed(follow(question, actions)), rel=0.1, abs=1.0)
    weights, hold = path
    assert not hold[0] and torch.equal(weights[1:][hold[1:]], weights[:-1][hold[1:]])


def test_random_regimes_differ_by_seed_use_every_regime_and_say_their_seed():
    market = random_market(n_assets=20)  # in which no two tilts agree by chance
    actions = torch.arange(100) % 11 + 1
    drawn = {}
    for seed in (0, 1):
        question = Question(market, ROWS, actions=actions, seed=seed)
        drawn[seed] = baselines_of(market)["random_regimes"].targets(question)[0]
        assert question.notes == [f"The random regimes are one draw, with seed {seed}."]
    assert not torch.equal(drawn[0], drawn[1])
    by_regime = paths_of_regimes(market, ROWS, torch.arange(1, 12)[:, None].expand(11, 100))[0]
    times = (by_regime == drawn[0][:, None]).all(-1).sum(0)
    assert times.min() >= 1


def test_an_agent_that_stays_in_cash_has_random_regimes_in_cash():
    question = Question(random_market(), ROWS, actions=torch.tensor([HOLD, FULL_CASH] * 50))
    weights, _ = baselines_of(question.market)["random_regimes"].targets(question)
    assert (weights[:, -1] == 1).all()
    with pytest.raises(NotAvailable):
        baselines_of(question.market)["random_regimes"].targets(replace(question, actions=None))


def test_shuffled_regimes_take_their_sessions_along():
    identity = torch.arange(12)[None]
    assert torch.equal(shuffled(AGENT, identity)[0], AGENT)
    # By hand, in halves: 6h 6h cash 4 4h 4 | cash-h cash-h 5 5h 5 6, where h held. A new regime is traded to.
    halves = torch.cat([torch.arange(6, 12), torch.arange(6)])[None]
    assert shuffled(AGENT, halves)[0].tolist() == [6, HOLD, 1, 4, HOLD, 4, 1, HOLD, 5, HOLD, 5, 6]
    backwards = torch.arange(11, -1, -1)[None]
    assert shuffled(AGENT, backwards)[0].tolist() == [4, HOLD, 4, 1, 6, HOLD, 6, 5, HOLD, 5, 1, HOLD]


def test_shuffled_regimes_are_in_force_as_often_as_the_agents():
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(0, 12, (100,), generator=generator)
    orders = torch.stack([torch.randperm(100, generator=generator) for _ in range(5)])
    for order, path in zip(orders, shuffled(actions, orders), strict=True):
        assert torch.equal(regimes_in_force(path), regimes_in_force(actions)[order])
        assert (path == HOLD).sum() <= (actions == HOLD).sum()


def test_many_paths_of_regimes_are_those_of_one():
    market = random_market()
    actions = torch.randint(0, 12, (4, 100), generator=torch.Generator().manual_seed(0))
    weights, hold = paths_of_regimes(market, ROWS, actions)
    for k, path in enumerate(actions):
        expected, expected_hold = action_targets(market, ROWS, path)
        assert torch.equal(weights[:, k], expected[:, 0]) and torch.equal(hold[:, k], expected_hold[:, 0])


def scalar_growth(market, rows, actions, costs):
    """Final wealth of a path of regimes that ends in cash, in plain Python."""
    holdings = [0.0] * len(market.symbols) + [1.0]
    for t, action in zip(rows, actions, strict=True):
        target = market.regimes.target(action, market.factor_ranks[t : t + 1].double(), market.tradable[t : t + 1])[0]
        holdings = grow(
            trade(holdings, target.tolist(), costs)[0], market.returns[t].tolist(), float(market.cash_return[t])
        )
    return sum(trade(holdings, [0.0] * len(market.symbols) + [1.0], costs)[0])


@pytest.mark.parametrize("seed", range(4))
def test_hindsight_is_the_best_of_all_paths(seed):
    market = random_market(n_assets=3, seed=seed, vol=0.02).with_regimes("expanded", {"a": ["S0"], "b": ["S1", "S2"]})
    rows = range(200, 203)
    frictions = Frictions(spread=0.002, slippage_max=0.002, impact=0.005)
    costs = Coefficients(spread=0.002, slippage=(0.001,) * 3, impact=0.005)
    choices = range(1, market.regimes.n_actions)
    wealth = {path: scalar_growth(market, rows, path, costs) for path in product(choices, repeat=3)}
    weights, hold = baselines_of(market)["hindsight"].targets(Question(market, rows, frictions=frictions))
    assert not hold.any()
    best = max(wealth, key=wealth.get)
    expected = torch.cat([always(market, rows[k : k + 1], action)[0] for k, action in enumerate(best)])
    assert torch.equal(weights, expected)


@pytest.mark.parametrize("frictions", [Frictions.zero(), Frictions(), Frictions().scaled(5), Frictions(impact_adv=1.0)])
@pytest.mark.parametrize("holes", [False, True])
def test_hindsight_is_at_least_every_constant_regime_and_every_random_path(frictions, holes):
    market = random_market(vol=0.02)
    if holes:
        market = replace(market, fillable=torch.rand(400, 5, generator=torch.Generator().manual_seed(0)) < 0.7)
    question = Question(market, ROWS, frictions=frictions, portfolio_value=1e6)
    best, *constants = growths(
        question,
        baselines_of(market)["hindsight"].targets(question),
        *(always(market, ROWS, k) for k in range(1, 12)),
    )
    assert best >= max(constants)
    actions = torch.randint(1, 12, (50, 100), generator=torch.Generator().manual_seed(2))
    weights, hold = paths_of_regimes(market, ROWS, actions)
    others = backtest(market, ROWS, weights, hold, frictions, 1e6, liquidate=True).growth.sum(0)
    assert best > others.max()


def test_without_costs_hindsight_takes_the_best_regime_of_every_session():
    market = random_market(vol=0.02)
    question = Question(market, ROWS, frictions=Frictions.zero())
    weights = market.regimes.weights(market.factor_ranks[200:300].double(), market.tradable[200:300])[:, 1:]
    returns = torch.cat([market.returns[200:300], market.cash_return[200:300, None]], 1).double()
    expected = (weights * returns[:, None]).sum(-1).max(1).values.log1p().sum()
    assert float(growths(question, baselines_of(market)["hindsight"].targets(question))) == pytest.approx(
        float(expected)
    )
