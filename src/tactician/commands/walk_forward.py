"""``tactician walk-forward``: train, choose and test fold by fold, and judge all test pieces as one range."""

from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tactician import configs
from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, Json, parse
from tactician.commands.hints import rebuild_command
from tactician.config_values import Count
from tactician.errors import UserError
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.monitor.progress import Reporter
    from tactician.studies.engine import Engine
    from tactician.studies.walk_forward import Study


@dataclass(frozen=True)
class WalkForwardArguments:
    """Train, choose and test fold by fold, and judge all test pieces as one range."""

    config_file: ConfigFile = DEFAULT_CONFIG
    folds: Count = 5
    """Test pieces, each with a training and a validation range before it."""
    seeds: Count = 8
    """Members of each fold's ensemble. Each leaves out a piece of the training range, and together they are followed as far as
    the left-out pieces allow. 1: a single model, picked on validation, without this evidence."""
    window: Literal["expanding", "rolling"] = "expanding"
    """Whether training ranges begin with the market and grow, or keep the length of the first."""
    test_from: date | None = None
    """First session that is tested; default: the second half of the sessions is."""
    purge: Annotated[int, Field(ge=0)] = 252
    """Sessions left out between training and validation: as many as the features look back."""
    engine: Literal["local", "ray"] = "local"
    """Where to train: in processes on this machine, or on a Ray cluster (docs/walk_forward.md)."""
    address: str | None = None
    """Of a running Ray cluster, 'auto' for this machine's; default: start one here for the study."""
    processes: Count | None = None
    """Trainings side by side on this machine, each on one thread; default: one per core, or one on a GPU."""
    output: Path | None = None
    """Folder for trainings and report; default: walk_forward in the configuration's checkpoint folder."""
    dry_run: bool = False
    """Print the folds and stop; nothing is written."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Train, choose and test fold by fold, and judge all test pieces as one range."""
    arguments, config = parse(WalkForwardArguments, "walk-forward", words)
    folder = arguments.output or config.checkpoint_dir / "walk_forward"
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, {configs.shortest(arguments.config_file)} → {folder}", whole=[folder])
    from tactician.environment import load_cached_market
    from tactician.hardware.device import pick_device
    from tactician.report.files import check_writable
    from tactician.storage import json_text
    from tactician.studies.engine import make_engine
    from tactician.studies.folds import make_folds
    from tactician.studies.walk_forward import plan_study
    from tactician.studies.walk_forward_report import tell_plan
    from tactician.training.lock import only_writer

    engine = make_engine(
        arguments.engine,
        processes=arguments.processes,
        address=arguments.address,
        gpu=pick_device(config.device).type == "cuda",
    )
    market = load_cached_market(config, rebuild_command(arguments.config_file, config))
    folds = make_folds(
        market,
        arguments.folds,
        episode_length=config.episode_length,
        window=arguments.window,
        test_from=arguments.test_from,
        purge=arguments.purge,
    )
    study, notes = plan_study(config, market, folds, arguments.seeds, folder)
    for note in notes:
        reporter.warn(note)
    tell_plan(study, reporter)
    if arguments.dry_run:
        if arguments.as_json:
            print(json_text({"folds": study.ranges, "seeds": study.seeds}, indent=2))
        return 0
    if (folder / "metrics.jsonl").exists():
        raise UserError(
            f"{folder} is the folder of a training run, whose report would be replaced; give --output another one."
        )
    check_writable(folder)
    with only_writer(folder / ".walk_forward.lock", folder, "--output"):
        return _run(study, engine, reporter, as_json=arguments.as_json)


def _run(study: "Study", engine: "Engine", reporter: "Reporter", *, as_json: bool) -> int:
    from tactician.evaluation import NotFinite
    from tactician.monitor.wording import count
    from tactician.storage import json_text
    from tactician.studies.engine import exit_code, stopped_by_signals
    from tactician.studies.walk_forward import TimeLeft, kept_results, run_study
    from tactician.studies.walk_forward_judgement import count_trials, judge_study
    from tactician.studies.walk_forward_report import tell_result, tell_training

    results = kept_results(study)
    registration = study.register()
    reporter.say(f"  Registered before a test piece is read: {registration.sha256[:16]}")
    count_trials(study, registration, reporter.warn)
    n_jobs = len(study.jobs)
    if results:
        reporter.say(f"  Trainings that are there already: {len(results):,} of {n_jobs:,}.")
    left = TimeLeft(n_jobs - len(results))
    try:
        with stopped_by_signals(), closing(run_study(study, engine, results)) as trainings:
            for job, result in trainings:
                results[job.fold.number, job.seed] = result
                tell_training(job, result, n_jobs - len(results), left.finished_one(), reporter)
        with stopped_by_signals(), reporter.phase("⚖️  Judging all test pieces"):
            reported = judge_study(study, results, registration, reporter.warn)
    except KeyboardInterrupt as stop:
        reporter.say(
            f"  Stopped: {len(results)} of {count(n_jobs, 'training')} are kept in {study.folder}; run the same command again "
            "to go on.",
            whole=[study.folder],
        )
        return exit_code(stop)
    except NotFinite as error:
        raise UserError(f"The study has no result: {error}. The trainings are kept in {study.folder}.") from error
    if as_json:
        print(json_text(reported.document, indent=2))
        return 0
    tell_result(reported.result, reported.document, study.folder, reporter)
    return 0
