"""The page of an account: true to the journal, sealed, small, and fit to be read at any width."""

import json
import math
import re
import time
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tactician.errors import Halted, UserError
from tactician.trading.account_page import (
    ShadowPath,
    account_document,
    account_json,
    account_page,
    write_account_page,
)
from tests.report.test_page import embedded
from tests.trading import account_sample as sample
from tests.trading.account_sample import SESSIONS, SPITEFUL, Hand, order


@pytest.fixture
def hand(tmp_path):
    made = Hand(tmp_path / "journal.sqlite")
    yield made
    made.journal.close()


@pytest.fixture
def three(hand):
    """Three sessions. The first bought 10 SPY of 10 and 3 QQQ of 5; the second held; the third was looked at."""
    hand.book("adopted", SESSIONS[0], 10_000.0, cash=10_000.0)
    hand.decide(
        SESSIONS[0],
        order(),
        order("QQQ", planned="5", filled="3", price=402.0, reference=400.0, state="canceled"),
        order("IWM", "sell", "4", "0", None, quantity=Decimal(3), state="lapsed", reason="no time", reference=200.0),
    )
    hand.book("reconciled", SESSIONS[0], 9_990.0, {"SPY": "10", "QQQ": "3"}, 3_782.5)
    hand.book(
        "checked", SESSIONS[1], 10_100.0, {"SPY": "10", "QQQ": "3"}, 3_782.5, {"SPY": 510.0, "QQQ": 410.0, "IWM": 198.0}
    )
    hand.book("checked", SESSIONS[1], 10_200.0)
    hand.decide(SESSIONS[1], weights={}, name="HOLD")
    hand.book("reconciled", SESSIONS[1], 10_110.0)
    positions, foreign = {"SPY": "10", "QQQ": "3"}, {"TSLA": "7"}
    hand.book(
        "checked", SESSIONS[2], 10_050.0, positions, 3_800.0, foreign_positions=foreign, foreign_orders=["theirs-1"]
    )
    return hand


def test_values_are_the_first_of_a_session_and_the_shadow_starts_where_the_account_does(three):
    wealth = three.document(ShadowPath(["2024-03-01", *SESSIONS], [0.5, 2.0, 2.018, 2.02]))["wealth"]
    assert wealth["sessions"] == list(SESSIONS)
    assert wealth["before"] == [10_000.0, 10_100.0, 10_050.0]
    assert wealth["after"] == [9_990.0, 10_110.0, None]
    assert wealth["multiple"] == pytest.approx([1.0, 1.01, 1.005])
    assert wealth["shadow"] == pytest.approx([1.0, 1.009, 1.01])
    # 1.01 over 1.009 and 1.005 over 1.01, less one.
    assert wealth["difference_bp"] == pytest.approx([0.0, 9.9108, -49.5050], abs=1e-4)
    assert wealth["last_difference_bp"] == wealth["difference_bp"][-1]
    assert wealth["adopted_again"] == []


def test_a_shadow_that_begins_later_meets_the_account_there(three):
    wealth = three.document(ShadowPath(list(SESSIONS[1:]), [1.0, 0.99]))["wealth"]
    assert wealth["shadow"] == [None, pytest.approx(1.01), pytest.approx(0.9999)]
    assert wealth["difference_bp"][:2] == [None, pytest.approx(0.0, abs=1e-9)]


@pytest.mark.parametrize("shadow", [None, ShadowPath([], []), ShadowPath(["1999-01-04"], [1.0])])
def test_without_a_shadow_nothing_is_said_of_it(three, shadow):
    document = three.document(shadow)
    assert document["wealth"]["shadow"] is document["wealth"]["difference_bp"] is None
    assert "No backtest of the same sessions was at hand" in account_page(document)


def test_a_shadow_has_a_value_for_each_date():
    with pytest.raises(ValueError, match="not one path"):
        ShadowPath(["2024-03-04"], [])


