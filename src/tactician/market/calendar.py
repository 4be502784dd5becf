"""Sessions: the days on which a market was open, from its exchange's calendar or from the bars themselves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tactician.errors import UserError
from tactician.market.bars import Bars


@dataclass(frozen=True)
class Sessions:
    """S sessions in order."""

    dates: pd.DatetimeIndex
    """datetime64[ns], midnight, no zone: the exchange's local dates."""
    days_to_next: np.ndarray
    """int64, calendar days from each session to the exchange's next one."""
    per_year: int
    """Sessions in a year, by which figures are annualised: 252 on XNYS, 365 on 24/7."""


def exchange_sessions(bars: Bars, calendar: str) -> Sessions:
    """The exchange's sessions from the first bar to the last.

    Raises:
        UserError: no such calendar.
    """
    import exchange_calendars  # a second to import

    first, last = bars.frame["date"].iloc[0], bars.frame["date"].iloc[-1]
    try:
        exchange = exchange_calendars.get_calendar(
            calendar, start=first - pd.Timedelta(days=10), end=last + pd.Timedelta(days=15)
        )
    except (exchange_calendars.errors.InvalidCalendarName, ValueError) as error:
        raise UserError(f"calendar: there is no usable exchange calendar '{calendar}' ({error}); use XNYS.") from error
    every = exchange.sessions.astype("datetime64[ns]")
    inside = every[(every >= first) & (every <= last)]
    following = every[every.searchsorted(inside, side="right")]
    if len(inside) == 0:
        raise UserError(f"{bars.source} has no bar on a session of {calendar}; check dates and calendar.")
    return Sessions(inside, (following - inside).days.to_numpy(dtype=np.int64, copy=True), 252)
