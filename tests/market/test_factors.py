"""Factor scores against a slow version written from the specification, and their causality."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.market.factors import (
    factor_scores,
    rolling_dollar_volume,
    rolling_volatility,
    tradable_mask,
)


def prices(n=60, assets=3, seed=0):
    rng = np.random.default_rng(seed)
    return 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (n, assets)), axis=0))


def scores_of(levels, closes=None):
    returns = np.vstack([np.zeros(levels.shape[1]), levels[1:] / levels[:-1] - 1])
    known = torch.from_numpy(levels if closes is None else closes)
    return factor_scores(torch.from_numpy(returns), torch.ones_like(known, dtype=torch.bool), known)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_scores_are_the_specifications(seed):
    levels = prices(seed=seed)
    found = scores_of(levels).numpy()
    for s in (20, 21, 40, 59):
        for a in range(levels.shape[1]):
            daily = [levels[k, a] / levels[k - 1, a] - 1 for k in range(s - 19, s + 1)]
            mean = sum(daily) / 20
            sigma = math.sqrt(sum((r - mean) ** 2 for r in daily) / 19)
            expected = [
                levels[s, a] / levels[s - 20, a] - 1,
                1 / sigma,
                mean / sigma * math.sqrt(252),
                1 / levels[s, a],
            ]
            assert found[s, a] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(found[:20, :, :3]).all()


def test_size_uses_the_traded_price_and_the_others_the_total_return():
    levels, traded = prices(), prices(seed=9)
    both, one = scores_of(levels, traded), scores_of(levels)
    assert torch.equal(both[20:, :, :3], one[20:, :, :3])
    assert torch.allclose(both[20:, :, 3], 1 / torch.from_numpy(traded[20:]))


def test_an_asset_that_never_moves_has_finite_scores():
    scores = scores_of(np.full((30, 2), 7.0))[-1]
    assert scores.isfinite().all() and scores[0].tolist() == pytest.approx([0, 1e8, 0, 1 / 7])


def test_before_its_listing_an_asset_has_no_score_and_without_a_price_as_traded_no_size():
    levels = prices()
    returns = torch.from_numpy(np.vstack([np.zeros(3), levels[1:] / levels[:-1] - 1]))
    listed = torch.ones(60, 3, dtype=torch.bool)
    listed[:30, 1] = False
    closes = torch.from_numpy(levels.copy())
    closes[:, 2] = torch.nan
    scores = factor_scores(returns, listed, closes)
    assert scores[:30, 1].isnan().all() and scores[30:, 1].isfinite().all()
    assert scores[20:, 2, :3].isfinite().all() and scores[:, 2, 3].isnan().all()


def test_quality_is_annualised_by_the_markets_sessions():
    levels = prices()
    returns = torch.from_numpy(np.vstack([np.zeros(3), levels[1:] / levels[:-1] - 1]))
    every_day = factor_scores(returns, torch.ones(60, 3, dtype=torch.bool), torch.from_numpy(levels), 365)
    assert torch.allclose(every_day[20:, :, 2], scores_of(levels)[20:, :, 2] * math.sqrt(365 / 252))


@pytest.mark.parametrize("t", [25, 40])
def test_a_score_uses_its_session_and_those_before_it(t):
    levels = prices()
    noisy = levels.copy()
    noisy[t:] *= 1.3
    before, after = scores_of(levels), scores_of(noisy)
    assert torch.equal(before[:t].nan_to_num(), after[:t].nan_to_num())
    assert (before[t] != after[t]).all()


def test_volatility_and_volume_are_over_twenty_sessions():
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(size=(50, 2)))
    assert float(rolling_volatility(x)[30, 1]) == pytest.approx(np.std(x[11:31, 1].numpy(), ddof=1))
    assert float(rolling_dollar_volume(x)[30, 0]) == pytest.approx(np.mean(x[11:31, 0].numpy()))
    assert rolling_volatility(x)[:20].isnan().all() and rolling_volatility(x)[20:].isfinite().all()


def test_warm_up_counts_the_assets_own_bars():
    priced = torch.tensor([[0], [0], [1], [1], [0], [1], [1]], dtype=torch.bool)
    # Two bars before the latest one.
    assert tradable_mask(priced, 2)[:, 0].tolist() == [False, False, False, False, False, True, True]
