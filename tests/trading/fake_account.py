"""The account of `FakeAlpaca`: cash, positions, assets and orders, by Alpaca's rules, without HTTP."""

import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

FINAL = ("filled", "canceled", "expired", "rejected", "replaced")


class No(Exception):
    """Alpaca's refusal: an HTTP status, its own number and a message."""

    def __init__(self, status, code, message, **more):
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message} | more


@dataclass
class Fill:
    """What becomes of an order. The default fills it as soon as it is accepted and the price allows it."""

    after: int = 0
    """Times that the order is looked at before anything happens; each look at it or at a list with it counts."""
    share: Decimal = Decimal(1)
    """Part of the quantity that fills."""
    then: str = "open"
    """Status of an order that filled in part: open, canceled, expired, rejected, suspended, …"""
    price: Decimal | None = None
    """Price of the fill; None takes that of the asset."""
    on_cancel: str = "cancel"
    """What a cancel does: cancel, fill (the rest fills while it is under way), refuse (422), stay (pending_cancel for ever)."""
    cancel_after: int = 0
    """Looks at the order during which it is pending_cancel."""


@dataclass
class Held:
    """An order as the fake keeps it."""

    client_id: str
    symbol: str
    side: str
    quantity: Decimal
    limit: Decimal | None
    fill: Fill
    at: datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "new"
    filled: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    """Sum of price times shares."""
    looks: int = 0
    cancel_looks: int | None = None
    worked: bool = False
    """Whether `fill` has been carried out."""

    @property
    def open(self):
        return self.status not in FINAL

    @property
    def rest(self):
        return self.quantity - self.filled if self.open else Decimal(0)


