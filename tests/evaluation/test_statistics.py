"""Figures of a path: by hand, against numpy and a bootstrap, and what has no figure."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tactician.evaluation import STATISTICS, Path, Performance, difference, performance, return_difference


def path_of(*growth: float) -> Path:
    n = len(growth)
    column = torch.tensor(growth, dtype=torch.float64)[:, None]
    zeros = torch.zeros(n, 1, dtype=torch.float64)
    return Path(column, torch.zeros(n, 1, 4, dtype=torch.float64), zeros, torch.zeros(n, dtype=torch.float64))


def pair(a: np.ndarray, b: np.ndarray) -> Path:
    n = len(a)
    return Path(
        torch.tensor(np.stack([a, b], 1)), torch.zeros(n, 2, 4), torch.zeros(n, 2), torch.zeros(n, dtype=torch.float64)
    )


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


def alternating(mean: float, deviation: float, n: int) -> Path:
    """A path of simple returns with exactly this mean and sample standard deviation."""
    step = deviation * math.sqrt((n - 1) / n)
    return path_of(*(math.log1p(mean + (step if day % 2 else -step)) for day in range(n)))


@pytest.mark.parametrize(
    ("daily", "error"), [(1.0, math.sqrt(1.5 / 2)), (2.0, math.sqrt(3 / 2)), (-1.0, math.sqrt(1.5 / 2))]
)
def test_a_large_sharpe_ratio_is_less_certain_as_lo_says(daily, error):
    # Lo (2002): the daily ratio q of T days has the error √((1 + q²/2)/T); a year's is √252 times that. Here T is 504.
    figures = performance(alternating(daily * 0.01, 0.01, 504), 0)
    assert figures.sharpe == pytest.approx(daily * math.sqrt(252), rel=1e-9)
    assert figures.sharpe_standard_error == pytest.approx(error, rel=1e-9)


def test_a_bond_fund_has_a_sharpe_ratio():
    # A deviation of 0.01 % per day is 0.16 % per year: little, and no rounding. 0.00002/0.0001·√252 = 3.17.
    figures = performance(alternating(2e-5, 1e-4, 504), 0)
    assert figures.sharpe == pytest.approx(0.2 * math.sqrt(252), rel=1e-6)
    assert STATISTICS["sharpe"].column.cell("sharpe", figures) == "3.17 ± 0.71"


def test_strategies_go_by_name_as_by_number():
    rng = np.random.default_rng(7)
    two = replace(pair(rng.normal(0.001, 0.01, 90), rng.normal(0, 0.01, 90)), strategies=("mine", "theirs"))
    assert difference(two, "mine", "theirs") == difference(two, 0, 1) != difference(two, "theirs", "mine")
    assert return_difference(two, "theirs", "mine") == return_difference(two, 1, 0)
    assert performance(two, "theirs") == performance(two, 1) != performance(two, 0)
    with pytest.raises(ValueError, match="not in tuple"):
        difference(two, "mine", "yours")


def test_results_list_the_figures_in_the_order_of_the_table():
    assert list(performance(path_of(0.01, 0.02), 0).as_dict()) == ["sessions", *STATISTICS]


@pytest.mark.parametrize(
    ("name", "figures", "printed"),
    [
        ("annual_return", {"annual_return": 0.0514}, "+5.1 %"),
        ("annual_turnover", {"annual_turnover": 45.46}, "45.5 ×"),
        ("max_drawdown", {"max_drawdown": math.nan}, "–"),
        ("sharpe", {"sharpe": 0.5, "sharpe_standard_error": 0.25, "annual_volatility": 0.1}, "0.50 ± 0.25"),
        ("sharpe", {"sharpe": 3.0, "sharpe_standard_error": 0.25, "annual_volatility": 0.0004}, "–"),
        ("sharpe", {"sharpe": math.nan, "sharpe_standard_error": math.nan, "annual_volatility": 0.1}, "–"),
    ],
)
def test_a_figure_is_printed_in_its_unit_with_its_error_and_not_where_it_says_nothing(name, figures, printed):
    assert STATISTICS[name].column.cell(name, Performance(**figures)) == printed


def test_a_loss_on_the_first_day_is_a_drawdown():
    assert performance(path_of(math.log(0.9), math.log(1.05)), 0).max_drawdown == pytest.approx(0.1)


def test_difference_and_its_error_equal_numpys_paired_figures():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.001, 0.01, 400), rng.normal(0.0, 0.01, 400)
    two = pair(a, b)
    gap, error = difference(two, 0, 1)
    assert gap == pytest.approx((a - b).mean() * 252)
    assert error == pytest.approx((a - b).std(ddof=1) / np.sqrt(400) * 252)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_no_figure_is_made_of_a_growth_that_is_no_number(broken, where):
    growth = [0.01, -0.02, 0.01]
    growth[where] = broken
    figures = performance(path_of(*growth), 0).as_dict()
    assert figures.pop("sessions") == 3
    assert all(math.isnan(x) for x in figures.values()), figures


def test_a_broken_other_strategy_spoils_the_difference_and_not_the_figures():
    two = pair(np.full(3, 0.01), np.array([0.01, math.nan, 0.01]))
    assert performance(two, 0).total_return == pytest.approx(math.expm1(0.03))
    assert all(math.isnan(x) for x in (*difference(two, 0, 1), *return_difference(two, 0, 1)))


def test_cash_that_is_no_number_leaves_no_sharpe_ratio_and_all_other_figures():
    path = path_of(0.01, -0.02, 0.03)
    figures = performance(replace(path, cash_growth=torch.tensor([0.0, math.nan, 0.0])), 0)
    assert math.isnan(figures.sharpe) and math.isnan(figures.sharpe_standard_error)
    others = {name: x for name, x in performance(path, 0).as_dict().items() if not name.startswith("sharpe")}
    assert others.items() <= figures.as_dict().items()


def test_costs_that_are_no_number_are_not_told():
    path = path_of(0.01, 0.02)
    figures = performance(replace(path, costs=path.costs * math.nan, turnover=path.turnover + math.inf), 0)
    assert math.isnan(figures.annual_cost) and math.isnan(figures.annual_turnover)


def test_a_single_session_has_a_return_and_no_deviation():
    figures = performance(path_of(-0.01), 0)
    assert figures.total_return == pytest.approx(math.expm1(-0.01)) == pytest.approx(-figures.max_drawdown)
    assert math.isnan(figures.annual_volatility) and math.isnan(figures.sharpe)
    gap, error = return_difference(pair(np.array([0.01]), np.array([0.0])), 0, 1)
    assert gap == pytest.approx(math.expm1(2.52)) and math.isnan(error)


def test_no_session_has_no_figure():
    assert all(math.isnan(x) for name, x in performance(path_of(), 0).as_dict().items() if name != "sessions")


def test_returns_that_do_not_vary_have_no_sharpe_ratio():
    for growth in ((0.001, 0.001), (0.0, 0.0), (0.0005,) * 60):
        figures = performance(path_of(*growth), 0)
        assert figures.annual_volatility == pytest.approx(0, abs=1e-12)
        assert math.isnan(figures.sharpe) and math.isnan(figures.sharpe_standard_error)


def test_a_growth_beyond_all_numbers_is_not_told():
    assert math.isnan(performance(path_of(9.0), 0).annual_return)


def test_a_year_has_the_paths_sessions():
    growth = np.random.default_rng(2).normal(0.001, 0.02, 730)
    figures = performance(replace(path_of(*growth), sessions_per_year=365), 0)
    assert figures.annual_return == pytest.approx(np.exp(growth.sum() / 2) - 1)
    assert figures.annual_volatility == pytest.approx(np.expm1(growth).std(ddof=1) * np.sqrt(365))


def test_the_difference_in_annual_return_is_that_of_the_figures():
    rng = np.random.default_rng(3)
    two = pair(rng.normal(0.001, 0.01, 400), rng.normal(0.0003, 0.01, 400))
    gap = performance(two, 0).annual_return - performance(two, 1).annual_return
    assert return_difference(two, 0, 1)[0] == pytest.approx(gap, rel=1e-12)


@pytest.mark.parametrize(("drift", "own"), [(0.0, 0.004), (0.0006, 0.004), (-0.0003, 0.001)])
def test_the_error_of_the_difference_equals_a_bootstraps(drift, own):
    # Two strategies that share a market and have some noise of their own; days are drawn in pairs, with replacement.
    rng = np.random.default_rng(4)
    n = 2520
    market = rng.normal(0.0005, 0.012, n)
    a, b = market + drift + rng.normal(0, own, n), 0.9 * market + rng.normal(0, own, n)
    draws = rng.integers(0, n, (4000, n))
    both = (a + b)[draws].mean(1)
    # The level that both share is held where it was found; what moves between the replicas is the difference.
    shift = 252 * ((a + b).mean() - both) / 2
    replicas = np.expm1(252 * a[draws].mean(1) + shift) - np.expm1(252 * b[draws].mean(1) + shift)
    assert return_difference(pair(a, b), 0, 1)[1] == pytest.approx(replicas.std(ddof=1), rel=0.05)


@pytest.mark.parametrize("drift", [1e-6, 0.0004, -0.002, -0.01])
def test_the_difference_in_returns_is_as_certain_as_that_in_log_growth(drift):
    """Also where one of the two loses nearly all: two standard errors are the same test in either unit."""
    rng = np.random.default_rng(8)
    b = rng.normal(0.0002, 0.01, 756)
    two = pair(b + drift + rng.normal(0, 0.004, 756), b)
    (gap, error), (log_gap, log_error) = return_difference(two, 0, 1), difference(two, 0, 1)
    assert gap / error == pytest.approx(log_gap / log_error, rel=1e-6) and error > 0


def test_the_error_covers_the_true_difference_as_often_as_it_should():
    # 2,000 histories of 4 years whose true difference is known: two standard errors hold it in 95 % of them.
    rng = np.random.default_rng(5)
    market = rng.normal(0.0004, 0.01, (2000, 1008))
    a, b = market + rng.normal(0.0002, 0.003, market.shape), market
    truth = math.expm1(252 * 0.0006) - math.expm1(252 * 0.0004)
    found = [return_difference(pair(x, y), 0, 1) for x, y in zip(a, b, strict=True)]
    assert np.mean([abs(gap - truth) < 2 * error for gap, error in found]) == pytest.approx(0.95, abs=0.02)


def test_with_equal_means_the_error_is_the_logs_times_one_plus_the_return():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.0005, 0.01, 504), rng.normal(0, 0.01, 504)
    b += a.mean() - b.mean()
    two = pair(a, b)
    expected = difference(two, 0, 1)[1] * (1 + performance(two, 1).annual_return)
    assert return_difference(two, 0, 1) == (pytest.approx(0, abs=1e-12), pytest.approx(expected, rel=1e-9))
