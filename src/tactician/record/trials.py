"""The trial ledger: which configurations were trained on some data, and who has looked at its test range.

A file of JSON lines beside the market cache, to which lines are only ever added. The deflated Sharpe ratio reads the number
of trials from it. A count that is not certain is None, "not known", and never a guess.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from filelock import FileLock, Timeout
from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter

from tactician.errors import UserError
from tactician.storage import json_text

_PATIENCE = 30.0
"""Seconds to wait for another writer, who needs milliseconds."""

_TORN = b"\t# torn"
"""Closes the half line of a writer that was killed, so that it is told from a line that somebody edited."""

_Date = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
Dates = tuple[_Date, _Date]
"""First and last session of a range, YYYY-MM-DD."""

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Trial:
    """A configuration that was trained, or trained further."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    run: str
    """Name of the run. A resumed run has the same name and is the same trial."""
    configuration: str
    """sha256 of its settings (`registration.fingerprint_of`)."""
    seed: int
    fingerprint: str
    """Of the market data."""
    validated: Dates | None
    """The validation range, if the model was judged there. For a seed of a walk-forward: all its test pieces."""
    sharpe_per_session: FiniteFloat | None
    """On that range, not annualised."""
    at: str = ""
    """When the line was written, ISO 8601 in UTC; filled in by the ledger."""
    kind: Literal["trial"] = "trial"


@dataclass(frozen=True)
class Look:
    """A judgement on a test range."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    run: str
    configuration: str
    fingerprint: str
    range: Dates
    registration: str | None
    """sha256 of the registration that was written before, if there was one."""
    sharpe_per_session: FiniteFloat | None
    """On that range, not annualised."""
    seed: int | None = None
    """None if it is not known, or if the look was at several seeds together."""
    at: str = ""
    kind: Literal["look"] = "look"


Entry = Trial | Look
_LINE: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def trials_beside(cache: Path) -> Path:
    """The ledger of a market cache: ``<cache name>.trials.jsonl`` in the same folder."""
    return cache.with_name(f"{cache.name}.trials.jsonl")


@dataclass(frozen=True)
class Trials:
    """What a ledger says. All counts are None where they are not known."""

    entries: tuple[Entry, ...] = ()
    known: bool = True
    """False if there is no ledger, or if an entry could not be written to it."""
    torn: tuple[int, ...] = ()
    """Numbers of lines that a killed writer left half-written. Each counts as one trial and one look more, so that no
    count is too low."""

    def knows(self, run: str) -> bool:
        """Whether the ledger was there when a run was trained: it has the run's trial, not only looks of it."""
        return self.known and any(isinstance(entry, Trial) and entry.run == run for entry in self.entries)

    def n_trials(self, fingerprint: str | None = None, *, run: str | None = None) -> int | None:
        """Number of distinct (configuration, seed) that were trained or looked with.

        Args:
            fingerprint: counts only those on this data; None counts those on all data of this cache.
            run: a run that must be among them.

        Returns:
            The number; None if there is no ledger, or if it does not know the run.
        """
        if not self._certain(run):
            return None
        trials = self._trials()
        return len({trials[x.run] for x in self.entries if fingerprint in (None, x.fingerprint)}) + len(self.torn)

    def sharpes(
        self, first: str, last: str, fingerprint: str | None = None, *, run: str | None = None
    ) -> tuple[float, ...] | None:
        """Sharpe ratio per session of each distinct trial, for the variance that the deflated Sharpe ratio needs.

        It is that of the trial's last look at a range that overlaps the dates, else that of its last validation. Trials
        without a figure are left out, so there may be fewer than `n_trials`.

        Args:
            first: first session of the judged range, YYYY-MM-DD.
            last: its last session.
            fingerprint: see `n_trials`.
            run: see `n_trials`.
        """
        if not self._certain(run):
            return None
        trials = self._trials()
        validated: dict[tuple[str, int | None], float] = {}
        looked: dict[tuple[str, int | None], float] = {}
        for entry in self.entries:
            if entry.sharpe_per_session is None or fingerprint not in (None, entry.fingerprint):
                continue
            if isinstance(entry, Trial):
                validated[trials[entry.run]] = entry.sharpe_per_session
            elif _overlap(entry.range, first, last):
                looked[trials[entry.run]] = entry.sharpe_per_session
        return tuple({**validated, **looked}.values())

    def looks(self, first: str, last: str, *, run: str | None = None) -> int | None:
        """Number of judgements on ranges that overlap the dates, by whatever configuration."""
        if not self._certain(run):
            return None
        return len(self.torn) + sum(isinstance(x, Look) and _overlap(x.range, first, last) for x in self.entries)

    def _certain(self, run: str | None) -> bool:
        return self.known and (run is None or self.knows(run))

    def _trials(self) -> dict[str, tuple[str, int | None]]:
        """Configuration and seed of each run's first entry: a prolonged run has another configuration afterwards."""
        return {entry.run: (entry.configuration, entry.seed) for entry in reversed(self.entries)}


