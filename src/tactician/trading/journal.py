"""The journal of an account: what was planned, sent and filled, in one SQLite file.

Everything is an event. An event carries the sha256 of the one before, so that a changed, inserted or missing row is found.
The tables of runs and orders are what the events add up to. They are there for reading, and are checked against the events.

A commit has reached the disk when it returns (write-ahead log, synchronous=FULL). So an order that is sent is always on disk.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from tactician.errors import Halted, UserError
from tactician.storage import json_text
from tactician.trading.broker import Order, Placed, Side, State

FILE = "journal.sqlite"
"""Its name in the folder of an account or a replay."""

_FORMAT = 2
_SCHEMA = """
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
  previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE INDEX kinds ON events (kind);
CREATE TABLE runs (session TEXT PRIMARY KEY, status TEXT NOT NULL, plan TEXT NOT NULL, model TEXT NOT NULL,
  data TEXT NOT NULL);
CREATE TABLE orders (number INTEGER NOT NULL, id TEXT PRIMARY KEY, session TEXT NOT NULL, symbol TEXT NOT NULL,
  side TEXT NOT NULL, planned TEXT NOT NULL, quantity TEXT NOT NULL, reference REAL NOT NULL, limit_price TEXT,
  state TEXT NOT NULL, filled TEXT NOT NULL, price REAL, fees REAL NOT NULL, reason TEXT NOT NULL);
"""
_GENESIS = "0" * 64

Status = Literal["planned", "selling", "buying", "done"]

EntryState = Literal["planned", "sending", "unknown", "absent", "lapsed"] | State
"""Beside the broker's words: 'planned' was never sent; 'sending' is about to be, or was when the program died; 'unknown'
got an ambiguous answer; 'absent' is an unknown order that the broker does not have; 'lapsed' was not sent in its session."""

FINAL = ("absent", "lapsed", "filled", "canceled", "expired", "rejected")
"""States after which nothing more will be filled."""


@dataclass(frozen=True)
class Entry:
    """An order as the journal knows it."""

    id: str
    session: str
    symbol: str
    side: Side
    planned: Decimal
    """Shares of the plan."""
    quantity: Decimal
    """Shares that are sent: those of the plan, or fewer where the money does not suffice."""
    reference: float
    """Price at which it was planned."""
    limit: Decimal | None = None
    state: EntryState = "planned"
    filled: Decimal = Decimal(0)
    price: float | None = None
    fees: float = 0.0
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether nothing more will be filled."""
        return self.state in FINAL

    @property
    def signed(self) -> Decimal:
        """Shares filled; sold ones are negative."""
        return self.filled if self.side == "buy" else -self.filled

    @property
    def spent(self) -> float:
        """Currency that left the cash, fees included; negative for what came in."""
        return float(self.signed) * (self.price or 0.0) + self.fees

    @property
    def order(self) -> Order:
        """What is sent."""
        return Order(self.id, self.symbol, self.side, self.quantity, self.limit)

    def placed(self, at_broker: Placed) -> "Entry":
        """The entry with what the broker says. A filled quantity never falls."""
        return replace(
            self,
            state=at_broker.state,
            filled=max(self.filled, at_broker.filled),
            price=self.price if at_broker.price is None else at_broker.price,
            fees=at_broker.fees,
            reason=at_broker.reason,
        )


@dataclass(frozen=True)
class Run:
    """What was decided for one session."""

    session: str
    status: Status
    plan: dict[str, Any]
    """See `tactician.trading.plan`: the portfolio that was seen, the decision, targets, prices, expected costs."""
    model: str
    """Identity of the model."""
    data: str
    """Fingerprint of the bars that the decision saw."""


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    seq: int
    at: str
    kind: str
    body: dict[str, Any]
    hash: str


