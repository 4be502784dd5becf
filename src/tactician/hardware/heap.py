"""What becomes of main memory that a training frees: it is kept for the next minibatch, and given back in the end."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of settings in glibc's malloc.h."""

_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
_AS_USUAL = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
"""What glibc arrives at by itself in a process that has freed large blocks (mallopt(3), "dynamic mmap threshold")."""


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Let this process keep main memory that is freed inside, for its next use, and give it back afterwards.

    By default glibc returns every block of 32 MB or more to the system at once. The next one comes page by page, filled with
    zeros by the kernel. A minibatch whose activations are so large spends up to half of its time on that
    (docs/performance.md). Elsewhere, on a GPU and in a thread beside the main one nothing changes.

    The settings are the process's, so this cannot be nested. Afterwards they are those of ``_AS_USUAL``, whatever
    MALLOC_MMAP_THRESHOLD_ and the like said before.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    _set(libc, _KEPT)
    try:
        yield
    finally:
        _set(libc, _AS_USUAL)
        give_back(device)


def give_back(device: torch.device) -> None:
    """Return freed memory to the system, also what is kept by `freed_memory_kept`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _set(libc: ctypes.CDLL, settings: dict[int, int]) -> None:
    for name, value in settings.items():
        libc.mallopt(name, value)
