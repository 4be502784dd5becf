"""``tactician learnability``: train on markets whose best policy is known, and say how much of it was found."""

from dataclasses import dataclass
from pathlib import Path

from tactician.commands.flags import Json, flags_of
from tactician.config_values import Count
from tactician.version import __version__


@dataclass(frozen=True)
class LearnabilityArguments:
    """Train on markets whose best policy is known, and say how much of it was found."""

    markets: tuple[str, ...] = ()
    """Markets to train on: oracle, observable, hidden, regimes, null, predictable; default: all six."""
    variants: tuple[str, ...] = ("window", "critic")
    """To compare: window, critic, 'no memory', 'no critic epochs', 'one learning rate', 'lambda 0', 'lambda 1',
    'no cost warm-up'; 'all' for every one (docs/learning.md)."""
    seeds: Count = 5
    """Trainings per market and variant."""
    sweep: bool = False
    """Also train at costs across the threshold where trading must stop, and draw the turnover."""
    timesteps: Count | None = None
    """Environment steps per training; default: what each market needs."""
    out: Path = Path("learnability.json")
    """Where trainings and table are kept; those that it has already are not repeated. The picture goes beside it."""
    processes: Count | None = None
    """Trainings side by side, each on one thread; default: one per core."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Train on markets whose best policy is known, and say how much of it was found."""
    arguments = flags_of(LearnabilityArguments, "learnability", words)
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, trainings in {arguments.out}")
    from tactician.storage import json_text
    from tactician.studies.learnability_plan import MARKETS, VARIANTS, plan_study
    from tactician.studies.learnability_runs import default_processes, run_study
    from tactician.studies.report import finish, tell_run
    from tactician.training.lock import only_writer

    variants = tuple(VARIANTS) if "all" in arguments.variants else arguments.variants
    settings = {} if arguments.timesteps is None else {"timesteps": arguments.timesteps}
    jobs = plan_study(arguments.markets or tuple(MARKETS), variants, arguments.seeds, arguments.sweep, settings)
    runs = []
    with only_writer(arguments.out.with_name(f".{arguments.out.name}.lock"), arguments.out, "--out"):
        for result, left in run_study(jobs, arguments.out, arguments.processes or default_processes()):
            runs.append(result)
            tell_run(result, left, reporter)
        rows = finish(runs, arguments.out, reporter)
    if arguments.as_json:
        print(json_text(rows, indent=2))
    return 0
