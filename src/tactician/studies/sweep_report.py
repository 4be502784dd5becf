"""What a person sees of a sweep: the plan, one line per trial, the table, and what it does not prove."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tactician.evaluation.inference import Interval
from tactician.monitor.progress import Reporter
from tactician.monitor.tables import print_table
from tactician.monitor.wording import count, tell, time_left
from tactician.studies.sweep import Sweep
from tactician.studies.sweep_keys import told
from tactician.studies.sweep_result import LEVEL, Found, Row

NUMBERS = "sweep.json"
_SHOWN = 15


def tell_plan(sweep: Sweep, reporter: Reporter) -> None:
    """Print what is searched, and the held-out pieces."""
    reporter.say("  Searched:")
    for key in sweep.keys:
        reporter.say(f"    {key} (default: {told(sweep.default[key.name])})")
    reporter.say(f"  Held out in turn, all inside the training range of {len(sweep.train):,} sessions:")
    for fold in sweep.folds:
        reporter.say(f"    {fold.number}: {' – '.join(sweep.market.dates_of(fold.held_out))}")
    n = sweep.n_trials * len(sweep.places)
    reporter.say(
        f"  {count(sweep.n_trials, 'trial')} × {count(sweep.n_folds, 'fold')} × {count(len(sweep.seeds), 'seed')}: "
        f"{count(n, 'training')} at most. Trial 0 is the configuration as it is."
    )


def tell_trial(row: Row, sweep: Sweep, left: int, seconds: float, reporter: Reporter) -> None:
    """Say how one trial ended, and how long the rest takes."""
    rest = f"{count(left, 'trial')} to go" + (f", {time_left(seconds)}" if left else "")
    out = f"no result: {row.fault}" if row.fault else f"{_figure(row)} % per year beside equal weight"
    reporter.say(f"  Trial {row.number}: {out}; {_settings(row)} ({rest})")


def tell_result(
    sweep: Sweep, found: Found, command: str, in_file: Mapping[str, Any], folder: Path, reporter: Reporter
) -> None:
    """Print the table, what the best trial is worth, and how to train it."""
    print_table(reporter.console, _table(found))
    for row in found.rows:
        if row.fault:
            reporter.say(f"  Trial {row.number} has no result: {row.fault} ({_settings(row)})")
    best = found.best
    if best is None:
        reporter.say("  No trial has a result.", "bold")
        return
    for line in verdict(found):
        reporter.say(f"  {line}", "bold" if line.startswith("Best") else "")
    reporter.say(
        f"  The best of {count(len(found.rows), 'trial')} looks better than it is, because it was picked by these figures. "
        "Its pieces lie inside the training range, and what is trained on lies before and after them: they do not tell "
        "whether the setting works in later years. Only the validation and test ranges, which were not read, can."
    )
    if best.number:
        reporter.say("  To train the best trial:")
        reporter.say(f"    {command}", whole=[command])
        if in_file:
            reporter.say("  with these keys in the YAML file, since they have no flag:")
            for name, value in in_file.items():
                reporter.say(f"    {name}: {'null' if value is None else value}")
    reporter.say(f"  Trials:  {folder / NUMBERS}", whole=[folder])


def verdict(found: Found) -> list[str]:
    """Which trial is best, and whether it can be told from the default."""
    best, default = found.best, found.default
    assert best is not None
    lines = [f"Best: trial {best.number}, {_figure(best)} % per year beside equal weight ({_settings(best)})."]
    if best.number == 0:
        lines[0] = f"Best: trial 0, the configuration as it is, {_figure(best)} % per year beside equal weight."
    elif default is None or not math.isfinite(default.figure):
        lines.append("The default has no result to compare it with.")
    elif not best.told_apart:
        lines.append(
            f"It is not distinguishable from the default: {_interval(best.beside_default)} % per year beside it."
        )
    else:
        lines.append(
            f"Beside the default it is {_interval(best.beside_default)} % per year, if it were the only trial."
        )
    if best.number and math.isfinite(found.p_value):
        beats = (
            "Some trial beats the default also"
            if found.p_value < LEVEL
            else "No trial can be shown to beat the default"
        )
        lines.append(f"{beats} when all trials are counted (p = {found.p_value:.2f}).")
    if len(found.within) > 1:
        first = found.within[0]
        name = "the default; keeping it is the easiest to defend" if first == 0 else f"trial {first}"
        lines.append(
            f"Within one standard error of the best: {_numbers(found.within)}. The earliest of them is {name}."
        )
    return lines


def _table(found: Found) -> Table:
    table = Table(
        title="Annual log growth on held-out pieces of the training range",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,  # fits 80 columns
    )
    for heading in ("Trial", "Beside equal\nweight, %", "Beside the default, %\n(95 % interval)", "Turnover"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Keys", min_width=14, overflow="fold")
    shown = [row for row in found.rows if not row.fault]
    for k, row in enumerate(shown):
        if k < _SHOWN or row.number == 0:
            table.add_row(
                str(row.number),
                _figure(row),
                "default" if row.number == 0 else _interval(row.beside_default),
                tell(row.turnover, ",.1f", " ×"),
                _settings(row),
            )
    if len(shown) > _SHOWN:
        table.caption = f"The best {_SHOWN} of {len(shown)} and the default; {NUMBERS} has all."
    return table


def _figure(row: Row) -> str:
    return f"{tell(100 * row.figure, '+.2f')} ± {tell(100 * row.error, '.2f')}"


def _interval(gap: Interval) -> str:
    low, high = tell(100 * gap.low, "+.1f"), tell(100 * gap.high, "+.1f")
    return f"{tell(100 * gap.value, '+.1f')} ({low} to {high})"


def _settings(row: Row) -> str:
    return ", ".join(f"{name} {told(value)}" for name, value in row.settings.items())


def _numbers(numbers: Sequence[int], most: int = 10) -> str:
    said = ", ".join(map(str, numbers[:most]))
    return f"trials {said}" + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
