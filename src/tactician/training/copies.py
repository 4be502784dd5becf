"""Each of several processes has a copy of the policy. Now and then they are compared, bit by bit.

The copies begin equal and get the same gradients. A broken device or link could still part them, and nothing else would
tell: each process would go on, and the sum of gradients of different policies looks like any other.
"""

from torch import Tensor

from tactician.errors import UserError
from tactician.hardware.processes import Process
from tactician.learning import checksum
from tactician.policy import Network

EVERY = 16
"""Iterations between two comparisons. A comparison costs some passes over the parameters and one message of 16 bytes."""

_FIGURE = "copies_differ"


def compare_copies(process: Process, policy: Network, iteration: int, begun_at: int) -> dict[str, Tensor]:
    """Compare the processes' copies, in the first iteration of a session and in every `EVERY`-th one.

    All processes must call it. Nothing is read from the device here.

    Args:
        process: this one.
        policy: this process's copy, after the update.
        iteration: the one that ends, counted from 1.
        begun_at: iterations that were done when this session began, with equal copies.

    Returns:
        A figure for `stop_if_copies_differ`; none if it is not time, or if there is one process.
    """
    due = iteration == begun_at + 1 or iteration % EVERY == 0
    if process.collective.size == 1 or not due:
        return {}
    return {_FIGURE: process.collective.differ(checksum(policy))}


def stop_if_copies_differ(process: Process, metrics: dict[str, float], iteration: int, begun_at: int) -> None:
    """Take the figure of `compare_copies` out of the metrics, if it is there, and stop if the copies differ.

    Nothing is saved: each process has another policy, and none is known to be the right one.

    Raises:
        UserError: the copies differ; in the first process.
        SystemExit: with code 2 in the other processes, which leave the message to the first.
    """
    if not metrics.pop(_FIGURE, 0.0):
        return
    if not process.leads:
        raise SystemExit(2)
    equal = begun_at if iteration == begun_at + 1 else max(begun_at + 1, (iteration - 1) // EVERY * EVERY)
    remedy = "start the run again"
    if equal > 0:
        remedy = (
            "resume from the last checkpoint with --resume, or with --checkpoint from one of iteration "
            f"{equal} or before, when they were equal"
        )
    raise UserError(f"After iteration {iteration} the processes' copies of the parameters differ: {remedy}.")
