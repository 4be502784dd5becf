"""The memory that a run may take: of a GPU, or of the machine within the limits of its control groups (containers)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch

from tactician.config import Config
from tactician.hardware.memory import GB

_LOW_VRAM_GB = 8.0

_GPU_SHARE = 0.9
"""Of what is free on a GPU; hardly anything else comes to need it."""

_CPU_SHARE = 0.75
"""Of what is available in main memory. A plan was off by up to 14 %, validation and saving come on top, and the other programs
of a laptop go on opening windows."""

_RESERVE = 1 * GB
"""Left to the others where little is available, unless it were more than half of that."""


@dataclass(frozen=True)
class _Accounts:
    """Where a control group tells of its memory."""

    limits: tuple[str, ...]
    usage: str
    unused_files: str
    """Line of memory.stat: files that were read and are not in use, with those of the groups below."""


_VERSION_1 = _Accounts(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Accounts(("memory.max", "memory.high"), "memory.current", "inactive_file")


def memory_budget(config: Config, device: torch.device, n_sharing: int = 1) -> float:
    """Bytes that this process may take.

    On a GPU: its cap (``max_vram_gpu0`` for the first, ``max_vram_gpu1`` for the others, 8 GB with ``low_vram``), at most 90 %
    of what is free. On a CPU: three quarters of the memory that is available, a container's limit included, such that 1 GB is
    left, or half of it.

    Args:
        config: has the caps.
        device: of this process.
        n_sharing: processes of the run on this machine; they share its main memory.
    """
    if device.type != "cuda":
        free = available_memory()
        return max(min(_CPU_SHARE * free, free - _RESERVE), free / 2) / n_sharing
    # The GPU counts, not the process: one process may be told to compute on the second GPU.
    index = torch.cuda.current_device() if device.index is None else device.index
    cap = config.max_vram_gpu0 if index == 0 else config.max_vram_gpu1
    if config.low_vram:
        cap = min(cap, _LOW_VRAM_GB)
    free, _ = torch.cuda.mem_get_info(device)
    return min(cap * GB, _GPU_SHARE * free)


def available_memory(root: Path = Path("/")) -> float:
    """Bytes of main memory that can still be taken, within the limits of all control groups that this process is in.

    Args:
        root: of the file system that tells of them.
    """
    free = float(psutil.virtual_memory().available)
    for group, accounts in _control_groups(root):
        used = _number(group / accounts.usage)
        if used is None:
            continue
        # Files that were read count as used, but the kernel drops them when memory is needed. Those not in use at the moment
        # are taken off, as docker stats and the working set of Kubernetes do.
        used = max(used - _statistic(group / "memory.stat", accounts.unused_files), 0.0)
        limits = (_number(group / name) for name in accounts.limits)
        free = min([free, *(limit - used for limit in limits if limit is not None)])
    return max(free, 0.0)


def _control_groups(root: Path) -> Iterator[tuple[Path, _Accounts]]:
    """Folders of this process's groups for memory and of all above them; each may have a limit of its own."""
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
        # A container may see its own group at the mount's root and still be told its path outside. What is not there is
        # passed over, and the root always counts.
        inside = PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..")))
        for group in (inside, *inside.parents):  # the last parent is the mount itself
            yield mount / group, accounts


def _number(file: Path) -> float | None:
    """What a file says; None if it is not there, or says 'max': no limit."""
    try:
        return float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _statistic(file: Path, name: str) -> float:
    """A line of memory.stat; 0 if there is none."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[:1] == [name])
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
