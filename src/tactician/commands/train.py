"""``tactician train``: train an agent on a market cache and keep the best model."""

import os
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tactician import configs
from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, Json, given_keys, parse
from tactician.commands.hints import command, flag_words, quoted, rebuild_command
from tactician.config import Config, load_config
from tactician.errors import UserError
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.hardware.processes import Process
    from tactician.monitor.progress import Reporter
    from tactician.training.session import Found


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
        raise UserError("--json goes with --dry-run; a run writes its figures to report.json in the checkpoint folder.")
    from tactician.monitor.progress import Reporter, Verbosity
    from tactician.monitor.wording import count

    verbosity: Verbosity = "quiet" if arguments.quiet else "verbose" if arguments.verbose else "normal"
    # Of several processes only the first speaks. A rank without an address to meet at is some other program's.
    follows = "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0"
    reporter = Reporter(verbosity, silent=arguments.as_json or follows)
    # A sign of life before torch, which takes seconds to import.
    reporter.note(f"  Tactician {__version__}, {configs.shortest(arguments.config_file)} → {config.checkpoint_dir}")
    from tactician.hardware.processes import SINGLE, join, launch, under_launcher

    if under_launcher() and not arguments.dry_run:
        with join(config.device) as process:
            return _run(arguments, words, config, reporter, process)
    if config.multi_gpu and config.members > 1:
        raise UserError(
            "The members of an ensemble train in a process each; leave out --multi-gpu, or add --members 1."
        )
    if config.multi_gpu:
        n_gpus = _gpus(config.device)
        if n_gpus > 1 and not arguments.dry_run:
            return launch(["train", *words], n_gpus)
        there = count(n_gpus, "GPU") if n_gpus else "no GPU"
        reporter.warn(f"--multi-gpu: this machine has {there}; one process is used.")
    return _run(arguments, words, config, reporter, SINGLE)


def _run(arguments: TrainArguments, words: list[str], config: Config, reporter: "Reporter", process: "Process") -> int:
    if arguments.dry_run:
        return _train(arguments, words, config, reporter, process)
    from tactician.training.lock import only_run_in

    with only_run_in(config.checkpoint_dir) if process.leads else nullcontext():
        return _train(arguments, words, config, reporter, process)


def _train(
    arguments: TrainArguments, words: list[str], config: Config, reporter: "Reporter", process: "Process"
) -> int:
    from tactician.commands.announcement import announce, plan, print_plan
    from tactician.environment import load_cached_market
    from tactician.training.interruption import Interrupted, Interruption
    from tactician.training.session import prepare, run
    from tactician.training.summary import print_summary

    if config.member is None and (config.members > 1 or _goes_on_with_members(arguments, config)):
        return _train_members(arguments, words, config, reporter, process)
    found = _checkpoint_to_go_on_from(arguments, config, reporter, process)
    given = given_keys(words)
    flags = given
    if found is not None:
        config, flags = _with_settings_of(found, config, given, reporter)
    market = load_cached_market(config, rebuild_command(arguments.config_file, config))
    setup = prepare(
        config,
        market,
        found,
        reporter,
        flags=flags - {"config"},
        allow_contaminated=arguments.allow_contaminated,
        process=process,
    )
    if arguments.dry_run:
        print_plan(plan(setup), arguments.as_json)
        return 0
    for finding in market.findings:
        reporter.debug(f"market: {finding}")
    announce(setup, reporter)
    reporter.pace.expect(setup.seconds_per_iteration)
    with Interruption(reporter.pace.seconds_left_of_iteration, speaks=process.leads) as stop:
        try:
            summary = run(setup, found, reporter, stop)
        except Interrupted as end:
            if end.summary is not None:
                print_summary(end.summary, reporter, [])
            reporter.say(f"  Stopped and saved {end.path}.", whole=[end.path])
            reporter.say(f"  Go on with: {_resume_command(arguments, config, 'config' in given)}")
            return int(end.code or 0)
        print_summary(summary, reporter, _next_commands(arguments.config_file, config, setup.flags))
        return stop.exit_code  # the run is complete, but who has pressed Ctrl+C wants what follows it stopped


