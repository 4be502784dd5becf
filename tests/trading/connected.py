"""An account at `FakeAlpaca`, reached through alpaca-py, and the words that its tests share."""

from decimal import Decimal

from tactician.trading.alpaca import alpaca_broker
from tactician.trading.broker import Order
from tactician.trading.http import Patience

POST, DELETE, LOOKUP = "POST /v2/orders", "DELETE /v2/orders", "GET /v2/orders:by_client_order_id"
READS = {
    "now": "GET /v2/clock",
    "account": "GET /v2/account",
    "positions": "GET /v2/positions",
    "open_orders": "GET /v2/orders",
    "order": LOOKUP,
    "quotes": "GET /v2/stocks/trades/latest",
    "listings": "GET /v2/assets/*",
}
"""Methods of a broker, and what they ask for."""
CALM = Patience(connect=5, read=10, tries=3, pause=0.001, longest_pause=0.001)
HASTY = Patience(connect=5, read=0.4, tries=2, pause=0.001, longest_pause=0.001)
"""For tests in which Alpaca hangs."""


def connect(fake, patience=CALM):
    return alpaca_broker(live=False, url=fake.url, data_url=fake.url, patience=patience)


def hasty(fake):
    return connect(fake, HASTY)


def order(id="tac-1", symbol="SPY", side="buy", quantity="10", limit=None):
    return Order(id, symbol, side, Decimal(quantity), None if limit is None else Decimal(limit))


def read(broker, what):
    """Read something that there is, once the order tac-1 was sent."""
    if what in ("quotes", "listings"):
        return getattr(broker, what)(["SPY"])
    return broker.order("tac-1") if what == "order" else getattr(broker, what)()


def editing(**changes):
    """A function that changes fields of an answer, of the first entry of a list, or of SPY's trade; `...` removes one."""

    def edit(answer):
        entry = answer["trades"]["SPY"] if "trades" in answer else answer
        entry = entry[0] if isinstance(entry, list) else entry
        for name, value in changes.items():
            entry[name] = value
            if value is ...:
                del entry[name]
        return answer

    return edit
