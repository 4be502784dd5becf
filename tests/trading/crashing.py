"""Sessions that are killed and run again, and what must hold whatever happens.

A child process runs one session's cycle and dies by SIGKILL at the k-th point: at each write of the journal, before and after
its commit, and at each request that changes something at the broker. The broker lives on outside the child. Points of the
broker lie in its own process, so that it has taken an order of which the child never reads the answer.

The broker is lax: it takes an id twice, lends shares and money. What it counts is the program's own care.
"""

import json
import mmap
import os
import signal
import sqlite3
import struct
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module

import torch

from tactician.bars.hours import next_to_close
from tactician.errors import UserError
from tactician.portfolio.frictions import Frictions
from tactician.trading.broker import Order
from tactician.trading.desk import HALT, remove_halt
from tactician.trading.flatten import cancel_ours, flatten
from tactician.trading.journal import Journal, _Transaction
from tactician.trading.reconcile import reconcile
from tactician.trading.simulated import SimulatedBroker, Tape
from tests.trading.connected import CALM, HASTY, connect
from tests.trading.fake_alpaca import FakeAlpaca
from tests.trading.sessions import CASH, HELD, LAST_HOUR, NUMBER, PRICES, SYMBOLS, TARGETS, Told, cycle_of

FOREIGN = "ZZZ"
FOREIGN_SHARES = Decimal(7)
LONGEST = 60
"""Seconds that a child may take. A longer one hangs."""
_STATE = struct.Struct("dqqq")


class Shared:
    """What parent and child both see: the clock, the points passed, the one to die at, and who dies."""

    def __init__(self, at=LAST_HOUR):
        self._memory = mmap.mmap(-1, _STATE.size)
        self.set_time(at)

    def _get(self, place):
        return _STATE.unpack(self._memory[:])[place]

    def _set(self, place, value):
        values = list(_STATE.unpack(self._memory[:]))
        values[place] = value
        self._memory[:] = _STATE.pack(*values)

    def now(self):
        return datetime.fromtimestamp(self._get(0), UTC)

    def set_time(self, at):
        self._set(0, at.timestamp())

    def wait(self, seconds):
        self._set(0, self._get(0) + seconds)

    def arm(self, point):
        """Die at a point; none is the 0th."""
        self._set(1, 0)
        self._set(2, point)

    def live(self):
        """The child begins."""
        self._set(3, os.getpid())

    @property
    def points(self):
        return self._get(1)

    def point(self, label):
        """A point at which the child may die. In the broker's process the caller goes no further either."""
        self._set(1, self._get(1) + 1)
        if self._get(1) == self._get(2):
            os.kill(self._get(3), signal.SIGKILL)
            raise Died(label)


class Died(Exception):
    """The program that a broker serves is dead."""


class CrashingJournal(Journal):
    def __init__(self, path, point):
        self._point = point
        super().__init__(path)

    def _transaction(self):
        return _CrashingTransaction(self._db, self._point)


class _CrashingTransaction(_Transaction):
    def __init__(self, db, point):
        super().__init__(db)
        self._point = point

    def __exit__(self, *error):
        self._point("before a commit")
        super().__exit__(*error)
        self._point("after a commit")


class CrashingBroker:
    """A broker whose requests for change are points, before they leave and after the answer was read."""

    def __init__(self, broker, point):
        self._broker, self._point = broker, point

    def __getattr__(self, name):
        return getattr(self._broker, name)

    def submit(self, order):
        self._point("before an order leaves")
        placed = self._broker.submit(order)
        self._point("after an order was answered")
        return placed

    def cancel(self, id):
        self._point("before a cancel leaves")
        self._broker.cancel(id)
        self._point("after a cancel was answered")


