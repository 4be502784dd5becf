"""What a person sees of a walk-forward: the plan of its folds, one line per training, and the result."""

import math
from collections.abc import Mapping, Sequence
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
from tactician.training.memorising import sentence


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
    rest = f"{count(left, 'training')} to go" + (f", {time_left(seconds)}" if left else "")
    if job.member is None:
        beyond = result["metrics"]["validation_beyond_equal_weight"]
        found = (
            f"best after iteration {result['best_iteration']} of {result['iterations']}, {tell(100 * beyond, '+.1f')} % "
            "per year beside equal weight on its validation range"
        )
    else:
        piece = result["piece"]
        found = (
            f"{tell(100 * piece['beyond_equal_weight'], '+.1f')} % per year beside equal weight on {piece['first']} to "
            f"{piece['last']}, which it has not seen"
        )
    reporter.say(f"  Fold {job.fold.number}, seed {job.seed}: {found}, {result['seconds']:.0f} s ({rest})")


def tell_result(result: Evaluation, document: Mapping[str, Any], folder: Path, reporter: Reporter) -> None:
    """Print the tables, the verdict and the files."""
    print_table(reporter.console, performance_table(result.performances, document["title"]))
    if document["abstained"] is not None:
        print_table(reporter.console, _followed(document["folds"]))
    reporter.say(f"  Verdict: the agent is {result.verdict}.", "bold")
    reporter.say(f"  {sentence(document['memorising'])} (means over the folds).", "dim")
    for note in result.notes:
        reporter.say(f"  {note}", "dim")
    if document["seeds"]:
        each = ", ".join(tell(100 * seed["beyond_equal_weight"], "+.1f") for seed in document["seeds"])
        reporter.say(f"  Its seeds alone, followed all the way: {each} % per year beside equal weight.")
    reporter.say(f"  Report:  {folder / PAGE} (the same numbers: {NUMBERS}; daily returns: {RETURNS})", whole=[folder])


def _followed(folds: Sequence[Mapping[str, Any]]) -> Table:
    """How far each fold's ensemble is followed, and why."""
    table = Table(title="How far each fold is followed", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Fold", "Followed\n%", "Held-out days: log growth\nbeside equal weight, % per year", "Test\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fold in folds:
        found = fold["found"]
        table.add_row(
            str(fold["number"]),
            f"{100 * found['strength']:.0f}",
            _with_ends(*found["difference"]),
            _percent(fold["difference"]),
        )
    return table


def _with_ends(value: float | None, low: float | None, high: float | None) -> str:
    return (
        _percent(value) if low is None or high is None else f"{_percent(value)} ({_percent(low)} to {_percent(high)})"
    )


def _percent(x: float | None) -> str:
    return tell(math.nan if x is None else 100 * x, "+.1f")
