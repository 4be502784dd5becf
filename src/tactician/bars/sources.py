"""Where bars come from: a table of sources by name, and files for every other name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from tactician.bars.bars import Bars
from tactician.bars.embedded import embedded_bars
from tactician.bars.exchanges import exchange_zone, known_range
from tactician.bars.files import read_bars
from tactician.bars.hours import trading_day
from tactician.bars.yahoo import yahoo_bars
from tactician.config import Config
from tactician.errors import UserError


@dataclass(frozen=True)
class Source:
    """A named source of bars that is not a file. Its name is also the `Bars.source` of what it gives."""

    read: Callable[[Config], Bars]
    """Reads the bars of a configuration's symbols and dates."""
    remedy: str
    """What a user can do about wrong bars, as the end of a message. A user cannot correct a vendor's bars."""
    hindsight: bool = False
    """Whether its symbols were picked knowing how they would do."""
    stands_in: bool = False
    """Whether a file of the user's is an alternative that a message should name."""
    since: Callable[[Config, str, date | None], Bars] | None = None
    """Reads the bars of one symbol from a date on (None: all), also those of sessions that are still open. None: the source
    never changes, so that nothing of it needs to be kept."""


def _yahoo(config: Config) -> Bars:
    end = finished(config.calendar, datetime.now(UTC))
    return yahoo_bars(config.symbols, config.start, min(config.end or end, end), zone=exchange_zone(config.calendar))


def _yahoo_since(config: Config, symbol: str, start: date | None) -> Bars:
    return yahoo_bars((symbol,), start, zone=exchange_zone(config.calendar))


def finished(calendar: str, now: datetime) -> date:
    """The last date whose bars no longer move: the exchange's today if its session has closed, else yesterday.

    Raises:
        UserError: no such calendar.
    """
    today = now.astimezone(ZoneInfo(exchange_zone(calendar))).date()
    low, high = known_range(calendar)
    # An exchange's calendar may not reach today. Yesterday is over all the same.
    session = trading_day(calendar, today) if low <= pd.Timestamp(today) <= high else None
    return today if session is not None and session.closes <= now else today - timedelta(days=1)


SOURCES: dict[str, Source] = {
    "embedded": Source(
        lambda config: embedded_bars(config.symbols, config.start, config.end),
        "choose other symbols or dates",
        hindsight=True,
    ),
    "yfinance": Source(
        _yahoo,
        "choose another start or end, or other symbols",
        stands_in=True,
        since=_yahoo_since,
    ),
}
"""By name, in the order in which messages list them."""


def read_source(config: Config) -> Bars:
    """The bars that ``config.bars`` names.

    Raises:
        UserError: the source does not exist, or lacks a symbol.
    """
    source = SOURCES.get(config.bars)
    return _files(config) if source is None else source.read(config)


def picked_with_hindsight(config: Config, source: str) -> bool:
    """Whether a universe was picked knowing how it would do: by its file's word, or by where its bars came from.

    Args:
        config: whose universe.
        source: name of the source that the market was built from.
    """
    return config.picked_with_hindsight or (source in SOURCES and SOURCES[source].hindsight)


def _files(config: Config) -> Bars:
    path = Path(config.bars)
    if not path.exists():
        raise UserError(
            f"There are no bars at {path}; give --bars {', '.join(SOURCES)}, or a CSV/Parquet file or folder."
        )
    bars = read_bars(path, config.symbols, config.start, config.end, calendar=config.calendar)
    as_traded = config.closes == "as_traded"
    if as_traded and any(note.name == "no_close" for note in bars.notes):
        raise UserError(
            f"closes: {path} has adjusted closes alone, which are no prices as traded; add a column close, or set "
            "closes to adjusted."
        )
    return replace(bars, as_traded=as_traded)
