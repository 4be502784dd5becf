"""The command line: ``tactician VERB …``, and the same verbs as ``python src/apps/VERB.py …``.

Flags are the fields of `tactician.config.Config`. Heavy libraries are imported by the verb that needs them, so that
``--help`` answers at once.
"""

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tactician.config import Config, load_config, make_config
from tactician.errors import UserError

if TYPE_CHECKING:
    from tactician.training.processes import Process
    from tactician.training.progress import Reporter

# Threads that wait must sleep, not spin: beside another program that takes a core, spinning makes training twenty times slower.
# OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DEFAULT_CONFIG = Path("configs/rl_v2_multi_asset.yaml")
_DURATIONS = ("timesteps", "episodes", "iterations")

_ConfigFile = Annotated[Path, tyro.conf.arg(name="config", help="YAML file with the settings; flags override it.")]
_Json = Annotated[bool, tyro.conf.arg(name="json", help="Print JSON instead of tables.")]


def _flags() -> type:
    """The configuration's keys as flags. Bounds are left to `make_config`, which answers in one sentence."""
    return make_dataclass(
        "Settings",
        [
            (name, Annotated[key.annotation, tyro.conf.arg(help=key.description)])
            for name, key in Config.model_fields.items()
            if tyro.conf.Suppress not in key.metadata
        ],
        frozen=True,
    )


Flags = _flags()
_Settings = tyro.conf.OmitArgPrefixes[Flags]  # type: ignore[valid-type]


