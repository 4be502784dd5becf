"""``tactician train``: train an agent on a market cache and keep the best model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, Json, parse
from tactician.commands.hints import command, quoted, rebuild_command
from tactician.config import Config, load_config
from tactician.errors import UserError

if TYPE_CHECKING:
    from tactician.hardware.processes import Process
    from tactician.monitor.progress import Reporter


@dataclass(frozen=True)
class TrainArguments:
    """Train an agent on a market cache and keep the best model."""

    config_file: ConfigFile = DEFAULT_CONFIG
    resume: bool = False
    """Go on from the newest checkpoint of the run's folder, if there is one; the duration is the total."""
    checkpoint: Path | None = None
    """Go on from this checkpoint."""
    allow_contaminated: bool = False
    """Go on although the checkpoint has seen the test or validation range; every result is marked contaminated."""
    dry_run: bool = False
    """Print the plan and stop."""
    as_json: Json = False
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Progress and debugging lines."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """No progress: only warnings and the result."""


def run(words: list[str]) -> int:
    """Train an agent on a market cache and keep the best model."""
    arguments, config = parse(TrainArguments, "train", words)
    if arguments.verbose and arguments.quiet:
        raise UserError("--verbose and --quiet contradict one another; give one of them.")
    if arguments.as_json and not arguments.dry_run:
        raise UserError(
            "--json goes with --dry-run; a run writes its figures to summary.json in the checkpoint folder."
        )
    from tactician.hardware.processes import SINGLE, join, launch, under_launcher
    from tactician.monitor.progress import Reporter, Verbosity

    verbosity: Verbosity = "quiet" if arguments.quiet else "verbose" if arguments.verbose else "normal"
    if under_launcher() and not arguments.dry_run:
        with join(config.device) as process:
            reporter = Reporter(verbosity, silent=not process.leads)
            return _run(arguments, config, reporter, process)
    reporter = Reporter(verbosity, silent=arguments.as_json)
    if config.multi_gpu:
        n_gpus = _gpus(config.device)
        if n_gpus > 1 and not arguments.dry_run:
            return launch(["train", *words], n_gpus)
        reporter.warn(
            f"--multi-gpu: this machine has {n_gpus or 'no'} GPU{'' if n_gpus == 1 else 's'}; one process is used."
        )
    return _run(arguments, config, reporter, SINGLE)


def _run(arguments: TrainArguments, config: Config, reporter: "Reporter", process: "Process") -> int:
    from tactician.commands.announcement import announce, plan, print_plan
    from tactician.environment import load_cached_market
    from tactician.training.interruption import Interrupted, Interruption
    from tactician.training.lineage import refuse_contaminated, seen_by_checkpoint
    from tactician.training.loop import train
    from tactician.training.resume import find_checkpoint, goes_on_from, resume, saved_normaliser, saved_since
    from tactician.training.setup import prepare_run
    from tactician.training.state import first_train_state
    from tactician.training.summary import print_summary

    market = load_cached_market(config, rebuild_command(arguments.config_file, config))
    found = None
    if process.restarts:  # what the run itself has saved counts, whatever it began with
        found = process.from_leader(lambda: saved_since(config.checkpoint_dir, process.launched))
    if found is None and (arguments.resume or arguments.checkpoint):
        found = process.from_leader(lambda: find_checkpoint(config, arguments.checkpoint, reporter))
    normaliser = saved_normaliser(found[1], config, market.regimes.n_actions) if found else None
    setup = prepare_run(config, market, normaliser=normaliser, process=process)
    for note in setup.notes:
        reporter.warn(note)
    n_actions = market.regimes.n_actions
    if found and not arguments.allow_contaminated and goes_on_from(found[1], config, n_actions):
        refuse_contaminated(setup, seen_by_checkpoint(found[1]), found[0])
    if arguments.dry_run:
        print_plan(plan(setup), arguments.as_json)
        return 0
    for finding in market.findings:
        reporter.debug(f"market: {finding}")
    announce(setup, reporter)
    with Interruption() as stop:
        state = resume(setup, *found, reporter) if found else first_train_state(setup)
        try:
            summary = train(setup, state, reporter, stop)
        except Interrupted as end:
            reporter.say(f"  Stopped and saved {end.path}. Go on with: {_resume_command(arguments, config)}")
            return end.exit_code
    print_summary(summary, reporter, _next_commands(arguments.config_file, config))
    return 0


def _gpus(device: str) -> int:
    import torch

    return torch.cuda.device_count() if device != "cpu" else 0


def _resume_command(arguments: TrainArguments, config: Config) -> str:
    in_file = load_config(arguments.config_file)
    words = f"{command('train', arguments.config_file, config)} --resume"
    if config.checkpoint_dir != in_file.checkpoint_dir:
        words += f" --checkpoint-dir {quoted(config.checkpoint_dir)}"
    return words + "  (with the flags of this run)"


def _next_commands(config_file: Path, config: Config) -> list[str]:
    return [
        f"tensorboard --logdir {quoted(config.checkpoint_dir / 'tensorboard')}",
        command("costs", config_file, config),
        f"{command('train', config_file, config)} --seed {config.seed + 1}   (does it hold for another seed?)",
    ]
