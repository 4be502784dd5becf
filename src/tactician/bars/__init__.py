"""What vendors deliver: sources, read as daily bars."""

from tactician.bars.bars import Bars, MissingSymbols, make_bars
from tactician.bars.embedded import embedded_bars
from tactician.bars.files import read_bars
from tactician.bars.findings import Finding
from tactician.bars.hours import TradingDay, last_closed, local_times, next_to_close, session_after, trading_day
from tactician.bars.sources import SOURCES, Source, picked_with_hindsight, read_source
from tactician.bars.store import Refreshed, refresh
from tactician.bars.yahoo import yahoo_bars

__all__ = [
    "SOURCES",
    "Bars",
    "Finding",
    "MissingSymbols",
    "Refreshed",
    "Source",
    "TradingDay",
    "embedded_bars",
    "last_closed",
    "local_times",
    "make_bars",
    "next_to_close",
    "picked_with_hindsight",
    "read_bars",
    "read_source",
    "refresh",
    "session_after",
    "trading_day",
    "yahoo_bars",
]