def _train_members(
    arguments: TrainArguments, words: list[str], config: Config, reporter: "Reporter", process: "Process"
) -> int:
    """Train an ensemble: its members side by side, each in a process of its own."""
    from tactician.commands.announcement import announce, plan, print_plan
    from tactician.environment import load_cached_market
    from tactician.monitor.wording import count
    from tactician.studies.engine import exit_code, stopped_by_signals
    from tactician.studies.ensemble import member_engine, members_to_go_on_with, prepare_members, train_ensemble
    from tactician.training.summary import print_summary

    if arguments.checkpoint is not None:
        raise UserError(
            "--checkpoint goes on with a single agent; add --members 1 for that, or give --resume to go on with members."
        )
    if process.collective.size > 1:
        raise UserError("The members of an ensemble train in a process each; start one process, or add --members 1.")
    given = given_keys(words)
    flags, found = given, members_to_go_on_with(config) if arguments.resume else None
    if found is not None:
        config, flags = _with_settings_of(found, config, given, reporter)
    market = load_cached_market(config, rebuild_command(arguments.config_file, config))
    setup = prepare_members(config, market, flags - {"config"}, reporter, resume=arguments.resume)
    if arguments.dry_run:
        print_plan({**plan(setup), "members": config.members}, arguments.as_json)
        return 0
    for finding in market.findings:
        reporter.debug(f"market: {finding}")
    announce(setup, reporter)
    reporter.note(f"  {count(config.members, 'member')}, each without a piece of the training range")
    try:
        with stopped_by_signals():
            summary = train_ensemble(setup, market, member_engine(setup), reporter, resume=arguments.resume)
    except KeyboardInterrupt as stop:
        reporter.say(
            f"  Stopped. What members have saved is kept in {config.checkpoint_dir}.", whole=[config.checkpoint_dir]
        )
        reporter.say(f"  Go on with: {_resume_command(arguments, config, 'config' in given)}")
        return exit_code(stop)
    print_summary(summary, reporter, _next_commands(arguments.config_file, config, setup.flags))
    return 0


def _goes_on_with_members(arguments: TrainArguments, config: Config) -> bool:
    """Whether a run that does not ask for members goes on with some: a resumed run keeps its flags."""
    from tactician.training.members import saved_members

    return arguments.resume and arguments.checkpoint is None and saved_members(config.checkpoint_dir) is not None


def _checkpoint_to_go_on_from(
    arguments: TrainArguments, config: Config, reporter: "Reporter", process: "Process"
) -> "Found | None":
    from tactician.training.resume import find_checkpoint, saved_since

    if process.restarts:  # what the run itself has saved counts, whatever it began with
        found = process.from_leader(lambda: saved_since(config.checkpoint_dir, process.launched))
        if found is not None:
            return found
    if arguments.resume or arguments.checkpoint:
        return process.from_leader(lambda: find_checkpoint(config, arguments.checkpoint, reporter))
    return None


def _with_settings_of(
    found: "Found", config: Config, given: frozenset[str], reporter: "Reporter"
) -> tuple[Config, frozenset[str]]:
    """The settings with which a checkpoint's run goes on, and the keys that are its own, not its file's."""
    from tactician.training.resume import settings_to_go_on

    path, content = found
    config = settings_to_go_on(config, path, content, given, file_named="config" in given, reporter=reporter)
    if "config" not in given:  # nothing of it came from a file that was named today
        return config, given | frozenset(Config.model_fields)
    return config, given | frozenset(content.get("flags", ()))


def _gpus(device: str) -> int:
    import torch

    return torch.cuda.device_count() if device != "cpu" else 0


def _resume_command(arguments: TrainArguments, config: Config, file_named: bool) -> str:
    """The run's own flags are in its checkpoint and need not be repeated."""
    words = "tactician train" + (f" --config {quoted(configs.shortest(arguments.config_file))}" if file_named else "")
    words += " --resume"
    if config.checkpoint_dir != load_config(arguments.config_file).checkpoint_dir:
        words += f" --checkpoint-dir {quoted(config.checkpoint_dir)}"
    if config.members > 1 and config.member is None:  # perhaps no member has saved anything that would tell
        words += f" --members {config.members}"
    return words + (" --allow-contaminated" if arguments.allow_contaminated else "")


def _next_commands(config_file: Path, config: Config, flags: Collection[str]) -> list[str]:
    folder, seed = config.checkpoint_dir, config.seed + 1
    if not folder.name:  # the folder where the program was started
        folder = folder.resolve()
    boards = folder if config.members > 1 and config.member is None else folder / "tensorboard"
    board = f"tensorboard --logdir {quoted(boards)}"
    if set(flags) >= Config.model_fields.keys():  # of no file, so no short command would do the same
        return [board]
    elsewhere = folder.with_name(f"{folder.name.removesuffix(f'_seed{config.seed}')}_seed{seed}")
    same = flag_words(config, set(flags) - {"seed", "checkpoint_dir"})
    return [
        board,
        command("costs", config_file, config),
        f"tactician train --config {quoted(configs.shortest(config_file))}{same} --seed {seed} --checkpoint-dir "
        f"{quoted(elsewhere)}   (does it hold for another seed?)",
    ]
