"""``tactician build-cache``: read bars, validate, compute, write the market cache; and tell what was found."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tactician import configs
from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, parse
from tactician.commands.hints import command
from tactician.config import Config
from tactician.errors import UserError
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.bars.findings import Finding, Severity
    from tactician.environment import MarketTensors
    from tactician.monitor.progress import Reporter


@dataclass(frozen=True)
class CacheArguments:
    """Build the market cache that training reads."""

    config_file: ConfigFile = DEFAULT_CONFIG


def run(words: list[str]) -> int:
    """Build the market cache that training reads."""
    arguments, config = parse(CacheArguments, "build-cache", words)
    from tactician.monitor.progress import Reporter

    reporter = Reporter()
    # A sign of life before torch and pandas, which take seconds to import.
    reporter.say(f"  Tactician {__version__}, {configs.shortest(arguments.config_file)} → {config.cache}")
    market = build_cache(config, reporter)
    reporter.say(f"  Wrote {config.cache}: {market.n_days:,} decision sessions, fingerprint {market.fingerprint[:12]}.")
    if market.beside:
        smallest, largest = (pick(len(each.symbols) for each in market.beside) for pick in (min, max))
        reporter.say(f"  And {len(market.beside):,} further markets to train on, of {smallest} to {largest} assets.")
    if market.held_out is not None:
        reporter.say(f"  Held out from training: {', '.join(market.held_out.symbols)}.")
    reporter.say(f"  Next: {command('train', arguments.config_file, config)}")
    return 0


def build_cache(config: Config, reporter: "Reporter") -> "MarketTensors":
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
    from tactician.bars import read_source
    from tactician.bars.findings import BadBars
    from tactician.environment import (
        FURTHER,
        HELD_OUT,
        build_market_tensors,
        cache_key,
        draw_held_out,
        further_key,
        further_markets,
        held_out_markets,
        save_market,
    )
    from tactician.market import market_of

    with reporter.phase(f"📥 Reading bars ({config.bars})"):
        bars = read_source(config)
    try:
        with reporter.phase("🧾 Validating and computing factor scores"):
            market = market_of(bars, config)
    except BadBars as bad:
        _show(bad.findings, reporter, bad.stopping)
        try:
            _keep(bad.findings, config, reporter)
        except UserError:  # a folder that cannot be written is the smaller trouble
            raise bad from None
        raise bad.with_list(findings_path(config)) from bad
    _show(market.findings, reporter)
    with reporter.phase("🧮 Computing features and regime weights"):
        further = {FURTHER: further_key(config)} if further_key(config) else {}
        held_out = {HELD_OUT: " ".join(draw_held_out(config))} if config.held_out_names else {}
        tensors = build_market_tensors(
            market, config.regimes, config.groups, {**cache_key(config), **further, **held_out, "source": market.source}
        )
        apart = held_out_markets(market, config)
    beside = []
    if further:
        with reporter.phase("🧩 Computing further markets"):
            beside = further_markets(market, config)
    save_market(tensors, config.groups, config.cache, beside, apart)
    _keep(market.findings, config, reporter)  # last, so that an interrupted build leaves nothing behind
    if apart is not None:
        tensors = replace(tensors, remaining=apart[0][0], held_out=apart[1][0])
    return replace(tensors, beside=tuple(each for each, _ in beside))


def findings_path(config: Config) -> Path:
    """The list of all findings, beside the cache."""
    return config.cache.with_name(f"{config.cache.name}.findings.csv")


def _show(findings: Sequence["Finding"], reporter: "Reporter", stopping: Collection["Severity"] = ()) -> None:
    """Print a table of one screen."""
    from tactician.market.findings_table import findings_table

    if findings:
        reporter.say("  What was found in the bars:", "yellow")
    for line in findings_table(findings, stopping):
        reporter.say(line)


def _keep(findings: Sequence["Finding"], config: Config, reporter: "Reporter") -> None:
    """Write the whole list; an old list does not survive."""
    from tactician.market.findings_table import findings_csv
    from tactician.storage import save_text

    path = findings_path(config)
    if findings:
        save_text(findings_csv(findings), path)
        reporter.say(f"  Whole list: {path}")
    else:
        path.unlink(missing_ok=True)
