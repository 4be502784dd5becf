"""What a person sees of a walk-forward: the plan of its folds, one line per training, and the result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tactician.evaluation import Evaluation, performance_table
from tactician.monitor.progress import Reporter
from tactician.monitor.tables import print_table
from tactician.monitor.wording import count, tell, time_left
from tactician.report.files import NUMBERS, PAGE, RETURNS
from tactician.studies.fold_job import FoldJob
from tactician.studies.walk_forward import Study


def tell_plan(study: Study, reporter: Reporter) -> None:
    """Print the folds: first and last session of each range."""
    table = Table(
        title=f"{count(len(study.folds), 'fold')} × {count(len(study.seeds), 'seed')}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("Fold", justify="right", no_wrap=True)
    for name in ("Training", "Validation", "Test"):
        table.add_column(name, no_wrap=True)
    for fold in study.folds:
        table.add_row(str(fold.number), *(" – ".join(study.market.dates_of(rows)) for rows in fold.splits.values()))
    print_table(reporter.console, table)


def tell_training(job: FoldJob, result: Mapping[str, Any], left: int, seconds: float, reporter: Reporter) -> None:
    """Say how one training ended, and how long the rest takes."""
    beyond = result["metrics"]["validation_beyond_equal_weight"]
    rest = f"{count(left, 'training')} to go" + (f", {time_left(seconds)}" if left else "")
    reporter.say(
        f"  Fold {job.fold.number}, seed {job.seed}: best after iteration {result['best_iteration']} of "
        f"{result['iterations']}, {tell(100 * beyond, '+.1f')} % per year beside equal weight on its validation range, "
        f"{result['seconds']:.0f} s ({rest})"
    )


def tell_result(result: Evaluation, document: Mapping[str, Any], folder: Path, reporter: Reporter) -> None:
    """Print the table, the verdict and the files."""
    print_table(reporter.console, performance_table(result.performances, document["title"]))
    reporter.say(f"  Verdict: the agent is {result.verdict}.", "bold")
    for note in result.notes:
        reporter.say(f"  {note}", "dim")
    if document["seeds"]:
        each = ", ".join(tell(100 * seed["beyond_equal_weight"], "+.1f") for seed in document["seeds"])
        reporter.say(f"  Its seeds alone: {each} % per year beside equal weight.")
    reporter.say(f"  Report:  {folder / PAGE} (the same numbers: {NUMBERS}; daily returns: {RETURNS})", whole=[folder])
