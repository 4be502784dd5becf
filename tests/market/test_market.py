"""The validated market: returns, listing, gaps, delisting, cash; nothing is ever back-filled."""

import numpy as np
import pandas as pd
import pytest
import torch

from tactician.errors import UserError
from tactician.market import build_market, make_bars
from tactician.market.factors import tradable_mask
from tactician.market.market import cash_returns
from tests.conftest import synthetic_bars

SYMBOLS = ("AAA", "BBB", "CCC")
LISTED, GAP, ENDED = pd.Timestamp("2010-03-15"), pd.Timestamp("2010-05-03"), pd.Timestamp("2010-08-31")


@pytest.fixture(scope="module")
def frame():
    frame = synthetic_bars(SYMBOLS, "2010-01-04", "2010-12-31", seed=1)
    frame["adj_close"] *= 0.8  # another level than the close
    b, c = frame["symbol"] == "BBB", frame["symbol"] == "CCC"
    return frame[~(b & (frame["date"] < LISTED)) & ~(b & (frame["date"] == GAP)) & ~(c & (frame["date"] > ENDED))]


@pytest.fixture(scope="module")
def market(frame):
    return build_market(make_bars(frame, "test", as_traded=True), listing_warmup=60)


def row(market, day):
    return market.sessions.get_loc(pd.Timestamp(day))


def test_sessions_are_the_exchanges(market):
    days = {str(d.date()) for d in market.sessions}
    assert len(market.sessions) == 252 and "2010-07-05" not in days and "2010-11-26" in days  # a half day is a session
    after_thanksgiving = row(market, "2010-11-24")
    assert market.days_to_next[after_thanksgiving] == 2
    assert market.days_to_next[row(market, "2010-07-02")] == 4
    assert market.days_to_next[-1] == 3  # 2010-12-31 is a Friday


def test_returns_are_those_of_the_adjusted_prices(market, frame):
    prices = frame[frame["symbol"] == "AAA"].set_index("date")["adj_close"]
    assert np.allclose(market.returns[1:, 0], prices.pct_change().to_numpy()[1:], rtol=1e-12)
    assert market.returns[0].abs().sum() == 0


def test_nothing_exists_before_the_listing(market):
    listed = row(market, LISTED)
    assert market.closes[:listed, 1].isnan().all() and not market.closes[listed:, 1].isnan().any()
    assert market.returns[: listed + 1, 1].abs().sum() == 0
    assert market.scores[:listed, 1].isnan().all()


def test_an_asset_is_tradable_after_its_own_bars_have_warmed_up(market):
    listed = row(market, LISTED)
    first = int(torch.nonzero(market.tradable[:, 1])[0])
    # 60 bars before; the session of the gap has none.
    assert first == listed + 61
    assert not market.tradable[:60, 0].any() and market.tradable[60:, 0].all()


def test_a_missing_bar_is_marked_at_the_last_price_and_cannot_be_filled(market, frame):
    gap = row(market, GAP)
    prices = frame[frame["symbol"] == "BBB"].set_index("date")["adj_close"]
    assert market.returns[gap, 1] == 0 and market.closes[gap, 1] == market.closes[gap - 1, 1]
    after = market.sessions[gap + 1]
    before = market.sessions[gap - 1]
    assert float(market.returns[gap + 1, 1]) == pytest.approx(prices[after] / prices[before] - 1, rel=1e-12)
    assert market.fillable[gap - 1 : gap + 2, 1].tolist() == [True, False, True]
    assert not market.fillable[: row(market, LISTED), 1].any()


def test_a_rule_may_hold_an_asset_through_a_short_gap_and_not_through_a_long_one():
    """By hand: bars, warmed up after 3; a gap of 5 changes nothing; of 7, two sessions are beyond, and 20 bars must follow."""
    priced = torch.ones(60, 1, dtype=torch.bool)
    priced[10:15] = False
    priced[20:27] = False
    tradable = tradable_mask(priced, 3)[:, 0].tolist()
    assert tradable == [False] * 3 + [True] * 22 + [False] * 2 + [False] * 19 + [True] * 14


def test_a_delisted_asset_keeps_its_last_price_and_cannot_be_filled_anew(market):
    ended = row(market, ENDED)
    assert market.fillable[ended, 2] and not market.fillable[ended + 1 :, 2].any()
    assert market.delisted[:, 2].tolist() == [False] * (ended + 1) + [True] * (len(market.sessions) - ended - 1)
    assert not market.delisted[:, 0].any()
    # Nobody can know at once that there will be no other bar.
    assert market.tradable[ended : ended + 6, 2].all() and not market.tradable[ended + 6 :, 2].any()
    assert (market.returns[ended + 1 :, 2] == 0).all()
    assert (market.closes[ended + 1 :, 2] == market.closes[ended, 2]).all()