@dataclass(frozen=True)
class TrainArguments:
    """Train an agent on a market cache and keep the best model."""

    settings: _Settings
    config_file: _ConfigFile = DEFAULT_CONFIG
    resume: bool = False
    """Go on from the newest checkpoint of the run's folder, if there is one; the duration is the total."""
    checkpoint: Path | None = None
    """Go on from this checkpoint."""
    allow_contaminated: bool = False
    """Go on although the checkpoint has seen the test or validation range; every result is marked contaminated."""
    dry_run: bool = False
    """Print the plan and stop."""
    as_json: _Json = False
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Progress and debugging lines."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """No progress: only warnings and the result."""


@dataclass(frozen=True)
class CacheArguments:
    """Build the market cache that training reads."""

    settings: _Settings
    config_file: _ConfigFile = DEFAULT_CONFIG


@dataclass(frozen=True)
class CostArguments:
    """Print what each regime costs from cash, and each switch from one to another."""

    settings: _Settings
    config_file: _ConfigFile = DEFAULT_CONFIG
    on: str | None = None
    """Session (YYYY-MM-DD) whose weights are taken; default: the last one in the cache."""
    as_json: _Json = False


@dataclass(frozen=True)
class LearnabilityArguments:
    """Train on markets whose best policy is known, and say how much of it was found."""

    markets: tuple[str, ...] = ()
    """Markets to train on: oracle, observable, hidden, regimes, null, predictable; default: all six."""
    variants: tuple[str, ...] = ("window", "critic")
    """To compare: window, critic, 'no memory', 'no critic epochs', 'one learning rate', 'lambda 0', 'lambda 1',
    'no cost warm-up'; 'all' for every one (docs/learning.md)."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Trainings of each market and variant."""
    sweep: bool = False
    """Also train at costs across the threshold where trading must stop, and draw the turnover."""
    timesteps: int | None = None
    """Environment steps of every training; default: what each market needs."""
    out: Path = Path("benchmarks/results/learnability.json")
    """Where trainings and table are kept; those that it has already are not repeated. The picture goes beside it."""
    processes: int | None = None
    """Trainings side by side, each on one thread; default: one per core."""
    as_json: _Json = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        arguments: the verb and its flags; default: the process's.

    Returns:
        Exit code: 0, or 2 for a user's mistake, which is told in one sentence.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what other libraries say to their developers is no help to a user
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    verb = words[0].replace("_", "-")
    if verb not in VERBS:
        print(f"tactician: there is no verb '{words[0]}'; use one of: {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    try:
        return VERBS[verb](words[1:])
    except UserError as error:
        print(f"tactician {verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(f"tactician {verb}: interrupted.", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = [f"  {verb:<12} {(action.__doc__ or '').splitlines()[0]}" for verb, action in VERBS.items()]
    return "\n".join(["usage: tactician VERB [flags]", "", *lines, "", "tactician VERB --help lists a verb's flags."])


def _train(words: list[str]) -> int:
    """Train an agent on a market cache and keep the best model."""
    arguments, config = _parse(TrainArguments, "train", words)
    if arguments.verbose and arguments.quiet:
        raise UserError("--verbose and --quiet contradict one another; give one of them.")
    if arguments.as_json and not arguments.dry_run:
        raise UserError(
            "--json goes with --dry-run; a run writes its figures to summary.json in the checkpoint folder."
        )
    from tactician.training.processes import SINGLE, join, launch, under_launcher
    from tactician.training.progress import Reporter, Verbosity

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
    from tactician.training.announcement import announce, print_plan
    from tactician.training.interruption import Interrupted, Interruption
    from tactician.training.lineage import refuse_contaminated, seen_by_checkpoint
    from tactician.training.loop import train
    from tactician.training.resume import find_checkpoint, goes_on_from, resume, saved_normaliser, saved_since
    from tactician.training.setup import load_cached_market, plan, prepare_run
    from tactician.training.state import first_train_state
    from tactician.training.summary import print_summary

    market = load_cached_market(config, _rebuild_command(arguments.config_file, config))
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
    words = f"{_command('train', arguments.config_file, config)} --resume"
    if config.checkpoint_dir != in_file.checkpoint_dir:
        words += f" --checkpoint-dir {_quoted(config.checkpoint_dir)}"
    return words + "  (with the flags of this run)"


def _build_cache(words: list[str]) -> int:
    """Build the market cache that training reads."""
    arguments, config = _parse(CacheArguments, "build-cache", words)
    from tactician.training.market_cache import build_cache
    from tactician.training.progress import Reporter

    reporter = Reporter()
    market = build_cache(config, reporter)
    reporter.say(f"  Wrote {config.cache}: {market.n_days:,} decision sessions, fingerprint {market.fingerprint[:12]}.")
    reporter.say(f"  Next: {_command('train', arguments.config_file, config)}")
    return 0


def _costs(words: list[str]) -> int:
    """Print what each regime costs from cash, and each switch from one to another."""
    arguments, config = _parse(CostArguments, "costs", words)
    from rich.console import Console

    from tactician.storage import json_text
    from tactician.training.costs import session_costs
    from tactician.training.setup import load_cached_market

    market = load_cached_market(config, _rebuild_command(arguments.config_file, config))
    report = session_costs(config, market, arguments.on)
    if arguments.as_json:
        print(json_text(report.as_dict(), indent=2))
    else:
        report.render(Console())
    return 0


def _learnability(words: list[str]) -> int:
    """Train on markets whose best policy is known, and say how much of it was found."""
    arguments = _flags_of(LearnabilityArguments, "learnability", words, LearnabilityArguments())
    for name in ("seeds", "timesteps", "processes"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} cannot be {value}; give a positive number.")
    from tactician.storage import json_text
    from tactician.studies.learnability_table import MARKETS, VARIANTS, default_processes, plan_study, run_study
    from tactician.studies.report import finish, tell_run
    from tactician.training.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    variants = tuple(VARIANTS) if "all" in arguments.variants else arguments.variants
    settings = {} if arguments.timesteps is None else {"timesteps": arguments.timesteps}
    jobs = plan_study(arguments.markets or tuple(MARKETS), variants, arguments.seeds, arguments.sweep, settings)
    runs = []
    for run, left in run_study(jobs, arguments.out, arguments.processes or default_processes()):
        runs.append(run)
        tell_run(run, left, reporter)
    rows = finish(runs, arguments.out, reporter)
    if arguments.as_json:
        print(json_text(rows, indent=2))
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "build-cache": _build_cache,
    "costs": _costs,
    "learnability": _learnability,
}


def _parse(kind: type[Any], verb: str, words: list[str]) -> tuple[Any, Config]:
    """Flags over the YAML file's values; only durations on the command line count if there are any.

    Raises:
        UserError: the file or a flag's value is at fault.
        SystemExit: with code 2 for an unknown flag, 0 after --help.
    """
    in_file = load_config(_config_path(words))
    default = Flags(**{f.name: None if f.name in _DURATIONS else getattr(in_file, f.name) for f in fields(Flags)})
    arguments = _flags_of(kind, verb, words, kind(settings=default))
    given = vars(arguments.settings).copy()
    if all(given[name] is None for name in _DURATIONS):
        given |= {name: getattr(in_file, name) for name in _DURATIONS}
    if given["cache_path"] != in_file.cache_path:
        given["expanded_cache_path"] = None  # the flag names the file, whatever the universe
    return arguments, make_config({**in_file.model_dump(), **given}, "the command line")


def _flags_of(kind: type[Any], verb: str, words: list[str], default: Any) -> Any:
    """Flags over their defaults.

    Raises:
        UserError: an unknown flag.
        SystemExit: with code 2 for a value of the wrong kind, 0 after --help.
    """
    arguments, unknown = tyro.cli(
        kind,
        args=words,
        prog=f"tactician {verb}",
        default=default,
        config=(tyro.conf.FlagCreatePairsOff,),
        return_unknown_args=True,
    )
    if unknown:
        raise UserError(f"{unknown[0]} is no flag of this program; tactician {verb} --help lists them.")
    return arguments


def _config_path(words: list[str]) -> Path:
    for k, word in enumerate(words):
        if word == "--config" and k + 1 < len(words):
            return Path(words[k + 1])
        if word.startswith("--config="):
            return Path(word.removeprefix("--config="))
    return DEFAULT_CONFIG


def _rebuild_command(config_file: Path, config: Config) -> str:
    words = _command("build_cache", config_file, config, "bars")
    return words + (" (or with --bars FILE)" if config.bars == "yfinance" else "")


def _command(app: str, config_file: Path, config: Config, *more: str) -> str:
    """A command that uses the same market cache, with the flags of its keys, and of further ones, that are not the file's."""
    from tactician.training.setup import cache_key

    in_file = load_config(config_file)
    names = (*more, *(key for key in cache_key(config) if key != "universe"), "cache_path")
    changed = [name for name in names if getattr(config, name) != getattr(in_file, name)]
    flags = "".join(f" --{name.replace('_', '-')} {_quoted(getattr(config, name))}" for name in changed)
    expanded = " --expanded" if config.expanded and not in_file.expanded else ""
    return f"python src/apps/{app}.py --config {_quoted(config_file)}{expanded}{flags}"


def _quoted(value: object) -> str:
    return shlex.quote(str(value))


def _next_commands(config_file: Path, config: Config) -> list[str]:
    return [
        f"tensorboard --logdir {_quoted(config.checkpoint_dir / 'tensorboard')}",
        _command("costs", config_file, config),
        f"{_command('train', config_file, config)} --seed {config.seed + 1}   (does it hold for another seed?)",
    ]
