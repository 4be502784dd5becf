"""Strategies side by side, for the eye."""

import math
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tactician.evaluation.statistics import Performance
from tactician.monitor.progress import tell

_LABELS = {"agent": "Agent", "equal_weight": "Equal weight", "cash": "Cash", "buy_and_hold": "Buy and hold"}

_CASH_LIKE = 0.0005
"""Annual volatility below which a path is as good as cash: its Sharpe ratio is noise over noise, and is not shown."""


def performance_table(performances: Mapping[str, Performance], title: str) -> Table:
    """One row per strategy."""
    sessions = next(iter(performances.values())).sessions
    table = Table(
        title=f"{title}\n{sessions} sessions, per year, net of costs",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # fits 80 columns
    )
    table.add_column("", no_wrap=True)
    for heading in ("Return", "Volatility", "Sharpe ± s.e.", "Drawdown", "Turnover", "Costs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, p in performances.items():
        table.add_row(
            _LABELS[name],
            tell(100 * p.annual_return, "+.1f", " %"),
            tell(100 * p.annual_volatility, ".1f", " %"),
            _sharpe(p),
            tell(100 * p.max_drawdown, ".1f", " %"),
            tell(p.annual_turnover, ".1f", " ×"),
            tell(100 * p.annual_cost, ".2f", " %"),
        )
    return table


def _sharpe(p: Performance) -> str:
    if math.isnan(p.sharpe) or p.annual_volatility < _CASH_LIKE:
        return tell(math.nan, ".2f")
    return f"{tell(p.sharpe, '.2f')} ± {tell(p.sharpe_standard_error, '.2f')}"
