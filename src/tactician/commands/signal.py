"""``tactician signal``: what to hold from the next close on, what it takes and costs, and why. No account is needed."""

import difflib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tactician.commands import clock
from tactician.commands.flags import Json, flags_of
from tactician.config import load_config
from tactician.config_values import Place
from tactician.errors import UserError
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.bars.hours import TradingDay
    from tactician.config import Config
    from tactician.monitor.progress import Reporter
    from tactician.trading.sheet import Sheet

STORE = Path("data/bars")
"""Where bars are kept between two calls."""


@dataclass(frozen=True)
class SignalArguments:
    """Say what a model would hold from the next close on, the orders for it, their cost, and why."""

    checkpoint: Path | None = None
    """The model: a file that training wrote."""
    config_file: Annotated[
        Path | None,
        tyro.conf.arg(
            name="config", help="YAML file with another universe, other bars or other costs; default: the model's."
        ),
    ] = None
    bars: Place | None = None
    """Where prices come from; default: the model's source. What was downloaded is kept, and only what is new is read."""
    holdings: Path | None = None
    """CSV of what is held: symbol,shares; the row CASH has the money. Default: cash alone."""
    cash: float = 100_000.0
    """What is held if there is no file: money alone."""
    regime: str | None = None
    """The regime that was traded into last; default: none."""
    since: int = 0
    """Sessions since then."""
    on: date | None = None
    """Decide for the close of this past session instead of the next one."""
    whole_shares: bool = False
    """Orders in whole shares; default: parts of a share."""
    orders: Path | None = None
    """CSV to write the orders to, for typing them in by hand."""
    store: Path = STORE
    """Folder in which downloaded bars are kept."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Say what to hold from the next close on."""
    arguments = flags_of(SignalArguments, "signal", words)
    if arguments.checkpoint is None:
        raise UserError("--checkpoint is missing; name a model, such as checkpoints/embedded_sp500/model_best.pt.")
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, {arguments.checkpoint}", whole=[arguments.checkpoint])
    from tactician.storage import json_text

    file = None if arguments.config_file is None else load_config(arguments.config_file)
    sheet = make_sheet(arguments, arguments.checkpoint, reporter, file)
    if arguments.orders is not None:
        sheet.write_orders(arguments.orders)
    if arguments.as_json:
        print(json_text(sheet.as_dict(), indent=2))
        return 0
    sheet.render(reporter)
    if arguments.orders is not None:
        reporter.say(f"  Orders:  {arguments.orders}", whole=[arguments.orders])
    return 0


def make_sheet(
    arguments: SignalArguments, checkpoint: Path, reporter: "Reporter", file: "Config | None" = None
) -> "Sheet":
    """Decide, and plan from what is held.

    Args:
        arguments: what is asked.
        checkpoint: the model.
        reporter: tells the user.
        file: another market or other costs; None for the model's.

    Raises:
        UserError: a flag or a file is at fault.
        Refused: the bars do not reach the session before.
    """
    from tactician.bars import MissingSymbols
    from tactician.portfolio.frictions import Frictions
    from tactician.trading.account import AccountFile
    from tactician.trading.advice import Seat
    from tactician.trading.broker import Listing
    from tactician.trading.known import closes_of, market_until
    from tactician.trading.plan import Sleeve, make_plan
    from tactician.trading.sheet import Sheet, read_holdings
    from tactician.training.in_use import model_in_use

    model = model_in_use(checkpoint, file, arguments.bars)
    config = model.config
    day, before = _session(config, arguments.on)
    sleeve, rest = Sleeve({}, _money(arguments.cash)), dict[str, Decimal]()
    if arguments.holdings is not None:
        sleeve, rest = read_holdings(arguments.holdings, config.symbols)
    seat = _seat(arguments, model.regimes_shown)
    with reporter.phase(f"📥 Bringing the bars up to date ({config.bars})"):
        try:
            fresh, market = market_until(config, arguments.store, before)
        except MissingSymbols as error:
            if file is not None:
                raise
            raise UserError(f"{error} Another universe is named in a file for --config.") from None
    closes = closes_of(fresh.bars, config.calendar)(day.date)
    with reporter.phase("🧭 Deciding"):
        advice = model.advisor(market).advise(day.date, Seat(tuple(sleeve.holdings(market.symbols, closes)), *seat))
    shares = "whole" if arguments.whole_shares else "fractional"
    account = AccountFile.model_validate(
        {"account": "SIGNAL", "checkpoint": checkpoint, "shares": shares, "cash_floor": 0.0}
    )
    listings = dict.fromkeys(market.symbols, Listing(tradable=True, fractional=True))
    plan = make_plan(advice, sleeve, closes, listings, Frictions.of(config), account)
    return Sheet(day, config.calendar, advice, plan, rest, fresh.told)


def _session(config: "Config", on: date | None) -> tuple["TradingDay", date]:
    """The session to decide for, and the one before."""
    from tactician.bars.hours import last_closed, next_to_close, trading_day

    now = clock.now()
    if on is None:
        return next_to_close(config.calendar, now), last_closed(config.calendar, now).date
    day = trading_day(config.calendar, on)
    if day is None:
        raise UserError(f"--on {on} is no session of {config.calendar}; name a day on which it was open.")
    if day.opens > now and day != next_to_close(config.calendar, now):
        raise UserError(f"--on {on} lies too far ahead: what it needs is not known yet; leave --on out.")
    return day, last_closed(config.calendar, day.opens).date


def _seat(arguments: SignalArguments, names: tuple[str, ...]) -> tuple[int, int]:
    """The regime that was traded into last, and the sessions since then."""
    if arguments.since < 0:
        raise UserError("--since cannot be negative; it counts sessions since the last change of regime.")
    if arguments.regime is None:
        return 0, arguments.since
    wanted = arguments.regime.upper()
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1)
        raise UserError(
            f"--regime {arguments.regime} is none of the model's; {f'did you mean {near[0]}?' if near else ', '.join(names)}"
        )
    return names.index(wanted), arguments.since


def _money(cash: float) -> float:
    if not 0 < cash < 1e15:
        raise UserError(f"--cash {cash:g} is no amount of money; give one above zero.")
    return cash