class Lax(FakeAlpaca):
    """Alpaca without its own care, unless it is told to be strict; it kills the child at its own points."""

    def __init__(self, shared):
        self.shared, self.skew = shared, 0.0
        self.strict, self.withdrawn = False, 0
        self.twice, self.foreign, self.overdrawn = [], set(), []
        self.after_order = []
        """Called with the number of our orders taken so far."""
        super().__init__()
        self.skew = 0.0
        self.server.handle_error = lambda *_: None  # the client is dead

    @property
    def clock(self):
        return datetime.fromtimestamp(self.shared.now().timestamp() + self.skew, UTC)

    @clock.setter
    def clock(self, at):
        self.skew = at.timestamp() - self.shared.now().timestamp()

    def foreign_order(self, *given):
        id = super().foreign_order(*given)
        self.foreign.add(id)
        return id

    def submit(self, client_id, *given):
        if not client_id.startswith("tac-"):
            return super().submit(client_id, *given)
        self.shared.point("an order arrived")
        if client_id in self.orders and not self.strict:
            self.twice.append(client_id)
            self.orders[f"{client_id}#{len(self.twice)}"] = self.orders.pop(client_id)
        order = super().submit(client_id, *given)
        if order.side == "buy" and self.cash + self.withdrawn < 0:
            self.overdrawn.append(client_id)
        for call in self.after_order:
            call(sum(id.startswith("tac-") for id in self.orders))
        self.shared.point("an order was taken")
        return order

    def _check(self, order):
        if self.strict:
            super()._check(order)
            return
        power, shares = self.cash, self.positions[order.symbol]
        others = {id: known for id, known in self.orders.items() if known.symbol == order.symbol}
        self.cash, self.positions[order.symbol] = Decimal(10**9), Decimal(10**9)
        for id in others:
            del self.orders[id]
        try:
            super()._check(order)
        finally:
            self.cash, self.positions[order.symbol] = power, shares
            self.orders |= others

    def cancel(self, id):
        self.shared.point("a cancel arrived")
        super().cancel(id)
        self.shared.point("a cancel was done")


@dataclass
class Ended:
    """How a child ended."""

    code: int
    """Exit code; below zero the signal."""
    said: str

    @property
    def killed(self):
        return self.code == -signal.SIGKILL


