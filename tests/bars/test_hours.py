"""Hours of exchanges: half days, holidays, summer time, and one second around the close."""

import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tactician.bars import hours, last_closed, local_times, next_to_close, session_after, trading_day
from tactician.bars.exchanges import known_range
from tactician.errors import UserError

SECOND = timedelta(seconds=1)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(day):
    return f"{day.date} {day.opens:%Y-%m-%d %H:%M} {day.closes:%Y-%m-%d %H:%M}"


@pytest.fixture
def here(monkeypatch):
    """Sets the computer's zone."""

    def put(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("calendar", "day", "expected"),
    [
        # The day after Thanksgiving and Christmas Eve end at 13:00 in New York, the days around at 16:00.
        ("XNYS", date(2026, 11, 25), "2026-11-25 2026-11-25 14:30 2026-11-25 21:00"),
        ("XNYS", date(2026, 11, 27), "2026-11-27 2026-11-27 14:30 2026-11-27 18:00"),
        ("XNYS", date(2026, 12, 24), "2026-12-24 2026-12-24 14:30 2026-12-24 18:00"),
        # New York's clock moved on 8 March and back on 1 November 2026, London's on 29 March and 25 October.
        ("XNYS", date(2026, 3, 6), "2026-03-06 2026-03-06 14:30 2026-03-06 21:00"),
        ("XNYS", date(2026, 3, 9), "2026-03-09 2026-03-09 13:30 2026-03-09 20:00"),
        ("XLON", date(2026, 3, 27), "2026-03-27 2026-03-27 08:00 2026-03-27 16:30"),
        ("XLON", date(2026, 3, 30), "2026-03-30 2026-03-30 07:00 2026-03-30 15:30"),
        # Tokyo closed at 15:00 until it moved to 15:30 on 5 November 2024; Bombay closes at 15:30.
        ("XTKS", date(2024, 11, 1), "2024-11-01 2024-11-01 00:00 2024-11-01 06:00"),
        ("XTKS", date(2026, 11, 27), "2026-11-27 2026-11-27 00:00 2026-11-27 06:30"),
        ("XBOM", date(2026, 11, 27), "2026-11-27 2026-11-27 03:45 2026-11-27 10:00"),
        ("24/7", date(2026, 12, 26), "2026-12-26 2026-12-26 00:00 2026-12-27 00:00"),
        ("bars", date(2026, 12, 25), "2026-12-25 2026-12-25 00:00 2026-12-26 00:00"),
    ],
)
def test_a_session_opens_and_closes_when_its_exchange_does(calendar, day, expected):
    session = trading_day(calendar, day)
    assert told(session) == expected
    assert session.opens.tzinfo is UTC and session.closes.tzinfo is UTC and type(session.closes) is datetime


@pytest.mark.parametrize(
    ("calendar", "day"),
    [
        ("XNYS", date(2026, 12, 25)),
        ("XNYS", date(2026, 11, 26)),
        ("XLON", date(2026, 12, 25)),
        ("XTKS", date(2027, 1, 1)),
        ("XBOM", date(2026, 12, 26)),
        ("bars", date(2026, 12, 26)),
    ],
)
def test_a_closed_exchange_has_no_session(calendar, day):
    assert trading_day(calendar, day) is None


@pytest.mark.parametrize(
    ("calendar", "close", "this", "following"),
    [
        ("XNYS", "2026-11-27 18:00", "2026-11-27", "2026-11-30"),
        ("XNYS", "2026-12-24 18:00", "2026-12-24", "2026-12-28"),
        ("XNYS", "2026-12-31 21:00", "2026-12-31", "2027-01-04"),
        ("XTKS", "2026-11-27 06:30", "2026-11-27", "2026-11-30"),
        ("XBOM", "2026-11-27 10:00", "2026-11-27", "2026-11-30"),
        ("24/7", "2027-01-01 00:00", "2026-12-31", "2027-01-01"),
        ("bars", "2026-11-28 00:00", "2026-11-27", "2026-11-30"),
    ],
)
def test_a_session_has_closed_from_the_second_of_its_close_on(calendar, close, this, following):
    before, now, after = at(close) - SECOND, at(close), at(close) + SECOND
    assert str(next_to_close(calendar, before).date) == this and str(last_closed(calendar, before).date) < this
    for moment in (now, after):
        assert (str(last_closed(calendar, moment).date), str(next_to_close(calendar, moment).date)) == (this, following)


def test_a_moment_counts_whatever_its_zone():
    tokyo = datetime(2026, 11, 28, 3, 0, tzinfo=timezone(timedelta(hours=9)))
    assert str(last_closed("XNYS", tokyo).date) == "2026-11-27"
    assert next_to_close("XNYS", tokyo - SECOND).closes == tokyo


def test_the_first_session_of_a_year_has_the_last_ones_year_before_it():
    assert str(last_closed("XNYS", at("2027-01-03 12:00")).date) == "2026-12-31"


