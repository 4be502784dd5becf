"""The printed table of strategies."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tactician.evaluation.baselines import label_of
from tactician.evaluation.statistics import STATISTICS, Performance
from tactician.monitor.wording import count


def performance_table(performances: Mapping[str, Performance], title: str) -> Table:
    """One row per strategy, and one column per statistic with a `Column`."""
    sessions = next(iter(performances.values())).sessions
    table = Table(
        title=f"{title}\n{count(sessions, 'session')}, per year, net of costs",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # fits 80 columns
    )
    table.add_column("", no_wrap=True)
    columns = {name: statistic.column for name, statistic in STATISTICS.items() if statistic.column is not None}
    for column in columns.values():
        table.add_column(column.label, justify="right", no_wrap=True)
    for strategy, figures in performances.items():
        table.add_row(label_of(strategy), *(column.cell(name, figures) for name, column in columns.items()))
    return table
