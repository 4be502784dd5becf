"""Checkpoints: a TrainState with everything needed to use it, written atomically and loaded without running code."""

import itertools
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tactician.config import Config
from tactician.environment import FEATURE_VERSION, OBSERVATION_NAMES
from tactician.errors import UserError
from tactician.evaluation import Found, found_from, hold_equal_weight
from tactician.policy import Ensemble, Network, make_network
from tactician.record import registration
from tactician.report.files import FILES
from tactician.storage import load_tensors, save_tensors
from tactician.training.lineage import Seen, contamination, run_name, run_of, seen_by_checkpoint
from tactician.training.setup import Setup
from tactician.training.state import Progress, TrainState
from tactician.version import __version__

FINAL, BEST = "model_final.pt", "model_best.pt"

MEMBER = "member_"
"""The folders of an ensemble's members are named by it and their numbers."""

_FORMAT = "tactician checkpoint"
_VERSION = 1
_PERIODIC = "model_iteration_"
_OF_A_RUN = (*FILES, registration.FILE, "summary.json", "metrics.jsonl", "tensorboard")
"""What a run writes beside its models. ``summary.json`` is of versions before the report."""


BEFORE = {"encoder_layers": 2, "weight_decay": 0.0}
"""Keys that some checkpoints are older than, with the values that these were trained with."""


