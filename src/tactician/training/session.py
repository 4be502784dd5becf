"""A run from its configuration to its summary, new or resumed: the part that command line and Python share."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from tactician.config import Config
from tactician.environment import MarketTensors
from tactician.errors import UserError
from tactician.hardware.device import pick_device
from tactician.hardware.processes import SINGLE, Process
from tactician.monitor.progress import Reporter
from tactician.training.checkpoint import is_legacy, remove_leftovers, set_aside
from tactician.training.interruption import Interruption
from tactician.training.lineage import refuse_contaminated, seen_by_checkpoint
from tactician.training.loop import train
from tactician.training.resume import goes_on_from, refuse_other_names, resume, saved_annealing, saved_normaliser
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import first_train_state
from tactician.training.summary import Summary

Found = tuple[Path, dict[str, Any]]
"""A checkpoint to resume from: its path and content."""


def prepare(
    config: Config,
    market: MarketTensors,
    found: Found | None,
    reporter: Reporter,
    *,
    flags: Collection[str],
    allow_contaminated: bool,
    process: Process = SINGLE,
) -> Setup:
    """Prepare everything that a run needs, and tell its warnings.

    Args:
        config: the run's.
        market: its market.
        found: the checkpoint to resume from; None for a new run.
        reporter: tells the warnings.
        flags: keys of the configuration that did not come from a file.
        allow_contaminated: go on although the checkpoint has seen a range that is called held out.
        process: which of the run's processes this is.

    Raises:
        UserError: see `prepare_run`; or the checkpoint has seen the validation or test range, or other names.
    """
    n_actions = market.regimes.n_actions
    normaliser = saved_normaliser(found[1], config, n_actions) if found else None
    goes_on = found is not None and goes_on_from(found[1], config, n_actions)
    if found is not None and goes_on:
        refuse_other_names(config, *found)
    # A resumed run keeps its sizes even on a slow machine, because with other sizes it would be another run. The exception
    # is a checkpoint from a GPU on a CPU.
    if found is not None and goes_on and config.anneal_steps is None:
        config = config.model_copy(update={"anneal_steps": saved_annealing(found[1])})
    device = pick_device(config.device, process.local_rank).type
    fixed = found is not None and goes_on and found[1].get("device", device) == device
    setup = prepare_run(config, market, normaliser=normaliser, process=process, fixed_sizes=fixed)
    for note in setup.notes:
        reporter.warn(note)
    if found is not None and goes_on and not allow_contaminated:
        refuse_contaminated(setup, seen_by_checkpoint(found[1]), found[0])
    return replace(setup, flags=tuple(flags))


def run(setup: Setup, found: Found | None, reporter: Reporter, stop: Interruption) -> Summary:
    """Train from the checkpoint, or from the beginning.

    Raises:
        Interrupted: see `train`, also for its other exceptions.
    """
    resumed = resume(setup, *found, reporter) if found else None
    state = first_train_state(setup) if resumed is None else resumed
    if state.progress.timesteps >= setup.total_timesteps and not state.metrics:
        raise UserError(
            f"All of the {setup.total_timesteps:,} steps asked for are done in this checkpoint; ask for more with --timesteps."
        )
    if setup.process.leads:
        _prepare_folder(setup.config.checkpoint_dir, found, resumed is not None, reporter)
    return train(setup, state, reporter, stop)


def _prepare_folder(folder: Path, found: Found | None, goes_on: bool, reporter: Reporter) -> None:
    """Remove the temporary files of a killed run from the folder, and set aside what this run does not go on with."""
    remove_leftovers(folder)
    if found is None:
        why = (
            "an earlier run, which is now in {}; --resume would have gone on with it, and --checkpoint-dir takes another "
            "folder"
        )
    elif not goes_on:
        why = "an earlier run, which is now in {}: this one begins anew"
    elif found[0].resolve().parent != folder.resolve():
        why = "another run, which is now in {}; --checkpoint-dir takes another folder"
    elif is_legacy(found[1]):
        why = "files of an old format, which are now in {}"
    else:
        return
    aside = set_aside(folder)
    if aside is not None:
        reporter.warn(f"{folder} held {why.format(aside)}.")
