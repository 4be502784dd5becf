"""Journals for pages: one that a cycle wrote at a faulty simulated broker, and small ones by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch

from tactician.bars.hours import session_after, trading_day
from tactician.errors import Refused
from tactician.portfolio.frictions import Frictions
from tactician.trading.account import AccountFile
from tactician.trading.account_page import ShadowPath, account_document
from tactician.trading.advice import Advice, Reason, Seat
from tactician.trading.cycle import Cycle
from tactician.trading.desk import Desk
from tactician.trading.journal import Entry, Journal, Run
from tactician.trading.simulated import Script, SimulatedBroker, Tape

SPITEFUL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SESSIONS = ("2024-03-04", "2024-03-05", "2024-03-06")
COSTS = {"spread": 1.0, "slippage": 2.5, "impact": 0.5, "commission": 0.25}
CALENDAR = "XNYS"
SYMBOLS = ("SPY", "QQQ", "IWM", "EFA", "EEM", "TLT", "IEF", "LQD", "GLD", "VNQ")
PRICES = (512.4, 438.1, 203.6, 78.2, 41.3, 94.8, 95.6, 108.9, 201.5, 85.1)
VOLATILITY = (0.010, 0.013, 0.014, 0.011, 0.012, 0.009, 0.004, 0.004, 0.010, 0.012)
REGIMES = ("HOLD", "FULL_CASH", "EQUAL_WEIGHT", "MOMENTUM", "LOW_VOL", "QUALITY", "SIZE_SMALL", "DEFENSIVE", "BALANCED")
CREATED = datetime(2024, 6, 14, 21, 5, tzinfo=UTC)
ENTRIES = (
    "market_volatility_63",
    "momentum_spread",
    "drawdown",
    "breadth_200",
    "cash_weight",
    "since_trade",
    "dispersion_21",
)
ACCOUNT = AccountFile(
    account="PA3XK2",
    checkpoint=Path("checkpoints/best_model.pt"),
    cash=100_000.0,
    max_order=1.0,
    max_order_adv=1e9,
    max_position=1.0,
    max_turnover=10.0,
    price_collar=1.0,
)


class Clock:
    def __init__(self):
        self.at = datetime(2024, 1, 1, tzinfo=UTC)

    def now(self):
        return self.at

    def wait(self, seconds):
        self.at += timedelta(seconds=seconds)


class Known:
    """A market of chance, and a policy of chance that changes its regime every few sessions."""

    regimes = REGIMES

    def __init__(self, tape, seed=0):
        self.tape, self.rng = tape, np.random.default_rng(seed)

    def closes(self, session):
        row = self.tape.days.index((session - date(1970, 1, 1)).days)
        if row % 23 == 22:
            raise Refused(f"bars.parquet has no bar of EEM for the session before {session}; wait for it.")
        return dict(zip(SYMBOLS, self.tape.prices[row - 1].tolist(), strict=True))

    def advise(self, session, seat, lived):
        row = self.tape.days.index((session - date(1970, 1, 1)).days)
        hold = row % 4 != 1
        rng = np.random.default_rng(row)
        action = 0 if hold else int(rng.integers(2, len(REGIMES)))
        weights = rng.dirichlet(np.full(len(SYMBOLS) + 1, 0.8))
        chances = rng.dirichlet(np.where(np.arange(len(REGIMES)) == action, 6.0, 0.4))
        why = sorted(rng.normal(0, 0.4, len(ENTRIES)).tolist(), key=lambda x: -abs(x))
        return Advice(
            session=session,
            known_until=session - timedelta(days=1),
            symbols=SYMBOLS,
            action=action,
            regime=REGIMES[action],
            description="",
            probabilities=dict(zip(REGIMES, chances.tolist(), strict=True)),
            hold=hold,
            targets=tuple(weights.tolist()),
            vol_daily=VOLATILITY,
            adv=(1e9,) * len(SYMBOLS),
            seat=seat if isinstance(seat, Seat) else Seat((0.0,)),
            next_regime=action or seat.regime,
            next_since=0 if action else seat.since_trade + 1,
            why=tuple(Reason(n, float(v), e) for n, v, e in zip(ENTRIES, rng.normal(0, 1.2, 9), why, strict=False)),
            strange=("vix_level", "term_spread") if row % 3 else (),
            model="8f14e45fceea167a5a36dedd4bea2543" * 2,
            data="c9f0f895fb98ab9159f51fd0297e236d" * 2,
        )


def tape_of(sessions, seed=1):
    days = [date(2024, 3, 1)]
    while len(days) < sessions + 2:
        days.append(session_after(CALENDAR, days[-1]))
    rng = np.random.default_rng(seed)
    shocks = rng.normal(0.0004, 1, (len(days), 1)) * 0.6 + rng.normal(0, 1, (len(days), len(SYMBOLS))) * 0.8
    growth = torch.from_numpy(np.exp(np.cumsum(shocks * np.array(VOLATILITY) + 0.0003, 0)))
    shape = growth.shape
    return Tape(
        days=tuple((day - date(1970, 1, 1)).days for day in days),
        symbols=SYMBOLS,
        prices=growth * torch.tensor(PRICES, dtype=torch.float64),
        cash_return=torch.full(shape[:1], 1.5e-4, dtype=torch.float64),
        traded=torch.ones(shape, dtype=torch.bool),
        delisted=torch.zeros(shape, dtype=torch.bool),
        vol_daily=torch.tensor(VOLATILITY, dtype=torch.float64).expand(shape),
        adv=torch.full(shape, 1e9, dtype=torch.float64),
    )


def lived(folder, sessions=70, script=None, halt=True):
    """A journal that the cycle wrote, session by session: orders, faults, refusals, and one halt that was resumed."""
    tape, clock = tape_of(sessions), Clock()
    frictions = Frictions(commission=0.00005)
    broker = SimulatedBroker(folder / "broker.sqlite", ACCOUNT.account, tape, frictions, 100_000.0, clock.now)
    journal = Journal(folder / "journal.sqlite")
    journal._db.execute("PRAGMA synchronous=OFF")
    desk = Desk(ACCOUNT, folder, broker, journal, CALENDAR, SYMBOLS, clock.now, clock.wait, lambda _: None)
    cycle = Cycle(desk, Known(tape), frictions)
    for row in range(1, sessions + 1):
        day = date(1970, 1, 1) + timedelta(days=tape.days[row])
        clock.at = trading_day(CALENDAR, day).closes - timedelta(minutes=15)
        broker.move_to(tape.days[row])
        if script is not None:
            gaps = np.random.default_rng(row).normal(0, 4e-4, len(SYMBOLS)).tolist()
            faults = script if row % 9 == 1 else Script()
            broker._script = replace(faults, gap=dict(zip(SYMBOLS, gaps, strict=True)))
        try:
            cycle.run(send=True)
        except Refused as no:
            journal.record("refused", clock.now(), session=str(day), reason=str(no))
        if halt and row == sessions // 2:
            journal.record("halted", clock.now(), reason="the broker holds 12 TLT, and the journal 24 (a split?)")
            clock.wait(3600)
            journal.record("resumed", clock.now(), reason="it was a reverse split; looked at by hand", model=None)
    return journal


FAULTS = Script(filled={"EEM": 0.6, "TLT": 0.35}, rejected={"GLD": "asset is not tradable at this moment"})


def shadow_of(folder, sessions=70):
    """The same decisions without any fault."""
    journal = lived(folder, sessions, halt=False)
    values = {}
    for event in journal.events("adopted", "checked"):
        values.setdefault(event.body["session"], event.body["value"])
    journal.close()
    first = next(iter(values.values()))
    return ShadowPath(list(values), [value / first for value in values.values()])


class Hand:
    """Writes a journal event by event."""

    def __init__(self, path):
        self.journal = Journal(path)
        self.journal._db.execute("PRAGMA synchronous=OFF")
        self.at = datetime(2024, 3, 4, 20, 45, tzinfo=UTC)

    def note(self, kind, **more):
        self.at += timedelta(minutes=1)
        self.journal.record(kind, self.at, **more)

    def book(self, kind, session, value, positions=None, cash=1000.0, prices=None, **more):
        body = {"foreign_positions": {}, "foreign_orders": [], "account_cash": cash, **more}
        prices = {"SPY": 500.0, "QQQ": 400.0} if prices is None else prices
        self.note(kind, session=session, value=value, positions=positions or {}, cash=cash, prices=prices, **body)

    def decide(self, session, *orders, weights=None, model="a" * 64, **decision):
        told = {
            "name": "MOMENTUM",
            "probabilities": {"MOMENTUM": 0.7, "HOLD": 0.3},
            "known_until": "2024-03-01",
            "why": [["breadth_200", 1.5, 0.25], ["drawdown", -0.5, -0.125]],
            "strange": ["vix_level"],
            **decision,
        }
        weights = {"SPY": 0.6, "QQQ": 0.3, "CASH": 0.1} if weights is None else weights
        plan = {"weights": weights, "costs": COSTS, "turnover": 0.9, "left_out": {}, "decision": told}
        self.note("planned", run=Run(session, "done", plan, model, "d" * 64), orders=list(orders))

    def document(self, shadow=None, **more):
        return account_document(self.journal, shadow, ACCOUNT, created=CREATED, **more)


def order(symbol="SPY", side="buy", planned="10", filled="10", price=501.0, session=SESSIONS[0], **more):
    values = {"quantity": Decimal(planned), "reference": 500.0, "fees": 0.5, "state": "filled", **more}
    id = f"tac-{session}-{symbol}-{side[0]}"
    return Entry(id, session, symbol, side, Decimal(planned), filled=Decimal(filled), price=price, **values)
