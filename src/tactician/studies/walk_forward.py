"""The trainings of a walk-forward: folds × seeds through an engine, kept one file per training, so a stopped study goes on."""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tactician.config import Config
from tactician.environment import MarketTensors, inner_folds
from tactician.errors import UserError
from tactician.record.registration import FILE, Registration, register, verify
from tactician.storage import load_tensors, save_tensors
from tactician.studies.engine import Engine
from tactician.studies.fold_job import SIZES, FoldJob, train_fold
from tactician.studies.folds import Fold
from tactician.training.lineage import HARMLESS
from tactician.training.reporting import to_register
from tactician.training.resume import FILLED_IN
from tactician.training.setup import prepare_run

_FORMAT = "tactician fold"
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
    sizes_asked: Mapping[str, int | None]
    """Those of the user, before they were fitted to the machine."""

    @property
    def ranges(self) -> list[dict[str, tuple[str, str]]]:
        """First and last session of each range, by fold."""
        return [{name: self.market.dates_of(rows) for name, rows in fold.splits.items()} for fold in self.folds]

    @property
    def jobs(self) -> list[FoldJob]:
        """All trainings; every fold has one before any has two."""
        settings, n = self.config.model_dump(mode="json"), len(self.seeds)
        return [
            FoldJob(fold, seed, settings, self.market.fingerprint, n, None if n == 1 else number)
            for number, seed in enumerate(self.seeds, 1)
            for fold in self.folds
        ]

    def file(self, job: FoldJob) -> Path:
        """Where a training is kept."""
        return self.folder / f"{job.name}.pt"

    def register(self) -> Registration:
        """Write down what will be judged, before anything is trained (see `record.registration`)."""
        content = to_register(self.config, self.market, [fold.splits for fold in self.folds], self.seeds)
        return register(self.folder, {**content, "sizes_asked": dict(self.sizes_asked)})


def plan_study(
    config: Config, market: MarketTensors, folds: Sequence[Fold], n_seeds: int, folder: Path
) -> tuple[Study, tuple[str, ...]]:
    """Choose the sizes that all trainings have, on this machine and for the longest training range.

    A study that goes on keeps its sizes, although the machine may be busier than before. Its device is settled here, too.

    Args:
        config: the settings; how many members they have is told by the seeds.
        market: the data.
        folds: of the market.
        n_seeds: trainings per fold. Two or more are an ensemble, of which each leaves out a piece of the training range.
        folder: of the study.

    Returns:
        The study, and notes for the user.

    Raises:
        UserError: a training range is too short for so many seeds; or see `prepare_run`.
    """
    _check_pieces(config, market, folds, n_seeds)
    config = config.model_copy(update={"members": n_seeds, "member": None})
    kept = _sizes_before(folder, config)
    longest = max(folds, key=lambda fold: len(fold.train)).splits
    setup = prepare_run(config.model_copy(update=kept), market, fixed_sizes=bool(kept), splits=longest)
    seeds = tuple(range(config.seed, config.seed + n_seeds))
    device = setup.device.type if config.device == "auto" else config.device
    settled = setup.config.model_copy(update={"device": device})
    return Study(settled, market, tuple(folds), seeds, folder, _sizes_of(config)), setup.notes


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
                f"{path} is of another study: settings, data, folds or the number of seeds have changed. Give --output another "
                "folder, or move the files away."
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
            save_tensors({"format": _FORMAT, "version": 1, **result}, study.file(todo[number]))
            yield todo[number], result


class TimeLeft:
    """The time that a study still takes, from the trainings that it has finished."""

    def __init__(self, todo: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._todo, self._done, self._clock, self._begun = todo, 0, clock, clock()

    def finished_one(self) -> float:
        """Seconds left after one more training."""
        self._done += 1
        return (self._clock() - self._begun) / self._done * (self._todo - self._done)


def _check_pieces(config: Config, market: MarketTensors, folds: Sequence[Fold], n_seeds: int) -> None:
    """Refuse a training range that has no episode left without one of its pieces.

    Raises:
        UserError: names the fold and the flags to change.
    """
    for fold in folds if n_seeds > 1 else ():
        try:
            inner_folds(fold.train, n_seeds, config.episode_length)
        except UserError:
            raise UserError(
                f"Fold {fold.number} has {len(fold.train)} sessions to train on before {market.date_of(fold.test.start)}: "
                f"without one of {n_seeds} pieces, no episode of {config.episode_length} is left; use --seeds 1 or more "
                "--seeds, test from a later session (--test-from), lower --episode-length, or give a longer history."
            ) from None


def _sizes_of(config: Config) -> dict[str, int | None]:
    return {name: getattr(config, name) for name in SIZES}


def _sizes_before(folder: Path, config: Config) -> dict[str, int]:
    """The sizes with which the folder's study began, if it is that of the same settings; else nothing."""
    path = folder / FILE
    try:
        verify(path)
        content = json.loads(path.read_text(encoding="utf-8"))["content"]
    except UserError:
        return {}

    # A run fills in what its configuration leaves open, as the length of the annealing.
    filled = {name for name in FILLED_IN if getattr(config, name) is None}

    def rest(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: x for name, x in settings.items() if name not in HARMLESS | {"seed", *SIZES} | filled}

    before = content["configuration"]
    if content.get("sizes_asked") != _sizes_of(config) or rest(before) != rest(config.model_dump(mode="json")):
        return {}
    return {name: before[name] for name in SIZES}


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
