"""One training of a sweep: a pure function of settings, market, held-out piece and seed, which computes the same anywhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tactician.config import Config, make_config
from tactician.environment import InnerFold, MarketTensors, fit_normaliser
from tactician.errors import UserError
from tactician.evaluation import AGENT, NotFinite, evaluate
from tactician.monitor.progress import Reporter
from tactician.studies.fold_job import SIZES
from tactician.training.loop import iterate
from tactician.training.markets import names_trained_on, value_scale
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import first_train_state


@dataclass(frozen=True)
class PieceJob:
    """A trial's settings, trained without one piece of the training range."""

    trial: int
    fold: InnerFold
    seed: int
    train: range
    settings: Mapping[str, Any]
    """The configuration's, with its sizes filled in, so that every machine trains the same."""
    n_folds: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"trial {self.trial}, fold {self.fold.number}, seed {self.seed}"

    @property
    def config(self) -> Config:
        """The configuration with the job's seed and piece."""
        own = {"seed": self.seed, "members": self.n_folds, "member": self.fold.number}
        return make_config({**self.settings, **own}, "the sweep's settings")


def measure(job: PieceJob, market: MarketTensors) -> dict[str, Any]:
    """Train on the rest of the training range, and judge the last policy on the held-out piece.

    Returns:
        Plain values. ``fault`` says why a setting has no figure; without one there are ``figure``, annual log growth beyond
        equal weight; ``turnover``, annual; and ``growth``, the policy's log growth in each session.

    Raises:
        UserError: the settings do not fit into this machine's memory.
    """
    setup = _setup(job, market)
    state, quiet = first_train_state(setup), Reporter("quiet", silent=True)
    try:
        while state.progress.timesteps < setup.total_timesteps:
            state = iterate(setup, state, quiet)
            if state.metrics["dropped_in_a_row"] >= setup.config.max_dropped_updates:
                return {"fault": "loss or gradient was not finite in many updates in a row"}
        found = evaluate(setup.environment, state.learner.policy, job.fold.held_out)
    except NotFinite as error:
        return {"fault": str(error)}
    return {
        "figure": found.growth_beyond_equal_weight,
        "turnover": found.performances[AGENT].annual_turnover,
        "growth": found.path.growth[:, found.path.column(AGENT)].tolist(),
    }


def rows_of(market: MarketTensors, ranges: Iterable[range]) -> MarketTensors:
    """A market with some rows only, joined."""
    parts = list(ranges)
    kept: dict[str, Any] = {
        f.name: torch.cat([x[part.start : part.stop] for part in parts])
        for f in fields(market)
        if isinstance(x := getattr(market, f.name), Tensor)
    }
    return replace(market, **kept)


def _setup(job: PieceJob, market: MarketTensors) -> Setup:
    """The run's setup. Normaliser and value scale know the rows that are trained on, and not the held-out piece."""
    known = rows_of(*names_trained_on(market, job.fold.stretches))
    every = range(known.n_days)
    setup = prepare_run(
        job.config,
        market,
        normaliser=fit_normaliser(known, every),
        fixed_sizes=True,
        splits={"train": job.train, "validation": job.fold.held_out},
    )
    if any(job.settings[name] != getattr(setup.config, name) for name in SIZES):
        raise UserError(
            f"A training with {job.settings['n_envs']:,} environments and hidden_dim {job.settings['hidden_dim']} does not fit "
            "into this machine's memory beside the others; use fewer --processes, or lower --n-envs or the searched sizes."
        )
    return replace(setup, value_scale=value_scale(known, (every,), setup.config.gamma))
