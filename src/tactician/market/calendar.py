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
"""A market with a larger share of weekend sessions is open every day (then 2/7; with Sunday to Thursday it is 1/5)."""
SPECIAL_PER_YEAR = 4
"""Special sessions that an exchange may hold per year."""
_NEARLY_ALL = 0.9
"""Share of the listed assets that must trade on a day off the calendar, if such days are too many to be special."""
_SHIFTED = 0.985
"""Dates are taken to be off by a day if at least this share of them are sessions after a shift by a day."""

HOLE = 31
"""The bars have a hole if more calendar days than this lie between two sessions."""


@dataclass(frozen=True)
class Sessions:
    """S sessions in order; each has a bar."""

    dates: pd.DatetimeIndex
    """datetime64[ns], midnight, no zone: the exchange's local dates."""
    days_to_next: np.ndarray
    """int64, calendar days from each session to the next; from the last one to the exchange's next session."""
    per_year: int
    """Sessions per year, by which figures are annualised: 252 on XNYS, 365 on 24/7."""


@dataclass(frozen=True)
class Attendance:
    """Which of A assets has a bar on which of D days, in order. Each day has at least one bar."""

    dates: pd.DatetimeIndex
    present: np.ndarray
    """bool, day × asset: there is a bar."""
    traded: np.ndarray
    """bool, day × asset: the bar shows a trade, by a volume or by a close that differs from the one before."""
    listed: np.ndarray
    """bool, day × asset: between the asset's own first and last bar."""

    @property
    def half_present(self) -> np.ndarray:
        """Days on which at least half of the listed assets have a bar."""
        return 2 * self.present.sum(1) >= self.listed.sum(1)

    def share_traded(self, days: np.ndarray, assets: np.ndarray, share: float) -> np.ndarray:
        """Days on which at least a share of the listed assets was traded, and at least two: one alone proves nothing.

        Args:
            days: bool per day: the days to look at; the result is False on all others.
            assets: bool per asset: the assets that count.
            share: of the listed assets.
        """
        rows = np.flatnonzero(days)
        traded = self.traded[np.ix_(rows, assets)].sum(1)
        enough = np.zeros(len(days), dtype=bool)
        enough[rows] = (traded >= share * self.listed[np.ix_(rows, assets)].sum(1)) & (traded >= 2)
        return enough


@dataclass(frozen=True)
class Agreement:
    """Sessions, and the days on which bars and calendar disagree."""

    sessions: Sessions
    extra: pd.DatetimeIndex
    """Sessions that the calendar lacks."""
    beyond: pd.DatetimeIndex
    """Sessions before the calendar begins or after it ends."""
    empty: pd.DatetimeIndex
    """Sessions of the calendar on which nobody has a bar; they are not among the sessions."""

    @property
    def disputed(self) -> pd.DatetimeIndex:
        """Days that only the bars or only the calendar has. A hole in the bars does not count against the calendar."""
        dates = self.sessions.dates
        at = dates.searchsorted(self.empty)
        in_hole = (dates[at] - dates[at - 1]).days > HOLE if len(at) else np.zeros(0, dtype=bool)
        return self.extra.union(self.empty[~in_hole])

    @property
    def mismatch(self) -> float:
        """Disputed days as a share of the sessions."""
        return len(self.disputed) / len(self.sessions.dates)


def attendance(frame: pd.DataFrame) -> Attendance:
    """Which asset has a bar on which day; ``frame`` has one row per symbol and date, in any order."""
    f = frame.sort_values(["symbol", "date"], kind="stable")
    moved = np.abs(f.groupby("symbol", observed=True)["close"].diff().to_numpy()) > 0  # a first bar shows no move
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

    A day of the calendar is a session if any asset has a bar. For days off the calendar see `_special`: some exchanges
    open on a Saturday for a budget or a drill. Outside the calendar's range, and with calendar 'bars', a day is a session
    if at least half of the listed assets have a bar.

    Raises:
        UserError: no such calendar, or no bar is on a session.
    """
    dates = days.dates
    if calendar == FROM_BARS:
        known, outside = dates[:0], np.ones(len(dates), dtype=bool)
    else:
        # A month beyond the last bar, so that the next session after it is known.
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
    """Days off the calendar that were sessions nevertheless.

    Exchanges hold a few special sessions per year, on which at least half of the listed assets trade. An asset with more
    such days is of another kind (a coin, say) or misdated, and has no vote. The calendar itself is wrong if no other assets
    are listed on those days, or if the others trade on them as well. Then nearly all assets must trade.
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
    """'a day early' or 'a day late' if such a shift explains why many dates are no sessions; else ''."""
    for shift, words in ((1, "a day early"), (-1, "a day late")):
        if (days + pd.Timedelta(days=shift)).isin(sessions).mean() >= _SHIFTED:
            return words
    return ""


def better_calendar(days: Attendance, mismatch: float, calendar: str, source: str) -> str | None:
    """The familiar calendar that fits best, if its mismatch is less than a third of this one's; else None."""
    found = {}
    for name in FAMILIAR:
        low, high = known_range(name)
        if name != calendar and low <= days.dates[0] and days.dates[-1] <= high:
            found[name] = agree(days, name, source).mismatch
    best = min(found, key=found.__getitem__, default=None)
    return best if best is not None and found[best] < mismatch / 3 else None


def _sessions_per_year_of(dates: pd.DatetimeIndex) -> int:
    """Sessions per year, estimated from the bars if there is no calendar."""
    if _open_every_day(dates):
        return 365
    steps = np.diff(dates.to_numpy("datetime64[D]")).astype(int)
    years = (steps[steps <= HOLE].sum() + 1) / 365.25
    return round(len(dates) / years) if years >= 1 else 252


def _open_every_day(dates: pd.DatetimeIndex) -> bool:
    return bool((dates.dayofweek >= 5).mean() > _SEVEN_DAYS)


def _days_to_next(chosen: pd.DatetimeIndex, known: pd.DatetimeIndex) -> np.ndarray:
    """Calendar days from each session to the next; from the last to the calendar's next session, else the next weekday."""
    last, later = chosen[-1], known[known > chosen[-1]]
    if len(later):
        following = later[0]
    elif _open_every_day(chosen):
        following = last + pd.Timedelta(days=1)
    else:
        following = last + pd.Timedelta(days=max(1, 7 - last.dayofweek) if last.dayofweek >= 4 else 1)
    return np.diff(chosen.append(pd.DatetimeIndex([following])).to_numpy("datetime64[D]")).astype(np.int64)
