"""What a person sees of the learnability study: a line per training, a table, a picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tactician.monitor.progress import Reporter
from tactician.monitor.tables import print_table
from tactician.monitor.wording import count
from tactician.storage import plain
from tactician.studies.learnability_table import Row, plot_turnover, summarise_runs


def tell_run(run: Mapping[str, Any], left: int, reporter: Reporter) -> None:
    """One finished training."""
    last = run["points"][-1]
    reporter.say(
        f"  {run['market']}, {run['variant']}, seed {run['seed']}: {_share(last['share'])} of the optimum, turnover "
        f"{100 * last['turnover']:.2f} % per session, {count(last['timesteps'], 'step')} in {last['seconds']:.0f} s "
        f"({left} to go)"
    )


def finish(runs: Sequence[Mapping[str, Any]], path: Path, reporter: Reporter) -> list[dict[str, Any]]:
    """Print the table, draw the picture beside the file; the rows as plain values."""
    rows = summarise_runs(runs)
    print_table(reporter.console, _table(rows))
    picture = path.with_suffix(".png")
    if plot_turnover(rows, picture):
        reporter.say(f"  Picture: {picture}", whole=[picture])
    reporter.say(f"  Trainings and table: {path}", whole=[path])
    return [plain(asdict(row)) for row in rows]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        title="Share of the optimum's gain over the best constant regime (median of seeds)",
        box=SIMPLE_HEAD,
        padding=0,  # fits 80 columns
    )
    for heading, width in (("Market", 11), ("Variant", 8)):
        table.add_column(heading, min_width=width, overflow="fold")  # whole words, however narrow the screen
    for heading in (
        "Share\n%",
        "Range\n%",
        "Turn-\nover\n%",
        "Opti-\nmum's\n%",
        "Steps to\n90 %",
        "Steps to\n95 %",
        "s to\n95 %",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.market,
            row.variant,
            _share(row.share, ""),
            "–" if math.isnan(row.share_low) else f"{100 * row.share_low:.0f}–{100 * row.share_high:.0f}",
            f"{100 * row.turnover:.2f}",
            f"{100 * row.turnover_of_optimum:.2f}",
            *(_steps(row.steps_to[level]) for level in ("0.90", "0.95")),
            "–" if row.seconds_to["0.95"] is None else f"{row.seconds_to['0.95']:.0f}",
        )
    return table


def _share(share: float | None, unit: str = " %") -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}{unit}"


def _steps(steps: float | None) -> str:
    return "–" if steps is None else f"{steps:,.0f}"
