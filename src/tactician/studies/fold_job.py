"""One training of a walk-forward: a pure function of settings, market, fold and seed, which computes the same anywhere.

A fold with several seeds is an ensemble. Each of its members leaves out one piece of the fold's training range, is not picked,
and is judged on its piece. A single seed has the whole training range, and its best model on the validation range is kept.
"""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tactician.config import Config, make_config
from tactician.environment import MarketTensors, fold_of_member
from tactician.errors import UserError
from tactician.evaluation import Found, HeldOut, NotFinite, evaluate, on_held_out_days, weigh
from tactician.monitor.progress import Reporter
from tactician.policy import Network, make_network
from tactician.record.registration import fingerprint_of
from tactician.studies.folds import Fold
from tactician.training.deployed import deployed_gap
from tactician.training.held_out import on_trained_names
from tactician.training.judging import validated
from tactician.training.lineage import HARMLESS
from tactician.training.loop import iterate
from tactician.training.markets import markets_to_train_on
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import TrainState, first_train_state

SIZES = ("n_envs", "n_steps", "batch_size")
"""Keys that are chosen for the machine, once for all trainings of a study."""


@dataclass(frozen=True)
class FoldJob:
    """A fold and a seed, which may be a member of the fold's ensemble."""

    fold: Fold
    seed: int
    settings: Mapping[str, Any]
    """The configuration's, with its sizes filled in, so that every machine trains the same."""
    fingerprint: str
    """Of the market data."""
    members: int = 1
    """Seeds of the fold. With two or more each leaves out a piece of the training range."""
    member: int | None = None
    """Which piece this one leaves out, from 1; None for a single seed."""

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"fold_{self.fold.number}_seed_{self.seed}"

    @property
    def config(self) -> Config:
        """The configuration with the job's seed and piece."""
        own = {"seed": self.seed, "members": self.members, "member": self.member}
        return make_config({**self.settings, **own}, "the study's settings")

    @property
    def key(self) -> str:
        """Names the training by everything that it depends on."""
        kept = {key: value for key, value in self.settings.items() if key not in HARMLESS | {"seed"}}
        kept |= {key: self.settings[key] for key in ("timesteps", "episodes", "iterations")}
        kept |= {"members": self.members, "member": self.member}
        ranges = {name: [rows.start, rows.stop] for name, rows in self.fold.splits.items() if name != "test"}
        return fingerprint_of([kept, self.fingerprint, ranges, self.seed])


def train_fold(job: FoldJob, market: MarketTensors) -> dict[str, Any]:
    """Train, and keep the best model on the fold's validation range, or a member's last one. The test piece is not read.

    Returns:
        Plain values, and the model as the bytes of `torch.save`. A member has ``piece``, its judgement on the days that it
        left out, and ``gap``, its log growth beyond equal weight in each of them; its ``best_iteration`` is None.

    Raises:
        UserError: the settings do not fit into this machine's memory, or figures, losses or gradients are not finite.
    """
    begun = time.perf_counter()
    setup = _setup(job, market)
    try:
        found = _best(job, setup) if job.member is None else _last(job, setup)
    except NotFinite as error:
        raise UserError(
            f"Fold {job.fold.number}, seed {job.seed} has no result: {error}. Lower --actor-lr and --critic-lr."
        ) from error
    return {
        "key": job.key,
        "fold": job.fold.number,
        "seed": job.seed,
        **found,
        "seconds": time.perf_counter() - begun,
    }


def _best(job: FoldJob, setup: Setup) -> dict[str, Any]:
    """Train to the end, and pick the model on the validation range."""
    state, best, quiet = first_train_state(setup), b"", Reporter("quiet", silent=True)
    while state.progress.timesteps < setup.total_timesteps:
        state = iterate(setup, state, quiet)
        _refuse_diverged(job, setup, state)
        last = state.progress.timesteps >= setup.total_timesteps
        if last or state.progress.iteration % setup.config.validate_every == 0:
            state, better = validated(setup, state, quiet)
            if better or not best:
                best, figures = _saved(setup, state.learner.policy), dict(state.metrics)
                gap = deployed_gap(on_trained_names(setup.environment), state.learner.policy, job.seed)
    return {
        "best_iteration": state.progress.best_iteration,
        "iterations": state.progress.iteration,
        "metrics": figures,
        "training": gap.as_dict(),
        "model": best,
    }


def _last(job: FoldJob, setup: Setup) -> dict[str, Any]:
    """Train to the end, and judge the last model on the piece that was left out. The validation range is not read."""
    state, quiet = first_train_state(setup), Reporter("quiet", silent=True)
    while state.progress.timesteps < setup.total_timesteps:
        state = iterate(setup, state, quiet)
        _refuse_diverged(job, setup, state)
    held_out = fold_of_member(setup.config, job.fold.train).held_out
    piece, gap = on_held_out_days(evaluate(setup.environment, state.learner.policy, held_out))
    return {
        "best_iteration": None,
        "iterations": state.progress.iteration,
        "metrics": dict(state.metrics),
        "piece": vars(piece).copy(),
        "gap": gap.tolist(),
        "model": _saved(setup, state.learner.policy),
    }


def found_by(results: Sequence[Mapping[str, Any]], per_year: int) -> Found | None:
    """What the members of a fold found on the days that they left out; None for a single seed.

    Args:
        results: of all seeds of one fold, in the order of their pieces (see `train_fold`).
        per_year: sessions per year.
    """
    if len(results) == 1:
        return None
    pieces = [HeldOut(**result["piece"]) for result in results]
    return weigh(pieces, [np.array(result["gap"]) for result in results], per_year)


def load_model(saved: bytes) -> tuple[Network, tuple[Tensor, Tensor]]:
    """A job's model, and the normaliser of what it observes. No code in the bytes is run."""
    content = torch.load(io.BytesIO(saved), weights_only=True)
    policy = make_network(content["architecture"], content["value_scale"])
    policy.load_state_dict(content["model_state_dict"])
    return policy, (content["normaliser"]["mean"], content["normaliser"]["std"])


def _setup(job: FoldJob, market: MarketTensors) -> Setup:
    normaliser = _shared_normaliser(job, market)
    setup = prepare_run(job.config, market, normaliser=normaliser, fixed_sizes=True, splits=job.fold.splits)
    asked = {name: job.settings[name] for name in SIZES}
    got = {name: getattr(setup.config, name) for name in SIZES}
    if asked != got:
        raise UserError(
            f"A training with {asked['n_envs']:,} environments does not fit into this machine's memory beside the others; use "
            "fewer --processes, or lower --n-envs."
        )
    return setup


def _shared_normaliser(job: FoldJob, market: MarketTensors) -> tuple[Tensor, Tensor] | None:
    """The normaliser of all members of a fold, which act on one observation: that of the whole training range.

    None for a single seed, whose training fits it on that range anyway.
    """
    if job.member is None:
        return None
    # Bootstrapped markets are days of the same range. They are not made only to be left out of the fit.
    whole = job.config.model_copy(update={"member": None, "bootstrap_markets": 0})
    return markets_to_train_on(whole, market, job.fold.train).normaliser()


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
