"""What Alpaca promises and we rely on, asked of the fake always, and of Alpaca's paper service on demand.

    TACTICIAN_ALPACA_PAPER=1 APCA_API_KEY_ID=… APCA_API_SECRET_KEY=… python -m pytest tests/trading/test_alpaca_contract.py

It sends one order to buy one share of SPY at half its price, and cancels it.
"""

import os
import time
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tactician.trading.alpaca import alpaca_broker
from tactician.trading.broker import Order, Rejected
from tests.trading.connected import connect
from tests.trading.fake_alpaca import FakeAlpaca

pytest.importorskip("alpaca", reason="needs alpaca-py")

NEEDED = ("TACTICIAN_ALPACA_PAPER", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
PATIENCE = 30.0
"""Seconds until an order that was cancelled has to be so."""


@pytest.fixture(params=["fake", "paper"])
def broker(request, monkeypatch):
    if request.param == "paper":
        if os.environ.get(NEEDED[0]) != "1" or not all(os.environ.get(name) for name in NEEDED):
            pytest.skip(f"asks Alpaca's paper service; set {NEEDED[0]}=1 and the keys {NEEDED[1]} and {NEEDED[2]}")
        yield alpaca_broker(live=False)
        return
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeAlpaca() as fake:
        for name, value in fake.keys.items():
            monkeypatch.setenv(name, value)
        fake.set_price("SPY", 500)
        fake.set_clock(datetime.now(UTC))
        yield connect(fake)


@pytest.fixture
def order(broker):
    limit = Decimal(str(round(broker.quotes(["SPY"])["SPY"].price / 2, 3)))
    order = Order(f"tactician-contract-{uuid.uuid4()}", "SPY", "buy", Decimal(1), limit)
    yield order
    broker.cancel(order.id)


def test_the_account_can_be_read(broker):
    account = broker.account()
    assert account.number and account.blocked is None and account.cash > 0
    assert abs((broker.now() - datetime.now(UTC)).total_seconds()) < 60
    assert all(isinstance(shares, Decimal) for shares in broker.positions().values())
    assert all(placed.state == "open" for placed in broker.open_orders())
    quotes, listings = (read(["SPY", "ZZZZZ"]) for read in (broker.quotes, broker.listings))
    assert set(quotes) == set(listings) == {"SPY"}
    assert quotes["SPY"].price > 0 and listings["SPY"].tradable and listings["SPY"].fractional


def test_many_assets_are_read_in_one_list(broker):
    assert broker.listings(["SPY", *(f"ZZZZ{k}" for k in range(60))])["SPY"].tradable


def test_an_order_lives_under_its_id(broker, order):
    assert broker.order(order.id) is None
    placed = broker.submit(order)
    assert (placed.id, placed.symbol, placed.side, placed.quantity) == (order.id, "SPY", "buy", 1)
    assert broker.order(order.id).state == "open"
    assert order.id in {placed.id for placed in broker.open_orders()}
    # The same order again is the same order; another one under its id is refused.
    assert broker.submit(order).id == order.id
    with pytest.raises(Rejected, match="unique"):
        broker.submit(Order(order.id, "SPY", "buy", Decimal(2), order.limit))
    broker.cancel(order.id)
    ended = when_final(broker, order.id)
    assert (ended.state, ended.filled, ended.price) == ("canceled", 0, None)
    # An id stays used, and a second cancel does no harm.
    assert broker.submit(order).state == "canceled"
    broker.cancel(order.id)
    assert order.id not in {placed.id for placed in broker.open_orders()}


def test_an_order_beyond_the_cash_is_rejected(broker, order):
    huge = Order(order.id, "SPY", "buy", Decimal(10_000_000), order.limit)
    with pytest.raises(Rejected, match="insufficient buying power"):
        broker.submit(huge)
    assert broker.order(order.id) is None


def when_final(broker, id):
    end = time.monotonic() + PATIENCE
    while broker.order(id).state == "open" and time.monotonic() < end:
        time.sleep(0.5)
    return broker.order(id)