@dataclass
class World:
    """An account at a broker, its journal, and the children that trade it."""

    folder: object
    shares: str = "fractional"
    at: datetime = LAST_HOUR
    targets: tuple = TARGETS
    known_prices: dict = field(default_factory=lambda: dict(PRICES))
    changes: dict = field(default_factory=lambda: {"order_minutes": 1})
    """Of the account file."""

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shared = Shared(self.at)
        next_to_close("XNYS", self.at)  # the calendar is built once, before a child is made
        self.begin()
        self.before = self.positions()

    @property
    def path(self):
        return self.folder / "journal.sqlite"

    @property
    def session(self):
        return str(next_to_close("XNYS", self.shared.now()).date)

    def cycle(self, journal, broker):
        known = Told(prices=self.known_prices, targets=self.targets)
        changes = {"shares": self.shares, "account": NUMBER, **self.changes}
        return cycle_of(self.folder, broker, self.shared, known, journal, **changes)

    def run(self, point=0):
        """A child runs the session's cycle, and dies at a point unless it ends before."""
        return self.child(lambda cycle: cycle.run(send=True), point)

    def resume(self):
        """A child does what a person's word to go on does."""

        def go_on(cycle):
            reconcile(cycle.desk, self.session, "adopted")
            cycle.desk.journal.record("resumed", cycle.desk.now(), reason="a person looked at it", model="m")
            remove_halt(cycle.desk.folder)

        return self.child(go_on)

    def halt_and_flatten(self, point=0):
        """A child does what `tactician trade halt --flatten` does."""
        self.flattened = True

        def sell_all(cycle):
            desk = cycle.desk
            self.halt_by_hand()
            desk.halt("a person wants it")
            cancel_ours(desk)
            flatten(desk, next_to_close("XNYS", desk.now()))

        return self.child(sell_all, point)

    def child(self, work, point=0):
        return self.ended(self.start(work, point))

    def start(self, work, point=0):
        self.shared.arm(point)
        return self.fork(work)

    def fork(self, work):
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            code = self._work(work)
        finally:
            os._exit(code)

    def ended(self, pid, allowed=(0, 3, 4, -signal.SIGKILL)):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        told = self.folder / f"said-{pid}"
        said = told.read_text() if told.exists() else ""
        assert code in allowed, f"a child ended with {code}: {said}"
        return Ended(code, said)

    def _work(self, work):
        signal.alarm(LONGEST)
        torch.set_num_threads(1)  # a pool of threads does not outlive a fork
        self.shared.live()
        told = self.folder / f"said-{os.getpid()}"
        try:
            journal = CrashingJournal(self.path, self.shared.point)
            work(self.cycle(journal, CrashingBroker(self.broker(), self.shared.point)))
        except UserError as error:
            told.write_text(str(error))
            return error.exit_code
        except BaseException:
            told.write_text(traceback.format_exc())
            return 99
        return 0

    def run_to_the_end(self, points=(), tries=4):
        """Run the same command again and again: dying at each of some points, then until it is done or is halted.

        Returns:
            How the last child ended.
        """
        for point in points:
            ended = self.run(point)
            self.check()
            if not ended.killed:
                break
        for _ in range(tries):
            ended = self.run()
            assert not ended.killed
            self.check()
            if ended.code in (0, 4):
                break
        return ended

    # ------------------------------------------------------------------------------------------ what must hold

    def check(self):
        """What must hold at any time, by the broker's own counters and the stored plans."""
        journal = self.journal()
        planned, sessions = {"buy": defaultdict(Decimal), "sell": defaultdict(Decimal)}, Counter()
        for event in journal.events("planned", "flatten") if journal else ():
            if event.kind == "planned":
                sessions[event.body["run"]["session"]] += 1
            for order in event.body["orders"]:
                planned[order["side"]][order["symbol"]] += Decimal(order["planned"])
        if journal:
            journal.verify()
            journal.close()
        assert all(n == 1 for n in sessions.values()), f"a session has two plans: {sessions}"
        bought, sold = self.traded()
        for symbol in {*bought, *sold}:
            assert symbol in SYMBOLS, f"{symbol} was traded, and is none of ours"
            assert bought[symbol] <= planned["buy"][symbol], f"{symbol}: {bought[symbol]} bought, {planned}"
            # What a flatten lists and does not sell, the next one lists again. See `check_sold` for its limit.
            assert sold[symbol] <= planned["sell"][symbol], f"{symbol}: {sold[symbol]} sold, {planned}"
        self.check_sold(bought, sold)
        assert not self.twice(), f"orders were taken twice: {self.twice()}"
        assert not self.overdrawn(), f"there was no money for {self.overdrawn()}"

    def journal(self):
        """For reading; None if the first child died before it was begun."""
        try:
            return Journal(self.path, writes=False)
        except UserError as none:
            assert "There is no journal" in str(none)
            return None

    def check_sold(self, bought, sold):
        for symbol in sold:
            # A later session may sell what an earlier one bought, and so may a flatten.
            held = self.before.get(symbol, Decimal(0)) + (bought[symbol] if self.sessions > 1 or self.flattened else 0)
            assert sold[symbol] <= held, f"{symbol}: {sold[symbol]} sold, {held} held"

        assert all(shares >= 0 for shares in self.positions().values()), f"short: {self.positions()}"

    sessions, flattened = 1, False

    def end(self):
        """All that a session leaves behind: at the broker, and in the journal."""
        journal = Journal(self.path, writes=False)
        entries = {e.id: (e.state, e.quantity, e.filled, e.price) for e in journal.orders()}
        runs = {run.session: run.status for run in journal.runs()}
        halted = journal.last("halted") is not None
        journal.close()
        return {"broker": self.state(), "orders": entries, "runs": runs, "halted": halted}

    def halt_by_hand(self):
        (self.folder / HALT).write_text("a person wants it\n")


