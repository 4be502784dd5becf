"""Where metrics go: JSON lines, always, and TensorBoard."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import TextIO

from tactician.errors import UserError

_GROUPS = {"cost_": "cost", "use_": "regime_use", "seconds_": "time", "validation_": "validation"}
_LEARNING = ("loss", "variance", "entropy", "kl", "clip", "norm", "epochs")


class Trackers:
    """Writes each iteration's metrics to ``metrics.jsonl`` and ``tensorboard/`` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Open both.

        Raises:
            UserError: the folder cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter  # a second to import, needed only once training starts

        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines: TextIO = (folder / "metrics.jsonl").open("w", encoding="utf-8")
            self._board = SummaryWriter(str(folder / "tensorboard"))
        except OSError as error:
            raise UserError(
                f"Cannot write to {folder}: {error.strerror}; choose another folder with --checkpoint-dir."
            ) from error

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record one iteration's metrics at an environment step."""
        # NaN is no JSON; null says "not measured" to every reader.
        plain = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._lines.write(json.dumps({"timesteps": step, **plain}) + "\n")
        self._lines.flush()
        for name, value in metrics.items():
            self._board.add_scalar(f"{_group(name)}/{name}", value, step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._board.close()


def _group(name: str) -> str:
    for prefix, group in _GROUPS.items():
        if name.startswith(prefix):
            return group
    return "learning" if any(word in name for word in _LEARNING) else "trading"
