"""What happened: sources → bars → a validated market."""

from tactician.market.bars import Bars, make_bars
from tactician.market.embedded import embedded_bars
from tactician.market.factors import FACTORS
from tactician.market.files import read_bars
from tactician.market.findings import Finding
from tactician.market.market import LEVEL_LEAK, Market, build_market
from tactician.market.validation import check_bars
from tactician.market.yahoo import yahoo_bars

__all__ = [
    "FACTORS",
    "LEVEL_LEAK",
    "Bars",
    "Finding",
    "Market",
    "build_market",
    "check_bars",
    "embedded_bars",
    "make_bars",
    "read_bars",
    "yahoo_bars",
]
