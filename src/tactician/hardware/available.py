"""Memory that a run may take: of a GPU, or of the machine within the limits of its control groups (containers)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch

from tactician.config import Config
from tactician.hardware.memory import GB

_LOW_VRAM_GB = 8.0

_GPU_SHARE = 0.9
"""Share of a GPU's free memory that a run may take. Hardly any other program comes to need it."""

_CPU_SHARE = 0.75
"""Share of the available main memory that a run may take. The rest is for the plan's error (up to 14 %), for validation and
saving, and for other programs."""

_RESERVE = 1 * GB
"""Main memory that is left to other programs, but at most half of what is available."""


@dataclass(frozen=True)
class _Accounts:
    """Files in which a control group reports its memory."""

    limits: tuple[str, ...]
    usage: str
    unused_files: str
    """Line of memory.stat with the cached files that are not in use, those of the groups below included."""


_VERSION_1 = _Accounts(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Accounts(("memory.max", "memory.high"), "memory.current", "inactive_file")


def memory_budget(config: Config, device: torch.device, n_sharing: int = 1) -> float:
    """Bytes that this process may take.

    On a GPU it is the cap less what the run has put there already, but at most 90 % of the free memory. The cap is
    ``max_vram_gpu0`` for the first GPU, ``max_vram_gpu1`` for the others, and at most 8 GB with ``low_vram``. On a CPU it is
    three quarters of the available memory, within a container's limit. At least 1 GB stays free, but a run may always take
    half of the available memory.

    Args:
        config: has the caps.
        device: of this process.
        n_sharing: number of the run's processes on this machine, which share its main memory.
    """
    if device.type != "cuda":
        free = available_memory()
        return max(min(_CPU_SHARE * free, free - _RESERVE), free / 2) / n_sharing
    # The cap depends on the GPU, not on the process: one process may be told to compute on the second GPU.
    index = torch.cuda.current_device() if device.index is None else device.index
    cap = config.max_vram_gpu0 if index == 0 else config.max_vram_gpu1
    if config.low_vram:
        cap = min(cap, _LOW_VRAM_GB)
    free, _ = torch.cuda.mem_get_info(device)
    # The cap counts what the run has put there already, its markets.
    return min(max(cap * GB - torch.cuda.memory_allocated(device), 0.0), _GPU_SHARE * free)


def available_memory(root: Path = Path("/")) -> float:
    """Bytes of main memory that are available, within the limits of all control groups of this process.

    Args:
        root: of the file system with the groups' files.
    """
    free = float(psutil.virtual_memory().available)
    for group, accounts in _control_groups(root):
        used = _number(group / accounts.usage)
        if used is None:
            continue
        # Cached files count as used, but the kernel drops them when memory is needed. Those not in use are subtracted, as
        # in docker stats and in the working set of Kubernetes.
        used = max(used - _statistic(group / "memory.stat", accounts.unused_files), 0.0)
        limits = (_number(group / name) for name in accounts.limits)
        free = min([free, *(limit - used for limit in limits if limit is not None)])
    return max(free, 0.0)


def _control_groups(root: Path) -> Iterator[tuple[Path, _Accounts]]:
    """Folders of this process's memory groups and of all groups above them. Each may have a limit of its own."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, accounts = root / "sys/fs/cgroup", _VERSION_2
        elif "memory" in controllers.split(","):
            mount, accounts = root / "sys/fs/cgroup/memory", _VERSION_1
        else:
            continue
        # A container may see its own group at the root of the mount, but read its path outside the container. Folders that
        # do not exist are skipped, and the root is always included.
        inside = PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..")))
        for group in (inside, *inside.parents):  # the last parent is the mount itself
            yield mount / group, accounts


def _number(file: Path) -> float | None:
    """The number in a file; None if the file does not exist, or says 'max' (no limit)."""
    try:
        return float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _statistic(file: Path, name: str) -> float:
    """The value of a line in memory.stat; 0 if the line does not exist."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[:1] == [name])
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