def saved_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in a checkpoint. Keys that this version has no more are left out."""
    return BEFORE | {key: value for key, value in content["config"].items() if key in Config.model_fields}


def save_checkpoint(setup: Setup, state: TrainState, path: Path) -> None:
    """Write the whole state. With several processes all of them must call this, and the first one writes.

    Raises:
        UserError: the folder cannot be written, or the disk is full. An older file of that name stays untouched.
    """
    content = {**_meaning(setup, state.learner.policy, state.seen), **state.state_dict(setup.process)}
    if setup.process.leads:
        save_tensors(content, path)


def save_ensemble(
    setup: Setup, ensemble: Ensemble, found: Found, seen: Seen, progress: Progress, metrics: Mapping[str, float]
) -> Path:
    """Write an ensemble as the best model of its run's folder. It can be used, and not trained further.

    Args:
        setup: of the whole run.
        ensemble: the members.
        found: what they found on held-out days.
        seen: the data that they have seen.
        progress: of all members together.
        metrics: means of the members'.

    Raises:
        UserError: see `save_checkpoint`.
    """
    content = {
        **_meaning(setup, ensemble, seen),
        "model_state_dict": ensemble.state_dict(),
        "found": found.as_dict(),
        "run": run_name(setup.config.model_dump(mode="json"), setup.environment.market.fingerprint),
        "seen": seen.as_dict(),
        "progress": vars(progress).copy(),
        "metrics": dict(metrics),
    }
    path = setup.config.checkpoint_dir / BEST
    save_tensors(content, path)
    return path


def _meaning(setup: Setup, policy: Network, seen: Seen) -> dict[str, Any]:
    """What a model is: what it sees and does, and where it comes from."""
    (mean, std), (low, high) = setup.normaliser, setup.feature_range
    contaminated = contamination(setup, seen)
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "architecture": policy.architecture,
        "value_scale": float(policy.value_scale),
        "normaliser": {"mean": mean, "std": std},
        "feature_range": {"low": low, "high": high},
        **setup.training_days.as_dict(),
        "feature_version": FEATURE_VERSION,
        "observation_names": list(OBSERVATION_NAMES),
        "regime_names": list(setup.environment.market.regimes.names),
        "config": setup.config.model_dump(mode="json"),
        "flags": sorted(setup.flags),
        "device": setup.device.type,
        "data_fingerprint": setup.environment.market.fingerprint,
        "versions": versions(),
        "contaminated": None if contaminated is None else contaminated.as_dict(),
    }


class Keeper:
    """Keeps a run's checkpoints in its folder: the last few periodic ones, the best, the final and interrupted ones."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save_periodic(self, setup: Setup, state: TrainState) -> Path:
        """Save the state under its iteration's number, and remove the oldest periodic checkpoints beyond ``keep``."""
        path = self.folder / f"{_PERIODIC}{state.progress.iteration:06d}.pt"
        save_checkpoint(setup, state, path)
        if setup.process.leads:
            others = [old for _, old in _newest_first(self.folder.glob(f"{_PERIODIC}*.pt")) if old != path]
            for old in others[self.keep - 1 :]:
                old.unlink(missing_ok=True)
        return path

    def save_interrupted(self, setup: Setup, state: TrainState) -> Path:
        """Save the state under the present date and time. Such files are never removed."""
        path = self.folder / f"model_interrupted_{datetime.now():%Y%m%d_%H%M%S}.pt"
        save_checkpoint(setup, state, path)
        return path

    def save_best(self, setup: Setup, state: TrainState) -> None:
        """Save the state as the best on the validation range."""
        save_checkpoint(setup, state, self.folder / BEST)

    def save_final(self, setup: Setup, state: TrainState) -> None:
        """Save the state at the end of a run."""
        save_checkpoint(setup, state, self.folder / FINAL)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it saved."""
    for pattern in (
        ".model_*.tmp",
        ".metrics.jsonl.*.tmp",
        ".report.*.tmp",
        ".returns.csv.*.tmp",
        ".registration.json.*.tmp",
    ):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def set_aside(folder: Path) -> Path | None:
    """Move the files of an earlier run into a subfolder, so that a new run does not take them for its own.

    Returns:
        The subfolder; None if there was no earlier run.

    Raises:
        UserError: a file cannot be moved.
    """
    models = [*folder.glob("model_*.pt"), *folder.glob(f"{MEMBER}*")]
    if not models:
        return None
    number = next(n for n in itertools.count(1) if not (folder / f"earlier_{n}").exists())
    aside = folder / f"earlier_{number}"
    try:
        aside.mkdir()
        for path in (*models, *(folder / name for name in _OF_A_RUN)):
            if path.exists():
                path.rename(aside / path.name)
    except OSError as error:
        raise UserError(
            f"Cannot move the earlier run in {folder} aside: {error.strerror}; choose another --checkpoint-dir."
        ) from error
    return aside


def newest_checkpoint(folder: Path, since: float = 0.0) -> tuple[Path | None, dict[str, Any] | None, list[str]]:
    """The newest loadable checkpoint of a folder.

    Within one run the checkpoint with the most steps is the newest, whatever its file's time. The time of modification
    decides between different runs, between equal steps, and for old formats, which do not name their run.

    Args:
        folder: of a run.
        since: files last modified before this time, in seconds of the epoch, do not count.

    Returns:
        Its path and content, or None twice, and a sentence per damaged file. No file is deleted.
    """
    complaints: list[str] = []
    newest: tuple[Path, dict[str, Any]] | None = None
    its_run, its_steps = None, 0
    for modified, path in _newest_first(folder.glob("model_*.pt")):
        if modified < since:
            break
        try:
            content = read_checkpoint(path)
        except UserError as error:
            if path.exists():  # else a running process has just removed it
                complaints.append(f"{error} It is left where it is and passed over.")
            continue
        if not all(x.isfinite().all() for x in content["model_state_dict"].values() if isinstance(x, Tensor)):
            complaints.append(f"{path} holds weights that are not finite numbers. It is passed over.")
            continue
        run, steps = run_of(content), 0 if is_legacy(content) else int(content["progress"]["timesteps"])
        # The files come newest first, so at equal steps the last modified one stays.
        if newest is None or (run is not None and run == its_run and steps > its_steps):
            newest, its_run, its_steps = (path, content), run, steps
    return (*(newest or (None, None)), complaints)


def record_look(folder: Path, run: str, first: str, last: str) -> None:
    """Note in the best model and in all checkpoints of a run that it was judged on a test range.

    The members of an ensemble are noted, too: each can be judged alone, and has helped to choose what was judged.

    Raises:
        UserError: a file cannot be written.
    """
    files = [*folder.glob("model_*.pt"), *folder.glob(f"{MEMBER}*/model_*.pt")]
    for _, path in reversed(_newest_first(files)):  # so the newest file stays the newest
        try:
            content = read_checkpoint(path)
        except UserError:  # damaged files are skipped
            continue
        if path.name == BEST or path.parent != folder or run_of(content) == run:
            save_tensors({**content, "seen": seen_by_checkpoint(content).looked(first, last).as_dict()}, path)


@dataclass(frozen=True)
class LoadedPolicy:
    """A saved policy, with its checkpoint."""

    policy: Network
    """As it is deployed: an ensemble that has found nothing holds equal weight."""
    content: dict[str, Any]
    """The whole checkpoint."""

    @property
    def found(self) -> Found | None:
        """What an ensemble's members found on held-out days; None for a single agent."""
        return found_from(self.content["found"]) if "found" in self.content else None

    @property
    def strength(self) -> float:
        """How far the model is followed (`Found.strength`); 1 for a single agent."""
        return 1.0 if self.found is None else self.found.strength