class Journal:
    """An open journal. One process writes it: the caller holds the account's lock."""

    def __init__(self, path: Path, *, writes: bool = True, durable: bool = True) -> None:
        """Open a journal, or begin one, and verify it.

        Args:
            path: the file.
            writes: whether this process may write; it makes a new file.
            durable: whether each commit waits for the disk. Without it a power cut may lose the last ones, as a replay can
                afford; a program that dies loses none.

        Raises:
            UserError: the file cannot be opened, or is no journal of this version.
            Halted: it was changed by another hand.
        """
        self.path = path
        try:
            if writes:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                raise self._missing()
            self._db = sqlite3.connect(path if writes else f"{path.resolve().as_uri()}?mode=ro", uri=not writes)
            self._db.isolation_level = None
            if writes:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._begin(writes)
            self._runs: dict[str, Run] = {}
            self._orders: dict[str, Entry] = {}
            self._seq, self._last = self.verify()
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"{path} cannot be opened as a journal ({error}); restore it from a copy, or name another folder."
            ) from error

    def _begin(self, writes: bool) -> None:
        if self._is_empty() and not writes:  # the program died as it began
            raise self._missing()
        if self._is_empty():
            with self._transaction():
                if self._is_empty():  # asked again, because another process may have begun it meanwhile
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        if self._version() != _FORMAT:
            raise UserError(f"{self.path} is no journal of this version; name another folder.")

    def _is_empty(self) -> bool:
        return self._version() == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _missing(self) -> UserError:
        return UserError(f"There is no journal at {self.path}; `tactician trade run` begins one.")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def record(
        self, kind: str, at: datetime, *, run: Run | None = None, orders: Sequence[Entry] = (), **body: Any
    ) -> None:
        """Write one event, and the run and orders that it changes, in one transaction that has reached the disk.

        Args:
            kind: what happened.
            at: when, aware.
            run: a new run, or a changed one.
            orders: new orders, or changed ones.
            body: further plain values.
        """
        content = {**body, **({"run": asdict(run)} if run else {})}
        if orders:
            content["orders"] = [_plain(order) for order in orders]
        text = json_text(content, sort_keys=True)
        seq, stamp = self._seq + 1, at.isoformat()
        digest = _digest(seq, stamp, kind, text, self._last)
        try:
            with self._transaction():
                self._write((seq, stamp, kind, text, self._last, digest), run, orders)
        except sqlite3.Error as error:
            raise UserError(
                f"{self.path} cannot be written ({error}), and without it nothing is sent; end the other program that writes "
                "it, or free some space."
            ) from error
        # What is in memory changes only after the disk has it.
        self._seq, self._last = seq, digest
        self._orders |= {order.id: order for order in orders}
        if run:
            self._runs[run.session] = run

    def _write(self, event: tuple[Any, ...], run: Run | None, orders: Sequence[Entry]) -> None:
        self._db.execute("INSERT INTO events VALUES (?,?,?,?,?,?)", event)
        if run:
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?)", _run_row(run))
        numbers = {id: number for number, id in enumerate(self._orders, 1)} if orders else {}
        for order in orders:
            number = numbers.setdefault(order.id, len(numbers) + 1)
            values = (number, *_plain(order).values())
            self._db.execute(f"INSERT OR REPLACE INTO orders VALUES ({','.join('?' * len(values))})", values)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)

    @property
    def n_orders(self) -> int:
        """Orders ever planned."""
        return len(self._orders)

    def run(self, session: str) -> Run | None:
        """The run of a session."""
        return self._runs.get(session)

    def runs(self) -> list[Run]:
        """All runs, by session."""
        return list(self._runs.values())

    def order(self, id: str) -> Entry | None:
        """An order by its id."""
        return self._orders.get(id)

    def orders(self, session: str | None = None) -> list[Entry]:
        """Orders in the order of their planning: all, or those of one session."""
        return [entry for entry in self._orders.values() if session in (None, entry.session)]

    def events(self, *kinds: str) -> Iterator[Event]:
        """All events, or those of some kinds, in order."""
        where = f"WHERE kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        rows = self._db.execute(f"SELECT seq, at, kind, body, hash FROM events {where} ORDER BY seq", kinds)
        for seq, at, kind, body, digest in rows:
            yield Event(seq, at, kind, json.loads(body), digest)

    def last(self, *kinds: str) -> Event | None:
        """The last event of one of these kinds."""
        marks = ",".join("?" * len(kinds))
        row = self._db.execute(
            f"SELECT seq, at, kind, body, hash FROM events WHERE kind IN ({marks}) ORDER BY seq DESC LIMIT 1", kinds
        ).fetchone()
        return Event(row[0], row[1], row[2], json.loads(row[3]), row[4]) if row else None

    def verify(self) -> tuple[int, str]:
        """Check the chain of events, and the tables against it.

        Returns:
            Number and hash of the last event.

        Raises:
            Halted: a row was changed, added or removed by another hand.
        """
        self._db.execute("BEGIN")  # all tables as of one moment, although another process may write
        try:
            return self._verified()
        finally:
            self._db.execute("ROLLBACK")

    def _verified(self) -> tuple[int, str]:
        number, before = 0, _GENESIS
        runs: dict[str, Run] = {}
        orders: dict[str, Entry] = {}
        for seq, at, kind, body, previous, digest in self._db.execute("SELECT * FROM events ORDER BY seq"):
            number += 1
            if seq != number or previous != before or digest != _digest(seq, at, kind, body, previous):
                raise self._tampered(f"event {number}")
            before, content = digest, json.loads(body)
            if "run" in content:
                runs[content["run"]["session"]] = Run(**content["run"])
            for order in content.get("orders", ()):
                orders[order["id"]] = _entry(order)
        counted = self._db.execute("SELECT seq FROM sqlite_sequence").fetchone()
        if number != (counted[0] if counted else 0):
            raise self._tampered(f"the end after event {number}")
        expected_runs = {session: _run_row(run) for session, run in runs.items()}
        expected_orders = {id: (place, *_plain(order).values()) for place, (id, order) in enumerate(orders.items(), 1)}
        for table, expected, key in (("runs", expected_runs, 0), ("orders", expected_orders, 1)):
            stored = {row[key]: tuple(row) for row in self._db.execute(f"SELECT * FROM {table}")}
            for name in sorted({*expected, *stored}):
                if expected.get(name) != stored.get(name):
                    raise self._tampered(f"the row {name} of table {table}")
        self._runs, self._orders = runs, orders
        return number, before

    def _tampered(self, what: str) -> Halted:
        return Halted(
            f"{self.path}: {what} is not what the program wrote; nothing is sent. Restore the file from a copy, or begin "
            "with an empty folder."
        )


class _Transaction:
    """All or nothing. IMMEDIATE, so that a second writer fails at once and not in the middle."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _digest(seq: int, at: str, kind: str, body: str, previous: str) -> str:
    return hashlib.sha256("\n".join((str(seq), at, kind, body, previous)).encode()).hexdigest()


def _plain(entry: Entry) -> dict[str, Any]:
    """A row of plain values, in the order of the table's columns."""
    values = {f.name: getattr(entry, f.name) for f in fields(entry)}
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def _entry(row: dict[str, Any]) -> Entry:
    decimals = ("planned", "quantity", "filled", "limit")
    values: dict[str, Any] = {k: Decimal(v) if k in decimals and v is not None else v for k, v in row.items()}
    return Entry(**values)


def _run_row(run: Run) -> tuple[str, ...]:
    return (run.session, run.status, json_text(run.plan, sort_keys=True), run.model, run.data)
