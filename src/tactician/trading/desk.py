"""One account at one broker, with its journal: what all phases of a session need."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from tactician.errors import Halted, Refused, UserError
from tactician.trading.account import AccountFile
from tactician.trading.broker import Ambiguous, Broker, Placed, Rejected, Unreadable
from tactician.trading.journal import Entry, Journal

HALT = "HALT"
"""A file of this name in the account's folder stops everything. Its text is the reason."""
ABSENT_AFTER = 30.0
"""Seconds between two answers that an order does not exist. One alone may have come before the order arrived."""
_POLL = 2.0
_GRACE = 60.0
"""Seconds that a cancelled order gets to become final."""


@dataclass(frozen=True)
class Desk:
    """See the module."""

    account: AccountFile
    folder: Path
    broker: Broker
    journal: Journal
    calendar: str
    symbols: tuple[str, ...]
    """The declared sleeve. All else in the account is left alone."""
    now: Callable[[], datetime]
    """The time, aware. Events are stamped with it."""
    wait: Callable[[float], None]
    """Sleeps, or moves a simulated clock; in seconds."""
    tell: Callable[[str], None]

    @property
    def declared(self) -> float | None:
        """The sleeve's part of the account's cash, which the journal keeps; None for all. A simulated account is all ours."""
        return None if self.account.broker == "simulated" else self.account.cash

    @property
    def cash_is_declared(self) -> bool:
        """Whether the sleeve has a part of the account's cash."""
        return self.declared is not None

    def halted(self) -> str | None:
        """Why trading is halted; None if it is not."""
        return halt_reason(self.folder, self.journal)

    def stop_if_halted(self) -> None:
        """Raise if trading is halted. It is called before every order.

        Raises:
            Halted: with the reason and the command that ends it.
        """
        reason = self.halted()
        if reason is not None:
            last = self.journal.last("halted", "resumed")
            if last is None or last.kind != "halted":  # the file was made by another program or by hand
                self.journal.record("halted", self.now(), reason=reason)
            raise Halted(
                f"trading is halted: {reason}. Look at `tactician trade status --account FILE`, then type `tactician trade "
                "resume --account FILE --reason …`."
            )

    def halt(self, reason: str) -> None:
        """Halt until a person resumes: in the file, and in the journal, which is enough if the file cannot be written."""
        with suppress(UserError):
            write_halt(self.folder, reason)
        self.journal.record("halted", self.now(), reason=reason)

    def send(self, entry: Entry, *, despite_halt: bool = False) -> Entry:
        """Send an order, once. It is on disk before it leaves, and its answer afterwards.

        Args:
            entry: planned, and in the journal.
            despite_halt: for the sales that a person has ordered with the halt.

        Returns:
            The entry with the broker's word; 'unknown' if there was no clear one.

        Raises:
            Halted: before anything is sent.
        """
        if not despite_halt:
            self.stop_if_halted()
        entry = self._noted("sending", entry, "sending")
        try:
            placed = self.broker.submit(entry.order)
        except Rejected as no:
            return self._noted("rejected", entry, "rejected", str(no))
        except Ambiguous as unclear:
            return self._noted("unknown", entry, "unknown", str(unclear))
        entry = entry.placed(placed)
        self.journal.record("placed", self.now(), orders=[entry])
        return entry

    def settle(self, entry: Entry, *, anew: bool = False) -> Entry:
        """Ask the broker what became of an order that was sent, or may have been.

        An order that it does not know, twice with a pause in between, does not exist. If no answer ever came, because the
        program died, it may then be sent, under the same id. If an ambiguous answer came, it is given up for this session.

        Args:
            entry: the order.
            anew: a person takes the broker's word, also where it contradicts the journal.

        Raises:
            Unreadable: the broker gives no answer, or contradicts the journal.
        """
        placed = self.broker.order(entry.id)
        if placed is None:
            self.wait(ABSENT_AFTER)
            placed = self.broker.order(entry.id)
        wrong = _contradiction(entry, placed)
        if wrong and not anew:
            raise Unreadable(f"{wrong}; ask it, then resume.")
        if placed is None or wrong:
            state = "planned" if entry.state == "sending" and not wrong else "absent"
            return self._noted("not_there", entry, state, wrong or entry.reason)
        found = entry.placed(placed)
        if found != entry:
            self.journal.record("seen", self.now(), orders=[found])
        return found

    def finish(self, entries: list[Entry], *, at_once: bool = False, despite_halt: bool = False) -> list[Entry]:
        """Wait until orders are final, and cancel what is left at the deadline, or as soon as a person halts.

        Args:
            entries: sent, or never to be sent.
            at_once: cancel them now.
            despite_halt: see `send`.

        Raises:
            Refused: one is still open, so nothing more may be sent.
            Unreadable: the broker gives no answer.
        """
        deadline = self.now() + timedelta(minutes=0 if at_once else self.account.order_minutes)
        entries, cancelled = self._settled(entries), False
        while not all(entry.final or entry.state == "planned" for entry in entries):
            stopped = not despite_halt and not cancelled and self.halted() is not None
            if stopped or self.now() >= deadline:
                if cancelled:
                    open_ids = ", ".join(entry.id for entry in entries if not entry.final)
                    raise Refused(
                        f"{open_ids} cannot be brought to an end; nothing more is sent. Run the command again."
                    )
                for entry in entries:
                    if not entry.final:
                        self._cancel(entry)
                cancelled, deadline = True, self.now() + timedelta(seconds=_GRACE)
            self.wait(_POLL)
            entries = self._settled(entries)
        return entries

    def _settled(self, entries: list[Entry]) -> list[Entry]:
        return [entry if entry.final or entry.state == "planned" else self.settle(entry) for entry in entries]

    def _cancel(self, entry: Entry) -> None:
        self.journal.record("cancelling", self.now(), id=entry.id)
        with suppress(Ambiguous):  # what became of it is asked next
            self.broker.cancel(entry.id)

    def _noted(self, kind: str, entry: Entry, state: str, reason: str = "") -> Entry:
        changed = replace(entry, state=state, reason=reason)  # type: ignore[arg-type]
        self.journal.record(kind, self.now(), orders=[changed])
        return changed


def halt_reason(folder: Path, journal: Journal) -> str | None:
    """Why trading is halted; None if it is not. The file counts, and so does the journal if the file was removed."""
    file = folder / HALT
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or "no reason given"
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{file} cannot be read ({error.strerror})"
    last = journal.last("halted", "resumed")
    return str(last.body["reason"]) if last is not None and last.kind == "halted" else None


def write_halt(folder: Path, reason: str) -> None:
    """Make the file that stops everything.

    Raises:
        UserError: it cannot be written.
    """
    file = folder / HALT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(reason + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}), so nothing is halted; end the program that trades, and cancel its "
            "orders on the broker's page."
        ) from error


def remove_halt(folder: Path) -> None:
    """Remove that file.

    Raises:
        UserError: it cannot be removed.
    """
    file = folder / HALT
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{file} cannot be removed ({error.strerror}), so the halt stays; remove it by hand."
        ) from error


def _contradiction(entry: Entry, placed: Placed | None) -> str | None:
    if placed is None:
        lost = f"The broker no longer knows the order {entry.id}, which it had taken"
        return lost if entry.state == "open" else None
    same = (placed.symbol, placed.side) == (entry.symbol, entry.side) and placed.quantity <= entry.planned
    return None if same else f"The broker's order {entry.id} is another one than the journal's"
