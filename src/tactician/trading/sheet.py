"""The sheet of a signal: what to hold from the next close on, the orders for it, their cost, and why."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rich.table import Table

from tactician.bars.hours import TradingDay, local_times
from tactician.environment import FEATURE_NAMES, OLDER
from tactician.errors import UserError
from tactician.monitor.progress import Reporter
from tactician.monitor.tables import as_text, print_table
from tactician.storage import save_text
from tactician.trading.advice import Advice
from tactician.trading.plan import Plan, Sleeve

FAR = 0.1
"""A larger share of features outside their range in training is told loudly."""
FAR_PERCENT = 99
"""So is a day that lies farther from the training than this many percent of its days."""
_CASH = "CASH"


@dataclass(frozen=True)
class Sheet:
    """A decision with its plan."""

    day: TradingDay
    calendar: str
    advice: Advice
    plan: Plan
    left_alone: Mapping[str, Decimal]
    """Shares of symbols that the model does not know."""
    told: tuple[str, ...] = ()
    """What was found when the bars were read."""

    def __repr__(self) -> str:
        """The sheet as text."""
        return as_text(lambda console: self.render(Reporter(console=console)))

    @property
    def cost(self) -> float:
        """Expected, in currency."""
        return sum(self.plan.costs.values())

    @property
    def outside(self) -> str:
        """Which features of the market lie outside their range in training, in words."""
        if not self.advice.range_known:
            return f"Which features of the market lie outside their range in training is {OLDER}."
        n = len(self.advice.strange)
        if n == 0:
            return f"All {len(FEATURE_NAMES)} features of the market lie inside their range in training."
        shown = ", ".join(self.advice.strange[:6]) + (" …" if n > 6 else "")
        return f"{n} of {len(FEATURE_NAMES)} features of the market lie outside their range in training: {shown}."

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        advice, plan = self.advice, self.plan
        return {
            "session": str(advice.session),
            "closes": self.day.closes.isoformat(),
            "known_until": str(advice.known_until),
            "regime": advice.regime,
            "description": advice.description,
            "probability": advice.probabilities[advice.regime],
            "probabilities": advice.probabilities,
            "hold": advice.hold,
            **plan.as_dict(),
            "orders": [
                {
                    "symbol": o.symbol,
                    "side": o.side,
                    "shares": str(o.planned),
                    "price": o.reference,
                    "limit": _text(o.limit),
                }
                for o in plan.orders
            ],
            "cost": self.cost,
            "why": [{"observation": r.name, "value": r.value, "effect": r.effect} for r in advice.why],
            "universe": None if advice.names is None else advice.names.as_dict(),
            "found": None if advice.found is None else advice.found.as_dict(),
            "distance": None if advice.distance is None else advice.distance.as_dict(),
            "outside_training": list(advice.strange) if advice.range_known else None,
            "outside_training_share": advice.outside if advice.range_known else None,
            "left_alone": {symbol: str(shares) for symbol, shares in self.left_alone.items()},
            "model": advice.model,
            "data": advice.data,
            "told": list(self.told),
        }

    def write_orders(self, path: Path) -> None:
        """Write the orders as CSV: symbol, side, shares, price, value in currency, limit.

        Raises:
            UserError: the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["session", "symbol", "side", "shares", "price", "value", "limit"])
        for o in self.plan.orders:
            value = f"{float(o.planned) * o.reference:.2f}"
            writer.writerow(
                [o.session, o.symbol, o.side, plain(o.planned), f"{o.reference:g}", value, _text(o.limit) or ""]
            )
        save_text(text.getvalue(), path)

    def render(self, reporter: Reporter) -> None:
        """Print it."""
        advice = self.advice
        if advice.names is not None and advice.names.is_other:
            reporter.warn(advice.names.sentence)
            self._say_distance(reporter)
        for line in self.told:
            reporter.say(f"  {line}", "dim")
        reporter.say(
            f"  For the close of {local_times(self.calendar, self.day.closes)}; known until {advice.known_until}."
        )
        if advice.found is not None:
            reporter.say(f"  {advice.found.told}", "bold")
        chance = advice.probabilities[advice.regime]
        reporter.say(f"  Regime: {advice.regime} ({100 * chance:.0f} %). {advice.description}.", "bold")
        others = sorted(advice.probabilities.items(), key=lambda x: -x[1])
        shown = [f"{name} {100 * p:.0f} %" for name, p in others if name != advice.regime][:3]
        if self._follows:
            reporter.say(f"  Next:   {', '.join(shown)}")
        if advice.names is None or not advice.names.is_other:
            self._say_distance(reporter)
        print_table(reporter.console, self._holdings())
        self._say_orders(reporter)
        if advice.why and self._follows:
            print_table(reporter.console, self._why())
        reporter.say("  No promise: see what the judge says of this model (tactician evaluate).", "dim")

    @property
    def _follows(self) -> bool:
        """Whether the agent is followed at all, so that it matters what else it would do, and why."""
        return self.advice.found is None or self.advice.found.strength > 0

    def _say_distance(self, reporter: Reporter) -> None:
        advice, percent = self.advice, self.advice.distance.percent if self.advice.distance else None
        told = [self.outside] if advice.distance is None else [advice.distance.sentence, self.outside]
        if advice.outside > FAR or (percent is not None and percent >= FAR_PERCENT):
            reporter.warn(f"far from the training. {' '.join(told)} Little of what was learnt may hold.")
            return
        for line in told:
            reporter.say(f"  {line}", "dim")

    def _say_orders(self, reporter: Reporter) -> None:
        plan = self.plan
        if not plan.orders:
            reporter.say("  No orders.")
        else:
            parts = ", ".join(f"{name} {cost:,.2f}" for name, cost in plan.costs.items() if cost)
            share = self.cost / plan.value if plan.value else math.nan
            reporter.say(
                f"  Orders: {len(plan.orders)}, turnover {100 * plan.turnover:.1f} % of {plan.value:,.2f}; expected cost "
                f"{self.cost:,.2f} ({100 * share:.3f} %: {parts or 'nothing'})."
            )
        for symbol, why in plan.left_out.items():
            reporter.say(f"  {symbol} is left as it is: {why}.", "dim")
        if self.left_alone:
            reporter.say(f"  Left alone, unknown to the model: {', '.join(self.left_alone)}.", "yellow")

    def _holdings(self) -> Table:
        table = Table(title="Holdings and orders", title_justify="left")
        for name in ("symbol", "price", "held", "weight", "target", "order", "value"):
            table.add_column(name, justify="left" if name == "symbol" else "right", no_wrap=True)
        plan, orders = self.plan, {o.symbol: o for o in self.plan.orders}
        for symbol in self.advice.symbols:
            held, order = plan.sleeve.positions.get(symbol, Decimal(0)), orders.get(symbol)
            sign = "" if order is None else "+" if order.side == "buy" else "-"
            table.add_row(
                symbol,
                f"{plan.prices[symbol]:,.2f}",
                short(held),
                _percent(float(held) * plan.prices[symbol], plan.value),
                _percent(plan.weights.get(symbol), 1.0),
                "" if order is None else f"{sign}{short(order.planned)}",
                "" if order is None else f"{sign}{float(order.planned) * order.reference:,.2f}",
            )
        cash, goal = plan.sleeve.cash, plan.weights.get(_CASH)
        table.add_row(_CASH, "", f"{cash:,.2f}", _percent(cash, plan.value), _percent(goal, 1.0), "", "")
        return table

    def _why(self) -> Table:
        table = Table(title="What moved the decision (log-probability lost without it)", title_justify="left")
        table.add_column("observation", no_wrap=True)
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("effect", justify="right", no_wrap=True)
        for reason in self.advice.why:
            table.add_row(reason.name, f"{reason.value:+.2f}", f"{reason.effect:+.3f}")
        return table


