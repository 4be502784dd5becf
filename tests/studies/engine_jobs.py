"""Work for the engines' tests. It stands in a module of its own, because workers import it."""

import os
import signal
import time
from pathlib import Path

import torch

from tactician.errors import UserError


class Picky(UserError):
    """An error that cannot be pickled: it takes no argument."""

    def __init__(self):
        super().__init__("the file x.csv has no column 'date'")


def learn(job, shared):
    """A least-squares fit by gradient steps: another order of sums would give other bits."""
    generator = torch.Generator().manual_seed(job)
    x = torch.randn(256, 32, generator=generator)
    weights = torch.zeros(32, requires_grad=True)
    for _ in range(50):
        (((x @ weights - shared["target"]) ** 2).mean()).backward()
        weights = (weights - 0.1 * weights.grad).detach().requires_grad_()
    return weights.detach().numpy().tobytes(), torch.get_num_threads()


def slow(job, folder):
    """Says that it has begun, and by which process, then takes its time."""
    Path(folder, f"begun_{job}_{os.getpid()}").touch()
    if job:
        time.sleep(60)
    return job


def fail(job, _):
    if job == 1:
        raise Picky
    return job


def break_down(job, _):
    raise ZeroDivisionError("a fault of the program")


def die(job, parent):
    assert os.getpid() != parent
    os.kill(os.getpid(), signal.SIGKILL)


def wait_and_learn(job, shared):
    time.sleep(2)
    return learn(job, shared)
