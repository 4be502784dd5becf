"""Sessions: the days on which a market was open, by its exchange's calendar and by the bars themselves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tactician.errors import UserError
from tactician.market.bars import Bars
from tactician.market.exchanges import (
    FAMILIAR,
    FROM_BARS,
    exchange_zone,
    known_range,
    sessions_between,
    sessions_per_year,
)

__all__ = [
    "Agreement",
    "Attendance",
    "Sessions",
    "agree",
    "attendance",
    "better_calendar",
    "exchange_sessions",
    "exchange_zone",
]

_SEVEN_DAYS = 0.25
"""Share of Saturdays and Sundays among the sessions beyond which a market is open every day (2/7; Sunday to Thursday: 1/5)."""


@dataclass(frozen=True)
class Sessions:
    """S sessions in order; each has a bar."""

    dates: pd.DatetimeIndex
    """datetime64[ns], midnight, no zone: the exchange's local dates."""
    days_to_next: np.ndarray
    """int64, calendar days from each session to the next one; after the last, to the exchange's next."""
    per_year: int
    """Sessions in a year, by which figures are annualised: 252 on XNYS, 365 on 24/7."""


@dataclass(frozen=True)
class Attendance:
    """On each day with a bar, in order: how many assets have one."""

    dates: pd.DatetimeIndex
    present: np.ndarray
    """Assets with a bar."""
    traded: np.ndarray
    """Assets with a bar that shows a trade: volume, or another close than before."""
    listed: np.ndarray
    """Assets between their own first and last bar."""

    @property
    def half_present(self) -> np.ndarray:
        """At least half of the listed assets have a bar."""
        return 2 * self.present >= self.listed

    @property
    def half_traded(self) -> np.ndarray:
        """At least half of the listed assets, and two of them, were traded: one alone proves nothing."""
        return (2 * self.traded >= self.listed) & (self.traded >= 2)


@dataclass(frozen=True)
class Agreement:
    """How bars and a calendar agree."""

    sessions: Sessions
    extra: pd.DatetimeIndex
    """Sessions that the calendar does not have."""
    beyond: pd.DatetimeIndex
    """Sessions before the calendar begins or after it ends."""
    empty: pd.DatetimeIndex
    """Sessions of the calendar on which nobody has a bar; they are not among the sessions."""

    @property
    def mismatch(self) -> float:
        """Days that only one of bars and calendar has, as a share of the sessions."""
        return (len(self.extra) + len(self.empty)) / len(self.sessions.dates)


def exchange_sessions(bars: Bars, calendar: str) -> Sessions:
    """The sessions from the first bar to the last; see `agree`.

    Raises:
        UserError: no such calendar, or no bar is on a session.
    """
    return agree(attendance(bars.frame), calendar, bars.source).sessions


def attendance(frame: pd.DataFrame) -> Attendance:
    """Count bars by day; ``frame`` has one row per symbol and date, in any order."""
    f = frame.sort_values(["symbol", "date"], kind="stable")
    moved = np.abs(f.groupby("symbol", observed=True)["close"].diff().to_numpy()) > 0  # a first bar shows nothing
    traded = moved | (f["volume"].to_numpy() > 0) if "volume" in f else moved
    by_day = pd.DataFrame({"present": 1, "traded": traded.astype(int)}).groupby(f["date"].to_numpy()).sum()
    dates = pd.DatetimeIndex(by_day.index)
    life = f.groupby("symbol", observed=True)["date"].agg(["min", "max"])
    begun = np.searchsorted(np.sort(life["min"].to_numpy()), dates.to_numpy(), side="right")
    ended = np.searchsorted(np.sort(life["max"].to_numpy()), dates.to_numpy(), side="left")
    return Attendance(dates, by_day["present"].to_numpy(), by_day["traded"].to_numpy(), begun - ended)


def agree(days: Attendance, calendar: str, source: str) -> Agreement:
    """Find the sessions.

    A day of the calendar is a session if anyone has a bar. Another day is one, too, if at least half of the listed assets, and
    two of them, were traded: exchanges open on a Saturday for a budget or a drill. Where the calendar knows nothing, or
    is 'bars', a day is a session if at least half of the listed assets have a bar.

    Raises:
        UserError: no such calendar, or no bar is on a session.
    """
    dates = days.dates
    if calendar == FROM_BARS:
        known, outside = dates[:0], np.ones(len(dates), dtype=bool)
    else:
        known = sessions_between(calendar, dates[0], dates[-1] + pd.Timedelta(days=31))
        low, high = known_range(calendar)
        outside = np.asarray((dates < low) | (dates > high))
    official = dates.isin(known)
    beyond = outside & days.half_present
    extra = ~official & ~outside & days.half_traded
    chosen = dates[official | beyond | extra]
    if len(chosen) == 0:
        raise UserError(f"{source} has no bar on a session of calendar {calendar}; check dates and 'calendar'.")
    inside = known[(known >= chosen[0]) & (known <= chosen[-1])]
    year = _sessions_per_year_of(chosen) if calendar == FROM_BARS else sessions_per_year(calendar)
    sessions = Sessions(chosen, _days_to_next(chosen, known), year)
    told = dates[:0] if calendar == FROM_BARS else dates[beyond]
    return Agreement(sessions, dates[extra], told, inside[~inside.isin(dates)])


def better_calendar(days: Attendance, mismatch: float, calendar: str, source: str) -> str | None:
    """The familiar calendar that fits best, if it has less than a third of a mismatch; else None."""
    found = {}
    for name in FAMILIAR:
        low, high = known_range(name)
        if name != calendar and low <= days.dates[0] and days.dates[-1] <= high:
            found[name] = agree(days, name, source).mismatch
    best = min(found, key=found.__getitem__, default=None)
    return best if best is not None and found[best] < mismatch / 3 else None


def _sessions_per_year_of(dates: pd.DatetimeIndex) -> int:
    """Sessions in a year where no calendar says it."""
    if _open_every_day(dates):
        return 365
    years = ((dates[-1] - dates[0]).days + 1) / 365.25
    return round(len(dates) / years) if years >= 1 else 252


def _open_every_day(dates: pd.DatetimeIndex) -> bool:
    return bool((dates.dayofweek >= 5).mean() > _SEVEN_DAYS)


def _days_to_next(chosen: pd.DatetimeIndex, known: pd.DatetimeIndex) -> np.ndarray:
    """Calendar days from each session to the next; after the last to the calendar's next, else to the next weekday."""
    last, later = chosen[-1], known[known > chosen[-1]]
    if len(later):
        following = later[0]
    elif _open_every_day(chosen):
        following = last + pd.Timedelta(days=1)
    else:
        following = last + pd.Timedelta(days=max(1, 7 - last.dayofweek) if last.dayofweek >= 4 else 1)
    return np.diff(chosen.append(pd.DatetimeIndex([following])).to_numpy("datetime64[D]")).astype(np.int64)
