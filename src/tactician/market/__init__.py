"""The validated market, made from bars. The readers of bars are exported too, for building a market by hand."""

from tactician.bars import Bars, Finding, embedded_bars, make_bars, read_bars, yahoo_bars
from tactician.market.factors import FACTORS
from tactician.market.market import LEVEL_LEAK, Market, build_market, market_of
from tactician.market.validation import check_bars

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
    "market_of",
    "read_bars",
    "yahoo_bars",
]
