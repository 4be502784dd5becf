"""From market to tensors: the one-session lag, the rows of a range, and weights that add up."""

from datetime import date

import pandas as pd
import pytest
import torch

from tactician.environment import build_market_tensors
from tactician.environment.features import market_features
from tactician.errors import UserError
from tactician.market import build_market, make_bars
from tests.conftest import synthetic_bars

GROUPS = {"first": ("AAA", "BBB"), "second": ("CCC", "DDD")}


@pytest.fixture(scope="module")
def market():
    frame = synthetic_bars(("AAA", "BBB", "CCC", "DDD"), "2010-01-04", "2012-12-31", seed=2)
    return build_market(make_bars(frame[(frame["symbol"] != "DDD") | (frame["date"] >= "2011-09-01")], "random"))


@pytest.fixture(scope="module")
def tensors(market):
    return build_market_tensors(market, "factor", GROUPS, {"start": "2010"})


def session(market, tensors, row):
    return market.sessions.get_loc(pd.Timestamp(tensors.date_of(row)))


def test_what_is_seen_at_t_is_what_was_known_after_t_minus_1(market, tensors):
    features = market_features(market)
    for row in (0, 1, 100, tensors.n_days - 1):
        s = session(market, tensors, row)
        assert torch.equal(tensors.features[row], features[s - 1].float())
        assert torch.equal(tensors.tradable[row], market.tradable[s - 1])
        assert torch.equal(tensors.vol_daily[row], market.volatility[s - 1].float().nan_to_num())


def test_what_is_earned_for_t_runs_from_its_close_to_the_next(market, tensors):
    for row in (0, 57, tensors.n_days - 1):
        s = session(market, tensors, row)
        assert torch.equal(tensors.returns[row], market.returns[s + 1].float())
        assert float(tensors.cash_return[row]) == pytest.approx(float(market.cash_returns[s]))
        assert tensors.end_dates[row] == (market.sessions[s + 1] - pd.Timestamp(0)).days


def test_the_last_row_ends_with_the_last_session(market, tensors):
    assert tensors.end_dates[-1] == (market.sessions[-1] - pd.Timestamp(0)).days
    assert torch.equal(tensors.end_dates[:-1], tensors.dates[1:])


@pytest.mark.parametrize("kind", ["factor", "static", "expanded"])
def test_weights_of_every_regime_and_day_sum_to_one_and_leave_out_what_cannot_be_held(tensors, kind):
    market = tensors.with_regimes(kind, GROUPS)
    weights = market.regime_weights[:, 1:]
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)
    held = weights[..., :-1].amax(1) > 0
    assert not (held & ~market.tradable).any()
    assert (market.regime_weights[:, 0] == 0).all()  # HOLD has no target
    assert not market.tradable[0, 3] and market.tradable[-1, 3]


def test_other_regimes_and_back_are_the_same(tensors):
    back = tensors.with_regimes("static", GROUPS).with_regimes("factor", GROUPS)
    assert torch.equal(back.regime_weights, tensors.regime_weights)


def test_a_range_holds_whole_lives_and_neighbours_share_no_reward(tensors):
    cut = date(2012, 3, 30)
    train, later = tensors.rows(None, cut), tensors.rows(cut, None)
    # The last training reward ends on the cut; the next range decides first after it.
    assert train.start == 1 and int(tensors.end_dates[train.stop - 1]) == (cut - date(1970, 1, 1)).days
    assert tensors.date_of(later.start) == date(2012, 4, 2) and later.stop == tensors.n_days
    # The decision at the close of the cut itself belongs to neither: its reward comes after.
    assert later.start == train.stop + 1 and tensors.date_of(train.stop) == cut


def test_a_range_before_or_after_the_data_is_empty(tensors):
    assert len(tensors.rows(date(2030, 1, 1), None)) == 0
    assert len(tensors.rows(None, date(1990, 1, 1))) == 0


def test_a_short_history_is_refused():
    frame = synthetic_bars(("AAA", "BBB"), "2010-01-04", "2010-12-31")
    with pytest.raises(UserError, match="too few; the features need 252 after a listing warm-up"):
        build_market_tensors(build_market(make_bars(frame, "short")), "factor", {"a": ("AAA",), "b": ("BBB",)}, {})


def test_moving_to_a_device_keeps_everything(tensors):
    moved = tensors.to("cpu")
    assert torch.equal(moved.returns, tensors.returns) and moved.fingerprint == tensors.fingerprint
