"""From a decision to orders: how many shares of what, and what they will cost.

The target weights are reached after costs by the ledger's own function, so that a plan is what the backtest trades.
Quantities are rounded down: a plan never spends more than there is, and never sells more than is held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any

import torch

from tactician.portfolio.frictions import COMPONENTS, Frictions, cost_rates
from tactician.portfolio.ledger import rebalance
from tactician.trading.account import AccountFile
from tactician.trading.advice import Advice
from tactician.trading.broker import Listing
from tactician.trading.journal import Entry

_SMALLEST = Decimal("1e-9")
"""Smallest part of a share, of any broker known here."""
_CENT = Decimal("0.01")

NOT_TRADABLE = "it cannot be traded today"
"""Why a symbol is left out, if nothing could be done about it."""


@dataclass(frozen=True)
class Sleeve:
    """The part of an account that is ours, at one moment."""

    positions: Mapping[str, Decimal]
    """Shares by symbol, of the declared symbols only; none is negative."""
    cash: float

    def value(self, prices: Mapping[str, float]) -> float:
        """Currency, at given prices."""
        return self.cash + sum(float(quantity) * prices[symbol] for symbol, quantity in self.positions.items())

    def holdings(self, symbols: Sequence[str], prices: Mapping[str, float]) -> list[float]:
        """Currency by symbol, cash last."""
        return [float(self.positions.get(s, Decimal(0))) * prices[s] for s in symbols] + [self.cash]


@dataclass(frozen=True)
class Plan:
    """What one session's decision means in orders."""

    session: str
    sleeve: Sleeve
    prices: Mapping[str, float]
    """At which it was planned."""
    value: float
    """Of the sleeve at these prices, before the trades, in currency."""
    weights: Mapping[str, float]
    """Target weights by symbol, the reserve of cash taken off."""
    orders: tuple[Entry, ...]
    """Sells first."""
    costs: Mapping[str, float]
    """Expected, by component, in currency."""
    order_costs: Mapping[str, float]
    """Expected, by the order's id, in currency."""
    left_out: Mapping[str, str]
    """Symbols that are not brought to their target, and why."""

    @property
    def turnover(self) -> float:
        """Buys plus sells, as a share of the value."""
        return sum(float(o.planned) * o.reference for o in self.orders) / self.value if self.value > 0 else 0.0

    def after(self, symbol: str) -> float:
        """Currency in a symbol once all orders are filled at the plan's prices."""
        held = self.sleeve.positions.get(symbol, Decimal(0))
        traded = sum(
            (o.planned if o.side == "buy" else -o.planned for o in self.orders if o.symbol == symbol), Decimal(0)
        )
        return float(held + traded) * self.prices[symbol]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the journal."""
        return {
            "positions": {symbol: str(quantity) for symbol, quantity in self.sleeve.positions.items()},
            "cash": self.sleeve.cash,
            "value": self.value,
            "prices": dict(self.prices),
            "weights": dict(self.weights),
            "costs": dict(self.costs),
            "order_costs": dict(self.order_costs),
            "turnover": self.turnover,
            "left_out": dict(self.left_out),
        }


def make_plan(
    advice: Advice,
    sleeve: Sleeve,
    prices: Mapping[str, float],
    listings: Mapping[str, Listing],
    frictions: Frictions,
    account: AccountFile,
) -> Plan:
    """Turn a decision into orders.

    Args:
        advice: target weights, and volatilities and volumes for impact.
        sleeve: what is held.
        prices: the broker's, of all symbols.
        listings: the broker's. What cannot be traded keeps its position, and the rest of the target stays in cash.
        frictions: of the model.
        account: kind of shares, band, smallest order, reserve of cash, collar.
    """
    symbols = advice.symbols
    holdings = torch.tensor(sleeve.holdings(symbols, prices), dtype=torch.float64)
    value = float(holdings.sum())
    goal = torch.tensor(advice.targets, dtype=torch.float64)
    goal = torch.cat([goal[:-1] * (1 - account.cash_floor), goal[-1:] * (1 - account.cash_floor) + account.cash_floor])
    free = {s for s in symbols if s in listings and listings[s].tradable}
    volumes = frictions.impact_adv > 0
    vol_daily = torch.tensor(advice.vol_daily, dtype=torch.float64) if volumes else None
    adv = torch.tensor(advice.adv, dtype=torch.float64) if volumes else None
    trade = rebalance(
        holdings,
        goal,
        frictions,
        hold=torch.tensor(advice.hold),
        fillable=None if len(free) == len(symbols) else torch.tensor([s in free for s in symbols]),
        vol_daily=vol_daily,
        adv=adv,
    )
    change = (trade.holdings - holdings)[:-1]
    rates = cost_rates(holdings.sum(), frictions, vol_daily=vol_daily, adv=adv)
    # One asset per row, so that each row's total is one order's cost.
    each = dict(zip(symbols, rates.total(torch.diag(change.abs())).tolist(), strict=True))
    left_out = {} if advice.hold else {s: NOT_TRADABLE for s in symbols if s not in free}
    orders = []
    for symbol, currency in zip(symbols, change.tolist(), strict=True):
        order = _order(advice, symbol, currency, sleeve, prices, listings, account)
        if isinstance(order, Entry):
            if abs(currency) < account.band * value and not _leaves(order, sleeve):
                left_out[symbol] = "the change is inside the band"
            elif float(order.planned) * prices[symbol] < account.min_notional:
                left_out[symbol] = "the order is too small"
            else:
                orders.append(order)
    return Plan(
        session=str(advice.session),
        sleeve=sleeve,
        prices=dict(prices),
        value=value,
        weights=dict(zip((*symbols, "CASH"), goal.tolist(), strict=True)) if not advice.hold else {},
        orders=tuple(sorted(orders, key=lambda order: order.side, reverse=True)),
        costs=dict(zip(COMPONENTS, trade.costs.tolist(), strict=True)),
        order_costs={order.id: each[order.symbol] for order in orders},
        left_out=left_out,
    )


def _leaves(order: Entry, sleeve: Sleeve) -> bool:
    """Whether the order sells all that is held."""
    return order.side == "sell" and order.planned == sleeve.positions.get(order.symbol)


def _order(
    advice: Advice,
    symbol: str,
    currency: float,
    sleeve: Sleeve,
    prices: Mapping[str, float],
    listings: Mapping[str, Listing],
    account: AccountFile,
) -> Entry | None:
    if advice.hold or currency == 0:
        return None
    price, held = prices[symbol], sleeve.positions.get(symbol, Decimal(0))
    fractional = account.shares == "fractional" and symbol in listings and listings[symbol].fractional
    side = "buy" if currency > 0 else "sell"
    shares = rounded(Decimal(abs(currency) / price), fractional)
    if side == "sell":
        goes = advice.targets[advice.symbols.index(symbol)] == 0
        # A position that is to go goes whole, or dust would stay for ever.
        shares = rounded(held, fractional) if goes else min(shares, held)
    if shares <= 0:
        return None
    whole = shares == shares.to_integral_value() and not fractional
    return Entry(
        id=order_id(account.account, advice.session.strftime("%Y%m%d"), symbol, side),
        session=str(advice.session),
        symbol=symbol,
        side=side,  # type: ignore[arg-type]
        planned=shares,
        quantity=shares,
        reference=price,
        limit=collar(price, side, account.price_collar) if whole else None,
    )


def rounded(shares: Decimal, fractional: bool) -> Decimal:
    """Shares rounded down to what can be traded."""
    return shares.quantize(_SMALLEST if fractional else Decimal(1), ROUND_DOWN)


def order_id(account: str, day: str, symbol: str, side: str, number: int = 1) -> str:
    """The id of an order: the same for the same account, session, symbol and side, so that it cannot be sent twice."""
    return f"tac-{account}-{day}-{symbol}-{side[0]}-{number}"


def collar(price: float, side: str, width: float) -> Decimal:
    """The worst price of a limit order, as exchanges quote it: in cents, and below one dollar in hundredths of a cent."""
    buy = side == "buy"
    worst = Decimal(price * (1 + width if buy else 1 - width))
    step = _CENT if worst >= 1 else _CENT / 100
    return max(worst.quantize(step, ROUND_FLOOR if buy else ROUND_CEILING), step)


def affordable(
    buys: Sequence[Entry],
    cash: float,
    prices: Mapping[str, float],
    costs: Mapping[str, float],
    fractional: Mapping[str, bool],
) -> list[Entry]:
    """Buys that a given cash can pay: as planned, or all smaller by one factor. What becomes nothing has lapsed.

    Args:
        buys: not sent yet.
        cash: that may be spent, in currency.
        prices: worst ones that are expected, by symbol.
        costs: expected beside the price, in currency, by the order's id.
        fractional: whether parts of a share can be bought, by symbol.
    """
    needed = sum(float(o.planned) * prices[o.symbol] + costs[o.id] for o in buys)
    if needed <= cash:
        return list(buys)
    factor = Decimal(max(cash, 0.0) / needed)
    cut = [replace(o, quantity=rounded(o.planned * factor, fractional[o.symbol])) for o in buys]
    return [o if o.quantity > 0 else replace(o, state="lapsed", reason="there was no money left") for o in cut]
