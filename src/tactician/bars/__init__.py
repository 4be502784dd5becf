"""What vendors deliver: sources, read as daily bars."""

from tactician.bars.bars import Bars, make_bars
from tactician.bars.embedded import embedded_bars
from tactician.bars.files import read_bars
from tactician.bars.findings import Finding
from tactician.bars.sources import SOURCES, Source, picked_with_hindsight, read_source
from tactician.bars.yahoo import yahoo_bars

__all__ = [
    "SOURCES",
    "Bars",
    "Finding",
    "Source",
    "embedded_bars",
    "make_bars",
    "picked_with_hindsight",
    "read_bars",
    "read_source",
    "yahoo_bars",
]
