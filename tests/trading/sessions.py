"""A decision that is given, a clock that is moved, and an account of five symbols: what sessions are tested with."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tactician.portfolio.frictions import Frictions
from tactician.trading.account import AccountFile
from tactician.trading.advice import Advice
from tactician.trading.cycle import Cycle
from tactician.trading.desk import Desk
from tactician.trading.journal import Journal

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")
PRICES = dict(zip(SYMBOLS, (100.0, 50.0, 20.0, 200.0, 10.0), strict=True))
HELD = {"AAA": Decimal(60), "BBB": Decimal("120.5"), "CCC": Decimal(100)}
CASH = 2_000.0
TARGETS = (0.0, 0.1, 0.25, 0.3, 0.3, 0.05)
"""Sells of AAA and BBB, and buys of CCC, DDD and EEE, which only the sells can pay."""
NUMBER = "PA3FAKE00001"
LAST_HOUR = datetime(2025, 6, 3, 19, 10, tzinfo=UTC)
HALF_DAY = datetime(2025, 7, 3, 16, 10, tzinfo=UTC)


def account_file(**changes):
    values = {"account": NUMBER, "checkpoint": "model", "broker": "alpaca", "cash": "all"}
    return AccountFile(**(values | changes))


def advice(session, seat, targets=TARGETS, symbols=SYMBOLS, hold=False, model="m"):
    return Advice(
        session=session,
        known_until=session - timedelta(days=1),
        symbols=tuple(symbols),
        action=1,
        regime="some",
        description="some assets",
        probabilities={"hold": 0.1, "some": 0.9},
        hold=hold,
        targets=tuple(targets),
        vol_daily=(0.01,) * len(symbols),
        adv=(1e9,) * len(symbols),
        seat=seat,
        next_regime=1,
        next_since=0,
        why=(),
        strange=(),
        model=model,
        data="d",
    )


@dataclass
class Told:
    """A market and a policy that say what they are told to say."""

    prices: dict = field(default_factory=lambda: dict(PRICES))
    targets: tuple = TARGETS
    hold: bool = False
    model: str = "m"
    regimes: tuple = ("hold", "some")
    asked: list = field(default_factory=list)

    def closes(self, session):
        return self.prices

    def advise(self, session, seat, lived):
        self.asked.append((session, seat, lived))
        return advice(session, seat, self.targets, tuple(self.prices), self.hold, self.model)


@dataclass
class Clock:
    """Time that passes only when somebody waits."""

    at: datetime = LAST_HOUR
    waited: float = 0.0

    def now(self):
        return self.at

    def wait(self, seconds):
        self.at += timedelta(seconds=seconds)
        self.waited += seconds


def cycle_of(folder, at_broker, clock, known=None, journal=None, said=None, **changes):
    """A cycle on a folder's journal; `changes` are those of the account file."""
    known = known or Told()
    desk = Desk(
        account=account_file(**changes),
        folder=folder,
        broker=at_broker,
        journal=journal or Journal(folder / "journal.sqlite"),
        calendar="XNYS",
        symbols=tuple(known.prices),
        now=clock.now,
        wait=clock.wait,
        tell=(said if said is not None else []).append,
    )
    return Cycle(desk, known, Frictions())
