"""Which days were sessions: by the exchange's calendar as far as it reaches, and by the bars."""

import numpy as np
import pandas as pd
import pytest

from tactician.bars.exchanges import exchange_zone, known_range, sessions_per_year
from tactician.errors import UserError
from tactician.market import build_market, check_bars, make_bars
from tactician.market.calendar import agree, attendance
from tests.conftest import exchange_sessions


def sessions_of(calendar: str, first: str, last: str) -> pd.DatetimeIndex:
    return exchange_sessions(calendar, first, last).astype("datetime64[ns]")


def bars_on(days: pd.DatetimeIndex, symbols: str = "ABC", seed: int = 0) -> pd.DataFrame:
    """Random walks on some days, closes only."""
    rng = np.random.default_rng(seed)
    frames = []
    for symbol in symbols:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
        frames.append(pd.DataFrame({"date": days, "symbol": symbol, "close": close, "adj_close": close}))
    return pd.concat(frames)


def checked(frame: pd.DataFrame, calendar: str):
    return check_bars(make_bars(frame, "test"), calendar)


def names(result) -> set[str]:
    return {f.name for f in result.findings}


@pytest.mark.parametrize(
    ("calendar", "zone"),
    [
        ("XNYS", "America/New_York"),
        ("NYSE", "America/New_York"),
        ("XLON", "Europe/London"),
        ("XBOM", "Asia/Kolkata"),
        ("BSE", "Asia/Kolkata"),
        ("XTKS", "Asia/Tokyo"),
        ("24/7", "UTC"),
        ("bars", "UTC"),
    ],
)
def test_the_zone_of_an_exchange(calendar, zone):
    assert exchange_zone(calendar) == zone


@pytest.mark.parametrize(
    ("calendar", "hint"),
    [
        ("XNSE", "XBOM"),
        ("xlon", "XLON"),
        ("XETRA", "XETR"),
        ("crypto", "24/7"),
        ("!!!", "ISO 10383"),
        ("", "ISO 10383"),
    ],
)
def test_an_unknown_exchange_is_refused_with_the_nearest_ones(calendar, hint):
    with pytest.raises(UserError, match=f"no usable exchange calendar '{calendar}'; use .*{hint}"):
        exchange_zone(calendar)
    with pytest.raises(UserError, match=hint):
        checked(bars_on(sessions_of("XNYS", "2020-01-02", "2020-03-31")), calendar)


@pytest.mark.parametrize(
    ("calendar", "count"), [("XNYS", 252), ("24/7", 365), ("XLON", 253), ("XTKS", 245), ("XSAU", 250), ("NYSE", 252)]
)
def test_sessions_of_a_year_are_the_exchanges_and_not_the_datas(calendar, count):
    assert sessions_per_year(calendar) == count


def test_a_market_of_a_few_weeks_has_the_same_year():
    days = sessions_of("XNYS", "2020-11-02", "2020-12-31")
    assert checked(bars_on(days), "XNYS").sessions.per_year == 252


def test_a_market_that_is_open_every_day():
    days = pd.date_range("2021-01-01", "2022-12-31").astype("datetime64[ns]")
    sessions = agree(attendance(make_bars(bars_on(days), "test").frame), "24/7", "test").sessions
    assert len(sessions.dates) == 730 and (sessions.days_to_next == 1).all() and sessions.per_year == 365


def test_bars_up_to_the_end_of_what_a_calendar_knows():
    _, high = known_range("XSHG")
    days = sessions_of("XSHG", f"{high.year}-01-05", f"{high:%Y-%m-%d}")
    result = checked(bars_on(days), "XSHG")
    assert result.sessions.dates.equals(days) and names(result) == set()
    assert result.sessions.days_to_next[-1] == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3}[days[-1].dayofweek]


def test_beyond_the_calendar_the_bars_say_what_was_a_session():
    low, _ = known_range("XTKS")
    early = pd.bdate_range("1996-10-01", "1996-12-27").astype("datetime64[ns]")
    days = early.append(sessions_of("XTKS", f"{low:%Y-%m-%d}", "1997-12-30"))
    frame = bars_on(days)
    stray = frame[(frame["symbol"] == "A") & (frame["date"] == "1996-12-27")].assign(date=pd.Timestamp("1996-12-28"))
    result = checked(pd.concat([frame, stray]), "XTKS")
    assert result.sessions.dates.equals(days) and names(result) == {"outside_calendar", "not_a_session"}
    told = next(f for f in result.findings if f.name == "outside_calendar")
    assert told.count == len(early) and told.date == "1996-10-01"