class FakeAccount:
    def __init__(self):
        self.number = "PA3FAKE00001"
        self.status = "ACTIVE"
        self.blocked = {"trading_blocked": False, "account_blocked": False, "trade_suspended_by_user": False}
        self.cash = Decimal(100_000)
        self.collar = Decimal(0)
        """Part by which a market buy reserves more buying power than the price says."""
        self.clock = datetime(2025, 6, 3, 14, 30, tzinfo=UTC)
        self.positions = defaultdict(Decimal)
        self.prices = {}
        self.trade_times = {}
        self.assets = {}
        self.halted = {}
        """Halted assets, and whether orders for them are refused."""
        self.orders = {}
        """By client id, for ever."""
        self.fills = {}
        """What becomes of orders, by client id or symbol."""
        self.accepted = 0
        self.bought = defaultdict(Decimal)
        self.sold = defaultdict(Decimal)

    def set_price(self, symbol, price, at=None):
        """Set the last trade, and let open limit orders that it reaches fill. An unknown asset is listed with it."""
        self.prices[symbol] = Decimal(str(price))
        self.trade_times[symbol] = at
        self.assets.setdefault(symbol, {"tradable": True, "fractionable": True, "status": "active"})
        for order in self.open_orders():
            self.work(order)

    def hold(self, symbol, shares):
        """Put shares into the account; negative ones are short."""
        self.positions[symbol] = Decimal(str(shares))

    def set_asset(self, symbol, **entry):
        """Change tradable, fractionable or status of an asset."""
        self.assets[symbol] |= entry

    def halt(self, symbol, refuse=True):
        """Stop trading of an asset. Orders for it are refused, or else accepted and not filled."""
        self.halted[symbol] = refuse

    def resume(self, symbol):
        """End a halt. Orders that waited for it fill."""
        self.halted.pop(symbol, None)
        self.set_price(symbol, self.prices[symbol])

    def script(self, key, **fill):
        """Say what becomes of orders of a symbol, or of the order with a client id; the fields are those of `Fill`."""
        for name in ("share", "price"):
            if fill.get(name) is not None:
                fill[name] = Decimal(str(fill[name]))
        self.fills[key] = Fill(**fill)

    def foreign_order(self, symbol, side, quantity, limit=None):
        """An order that somebody else sends, with an id of Alpaca's making. Returns that id."""
        limit = None if limit is None else Decimal(str(limit))
        return self.submit(str(uuid.uuid4()), symbol, side, Decimal(str(quantity)), limit).client_id

    def advance(self, seconds):
        """Move the clock on."""
        self.clock += timedelta(seconds=seconds)

    def split(self, symbol, ratio):
        """A split overnight: more shares, a lower price, and open orders of the asset are cancelled."""
        ratio = Decimal(str(ratio))
        self.positions[symbol] *= ratio
        self.prices[symbol] /= ratio
        for order in self.open_orders():
            if order.symbol == symbol:
                order.status = "canceled"

    def open_orders(self):
        return [order for order in self.orders.values() if order.open]

    @property
    def buying_power(self):
        return self.cash - sum((self.reserve(order) * order.rest for order in self.open_orders()), Decimal(0))

    def reserve(self, order):
        """Buying power that a share of an open order takes."""
        if order.side == "sell":
            return Decimal(0)
        return order.limit or self.prices[order.symbol] * (1 + self.collar)

    def submit(self, client_id, symbol, side, quantity, limit=None):
        """Accept an order, or raise `No` as Alpaca would."""
        if client_id in self.orders:
            raise No(422, 40010001, "client_order_id must be unique")
        fill = self.fills.get(client_id) or self.fills.get(symbol) or Fill()
        at = self.clock + timedelta(microseconds=len(self.orders))
        order = Held(client_id, symbol, side, quantity, limit, fill, at)
        self._check(order)
        self.orders[client_id] = order
        self.accepted += 1
        self.work(order)
        return order

    def _check(self, order):
        self._check_form(order)
        asset, symbol = self.assets[order.symbol], order.symbol
        if not asset["tradable"] or asset["status"] != "active" or self.halted.get(symbol):
            raise No(422, 42210000, f"asset {symbol} is not active")
        if order.quantity % 1 and not asset["fractionable"]:
            raise No(403, 40310000, f'asset "{symbol}" is not fractionable')
        if any(known.symbol == symbol and known.side != order.side for known in self.open_orders()):
            raise No(403, 40310000, "potential wash trade detected. use complex orders")
        cost = self.reserve(order) * order.quantity
        if cost > self.buying_power:
            power = {"buying_power": str(self.buying_power), "cost_basis": str(cost)}
            raise No(403, 40310000, "insufficient buying power", **power)
        held = sum((known.rest for known in self.open_orders() if known.symbol == symbol), Decimal(0))
        free = self.positions[symbol] - held
        if order.side == "sell" and order.quantity > free:
            message = f"insufficient qty available for order (requested: {order.quantity}, available: {free})"
            raise No(403, 40310000, message, symbol=symbol, available=str(free), held_for_orders=str(held))

    def _check_form(self, order):
        if order.symbol not in self.assets or order.symbol not in self.prices:
            raise No(422, 42210000, f'asset "{order.symbol}" not found')
        if order.side not in ("buy", "sell") or not order.quantity > 0:
            raise No(422, 40010001, "side or qty is invalid")
        if order.quantity != round(order.quantity, 9):
            raise No(422, 42210000, "qty increment must be at least 0.000000001")
        if order.limit is not None and order.limit != round(order.limit, 2 if order.limit >= 1 else 4):
            message = (
                f"invalid limit_price {order.limit}. sub-penny increment does not fulfill minimum pricing criteria"
            )
            raise No(422, 42210000, message)

    def look(self, order):
        """Somebody looks at an order; its script goes on."""
        order.looks += 1
        if order.cancel_looks is not None and order.open and order.fill.on_cancel != "stay":
            order.cancel_looks += 1
            if order.cancel_looks > order.fill.cancel_after:
                self._end_cancel(order)
        self.work(order)
        return order

    def work(self, order):
        """Fill an open order as far as its script and the price allow."""
        script = order.fill
        if order.worked or not order.open or order.cancel_looks is not None or order.looks < script.after:
            return
        price = script.price or self.prices[order.symbol]
        reached = order.limit is None or (price <= order.limit if order.side == "buy" else price >= order.limit)
        if not reached or order.symbol in self.halted:
            return
        order.worked = True
        self._take(order, Decimal(f"{round(order.quantity * script.share, 9).normalize():f}"), price)
        if order.open and script.then != "open":
            order.status = script.then

    def _take(self, order, quantity, price):
        sign = 1 if order.side == "buy" else -1
        self.cash -= sign * quantity * price
        self.positions[order.symbol] += sign * quantity
        (self.bought if sign > 0 else self.sold)[order.symbol] += quantity
        order.filled += quantity
        order.paid += quantity * price
        if order.filled == order.quantity:
            order.status = "filled"
        elif order.filled:
            order.status = "partially_filled"

    def cancel(self, id):
        """Ask for the cancel of an order by Alpaca's id."""
        order = next((order for order in self.orders.values() if order.id == id), None)
        if order is None:
            raise No(404, 40410000, f"order not found for {id}")
        if not order.open or order.fill.on_cancel == "refuse":
            raise No(422, 42210000, f'order is already in "{order.status}" state')
        order.cancel_looks = order.cancel_looks or 0
        order.status = "pending_cancel"
        if order.fill.on_cancel == "cancel" and not order.fill.cancel_after:
            self._end_cancel(order)

    def _end_cancel(self, order):
        if order.fill.on_cancel == "fill":
            self._take(order, order.rest, order.fill.price or self.prices[order.symbol])
        else:
            order.status = "canceled"

    def end_of_day(self):
        """The close: orders for the day that are open expire."""
        for order in self.open_orders():
            order.status = "expired"

    def session(self, day):
        """Open and close of a weekday in UTC; the fake knows no holidays and no summer time."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return midnight + timedelta(hours=13, minutes=30), midnight + timedelta(hours=20)

    def sessions(self, start: date, end: date):
        days = (start + timedelta(days=k) for k in range((end - start).days + 1))
        return [day for day in days if day.weekday() < 5]
