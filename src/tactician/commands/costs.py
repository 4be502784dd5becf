"""``tactician costs``: what each regime costs from cash, and each switch from one to another."""

import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, Json, parse
from tactician.commands.hints import rebuild_command
from tactician.config import Config
from tactician.errors import UserError
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.environment import MarketTensors
    from tactician.portfolio.costs import CostReport


@dataclass(frozen=True)
class CostArguments:
    """Print what each regime costs from cash, and each switch from one to another."""

    config_file: ConfigFile = DEFAULT_CONFIG
    on: str | None = None
    """Session (YYYY-MM-DD) whose weights are taken; default: the last one in the cache."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Print what each regime costs from cash, and each switch from one to another."""
    arguments, config = parse(CostArguments, "costs", words)
    if sys.stderr.isatty():  # a sign of life before torch, which takes seconds to import; not among the results
        print(f"  Tactician {__version__}, {config.cache}", file=sys.stderr, flush=True)
    from rich.console import Console

    from tactician.environment import load_cached_market
    from tactician.storage import json_text

    market = load_cached_market(config, rebuild_command(arguments.config_file, config), alone=True)
    report = session_costs(config, market, arguments.on)
    if arguments.as_json:
        print(json_text(report.as_dict(), indent=2))
    else:
        report.render(Console())
    return 0


def session_costs(config: Config, market: "MarketTensors", on: str | None) -> "CostReport":
    """What every regime and every switch costs on one session.

    Args:
        config: frictions and portfolio value.
        market: whose regimes.
        on: ISO date; None for the last decision session.

    Raises:
        UserError: the market has no such session.
    """
    from tactician.portfolio.costs import cost_report
    from tactician.portfolio.frictions import Frictions

    row = _row_of(market, on)
    if config.impact_adv > 0:
        market.require_traded_values()
    return cost_report(
        market.regimes,
        market.factor_ranks[row],
        market.tradable[row],
        Frictions.of(config),
        session=str(market.date_of(row)),
        portfolio_value=config.portfolio_value,
        vol_daily=market.vol_daily[row],
        adv=market.dollar_volume[row],
    )


def _row_of(market: "MarketTensors", on: str | None) -> int:
    if on is None:
        return market.n_days - 1
    try:
        wanted = date.fromisoformat(on)
    except ValueError as error:
        raise UserError(f"--on {on} is no date; write it as 2020-03-16.") from error
    first, last = market.date_of(0), market.date_of(market.n_days - 1)
    found = (market.dates == (wanted - date(1970, 1, 1)).days).nonzero()
    if len(found) == 0:
        raise UserError(f"--on {on} is no session of the market cache, which runs from {first} to {last}.")
    return int(found[0])
