"""``tactician learnability``: train on markets whose best policy is known, and say how much of it was found."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tactician.commands.flags import Json, flags_of
from tactician.config_values import Count
from tactician.version import __version__


@dataclass(frozen=True)
class LearnabilityArguments:
    """Train on markets whose best policy is known, and say how much of it was found."""

    markets: tuple[str, ...] = ()
    """Markets to train on: oracle, observable, hidden, regimes, null, predictable; default: all six. With --rows also the
    harder null_lifelike, regimes_faint, predictable_faint; default: all nine."""
    rows: Count | None = None
    """Train on the first rows of each market only, as few as life has (4000); default: on all 100,000."""
    variants: tuple[str, ...] = ()
    """To compare; default: window and critic. The others: 'no memory', 'no critic epochs', 'one learning rate', 'lambda 0',
    'lambda 1', 'no sharpening', 'first policy uniform', 'market memory'; 'all' for every one (docs/learning.md). With --rows
    there are other methods, each beside 'window' (docs/generalisation.md)."""
    seeds: Count = 5
    """Trainings per market and variant."""
    first_seed: Count | None = None
    """Seed of the first; default: 30, or 40 with --rows, on which no setting was chosen."""
    sweep: bool = False
    """Also train at costs across the threshold where trading must stop, and draw the turnover."""
    timesteps: Count | None = None
    """Environment steps per training; default: 3,000,000, or 1,000,000 with --rows."""
    out: Path = Path("learnability.json")
    """Where trainings and table are kept; those that it has already are not repeated. The picture goes beside it."""
    engine: Literal["local", "ray"] = "local"
    """Where to train: in processes on this machine, or on a Ray cluster (docs/walk_forward.md)."""
    address: str | None = None
    """Of a running Ray cluster, 'auto' for this machine's; default: start one here for the study."""
    processes: Count | None = None
    """Trainings side by side on this machine, each on one thread; default: one per core."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Train on markets whose best policy is known, and say how much of it was found."""
    arguments = flags_of(LearnabilityArguments, "learnability", words)
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, trainings in {arguments.out}")
    from tactician.monitor.wording import count
    from tactician.storage import json_text
    from tactician.studies.engine import exit_code, make_engine, stopped_by_signals
    from tactician.studies.learnability_plan import METHODS, VARIANTS, plan_study
    from tactician.studies.learnability_runs import run_study
    from tactician.studies.report import finish, tell_run
    from tactician.training.lock import only_writer

    known = VARIANTS if arguments.rows is None else METHODS
    variants = tuple(known) if "all" in arguments.variants else arguments.variants or tuple(known)[:2]
    settings = {} if arguments.timesteps is None else {"timesteps": arguments.timesteps}
    jobs = plan_study(
        arguments.markets, variants, arguments.seeds, arguments.sweep, settings, arguments.rows, arguments.first_seed
    )
    engine = make_engine(arguments.engine, processes=arguments.processes, address=arguments.address)
    runs: list[dict[str, Any]] = []
    with only_writer(arguments.out.with_name(f".{arguments.out.name}.lock"), arguments.out, "--out"):
        try:
            with stopped_by_signals(), closing(run_study(jobs, arguments.out, engine)) as study:
                for result, left in study:
                    runs.append(result)
                    tell_run(result, left, reporter)
        except KeyboardInterrupt as stop:
            reporter.say(
                f"  Stopped: {len(runs)} of {count(len(jobs), 'training')} are kept in {arguments.out}; run the same command "
                "again to go on.",
                whole=[arguments.out],
            )
            return exit_code(stop)
        rows = finish(runs, arguments.out, reporter)
    if arguments.as_json:
        print(json_text(rows, indent=2))
    return 0
