"""The device that a run computes on, and the precision."""

from pathlib import Path

import torch

from tactician.config import Config
from tactician.errors import UserError

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device by name; 'auto' takes a GPU if the machine has one.

    Raises:
        UserError: this machine lacks the device.
    """
    if name == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise NotImplementedError(f"nothing here is tested on {device.type}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name} is not available on this machine; use auto or cpu.") from error
    return device


def pick_autocast(config: Config, device: torch.device) -> tuple[torch.dtype | None, str | None]:
    """The 16-bit format of --amp on a device, or None for float32; and a note for the user, or None."""
    if not config.amp:
        return None, None
    if config.amp_dtype != "auto":
        return _AUTOCAST[config.amp_dtype], None
    if device.type == "cuda":
        return (torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16), None
    if _cpu_has_bf16_units():
        return torch.bfloat16, None
    return None, "--amp: this CPU has no units for 16-bit numbers, which would only be slower: float32 is used instead."


def _cpu_has_bf16_units() -> bool:
    try:
        capabilities = torch.backends.cpu.get_cpu_capability()
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, AttributeError):
        return False
    return capabilities != "DEFAULT" and ("avx512_bf16" in flags or "amx_bf16" in flags)
