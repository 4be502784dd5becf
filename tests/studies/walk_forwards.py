"""A walk-forward of the tiny market: two folds of two seeds, a few steps each."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.studies.engine import attempt
from tactician.studies.fold_job import FoldJob
from tactician.studies.folds import make_folds
from tactician.studies.walk_forward import Study, plan_study

PURGE = 20
TEST_FROM = date(2013, 3, 1)
"""Forty sessions of each fold are tested, as few as an interval needs: judging them takes most of the time."""
WORDS = ("--folds", "2", "--seeds", "2", "--purge", str(PURGE), "--test-from", str(TEST_FROM), "--processes", "1")
"""Flags of such a study."""


def tiny_study(config_file: Path, folder: Path, seeds: int = 2, **changes: Any) -> Study:
    """The study, with other settings if need be. Several seeds need the longer market."""
    config = load_config(config_file, changes)
    market = load_cached_market(config, "build-cache")
    folds = make_folds(market, 2, episode_length=config.episode_length, test_from=TEST_FROM, purge=PURGE)
    return plan_study(config, market, folds, seeds, folder)[0]


def tiny_job(config_file: Path, folder: Path, seeds: int = 1, **changes: Any) -> tuple[FoldJob, Any]:
    """Its first job, and the market."""
    study = tiny_study(config_file, folder, seeds, **changes)
    return study.jobs[0], study.market


LUCK = 0.003
"""What each day that a member of the first fold left out earns more, so that a study has a fold that is followed."""


class Here:
    """An engine in this process, which remembers what it was asked for. It makes the first fold's left-out days lucky."""

    slots = 1

    def __init__(self, stop_after: int | None = None, watch: Callable[[], Any] = lambda: None) -> None:
        """Ctrl+C comes after so many jobs; ``watch`` is called before the first one."""
        self.asked: list[str] = []
        self.seen: Any = None
        self._stop_after, self._watch = stop_after, watch

    def run(self, work: Any, jobs: Any, shared: Any) -> Any:
        """See `Engine.run`."""
        self.asked, self.seen = [job.name for job in jobs], self._watch()
        for number, job in enumerate(jobs):
            if number == self._stop_after:
                raise KeyboardInterrupt
            result = attempt(work, job, shared).get()
            if job.fold.number == 1 and "gap" in result:
                result["gap"] = [gap + LUCK for gap in result["gap"]]
            yield number, result


def train_here(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Here:
    """Let the command train in this process, which spares it the start of others."""
    engine = Here(**options)
    monkeypatch.setattr("tactician.studies.engine.make_engine", lambda *_, **__: engine)
    return engine
