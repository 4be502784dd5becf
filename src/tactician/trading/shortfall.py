"""Implementation shortfall: what trading cost against a portfolio on paper that trades all of the plan at its prices.

It is the gain on paper less the real gain (Perold, 1988, "The implementation shortfall: paper versus reality"), in parts
(Kissell, 2006, "The expanded implementation shortfall"). With s = +1 for a buy and −1 for a sell, per order and in currency:

===========  ======================================  ===================================================================
execution    s · filled · (price − reference)        spread, slippage, impact, and the market's move until the fill
fees         as charged                              beside the price
opportunity  s · (planned − filled) · (later − ref)  what the part that was not filled missed; later: the price at the
                                                     first reconciliation of a later session
===========  ======================================  ===================================================================

Above zero is a cost. What is not known yet is None, never 0: the order has not ended, or a price is missing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tactician.portfolio.frictions import COMPONENTS
from tactician.trading.journal import Entry, Journal

EMERGENCY = "flatten"
"""Kind of the event with the orders of an emergency sale."""
PARTS = ("execution", "fees", "opportunity")
EXPECTED = {"execution": ("spread", "slippage", "impact"), "fees": ("commission",), "opportunity": ()}
"""Components of the plan's costs that a part is set beside. A plan expects to be filled: it knows no opportunity cost."""


@dataclass(frozen=True)
class Parts:
    """A shortfall by part, in currency."""

    planned: float
    """Traded value of the plan, Σ planned · reference."""
    execution: float | None
    fees: float | None
    opportunity: float | None

    @property
    def total(self) -> float | None:
        """All parts; None if one is not known."""
        return added([self.execution, self.fees, self.opportunity])

    def basis_points(self, currency: float | None) -> float | None:
        """An amount per planned traded value, in 1e-4; None if nothing was planned."""
        return None if currency is None or self.planned == 0 else 1e4 * currency / self.planned


@dataclass(frozen=True)
class SessionShortfall:
    """The shortfall of one session beside the costs that its plan expected."""

    session: str
    parts: Parts
    expected: Mapping[str, float | None]
    """By component of the ledger's costs, in currency."""
    orders: int


@dataclass(frozen=True)
class AccountShortfall:
    """The shortfall of all sessions in which every part is known, and the expected costs of the same sessions.

    All is None if there is no such session.
    """

    parts: Parts
    expected: Mapping[str, float | None]
    sessions: int
    """With orders."""
    left_out: int
    """With orders, where a part is not known (yet)."""


def order_parts(entry: Entry, later: float | None) -> Parts:
    """The shortfall of an order.

    Args:
        entry: as the journal knows it. It has ended if it is final, or filled as a whole.
        later: price at the first reconciliation of a later session; None or NaN if it is not known.
    """
    sign, missed = 1 if entry.side == "buy" else -1, float(entry.planned - entry.filled)
    planned = float(entry.planned) * entry.reference
    if not (entry.final or missed == 0):
        return Parts(planned, None, None, None)
    return Parts(
        planned=planned,
        execution=_moved(sign * float(entry.filled), entry.reference, entry.price),
        fees=entry.fees if math.isfinite(entry.fees) else None,
        opportunity=_moved(sign * missed, entry.reference, later),
    )


def session_shortfall(
    session: str,
    orders: Iterable[Entry],
    costs: Mapping[str, float | None] | None = None,
    later: Mapping[str, float | None] | None = None,
) -> SessionShortfall:
    """The shortfall of a session. A part is None if it is not known for every order.

    Args:
        session: its date.
        orders: of the session.
        costs: that its plan expected, by component, in currency (``run.plan["costs"]``).
        later: prices by symbol, see `order_parts`.
    """
    each = [order_parts(entry, (later or {}).get(entry.symbol)) for entry in orders]
    expected = {name: _known((costs or {}).get(name)) for name in COMPONENTS}
    return SessionShortfall(session, _total(each), expected, len(each))