def test_bars_wholly_beyond_the_calendar():
    days = pd.bdate_range("1990-01-01", "1990-12-28").astype("datetime64[ns]")
    result = checked(bars_on(days), "XTKS")
    assert len(result.sessions.dates) == len(days) and result.sessions.days_to_next[-1] == 3
    assert result.sessions.per_year == 245


@pytest.mark.parametrize("weekday", range(5))
def test_days_to_the_next_session_jump_the_weekend_where_no_calendar_says_it(weekday):
    last = pd.Timestamp("2020-06-01") + pd.Timedelta(days=weekday)
    days = pd.bdate_range("2020-01-01", last).astype("datetime64[ns]")
    assert checked(bars_on(days), "bars").sessions.days_to_next[-1] == (3 if weekday == 4 else 1)


SATURDAY = pd.Timestamp("2020-02-01")


def test_a_saturday_on_which_the_exchange_traded_is_a_session():
    days = sessions_of("XBOM", "2020-01-01", "2020-03-31")
    assert SATURDAY not in days
    days = days.append(pd.DatetimeIndex([SATURDAY])).sort_values()
    result = checked(bars_on(days), "XBOM")
    assert SATURDAY in result.sessions.dates and names(result) == {"extra_session"}
    friday = result.sessions.dates.get_loc(SATURDAY) - 1
    assert result.sessions.days_to_next[friday : friday + 2].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("symbols", "with_bar", "session"), [("ABCD", "AB", True), ("ABCDE", "AB", False), ("AB", "A", False)]
)
def test_half_of_the_listed_assets_and_two_of_them_make_a_session(symbols, with_bar, session):
    days = sessions_of("XBOM", "2020-01-01", "2020-03-31")
    frame = bars_on(days, symbols)
    extra = bars_on(pd.DatetimeIndex([SATURDAY]), with_bar, seed=9)
    result = checked(pd.concat([frame, extra]), "XBOM")
    assert (SATURDAY in result.sessions.dates) == session
    assert names(result) == ({"extra_session", "missing_sessions"} if session else {"not_a_session"})


def test_assets_that_are_not_listed_yet_do_not_count():
    days = sessions_of("XBOM", "2020-01-01", "2020-06-30")
    early = days.append(pd.DatetimeIndex([SATURDAY])).sort_values()
    frame = pd.concat([bars_on(early, "AB"), bars_on(days[days > "2020-04-01"], "CDEFGH")])
    assert SATURDAY in checked(frame, "XBOM").sessions.dates


def test_assets_that_are_delisted_do_not_count():
    days = sessions_of("XBOM", "2019-06-03", "2020-06-30")
    late = days.append(pd.DatetimeIndex([SATURDAY])).sort_values()
    frame = pd.concat([bars_on(late, "AB"), bars_on(days[days < "2020-01-01"], "CDEFGH")])
    assert SATURDAY in checked(frame, "XBOM").sessions.dates


def test_closes_that_only_repeat_make_no_session():
    """Feeds deliver the last close, without volume, on holidays: for every asset."""
    days = sessions_of("XLON", "2020-04-01", "2020-07-31")
    holiday = pd.Timestamp("2020-05-25")
    assert holiday not in days
    frame = bars_on(days).assign(volume=1e5)
    ghosts = frame[frame["date"] == "2020-05-22"].assign(date=holiday, volume=0.0)
    for ghost in (ghosts, ghosts.drop(columns="volume")):
        whole = pd.concat([frame if "volume" in ghost else frame.drop(columns="volume"), ghost])
        result = checked(whole, "XLON")
        assert holiday not in result.sessions.dates and names(result) == {"not_a_session"}
        assert len(result.bars.frame) == len(frame)