class TrialLedger:
    """Adds entries to a ledger. A ledger that cannot be written is told once, and its counts are not known."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """Nothing is opened yet.

        Args:
            path: the file, made with its first entry.
            warn: tells the user a sentence.
        """
        self.path, self._warn, self._failed = path, warn, False

    def add_trial(
        self,
        *,
        run: str,
        configuration: str,
        seed: int,
        fingerprint: str,
        validated: Dates | None,
        sharpe_per_session: float | None,
    ) -> bool:
        """Note that a configuration was trained (see `Trial`).

        Returns:
            Whether it is on the disk; if not, the user has been told.
        """
        return self._add(Trial(run, configuration, seed, fingerprint, validated, sharpe_per_session))

    def add_look(
        self,
        *,
        run: str,
        configuration: str,
        seed: int | None,
        fingerprint: str,
        range: Dates,
        registration: str | None,
        sharpe_per_session: float | None,
    ) -> bool:
        """Note that a test range was looked at (see `Look`).

        Returns:
            Whether it is on the disk; if not, the user has been told.
        """
        return self._add(Look(run, configuration, fingerprint, range, registration, sharpe_per_session, seed))

    def read(self) -> Trials:
        """See `read`. After an entry that could not be written no count is known."""
        trials = read(self.path, self._warn)
        return replace(trials, known=False) if self._failed else trials

    def _add(self, entry: Entry) -> bool:
        values = {"kind": entry.kind, **asdict(entry), "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, json_text(values).encode() + b"\n")
        except OSError as error:
            if not self._failed:
                reason = "another program holds it" if isinstance(error, Timeout) else error.strerror
                self._warn(
                    f"Cannot write the trial ledger {self.path}: {reason}; the number of trials is not known, so there is "
                    "no deflated Sharpe ratio. Make the folder writable to have one."
                )
            self._failed = True
            return False
        return True


def read(path: Path, warn: Callable[[str], None] = lambda _: None) -> Trials:
    """Read a ledger.

    Args:
        path: the file. If there is none, no count is known.
        warn: tells the user of lines that a killed writer left half-written.

    Raises:
        UserError: a line is no entry; or the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Trials(known=False)
    except OSError as error:
        raise UserError(f"Cannot read the trial ledger {path}: {error.strerror}; make it readable.") from error
    entries, torn = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(_LINE.validate_json(line))
        except ValueError as error:
            # Every whole line ends in a newline, so what follows the last one is the rest of a killed writer.
            if line.endswith(_TORN) or number == len(lines):
                torn.append(number)
                continue
            raise UserError(
                f"{path}, line {number} is no entry of a trial ledger; put it back as it was, or move the file away, which "
                "makes the number of trials unknown."
            ) from error
    if torn:
        warn(_tell_torn(path, torn))
    return Trials(tuple(entries), torn=tuple(torn))


def _tell_torn(path: Path, torn: Iterable[int]) -> str:
    numbers = ", ".join(str(number) for number in torn)
    return (
        f"{path}, line {numbers} was cut off when its program was killed; it counts as one trial and one look, and is not "
        "read."
    )


def _append(path: Path, line: bytes) -> None:
    """Add a line and flush it to the disk, alone among all writers.

    Raises:
        OSError: the file cannot be written, or (Timeout) another program holds the lock.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=_PATIENCE)
    try:
        with suppress(NotImplementedError):  # filelock's word for a file system without locks
            lock.acquire()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _write_all(descriptor, _closing(_last_line(descriptor)) + line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        lock.release()


def _write_all(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


def _last_line(descriptor: int) -> bytes:
    """What follows the last newline: nothing, or what a killed writer left."""
    size, step = os.fstat(descriptor).st_size, 4096
    tail = b""
    while size > 0 and b"\n" not in tail:
        begin = max(0, size - step)
        os.lseek(descriptor, begin, os.SEEK_SET)
        tail = os.read(descriptor, size - begin) + tail
        size = begin
    return tail.rpartition(b"\n")[2]


def _closing(left: bytes) -> bytes:
    """Ends a line that was left open, so that the next entry does not become a part of it."""
    if not left:
        return b""
    try:
        _LINE.validate_json(left)
    except ValueError:
        return _TORN + b"\n"
    return b"\n"  # only its newline was lost


def _overlap(dates: Dates, first: str, last: str) -> bool:
    return dates[0] <= last and first <= dates[1]
