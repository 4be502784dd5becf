"""The trainings of a walk-forward: folds × seeds through an engine, kept one file per training, so a stopped study goes on."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tactician.config import Config
from tactician.environment import MarketTensors
from tactician.errors import UserError
from tactician.record.registration import Registration, register
from tactician.storage import load_tensors, save_tensors
from tactician.studies.engine import Engine
from tactician.studies.fold_job import FoldJob, train_fold
from tactician.studies.folds import Fold, dates_of
from tactician.training.reporting import METRIC
from tactician.training.setup import prepare_run

_FORMAT = "tactician fold"
_SIZES = ("n_envs", "n_steps", "batch_size")
Results = dict[tuple[int, int], dict[str, Any]]
"""What each training found, by number of the fold and seed."""


@dataclass(frozen=True)
class Study:
    """A walk-forward before it is run."""

    config: Config
    """With the sizes that all trainings have."""
    market: MarketTensors
    folds: tuple[Fold, ...]
    seeds: tuple[int, ...]
    folder: Path
    asked: Mapping[str, int | None]
    """The sizes that the user's configuration asks for; None for the machine's choice."""

    @property
    def jobs(self) -> list[FoldJob]:
        """All trainings; every fold has one before any has two."""
        settings = self.config.model_dump(mode="json")
        return [FoldJob(fold, seed, settings, self.market.fingerprint) for seed in self.seeds for fold in self.folds]

    def file(self, job: FoldJob) -> Path:
        """Where a training is kept."""
        return self.folder / f"{job.name}.pt"

    def register(self) -> Registration:
        """Write down what will be judged, before anything is trained (see `record.registration`)."""
        folds = [{name: dates_of(self.market, rows) for name, rows in fold.splits.items()} for fold in self.folds]
        content = {
            "configuration": self.config.model_dump(mode="json"),
            "folds": folds,
            "seeds": list(self.seeds),
            "data_fingerprint": self.market.fingerprint,
            "metric": METRIC,
        }
        return register(self.folder, content)


def plan_study(
    config: Config, market: MarketTensors, folds: Sequence[Fold], n_seeds: int, folder: Path
) -> tuple[Study, tuple[str, ...]]:
    """Choose the sizes that all trainings have, on this machine and for the longest training range.

    Returns:
        The study, and notes for the user.

    Raises:
        UserError: see `prepare_run`.
    """
    asked = {name: getattr(config, name) for name in _SIZES}
    before = _sizes_before(folder, asked)
    splits = max(folds, key=lambda fold: len(fold.train)).splits
    setup = prepare_run(config.model_copy(update=before or {}), market, splits=splits, fixed_sizes=before is not None)
    seeds = tuple(range(config.seed, config.seed + n_seeds))
    # A machine of a cluster may have a GPU that this one lacks.
    device = setup.device.type if config.device == "auto" else config.device
    config = setup.config.model_copy(update={"device": device})
    return Study(config, market, tuple(folds), seeds, folder, asked), setup.notes


def _sizes_before(folder: Path, asked: Mapping[str, int | None]) -> dict[str, int] | None:
    """The sizes that kept trainings have, if the same were asked for: a busy machine must not make another study of it."""
    for path in sorted(folder.glob("fold_*_seed_*.pt")):
        with suppress(UserError):  # told when the trainings are read
            content = _read(path)
            if content.get("asked") == asked:
                return dict(content["sizes"])
    return None


def kept_results(study: Study) -> Results:
    """The trainings of the study that its folder holds.

    Raises:
        UserError: the folder holds a training of another study, or a file is damaged.
    """
    found: Results = {}
    for job in study.jobs:
        path = study.file(job)
        if not path.exists():
            continue
        content = _read(path)
        if content["key"] != job.key:
            raise UserError(
                f"{path} is of another study: settings, data or folds have changed. Give --output another folder, or move the "
                "files away."
            )
        found[job.fold.number, job.seed] = content
    return found


def run_study(study: Study, engine: Engine, kept: Results) -> Generator[tuple[FoldJob, dict[str, Any]], None, None]:
    """Do the trainings that are not kept. Each is written when it is done.

    Yields:
        Every training with its result, in order of completion.

    Raises:
        UserError: a file cannot be written; or see `Engine.run`.
    """
    todo = [job for job in study.jobs if (job.fold.number, job.seed) not in kept]
    with closing(engine.run(train_fold, todo, study.market)) as results:
        for number, result in results:
            sizes = {name: getattr(study.config, name) for name in _SIZES}
            content = {"format": _FORMAT, "version": 1, "asked": dict(study.asked), "sizes": sizes, **result}
            save_tensors(content, study.file(todo[number]))
            yield todo[number], result


class TimeLeft:
    """The time that a study still takes, from the trainings that it has finished."""

    def __init__(self, todo: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._todo, self._done, self._clock, self._begun = todo, 0, clock, clock()

    def finished_one(self) -> float:
        """Seconds left after one more training."""
        self._done += 1
        return (self._clock() - self._begun) / self._done * (self._todo - self._done)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = load_tensors(path)
        if content.get("format") != _FORMAT:
            raise ValueError("of another kind")
    except Exception as error:  # torch raises many kinds; all mean the same to a user
        raise UserError(
            f"{path} is damaged or no training of a walk-forward; remove it, and it is done again."
        ) from error
    return content
