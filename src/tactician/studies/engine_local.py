"""Jobs in processes on this machine, each on one thread."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any

from tactician.errors import UserError
from tactician.studies.engine import J, Outcome, R, S, attempt, begun_at_once

_given: tuple[Callable[[Any, Any], Any], Any] | None = None
"""In a worker: the work, and what all jobs share."""


class LocalEngine:
    """A pool of processes."""

    def __init__(self, n_processes: int) -> None:
        self.slots = n_processes

    def run(self, work: Callable[[J, S], R], jobs: Iterable[J], shared: S) -> Generator[tuple[int, R], None, None]:
        """See `Engine.run`."""
        queue, ahead = enumerate(jobs), begun_at_once(jobs, self.slots)
        begun = list(islice(queue, ahead))
        if not begun:
            return
        others = set(multiprocessing.active_children())
        # Pickled here, because a queue between processes would send tensors as handles of shared memory.
        given = pickle.dumps((work, shared))
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(self.slots, len(begun)), context, initializer=_begin, initargs=(given,))
        finished = False
        try:
            futures: dict[Future[Outcome], int] = {}
            while begun or futures:
                with _interrupts_held():  # a process starts when a job finds none that is free
                    futures |= {pool.submit(_do, job): k for k, job in begun}
                done, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in done:
                    yield futures.pop(future), future.result().get()
                begun = list(islice(queue, ahead - len(futures)))
            finished = True
        except BrokenProcessPool as error:
            raise UserError(
                "A training's process was killed, perhaps for lack of memory. What is finished is kept: run the same "
                "command again, with fewer --processes."
            ) from error
        finally:
            if not finished:  # a training takes long, and nobody waits for its result any more
                for worker in set(multiprocessing.active_children()) - others:
                    worker.kill()
            pool.shutdown(cancel_futures=True)


def default_processes() -> int:
    """One per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(given: bytes) -> None:
    """Prepare a worker."""
    global _given
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _given = pickle.loads(given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # it was killed, and nobody is there to take the result


def _do(job: Any) -> Outcome:
    assert _given is not None
    work, shared = _given
    return attempt(work, job, shared)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes inside: they inherit that Ctrl+C, which a terminal sends to all, is none of their business.

    In this process an interrupt comes a moment later.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else its start, amid the others', would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
