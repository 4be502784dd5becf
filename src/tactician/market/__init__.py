"""What happened: sources → bars → a validated market."""

from tactician.market.bars import Bars, make_bars
from tactician.market.embedded import embedded_bars
from tactician.market.factors import FACTORS
from tactician.market.files import read_bars
from tactician.market.market import Market, build_market
from tactician.market.validation import Finding, validate
from tactician.market.yahoo import yahoo_bars

__all__ = [
    "FACTORS",
    "Bars",
    "Finding",
    "Market",
    "build_market",
    "embedded_bars",
    "make_bars",
    "read_bars",
    "validate",
    "yahoo_bars",
]