def load_policy(path: Path, device: torch.device | str = "cpu") -> LoadedPolicy:
    """Read the policy of a checkpoint, for evaluation.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    content = read_checkpoint(path)
    if "architecture" not in content:
        raise UserError(
            f"{path} has the old format; resume training from it once to turn it into one that can be judged."
        )
    policy = make_network(content["architecture"], content["value_scale"])
    policy.load_state_dict(content["model_state_dict"])
    loaded = LoadedPolicy(policy.to(device), content)
    if loaded.strength:
        return loaded
    nothing = hold_equal_weight(content["architecture"]["obs_dim"], content["regime_names"])
    return replace(loaded, policy=nothing.to(device))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's content on the CPU. No code in the file is run.

    A file of an old format has weights and one or two optimisers, but no key ``format``.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; train a model first, or name another file.")
    try:
        content = load_tensors(path)
        if not _is_checkpoint(content):
            raise ValueError("not this format")
    except Exception as error:  # torch raises many kinds for a damaged or foreign file; all mean the same to a user
        raise UserError(f"{path} is damaged or no checkpoint of this version; name another file.") from error
    return content


def is_legacy(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has an old format: weights, one or two optimisers, metrics."""
    return "format" not in content


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"tactician": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


_NEEDED = (
    "architecture",
    "value_scale",
    "normaliser",
    "config",
    "data_fingerprint",
    "model_state_dict",
    "actor_optimizer_state_dict",
    "critic_optimizer_state_dict",
    "env_state",
    "hidden",
    "progress",
    "metrics",
    "precision",
)
_TO_LEARN = {"actor_optimizer_state_dict", "critic_optimizer_state_dict", "env_state", "hidden", "precision"}
"""What an ensemble lacks. Its members have it."""


def _is_checkpoint(content: Mapping[str, Any]) -> bool:
    if content.get("format") == _FORMAT:
        needed = set(_NEEDED) - _TO_LEARN if "found" in content else _NEEDED
        return content.get("version") == _VERSION and all(key in content for key in needed)
    optimisers = ("optimizer_state_dict", "actor_optimizer_state_dict")
    return any(key in content for key in optimisers) and isinstance(content.get("model_state_dict"), dict)


def _newest_first(paths: Iterable[Path]) -> list[tuple[float, Path]]:
    """Time of modification, in seconds of the epoch, and path of all existing files, the newest first."""
    found = []
    for path in paths:
        with suppress(OSError):  # a broken link, or a file that a run has just removed
            if path.is_file():
                found.append((path.stat().st_mtime, path))
    return sorted(found, key=lambda x: (x[0], x[1].name), reverse=True)
