"""From a configuration to a market cache: read bars, validate, compute, write; and tell what was found."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from tactician.config import Config
from tactician.environment import MarketTensors, build_market_tensors, save_market
from tactician.errors import UserError
from tactician.market import Bars, Finding, build_market, embedded_bars, read_bars, yahoo_bars
from tactician.market.findings import BadBars, Severity
from tactician.market.findings_table import findings_csv, findings_table
from tactician.storage import save_text
from tactician.training.progress import Reporter
from tactician.training.setup import cache_key


def build_cache(config: Config, reporter: Reporter) -> MarketTensors:
    """Make the configuration's market cache, and beside it the list of what was found in the bars.

    Args:
        config: names source, universe, dates and cache file.
        reporter: tells the user, findings of the validation included.

    Returns:
        What was written.

    Raises:
        UserError: the bars cannot be read or do not pass validation, or the file cannot be written. No cache is written
            then; the list of findings is, if there are any.
    """
    with reporter.phase(f"📥 Reading bars ({config.bars})"):
        bars = read_source(config)
    try:
        with reporter.phase("🧾 Validating and computing factor scores"):
            market = build_market(
                bars,
                cash_rate=config.cash_rate,
                calendar=config.calendar,
                listing_warmup=config.listing_warmup,
                on_findings=config.on_findings,
                delisting_return=config.delisting_return,
            )
    except BadBars as bad:
        _show(bad.findings, reporter, bad.stopping)
        try:
            _keep(bad.findings, config, reporter)
        except UserError:  # a folder that cannot be written is the smaller trouble
            raise bad from None
        raise bad.with_list(findings_path(config)) from bad
    _show(market.findings, reporter)
    with reporter.phase("🧮 Computing features and regime weights"):
        tensors = build_market_tensors(
            market, config.regimes, config.groups, {**cache_key(config), "source": market.source}
        )
    save_market(tensors, config.groups, config.cache)
    _keep(market.findings, config, reporter)  # last, so that an interrupted build leaves nothing behind
    return tensors


def findings_path(config: Config) -> Path:
    """The list of all findings, beside the cache."""
    return config.cache.with_name(f"{config.cache.name}.findings.csv")


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
    as_traded = config.closes == "as_traded"
    if as_traded and any(note.name == "no_close" for note in bars.notes):
        raise UserError(
            f"closes: {path} has adjusted closes alone, which are no prices as traded; add a column close, or set "
            "closes to adjusted."
        )
    return replace(bars, as_traded=as_traded)


def _show(findings: Sequence[Finding], reporter: Reporter, stopping: Collection[Severity] = ()) -> None:
    """Print a table of one screen."""
    if findings:
        reporter.say("  What was found in the bars:", "yellow")
    for line in findings_table(findings, stopping):
        reporter.say(line)


def _keep(findings: Sequence[Finding], config: Config, reporter: Reporter) -> None:
    """Write the whole list; an old list does not survive."""
    path = findings_path(config)
    if findings:
        save_text(findings_csv(findings), path)
        reporter.say(f"  Whole list: {path}")
    else:
        path.unlink(missing_ok=True)
