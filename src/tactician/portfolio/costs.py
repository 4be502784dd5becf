"""Trading costs of the regimes in one session: from cash into each, and of every switch between two."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.portfolio.frictions import COMPONENTS, Frictions
from tactician.portfolio.ledger import rebalance
from tactician.portfolio.regimes import RegimeTable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH, _CELL = 80, 5
"""Width of one block of the switch table, and of a figure in it with the blank before it."""

_NAME_WIDTH = 30
"""Longer names of sets of groups are cut in the switch table. The number before them identifies them in the first table."""

_FOLDED_WIDTH = 14
"""Least width of names in the first table. On a narrow console they take further lines."""


@dataclass(frozen=True)
class CostReport:
    """Costs as fractions of the portfolio's value before the trade, at expected slippage."""

    session: str
    """The session whose scores determine the weights."""
    portfolio_value: float
    """In currency; matters only to impact on traded volume."""
    table: RegimeTable
    frictions: Frictions
    from_cash: Float[Tensor, "regime 4"]
    """Cost of entering a regime from cash, by component."""
    switch: Float[Tensor, "regime regime"]
    """Cost of moving from the exact weights of the row's regime to the column's. HOLD's row and column are 0."""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings, ready for JSON."""
        regimes = [
            {
                "index": index,
                "name": regime.name,
                "kind": regime.kind,
                "description": regime.description,
                "from_cash": {"total": sum(costs), **dict(zip(COMPONENTS, costs, strict=True))},
            }
            for index, (regime, costs) in enumerate(zip(self.table.regimes, self.from_cash.tolist(), strict=True))
        ]
        return {
            "session": self.session,
            "portfolio_value": self.portfolio_value,
            "unit": "fraction of the portfolio's value before the trade",
            "frictions": asdict(self.frictions),
            "regimes": regimes,
            "switch": self.switch.tolist(),
        }

    def render(self, console: "Console") -> None:
        """Print two tables: the cost of each regime from cash in percent, and of every switch in basis points."""
        from rich.table import Table
        from rich.text import Text

        from tactician.monitor.layout import print_text
        from tactician.monitor.tables import print_table

        print_text(console, f"Cost of each regime from cash, in % of the portfolio's value ({self.session}):")
        entry = Table()
        entry.add_column("", justify="right", no_wrap=True)
        entry.add_column("regime", overflow="fold", min_width=min(_FOLDED_WIDTH, max(map(len, self.table.names))))
        for heading in ("total", *COMPONENTS):
            entry.add_column(heading, justify="right", no_wrap=True)
        for index, (name, costs) in enumerate(zip(self.table.names, self.from_cash.tolist(), strict=True)):
            entry.add_row(str(index), Text(name), *(f"{100 * cost:z.4f}" for cost in (sum(costs), *costs)))
        print_table(console, entry)
        print_text(console, "Cost of a switch, in basis points, from the regime of the row to that of the column:")
        count = self.table.n_actions
        names = len("from \\ to"), *(min(len(name), _NAME_WIDTH) for name in self.table.names)
        fitting = (_WIDTH - max(names) - _CELL) // _CELL
        width = -(-count // -(-count // fitting))  # blocks of equal width
        for first in range(0, count, width):
            print_table(console, self._switch_block(range(first, min(first + width, count))))

    def _switch_block(self, columns: Sequence[int]) -> "Table":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        block = Table(box=SIMPLE_HEAD, padding=0)
        block.add_column("", justify="right", no_wrap=True)
        block.add_column("from \\ to", no_wrap=True, max_width=_NAME_WIDTH)
        for column in columns:
            block.add_column(str(column), justify="right", no_wrap=True)
        for index, (name, costs) in enumerate(zip(self.table.names, self.switch.tolist(), strict=True)):
            block.add_row(str(index), Text(name), *(_three_digits(1e4 * costs[column]) for column in columns))
        return block


def _three_digits(number: float) -> str:
    return f"{number:z.1f}" if number < 99.95 else f"{number:.0f}"


def cost_report(
    table: RegimeTable,
    scores: Float[Tensor, "asset factor"],
    tradable: Bool[Tensor, " asset"],
    frictions: Frictions,
    *,
    session: str,
    portfolio_value: float = 1_000_000.0,
    vol_daily: Float[Tensor, " asset"] | None = None,
    adv: Float[Tensor, " asset"] | None = None,
) -> CostReport:
    """Costs of all regimes in one session, computed by the ledger in double precision.

    Args:
        table: the regimes.
        scores: factor scores known at the session's decision, in the order of the table's factors.
        tradable: which assets can be held.
        frictions: coefficients of the trading costs; slippage is taken at its mean.
        session: name of the session, for the report.
        portfolio_value: V in currency.
        vol_daily: daily volatility, for ``impact_adv``.
        adv: average daily traded value in currency, for ``impact_adv``.

    Raises:
        ValueError: ``impact_adv`` is on and volatility or ADV is missing.
    """
    weights = table.weights(scores.double().unsqueeze(0), tradable.unsqueeze(0))[0]
    vol_daily = None if vol_daily is None else vol_daily.double()
    adv = None if adv is None else adv.double()
    cash = torch.zeros_like(weights)
    cash[:, -1] = portfolio_value
    hold = table.is_hold
    entry = rebalance(cash, weights, frictions, hold=hold, vol_daily=vol_daily, adv=adv)
    # All pairs at once: row i holds regime i's weights, column j wants regime j's.
    count = table.n_actions
    held = (weights * portfolio_value).unsqueeze(1).expand(count, count, -1)
    still = hold.unsqueeze(1) | hold.unsqueeze(0)
    wanted = weights.expand(count, count, -1)
    moves = rebalance(held, wanted, frictions, hold=still, vol_daily=vol_daily, adv=adv)
    switch = moves.costs.sum(-1) / portfolio_value
    # Staying costs nothing. The ledger's figure on the diagonal is only the solver's rounding error.
    switch = switch.masked_fill(torch.eye(count, dtype=torch.bool), 0.0)
    return CostReport(session, portfolio_value, table, frictions, entry.costs / portfolio_value, switch)
