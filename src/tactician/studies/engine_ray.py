"""Jobs on a Ray cluster. Ray starts them, and does again what was lost with a process or a machine."""

import io
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from itertools import islice
from typing import Any, TextIO

from tactician.errors import UserError
from tactician.studies.engine import J, Outcome, R, S, attempt, begun_at_once
from tactician.training.checkpoint import versions

_TRIES_AGAIN = 20
"""Losses of a process or machine that a job survives. Without a bound, a job that kills its process would never end."""
_PATIENCE = 10.0
"""Seconds that a cluster may take to answer."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a study tells nobody of itself
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # as Ray will do by default; without it, it warns
}


class RayEngine:
    """A Ray cluster: the one at an address, or one that is started on this machine for the study."""

    def __init__(self, address: str | None, n_processes: int | None, gpu: bool) -> None:
        if address is not None and "://" in address:
            raise UserError(
                f"--address {address} is that of Ray's client; run this command on a machine of the cluster, with "
                "--address auto."
            )
        self._ray = _import_ray()
        self._address, self._n_processes, self._gpu = address or os.environ.get("RAY_ADDRESS"), n_processes, gpu
        self.slots = n_processes or 1

    def run(self, work: Callable[[J, S], R], jobs: Iterable[J], shared: S) -> Generator[tuple[int, R], None, None]:
        """See `Engine.run`."""
        queue = enumerate(jobs)
        if (first := next(queue, None)) is None:
            return
        ray = self._ray
        with self._connected():
            self.slots = self._count_slots()
            options = {"num_cpus": 1, "num_gpus": int(self._gpu)}
            task = ray.remote(**options, max_retries=_TRIES_AGAIN, retry_exceptions=False)(attempt_there)
            there = ray.put(shared)
            pending: dict[Any, int] = {}
            begun = [first]
            try:
                while begun or pending:
                    pending |= {task.remote(versions(), work, job, there): k for k, job in begun}
                    # Counted again each time, because machines join and leave.
                    room = begun_at_once(jobs, max(self._slots_now(), 1)) - len(pending)
                    if begun := list(islice(queue, max(room, 0))):
                        continue
                    (ready,), _ = ray.wait(list(pending), num_returns=1)
                    outcome = ray.get(ready)
                    yield pending.pop(ready), outcome.get()
            except ray.exceptions.RaySystemError as error:
                raise UserError(_lost("the connection to the Ray cluster was lost")) from error
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                raise UserError(_lost(f"a training's process was lost {_TRIES_AGAIN} times")) from error
            except ray.exceptions.RayTaskError:
                raise  # a fault of the program
            except ray.exceptions.RayError as error:
                raise UserError(_lost(f"a training was lost ({_first_line(error)})")) from error
            finally:
                for left in pending:
                    ray.cancel(left, force=True)

    @property
    def _resource(self) -> str:
        return "GPU" if self._gpu else "CPU"

    def _slots_now(self) -> int:
        return int(self._ray.cluster_resources().get(self._resource, 0))

    def _count_slots(self) -> int:
        slots = self._slots_now()
        if not slots:
            raise UserError(f"The Ray cluster has no {self._resource}; add a machine to it, or use --engine local.")
        return slots

    @contextmanager
    def _connected(self) -> Iterator[None]:
        ray = self._ray
        if ray.is_initialized():  # by the program that calls this one
            yield
            return
        handler = signal.getsignal(signal.SIGTERM)
        streams = sys.stdout, sys.stderr
        try:
            _knock(self._address)
            ray.init(
                address=self._address or "local",
                num_cpus=None if self._address else self._n_processes,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"at {self._address}" if self._address else "on this machine"
            raise UserError(
                f"There is no Ray cluster {where} ({_first_line(error)}); start one with `ray start --head`, or leave out "
                "--address."
            ) from error
        finally:
            _restore(handler)
        sys.stdout, sys.stderr = map(_WithoutRay, streams)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            # Messages that Ray has put off come now.
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                ray.shutdown()


class _WithoutRay:
    """A stream that takes nothing from Ray's threads. They print pages when a machine is lost, whatever Ray's settings."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def attempt_there(expected: Mapping[str, str], work: Callable[[J, S], Any], job: J, shared: S) -> Outcome:
    """Do a job on a machine of the cluster, unless it has other versions, which would compute other figures."""
    there = versions()
    for name, version in expected.items():
        if there[name] != version:
            return Outcome(
                mistake=f"{socket.gethostname()} has {name} {there[name]}, and this machine has {version}; install the same on "
                "all machines of the cluster."
            )
    return attempt(work, job, shared)


def _knock(address: str | None) -> None:
    """Raise an OSError if nobody listens at an address: Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _import_ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError("--engine ray needs Ray; install it with: pip install 'tactician[cluster]'") from error
    finally:
        _restore(handler)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def _restore(handler: Any) -> None:
    """Take SIGTERM back, which Ray claims for itself."""
    with suppress(ValueError, TypeError):  # not in the main thread, or a handler that Python did not set
        signal.signal(signal.SIGTERM, handler)


def _lost(what: str) -> str:
    return f"The study cannot go on: {what}. What is finished is kept: run the same command again."


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