def test_what_is_paid_for_a_delisted_asset_is_the_return_after_its_last_bar(frame):
    market = build_market(make_bars(frame, "test"), delisting_return=-0.3)
    ended = row(market, ENDED)
    assert market.returns[ended + 1, 2] == -0.3 and (market.returns[ended + 2 :, 2] == 0).all()
    assert (market.returns[:, :2] > -0.2).all()


def test_later_bars_change_nothing_earlier(frame):
    cut = pd.Timestamp("2010-09-30")
    whole = build_market(make_bars(frame, "test", as_traded=True))
    part = build_market(make_bars(frame[frame["date"] <= cut], "test", as_traded=True))
    n = len(part.sessions)
    for name in ("returns", "closes", "scores", "volatility", "dollar_volume", "tradable", "days_to_next"):
        a, b = (x.double().nan_to_num(nan=-9) for x in (getattr(whole, name)[:n], getattr(part, name)))
        # A vectorised logarithm rounds the last few entries of an array by another path.
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-15), name


def test_without_volumes_there_is_no_traded_value(frame):
    market = build_market(make_bars(frame.drop(columns="volume"), "test", as_traded=True))
    assert market.dollar_volume.isnan().all()


@pytest.mark.parametrize("volume", [0.0, np.nan])
def test_an_asset_whose_volume_is_never_known_has_no_traded_value(frame, volume):
    silent = frame.assign(volume=frame["volume"].where(frame["symbol"] != "AAA", volume))
    market = build_market(make_bars(silent, "test", as_traded=True))
    assert market.dollar_volume[:, 0].isnan().all() and market.dollar_volume[30:, 1:].isfinite().all()


def test_traded_value_is_price_times_volume(market, frame):
    part = frame[frame["symbol"] == "AAA"].iloc[81:101]
    expected = (part["close"] * part["volume"]).mean()
    assert float(market.dollar_volume[100, 0]) == pytest.approx(expected)


def test_the_fingerprint_follows_bars_rates_calendar_and_rules(frame):
    def of(frame=frame, **rules):
        return build_market(make_bars(frame, "test", as_traded=True), **rules).fingerprint

    other = frame.copy()
    other.iloc[5, other.columns.get_loc("adj_close")] *= 1.000001
    prints = [of(), of(other), of(cash_rate=0.01), of(listing_warmup=61)]
    assert len(set(prints)) == 4 and of() == prints[0]


def test_a_constant_rate_compounds_to_itself(market):
    daily = cash_returns(0.05, market.sessions)
    assert (1 + daily[0]) ** 252 - 1 == pytest.approx(0.05) and len(set(daily)) == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rates_from_a_file_are_carried_forward_and_never_back(market, tmp_path, suffix):
    days = market.sessions[::5]
    table = pd.DataFrame({"date": days, "rf_daily": np.arange(len(days)) * 1e-6})
    path = tmp_path / f"rates.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    daily = cash_returns(path, market.sessions)
    assert daily[0] == 0 and daily[4] == 0 and daily[5] == pytest.approx(1e-6) and daily[12] == pytest.approx(2e-6)
    with pytest.raises(UserError, match="has no rate for 2009-12-31"):
        cash_returns(path, market.sessions.insert(0, pd.Timestamp("2009-12-31")))


def test_annual_rates_from_a_file_are_turned_into_daily_ones(market, tmp_path):
    path = tmp_path / "rates.csv"
    pd.DataFrame({"date": market.sessions, "rate_annual": 0.03}).to_csv(path, index=False)
    assert cash_returns(path, market.sessions) == pytest.approx(cash_returns(0.03, market.sessions))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,rf_daily\n2010-01-04,0.0001\n", "has no rate for 2010-01-20"),  # 11 sessions later
        ("date,yield\n2010-01-04,1\n", "neither a column rf_daily nor rate_annual"),
        ("when,rf_daily\n2010-01-04,1\n", "cannot read"),
    ],
)
def test_rates_that_are_missing_or_unreadable_are_refused(market, tmp_path, text, words):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        cash_returns(path, market.sessions)


def test_an_unknown_calendar_is_refused(frame):
    with pytest.raises(UserError, match="no usable exchange calendar 'MARS'"):
        build_market(make_bars(frame, "test", as_traded=True), calendar="MARS")
