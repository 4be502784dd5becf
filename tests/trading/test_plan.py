"""Limits and cuts of a plan, against what they promise."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.trading.journal import Entry
from tactician.trading.plan import affordable, collar

BUY = Entry("tac-1", "2026-01-02", "AAA", "buy", Decimal(10), Decimal(10), 50.0)


@pytest.mark.parametrize(
    ("price", "side", "limit"),
    [
        (50, "buy", "51.00"),
        (50, "sell", "49.00"),
        (33.333, "buy", "33.99"),
        (0.5, "buy", "0.5100"),
        (0.004, "sell", "0.0040"),
    ],
)
def test_a_limit_is_quoted_in_the_exchanges_steps(price, side, limit):
    assert collar(price, side, 0.02) == Decimal(limit)


@given(st.floats(0.01, 1e5), st.sampled_from(["buy", "sell"]))
def test_a_limit_is_never_worse_than_the_collar(price, side):
    limit = float(collar(price, side, 0.02))
    assert limit <= price * 1.02 * (1 + 1e-12) if side == "buy" else limit >= price * 0.98 * (1 - 1e-12)


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.floats(0.5, 2000)), min_size=1, max_size=8),
    st.floats(-100, 1e6),
    st.booleans(),
)
def test_buys_never_cost_more_than_the_cash_and_never_grow(lots, cash, fractional):
    orders = [
        replace(BUY, id=f"tac-{k}", symbol=f"S{k}", planned=Decimal(n) / 1000, quantity=Decimal(n) / 1000)
        for k, (n, _) in enumerate(lots)
    ]
    prices = {f"S{k}": price for k, (_, price) in enumerate(lots)}
    costs = {o.id: 0.001 * float(o.planned) * prices[o.symbol] for o in orders}
    cut = affordable(orders, cash, prices, costs, dict.fromkeys(prices, fractional))
    assert all(new.quantity <= old.planned for new, old in zip(cut, orders, strict=True))
    assert all((new.state == "lapsed") == (new.quantity <= 0) for new in cut)
    spent = sum(float(o.quantity) * prices[o.symbol] for o in cut if o.state != "lapsed")
    assert spent <= max(cash, 0.0) + 1e-6 * abs(cash)
