"""Orders at Alpaca: what each fault makes of them, and that each is sent once."""

from decimal import Decimal

import pytest

from tactician.trading.broker import Ambiguous, Placed, Rejected, Unreadable
from tests.trading.connected import DELETE, LOOKUP, POST, connect, editing, hasty, order
from tests.trading.fake_alpaca import PAGE

pytest.importorskip("alpaca", reason="needs alpaca-py")


# ------------------------------------------------------------------------------------------------ sending an order


def test_a_market_order_and_what_became_of_it(fake, broker):
    assert broker.submit(order()) == Placed("tac-1", "SPY", "buy", Decimal(10), "open")
    assert broker.order("tac-1") == Placed("tac-1", "SPY", "buy", Decimal(10), "filled", Decimal(10), 500.0)
    assert broker.positions() == {"QQQ": 10, "SPY": 10} and broker.account().cash == 95_000


@pytest.mark.parametrize(
    ("quantity", "limit", "side", "sent"),
    [
        ("10", None, "buy", {"qty": "10", "type": "market"}),
        ("1E+1", None, "buy", {"qty": "10", "type": "market"}),
        ("0.123456789", None, "buy", {"qty": "0.123456789", "type": "market"}),
        ("10", "501.5", "buy", {"qty": "10", "type": "limit", "limit_price": "501.50"}),
        # A limit is the worst price: one between two cents becomes the better of them.
        ("10", "501.019", "buy", {"qty": "10", "type": "limit", "limit_price": "501.01"}),
        ("10", "399.011", "sell", {"qty": "10", "type": "limit", "limit_price": "399.02"}),
        ("10", "0.12345", "buy", {"qty": "10", "type": "limit", "limit_price": "0.1234"}),
        ("2.5", "501", "buy", {"qty": "2.5", "type": "limit", "limit_price": "501.00"}),
    ],
)
def test_what_is_sent(fake, broker, quantity, limit, side, sent):
    symbol = "QQQ" if side == "sell" else "SPY"
    broker.submit(order("tac-1", symbol, side, quantity, limit))
    (asked,) = [asked for asked in fake.requests if asked.name == POST]
    always = {"client_order_id": "tac-1", "symbol": symbol, "side": side, "time_in_force": "day"}
    assert asked.body == always | sent


NOT_TAKEN = ("hang", "reset", "html", "empty", "garbage", "429", "500", "503", "504", "408", "409")


@pytest.mark.parametrize("how", [*NOT_TAKEN, *(f"accept_then_{how}" for how in NOT_TAKEN)])
def test_an_unclear_answer_is_ambiguous_and_nothing_is_sent_again(fake, how):
    fake.fail(POST, how, times=None)
    broker = hasty(fake) if how.endswith("hang") else connect(fake)
    with pytest.raises(Ambiguous, match="tac-1"):
        broker.submit(order())
    taken = how.startswith("accept")
    assert fake.count(POST) == 1 and fake.accepted == taken
    assert (broker.order("tac-1") is not None) == taken
    assert fake.bought["SPY"] == 10 * taken


@pytest.mark.parametrize("details", [{"retry_after": 1}, {"reset_after": 1}])
def test_an_order_is_not_sent_again_when_the_broker_says_when_to(fake, broker, details):
    fake.fail(POST, 429, **details)
    with pytest.raises(Ambiguous, match="429: too many requests"):
        broker.submit(order())
    assert fake.count(POST) == 1 and fake.accepted == 0


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_reason_of_alpaca_is_a_no(fake, broker, status):
    fake.fail(POST, status, message="asset SPY is\nnot active")
    with pytest.raises(Rejected, match=r"^asset SPY is not active$"):
        broker.submit(order())
    assert fake.count(POST) == 1 and broker.order("tac-1") is None


