"""Limits outside the policy. All must pass, or the whole plan is refused: a plan that was clipped is one that nobody tested."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tactician.trading.account import AccountFile
from tactician.trading.advice import Advice
from tactician.trading.plan import NOT_TRADABLE, Plan

_ROUNDING = 1e-9
_CENTS = 1e-6
"""Share of the value that rounding to parts of a share may cost."""


@dataclass(frozen=True)
class Past:
    """Values of the sleeve before, in currency."""

    last: float | None
    """After the session before; None at the beginning."""
    highest: float | None
    """Since the beginning, or since the last resumption."""


def breaches(plan: Plan, advice: Advice, account: AccountFile, past: Past) -> list[str]:
    """Every limit that a plan passes, in words with both figures; empty if all hold."""
    found = []
    for key, measure in _MEASURES.items():
        figure, where = measure(plan, advice, past)
        limit = float(getattr(account, key))
        if not figure <= limit + _ROUNDING:  # also if the figure is not a number
            found.append(f"{key}: {where} {figure:.4g}, and the limit is {limit:g}")
    return found + _always(plan, account)


def _always(plan: Plan, account: AccountFile) -> list[str]:
    """What no account file can allow."""
    found = []
    if not (math.isfinite(plan.value) and plan.value > 0):
        found.append(f"the sleeve is worth {plan.value:.2f}")
    for order in plan.orders:
        held = plan.sleeve.positions.get(order.symbol, Decimal(0))
        if order.side == "sell" and order.planned > held:
            found.append(f"long only: {order.planned} {order.symbol} would be sold, and {held} are held")
    buys = [o for o in plan.orders if o.side == "buy"]
    earned = sum((-1 if o in buys else 1) * float(o.planned) * o.reference for o in plan.orders)
    costs = sum(plan.costs.values())
    # The targets are weights of what the costs leave.
    rest, reserve = plan.sleeve.cash + earned - costs, account.cash_floor * (plan.value - costs)
    # A sell inside the band is left out, and its money is missing. Buys are cut to what is there when they are sent.
    missing = account.band * plan.value * len(plan.left_out)
    if NOT_TRADABLE in plan.left_out.values():
        missing = reserve  # a sell that cannot be made may take all of it
    if buys and rest < reserve - missing - _CENTS * plan.value:
        found.append(f"cash_floor: {rest:.2f} would be left in cash, and the floor is {reserve:.2f}")
    return found


def _largest_order(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    sizes = {o.symbol: float(o.planned) * o.reference / plan.value for o in plan.orders}
    return _largest(sizes, "the order of")


def _largest_of_volume(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    adv = dict(zip(advice.symbols, advice.adv, strict=True))
    sizes = {
        o.symbol: float(o.planned) * o.reference / adv[o.symbol]
        for o in plan.orders
        if math.isfinite(adv[o.symbol]) and adv[o.symbol] > 0
    }
    return _largest(sizes, "of its daily traded value, the order of")


def _largest_position(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    bought = {o.symbol for o in plan.orders if o.side == "buy"}
    return _largest({s: plan.after(s) / plan.value for s in bought}, "the position in")


def _turnover(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    return plan.turnover, "buys and sells would be"


def _orders(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    return float(len(plan.orders)), "the plan's orders are"


def _daily_loss(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    return 0.0 if past.last is None else 1 - plan.value / past.last, "the loss since the session before is"


def _drawdown(plan: Plan, advice: Advice, past: Past) -> tuple[float, str]:
    return 0.0 if past.highest is None else 1 - plan.value / past.highest, "the loss from the highest value is"


def _largest(sizes: Mapping[str, float], what: str) -> tuple[float, str]:
    if not sizes:
        return 0.0, what
    symbol = max(sizes, key=lambda s: (math.isnan(sizes[s]), sizes[s]))
    return sizes[symbol], f"{what} {symbol} would be"


_MEASURES: dict[str, Callable[[Plan, Advice, Past], tuple[float, str]]] = {
    "max_order": _largest_order,
    "max_order_adv": _largest_of_volume,
    "max_position": _largest_position,
    "max_turnover": _turnover,
    "max_orders": _orders,
    "max_daily_loss": _daily_loss,
    "max_drawdown": _drawdown,
}
"""The figure of each limit, by its key in the account file, with the words before it."""
