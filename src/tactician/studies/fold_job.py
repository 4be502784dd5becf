"""One training of a walk-forward: a pure function of settings, market, fold and seed, which computes the same anywhere."""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tactician.config import Config, make_config
from tactician.environment import MarketTensors
from tactician.errors import UserError
from tactician.evaluation import NotFinite
from tactician.monitor.progress import Reporter
from tactician.policy import Network, make_network
from tactician.record.registration import fingerprint_of
from tactician.studies.folds import Fold
from tactician.training.deployed import deployed_gap
from tactician.training.judging import validated
from tactician.training.lineage import HARMLESS
from tactician.training.loop import iterate
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import TrainState, first_train_state

SIZES = ("n_envs", "n_steps", "batch_size")
"""Keys that are chosen for the machine, once for all trainings of a study."""


@dataclass(frozen=True)
class FoldJob:
    """A fold and a seed."""

    fold: Fold
    seed: int
    settings: Mapping[str, Any]
    """The configuration's, with its sizes filled in, so that every machine trains the same."""
    fingerprint: str
    """Of the market data."""

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"fold_{self.fold.number}_seed_{self.seed}"

    @property
    def config(self) -> Config:
        """The configuration with the job's seed."""
        return make_config({**self.settings, "seed": self.seed}, "the study's settings")

    @property
    def key(self) -> str:
        """Names the training by everything that it depends on."""
        kept = {key: value for key, value in self.settings.items() if key not in HARMLESS | {"seed"}}
        kept |= {key: self.settings[key] for key in ("timesteps", "episodes", "iterations")}
        ranges = {name: [rows.start, rows.stop] for name, rows in self.fold.splits.items() if name != "test"}
        return fingerprint_of([kept, self.fingerprint, ranges, self.seed])


def train_fold(job: FoldJob, market: MarketTensors) -> dict[str, Any]:
    """Train, and keep the best model on the fold's validation range. The test piece is not read.

    Returns:
        Plain values, and the model as the bytes of `torch.save`.

    Raises:
        UserError: the settings do not fit into this machine's memory, or figures, losses or gradients are not finite.
    """
    begun = time.perf_counter()
    setup = _setup(job, market)
    state, best = first_train_state(setup), b""
    quiet = Reporter("quiet", silent=True)
    try:
        while state.progress.timesteps < setup.total_timesteps:
            state = iterate(setup, state, quiet)
            _refuse_diverged(job, setup, state)
            last = state.progress.timesteps >= setup.total_timesteps
            if last or state.progress.iteration % setup.config.validate_every == 0:
                state, better = validated(setup, state, quiet)
                if better or not best:
                    best, figures = _saved(setup, state.learner.policy), dict(state.metrics)
                    gap = deployed_gap(setup.environment, state.learner.policy, job.seed)
    except NotFinite as error:
        raise UserError(
            f"Fold {job.fold.number}, seed {job.seed} has no result: {error}. Lower --actor-lr and --critic-lr."
        ) from error
    return {
        "key": job.key,
        "fold": job.fold.number,
        "seed": job.seed,
        "best_iteration": state.progress.best_iteration,
        "iterations": state.progress.iteration,
        "metrics": figures,
        "training": gap.as_dict(),
        "seconds": time.perf_counter() - begun,
        "model": best,
    }


def load_model(saved: bytes) -> tuple[Network, tuple[torch.Tensor, torch.Tensor]]:
    """A job's model, and the normaliser of what it observes. No code in the bytes is run."""
    content = torch.load(io.BytesIO(saved), weights_only=True)
    policy = make_network(content["architecture"], content["value_scale"])
    policy.load_state_dict(content["model_state_dict"])
    return policy, (content["normaliser"]["mean"], content["normaliser"]["std"])


def _setup(job: FoldJob, market: MarketTensors) -> Setup:
    setup = prepare_run(job.config, market, fixed_sizes=True, splits=job.fold.splits)
    asked = {name: job.settings[name] for name in SIZES}
    got = {name: getattr(setup.config, name) for name in SIZES}
    if asked != got:
        raise UserError(
            f"A training with {asked['n_envs']:,} environments does not fit into this machine's memory beside the others; use "
            "fewer --processes, or lower --n-envs."
        )
    return setup


def _refuse_diverged(job: FoldJob, setup: Setup, state: TrainState) -> None:
    """Dropped updates leave the weights as they were: without this, an untrained model would be judged."""
    dropped = state.metrics["dropped_in_a_row"]
    if dropped >= setup.config.max_dropped_updates:
        raise UserError(
            f"Fold {job.fold.number}, seed {job.seed} has no result: {dropped:.0f} updates in a row had a loss or gradient "
            "that was not finite. Lower --actor-lr and --critic-lr."
        )


def _saved(setup: Setup, policy: Network) -> bytes:
    mean, std = setup.normaliser
    buffer = io.BytesIO()
    content = {
        "architecture": policy.architecture,
        "value_scale": float(policy.value_scale),
        "normaliser": {"mean": mean, "std": std},
        "model_state_dict": {name: x.cpu() for name, x in policy.state_dict().items()},
    }
    torch.save(content, buffer)
    return buffer.getvalue()