@pytest.mark.parametrize("status", [302, 400, 403, 404, 422])
@pytest.mark.parametrize("answer", [{"raw": PAGE}, {"body": {"code": 1}}, {"body": ["no"]}, {"body": {"message": ""}}])
def test_a_page_of_a_proxy_is_no_no(fake, broker, status, answer):
    fake.fail(POST, "accept_then_answer", status=status, **answer)
    with pytest.raises(Ambiguous):
        broker.submit(order())
    assert fake.count(POST) == 1 and broker.order("tac-1").filled == 10


def test_refused_keys_are_told_and_nothing_was_sent(fake, broker):
    fake.keys["APCA_API_SECRET_KEY"] = "another"
    with pytest.raises(Unreadable, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY") as told:
        broker.submit(order())
    assert fake.accepted == 0 and fake.count(POST) == 1 and told.value.exit_code == 3


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (order(quantity="201"), "insufficient buying power"),
        (order(symbol="QQQ", side="sell", quantity="11"), "insufficient qty available"),
        (order(symbol="NONE"), "not found"),
        (order(quantity="0.1234567891"), "increment"),
    ],
)
def test_what_the_account_does_not_allow_is_rejected(fake, broker, wrong, reason):
    with pytest.raises(Rejected, match=reason):
        broker.submit(wrong)
    assert fake.count(POST) == 1 and fake.accepted == 0


def test_open_buys_take_buying_power_and_open_sells_give_none(fake, broker):
    broker.submit(order("b1", limit="400", quantity="200"))
    broker.submit(order("s1", "QQQ", "sell", "10", limit="500"))
    with pytest.raises(Rejected, match="buying power"):
        broker.submit(order("b2", limit="400", quantity="60"))
    broker.cancel("b1")
    assert broker.submit(order("b3", limit="400", quantity="60")).state == "open"


@pytest.mark.parametrize("changes", [{"client_order_id": "x"}, {"symbol": "QQQ"}, {"side": "sell"}, {"qty": "11"}])
def test_an_answer_about_another_order_is_ambiguous(fake, broker, changes):
    fake.fail(POST, "edit", edit=editing(**changes))
    with pytest.raises(Ambiguous, match="another order"):
        broker.submit(order())


# ------------------------------------------------------------------------------------------------ an id that was used


def test_an_order_that_is_there_already_is_returned_and_not_doubled(fake, broker):
    fake.fail(POST, "accept_then_504")
    with pytest.raises(Ambiguous):
        broker.submit(order())
    assert broker.submit(order()).state == "filled"
    assert fake.accepted == 1 and fake.bought["SPY"] == 10 and fake.count(POST) == 2


def test_an_id_stays_used_after_a_cancel(fake, broker):
    broker.submit(order(limit="400"))
    broker.cancel("tac-1")
    assert broker.submit(order(limit="400")).state == "canceled"
    assert fake.accepted == 1


@pytest.mark.parametrize("other", [order(symbol="QQQ"), order(quantity="11"), order(side="sell")])
def test_an_id_of_another_order_is_rejected(fake, broker, other):
    broker.submit(order())
    with pytest.raises(Rejected, match="unique; order tac-1 is to buy 10 of SPY"):
        broker.submit(other)


@pytest.mark.parametrize(
    "lookup",
    [
        {"how": "500"},
        {"how": "hang"},
        {"how": "html"},
        {"how": "answer", "status": 404, "body": {"code": 40410000, "message": "order not found for tac-1"}},
        {"how": "edit", "edit": editing(filled_qty="NaN")},
    ],
)
def test_a_used_id_whose_order_is_not_shown_is_ambiguous(fake, broker, lookup):
    broker.submit(order())
    fake.fail(LOOKUP, times=None, **lookup)
    with pytest.raises(Ambiguous, match="does not show it"):
        hasty(fake).submit(order()) if lookup["how"] == "hang" else broker.submit(order())
    assert fake.accepted == 1


# ------------------------------------------------------------------------------------------------ fills and cancels