def test_a_session_without_any_bar_is_none_and_is_told():
    days = sessions_of("XNYS", "2020-01-02", "2020-06-30")
    frame = bars_on(days.drop([days[10], days[50]]))
    result = checked(frame, "XNYS")
    assert names(result) == {"empty_session"} and len(result.sessions.dates) == len(days) - 2
    assert result.sessions.days_to_next[9] == (days[11] - days[9]).days
    market = build_market(make_bars(frame, "test"))
    assert market.fillable.any(1).all()


@pytest.mark.parametrize("calendar", ["XNYS", "bars"])
def test_a_year_without_any_bar_is_a_hole_and_no_other_calendar(calendar):
    days = sessions_of("XNYS", "2010-01-04", "2013-12-31")
    kept = days[(days < "2011-06-01") | (days > "2012-05-31")]
    result = checked(bars_on(kept), calendar)
    assert "hole" in {f.name for f in result.findings} and list(result.sessions.dates) == list(kept)
    assert result.sessions.per_year == 252


def test_months_without_any_bar_are_told_and_no_sessions():
    days = sessions_of("XNYS", "2018-01-02", "2020-06-30")
    kept = days[(days < "2019-02-01") | (days > "2019-04-01")]
    result = checked(bars_on(kept), "XNYS")
    (hole,) = [f for f in result.findings if f.name == "hole"]
    assert "2019-01-31 is followed by days" in hole.message and "61 days" in hole.message
    assert list(result.sessions.dates) == list(kept)


@pytest.mark.parametrize(
    ("real", "asked"),
    [("XLON", "XNYS"), ("XNYS", "XLON"), ("XBOM", "XNYS"), ("24/7", "XNYS"), ("XNYS", "24/7"), ("XETR", "XHKG")],
)
def test_a_calendar_of_another_exchange_stops_and_the_right_one_is_named(real, asked):
    days = sessions_of(real, "2018-01-02", "2018-12-28")
    with pytest.raises(UserError, match=rf"\[wrong_calendar\].*set calendar: {real}") as caught:
        checked(bars_on(days), asked)
    assert len(str(caught.value).splitlines()) == 1


def test_an_exchange_that_is_not_among_the_familiar_ones_is_sent_to_its_own_calendar_or_the_bars():
    days = sessions_of("24/7", "2018-01-02", "2019-12-28")
    days = days[days.dayofweek.isin([6, 0, 1, 2, 3])]  # Sunday to Thursday
    with pytest.raises(UserError, match=r"\[wrong_calendar\].*to bars"):
        checked(bars_on(days), "XNYS")
    result = checked(bars_on(days), "bars")
    assert result.sessions.dates.equals(days) and result.sessions.per_year == pytest.approx(261, abs=1)
    assert names(result) == set()


def test_coins_beside_stocks_lose_their_weekends():
    frame = pd.concat(
        [
            bars_on(sessions_of("XNYS", "2020-01-02", "2020-12-31"), "ABC"),
            bars_on(pd.date_range("2020-01-02", "2020-12-31"), "Z"),
        ]
    )
    result = checked(frame, "XNYS")
    assert names(result) == {"not_a_session"} and len(result.sessions.dates) == 253


def test_the_bars_calendar_takes_days_with_half_of_the_listed_assets():
    days = pd.date_range("2020-01-01", "2021-12-31").astype("datetime64[ns]")
    frame = bars_on(days, "ABC")
    lone = (frame["date"] == "2020-05-05") & (frame["symbol"] != "A")
    half = (frame["date"] == "2020-06-05") & (frame["symbol"] == "C")
    result = checked(frame[~lone & ~half], "bars")
    assert pd.Timestamp("2020-05-05") not in result.sessions.dates
    assert pd.Timestamp("2020-06-05") in result.sessions.dates
    assert result.sessions.per_year == 365 and result.sessions.days_to_next[-1] == 1
    assert result.sessions.days_to_next.sum() == 731


def test_a_short_history_on_weekdays_has_252_sessions_a_year_by_its_bars():
    assert checked(bars_on(pd.bdate_range("2020-01-01", "2020-06-30")), "bars").sessions.per_year == 252


def test_no_bar_on_any_session():
    with pytest.raises(UserError, match="no bar on a session of calendar XNYS"):
        checked(bars_on(pd.DatetimeIndex(["2020-01-04"])), "XNYS")


