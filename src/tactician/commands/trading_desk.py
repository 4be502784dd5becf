"""An account file put to work: its lock, journal, broker, bars and model, as `tactician trade` and its timers need them."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tactician.bars.hours import TradingDay, last_closed, next_to_close
from tactician.commands import clock
from tactician.config import Config
from tactician.errors import NotNow, Refused, UserError
from tactician.monitor.progress import Reporter
from tactician.portfolio.frictions import Frictions
from tactician.storage import json_text, save_text
from tactician.trading.account import AccountFile, folder_of, load_account
from tactician.trading.broker import Broker
from tactician.trading.cycle import Cycle
from tactician.trading.desk import Desk
from tactician.trading.journal import FILE, Journal
from tactician.trading.known import KnownMarket, anchored, closes_of, closes_on_tape, market_until
from tactician.trading.reconcile import BOOK
from tactician.trading.simulated import SimulatedBroker, Tape
from tactician.training.in_use import ModelInUse, model_in_use
from tactician.training.lock import only_writer

LAST_RUN, PAGE = "last_run.json", "report.html"
_LOCK = ".lock"
_ON_THIS_COMPUTER = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """An account file and its folder."""

    file: Path
    account: AccountFile
    folder: Path

    @classmethod
    def of(cls, file: Path) -> "Place":
        """Read the account file.

        Raises:
            UserError: it is missing or wrong.
        """
        account = load_account(file)
        return cls(file, account, folder_of(account, file))

    def journal(self) -> Journal:
        """The account's journal, for reading.

        Raises:
            UserError: there is none, or it cannot be opened.
            Halted: it was changed by another hand.
        """
        return Journal(self.folder / FILE, writes=False)

    def note_run(self, code: int, said: str) -> None:
        """Leave the last run's outcome where a watchdog finds it."""
        content = {"at": clock.now().isoformat(), "exit_code": code, "said": said}
        save_text(json_text(content, indent=2) + "\n", self.folder / LAST_RUN)


@dataclass(frozen=True)
class Opened:
    """An account at work. Its lock is held."""

    place: Place
    desk: Desk
    model: ModelInUse | None = None
    """None if it was not needed."""
    cycle: Cycle | None = None
    """None if nothing is to be decided."""
    told: tuple[str, ...] = ()
    """What was found when the bars were read."""

    @property
    def day(self) -> TradingDay:
        """The session that closes next."""
        return next_to_close(self.desk.calendar, self.desk.now())


@contextmanager
def opened(place: Place, reporter: Reporter, need: Literal["decision", "model", "account"]) -> Iterator[Opened]:
    """Put an account to work. A refusal goes into its journal, unless it is only one of the time.

    Args:
        place: the account.
        reporter: tells the user.
        need: 'decision' brings the bars up to date. 'account' asks for as little as it can: in an emergency neither a lost
            model nor an old bar may stand in the way.

    Raises:
        UserError: another process works on it, or a file, a key or the model is at fault.
        Refused: the bars do not reach the last session.
        Halted: the journal was changed by another hand.
    """
    with only_writer(place.folder / _LOCK, place.folder, "--account"):
        journal = Journal(place.folder / FILE)
        try:
            yield _put_together(place, journal, reporter, need)
        except NotNow:
            raise
        except Refused as no:
            now = clock.now()
            journal.record("refused", now, session=str(now.date()), reason=str(no))
            raise
        finally:
            journal.close()


def _put_together(place: Place, journal: Journal, reporter: Reporter, need: str) -> Opened:
    account, real = place.account, place.account.broker != "simulated"
    book = journal.last(*BOOK)
    if need == "account" and real and book is not None:
        return Opened(
            place, _desk(place, journal, reporter, broker_of(account), book.body["calendar"], book.body["prices"])
        )
    model = model_in_use(account.checkpoint, bars=account.bars)
    config, frictions = model.config, Frictions.of(model.config)
    broker = broker_of(account) if real else None  # a missing key is told before the download
    if broker is not None and need != "decision":
        return Opened(place, _desk(place, journal, reporter, broker, config.calendar, config.symbols), model)
    with reporter.phase(f"📥 Bringing the bars up to date ({config.bars})"):
        until = last_closed(config.calendar, clock.now()).date
        fresh, market = market_until(config, place.folder / "bars", until)
    closes = closes_of(fresh.bars, config.calendar)
    if broker is None:
        tape = anchored(fresh.bars, market)
        broker, closes = _simulated(place, config, tape, frictions), closes_on_tape(tape)
    desk = _desk(place, journal, reporter, broker, config.calendar, config.symbols)
    return Opened(place, desk, model, Cycle(desk, KnownMarket(model.advisor(market), closes), frictions), fresh.told)


def _desk(
    place: Place, journal: Journal, reporter: Reporter, broker: Broker, calendar: str, symbols: Iterable[str]
) -> Desk:
    return Desk(
        account=place.account,
        folder=place.folder,
        broker=broker,
        journal=journal,
        calendar=calendar,
        symbols=tuple(symbols),
        now=clock.now,
        wait=time.sleep,
        tell=lambda text: reporter.note(f"  {text}"),
    )


def _simulated(place: Place, config: Config, tape: Tape, frictions: Frictions) -> SimulatedBroker:
    account, path = place.account, place.folder / "broker.sqlite"
    cash = account.cash or config.portfolio_value
    broker = SimulatedBroker(path, account.account, tape, frictions, cash, clock.now)
    broker.move_to(tape.days[-1])
    return broker


def broker_of(account: AccountFile) -> Broker:
    """The broker of an account file that is not simulated.

    Raises:
        UserError: its package or its keys are missing.
    """
    from tactician.trading.alpaca import alpaca_broker

    return alpaca_broker(account.live, _stand_in("TACTICIAN_ALPACA_URL"), _stand_in("TACTICIAN_ALPACA_DATA_URL"))


def _stand_in(variable: str) -> str | None:
    """A stand-in for the service, for tests. Anything but this computer is refused, so that nobody is sent elsewhere."""
    url = os.environ.get(variable)
    if url and urlsplit(url).hostname not in _ON_THIS_COMPUTER:
        raise UserError(f"{variable} may only name this computer, not {url}; unset it.")
    return url or None