@pytest.mark.parametrize(
    ("calendar", "day", "n", "expected"),
    [
        ("XNYS", date(2026, 11, 25), 1, "2026-11-27"),
        ("XNYS", date(2026, 11, 26), 1, "2026-11-27"),
        ("XNYS", date(2026, 11, 25), 2, "2026-11-30"),
        ("XNYS", date(2026, 12, 24), 5, "2027-01-04"),
        # 2025 had 250 sessions: New York closed on 9 January for a president's funeral.
        ("XNYS", date(2024, 12, 31), 252, "2026-01-05"),
        ("24/7", date(2026, 12, 31), 1, "2027-01-01"),
        ("bars", date(2026, 11, 27), 1, "2026-11-30"),
    ],
)
def test_sessions_after_a_date_are_counted(calendar, day, n, expected):
    assert str(session_after(calendar, day, n)) == expected


@pytest.mark.parametrize("n", [0, -1])
def test_no_session_is_counted_backwards(n):
    with pytest.raises(ValueError, match="at least 1"):
        session_after("XNYS", date(2026, 11, 25), n)


@pytest.mark.parametrize("ask", [next_to_close, last_closed, local_times])
def test_a_moment_without_a_zone_is_refused(ask):
    with pytest.raises(ValueError, match="has no time zone"):
        ask("XNYS", datetime(2026, 11, 27, 12, 0))


def test_what_a_calendar_does_not_cover_is_refused_in_one_sentence():
    low, high = (day.date() for day in known_range("XBOM"))
    late, early = datetime(high.year + 1, 2, 1, tzinfo=UTC), datetime(low.year - 1, 12, 1, tzinfo=UTC)
    asked = [
        lambda: trading_day("XBOM", high + timedelta(days=1)),
        lambda: trading_day("XBOM", low - timedelta(days=1)),
        lambda: session_after("XBOM", high - timedelta(days=7), 9),
        lambda: session_after("XBOM", high),
        lambda: session_after("XBOM", low - timedelta(days=1)),
        lambda: next_to_close("XBOM", datetime(high.year, 12, 31, 18, 0, tzinfo=UTC)),
        *(lambda ask=ask, now=now: ask("XBOM", now) for ask in (next_to_close, last_closed) for now in (late, early)),
        lambda: last_closed("XBOM", datetime(low.year, 1, 1, 0, 0, tzinfo=UTC)),
    ]
    for ask in asked:
        with pytest.raises(UserError, match=r"^calendar: XBOM covers [^.]*; upgrade the package [^.]*\.$"):
            ask()
    with pytest.raises(UserError, match=r"no usable exchange calendar 'NYSE5'"):
        last_closed("NYSE5", late)


@pytest.mark.parametrize(
    ("calendar", "zone", "moment", "expected"),
    [
        ("XNYS", "Europe/Berlin", "2026-11-27 20:45", "2026-11-27 15:45 EST (21:45 CET here)"),
        ("XNYS", "America/New_York", "2026-07-01 19:45", "2026-07-01 15:45 EDT"),
        ("XNYS", "America/Toronto", "2026-07-01 19:45", "2026-07-01 15:45 EDT"),
        ("XLON", "UTC", "2026-11-27 16:30", "2026-11-27 16:30 GMT"),
        ("XLON", "UTC", "2026-07-01 15:30", "2026-07-01 16:30 BST (15:30 UTC here)"),
        # Between 25 October and 1 November the two clocks are four hours apart instead of five.
        ("XNYS", "Europe/London", "2026-10-28 20:00", "2026-10-28 16:00 EDT (20:00 GMT here)"),
        ("XNYS", "Europe/London", "2026-11-04 21:00", "2026-11-04 16:00 EST (21:00 GMT here)"),
        ("XTKS", "America/Los_Angeles", "2026-11-27 06:30", "2026-11-27 15:30 JST (2026-11-26 22:30 PST here)"),
        ("BVMF", "Asia/Kolkata", "2026-11-27 12:00", "2026-11-27 09:00 UTC-03 (17:30 IST here)"),
        ("24/7", "UTC", "2026-11-27 12:00", "2026-11-27 12:00 UTC"),
        ("bars", "Asia/Tokyo", "2026-11-27 12:00", "2026-11-27 12:00 UTC (21:00 JST here)"),
    ],
)
def test_a_moment_is_told_by_both_clocks(here, calendar, zone, moment, expected):
    here(zone)
    assert local_times(calendar, at(moment)) == expected


@settings(deadline=None)  # the first look at a year builds its calendar
@given(
    some.sampled_from(["XNYS", "XLON", "XTKS", "24/7", "bars"]),
    some.datetimes(datetime(2023, 12, 20), datetime(2025, 1, 10), timezones=some.just(UTC)),
)
def test_the_last_closed_and_the_next_to_close_are_neighbours(calendar, now):
    last, following = last_closed(calendar, now), next_to_close(calendar, now)
    assert last.closes <= now < following.closes and last.closes <= following.opens < following.closes
    assert session_after(calendar, last.date) == following.date
    assert trading_day(calendar, last.date) == last and trading_day(calendar, following.date) == following
    between = (last.date + timedelta(days=k) for k in range(1, (following.date - last.date).days))
    assert all(trading_day(calendar, day) is None for day in between)


def test_calendars_are_kept_but_not_for_ever():
    hours._year.cache_clear()
    for year in range(1900, 2000):
        trading_day("bars", date(year, 1, 1))
        trading_day("bars", date(year, 7, 1))
    assert hours._year.cache_info().hits == 100 and hours._year.cache_info().currsize == 64
