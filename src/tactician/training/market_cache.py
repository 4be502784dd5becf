"""From a configuration to a market cache: read bars, validate, compute, write."""

from dataclasses import replace
from pathlib import Path

from tactician.config import Config
from tactician.environment import MarketTensors, build_market_tensors, save_market
from tactician.errors import UserError
from tactician.market import Bars, Market, build_market, embedded_bars, read_bars, yahoo_bars
from tactician.training.progress import Reporter
from tactician.training.setup import cache_key


def build_cache(config: Config, reporter: Reporter) -> MarketTensors:
    """Make the configuration's market cache.

    Args:
        config: names source, universe, dates and cache file.
        reporter: tells the user, warnings of the validation included.

    Returns:
        What was written.

    Raises:
        UserError: the bars cannot be read or do not pass validation, or the file cannot be written; nothing is written.
    """
    with reporter.phase(f"📥 Reading bars ({config.bars})"):
        bars = read_source(config)
    with reporter.phase("🧾 Validating and computing factor scores"):
        market = build_market(
            bars,
            cash_rate=config.cash_rate,
            calendar=config.calendar,
            listing_warmup=config.listing_warmup,
            on_findings=config.on_findings,
            delisting_return=config.delisting_return,
        )
    _show_findings(market, reporter)
    with reporter.phase("🧮 Computing features and regime weights"):
        tensors = build_market_tensors(
            market, config.regimes, config.groups, {**cache_key(config), "source": market.source}
        )
    save_market(tensors, config.groups, config.cache)
    return tensors


def read_source(config: Config) -> Bars:
    """The bars that ``config.bars`` names.

    Raises:
        UserError: no such source, or it lacks a symbol.
    """
    if config.bars == "embedded":
        return embedded_bars(config.symbols, config.start, config.end)
    if config.bars == "yfinance":
        return yahoo_bars(config.symbols, config.start, config.end)
    path = Path(config.bars)
    if not path.exists():
        raise UserError(
            f"There are no bars at {path}; give --bars embedded, yfinance, or a CSV/Parquet file or folder."
        )
    bars = read_bars(path, config.symbols, config.start, config.end, calendar=config.calendar)
    return replace(bars, as_traded=config.closes == "as_traded")


def _show_findings(market: Market, reporter: Reporter) -> None:
    for finding in market.findings:
        reporter.warn(f"{finding.name}: {finding.message}")
