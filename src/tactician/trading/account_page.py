"""The page of an account: what it holds, what it decided, what it sent, and what that cost, out of its journal alone.

Like the judge's page it is one document, the same as JSON and as HTML. Figures are plain numbers in the unit of their name, or
None: not available. Sessions are dates, and moments are ISO 8601 with their zone.
"""

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import stdev
from typing import Any

import torch

from tactician.report.page import sheet
from tactician.report.palette import colours
from tactician.storage import json_text, plain, save_text
from tactician.trading.account import AccountFile
from tactician.trading.journal import Entry, Event, Journal, Run
from tactician.trading.shortfall import (
    EMERGENCY,
    EXPECTED,
    PARTS,
    Parts,
    SessionShortfall,
    account_shortfall,
    added,
    emergency_orders,
    expected_by_part,
    later_prices,
    order_parts,
    running_sums,
    shortfalls,
)
from tactician.version import __version__

_BOOK = ("adopted", "checked", "reconciled")
_INCIDENTS = ("refused", "halted", "resumed", EMERGENCY)
_MOST_ORDERS, _MOST_ROWS, _MOST_REGIMES = 300, 250, 8
"""Rows of a table, so that the page stays small after years. The journal's export has all."""
_FEWEST_RETURNS = 20
"""With fewer returns nothing is said of their spread."""
_SESSIONS_PER_YEAR = 252
_DRAWN = ("before", "after", "multiple", "shadow", "difference_bp", "adopted_again")
_CASH = "CASH"
_NEVER_SENT = ("planned", "lapsed")


@dataclass(frozen=True)
class ShadowPath:
    """The same decisions through the ledger of the backtest."""

    dates: list[str]
    """Sessions, YYYY-MM-DD."""
    wealth: list[float]
    """Before each session's trades, as a multiple of the first one."""

    def __post_init__(self) -> None:
        if len(self.dates) != len(self.wealth):
            raise ValueError(f"{len(self.dates)} dates and {len(self.wealth)} values are not one path")


def account_document(
    journal: Journal,
    shadow: ShadowPath | None,
    account: AccountFile,
    *,
    created: datetime,
    halted: str | None = None,
) -> dict[str, Any]:
    """Everything that the journal tells of an account, as plain values.

    Args:
        journal: of the account. Its chain is verified.
        shadow: the backtest of the same decisions, if the caller could compute it.
        account: number, broker, and whether its money is real.
        created: now, aware.
        halted: why trading is halted (`Desk.halted`, which knows the file HALT). Without it the journal is asked.

    Raises:
        Halted: the journal was changed by another hand.
    """
    n_events, last_hash = journal.verify()
    book, runs = list(journal.events(*_BOOK)), sorted(journal.runs(), key=lambda run: run.session)
    orders, costs = journal.orders(), shortfalls(journal)
    wealth = _wealth(book, shadow)
    content = {
        "format": "tactician account",
        "version": 1,
        "title": f"Account {account.account} at {account.broker}",
        "account": _account(account, runs, wealth["sessions"], orders),
        "halt": _halt(journal, halted),
        "caution": _caution(wealth),
        "wealth": wealth,
        "positions": _positions(book[-1], runs) if book else None,
        "decision": _decision(runs[-1]) if runs else None,
        "orders": _orders(journal, orders),
        "incidents": _incidents(journal),
        "shortfall": {**_shortfall(costs), "without_plan": len(emergency_orders(journal))},
        "provenance": {
            "created": created.isoformat(),
            "events": n_events,
            "last_hash": last_hash,
            "checkpoint": str(account.checkpoint),
            **_origin(runs),
        },
    }
    whole: dict[str, Any] = plain(content)
    return whole


def account_json(document: Mapping[str, Any]) -> str:
    """The document as strict JSON: a figure that is not available is null."""
    return json_text(document) + "\n"


def account_page(document: Mapping[str, Any]) -> str:
    """The page of a document: one HTML file below 3 MB that asks nothing of any network, and is readable without scripts."""
    return sheet("account.html", document, _charts(document), ("account",), ("account",))


