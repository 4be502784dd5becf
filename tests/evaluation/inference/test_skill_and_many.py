"""Statistics against published numbers and independent implementations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tactician.evaluation import inference

YEAR = 252
pytestmark = pytest.mark.whole_judge


def daily(n: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return mean + 0.01 * np.random.default_rng(seed).standard_normal(n)


def test_the_deflated_sharpe_ratio_is_that_of_its_authors_example():
    """Bailey and López de Prado (2014): S 2.5 per year, 1250 days, 100 trials of variance ½, skew −3, kurtosis 10: 0.9004.

    A kurtosis of 10 is the least that a skew of −3 allows, skew² + 1: the series takes two values, the low one in 105 sessions.
    """
    z = np.where(np.arange(1250) % 1250 < 105, -1.0, 0.0)
    z = (z - z.mean()) / z.std(ddof=1)
    x = 0.01 * (z + 2.5 / math.sqrt(250))
    assert stats.skew(x) == pytest.approx(-3, abs=0.01) and stats.kurtosis(x, fisher=False) == pytest.approx(
        10, abs=0.01
    )
    trials = math.sqrt(0.5 / 250) * np.array([-1.0, 1.0]) / math.sqrt(2)  # of that sample deviation
    assert inference.deflated_sharpe(x, 100, trials) == pytest.approx(0.9004, abs=0.0005)


def test_the_probabilistic_sharpe_ratio_is_that_of_quantstats():
    qs = pytest.importorskip("quantstats")
    import pandas as pd

    x = np.random.default_rng(3).standard_t(5, 700) * 0.01 + 0.0006
    series = pd.Series(x, index=pd.bdate_range("2020-01-01", periods=700))
    theirs = qs.stats.probabilistic_ratio(series, rf=0.0, base="sharpe", periods=252, annualize=False, smart=False)
    assert inference.probabilistic_sharpe(x) == pytest.approx(float(theirs), abs=2e-3)


def test_one_trial_needs_no_deflation_and_an_unknown_number_has_no_ratio():
    x = daily(500, 0.0005)
    assert inference.deflated_sharpe(x, 1, []) == inference.probabilistic_sharpe(x)
    assert math.isnan(inference.deflated_sharpe(x, None, [0.1, 0.2]))
    assert math.isnan(inference.deflated_sharpe(x, 5, [0.1]))
    few, many = (inference.deflated_sharpe(x, n, [0.01, 0.05, -0.02]) for n in (3, 300))
    assert many < few < inference.probabilistic_sharpe(x)


def twin_of_pbo(returns: np.ndarray, blocks: int) -> float:
    """CSCV in a few lines: Bailey et al. (2017), §3."""
    parts = np.array_split(np.arange(len(returns)), blocks)
    below = []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[k] for k in chosen])
        outside = np.concatenate([parts[k] for k in range(blocks) if k not in chosen])
        sharpe = [returns[rows].mean(0) / returns[rows].std(0, ddof=1) for rows in (inside, outside)]
        rank = stats.rankdata(sharpe[1])[sharpe[0].argmax()] / (returns.shape[1] + 1)
        below.append(rank < 0.5)  # the median itself is not below it
    return float(np.mean(below))


def test_the_probability_of_overfitting_is_that_of_our_own_few_lines():
    rng = np.random.default_rng(4)
    noise = 0.01 * rng.standard_normal((600, 7))
    assert inference.probability_of_overfitting(noise) == pytest.approx(twin_of_pbo(noise, 10), abs=1e-12)
    skilled = noise + np.array([0, 0, 0, 0.003, 0, 0, 0])
    assert inference.probability_of_overfitting(skilled) == pytest.approx(twin_of_pbo(skilled, 10)) and (
        inference.probability_of_overfitting(skilled) < 0.05
    )


def test_overfitting_needs_two_strategies_and_enough_sessions():
    x = np.stack([daily(600, seed=k) for k in range(3)], 1)
    assert math.isnan(inference.probability_of_overfitting(x[:, :1]))
    assert math.isnan(inference.probability_of_overfitting(x[:99]))
    assert math.isnan(inference.probability_of_overfitting(np.stack([x[:, 0], np.zeros(600)], 1)))


def test_luck_among_many_is_not_taken_for_skill_and_skill_is_seen():
    luck = np.stack([daily(800, seed=k) for k in range(20)], 1)
    benchmark = daily(800, seed=99)
    p = inference.superior_predictive_ability(benchmark, luck)
    best_alone = stats.ttest_1samp(luck[:, (luck - benchmark[:, None]).mean(0).argmax()] - benchmark, 0).pvalue / 2
    assert p > 0.1 and p > best_alone
    assert inference.superior_predictive_ability(benchmark, luck + np.eye(20)[3] * 0.002) < 0.02


def drawn(sessions: int, block: int, rng: np.random.Generator) -> list[int]:
    """Politis and Romano (1994): go on to the next session, or with probability 1/block to a random one."""
    at = [int(rng.integers(sessions))]
    while len(at) < sessions:
        at.append(int(rng.integers(sessions)) if rng.random() < 1 / block else (at[-1] + 1) % sessions)
    return at


def hansen(beyond: np.ndarray, block: int, resamples: int, seed: int) -> float:
    """Consistent p-value of Hansen (2005), with the kernel variance of the stationary bootstrap."""
    sessions, p = len(beyond), 1 / block
    mean, centred = beyond.mean(0), beyond - beyond.mean(0)
    variance = (centred**2).mean(0)
    for i in range(1, sessions):
        weight = (sessions - i) / sessions * (1 - p) ** i + i / sessions * (1 - p) ** (sessions - i)
        variance += 2 * weight * (centred[i:] * centred[:-i]).sum(0) / sessions
    root, deviation = math.sqrt(sessions), np.sqrt(variance)
    kept = np.where(root * mean >= -deviation * math.sqrt(2 * math.log(math.log(sessions))), mean, 0.0)
    statistic = max(0.0, float((root * mean / deviation).max()))
    rng, larger = np.random.default_rng(seed), 0
    for _ in range(resamples):
        shifted = root * (beyond[drawn(sessions, block, rng)].mean(0) - kept) / deviation
        larger += max(0.0, float(shifted.max())) > statistic
    return larger / resamples


@pytest.mark.parametrize(
    ("edges", "noise"),
    [
        ([-2e-4, -3e-3, -1e-4], [0.003, 0.003, 0.003]),  # none is better in the sample
        ([3e-4, 1e-4], [0.003, 0.003]),
        ([0.0, 6e-5], [0.03, 0.0008]),  # the steady edge is lost in the wild one's noise if not studentised
        ([1e-4, -3e-3, -2e-3, -3e-3], [0.003] * 4),  # hopeless strategies must not weigh
    ],
)
def test_the_p_value_of_superior_ability_is_hansens(edges, noise):
    rng = np.random.default_rng(5)
    benchmark = daily(500, 0.0003)
    beyond = rng.normal(edges, noise, (500, len(edges)))
    found = inference.superior_predictive_ability(benchmark, benchmark[:, None] + beyond)
    assert found == pytest.approx(hansen(beyond, 2, 1000, 1), abs=0.06)


def test_a_wild_strategy_does_not_hide_the_edge_of_a_steady_one():
    benchmark = daily(500, 0.0003)
    beyond = np.random.default_rng(0).normal([0, 3e-4], [0.03, 0.0008], (500, 2))  # the second has a t of about 8
    assert inference.superior_predictive_ability(benchmark, benchmark[:, None] + beyond) < 0.01


def test_a_twin_of_the_benchmark_changes_nothing():
    others, benchmark = np.stack([daily(400, seed=k) for k in range(3)], 1), daily(400, seed=9)
    alone = inference.superior_predictive_ability(benchmark, others)
    assert inference.superior_predictive_ability(benchmark, np.column_stack([others, benchmark])) == alone
    assert math.isnan(inference.superior_predictive_ability(benchmark, benchmark[:, None]))


def test_the_confidence_set_keeps_the_best_and_its_twin_and_drops_the_worst():
    growth = np.stack(
        [daily(600, seed=1)] * 2 + [daily(600, -0.004, seed=2), daily(600, seed=1) + daily(600, seed=3) / 9], 1
    )
    kept = inference.model_confidence_set(growth, ["a", "twin", "bad", "b"])
    assert kept is not None and "bad" not in kept and {"a", "twin"} <= set(kept)
    assert inference.model_confidence_set(growth[:, :2], ["a", "twin"]) is None
    assert inference.model_confidence_set(growth[:20], ["a", "twin", "bad", "b"]) is None


def test_alpha_and_beta_have_newey_wests_errors():
    rng = np.random.default_rng(8)
    b = 0.01 * rng.standard_normal(500)
    noise = np.convolve(0.004 * rng.standard_normal(504), np.ones(5) / 2, mode="valid")
    a = 0.0002 + 0.7 * b + noise
    found = inference.alpha_beta(a, b, YEAR)
    x = np.column_stack([np.ones(500), b])
    inverse = np.linalg.inv(x.T @ x)
    params = inverse @ x.T @ a
    scores = x * (a - x @ params)[:, None]
    lags = math.floor(4 * (500 / 100) ** (2 / 9))
    meat = scores.T @ scores
    for lag in range(1, lags + 1):
        gamma = scores[lag:].T @ scores[:-lag]
        meat += (1 - lag / (lags + 1)) * (gamma + gamma.T)
    errors = np.sqrt(np.diag(inverse @ meat @ inverse))
    assert (found.alpha.value, found.beta.value) == pytest.approx((params[0] * YEAR, params[1]))
    assert found.alpha.high - found.alpha.value == pytest.approx(1.959964 * errors[0] * YEAR, rel=1e-6)
    assert found.beta.value - found.beta.low == pytest.approx(1.959964 * errors[1], rel=1e-6)


def test_a_strategy_that_its_benchmark_explains_has_no_errors_made_of_rounding(recwarn):
    b = daily(500, 0.0003)
    for a in (b.copy(), 0.5 * b, b + 1e-4, np.zeros(500)):
        fit = inference.alpha_beta(a, b, YEAR)
        assert math.isnan(fit.alpha.low) and math.isnan(fit.beta.low)
    assert not recwarn.list


def test_permutations_keep_blocks_together_and_lose_no_session():
    orders = inference.block_permutations(103, 10, 50, seed=1)
    assert orders.shape == (50, 103) and (np.sort(orders, 1) == np.arange(103)).all()
    neighbours = ((orders[:, 1:] - orders[:, :-1]) % 103 == 1).mean()
    assert 0.85 < neighbours < 0.95  # nine of ten steps stay inside a block
    assert len({tuple(row) for row in orders}) == 50
    assert (inference.block_permutations(103, 10, 50, seed=1) == orders).all()


def test_a_p_value_counts_what_reaches_the_actual_figure():
    permuted = np.array([0.0, 1.0, 2.0, 3.0])
    assert inference.permutation_p_value(2.0, permuted) == 3 / 5  # 2 and 3, and the actual one itself
    assert inference.permutation_p_value(9.0, permuted) == 1 / 5
    assert inference.permutation_p_value(2.0 + 1e-12, permuted) == 3 / 5  # equal to rounding
    assert math.isnan(inference.permutation_p_value(math.nan, permuted))
    assert math.isnan(inference.permutation_p_value(1.0, permuted[:0]))


def test_p_values_of_timing_without_skill_are_uniform():
    rng = np.random.default_rng(2)
    values = [inference.permutation_p_value(rng.standard_normal(), rng.standard_normal(19)) for _ in range(2000)]
    assert abs(np.mean(np.array(values) <= 0.1) - 0.1) < 0.03


@pytest.mark.parametrize("bad", [np.full(300, np.nan), np.full(300, 0.001), daily(10), np.zeros(0)])
def test_bad_series_have_no_statistic(bad, recwarn):
    good = daily(len(bad), seed=5)
    assert math.isnan(inference.probabilistic_sharpe(bad))
    assert math.isnan(inference.deflated_sharpe(bad, 3, [0.1, 0.2]))
    fit = inference.alpha_beta(good, bad, YEAR)
    assert math.isnan(fit.alpha.value) and math.isnan(fit.beta.value)
    assert not recwarn.list
