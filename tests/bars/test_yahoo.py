"""Yahoo's bars through a yfinance that never leaves the house."""

import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tactician.bars import SOURCES, read_source
from tactician.bars.exchanges import known_range
from tactician.bars.sources import finished
from tactician.bars.yahoo import later_splits
from tactician.config import load_config
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


@pytest.fixture
def clock(monkeypatch):
    """Sets what time it is for the readers, in UTC."""

    def put(moment):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone(tz)

        monkeypatch.setattr("tactician.bars.yahoo.datetime", Clock)
        monkeypatch.setattr("tactician.bars.sources.datetime", Clock)

    return put


def wanted(calendar="XNYS", *symbols, **changes):
    universe = {"all": list(symbols or ("SPY",))}
    return load_config(
        "configs/embedded_sp500.yaml",
        {"bars": "yfinance", "calendar": calendar, "universe": universe, "start": None, "end": None, **changes},
    )


def last(bars, symbol="SPY"):
    return str(bars.frame[bars.frame["symbol"] == symbol]["date"].max().date())


WEEK = pd.bdate_range("2026-11-23", "2026-11-30")


@pytest.mark.parametrize(
    ("moment", "calendar", "zone", "expected"),
    [
        # The day after Thanksgiving ends at 18:00 UTC.
        ("2026-11-27 17:59:59", "XNYS", "America/New_York", "2026-11-26"),
        ("2026-11-27 18:00:00", "XNYS", "America/New_York", "2026-11-27"),
        ("2026-11-28 01:00:00", "XNYS", "America/New_York", "2026-11-27"),
        ("2026-11-29 12:00:00", "XNYS", "America/New_York", "2026-11-27"),
        ("2026-11-27 06:29:59", "XTKS", "Asia/Tokyo", "2026-11-26"),
        ("2026-11-27 06:30:00", "XTKS", "Asia/Tokyo", "2026-11-27"),
        # What trades around the clock moves until midnight, and so may what trades elsewhere until its own midnight.
        ("2026-11-27 23:59:59", "24/7", "UTC", "2026-11-26"),
        ("2026-11-28 00:00:00", "24/7", "UTC", "2026-11-27"),
        ("2026-11-27 23:59:59", "XNYS", "UTC", "2026-11-26"),
        ("2026-11-28 00:00:00", "XNYS", "UTC", "2026-11-27"),
        ("2026-11-27 17:00:00", "XLON", "America/New_York", "2026-11-26"),
        ("2026-11-28 04:59:59", "XLON", "America/New_York", "2026-11-26"),
        ("2026-11-28 05:00:00", "XLON", "America/New_York", "2026-11-27"),
        ("2026-11-27 23:59:59", "bars", "America/New_York", "2026-11-26"),
        ("2026-11-28 05:00:00", "bars", "America/New_York", "2026-11-27"),
    ],
)
def test_a_bar_is_read_once_it_moves_no_more(yahoo, clock, moment, calendar, zone, expected):
    days = WEEK[
        pd.DatetimeIndex([f"{day:%Y-%m-%d} 00:00" for day in WEEK]).tz_localize(zone) <= pd.Timestamp(moment, tz="UTC")
    ]
    yahoo[0]["SPY"] = history(days, np.arange(1.0, len(days) + 1), zone=zone)
    clock(moment)
    assert last(read_source(wanted(calendar))) == expected


def test_beyond_its_exchanges_calendar_the_days_before_today_are_read(yahoo, clock):
    _, high = known_range("XSHG")
    today = high + pd.Timedelta(days=60)
    days = pd.date_range(today - pd.Timedelta(days=5), today)
    yahoo[0]["SPY"] = history(days, np.arange(1.0, 7.0), zone="Asia/Shanghai")
    clock(f"{today:%Y-%m-%d} 12:00")
    assert last(read_source(wanted("XSHG"))) == f"{days[-2]:%Y-%m-%d}"


def test_the_evening_of_a_day_off_is_counted_by_the_exchanges_date():
    """It is Sunday in UTC, and still Saturday in New York."""
    assert str(finished("XNYS", datetime(2026, 11, 29, 1, 0, tzinfo=UTC))) == "2026-11-27"


def test_the_end_of_a_configuration_goes_before_a_later_session(yahoo, clock):
    yahoo[0]["SPY"] = history(WEEK, np.arange(1.0, 7.0))
    clock("2026-11-28 12:00")
    assert last(read_source(wanted(end="2026-11-25"))) == "2026-11-25"


def test_a_part_holds_the_running_bar_of_the_exchange_and_no_other(yahoo, clock):
    """Its reader knows when the exchange closes, and cuts it there."""
    yahoo[0]["SPY"] = history(WEEK[:5], np.arange(1.0, 6.0))
    yahoo[0]["BTC-USD"] = history(WEEK[:5], np.arange(1.0, 6.0), zone="UTC")
    clock("2026-11-27 15:00")
    since = SOURCES["yfinance"].since
    assert last(since(wanted(), "SPY", WEEK[1].date())) == "2026-11-27"
    assert last(since(wanted(), "BTC-USD", None), "BTC-USD") == "2026-11-26"
    assert [asked["start"] for _, asked in yahoo[1]] == ["2026-11-24", "1990-01-01"]


def test_an_unknown_calendar_is_told_before_anything_is_downloaded(yahoo):
    with pytest.raises(UserError, match="no usable exchange calendar 'NYSE5'"):
        read_source(wanted("NYSE5"))
    assert yahoo[1] == []
