"""Output of the learnability study: one line per training, a table, a picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tactician.monitor.progress import Reporter
from tactician.monitor.tables import print_table
from tactician.monitor.wording import count, tell
from tactician.storage import plain
from tactician.studies.learnability_plan import FEW_ROWS
from tactician.studies.learnability_table import LEVELS, Pair, Row, compare, summarise_runs


def tell_run(run: Mapping[str, Any], left: int, reporter: Reporter) -> None:
    """Say how one training ended."""
    last = run["points"][-1]
    reporter.say(
        f"  {run['market']}, {run['variant']}, seed {run['seed']}: {_share(last['share'])} of the optimum, turnover "
        f"{100 * last['turnover']:.2f} % per session, {count(last['timesteps'], 'step')} in {last['seconds']:.0f} s "
        f"({left} to go)"
    )


def finish(runs: Sequence[Mapping[str, Any]], path: Path, reporter: Reporter) -> list[dict[str, Any]]:
    """Print the table, and draw the picture beside the file.

    Returns:
        The table's rows, as plain values.
    """
    from tactician.studies.learnability_picture import plot_turnover  # half a second to import

    rows = summarise_runs(runs)
    print_table(reporter.console, _table(rows))
    if pairs := compare(runs):
        print_table(reporter.console, _pairs(pairs))
    picture = path.with_suffix(".png")
    if plot_turnover(rows, picture):
        reporter.say(f"  Picture: {picture}", whole=[picture])
    reporter.say(f"  Trainings and table: {path}", whole=[path])
    return [plain(asdict(row)) for row in rows]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        title="Share of the optimum's gain over the best constant regime (median of seeds)",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,  # fits 80 columns
    )
    few = any(FEW_ROWS in row.market for row in rows)
    for heading, width in (("Market", 11), ("Variant", 8)):
        table.add_column(heading, min_width=width, overflow="fold")  # whole words, however narrow the screen
    for heading in (
        "Share\n%",
        "Range\n%",
        "Turn-\nover\n%",
        "Opti-\nmum's\n%",
        *(("Days of\ntraining\n%/year", "Fol-\nlowed\n%") if few else ("Gap\n%", "Steps to\n95 %", "s to\n95 %")),
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
            *(_on_few(row) if few else _on_many(row)),
        )
    return table


def _pairs(pairs: Sequence[Pair]) -> Table:
    table = Table(
        title="Each method beside the defaults, on the same seeds", box=SIMPLE_HEAD, padding=0, show_edge=False
    )
    for heading, width in (("Market", 11), ("Variant", 8), ("Figure", 8)):
        table.add_column(heading, min_width=width, overflow="fold")
    for heading in ("Seeds", "Difference\n% points", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        low, high = 100 * pair.low, 100 * pair.high
        row = (pair.market, pair.variant, pair.figure, str(pair.seeds), f"{100 * pair.difference:+.2f}")
        table.add_row(*row, f"{low:+.2f} to {high:+.2f}")
    return table


def _on_few(row: Row) -> tuple[str, ...]:
    return tell(100 * row.training, "+.1f"), f"{100 * row.strength:.0f}"


def _on_many(row: Row) -> tuple[str, ...]:
    return _share(row.gap, ""), _count(row.steps_to[LEVELS[-1]]), _count(row.seconds_to[LEVELS[-1]])


def _share(share: float | None, unit: str = " %") -> str:
    return tell(math.nan if share is None else 100 * share, ".1f", unit)


def _count(number: float | None) -> str:
    return tell(math.nan if number is None else number, ",.0f")
