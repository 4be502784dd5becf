"""Trackers of metrics: JSON lines and TensorBoard."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import TextIO

from tactician.errors import UserError
from tactician.storage import json_text, save_text

_GROUPS = {"cost_": "cost", "use_": "regime_use", "seconds_": "time", "validation_": "validation"}
_LEARNING = ("loss", "variance", "entropy", "kl", "clip", "norm", "epochs")


class Trackers:
    """Writes each iteration's metrics to ``metrics.jsonl`` and ``tensorboard/`` in a folder."""

    def __init__(self, folder: Path, iteration: int = 0, writes: bool = True) -> None:
        """Open both; after a resume, forget what was written beyond the iteration that is resumed from.

        Args:
            folder: of the run.
            iteration: iterations done.
            writes: False for the processes that leave writing to the first.

        Raises:
            UserError: the folder cannot be written.
        """
        self._writes, self._folder = writes, folder
        if not writes:
            return
        from torch.utils.tensorboard import SummaryWriter  # a second to import, needed only once training starts

        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "metrics.jsonl"
            kept = _lines_until(path, iteration)
            save_text("".join(kept), path)
            self._lines: TextIO = path.open("a", encoding="utf-8")
            steps = json.loads(kept[-1]).get("timesteps", 0) if kept else 0
            if iteration == 0:
                for old in (folder / "tensorboard").glob("events.*"):
                    old.unlink()  # of an earlier run in this folder
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps + 1 if iteration else None)
        except OSError as error:
            raise UserError(
                f"Cannot write to {folder}: {error.strerror}; choose another folder with --checkpoint-dir."
            ) from error

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record one iteration's metrics at an environment step.

        Raises:
            UserError: the disk is full.
        """
        if not self._writes:
            return
        try:
            self._log(step, metrics)
        except OSError as error:
            raise self._no_room(error) from error

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        self._lines.write(json_text({"timesteps": step, **metrics}) + "\n")
        self._lines.flush()
        for name, value in metrics.items():
            if math.isfinite(value):  # a curve has no point where a figure is not available
                self._board.add_scalar(f"{_group(name)}/{name}", value, step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._writes:
            return
        try:
            self._lines.close()
            self._board.close()
        except OSError as problem:
            if error is None:
                raise self._no_room(problem) from problem

    def _no_room(self, error: OSError) -> UserError:
        return UserError(
            f"Cannot write the metrics to {self._folder}: {error.strerror}; free some space, then --resume."
        )


def _lines_until(path: Path, iteration: int) -> list[str]:
    """The lines up to an iteration. A line that a kill has cut short is dropped."""
    kept: list[str] = []
    if iteration == 0 or not path.exists():
        return kept
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["iteration"] <= iteration:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    return kept


def _group(name: str) -> str:
    for prefix, group in _GROUPS.items():
        if name.startswith(prefix):
            return group
    return "learning" if any(word in name for word in _LEARNING) else "trading"
