"""Exchanges: names, time zones, sessions, and how far their calendars reach."""

import difflib
import warnings
from functools import lru_cache
from typing import Any

import pandas as pd

from tactician.errors import UserError

FROM_BARS = "bars"
"""The calendar that takes the sessions from the bars."""
FAMILIAR = ("XNYS", "XLON", "XBOM", "XTKS", "XHKG", "XSHG", "XETR", "XPAR", "XASX", "XTSE", "BVMF", "XKRX", "24/7")
"""Calendars that are tried when bars do not fit the one that was asked for."""
_OTHER_NAMES = {
    "XNSE": "XBOM",
    "NSE": "XBOM",
    "XETRA": "XETR",
    "EURONEXT": "XPAR",
    "AMEX": "XNYS",
    "US": "XNYS",
    "B3": "BVMF",
    "CRYPTO": "24/7",
}
"""Common names that no calendar has. The National Stock Exchange of India keeps Bombay's sessions."""
_EARLIEST, _LATEST = pd.Timestamp("1900-01-01"), pd.Timestamp("2200-01-01")
"""The rules of a calendar without bounds of its own are trusted between these dates."""
_DECADE = pd.Timestamp("2010-01-01"), pd.Timestamp("2019-12-31")
"""Period over which the sessions per year are counted. It is fixed, so that the figure does not depend on the bars."""
_MONTH = pd.Timedelta(days=31)


def exchange_zone(calendar: str) -> str:
    """IANA zone in which the exchange's dates are counted; UTC for '24/7' and for 'bars'.

    Raises:
        UserError: no such calendar; the message names the nearest known ones.
    """
    return "UTC" if calendar == FROM_BARS else str(_sample(calendar).tz)


def known_range(calendar: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last date that an exchange's calendar covers; the widest range for 'bars'.

    Raises:
        UserError: no such calendar.
    """
    if calendar == FROM_BARS:
        return _EARLIEST, _LATEST
    kind = type(_sample(calendar))
    low, high = kind.bound_min(), kind.bound_max()
    return _EARLIEST if low is None else low, _LATEST if high is None else high


def sessions_between(calendar: str, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
    """An exchange's sessions between two dates, both included, as far as its calendar knows them.

    Raises:
        UserError: no such calendar.
    """
    return hours_between(calendar, first, last).index


def hours_between(calendar: str, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """When an exchange opens and closes, by session, as far as its calendar knows. Half days close early.

    Returns:
        Columns ``open`` and ``close`` (datetime64[ns, UTC]); the index holds the sessions between the two dates, both included
        (datetime64[ns], midnight, no zone).

    Raises:
        UserError: no such calendar.
    """
    low, high = known_range(calendar)
    first, last = max(first, low), min(last, high)
    if first > last:
        none = pd.DatetimeIndex([], dtype="datetime64[ns]")
        return pd.DataFrame({"open": none.tz_localize("UTC"), "close": none.tz_localize("UTC")}, index=none)
    # The library refuses a period without a session, so a month is added at both ends.
    every = _calendar(calendar, max(first - _MONTH, low), min(last + _MONTH, high)).schedule[["open", "close"]]
    every.index = every.index.astype("datetime64[ns]")
    return every[(every.index >= first) & (every.index <= last)]


@lru_cache
def sessions_per_year(calendar: str) -> int:
    """Sessions per year of an exchange: the rounded mean over 2010 to 2019, or over the part that its calendar covers.

    Raises:
        UserError: no such calendar.
    """
    low, high = known_range(calendar)
    first, last = max(_DECADE[0], low), min(_DECADE[1], high)
    if last - first < pd.Timedelta(days=364):  # a calendar that begins later
        first, last = low, low + pd.Timedelta(days=3 * 365)
    years = ((last - first).days + 1) / 365.25
    return round(len(sessions_between(calendar, first, last)) / years)


@lru_cache
def _sample(calendar: str) -> Any:
    """A short calendar of an exchange, for what does not depend on dates."""
    import exchange_calendars  # a second to import

    if calendar not in exchange_calendars.get_calendar_names():
        raise UserError(
            f"calendar: there is no usable exchange calendar '{calendar}'; use {_hint(calendar, exchange_calendars)}, or "
            "'bars' to take the sessions from the bars."
        )
    return _calendar(calendar, pd.Timestamp("2021-01-01"), pd.Timestamp("2021-12-31"))


def _hint(calendar: str, library: Any) -> str:
    wanted = calendar.strip().upper()
    known = library.get_calendar_names()
    near = [_OTHER_NAMES[wanted]] if wanted in _OTHER_NAMES else difflib.get_close_matches(wanted, known, 3, 0.5)
    return " or ".join(near) or "the exchange's ISO 10383 code, such as XNYS"


@lru_cache(maxsize=16)
def _calendar(calendar: str, first: pd.Timestamp, last: pd.Timestamp) -> Any:
    """A calendar takes tenths of a second to make, and a market is built of the same dates many times in a search for leaks."""
    import exchange_calendars

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return exchange_calendars.get_calendar(calendar, start=first, end=last)