def read_holdings(path: Path, symbols: Iterable[str]) -> tuple[Sleeve, dict[str, Decimal]]:
    """What is held, from a CSV with the columns symbol and shares; the row CASH has the money.

    Returns:
        What the model knows, and the rest.

    Raises:
        UserError: names the line that cannot be read.
    """
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(
            f"Cannot read the holdings {path}: {reason}; give a CSV with columns symbol and shares."
        ) from error
    known, positions, rest, cash = set(symbols), dict[str, Decimal](), dict[str, Decimal](), None
    for number, line in enumerate(lines, 2):
        row = {str(name).strip().lower(): str(value or "").strip() for name, value in line.items()}
        if not {"symbol", "shares"} <= row.keys():
            raise UserError(f"{path} has no columns symbol and shares; write them into its first line.")
        symbol, shares = row["symbol"], _shares(row["shares"], path, number)
        if symbol in positions or symbol in rest or (symbol == _CASH and cash is not None):
            raise UserError(f"{path}, line {number}: {symbol} is there a second time; leave one of them.")
        if symbol == _CASH:
            cash = float(shares)
        elif shares < 0:
            raise UserError(f"{path}, line {number}: {symbol} is short, and the model only holds; leave it out.")
        elif shares:
            (positions if symbol in known else rest)[symbol] = shares
    if cash is None:
        raise UserError(f"{path} has no row CASH with the money; add CASH,0 if there is none.")
    return Sleeve(positions, cash), rest


def _shares(text: str, path: Path, line: int) -> Decimal:
    try:
        shares = Decimal(text)
    except InvalidOperation:
        shares = Decimal("nan")
    if not shares.is_finite():
        raise UserError(f"{path}, line {line}: '{text}' is no number; write 12.5, without signs for thousands.")
    return shares


def plain(shares: Decimal) -> str:
    """Without an exponent, and without zeros at the end."""
    text = f"{shares:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(shares: Decimal) -> str:
    """Four decimals at most, for a table."""
    return plain(round(shares, 4)) if shares else "0"


def _text(x: Decimal | None) -> str | None:
    return None if x is None else plain(x)


def _percent(part: float | None, whole: float) -> str:
    return "" if part is None else f"{100 * part / whole:.1f} %" if whole else "–"