def test_positions_have_weights_and_the_targets_of_the_last_plan_that_had_some(three):
    held = three.document()["positions"]
    assert [(row["symbol"], row["shares"], row["value"]) for row in held["rows"]] == [
        ("SPY", 10, 5000),
        ("QQQ", 3, 1200),
    ]
    assert [row["weight"] for row in held["rows"]] == pytest.approx([5000 / 10_050, 1200 / 10_050])
    assert [row["target"] for row in held["rows"]] == [0.6, 0.3]
    assert held["cash"] == {"value": 3800.0, "weight": pytest.approx(3800 / 10_050), "target": 0.1}
    assert (held["target_session"], held["holds"]) == (SESSIONS[0], True)
    assert held["foreign"] == [{"symbol": "TSLA", "shares": 7.0}] and held["foreign_orders"] == ["theirs-1"]


def test_the_last_decision_is_told_with_its_reasons(three):
    decision = three.document()["decision"]
    assert (decision["session"], decision["regime"], decision["probability"]) == (SESSIONS[1], "HOLD", 0.3)
    assert decision["why"][1] == {"name": "drawdown", "value": -0.5, "effect": -0.125}
    assert decision["strange"] == ["vix_level"]


def test_orders_are_newest_first_with_what_each_missed(three):
    iwm, qqq, spy = three.document()["orders"]["rows"]
    assert (iwm["sent"], iwm["planned"], iwm["state"], iwm["reason"]) == (0.0, 4.0, "lapsed", "no time")
    # 4 IWM were not sold at 200, and fell to 198; 0.5 of fees.
    assert iwm["shortfall"] == pytest.approx(8.5)
    # 3 QQQ for 2 more than 400, and 2 that rose by 10; 28.5 - 2 of fees are in.
    assert qqq["shortfall"] == pytest.approx(6 + 20 + 0.5)
    assert spy["shortfall"] == pytest.approx(10.5) and spy["shortfall_bp"] == pytest.approx(21.0)


def test_the_shortfall_stands_beside_the_expected_costs(three):
    short = three.document()["shortfall"]
    assert (short["sessions"], short["not_known"], short["planned"]) == (1, 0, 5000 + 2000 + 800)
    parts = {part["name"]: part for part in short["parts"]}
    assert parts["execution"]["currency"] == pytest.approx(16.0) and parts["execution"]["expected"] == 4.0
    assert parts["fees"]["currency"] == 1.5 and parts["fees"]["expected"] == 0.25
    assert parts["opportunity"]["currency"] == pytest.approx(28.0) and parts["opportunity"]["expected"] == 0.0
    assert short["total"]["currency"] == pytest.approx(45.5)
    assert short["total"]["bp"] == pytest.approx(1e4 * 45.5 / 7800)
    assert short["running"] == {
        "sessions": [SESSIONS[0]],
        "execution": [16.0],
        "fees": [1.5],
        "opportunity": [28.0],
        "total": [45.5],
        "expected": [4.25],
    }


def test_a_session_that_has_no_end_yet_is_left_out_and_says_so(three):
    three.decide(SESSIONS[2], order(session=SESSIONS[2], filled="4", state="canceled"))
    document = three.document()
    short, page = document["shortfall"], account_page(document)
    assert (short["sessions"], short["not_known"]) == (2, 1)
    assert short["total"]["currency"] == pytest.approx(45.5)
    assert short["rows"][0]["execution"] == pytest.approx(4.0) and short["rows"][0]["opportunity"] is None
    assert "1 of 2 sessions with orders" in re.sub(r"\s+", " ", page)


def test_luck_is_measured_by_the_standard_error_of_a_mean(hand):
    # Returns of +1 % and −1 % in turn: s is 0.01 · √(n/(n−1)); with n = 24, 1.96 · s · 252 / √24 = 1.0299.
    value = 100.0
    for k in range(25):
        hand.book("checked" if k else "adopted", f"2024-04-{k + 1:02}", value)
        value *= 1.01 if k % 2 == 0 else 0.99
    document = hand.document()
    assert document["caution"] == {"returns": 24, "half_width": pytest.approx(1.0299, abs=1e-4)}
    assert "±103 percentage points" in re.sub(r"\s+", " ", account_page(document))


def test_few_returns_say_nothing_of_luck(three):
    assert three.document()["caution"] == {"returns": 2, "half_width": None}


