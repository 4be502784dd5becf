"""Several processes that train one policy: one per GPU, through torch's elastic launcher or under torchrun."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor

from tactician.errors import UserError
from tactician.learning import ALONE, Collective

T = TypeVar("T")

FRESH_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""If it is 1 for the launcher, the processes of every restart meet in a store of their own. By default torch's launcher keeps
one store for all restarts. A process that is faster than the first one then finds its old address in the store."""

_RESTARTS = 3
_PATIENCE = 24 * 3600  # seconds that the launcher waits for an iteration to finish and be saved


@dataclass(frozen=True)
class Process:
    """This process among the run's processes, and its communication with the others."""

    collective: Collective = ALONE
    local_rank: int = 0
    restarts: int = 0
    """How often the run was restarted after losing a process; the same in all processes."""
    launched: float = 0.0
    """When the launcher was started, in seconds of the epoch. Earlier checkpoints belong to another run."""
    note: str | None = None
    """A note for the user."""

    @property
    def leads(self) -> bool:
        """Whether this process writes files and messages for all."""
        return self.collective.rank == 0

    def gather(self, tensor: Tensor, dim: int) -> Tensor:
        """The tensors of all processes, concatenated in order along one dimension, on the CPU."""
        if self.collective.size == 1:
            return tensor.cpu()
        parts: list[Any] = [None] * self.collective.size
        torch.distributed.all_gather_object(parts, tensor.cpu())
        return torch.cat(parts, dim)

    def gather_each(self, value: T) -> list[T]:
        """The values of all processes, in order."""
        if self.collective.size == 1:
            return [value]
        parts: list[Any] = [None] * self.collective.size
        torch.distributed.all_gather_object(parts, value)
        return parts

    def from_leader(self, make: Callable[[], T]) -> T:
        """Make a value in the first process and send it to all: the others may not see the same files.

        Raises:
            UserError: in the first process, if making the value raised it.
            SystemExit: with code 2 in the other processes, which leave the message to the first.
        """
        if self.collective.size == 1:
            return make()
        box: list[Any] = [None, None]
        problem: UserError | None = None
        if self.leads:
            try:
                box[0] = make()
            except UserError as error:
                problem, box[1] = error, True
        torch.distributed.broadcast_object_list(box)
        if problem is not None:
            raise problem
        if box[1]:
            raise SystemExit(2)
        made: T = box[0]
        return made


SINGLE = Process()
"""A run of one process."""


def under_launcher() -> bool:
    """Whether torchrun or `launch` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


@contextlib.contextmanager
def join(device_name: str) -> Iterator[Process]:
    """Connect to the other processes that the launcher started, and disconnect at the end.

    Raises:
        UserError: the processes cannot find one another.
    """
    gpu = torch.cuda.is_available() and device_name != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if gpu:
        torch.cuda.set_device(local_rank)
    try:
        torch.distributed.init_process_group("nccl" if gpu else "gloo")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes cannot find one another ({error}); check torchrun's endpoint, and set {FRESH_STORE}=1 for it."
        ) from error
    try:
        collective = Collective(torch.distributed.get_rank(), torch.distributed.get_world_size())
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        launched = psutil.Process(os.getppid()).create_time()
        process = Process(collective, local_rank, restarts, launched, _note_on_store())
        # Each launcher counts only the processes that it lost itself. The largest count makes all processes agree.
        yield replace(process, restarts=max(process.gather_each(process.restarts)))
    finally:
        torch.distributed.destroy_process_group()


def _note_on_store() -> str | None:
    several_launchers = os.environ.get("GROUP_WORLD_SIZE", "1") != "1"
    if several_launchers and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return (
            f"Set {FRESH_STORE}=1 for torchrun on every machine; without it a run that loses a process may not restart."
        )
    return None


def launch(words: Sequence[str], n_processes: int) -> int:
    """Run ``tactician WORDS`` in several processes on this machine. If one of them is lost, all restart and resume.

    Ctrl+C and SIGTERM are passed on to the processes, which finish the iteration and save. A second signal ends them.

    Returns:
        Exit code.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault(FRESH_STORE, "1")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_processes,
        run_id=f"tactician-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=_RESTARTS,
        monitor_interval=0.2,
        shutdown_timeout=_PATIENCE,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "tactician", *words)
        return 0
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except ChildFailedError as error:
        code = next(iter(error.failures.values())).exitcode
        return code if code > 0 else 128 - code
    finally:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)