def write_account_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a document atomically.

    Raises:
        UserError: the file cannot be written; an old one, if any, is untouched.
    """
    save_text(account_page(document), path)


def _account(
    account: AccountFile, runs: Sequence[Run], sessions: Sequence[str], orders: Sequence[Entry]
) -> dict[str, Any]:
    return {
        "number": account.account,
        "broker": account.broker,
        "real_money": account.live,
        "model": runs[-1].model if runs else None,
        "first": sessions[0] if sessions else None,
        "last": sessions[-1] if sessions else None,
        "sessions": len(sessions),
        "decided": len(runs),
        "status": runs[-1].status if runs else None,
        "orders": len(orders),
        "filled_orders": sum(order.filled > 0 for order in orders),
    }


def _halt(journal: Journal, halted: str | None) -> dict[str, Any] | None:
    """Why and since when trading is halted."""
    last = journal.last("halted", "resumed")
    noted = last if last is not None and last.kind == "halted" else None
    if noted is not None:
        return {"reason": halted or noted.body["reason"], "at": noted.at}
    return None if halted is None else {"reason": halted, "at": None}


def _wealth(book: Sequence[Event], shadow: ShadowPath | None) -> dict[str, Any]:
    """Values before and after each session's trades, and the account beside its shadow."""
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    adopted: list[str] = []
    broken: list[str] = []
    # A dry run may look before the book begins; the account has lived nothing then.
    begun = next((k for k, event in enumerate(book) if event.kind == "adopted"), len(book))
    anew = False
    for event in book[begun:]:
        session, value = event.body["session"], _number(event.body["value"])
        if event.kind == "adopted":
            anew, adopted = bool(adopted), [*adopted, session]
        if event.kind == "reconciled":
            after[session] = value
        elif session not in before:
            before[session] = value
            broken += [session] if anew else []
            anew = False
    sessions = sorted(before)
    values = [before[session] for session in sessions]
    base = next(filter(_positive, values), math.nan)
    multiple = [value / base for value in values]
    told, gap = _beside(sessions, multiple, shadow)
    return {
        "sessions": sessions,
        "before": values,
        "after": [after.get(session) for session in sessions],
        "multiple": multiple,
        "shadow": told,
        "difference_bp": gap,
        "last_difference_bp": next((x for x in reversed(gap or ()) if math.isfinite(x)), None),
        # Money that comes or goes at such a moment is no gain, and the values do not know it.
        "adopted_again": sorted(set(adopted[1:])),
        "broken": broken,
        "value": book[-1].body["value"] if book else None,
        "at": book[-1].at if book else None,
    }


def _beside(
    sessions: Sequence[str], multiple: Sequence[float], shadow: ShadowPath | None
) -> tuple[list[float] | None, list[float] | None]:
    """The shadow as a multiple of the account's first value, and the account over it, less one, in basis points.

    Both are the same at the first session that both have. None for both where there is no such session.
    """
    path = dict(zip(shadow.dates, shadow.wealth, strict=True)) if shadow else {}
    others = [path.get(session, math.nan) for session in sessions]
    first = next((k for k, pair in enumerate(zip(multiple, others, strict=True)) if all(map(_positive, pair))), None)
    if first is None:
        return None, None
    told = [other * multiple[first] / others[first] for other in others]
    pairs = zip(multiple, told, strict=True)
    return told, [1e4 * (own / other - 1) if _positive(other) else math.nan for own, other in pairs]


def _caution(wealth: Mapping[str, Any]) -> dict[str, Any]:
    """How much luck alone moves the annual return: 1.96 · s · 252 / √n, of n returns with the standard deviation s.

    It is the 95 % interval of a mean (Student, 1908, for large n), per year. Returns over a session in which the holdings were
    taken over anew are left out.
    """
    broken = set(wealth["broken"])
    pairs = zip(pairwise(wealth["before"]), wealth["sessions"][1:], strict=True) if wealth["sessions"] else ()
    returns = [b / a - 1 for (a, b), session in pairs if session not in broken and _positive(a) and math.isfinite(b)]
    enough = len(returns) >= _FEWEST_RETURNS
    spread = 1.96 * stdev(returns) * _SESSIONS_PER_YEAR / math.sqrt(len(returns)) if enough else None
    return {"returns": len(returns), "half_width": spread}


def _positions(book: Event, runs: Sequence[Run]) -> dict[str, Any]:
    """What the last reconciliation found, beside the targets of the last plan that had some. A plan that holds has none."""
    body, value = book.body, _number(book.body["value"])
    whole = value if _positive(value) else math.nan  # nothing is a part of an empty account
    aimed = next((run for run in reversed(runs) if run.plan["weights"]), None)
    targets = dict(aimed.plan["weights"]) if aimed else {}
    cash_target = targets.pop(_CASH, None)
    shares = {symbol: float(number) for symbol, number in body["positions"].items()}
    rows = []
    for symbol in sorted({*shares, *(s for s, weight in targets.items() if weight)}):
        held, price = shares.get(symbol, 0.0), _number(body["prices"].get(symbol))
        worth = held * price if held else 0.0
        row = {"symbol": symbol, "shares": held, "price": price, "value": worth, "weight": worth / whole}
        rows.append({**row, "target": targets.get(symbol, 0.0) if aimed else None})
    rows.sort(key=lambda row: -row["value"] if math.isfinite(row["value"]) else -math.inf)  # the unknown first
    return {
        "at": book.at,
        "session": body["session"],
        "target_session": aimed.session if aimed else None,
        "holds": bool(runs) and runs[-1] is not aimed,
        "rows": rows[:_MOST_ROWS],
        "left_out": len(rows[_MOST_ROWS:]),
        "value": value,
        "cash": {"value": body["cash"], "weight": _number(body["cash"]) / whole, "target": cash_target},
        "account_cash": body["account_cash"],
        "foreign": [{"symbol": s, "shares": float(number)} for s, number in sorted(body["foreign_positions"].items())],
        "foreign_orders": list(body["foreign_orders"]),
    }


