"""Intervals hold what they promise, and agree with independent computations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.evaluation import inference
from tactician.evaluation.inference import interval, resampling

YEAR = 252
pytestmark = pytest.mark.whole_judge


def daily(n: int, mean: float = 0.0, seed: int = 0, deviation: float = 0.01) -> np.ndarray:
    return mean + deviation * np.random.default_rng(seed).standard_normal(n)


def test_the_resamples_are_those_of_arch_and_count_every_session_as_often_as_it_is_drawn():
    from arch.bootstrap import StationaryBootstrap

    table = resampling.counts(50, 5, 20)
    drawn = StationaryBootstrap(5, np.arange(50.0), seed=20_140_601).bootstrap(20)
    x = daily(50)
    means = [x[data[0].astype(int)].mean() for data, _ in drawn]
    assert table.sum(1).tolist() == [50.0] * 20
    assert np.allclose(table @ x / 50, means, atol=1e-8)


def test_an_interval_of_a_mean_is_that_of_students_t_where_sessions_are_independent_and_normal():
    x = daily(400, 0.001)
    found = inference.growth_difference(x, np.zeros(400), YEAR)
    error = x.std() / math.sqrt(400) * YEAR
    assert found.value == pytest.approx(x.mean() * YEAR)
    assert found.low == pytest.approx(found.value - 1.966 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.value + 1.966 * error, abs=0.2 * error)


def test_dependence_widens_an_interval():
    """With an autocorrelation of 0.6 the variance of the mean is (1 + 0.6)/(1 − 0.6) = 4 times that of independent days."""
    noise, x = daily(4000, seed=3), np.zeros(4000)
    for t in range(1, 4000):
        x[t] = 0.6 * x[t - 1] + noise[t]
    found = inference.growth_difference(x, np.zeros(4000), YEAR)
    width = (found.high - found.low) / (2 * 1.96 * x.std() / math.sqrt(4000) * YEAR)
    assert 1.6 < width < 2.4


def test_the_error_of_a_sharpe_ratio_is_that_of_lo_for_normal_returns():
    """Lo (2002), "The statistics of Sharpe ratios": √((1 + S²/2)/T) per session."""
    x = daily(20_000, 0.001, seed=1)
    sharpe, variance = interval._sharpe(interval._powers(x / x.std(), 4).mean(0))
    assert sharpe == pytest.approx(x.mean() / x.std())
    assert variance == pytest.approx(1 + sharpe**2 / 2, rel=0.02)


def test_the_variance_of_a_sharpe_ratio_is_that_of_its_influence_function():
    x = np.random.default_rng(5).standard_t(5, 3000) * 0.01 + 0.001
    z = (x - x.mean()) / x.std()
    sharpe = x.mean() / x.std()
    influence = z - sharpe * (z**2 - 1) / 2
    assert interval._sharpe(interval._powers(x / x.std(), 4).mean(0))[1] == pytest.approx(influence.var(), rel=1e-9)


def test_the_variance_of_a_difference_of_sharpe_ratios_is_that_of_its_influence_function():
    rng = np.random.default_rng(6)
    a = rng.standard_t(6, 3000) * 0.01 + 0.001
    b = 0.8 * a + rng.standard_normal(3000) * 0.004

    def influence(x: np.ndarray) -> np.ndarray:
        z = (x - x.mean()) / x.std()
        return z - x.mean() / x.std() * (z**2 - 1) / 2

    gap, variance = interval._sharpe_gap(interval._cross_powers(a / a.std(), b / b.std()).mean(0))
    assert gap == pytest.approx(a.mean() / a.std() - b.mean() / b.std(), rel=1e-9)
    assert variance == pytest.approx((influence(a) - influence(b)).var(), rel=1e-8)


def test_memmels_formula_holds_for_normal_pairs():
    """Memmel (2003): Var(ΔS)·T = 2 − 2ρ + (S_a² + S_b² − 2·S_a·S_b·ρ²)/2, for normal returns."""
    rng = np.random.default_rng(7)
    a, noise = rng.standard_normal(200_000), rng.standard_normal(200_000)
    b, rho = 0.6 * a + 0.8 * noise + 0.05, 0.6
    a = a + 0.1
    _, variance = interval._sharpe_gap(interval._cross_powers(a / a.std(), b / b.std()).mean(0))
    expected = 2 - 2 * rho + (0.1**2 + 0.05**2 - 2 * 0.1 * 0.05 * rho**2) / 2
    assert variance == pytest.approx(expected, rel=0.02)


def test_a_difference_of_returns_excludes_zero_exactly_if_that_of_growth_does():
    for seed in range(20):
        a, b = daily(300, 0.0012, seed), daily(300, 0.0, seed + 100)
        growth, returns = (f(a, b, YEAR) for f in (inference.growth_difference, inference.return_difference))
        assert (growth.low > 0) == (returns.low > 0) and (growth.high < 0) == (returns.high < 0)
        assert returns.value == pytest.approx(math.expm1(a.mean() * YEAR) - math.expm1(b.mean() * YEAR))


@pytest.mark.parametrize("n", [250, 1000])
@pytest.mark.parametrize("law", ["normal", "t"])
def test_intervals_of_95_percent_hold_the_truth_in_93_to_97_percent_of_samples(n, law, monkeypatch):
    """benchmarks/bench_coverage.py has more laws, more samples and more resamples; here 400 samples allow ±3 errors."""
    monkeypatch.setattr(interval, "counts", lambda n, block: resampling.counts(n, block, 300))
    rng, inside, samples = np.random.default_rng(11), np.zeros(3), 400
    mean = 0.01 / math.sqrt(YEAR)  # an annual Sharpe ratio of 1
    for _ in range(samples):
        noise = rng.standard_normal((n, 2)) if law == "normal" else rng.standard_t(5, (n, 2)) / math.sqrt(5 / 3)
        a, b = (mean + 0.01 * noise[:, 0]), (mean + 0.01 * (0.8 * noise[:, 0] + 0.6 * noise[:, 1]))
        found = inference.sharpe_interval(a, YEAR), inference.sharpe_difference(a, b, YEAR)
        found += (inference.growth_difference(a, b, YEAR),)
        inside += [x.low <= truth <= x.high for x, truth in zip(found, (1.0, 0.0, 0.0), strict=True)]
    error = math.sqrt(0.95 * 0.05 / samples)
    assert (inside / samples > 0.93 - 2 * error).all() and (inside / samples < 0.97 + 2 * error).all(), inside / samples


def test_a_difference_of_the_detectable_size_is_found_in_four_samples_of_five(monkeypatch):
    monkeypatch.setattr(interval, "counts", lambda n, block: resampling.counts(n, block, 300))
    rng, n, found = np.random.default_rng(12), 500, 0
    common, own = 0.01, 0.003
    size = (1.96 + 0.8416) * own / math.sqrt(n)  # by the definition, per session
    told = []
    for _ in range(300):
        b = common * rng.standard_normal(n)
        a = b + own * rng.standard_normal(n) + size
        told.append(inference.minimum_detectable_return_difference(a, b, YEAR))
        found += inference.growth_difference(a, b, YEAR).low > 0
    assert 0.73 < found / 300 < 0.87
    assert np.median(told) == pytest.approx(size * YEAR, rel=0.2)


def test_the_detectable_difference_of_sharpe_ratios_follows_from_the_same_error():
    a, b = daily(2000, 0.0005, 1), daily(2000, 0.0005, 2)
    told = inference.minimum_detectable_sharpe_difference(a, b, YEAR)
    assert told == pytest.approx((1.96 + 0.8416) * math.sqrt(2 / 2000 * YEAR), rel=0.1)  # two independent ratios


@pytest.mark.parametrize(
    "bad", [np.full(300, np.nan), np.append(daily(299), np.inf), daily(30), np.zeros(0), np.zeros(1)]
)
def test_what_cannot_be_computed_is_not_available(bad, recwarn):
    good = daily(len(bad), seed=9)
    found = [
        inference.growth_difference(bad, good, YEAR),
        inference.return_difference(good, bad, YEAR),
        inference.sharpe_interval(bad, YEAR),
        inference.sharpe_difference(bad, good, YEAR),
    ]
    assert all(math.isnan(x.value) and math.isnan(x.low) and math.isnan(x.high) for x in found)
    assert math.isnan(inference.minimum_detectable_return_difference(bad, good, YEAR))
    assert math.isnan(inference.minimum_detectable_sharpe_difference(bad, good, YEAR))
    assert not recwarn.list


def test_what_does_not_vary_has_no_sharpe_ratio_and_a_difference_without_chance():
    flat, x = np.full(300, 1e-4), daily(300)
    assert math.isnan(inference.sharpe_interval(flat, YEAR).value)
    assert math.isnan(inference.sharpe_difference(flat, x, YEAR).value)
    assert inference.sharpe_difference(x, x.copy(), YEAR) == inference.Interval(0.0, 0.0, 0.0)
    same = inference.growth_difference(x + 1e-4, x, YEAR)
    assert same.low == same.value == same.high == pytest.approx(1e-4 * YEAR)
    assert math.isnan(inference.minimum_detectable_return_difference(x, x, YEAR))


def test_one_lucky_session_has_no_interval(recwarn):
    one = np.zeros(200)
    one[50] = 0.01  # one resample in three (1/e) misses it, and the others all show a gain
    assert math.isnan(inference.sharpe_interval(one, YEAR).low)
    assert math.isnan(inference.growth_difference(one, np.zeros(200), YEAR).low)
    assert not recwarn.list


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-6, 1e3), seed=st.integers(0, 100))
def test_a_sharpe_ratio_does_not_depend_on_the_unit_of_returns(scale, seed):
    x = daily(120, 0.0005, seed)
    one, other = inference.sharpe_interval(x, YEAR), inference.sharpe_interval(scale * x, YEAR)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-6)
    assert one.low < one.value < one.high


def test_one_session_that_differs_shows_no_difference():
    """All that varies is one session, which a third of the resamples miss: an error would be one of rounding."""
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    still = np.zeros(200)
    still[0] = -0.003
    assert math.isnan(inference.minimum_detectable_sharpe_difference(still, noise, YEAR))
