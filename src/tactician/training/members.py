"""An ensemble: members that each leave out a piece of the training range, and one file that holds them.

A member is a run like any other, in a folder of its own, with checkpoints, metrics and a lock. The ensemble is put together
from the members' final models. None of them was picked on the validation range.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tactician.config import Config
from tactician.environment import MarketTensors, fold_of_member
from tactician.errors import UserError
from tactician.evaluation import Found, HeldOut, NotFinite, evaluate, on_held_out_days, weigh
from tactician.monitor.progress import Reporter
from tactician.policy import Ensemble
from tactician.training.checkpoint import (
    FINAL,
    MEMBER,
    load_policy,
    newest_checkpoint,
    remove_leftovers,
    save_ensemble,
    set_aside,
)
from tactician.training.interruption import Interruption
from tactician.training.lineage import run_name, run_of, seen_by_checkpoint, seen_by_run
from tactician.training.lock import only_run_in
from tactician.training.loop import learn
from tactician.training.resume import resume
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import Progress, first_train_state

_APART = 1000
"""Between the seeds of two members, so that an ensemble with the next seed shares none of them."""
_SEEDS = 2**63


@dataclass(frozen=True)
class Trained:
    """What a member's training found: plain values, so that it can come from another process."""

    number: int
    piece: HeldOut
    gap: tuple[float, ...]
    """Log growth per session beyond equal weight, on the held-out piece."""
    progress: dict[str, Any]
    metrics: dict[str, float]
    aside: Path | None = None
    """Where another run's files are, which were in the member's folder."""


def member_seed(seed: int, number: int) -> int:
    """The seed of a member, from 1 on, of an ensemble with a seed."""
    return (seed + _APART * (number - 1)) % _SEEDS


def member_config(config: Config, number: int) -> Config:
    """The settings of a member, from 1 on: its own seed, piece and folder."""
    changes = {
        "member": number,
        "seed": member_seed(config.seed, number),
        "checkpoint_dir": config.checkpoint_dir / f"{MEMBER}{number}",
    }
    return config.model_copy(update=changes)


def saved_members(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """A checkpoint from which an ensemble's run goes on: path and content of the first member that has one.

    Its settings are those of the whole run. None if no member has saved anything.

    Args:
        folder: of the run.
    """
    for where in sorted(folder.glob(f"{MEMBER}*")):
        path, content, _ = newest_checkpoint(where)
        number = None if content is None else content.get("config", {}).get("member")
        if path is not None and content is not None and number is not None:
            seed = (content["config"]["seed"] - _APART * (number - 1)) % _SEEDS
            whole = {**content["config"], "member": None, "seed": seed, "checkpoint_dir": str(folder)}
            return path, {**content, "config": whole}
    return None


@dataclass(frozen=True)
class Shared:
    """What all members have in common."""

    market: MarketTensors
    """Not normalised."""
    normaliser: tuple[Tensor, Tensor]
    """Mean and standard deviation of the features on the whole training range: the ensemble has one observation."""
    flags: tuple[str, ...]
    """Keys of the configuration that did not come from its file."""


def train_member(config: Config, shared: Shared) -> Trained:
    """Train a member, or go on where its training stopped, and judge it on the piece that it leaves out.

    Args:
        config: of `member_config`, with its sizes filled in.
        shared: see `Shared`.

    Raises:
        UserError: the folder cannot be written, memory runs out, or figures are not finite.
    """
    assert config.member is not None
    quiet, aside = Reporter("quiet", silent=True), None
    with only_run_in(config.checkpoint_dir):
        remove_leftovers(config.checkpoint_dir)
        setup = prepare_run(config, shared.market, normaliser=shared.normaliser, fixed_sizes=True)
        setup = replace(setup, flags=shared.flags)
        path, content, _ = newest_checkpoint(config.checkpoint_dir)
        state = None
        if path is not None and content is not None:
            if run_of(content) == _run_of(setup):
                state = resume(setup, path, content, quiet)
            else:  # of other settings or data: it may have learnt from what is held out now
                aside = set_aside(config.checkpoint_dir)
        # Also of a finished member: it may have ended before its final model was written.
        setup, state = learn(setup, state or first_train_state(setup), quiet, Interruption())
    piece = fold_of_member(config, setup.splits["train"]).held_out
    try:
        held_out, gap = on_held_out_days(evaluate(setup.environment, state.learner.policy, piece))
    except NotFinite as error:
        raise UserError(f"Member {config.member} has no result: {error}. Lower --actor-lr and --critic-lr.") from error
    return Trained(
        config.member, held_out, tuple(gap.tolist()), vars(state.progress).copy(), dict(state.metrics), aside
    )


def _run_of(setup: Setup) -> str:
    return run_name(setup.config.model_dump(mode="json"), setup.environment.market.fingerprint)


def put_together(setup: Setup, trained: Sequence[Trained]) -> tuple[Path, Found]:
    """Write the ensemble's file, from the members' final models.

    Args:
        setup: of the whole run.
        trained: all members.

    Returns:
        The file, and what was found.

    Raises:
        UserError: a member's model is missing, or the folder cannot be written.
    """
    trained = sorted(trained, key=lambda one: one.number)
    per_year = setup.environment.market.sessions_per_year
    found = weigh([one.piece for one in trained], [np.array(one.gap) for one in trained], per_year)
    members = [load_policy(member_config(setup.config, one.number).checkpoint_dir / FINAL) for one in trained]
    seen = seen_by_run(setup)
    # `record_look` has written into their files: who goes on with judged members goes on with the looks at them.
    for member in members:
        seen = seen.with_looks_of(seen_by_checkpoint(member.content))
    ensemble = Ensemble([member.policy for member in members])
    return save_ensemble(setup, ensemble, found, seen, progress_of(trained), metrics_of(trained)), found


def progress_of(trained: Sequence[Trained]) -> Progress:
    """The work of all members together."""
    each = [Progress(**one.progress) for one in trained]
    total = {
        name: sum(getattr(p, name) for p in each)
        for name in ("iteration", "timesteps", "total_trades", "winning_trades", "dropped_updates", "seconds")
    }
    return replace(Progress(**total), best_reward=max(p.best_reward for p in each))


def metrics_of(trained: Sequence[Trained]) -> dict[str, float]:
    """The mean of the members' metrics of their last iteration."""
    names = [name for name in trained[0].metrics if all(name in one.metrics for one in trained)]
    return {name: float(np.mean([one.metrics[name] for one in trained])) for name in names}