WEEKDAYS = sessions_of("XNYS", "2018-01-02", "2021-12-31")
EVERY_DAY = pd.date_range("2018-01-01", "2021-12-31").astype("datetime64[ns]")


@pytest.mark.parametrize("stocks", ["AB", "ABC", "A"])
@pytest.mark.parametrize("first", ["2018-01-01", "2014-01-01"])
def test_as_many_coins_as_stocks_make_no_weekend_a_session(stocks, first):
    coins = pd.date_range(first, "2021-12-31").astype("datetime64[ns]")
    result = checked(pd.concat([bars_on(WEEKDAYS, stocks), bars_on(coins, "YZ", seed=1)]), "XNYS")
    assert result.sessions.dates.equals(sessions_of("XNYS", first, "2021-12-31"))
    assert names(result) - {"late_listing"} == {"not_a_session"}


def test_coins_do_not_outvote_stocks_when_some_of_these_end():
    frame = [bars_on(WEEKDAYS, "A"), bars_on(WEEKDAYS[:400], "BC", 1), bars_on(EVERY_DAY, "YZ", 2)]
    result = checked(pd.concat(frame), "XNYS")
    assert result.sessions.dates.equals(WEEKDAYS) and names(result) == {"not_a_session", "early_end"}


def test_a_special_session_beside_coins_is_one():
    days = sessions_of("XBOM", "2020-01-01", "2020-06-30").append(pd.DatetimeIndex([SATURDAY])).sort_values()
    coins = pd.date_range("2020-01-01", "2020-06-30").astype("datetime64[ns]")
    result = checked(pd.concat([bars_on(days, "ABC"), bars_on(coins, "VWXYZ", 1)]), "XBOM")
    assert SATURDAY in result.sessions.dates and names(result) == {"extra_session", "not_a_session"}


@pytest.mark.parametrize(("good", "off"), [("AB", "YZ"), ("ABC", "Z"), ("A", "XYZ")])
@pytest.mark.parametrize(("shift", "words"), [(-1, "a day early"), (1, "a day late")])
def test_assets_with_dates_off_by_a_day_stop_and_are_named(good, off, shift, words):
    late = bars_on(WEEKDAYS, off, seed=1)
    late["date"] += pd.Timedelta(days=shift)
    with pytest.raises(UserError, match=r"\[too_many_repairs\]") as caught:
        checked(pd.concat([bars_on(WEEKDAYS, good), late]), "XNYS")
    assert f"dates of {', '.join(off)}, which look {words}" in str(caught.value)


def test_a_universe_of_which_all_dates_are_off_by_a_day_is_told_so():
    frame = bars_on(WEEKDAYS)
    frame["date"] -= pd.Timedelta(days=1)
    with pytest.raises(UserError, match=r"\[wrong_calendar\]; correct the dates if they are a day early"):
        checked(frame, "XNYS")


def test_stocks_of_two_exchanges_have_the_sessions_of_the_one_asked_for():
    tokyo = sessions_of("XTKS", "2018-01-02", "2021-12-31")
    result = checked(pd.concat([bars_on(WEEKDAYS, "AB"), bars_on(tokyo, "YZ", 1)]), "XNYS")
    assert result.sessions.dates.equals(WEEKDAYS) and "extra_session" not in names(result)


def test_a_wrong_calendar_stops_also_where_most_assets_lived_for_months_only():
    london = sessions_of("XLON", "2018-01-02", "2021-12-31")
    young = [bars_on(london[k : k + 120], symbol, k) for k, symbol in zip((0, 200, 400, 600), "VWXY", strict=True)]
    with pytest.raises(UserError, match="set calendar: XLON"):
        checked(pd.concat([bars_on(london, "AB"), *young]), "XNYS")


def test_the_bars_calendar_is_never_sent_to_the_bars():
    days = pd.date_range("2020-01-01", "2020-12-31").astype("datetime64[ns]")
    alone = bars_on(days[days.dayofweek == 6].union(days[::3]), "Z", 1)
    with pytest.raises(UserError, match=r"\[too_many_repairs\]") as caught:
        checked(pd.concat([bars_on(pd.bdate_range("2020-01-01", "2020-12-31"), "ABC"), alone]), "bars")
    assert "to bars" not in str(caught.value) and "set 'calendar' to that of the exchange" in str(caught.value)
