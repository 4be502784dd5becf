"""A walk-forward of the tiny market: two folds of two seeds, a few steps each."""

from pathlib import Path
from typing import Any

from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.studies.fold_job import FoldJob
from tactician.studies.folds import make_folds
from tactician.studies.walk_forward import Study, plan_study

PURGE = 20
WORDS = ("--folds", "2", "--seeds", "2", "--purge", str(PURGE), "--processes", "1")
"""Flags of such a study."""


def tiny_study(config_file: Path, folder: Path, **changes: Any) -> Study:
    """The study, with other settings if need be."""
    config = load_config(config_file, changes)
    market = load_cached_market(config, "build-cache")
    folds = make_folds(market, 2, episode_length=config.episode_length, purge=PURGE)
    return plan_study(config, market, folds, 2, folder)[0]


def tiny_job(config_file: Path, folder: Path, **changes: Any) -> tuple[FoldJob, Any]:
    """Its first job, and the market."""
    study = tiny_study(config_file, folder, **changes)
    return study.jobs[0], study.market
