"""The shortfall by hand, its identity with paper less reality, and what is not known."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.trading.journal import Entry, Journal, Run
from tactician.trading.shortfall import (
    account_shortfall,
    expected_by_part,
    later_prices,
    order_parts,
    session_shortfall,
    shortfalls,
)

NOW = datetime(2024, 3, 4, 20, 45, tzinfo=UTC)
COSTS = {"spread": 1.0, "slippage": 2.5, "impact": 0.5, "commission": 0.25}


def entry(side="buy", planned="100", filled="100", reference=50.0, price=50.1, fees=0.0, **more):
    values = {
        "id": f"{side}-{planned}-{reference}",
        "session": "2024-03-04",
        "symbol": "SPY",
        "quantity": Decimal(planned),
        "state": "filled" if planned == filled else "canceled",
        **more,
    }
    return Entry(
        side=side,
        planned=Decimal(planned),
        reference=reference,
        filled=Decimal(filled),
        price=price,
        fees=fees,
        **values,
    )


def test_a_buy_by_hand():
    # 100 shares were planned at 50. 60 were bought at 50.10, with 1.20 of fees; the next session found 51.
    parts = order_parts(entry(filled="60", fees=1.2), later=51.0)
    assert parts.planned == 5000
    assert parts.execution == pytest.approx(60 * 0.1)  # 6
    assert parts.fees == 1.2
    assert parts.opportunity == pytest.approx(40 * 1.0)  # 40
    assert parts.total == pytest.approx(47.2)
    assert parts.basis_points(parts.total) == pytest.approx(94.4)  # 47.2 of 5,000


def test_a_sell_by_hand():
    # 10 shares were to be sold at 200. 8 were sold at 199, which costs 8; the price fell to 190 on the other 2: 20 missed.
    parts = order_parts(entry("sell", "10", "8", 200.0, 199.0), later=190.0)
    assert (parts.execution, parts.opportunity) == (pytest.approx(8.0), pytest.approx(20.0))
    # A price that rose instead is a gain of what was not sold.
    assert order_parts(entry("sell", "10", "8", 200.0, 199.0), later=205.0).opportunity == pytest.approx(-10.0)


def test_an_order_that_was_never_sent_has_opportunity_cost_alone():
    parts = order_parts(entry(filled="0", price=None, state="lapsed"), later=49.0)
    assert (parts.execution, parts.fees, parts.opportunity) == (0.0, 0.0, pytest.approx(-100.0))


def test_a_filled_order_needs_no_later_price():
    assert order_parts(entry(), later=None).total == pytest.approx(10.0)


@pytest.mark.parametrize("later", [None, math.nan, math.inf])
def test_without_a_later_price_the_rest_is_not_known(later):
    parts = order_parts(entry(filled="60"), later)
    assert parts.execution == pytest.approx(6.0)
    assert parts.opportunity is None and parts.total is None and parts.basis_points(parts.total) is None


@pytest.mark.parametrize("price", [None, math.nan])
def test_without_a_price_of_the_fill_execution_is_not_known(price):
    parts = order_parts(entry(price=price), later=51.0)
    assert parts.execution is None and parts.opportunity == 0.0 and parts.total is None


@pytest.mark.parametrize("state", ["planned", "sending", "unknown", "open"])
def test_an_order_that_has_not_ended_is_not_known(state):
    parts = order_parts(entry(filled="60", state=state), later=51.0)
    assert (parts.execution, parts.fees, parts.opportunity) == (None, None, None)


def test_a_session_adds_its_orders_and_keeps_what_was_expected():
    orders = [entry(filled="60", fees=1.2), entry("sell", "10", "8", 200.0, 199.0, symbol="QQQ")]
    found = session_shortfall("2024-03-04", orders, COSTS, {"SPY": 51.0, "QQQ": 190.0})
    assert found.parts.planned == 7000
    assert found.parts.execution == pytest.approx(14.0)
    assert found.parts.total == pytest.approx(14 + 1.2 + 60)
    assert found.expected == COSTS
    assert expected_by_part(found.expected) == {"execution": 4.0, "fees": 0.25, "opportunity": 0.0}
    assert session_shortfall("2024-03-04", orders, COSTS, {"SPY": 51.0}).parts.opportunity is None
    assert set(session_shortfall("2024-03-04", orders).expected.values()) == {None}
    assert expected_by_part(session_shortfall("2024-03-04", orders).expected)["execution"] is None


def test_a_session_without_orders_cost_nothing_and_has_no_basis_points():
    found = session_shortfall("2024-03-04", [])
    assert found.parts.total == 0.0 and found.parts.basis_points(0.0) is None


def test_the_account_leaves_out_what_is_not_known_on_both_sides():
    known = session_shortfall("2024-03-04", [entry()], COSTS)
    open_end = session_shortfall("2024-03-05", [entry(filled="60")], {**COSTS, "spread": 99.0})
    whole = account_shortfall([known, open_end, session_shortfall("2024-03-06", [], COSTS)])
    assert (whole.sessions, whole.left_out) == (2, 1)
    assert whole.parts == known.parts and whole.expected == COSTS


@pytest.mark.parametrize("sessions", [[], [session_shortfall("2024-03-05", [entry(filled="60")], COSTS)]])
def test_without_a_known_session_the_account_knows_nothing(sessions):
    whole = account_shortfall(sessions)
    assert whole.parts.total is None and set(whole.expected.values()) == {None}
    assert whole.left_out == len(sessions)


orders = st.builds(
    lambda side, planned, share, reference, price, later, fees: (
        entry(side, str(planned), str(planned * share / 100), reference, price, fees, state="canceled"),
        later,
    ),
    st.sampled_from(["buy", "sell"]),
    st.decimals("0.001", "10000", places=3),
    st.integers(0, 100),
    st.floats(1, 1000),
    st.floats(1, 1000),
    st.floats(1, 1000),
    st.floats(0, 50),
)


@given(st.lists(orders, max_size=6))
def test_the_parts_add_up_to_the_gain_on_paper_less_the_real_one(made):
    # Perold's definition, told from cash and shares: both portfolios trade, and are valued at the later price.
    paper = real = scale = 0.0
    named = [(replace(one, id=str(k), symbol=str(k)), later) for k, (one, later) in enumerate(made)]
    for one, later in named:
        sign = 1 if one.side == "buy" else -1
        paper += sign * float(one.planned) * later - sign * float(one.planned) * one.reference
        real += float(one.signed) * later - one.spent
        scale += float(one.planned) * 1000
    found = session_shortfall("2024-03-04", [one for one, _ in named], None, {one.symbol: p for one, p in named})
    assert found.parts.total == pytest.approx(paper - real, abs=1e-9 * scale + 1e-9)


def journal_of(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")

    def book(kind, session, **prices):
        journal.record(kind, NOW, session=session, prices=prices)

    def decide(session, *orders):
        journal.record(
            "planned", NOW, run=Run(session, "done", {"costs": COSTS}, "m" * 64, "d" * 64), orders=list(orders)
        )

    return journal, book, decide


def test_the_later_price_is_that_of_the_next_session_that_was_looked_at(tmp_path):
    journal, book, decide = journal_of(tmp_path)
    book("adopted", "2024-03-04", SPY=50.0)
    decide("2024-03-04", entry(filled="60"))
    book("reconciled", "2024-03-04", SPY=77.0)
    book("checked", "2024-03-04", SPY=78.0)
    (found,) = shortfalls(journal)
    assert found.parts.opportunity is None, "the same session's prices are not later ones"
    book("checked", "2024-03-06", SPY=51.0)
    book("checked", "2024-03-06", SPY=52.0)
    (found,) = shortfalls(journal)
    assert found.parts.opportunity == pytest.approx(40.0)
    assert later_prices(journal, ["2024-03-01"])["2024-03-01"] == {}, "that one was adopted"


def test_prices_after_a_persons_word_are_not_compared(tmp_path):
    journal, book, decide = journal_of(tmp_path)
    decide("2024-03-04", entry(filled="60"))
    book("adopted", "2024-03-05", SPY=25.0)  # a split of two for one
    book("checked", "2024-03-05", SPY=25.0)
    (found,) = shortfalls(journal)
    assert found.parts.opportunity is None
