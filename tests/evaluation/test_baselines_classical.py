"""Classical baselines against independent versions in numpy and scipy."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.covariance import ledoit_wolf

from tactician.evaluation import BASELINES, NotAvailable, Piece, Question
from tactician.evaluation import rivals_estimated as estimated
from tests.markets import random_market

ROWS = range(330, 420)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def market(seed=0, drift=0.0):
    """Four assets that differ in volatility and move together, and a fifth that is listed in row 120."""
    base = random_market(450, seed=seed)
    common = 0.01 * torch.randn(450, 1, generator=torch.Generator().manual_seed(seed))
    scale = torch.tensor([0.5, 1.0, 1.5, 2.0, 1.0])
    returns = (base.returns + common) * scale + drift
    listed = torch.arange(450)[:, None] >= torch.tensor([0, 0, 0, 0, 120])
    return replace(base, returns=torch.where(listed, returns, 0.0), fillable=listed)


def trades(hold):
    return [k for k in range(len(hold)) if not hold[k]]


def months(asked):
    """Decisions of a monthly baseline, from Python's own calendar."""
    days = [asked.date_of(row) for row in ROWS]
    return [k for k in range(len(ROWS)) if k == 0 or days[k].month != days[k - 1].month]


def by_scipy(objective, n):
    """Long-only, fully invested."""
    found = minimize(
        objective,
        np.full(n, 1 / n),
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.success
    return found.x


def inverse_volatility(x, cash):
    weights = 1 / x.std(0, ddof=1)
    return weights / weights.sum()


def minimum_variance(x, cash):
    covariance = ledoit_wolf(x)[0] * 1e4
    return by_scipy(lambda w: w @ covariance @ w, x.shape[1])


def maximum_sharpe(x, cash):
    covariance, mean = ledoit_wolf(x)[0], x.mean(0) - cash
    return by_scipy(lambda w: -(w @ mean) / math.sqrt(w @ covariance @ w), x.shape[1])


INDEPENDENT = {
    "inverse_volatility": inverse_volatility,
    "minimum_variance": minimum_variance,
    "maximum_sharpe": maximum_sharpe,
}


@pytest.mark.parametrize("name", list(INDEPENDENT))
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_are_those_of_an_independent_optimiser_on_the_last_known_year(name, seed):
    asked = market(seed)
    weights, hold = BASELINES[name].targets(Question(asked, ROWS))
    assert trades(hold) == months(asked)
    for k in trades(hold):
        t = ROWS[k]
        # The decision in t knows the returns up to row t − 2. The fifth asset takes part once its first session is in.
        columns = 5 if t - 1 - 252 >= 120 else 4
        x = asked.returns[t - 253 : t - 1, :columns].double().numpy()
        assert len(x) == 252
        expected = INDEPENDENT[name](x, float(asked.cash_return[t - 253 : t - 1].double().mean()))
        assert weights[k, :columns].numpy() == pytest.approx(expected, abs=2e-3)
        assert (weights[k, columns:] == 0).all()
    assert {5 if ROWS[k] >= 373 else 4 for k in trades(hold)} == {4, 5}


@pytest.mark.parametrize("name", [*INDEPENDENT, "hierarchical_risk_parity"])
def test_between_two_months_nothing_is_traded_and_no_asset_off_the_market_is_bought(name):
    asked = market()
    tradable = asked.tradable.clone()
    tradable[350:, 1] = False
    weights, hold = BASELINES[name].targets(Question(replace(asked, tradable=tradable), ROWS))
    for k in range(1, 90):
        if hold[k]:
            assert torch.equal(weights[k], weights[k - 1])
        elif ROWS[k] >= 350:
            assert weights[k, 1] == 0 and weights[k, :-1].sum() == pytest.approx(1)


def test_hierarchical_risk_parity_of_two_assets_is_by_inverse_variance():
    asked = market()
    tradable = torch.zeros_like(asked.tradable)
    tradable[:, [0, 3]] = True
    weights, _ = BASELINES["hierarchical_risk_parity"].targets(Question(replace(asked, tradable=tradable), ROWS))
    variance = np.diag(ledoit_wolf(asked.returns[330 - 253 : 329, [0, 3]].double().numpy())[0])
    assert weights[0].tolist() == pytest.approx(
        [variance[1] / variance.sum(), 0, 0, variance[0] / variance.sum(), 0, 0]
    )


def test_hierarchical_risk_parity_splits_between_clusters_first():
    # Two pairs that move together. Each pair is one half of the tree, by López de Prado's recursive bisection.
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(450, 2, generator=generator).repeat_interleave(2, 1) + 0.1 * torch.randn(
        450, 4, generator=generator
    )
    asked = random_market(450, 4, listing=False)
    returns = 0.01 * pairs * torch.tensor([1.0, 1.0, 2.0, 2.0])
    asked = replace(asked, returns=returns)
    weights, _ = BASELINES["hierarchical_risk_parity"].targets(Question(asked, ROWS))
    covariance = ledoit_wolf(returns[330 - 253 : 329].double().numpy())[0]

    def split(left, right):
        """The left share, from the variance of each side at weights of inverse variance."""
        sides = []
        for side in (left, right):
            w = 1 / np.diag(covariance)[side]
            w /= w.sum()
            sides.append(w @ covariance[np.ix_(side, side)] @ w)
        return sides[1] / sum(sides)

    first, a, b = split([0, 1], [2, 3]), split([0], [1]), split([2], [3])
    expected = [first * a, first * (1 - a), (1 - first) * b, (1 - first) * (1 - b), 0]
    assert weights[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_tangency_portfolio_leaves_for_cash_where_no_asset_beats_it():
    for name, invested in (("maximum_sharpe", 0.0), ("minimum_variance", 1.0)):
        weights, _ = BASELINES[name].targets(Question(market(drift=-0.01), ROWS))
        assert weights[:, :-1].sum(-1).numpy() == pytest.approx(invested)


def test_until_sixty_sessions_are_known_the_weights_are_equal():
    asked = random_market(450, listing=False)
    rows = range(30, 130)
    for name in (*INDEPENDENT, "hierarchical_risk_parity", "time_series_momentum"):
        weights, hold = BASELINES[name].targets(Question(asked, rows))
        for k in trades(hold):
            equal = torch.allclose(weights[k, :-1], torch.tensor(0.2, dtype=torch.float64))
            assert equal == (rows[k] - 1 < 60), (name, rows[k])
        assert len(trades(hold)) > 3


def failing(monkeypatch, on):
    """An optimiser that fails at some of its dates."""
    calls = []

    def fit(estimator, rate, returns):
        calls.append(len(calls))
        return None if calls[-1] in on else real(estimator, rate, returns)

    real = estimated._fit
    monkeypatch.setattr(estimated, "_fit", fit)


def test_where_an_optimisation_fails_the_portfolio_is_kept_and_the_reader_told(monkeypatch):
    asked = Question(market(), ROWS)
    usual, usual_hold = BASELINES["minimum_variance"].targets(asked)
    failing(monkeypatch, {1, 3})
    weights, hold = BASELINES["minimum_variance"].targets(asked)
    dates = trades(usual_hold)
    assert trades(hold) == [k for n, k in enumerate(dates) if n not in (1, 3)]
    assert torch.equal(weights[dates[1]], usual[dates[0]]) and torch.equal(weights[dates[2]], usual[dates[2]])
    said = f"Minimum variance: the optimisation failed at 2 of {len(dates)} dates, where the weights before were kept."
    assert asked.notes == [said]


def test_a_first_optimisation_that_fails_begins_with_equal_weights(monkeypatch):
    failing(monkeypatch, {0})
    weights, hold = BASELINES["minimum_variance"].targets(Question(market(), ROWS))
    assert not hold[0] and weights[0].tolist() == pytest.approx([0.2] * 5 + [0])


def test_an_optimiser_that_always_fails_is_not_available(monkeypatch):
    failing(monkeypatch, range(100))
    with pytest.raises(NotAvailable, match="failed at every date"):
        BASELINES["minimum_variance"].targets(Question(market(), ROWS))


def test_an_estimate_that_is_never_made_is_not_available():
    with pytest.raises(NotAvailable, match="no two assets have 60 known sessions"):
        BASELINES["inverse_volatility"].targets(Question(market(), range(1, 50)))


@pytest.mark.parametrize("found", [[0.5, math.nan], [1.5, -0.5], [0.4, 0.4], RuntimeError("no solution")])
def test_a_solution_that_is_no_portfolio_counts_as_failed(found):
    class Solver:
        def fit(self, returns):
            warnings.warn("a solver's doubt", UserWarning, stacklevel=1)
            if isinstance(found, Exception):
                raise found
            self.weights_ = np.array(found)
            return self

    assert estimated._fit(lambda rate: Solver(), 0.0, np.zeros((60, 2))) is None


def test_a_solvers_doubt_reaches_nobody_and_its_rounding_no_weight():
    class Solver:
        def fit(self, returns):
            warnings.warn("a solver's doubt", UserWarning, stacklevel=1)
            self.weights_ = np.array([1 + 1e-7, -1e-7])
            return self

    assert estimated._fit(lambda rate: Solver(), 0.0, np.zeros((60, 2))).tolist() == [1, 0]


def test_momentum_holds_an_equal_share_of_what_beat_cash():
    asked = market(seed=2)
    weights, hold = BASELINES["time_series_momentum"].targets(Question(asked, ROWS))
    assert trades(hold) == months(asked)
    shares = set()
    for k in trades(hold):
        t = ROWS[k]
        cash = math.prod(1 + x for x in asked.cash_return[t - 253 : t - 1].double().tolist())
        for asset in range(5):
            wealth = math.prod(1 + x for x in asked.returns[t - 253 : t - 1, asset].double().tolist())
            known = asset < 4 or t - 253 >= 120
            assert weights[k, asset] == pytest.approx(0.2 if wealth > cash and known else 0)
        shares.add(round(float(weights[k, -1]), 6))
    assert len(shares) > 1 and max(shares) > 0
    for k in range(1, 90):
        assert not hold[k] or torch.equal(weights[k], weights[k - 1])


def downside(returns):
    return math.sqrt(sum(min(r, 0) ** 2 for r in returns) / len(returns))


@pytest.mark.parametrize("train", [None, range(1, 150)])
def test_the_exposure_aims_at_the_downside_volatility_of_the_past(train):
    asked = random_market(450, seed=4, listing=False)
    calm = torch.where(torch.arange(450) < 300, 1.0, torch.where(torch.arange(450) < 360, 2.0, 0.5))[:, None]
    asked = replace(asked, returns=asked.returns * calm)
    equal = asked.returns.double().mean(1).tolist()
    question = Question(asked, ROWS, (Piece(ROWS, None, train),))
    weights, hold = BASELINES["downside_volatility_target"].targets(question)
    target = downside(equal[1:150] if train else equal[:329])
    for k, t in enumerate(ROWS):
        exposure = min(1.0, target / downside(equal[t - 61 : t - 1]))
        assert weights[k].tolist() == pytest.approx([exposure / 5] * 5 + [1 - exposure], abs=1e-9)
    assert weights[:, -1].min() == 0 and weights[:, -1].max() > 0.35
    assert 3 <= (~hold).sum() <= 30


def test_every_fold_aims_at_the_volatility_of_its_own_training_range():
    asked = random_market(450, seed=4, listing=False)
    asked = replace(asked, returns=asked.returns * torch.where(torch.arange(450) < 200, 0.5, 1.0)[:, None])
    pieces = Piece(range(330, 375), None, range(1, 190)), Piece(range(375, 420), None, range(210, 328))
    weights, _ = BASELINES["downside_volatility_target"].targets(Question(asked, ROWS, pieces))
    exposure = weights[:, :-1].sum(-1)
    assert exposure[:45].max() < 0.75 and exposure[45:].min() > 0.75


def test_without_a_past_there_is_no_volatility_to_aim_at():
    asked = random_market(450, listing=False)
    target = BASELINES["downside_volatility_target"].targets
    for question in (Question(asked, range(60, 90)), Question(asked, ROWS, (Piece(ROWS, None, range(1, 60)),))):
        with pytest.raises(NotAvailable, match="fewer than 60 sessions"):
            target(question)
    assert target(Question(asked, range(61, 90)))[0].shape == (29, 6)
