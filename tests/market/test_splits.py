"""Splits that were not adjusted for are told apart from crashes, rallies and other moves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tactician.market import check_bars, embedded_bars, make_bars, read_bars
from tactician.market.splits import RATIOS
from tests.conftest import synthetic_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
DAY = pd.Timestamp("2010-09-15")
SHARED = Path("../shared/data/broad_panel.parquet")


def jumps(frame: pd.DataFrame) -> list[tuple[str, str]]:
    findings = check_bars(make_bars(frame, "test"), "XNYS").findings
    return [row[:2] for f in findings if f.name == "split_like_jump" for row in f.rows]


def scaled(frame: pd.DataFrame, factor: float, first: pd.Timestamp = DAY, last: str = "2099-01-01") -> pd.DataFrame:
    """Prices of BBB between two days, times a factor."""
    rows = (frame["symbol"] == "BBB") & (frame["date"] >= first) & (frame["date"] <= last)
    frame.loc[rows, ["open", "high", "low", "close", "adj_close"]] *= factor
    return frame


def calm() -> pd.DataFrame:
    """Days with a usual move of about 1.2 % and the same volume."""
    return synthetic_bars(SYMBOLS, "2010-01-04", "2010-12-31", seed=3)


def unadjusted(ratio: float, moved: float) -> pd.DataFrame:
    """Each share becomes ``ratio`` shares on a day on which the stock also moved; the volume in shares grows with it."""
    frame = scaled(calm(), 1 / ratio * np.exp(moved))
    frame.loc[(frame["symbol"] == "BBB") & (frame["date"] >= DAY), "volume"] *= ratio
    return frame


def own_move(frame: pd.DataFrame) -> float:
    close = frame[frame["symbol"] == "BBB"].set_index("date")["close"]
    return float(np.log(close.loc[DAY] / close.shift().loc[DAY]))


@pytest.mark.parametrize("moved", [-0.04, 0.0, 0.04])
@pytest.mark.parametrize("ratio", [*RATIOS, *(1 / RATIOS)], ids="{:.3f}".format)
def test_every_ratio_is_told_also_on_a_day_that_moved(ratio, moved):
    moved -= own_move(calm())  # in all
    assert jumps(unadjusted(ratio, moved)) == [("BBB", "2010-09-15")]


@pytest.mark.parametrize("ratio", [3 / 2, 2.0, 3.0, 10.0, 1 / 2, 1 / 10])
def test_closes_alone_tell_ratios_from_three_for_two_on(ratio):
    frame = unadjusted(ratio, 0.02)[["date", "symbol", "close", "adj_close"]]
    assert jumps(frame) == [("BBB", "2010-09-15")]


def test_feeds_that_adjusted_the_volume_alone_are_told():
    frame = unadjusted(4.0, 0.0)
    frame.loc[(frame["symbol"] == "BBB") & (frame["date"] >= DAY), "volume"] /= 4
    assert jumps(frame) == [("BBB", "2010-09-15")]


@pytest.mark.parametrize("factor", [0.48, 0.66, 0.75, 1.33, 2.02])
def test_a_jump_with_many_times_the_usual_traded_value_is_a_move(factor):
    """Results, bids, failed trials: the price jumps overnight from calm to calm, and everybody trades."""
    frame = scaled(calm(), factor)
    frame.loc[(frame["symbol"] == "BBB") & (frame["date"] == DAY), "volume"] *= 8
    assert jumps(frame) == []


def test_a_stock_that_doubles_amid_a_crisis_is_no_split():
    """As HIG on 2008-12-05, +102 %: days of 10 % before and after. Closes only."""
    frame = calm()[["date", "symbol", "close", "adj_close"]]
    rng = np.random.default_rng(4)
    for day in pd.DatetimeIndex(sorted(frame["date"].unique())):
        if abs((day - DAY).days) <= 60:
            move = 2.02 if day == DAY else np.exp(rng.normal(0, 0.1))
            frame.loc[(frame["symbol"] == "BBB") & (frame["date"] >= day), ["close", "adj_close"]] *= move
    assert jumps(frame) == []


def test_a_stock_that_halves_at_the_outbreak_of_a_crisis_is_no_split():
    """As OXY on 2020-03-09, −52 %: calm before, turmoil in all stocks from that day on. Closes only."""
    frame = calm()[["date", "symbol", "close", "adj_close"]]
    rng = np.random.default_rng(5)
    days = pd.DatetimeIndex(sorted(frame["date"].unique()))
    for day in days[(days >= DAY)][:30]:
        for symbol in SYMBOLS:
            own = 0.12 if symbol == "BBB" else 0.05
            move = np.exp(rng.normal(0, own)) if day > DAY else (0.48 if symbol == "BBB" else 0.92)
            frame.loc[(frame["symbol"] == symbol) & (frame["date"] >= day), ["close", "adj_close"]] *= move
    assert jumps(frame) == []


def test_a_jump_beyond_four_times_is_told_whatever_surrounds_it():
    frame = scaled(calm(), 4.5)
    frame.loc[(frame["symbol"] == "BBB") & (frame["date"] == DAY), "volume"] *= 50
    assert jumps(frame) == [("BBB", "2010-09-15")]


def test_pence_for_pounds_over_weeks_are_told_at_both_ends():
    assert jumps(scaled(calm(), 100.0, last="2010-10-29")) == [("BBB", "2010-09-15"), ("BBB", "2010-11-01")]


def test_a_drop_of_the_whole_market_is_no_split():
    frame = calm()
    frame.loc[frame["date"] >= DAY, ["open", "high", "low", "close", "adj_close"]] *= 0.8
    assert jumps(frame) == []


def test_a_split_in_the_first_days_is_told_by_the_days_after():
    frame = scaled(calm(), 0.5, pd.Timestamp("2010-01-07"))
    frame.loc[(frame["symbol"] == "BBB") & (frame["date"] >= "2010-01-07"), "volume"] *= 2
    assert jumps(frame) == [("BBB", "2010-01-07")]


def test_the_embedded_stocks_have_no_such_jump_in_22_years():
    """Among their moves: AAPL −52 % on 2000-09-29, BBY −37 % on 2002-08-08; closes only."""
    assert jumps(embedded_bars().frame) == []


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/broad_panel.parquet is not here")
def test_sixteen_years_of_226_stocks_give_a_handful_of_false_alarms_and_planted_splits_are_found():
    bars = read_bars(SHARED)
    assert len(jumps(bars.frame)) <= 5
    frame = bars.frame.sort_values(["symbol", "date"], kind="stable").reset_index(drop=True)
    rng = np.random.default_rng(0)
    planted = set()
    for symbol, rows in frame.groupby("symbol").indices.items():
        k = int(rng.integers(1, len(rows)))
        ratio = float(rng.choice(RATIOS))
        ratio = 1 / ratio if rng.random() < 0.3 else ratio
        before = rows[:k]
        frame.loc[before, ["open", "high", "low", "close", "adj_close"]] *= ratio
        frame.loc[before, "volume"] /= ratio
        planted.add((symbol, f"{frame.loc[rows[k], 'date']:%Y-%m-%d}"))
    assert len(planted & set(jumps(frame))) >= 0.93 * len(planted)
