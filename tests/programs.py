"""`tactician` in a process of its own, forked from one that has imported what training needs, which takes seconds."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.signals import as_from_a_terminal

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        "tactician.commands.train",
        "tactician.training.session",
        "torch._dynamo",
        "torch.utils.tensorboard",
        "arch.bootstrap",
    ]
)


class Program:
    """A running ``tactician``, with what is used here of `subprocess.Popen`."""

    def __init__(self, *words: str, log: Path, before: Callable[[], None] | None = None, **environment: str) -> None:
        """Its output and its errors go to the log as they come. ``before`` is called in the process first."""
        self._process = _FORKED.Process(target=_run, args=(words, str(log), environment, before))
        log.touch()
        self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("tactician", seconds)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _run(words: tuple[str, ...], log: str, environment: dict[str, str], before: Callable[[], None] | None) -> None:
    as_from_a_terminal()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # as PYTHONUNBUFFERED does
    import torch

    from tactician.cli import main

    torch.set_num_threads(1)  # sums over another number of threads would round differently
    if before is not None:
        before()
    sys.exit(main(words))