def account_shortfall(sessions: Sequence[SessionShortfall]) -> AccountShortfall:
    """Add up sessions. One that is not known as a whole is left out of all sums, so that they stay comparable."""
    traded = [s for s in sessions if s.orders]
    whole = [s for s in traded if s.parts.total is not None]
    parts = _total([s.parts for s in whole]) if whole else Parts(0.0, None, None, None)
    expected = {name: added([s.expected[name] for s in whole]) if whole else None for name in COMPONENTS}
    return AccountShortfall(parts, expected, len(traded), len(traded) - len(whole))


def shortfalls(journal: Journal) -> list[SessionShortfall]:
    """The shortfall of every session that was decided, in order. Emergency sales had no plan, so they are not in it."""
    orders: dict[str, list[Entry]] = {}
    unplanned = emergency_orders(journal)
    for entry in journal.orders():
        if entry.id in unplanned:
            continue
        orders.setdefault(entry.session, []).append(entry)
    runs = sorted(journal.runs(), key=lambda run: run.session)
    later = later_prices(journal, [run.session for run in runs])
    return [
        session_shortfall(run.session, orders.get(run.session, ()), run.plan.get("costs"), later[run.session])
        for run in runs
    ]


def emergency_orders(journal: Journal) -> set[str]:
    """Ids of the orders of emergency sales."""
    return {order["id"] for event in journal.events(EMERGENCY) for order in event.body.get("orders", ())}


def later_prices(journal: Journal, sessions: Sequence[str]) -> dict[str, Mapping[str, float | None]]:
    """By session, the prices at the first reconciliation of a later one; empty if there is none yet.

    They are empty too if the later session began with a person's word ('adopted'): after a split, a price says nothing of the
    shares that were planned before it.
    """
    first: dict[str, Mapping[str, float | None]] = {}
    for event in journal.events("adopted", "checked"):
        first.setdefault(event.body["session"], event.body["prices"] if event.kind == "checked" else {})
    coming, waiting = sorted(first, reverse=True), sorted(sessions)
    found: dict[str, Mapping[str, float | None]] = {}
    for session in waiting:
        while coming and coming[-1] <= session:
            coming.pop()
        found[session] = first[coming[-1]] if coming else {}
    return found


def expected_by_part(expected: Mapping[str, float | None]) -> dict[str, float | None]:
    """Expected costs beside the parts, in currency. Nothing is expected of opportunity, so it is 0."""
    return {part: added([expected[name] for name in names]) for part, names in EXPECTED.items()}


def running_sums(traded: Sequence[SessionShortfall]) -> dict[str, list[Any]]:
    """Sums over the sessions so far. One that is not known as a whole, or whose plan had no costs, is in none of them."""
    rows: list[list[Any]] = []
    sums = [0.0] * (len(PARTS) + 2)
    for one in traded:
        amounts = [getattr(one.parts, name) for name in PARTS]
        amounts += [one.parts.total, added(expected_by_part(one.expected).values())]
        if None in amounts:
            continue
        sums = [x + y for x, y in zip(sums, amounts, strict=True)]
        rows.append([one.session, *sums])
    names = ("sessions", *PARTS, "total", "expected")
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def added(values: Iterable[float | None]) -> float | None:
    """The sum; None if a value is not known."""
    known = list(values)
    return None if None in known else math.fsum(x for x in known if x is not None)


def _total(parts: Sequence[Parts]) -> Parts:
    sums = {name: added([getattr(one, name) for one in parts]) for name in PARTS}
    return Parts(math.fsum(one.planned for one in parts), **sums)


def _moved(shares: float, before: float, after: float | None) -> float | None:
    """What a move of the price cost. Without shares it is 0, whatever the price."""
    price = _known(after)
    if shares == 0:
        return 0.0
    return None if price is None else shares * (price - before)


def _known(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