def _decision(run: Run) -> dict[str, Any]:
    """The last decision, and why."""
    decision, plan = run.plan["decision"], run.plan
    chances = sorted(decision["probabilities"].items(), key=lambda item: -item[1])
    return {
        "session": run.session,
        "regime": decision["name"],
        "probability": decision["probabilities"].get(decision["name"]),
        "probabilities": [{"name": name, "probability": chance} for name, chance in chances[:_MOST_REGIMES]],
        "other_regimes": len(chances[_MOST_REGIMES:]),
        "known_until": decision["known_until"],
        "why": [{"name": name, "value": value, "effect": effect} for name, value, effect in decision["why"]],
        "strange": list(decision["strange"]),
        "turnover": plan["turnover"],
        "left_out": [{"symbol": symbol, "why": why} for symbol, why in plan["left_out"].items()],
    }


def _orders(journal: Journal, orders: Sequence[Entry]) -> dict[str, Any]:
    """The newest orders, each with its own shortfall."""
    newest = sorted(enumerate(orders), key=lambda item: (item[1].session, item[0]), reverse=True)[:_MOST_ORDERS]
    later = later_prices(journal, sorted({order.session for _, order in newest}))
    rows = []
    for _, order in newest:
        parts = order_parts(order, later[order.session].get(order.symbol))
        row = {name: getattr(order, name) for name in ("session", "symbol", "side", "state", "reason", "reference")}
        amounts = {name: float(getattr(order, name)) for name in ("planned", "filled")}
        sent = 0.0 if order.state in _NEVER_SENT else float(order.quantity)
        short = {"shortfall": parts.total, "shortfall_bp": parts.basis_points(parts.total)}
        rows.append({**row, **amounts, "sent": sent, "price": order.price, "fees": order.fees, **short})
    return {"rows": rows, "left_out": len(orders) - len(rows)}


def _incidents(journal: Journal) -> dict[str, Any]:
    """Refusals, halts, resumptions and emergency sales, newest first."""
    rows = []
    for event in list(journal.events(*_INCIDENTS))[::-1]:
        told = {name: event.body.get(name) for name in ("session", "reason", "model")}
        rows.append({"at": event.at, "kind": event.kind, **told, "orders": len(event.body.get("orders", ()))})
    return {"rows": rows[:_MOST_ROWS], "left_out": len(rows[_MOST_ROWS:])}


def _shortfall(sessions: Sequence[SessionShortfall]) -> dict[str, Any]:
    """The shortfall of the account and of its sessions, newest first, beside what was expected; and as running sums."""
    whole = account_shortfall(sessions)
    expected = expected_by_part(whole.expected)
    parts = [
        {"name": name, **_amount(whole.parts, getattr(whole.parts, name), expected[name]), "components": EXPECTED[name]}
        for name in PARTS
    ]
    traded = [one for one in sessions if one.orders]
    return {
        "sessions": whole.sessions,
        "not_known": whole.left_out,
        "planned": whole.parts.planned,
        "parts": parts,
        "total": _amount(whole.parts, whole.parts.total, added(expected.values())),
        "components": dict(whole.expected),
        "rows": [_session_row(one) for one in traded[::-1][:_MOST_ROWS]],
        "left_out": len(traded[:-_MOST_ROWS]),
        "running": running_sums(traded),
    }


def _amount(parts: Parts, found: float | None, expected: float | None) -> dict[str, float | None]:
    return {
        "currency": found,
        "bp": parts.basis_points(found),
        "expected": expected,
        "expected_bp": parts.basis_points(expected),
    }


def _session_row(one: SessionShortfall) -> dict[str, Any]:
    amounts = {name: getattr(one.parts, name) for name in PARTS}
    expected = added(expected_by_part(one.expected).values())
    total = _amount(one.parts, one.parts.total, expected)
    return {"session": one.session, "orders": one.orders, "planned": one.parts.planned, **amounts, **total}


def _number(x: float | None) -> float:
    """A figure of the journal, which has null for what is not finite."""
    return math.nan if x is None else x


def _positive(x: float) -> bool:
    return math.isfinite(x) and x > 0


def _origin(runs: Sequence[Run]) -> dict[str, Any]:
    """Models and data of the decisions, and versions of what wrote the page."""
    return {
        "models": _spans((run.session, run.model) for run in runs),
        "data": runs[-1].data if runs else None,
        "tactician": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _spans(runs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Models in the order of their use, each with its first and last session."""
    spans: list[dict[str, str]] = []
    for session, model in runs:
        if not spans or spans[-1]["model"] != model:
            spans.append({"model": model, "first": session})
        spans[-1]["last"] = session
    return spans


def _charts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The series of the charts."""
    wealth, running = document["wealth"], document["shortfall"]["running"]
    # The first two colours are those of account and shadow.
    shades = colours(["account", "shadow", *PARTS])[2:]
    return {
        "dates": wealth["sessions"],
        "wealth": {name: wealth[name] for name in _DRAWN},
        "running": running,
        "colours": dict(zip(PARTS, shades, strict=True)),
    }
