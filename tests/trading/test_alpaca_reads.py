"""Reading the account at Alpaca: what is there, and that a failed read is never an empty one."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tactician.trading import alpaca
from tactician.trading.broker import Listing, Placed, Quote, Unreadable
from tests.trading import fake_answers as say
from tests.trading.connected import DELETE, LOOKUP, POST, READS, editing, hasty, order, read
from tests.trading.fake_alpaca import PAGE

pytest.importorskip("alpaca", reason="needs alpaca-py")

NO_ORDER = {"code": 40410000, "message": "order not found for tac-1"}


# ------------------------------------------------------------------------------------------------ reads that fail


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("how", ["429", "500", "503", "504", "reset"])
def test_a_read_is_tried_again_and_then_unreadable(fake, broker, what, how):
    broker.submit(order(limit="400"))
    fake.fail(READS[what], how, times=None)
    with pytest.raises(Unreadable, match=r"^Alpaca's .* could not be read: .*; try again later, .*\.$"):
        read(broker, what)
    assert fake.count(READS[what]) == 3 and fake.count(POST) == 1


@pytest.mark.parametrize("what", ["positions", "quotes"])  # one of each service
def test_a_read_that_hangs_is_given_up(fake, what):
    fake.fail(READS[what], "hang", times=None)
    with pytest.raises(Unreadable, match=r"no answer within 0\.4 seconds"):
        read(hasty(fake), what)
    assert fake.count(READS[what]) == 2


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize(
    "answer",
    [
        *({"how": how} for how in ("html", "empty", "garbage", "400", "422")),
        *({"how": "answer", "body": body} for body in (None, 7, "no", {}, {"message": "no"}, [None], [{}], [[]])),
        *({"how": "answer", "status": status, "raw": PAGE} for status in (302, 403, 404)),
        {"how": "answer", "status": 404, "body": {"message": "not found"}},
        {"how": "answer", "status": 404, "body": {"code": 40400000, "message": "no such page"}},
    ],
)
def test_an_answer_of_another_form_is_unreadable(fake, broker, what, answer):
    broker.submit(order(limit="400"))
    fake.fail(READS[what], times=None, **answer)
    with pytest.raises(Unreadable, match=r"^Alpaca's .* could not be read: .*\.$"):
        read(broker, what)
    assert fake.count(READS[what]) == 1


def test_a_redirection_is_no_answer_whatever_it_says(fake, broker):
    fake.fail("GET /v2/account", "answer", status=302, body=say.account(fake))
    with pytest.raises(Unreadable, match="it answered 302"):
        broker.account()


@pytest.mark.parametrize("what", READS)
def test_refused_keys_are_told(fake, broker, what):
    fake.keys["APCA_API_KEY_ID"] = "another"
    with pytest.raises(
        Unreadable, match="401: request is not authorized; check APCA_API_KEY_ID and APCA_API_SECRET_KEY"
    ):
        read(broker, what)


NO_TEXT = (..., None, "", 7, True)
NO_NUMBER = (..., None, "", "NaN", "Infinity", "abc", "1e999", float("nan"), True, [], {})
NO_FLAG = (..., None, "true", 1)


@pytest.mark.parametrize(
    ("what", "field", "values"),
    [
        ("now", "timestamp", (*NO_TEXT, "2025-06-03T14:30:00", "yesterday")),
        ("account", "account_number", NO_TEXT),
        ("account", "cash", NO_NUMBER),
        ("account", "status", NO_TEXT),
        ("account", "trading_blocked", NO_FLAG),
        ("account", "account_blocked", NO_FLAG),
        ("account", "trade_suspended_by_user", NO_FLAG),
        ("positions", "symbol", NO_TEXT),
        ("positions", "qty", (*NO_NUMBER, "-10")),
        ("positions", "side", (*NO_TEXT, "flat")),
        *(
            (what, field, values)
            for what in ("order", "open_orders")
            for field, values in [
                ("client_order_id", NO_TEXT),
                ("symbol", NO_TEXT),
                ("side", (*NO_TEXT, "hold")),
                ("status", (*NO_TEXT, "filled")),
                ("qty", (*NO_NUMBER, "3")),
                ("filled_qty", (*NO_NUMBER, "-1", "11")),
                ("filled_avg_price", (*NO_NUMBER, "0", "-500", "1e-400")),
            ]
        ),
        ("quotes", "p", (*NO_NUMBER, 0, -1, 1e-400)),
        ("quotes", "t", (*NO_TEXT, "2025-06-03T14:30:00")),
        ("listings", "tradable", NO_FLAG),
        ("listings", "fractionable", NO_FLAG),
        ("listings", "status", NO_TEXT),
    ],
)
def test_a_field_that_is_missing_or_no_number_is_unreadable(fake, broker, what, field, values):
    fake.script("SPY", share=0.4)
    broker.submit(order())
    for value in values:
        fake.fail(READS[what], "edit", edit=editing(**{field: value}))
        with pytest.raises(Unreadable, match="malformed"):
            pytest.fail(f"{field} {value!r} passed as {read(broker, what)}")
    read(broker, what)


def test_failed_positions_are_not_empty_ones(fake, broker):
    fake.fail("GET /v2/positions", "500", times=None)
    with pytest.raises(Unreadable, match="positions"):
        broker.positions()
    fake.faults.clear()
    fake.fail("GET /v2/positions", "answer", body=[])
    assert broker.positions() == {}  # a lie: only the comparison with what was held before can find it
    assert broker.positions() == {"QQQ": 10}


def test_a_symbol_that_is_held_twice_is_a_contradiction(fake, broker):
    fake.fail("GET /v2/positions", "edit", edit=lambda held: held * 2)
    with pytest.raises(Unreadable, match="QQQ contradicts itself"):
        broker.positions()


# ------------------------------------------------------------------------------------------------ what is there


def test_an_order_is_missing_only_if_alpaca_says_so(fake, broker):
    assert broker.order("tac-1") is None
    for answer in [
        {"status": 404, "raw": PAGE},
        {"status": 404, "body": NO_ORDER | {"code": "40410000"}},
        {"body": None},
    ]:
        fake.fail(LOOKUP, "answer", **answer)
        with pytest.raises(Unreadable, match="order tac-1"):
            broker.order("tac-1")


def test_the_broker_is_its_own_clock(fake, broker):
    fake.set_clock("2031-01-02T09:29:59-05:00")
    assert broker.now() == datetime(2031, 1, 2, 14, 29, 59, tzinfo=UTC)
    fake.advance(61)
    fake.fail("GET /v2/clock", "edit", edit=editing(timestamp="2031-01-02T09:31:00.123456789-05:00"))
    told = broker.now()
    assert told == datetime(2031, 1, 2, 14, 31, 0, 123456, tzinfo=UTC) and told.tzinfo is UTC
    assert broker.now() == datetime(2031, 1, 2, 14, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trading_blocked": True}, "trading is blocked"),
        ({"account_blocked": True}, "the account is blocked"),
        ({"trade_suspended_by_user": True}, "its owner has suspended trading"),
        ({"status": "ACCOUNT_CLOSED"}, "its status is ACCOUNT_CLOSED"),
        ({"status": "WORD_OF_TOMORROW", "trading_blocked": True}, "trading is blocked; its status is WORD_OF_TOMORROW"),
    ],
)
def test_a_blocked_account_says_why(fake, broker, change, words):
    assert broker.account().blocked is None
    fake.set_account(**change)
    assert broker.account().blocked == words


def test_another_account_has_another_number(fake, broker):
    before = broker.account()
    fake.set_account(number="PA3OTHER", cash="-12.5")
    assert before.number == "PA3FAKE00001" and (broker.account().number, broker.account().cash) == ("PA3OTHER", -12.5)


def test_positions_are_exact_and_short_ones_negative(fake, broker):
    fake.hold("SPY", "0.123456789")
    fake.hold("SH", -3)
    fake.hold("BTCUSD", "0.1")
    expected = {"QQQ": Decimal(10), "SPY": Decimal("0.123456789"), "SH": Decimal(-3), "BTCUSD": Decimal("0.1")}
    assert broker.positions() == expected
    fake.fail("GET /v2/positions", "edit", edit=editing(side="short"))
    assert broker.positions()["QQQ"] == -10


def test_a_split_overnight(fake, broker):
    broker.submit(order("s", "QQQ", "sell", "10", limit="500"))
    fake.split("QQQ", 2)
    assert broker.positions()["QQQ"] == 20 and broker.quotes(["QQQ"])["QQQ"].price == 200
    assert broker.order("s").state == "canceled"


def test_quotes_have_their_time_and_those_without_a_trade_are_missing(fake, broker):
    at = datetime(2025, 6, 2, 19, 59, 59, 123456, tzinfo=UTC)
    fake.set_price("SPY", 501.25, at)
    fake.fail(READS["quotes"], "edit", skip=1, edit=lambda answer: {"trades": answer["trades"] | {"QQQ": None}})
    assert broker.quotes(["SPY", "NONE"]) == {"SPY": Quote(501.25, at)}
    assert set(broker.quotes({"SPY", "QQQ"})) == {"SPY"}
    assert {asked.query["feed"] for asked in fake.requests} == {"iex"}
    assert broker.quotes([]) == {} and fake.count(READS["quotes"]) == 2


def test_listings(fake, broker):
    fake.set_asset("QQQ", fractionable=False)
    assert broker.listings(["SPY", "QQQ", "NONE"]) == {"SPY": Listing(True, True), "QQQ": Listing(True, False)}
    fake.set_asset("QQQ", status="inactive")
    fake.halt("SPY")
    assert broker.listings(["SPY", "QQQ"]) == {"SPY": Listing(False, True), "QQQ": Listing(False, False)}
    fake.resume("SPY")
    assert broker.listings(["SPY"])["SPY"].tradable


def test_many_listings_are_one_request(fake, broker):
    symbols = [f"S{k}" for k in range(60)]
    for symbol in symbols[:-1]:
        fake.set_price(symbol, 10)
    assert set(broker.listings(symbols)) == set(symbols[:-1])
    assert [asked.name for asked in fake.requests] == ["GET /v2/assets"]
    fake.fail("GET /v2/assets", "edit", edit=lambda assets: [{} for _ in assets])
    with pytest.raises(Unreadable, match="assets"):
        broker.listings(symbols)


def test_orders_of_others_are_told_and_left_alone(fake, broker):
    theirs = fake.foreign_order("SPY", "buy", 3, limit=400)
    broker.submit(order(limit="450"))
    assert {placed.id for placed in broker.open_orders()} == {theirs, "tac-1"}
    broker.cancel("tac-1")
    assert [placed.id for placed in broker.open_orders()] == [theirs] and fake.count(DELETE) == 1


def test_orders_of_others_may_be_of_other_forms(fake, broker):
    fake.foreign_order("SPY", "buy", 3, limit=400)
    fake.fail("GET /v2/orders", "edit", edit=editing(qty=None, notional="1500"))
    (amount,) = broker.open_orders()
    assert (amount.symbol, amount.quantity, amount.filled) == ("SPY", 0, 0)

    def spread(orders):
        legs = [orders[0] | {"symbol": f"SPY25061{k}C00500000", "client_order_id": f"leg-{k}"} for k in (1, 2)]
        return [orders[0] | {"symbol": "", "side": "", "legs": legs, "order_class": "mleg"}]

    fake.fail("GET /v2/orders", "edit", edit=spread)
    assert [placed.id for placed in broker.open_orders()] == ["leg-1", "leg-2"]
    fake.fail("GET /v2/orders", "edit", edit=editing(side="sell_short"))
    assert [placed.side for placed in broker.open_orders()] == ["sell"]


def test_all_open_orders_are_read_page_by_page(fake, broker, monkeypatch):
    ids = [fake.foreign_order("SPY", "buy", 1, limit=400) for _ in range(12)]
    at = fake.orders[ids[3]].at
    for id in ids[3:7]:
        fake.orders[id].at = at  # of one instant, across the end of a page
    assert [placed.id for placed in broker.open_orders()] == ids
    assert [asked.query["limit"] for asked in fake.requests] == ["500"]
    monkeypatch.setattr(alpaca, "_PAGE", 5)
    assert [placed.id for placed in broker.open_orders()] == ids
    assert fake.count("GET /v2/orders") > 3
    fake.orders[ids[7]].at = at
    with pytest.raises(Unreadable, match="more than 5 orders are of one instant"):
        broker.open_orders()


def test_a_page_that_fails_hides_no_orders(fake, broker, monkeypatch):
    for _ in range(12):
        fake.foreign_order("SPY", "buy", 1, limit=400)
    monkeypatch.setattr(alpaca, "_PAGE", 5)
    fake.fail("GET /v2/orders", "500", skip=1, times=None)
    with pytest.raises(Unreadable, match="open orders"):
        broker.open_orders()


def test_a_day_of_the_fake_ends(fake, broker):
    broker.submit(order(limit="400"))
    fake.advance(timedelta(hours=6).total_seconds())
    fake.end_of_day()
    assert broker.order("tac-1") == Placed("tac-1", "SPY", "buy", Decimal(10), "expired", reason="expired")
    assert broker.open_orders() == []
