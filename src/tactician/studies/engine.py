"""Many independent jobs side by side: in processes on this machine, or on a Ray cluster.

A job is plain data, and its work is a pure function of the job and of what all jobs share. So it computes the same wherever
it runs, and may be done again when a machine is lost. Scheduling is the standard library's and Ray's business.
"""

import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol, TypeVar

from tactician.errors import UserError

J = TypeVar("J")
S = TypeVar("S")
R = TypeVar("R")

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Where jobs are done."""

    slots: int
    """Jobs that run side by side, as far as it is known."""

    def run(self, work: Callable[[J, S], R], jobs: Iterable[J], shared: S) -> Generator[tuple[int, R], None, None]:
        """Do all jobs. Whoever stops before the end closes the iterator, which stops the workers at once.

        Args:
            work: a pure function at the top level of a module.
            jobs: plain data, in the order in which they begin. What is no sequence is asked for the next job when a slot is
                free and all results so far were taken, so the next job may depend on them.
            shared: sent once to each process or machine.

        Yields:
            A job's index and its result, in order of completion.

        Raises:
            UserError: of a job; or a worker was lost, or there is no engine.
        """
        ...


def begun_at_once(jobs: Iterable[Any], slots: int) -> int:
    """How many jobs an engine takes before it has a result: all of a sequence, else one per slot."""
    return len(jobs) if isinstance(jobs, Sequence) else slots


def make_engine(
    name: EngineName, *, processes: int | None = None, address: str | None = None, gpu: bool = False
) -> Engine:
    """The engine of a name.

    Args:
        name: 'local' or 'ray'.
        processes: jobs side by side on this machine; None for one per core.
        address: of a Ray cluster; None starts one on this machine.
        gpu: whether each job computes on a GPU.

    Raises:
        UserError: the flags contradict one another, or Ray is not installed.
    """
    if name == "ray":
        from tactician.studies.engine_ray import RayEngine

        if address is not None and processes is not None:
            raise UserError(
                "--processes is for this machine, and the cluster at --address has its own number; leave out one."
            )
        return RayEngine(address, processes, gpu)
    from tactician.studies.engine_local import LocalEngine, default_processes

    if address is not None:
        raise UserError(f"--address {address} names a Ray cluster; add --engine ray.")
    return LocalEngine(processes or (1 if gpu else default_processes()))


@dataclass(frozen=True)
class Outcome:
    """What comes back from a worker: the result, or the user's mistake in words, because not every error can be pickled."""

    result: Any = None
    mistake: str | None = None

    def get(self) -> Any:
        """The result.

        Raises:
            UserError: the job's.
        """
        if self.mistake is not None:
            raise UserError(self.mistake)
        return self.result


def attempt(work: Callable[[J, S], Any], job: J, shared: S) -> Outcome:
    """Do a job in a worker, on one thread: another number of threads would round differently."""
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries, for developers
        try:
            return Outcome(work(job, shared))
        except UserError as error:
            return Outcome(mistake=str(error))


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a study as Ctrl+C does."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP raise `Stopped`, so that the workers are stopped, too."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup wants SIGHUP ignored
            try:
                before[number] = signal.signal(number, stop)
            except ValueError:  # only the main thread may handle signals
                break
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(stop: KeyboardInterrupt) -> int:
    """Exit code after a stop: 130 after Ctrl+C."""
    return stop.code if isinstance(stop, Stopped) else 130