def test_a_person_who_takes_the_holdings_over_anew_is_told(three):
    three.book("adopted", "2024-03-07", 20_000.0)
    document = three.document()
    assert document["wealth"]["adopted_again"] == ["2024-03-07"]
    assert document["caution"]["returns"] == 2, "a deposit is no return"
    assert 'id="adopted-again"' in account_page(document)
    # Taken over after the session's first look: the next session's return has it.
    three.book("adopted", "2024-03-07", 30_000.0)
    three.book("checked", "2024-03-08", 30_000.0)
    document = three.document()
    assert document["caution"]["returns"] == 2 and document["wealth"]["broken"] == ["2024-03-07", "2024-03-08"]


def test_an_account_begins_with_its_book_and_not_with_a_dry_run(hand):
    hand.book("checked", "2024-03-01", 9_000.0)
    assert hand.document()["wealth"]["sessions"] == [] and "Nothing was traded yet." in account_page(hand.document())
    hand.book("checked", SESSIONS[0], 9_500.0)
    hand.book("adopted", SESSIONS[0], 10_000.0)
    wealth = hand.document()["wealth"]
    assert (wealth["sessions"], wealth["before"], wealth["adopted_again"]) == ([SESSIONS[0]], [10_000.0], [])


def test_an_emergency_sale_is_told_but_has_no_plan_to_fall_short_of(three):
    before = three.document()["shortfall"]["total"]
    sale = order(side="sell", price=480.0, session=SESSIONS[0])
    three.note("flatten", orders=[sale])
    document = three.document()
    assert document["shortfall"]["total"] == before and document["shortfall"]["without_plan"] == 1
    assert document["orders"]["rows"][0]["side"] == "sell" and document["orders"]["rows"][0]["filled"] == 10
    page = re.sub(r"\s+", " ", account_page(document))
    assert "1 position sold in an emergency" in page and "1 order of emergency sales had no plan" in page


def test_a_halt_is_loud_and_ends_with_a_resumption(three):
    assert three.document()["halt"] is None
    three.note("halted", reason="the broker holds 9 SPY")
    document = three.document()
    assert document["halt"] == {"reason": "the broker holds 9 SPY", "at": three.at.isoformat()}
    page = account_page(document)
    assert page.index("Trading is halted.") < page.index("A short live path proves little")
    three.note("resumed", reason="I sold one by hand", model="b" * 64)
    assert three.document()["halt"] is None
    assert three.document(halted="the file says so")["halt"] == {"reason": "the file says so", "at": None}
    three.note("refused", session=SESSIONS[2], reason="no bar of SPY")
    rows = three.document()["incidents"]["rows"]
    assert [row["kind"] for row in rows] == ["refused", "resumed", "halted"]
    assert rows[1]["model"] == "b" * 64


def test_provenance_names_every_model_and_the_end_of_the_chain(three):
    three.decide(SESSIONS[2], model="b" * 64)
    origin = three.document()["provenance"]
    assert origin["models"] == [
        {"model": "a" * 64, "first": SESSIONS[0], "last": SESSIONS[1]},
        {"model": "b" * 64, "first": SESSIONS[2], "last": SESSIONS[2]},
    ]
    assert (origin["events"], origin["last_hash"]) == three.journal.verify()
    page = account_page(three.document())
    assert "chain intact" in page and origin["last_hash"] in page and "b" * 12 + "</span>" in page


def test_a_journal_that_another_hand_changed_gives_no_page(three):
    three.journal._db.execute("UPDATE orders SET filled = '11'")
    with pytest.raises(Halted, match="not what the program wrote"):
        three.document()


def test_before_the_first_trade_the_page_says_so(hand):
    hand.book("adopted", SESSIONS[0], 10_000.0)
    page = account_page(hand.document())
    assert "Nothing was traded yet." in page and "nothing was decided yet" in page
    assert 'id="orders"' not in page and 'id="shortfall"' not in page and 'id="decision"' not in page


