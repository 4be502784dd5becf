"""Hours: when an exchange is open, session by session. All times are UTC and carry their zone."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import chain, islice
from zoneinfo import ZoneInfo

import pandas as pd

from tactician.bars.exchanges import FROM_BARS, exchange_zone, hours_between, known_range
from tactician.errors import UserError

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TradingDay:
    """One session of an exchange.

    The calendar '24/7' has a session on each day, from midnight to midnight in UTC. The calendar 'bars' knows no exchange: each
    weekday counts as a session that opens at 0:00 UTC and closes at 24:00 UTC.
    """

    date: date
    """The exchange's local date."""
    opens: datetime
    """UTC. A futures exchange may open on the evening before."""
    closes: datetime
    """UTC. A half day closes early."""


def trading_day(calendar: str, day: date) -> TradingDay | None:
    """The session of a date; None if the exchange is closed on it.

    Raises:
        UserError: no such calendar, or it does not cover the date.
    """
    _require(calendar, day)
    return next((session for session in _year(calendar, day.year) if session.date == day), None)


def next_to_close(calendar: str, now: datetime) -> TradingDay:
    """The first session that closes after a moment: the running one, or else the next.

    Raises:
        ValueError: the moment has no zone.
        UserError: no such calendar, or it does not cover the moment and that session.
    """
    today = _local_date(calendar, now)
    _require(calendar, today)
    # No session closes later than at the midnight that ends its date, so today's is the first one that can.
    for session in _from(calendar, today):
        if session.closes > now:
            return session
    raise _beyond(calendar, today)


def last_closed(calendar: str, now: datetime) -> TradingDay:
    """The last session that has closed at a moment; a session that closes at the moment itself has closed.

    Raises:
        ValueError: the moment has no zone.
        UserError: no such calendar, or it does not cover the moment, or begins after it.
    """
    today = _local_date(calendar, now)
    _require(calendar, today)
    low, _ = known_range(calendar)
    for year in range(today.year, low.year - 1, -1):
        sessions = _year(calendar, year)
        if closed := bisect_right(sessions, now, key=lambda session: session.closes):
            return sessions[closed - 1]
    raise _beyond(calendar, today)


def session_after(calendar: str, day: date, n: int = 1) -> date:
    """The n-th session after a date, which need not be a session.

    Raises:
        ValueError: n is below 1.
        UserError: no such calendar, or it does not cover the date and that session.
    """
    if n < 1:
        raise ValueError(f"the n-th session after a date has n of at least 1, not {n}")
    _require(calendar, day)
    found = next(islice(_from(calendar, day + _DAY), n - 1, None), None)
    if found is None:
        raise _beyond(calendar, day + _DAY)
    return found.date


def local_times(calendar: str, moment: datetime) -> str:
    """A moment by the exchange's clock and by the computer's: "2026-11-27 15:45 EST (21:45 CET here)".

    The second one is left out if both clocks show the same. It has a date if that is another one.

    Raises:
        ValueError: the moment has no zone.
        UserError: no such calendar.
    """
    _require_zone(moment)
    there, here = moment.astimezone(ZoneInfo(exchange_zone(calendar))), moment.astimezone()
    told = f"{there:%Y-%m-%d %H:%M} {_zone_name(there)}"
    if there.replace(tzinfo=None) == here.replace(tzinfo=None):
        return told
    day = "" if there.date() == here.date() else f"{here:%Y-%m-%d} "
    return f"{told} ({day}{here:%H:%M} {_zone_name(here)} here)"


def _zone_name(moment: datetime) -> str:
    """A zone's short name. Zones without one are named by their distance from UTC, as in UTC-03."""
    name = moment.tzname() or ""
    return f"UTC{name}" if name.startswith(("+", "-")) else name


@lru_cache(maxsize=64)
def _year(calendar: str, year: int) -> tuple[TradingDay, ...]:
    """The sessions of a year, in order. Building a calendar takes a tenth of a second to some seconds."""
    first, last = pd.Timestamp(year, 1, 1), pd.Timestamp(year, 12, 31)
    if calendar == FROM_BARS:
        weekdays = [day.date() for day in pd.bdate_range(first, last)]
        midnights = [datetime.combine(day, time(), UTC) for day in weekdays]
        return tuple(TradingDay(day, at, at + _DAY) for day, at in zip(weekdays, midnights, strict=True))
    hours = hours_between(calendar, first, last)
    opens, closes = (pd.DatetimeIndex(hours[name]).tz_convert(UTC).to_pydatetime() for name in ("open", "close"))
    return tuple(map(TradingDay, [day.date() for day in hours.index], opens, closes))


def _from(calendar: str, day: date) -> Iterator[TradingDay]:
    """The sessions from a date on, as far as the calendar knows."""
    _, high = known_range(calendar)
    years = (_year(calendar, year) for year in range(day.year, high.year + 1))
    return (session for session in chain.from_iterable(years) if session.date >= day)


def _local_date(calendar: str, now: datetime) -> date:
    _require_zone(now)
    return now.astimezone(ZoneInfo(exchange_zone(calendar))).date()


def _require_zone(moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} has no time zone; give one, such as UTC")


def _require(calendar: str, day: date) -> None:
    """Refuse a date that a calendar does not cover."""
    low, high = known_range(calendar)
    if not low.date() <= day <= high.date():
        raise _beyond(calendar, day)


def _beyond(calendar: str, day: date) -> UserError:
    low, high = known_range(calendar)
    return UserError(
        f"calendar: {calendar} covers {low:%Y-%m-%d} to {high:%Y-%m-%d}, and not all sessions around {day} lie in it; upgrade "
        "the package exchange-calendars, or set calendar to 'bars'."
    )
