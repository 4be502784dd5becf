"""The memory that is really there: of a GPU, of a machine, within the limits of a container."""

from pathlib import Path

import psutil
import torch

from tactician.config import Config
from tactician.hardware.memory import GB

_LOW_VRAM_GB = 8.0
_USABLE_SHARE = 0.9


def memory_budget(config: Config, device: torch.device, local_rank: int = 0) -> float:
    """Bytes that this process may take.

    On a GPU: its cap (``max_vram_gpu0`` for the first, ``max_vram_gpu1`` for the others, 8 GB with ``low_vram``), at most 90 %
    of what is free. On a CPU: 90 % of the memory that is available, a container's limit included.
    """
    if device.type != "cuda":
        return _USABLE_SHARE * available_memory()
    cap = config.max_vram_gpu0 if local_rank == 0 else config.max_vram_gpu1
    if config.low_vram:
        cap = min(cap, _LOW_VRAM_GB)
    free, _ = torch.cuda.mem_get_info(device)
    return min(cap * GB, _USABLE_SHARE * free)


def available_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of main memory that can still be taken, within the limits of a container (cgroup v2 or v1)."""
    free = float(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, float((cgroup / limit).read_text()) - float((cgroup / used).read_text()))
        except (OSError, ValueError):  # no such cgroup, or "max": no limit
            continue
    return max(free, 0.0)