def test_a_journal_without_any_event_has_a_page_too(hand):
    document = hand.document()
    assert document["wealth"]["value"] is document["positions"] is None
    assert "Nothing was traded yet." in account_page(document)


def test_numbers_that_are_not_finite_are_not_available(hand):
    hand.book("adopted", SESSIONS[0], math.nan, {"SPY": "10"}, prices={"SPY": math.nan})
    hand.decide(SESSIONS[0], order(price=None), order("QQQ", planned="5", filled="2", price=math.nan, state="canceled"))
    hand.book("checked", SESSIONS[1], 10_000.0, {"SPY": "10"}, prices={"SPY": math.inf})
    document = hand.document(ShadowPath(list(SESSIONS), [math.nan, 1.0, 1.0]))
    assert document["wealth"]["multiple"] == [None, 1.0]
    assert document["positions"]["rows"][0]["price"] is None and document["positions"]["rows"][0]["value"] is None
    assert document["shortfall"]["not_known"] == 1
    page = account_page(document)
    assert "not available" in page
    assert not re.search(r">\s*[+−]?(nan|None|inf)\b", page)
    json.loads(account_json(document), parse_constant=pytest.fail)


def test_what_others_wrote_is_text_and_never_markup(three):
    three.note("refused", session=SESSIONS[2], reason=SPITEFUL)
    three.note("halted", reason=SPITEFUL)
    three.decide(
        SESSIONS[2], order(SPITEFUL, session=SESSIONS[2], reason=SPITEFUL), name=SPITEFUL, strange=[SPITEFUL],
        probabilities={SPITEFUL: 1.0}, why=[[SPITEFUL, 1.0, 1.0]], weights={SPITEFUL: 1.0},
    )  # fmt: skip
    page = account_page(three.document())
    assert page.count("<script") == page.count("</script>") == 3
    assert "<img" not in page and "&lt;img src=x onerror=alert(2)&gt;" in page


def test_the_same_document_gives_the_same_page_and_json(three, tmp_path):
    document = three.document()
    before = account_json(document)
    write_account_page(document, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == account_page(document)
    assert account_json(document) == before and json.loads(before) == document
    assert (
        json.loads(embedded(account_page(document), "chart-data"))["wealth"]["before"] == document["wealth"]["before"]
    )
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot write"):
        write_account_page(document, tmp_path / "file" / "page.html")


def test_ten_years_of_twenty_orders_a_session_stay_small_and_quick(hand):
    sessions = [str(datetime(2014, 1, 1) + timedelta(days=k))[:10] for k in range(2500)]
    prices = {f"S{k:02}": 100.0 + k for k in range(20)}
    made = []
    for k, session in enumerate(sessions):
        hand.book("adopted" if k == 0 else "checked", session, 1e5 + 13.7 * k, {"S01": "3"}, 1e3, prices)
        hand.decide(session)
        made += [
            order(symbol, planned=f"{k}.123456789", filled="0", session=session, state="canceled") for symbol in prices
        ]
    hand.note("seen", orders=made)
    shadow = ShadowPath(sessions, [1.0001**k for k in range(2500)])
    begun = time.process_time()
    document = hand.document(shadow)
    page = account_page(document)
    assert time.process_time() - begun < 8
    assert len(page.encode()) < 3e6
    assert document["orders"]["left_out"] == 50_000 - 300 and len(document["shortfall"]["rows"]) == 250
    assert "49,700 earlier orders are not shown" in page and "2,250 earlier sessions are not shown" in page


def test_a_cycles_own_journal_costs_what_the_ledger_expects(tmp_path):
    # The simulated broker fills at the plan's prices and charges the ledger's costs, so both sides must agree.
    journal = sample.lived(tmp_path, 12, halt=False)
    short = account_document(journal, None, sample.ACCOUNT, created=sample.CREATED)["shortfall"]
    journal.close()
    assert short["sessions"] >= 3 and short["not_known"] == 0
    # Plans leave out changes inside the band, and round shares down.
    assert short["total"]["currency"] == pytest.approx(short["total"]["expected"], rel=0.01)
    for part in short["parts"][:2]:
        assert part["currency"] == pytest.approx(part["expected"], rel=0.01)
