"""``tactician sweep``: search settings, judged on held-out pieces of the training range."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tactician import configs
from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, Json, parse
from tactician.commands.hints import rebuild_command, train_command
from tactician.config_values import Count, Whole
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.config import Config
    from tactician.monitor.progress import Reporter
    from tactician.studies.engine import Engine
    from tactician.studies.sweep import Sweep
    from tactician.studies.sweep_store import Store


@dataclass(frozen=True)
class SweepArguments:
    """Search settings, judged on held-out pieces of the training range alone."""

    config_file: ConfigFile = DEFAULT_CONFIG
    keys: tuple[str, ...] = ()
    """What to search: gamma=0.9..0.99 (a range), actor_lr=1e-4..3e-3@log (a logarithmic one), hidden_dim=16,32,64 (a list)."""
    trials: Count = 20
    """Settings to try in all. The first is the configuration as it is."""
    folds: Annotated[Whole, Field(ge=2, le=1000)] = 4
    """Pieces of the training range. Each is held out once per trial and seed."""
    seeds: Count = 1
    """Trainings per trial and piece."""
    engine: Literal["local", "ray"] = "local"
    """Where to train: in processes on this machine, or on a Ray cluster (docs/walk_forward.md)."""
    address: str | None = None
    """Of a running Ray cluster, 'auto' for this machine's; default: start one here for the study."""
    processes: Count | None = None
    """Trainings side by side on this machine, each on one thread; default: one per core, or one on a GPU."""
    output: Path | None = None
    """Folder for the trials; default: sweep in the configuration's checkpoint folder. The same command goes on there."""
    dry_run: bool = False
    """Print what would be searched and stop; nothing is written."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Search settings, judged on held-out pieces of the training range alone."""
    arguments, config = parse(SweepArguments, "sweep", words)
    folder = arguments.output or config.checkpoint_dir / "sweep"
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, {configs.shortest(arguments.config_file)} → {folder}", whole=[folder])
    from tactician.environment import load_cached_market
    from tactician.hardware.device import pick_device
    from tactician.report.files import check_writable
    from tactician.storage import json_text
    from tactician.studies.engine import make_engine
    from tactician.studies.sweep import declare, plan_sweep, sizes_before
    from tactician.studies.sweep_keys import parse_keys
    from tactician.studies.sweep_report import tell_plan
    from tactician.studies.sweep_store import FILE, Store, import_optuna
    from tactician.training.lock import only_writer

    import_optuna()
    keys = parse_keys(arguments.keys, config)
    engine = make_engine(
        arguments.engine,
        processes=arguments.processes,
        address=arguments.address,
        gpu=pick_device(config.device).type == "cuda",
    )
    market = load_cached_market(config, rebuild_command(arguments.config_file, config))
    sizes = {"n_folds": arguments.folds, "n_seeds": arguments.seeds, "n_trials": arguments.trials}
    if arguments.dry_run:
        sweep, notes = plan_sweep(config, market, keys, **sizes)
        for note in notes:
            reporter.warn(note)
        tell_plan(sweep, reporter)
        if arguments.as_json:
            print(json_text({**sweep.declared, "trials": sweep.n_trials, "default": sweep.default}, indent=2))
        return 0
    check_writable(folder)
    with (
        only_writer(folder / ".sweep.lock", folder, "--output"),
        closing(Store(folder / FILE, keys, config.seed)) as store,
    ):
        sweep, notes = plan_sweep(config, market, keys, sizes=sizes_before(store), **sizes)
        declare(sweep, store)
        for note in notes:
            reporter.warn(note)
        tell_plan(sweep, reporter)
        return _run(sweep, engine, store, arguments, folder, reporter)


def _run(
    sweep: "Sweep", engine: "Engine", store: "Store", arguments: SweepArguments, folder: Path, reporter: "Reporter"
) -> int:
    from tactician.monitor.wording import count
    from tactician.storage import json_text, save_text
    from tactician.studies.engine import exit_code, stopped_by_signals
    from tactician.studies.sweep import run_sweep
    from tactician.studies.sweep_report import NUMBERS, tell_result, tell_trial
    from tactician.studies.sweep_result import as_document, summarise
    from tactician.studies.walk_forward import TimeLeft

    records = store.records()
    if any(record.closed for record in records):
        done = sum(record.closed for record in records)
        reporter.say(f"  Trials that are there already: {done:,} of {max(sweep.n_trials, len(records)):,}.")
    per_trial = len(sweep.places)
    left = TimeLeft(max(sweep.n_trials, len(records)) * per_trial - sum(len(record.results) for record in records))
    try:
        with stopped_by_signals(), closing(run_sweep(sweep, engine, store, records, reporter.warn)) as trials:
            for record, trainings in trials:
                seconds = [left.finished_one() for _ in range(trainings)] or [0.0]
                row = next(row for row in summarise(sweep, [record]).rows)
                to_go = max(sweep.n_trials, len(records)) - sum(one.closed for one in records)
                tell_trial(row, sweep, to_go, max(seconds[-1], 0.0), reporter)
    except KeyboardInterrupt as stop:
        done, n = sum(len(record.results) for record in records), max(sweep.n_trials, len(records)) * per_trial
        reporter.say(
            f"  Stopped: {done:,} of {count(n, 'training')} are kept in {folder}; run the same command again to go on.",
            whole=[folder],
        )
        return exit_code(stop)
    with reporter.phase("⚖️  Comparing the trials"):
        found = summarise(sweep, records)
    command, in_file = _to_train(
        sweep, arguments.config_file, None if found.best is None else found.best.number, records
    )
    document = {**as_document(sweep, found), "train": command, "keys_of_the_file": in_file}
    save_text(json_text(document, indent=2) + "\n", folder / NUMBERS)
    if arguments.as_json:
        print(json_text(document, indent=2))
        return 0
    tell_result(sweep, found, command, in_file, folder, reporter)
    return 0


def _to_train(sweep: "Sweep", config_file: Path, best: int | None, records: list[Any]) -> tuple[str, dict[str, Any]]:
    """The command that trains the best trial on the whole training range, and what it needs in the file."""
    from tactician.studies.sweep_keys import changed

    chosen: Config = sweep.asked
    if best:
        chosen = changed(chosen, next(record.settings for record in records if record.number == best))
    return train_command(config_file, chosen)