def test_a_partial_fill_stays_open_until_its_rest_is_cancelled(fake, broker):
    fake.script("SPY", share=0.4)
    broker.submit(order())
    assert broker.order("tac-1") == Placed("tac-1", "SPY", "buy", Decimal(10), "open", Decimal(4), 500.0)
    assert [placed.id for placed in broker.open_orders()] == ["tac-1"]
    broker.cancel("tac-1")
    ended = broker.order("tac-1")
    assert (ended.state, ended.filled, ended.reason) == ("canceled", 4, "canceled")
    assert broker.positions()["SPY"] == 4


@pytest.mark.parametrize("then", ["canceled", "expired", "rejected"])
def test_alpaca_may_end_an_order_itself(fake, broker, then):
    fake.script("SPY", share=0.4, then=then)
    broker.submit(order())
    ended = broker.order("tac-1")
    assert (ended.state, ended.filled, ended.reason) == (then, 4, then)


def test_a_slow_fill_is_open_until_it_comes(fake, broker):
    fake.script("tac-1", after=3)
    broker.submit(order())
    assert [broker.order("tac-1").state for _ in range(3)] == ["open", "open", "filled"]


def test_a_fill_may_overtake_a_cancel(fake, broker):
    fake.script("SPY", share=0.4, on_cancel="fill", cancel_after=1)
    broker.submit(order())
    broker.cancel("tac-1")
    assert [(seen.state, seen.filled) for seen in (broker.order("tac-1"), broker.order("tac-1"))] == [
        ("open", 4),
        ("filled", 10),
    ]


def test_a_cancel_that_never_ends_stays_open(fake, broker):
    fake.script("SPY", share=0, on_cancel="stay")
    broker.submit(order())
    for _ in range(3):
        broker.cancel("tac-1")
        assert broker.order("tac-1").state == "open"


def test_a_halted_asset_takes_no_orders_or_fills_none(fake, broker):
    fake.halt("SPY")
    with pytest.raises(Rejected, match="not active"):
        broker.submit(order())
    fake.halt("SPY", refuse=False)
    broker.submit(order("tac-2"))
    assert broker.order("tac-2").state == "open" and not broker.listings(["SPY"])["SPY"].tradable
    fake.resume("SPY")
    assert broker.order("tac-2").state == "filled"


def test_what_is_final_or_unknown_is_not_cancelled(fake, broker):
    broker.submit(order())
    broker.cancel("tac-1")
    broker.cancel("tac-2")
    assert fake.count(DELETE) == 0


def test_an_order_that_ends_before_the_cancel_arrives_stays_as_it_is(fake, broker):
    fake.script("SPY", share=0, on_cancel="refuse")
    broker.submit(order())
    broker.cancel("tac-1")
    assert fake.count(DELETE) == 1


@pytest.mark.parametrize("how", ["hang", "reset", "html", "429", "500", "504", "403", "accept_then_reset"])
def test_an_unclear_cancel_is_ambiguous_and_not_sent_again(fake, broker, how):
    broker.submit(order(limit="400"))
    fake.fail(DELETE, how, times=None)
    with pytest.raises(Ambiguous, match="cancelled order tac-1, or not"):
        hasty(fake).cancel("tac-1") if how == "hang" else broker.cancel("tac-1")
    assert fake.count(DELETE) == 1


def test_an_order_that_cannot_be_looked_up_is_not_cancelled(fake, broker):
    broker.submit(order(limit="400"))
    fake.fail(LOOKUP, "500", times=None)
    with pytest.raises(Unreadable):
        broker.cancel("tac-1")
    assert fake.count(DELETE) == 0


FINAL = {
    "filled": "filled",
    "canceled": "canceled",
    "expired": "expired",
    "rejected": "rejected",
    "replaced": "canceled",
}


def test_every_word_of_alpaca_has_a_state(fake, broker):
    from alpaca.trading.enums import OrderStatus

    for word in [*(status.value for status in OrderStatus), "word_of_tomorrow"]:
        filled = "10" if word == "filled" else "4"
        fake.fail(POST, "edit", edit=editing(status=word, filled_qty=filled, filled_avg_price="500"))
        assert broker.submit(order(f"tac-{word}", quantity="10")).state == FINAL.get(word, "open"), word
        fake.set_account(cash=100_000)
