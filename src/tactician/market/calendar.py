"""Sessions: the days on which a market was open, by its exchange's calendar and by the bars themselves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tactician.bars.exchanges import (
    FAMILIAR,
    FROM_BARS,
    known_range,
    sessions_between,
    sessions_per_year,
)
from tactician.errors import UserError

_SEVEN_DAYS = 0.25
"""Share of Saturdays and Sundays among the sessions beyond which a market is open every day (2/7; Sunday to Thursday: 1/5)."""
SPECIAL_PER_YEAR = 4
"""Special sessions that an exchange may hold per year."""
_NEARLY_ALL = 0.9
"""Share of the listed assets that must trade on a day of which there are too many to be special."""
_SHIFTED = 0.985
"""Share of the dates that are sessions after a shift by a day, from which on they are held to be off by it."""

HOLE = 31
"""Calendar days between two sessions beyond which the bars have a hole."""


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
    """Which of A assets has a bar on which of D days, in order; each day has one."""

    dates: pd.DatetimeIndex
    present: np.ndarray
    """bool, day × asset: there is a bar."""
    traded: np.ndarray
    """bool, day × asset: the bar shows a trade by its volume, or by another close than before."""
    listed: np.ndarray
    """bool, day × asset: between the asset's own first and last bar."""

    @property
    def half_present(self) -> np.ndarray:
        """At least half of the listed assets have a bar."""
        return 2 * self.present.sum(1) >= self.listed.sum(1)

    def share_traded(self, days: np.ndarray, assets: np.ndarray, share: float) -> np.ndarray:
        """On which days at least a share of the listed assets, and two of them, were traded: one alone proves nothing.

        Args:
            days: bool per day; the others are false.
            assets: bool per asset that counts.
            share: of those that are listed.
        """
        rows = np.flatnonzero(days)
        traded = self.traded[np.ix_(rows, assets)].sum(1)
        enough = np.zeros(len(days), dtype=bool)
        enough[rows] = (traded >= share * self.listed[np.ix_(rows, assets)].sum(1)) & (traded >= 2)
        return enough


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
    def disputed(self) -> pd.DatetimeIndex:
        """Days that only one of bars and calendar has; a hole in the bars is no word against the calendar."""
        dates = self.sessions.dates
        at = dates.searchsorted(self.empty)
        in_hole = (dates[at] - dates[at - 1]).days > HOLE if len(at) else np.zeros(0, dtype=bool)
        return self.extra.union(self.empty[~in_hole])

    @property
    def mismatch(self) -> float:
        """Disputed days as a share of the sessions."""
        return len(self.disputed) / len(self.sessions.dates)


def attendance(frame: pd.DataFrame) -> Attendance:
    """Who has a bar on which day; ``frame`` has one row per symbol and date, in any order."""
    f = frame.sort_values(["symbol", "date"], kind="stable")
    moved = np.abs(f.groupby("symbol", observed=True)["close"].diff().to_numpy()) > 0  # a first bar shows nothing
    trade = moved | (f["volume"].to_numpy() > 0) if "volume" in f else moved
    asset, symbols = pd.factorize(f["symbol"].to_numpy())
    dates = pd.DatetimeIndex(np.unique(f["date"].to_numpy()))
    day = dates.get_indexer(f["date"])
    present = np.zeros((len(dates), len(symbols)), dtype=bool)
    present[day, asset] = True
    traded = np.zeros_like(present)
    traded[day, asset] = trade
    begun, not_ended = np.logical_or.accumulate(present), np.logical_or.accumulate(present[::-1])[::-1]
    return Attendance(dates, present, traded, begun & not_ended)


def agree(days: Attendance, calendar: str, source: str) -> Agreement:
    """Find the sessions.

    A day of the calendar is a session if anyone has a bar. For other days see `_special`: exchanges open on a Saturday for
    a budget or a drill. Where the calendar knows nothing, or is 'bars', a day is a session if at least half of the listed
    assets have a bar.

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
    extra = _special(days, ~official & ~outside)
    chosen = dates[official | beyond | extra]
    if len(chosen) == 0:
        raise UserError(f"{source} has no bar on a session of calendar {calendar}; check dates and 'calendar'.")
    inside = known[(known >= chosen[0]) & (known <= chosen[-1])]
    year = _sessions_per_year_of(chosen) if calendar == FROM_BARS else sessions_per_year(calendar)
    sessions = Sessions(chosen, _days_to_next(chosen, known), year)
    told = dates[:0] if calendar == FROM_BARS else dates[beyond]
    return Agreement(sessions, dates[extra], told, inside[~inside.isin(dates)])


def _special(days: Attendance, off: np.ndarray) -> np.ndarray:
    """Days off the calendar that were sessions all the same.

    Exchanges hold a few special sessions per year: at least half of the listed assets trade then. Assets with more such days
    are of another kind, as coins are, or misdated, and have no vote. If no others are listed on those days, or the others
    trade on them as well, the calendar itself is wrong: then nearly all must trade.
    """
    years = np.maximum(days.listed.sum(0) / len(days.dates) * ((days.dates[-1] - days.dates[0]).days + 1) / 365.25, 1)
    often = (days.traded & off[:, None]).sum(0) > SPECIAL_PER_YEAR * years
    everyone = np.ones(len(often), dtype=bool)
    if not often.any():
        return days.share_traded(off, everyone, 0.5)
    theirs = off & (2 * days.traded[:, often].sum(1) >= np.maximum(days.listed[:, often].sum(1), 1))
    others = days.listed[np.ix_(theirs, ~often)].sum()
    if days.traded[np.ix_(theirs, ~often)].sum() >= _NEARLY_ALL * others:
        return days.share_traded(off, everyone, _NEARLY_ALL)
    return days.share_traded(off, ~often, 0.5)


def off_by_a_day(days: pd.DatetimeIndex, sessions: pd.DatetimeIndex) -> str:
    """'a day early' or 'a day late' if that explains dates of which many are no sessions; else nothing."""
    for shift, words in ((1, "a day early"), (-1, "a day late")):
        if (days + pd.Timedelta(days=shift)).isin(sessions).mean() >= _SHIFTED:
            return words
    return ""


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
    steps = np.diff(dates.to_numpy("datetime64[D]")).astype(int)
    years = (steps[steps <= HOLE].sum() + 1) / 365.25
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