@dataclass
class AtAlpaca(World):
    """At `Lax`, which lives in this process, and which a child reaches through alpaca-py over HTTP."""

    hasty: bool = False

    def begin(self):
        for module in ("trading.client", "trading.requests", "data.historical.stock", "data.requests"):
            import_module(f"alpaca.{module}")  # once, and not in every child
        self.fake = Lax(self.shared)
        for symbol, price in (PRICES | {FOREIGN: 30.0}).items():
            self.fake.set_price(symbol, price)
        self.fake.set_account(number=NUMBER, cash=CASH)
        for symbol, shares in HELD.items():
            self.fake.hold(symbol, shares)
        self.fake.hold(FOREIGN, FOREIGN_SHARES)

    def close(self):
        self.fake.close()

    def broker(self):
        return connect(self.fake, HASTY if self.hasty else CALM)

    def positions(self):
        return {symbol: shares for symbol, shares in self.fake.positions.items() if shares}

    def traded(self):
        traded = {"buy": defaultdict(Decimal), "sell": defaultdict(Decimal)}
        for order in self.fake.orders.values():
            if order.client_id not in self.fake.foreign and order.filled:
                traded[order.side][order.symbol] += order.filled
        return traded["buy"], traded["sell"]

    def twice(self):
        return self.fake.twice

    def overdrawn(self):
        return self.fake.overdrawn

    def state(self):
        orders = {id: (order.status, order.filled) for id, order in self.fake.orders.items()}
        return {"positions": self.positions(), "cash": self.fake.cash, "orders": orders}

    def next_session(self, at):
        self.fake.end_of_day()
        self.shared.set_time(at)
        self.sessions += 1


_DAYS = ("2025-06-02", "2025-06-03", "2025-06-04")


def tape():
    days = tuple((date.fromisoformat(day) - date(1970, 1, 1)).days for day in _DAYS)
    prices = torch.tensor([list(PRICES.values())] * len(days), dtype=torch.float64)
    return Tape(
        days=days,
        symbols=SYMBOLS,
        prices=prices,
        cash_return=torch.zeros(len(days), dtype=torch.float64),
        traded=torch.ones_like(prices, dtype=torch.bool),
        delisted=torch.zeros_like(prices, dtype=torch.bool),
        vol_daily=torch.full_like(prices, 0.01),
        adv=torch.full_like(prices, 1e9),
    )


@dataclass
class AtSimulation(World):
    """At the simulated broker, whose account is a file. No tensor is made in this process before a child is."""

    script: object = None

    def begin(self):
        self._day = 1
        self.changes = {"broker": "simulated", **self.changes}

        def hold():
            broker = self.broker(day=0, cash=100_000.0, script=None)
            for number, (symbol, shares) in enumerate(HELD.items()):
                broker.submit(_order(f"before-{number}", symbol, shares))

        self._in_child(hold)
        self.first_orders = len(self._orders())

    def close(self):
        pass

    def broker(self, day=None, cash=0.0, **changes):
        script = changes.get("script", self.script)
        broker = SimulatedBroker(
            self.folder / "broker.sqlite", NUMBER, tape(), Frictions(), cash, self.shared.now, script
        )
        broker.move_to(tape().days[self._day if day is None else day])
        return broker

    def _in_child(self, work):
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            return
        code = 1
        try:
            torch.set_num_threads(1)
            work()
            code = 0
        finally:
            os._exit(code)

    def _read(self):
        db = sqlite3.connect(self.folder / "broker.sqlite")
        state = json.loads(db.execute("SELECT state FROM account").fetchone()[0])
        orders = [json.loads(row[0]) for row in db.execute("SELECT placed FROM orders ORDER BY id")]
        db.close()
        return state, orders

    def _orders(self):
        return self._read()[1]

    def positions(self):
        return {symbol: Decimal(shares) for symbol, shares in self._read()[0]["positions"].items()}

    def traded(self):
        """By the orders, which must add up to what is held."""
        traded = {"buy": defaultdict(Decimal), "sell": defaultdict(Decimal)}
        for order in self._orders():
            if order["id"].startswith("tac-"):
                traded[order["side"]][order["symbol"]] += Decimal(order["filled"])
        now = self.positions()
        for symbol in SYMBOLS:
            change = traded["buy"][symbol] - traded["sell"][symbol]
            assert now.get(symbol, 0) - self.before.get(symbol, 0) == change, f"{symbol} was traded without an order"
        return traded["buy"], traded["sell"]

    def twice(self):
        return []  # it keeps orders by id, and positions add up to them

    def overdrawn(self):
        return [] if self._read()[0]["cash"] >= 0 else ["the account"]

    def state(self):
        state, orders = self._read()
        return {"positions": state["positions"], "cash": state["cash"], "orders": orders}

    def next_session(self, at):
        self.shared.set_time(at)
        self._day += 1
        self.sessions += 1


def _order(id, symbol, shares):
    return Order(id, symbol, "buy", shares)
