"""Yahoo's bars through a yfinance that never leaves the house."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tactician.bars.yahoo import later_splits
from tactician.errors import UserError
from tactician.market import yahoo_bars


def history(days, closes, splits=None, zone="America/New_York"):
    closes = np.array(closes, dtype=float)
    return pd.DataFrame(
        {
            "Open": closes,
            "High": closes * 1.01,
            "Low": closes * 0.99,
            "Close": closes,
            "Adj Close": closes * 0.9,
            "Volume": np.full(len(closes), 1000),
            "Dividends": 0.0,
            "Stock Splits": np.zeros(len(closes)) if splits is None else splits,
        },
        index=pd.DatetimeIndex(days).tz_localize(zone),
    )


@pytest.fixture
def yahoo(monkeypatch):
    """Answers by symbol: a table, or an exception to raise."""
    answers, asked = {}, []

    class Ticker:
        def __init__(self, symbol):
            self.symbol = symbol

        def history(self, **arguments):
            asked.append((self.symbol, arguments))
            answer = answers[self.symbol]
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setitem(sys.modules, "yfinance", SimpleNamespace(Ticker=Ticker))
    return answers, asked


DAYS = ["2020-08-27", "2020-08-28", "2020-08-31", "2020-09-01"]


def test_closes_are_what_was_traded_on_the_day(yahoo):
    # Apple split 4:1 on 2020-08-31; Yahoo shows 124.81 for the 28th, when 499.23 was paid.
    yahoo[0]["AAPL"] = history(DAYS, [125.01, 124.81, 129.04, 134.18], [0, 0, 4, 0])
    frame = yahoo_bars(("AAPL",)).frame
    assert frame["close"].tolist() == pytest.approx([500.04, 499.24, 129.04, 134.18], abs=0.01)
    assert frame["high"].tolist() == pytest.approx([x * 1.01 for x in frame["close"]])
    assert frame["volume"].tolist() == [250, 250, 1000, 1000]
    # The total-return price is Yahoo's own.
    assert frame["adj_close"].tolist() == pytest.approx([x * 0.9 for x in (125.01, 124.81, 129.04, 134.18)])


def test_two_splits_multiply():
    assert later_splits(pd.Series([0.0, 2.0, 0.0, 3.0, 0.0])).tolist() == [6, 3, 3, 1, 1]


def test_dates_are_the_exchanges_and_todays_bar_is_left_out(yahoo):
    today = pd.Timestamp.now(tz="UTC").tz_localize(None).normalize()
    yahoo[0]["SPY"] = history([today - pd.Timedelta(days=3), today], [1.0, 2.0])
    frame = yahoo_bars(("SPY",)).frame
    assert frame["date"].tolist() == [today - pd.Timedelta(days=3)]


def test_the_end_is_included(yahoo):
    yahoo[0]["SPY"] = history(DAYS, [1, 2, 3, 4])
    start, end = pd.Timestamp("2020-08-28").date(), pd.Timestamp("2020-08-31").date()
    assert len(yahoo_bars(("SPY",), start, end).frame) == 2
    assert yahoo[1][0][1]["auto_adjust"] is False


def test_a_split_after_the_end_is_taken_out_too(yahoo):
    """Bars until the 28th end before Apple's split of the 31st; Yahoo's closes know it, and the 28th could not."""
    yahoo[0]["AAPL"] = history(DAYS, [125.01, 124.81, 129.04, 134.18], [0, 0, 4, 0])
    bars = yahoo_bars(("AAPL",), None, pd.Timestamp("2020-08-28").date())
    assert bars.frame["close"].tolist() == pytest.approx([500.04, 499.24], abs=0.01)
    assert bars.as_traded and yahoo[1][0][1].get("end") is None


@pytest.mark.parametrize("answer", [ConnectionError("no route"), KeyError("chart")])
def test_a_failed_download_names_the_symbol_and_the_remedy(yahoo, answer):
    yahoo[0].update({"SPY": history(DAYS, [1, 2, 3, 4]), "QQQ": answer})
    with pytest.raises(UserError, match=r"could not download QQQ .*give a file with --bars FILE"):
        yahoo_bars(("SPY", "QQQ"))


def test_an_empty_answer_names_the_symbol(yahoo):
    yahoo[0]["NONE"] = history([], [])
    with pytest.raises(UserError, match="returned no bars of NONE"):
        yahoo_bars(("NONE",))
