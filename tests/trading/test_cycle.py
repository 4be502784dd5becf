"""One session's cycle at Alpaca's fake: what is sent, in which order, and what stops it."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tactician.bars.hours import next_to_close
from tactician.errors import Halted, Refused, UserError
from tactician.trading.desk import HALT, remove_halt
from tactician.trading.flatten import cancel_ours, flatten
from tactician.trading.journal import Entry, Journal
from tactician.trading.plan import Plan, Sleeve
from tactician.trading.reconcile import reconcile
from tactician.trading.risk import Past, breaches
from tests.trading.connected import DELETE, LOOKUP, POST, READS, hasty
from tests.trading.fake_alpaca import FakeAlpaca
from tests.trading.sessions import (
    CASH,
    HALF_DAY,
    HELD,
    LAST_HOUR,
    NUMBER,
    PRICES,
    SYMBOLS,
    Clock,
    Told,
    account_file,
    advice,
    cycle_of,
)

pytest.importorskip("alpaca", reason="needs alpaca-py")

DAY = timedelta(days=1)


class Office:
    """An account at the fake, and the cycle that trades it. Each run opens the journal anew, as a program does."""

    def __init__(self, fake, folder):
        self.fake, self.folder, self.said = fake, folder, []
        self.clock, self.known, self.then = Clock(), Told(), {}
        self.changes = {"order_minutes": 1}
        for symbol, price in PRICES.items():
            fake.set_price(symbol, price)
        for symbol, shares in HELD.items():
            fake.hold(symbol, shares)
        fake.set_account(number=NUMBER, cash=CASH)

    def at(self, moment):
        self.clock.at = moment

    def now(self):
        self.fake.clock = self.clock.at
        return self.clock.at

    def wait(self, seconds):
        self.clock.wait(seconds)

    def cycle(self):
        broker = Then(hasty(self.fake), self.then)
        return cycle_of(self.folder, broker, self, self.known, said=self.said, **self.changes)

    def run(self, send=True):
        return self.cycle().run(send=send)

    def stopped(self, kind=Refused):
        """What a run that is stopped says. Nothing else stops it."""
        with pytest.raises(kind) as stopped:
            self.run()
        assert type(stopped.value) is kind or kind is Refused
        return str(stopped.value)

    def resume(self):
        desk = self.cycle().desk
        found = reconcile(desk, str(next_to_close("XNYS", self.now()).date), "adopted")
        desk.journal.record("resumed", self.now(), reason="looked at", model="m")
        remove_halt(desk.folder)
        return found

    def halt_by_hand(self):
        (self.folder / HALT).write_text("a person wants it\n")

    @property
    def journal(self):
        return Journal(self.folder / "journal.sqlite", writes=False)

    @property
    def sent(self):
        return [asked.body for asked in self.fake.requests if asked.name == POST]

    @property
    def held(self):
        return {symbol: shares for symbol, shares in self.fake.positions.items() if shares}


class Then:
    """A broker at which something happens after the n-th order."""

    def __init__(self, broker, then):
        self._broker, self._then, self._n = broker, then, 0

    def __getattr__(self, name):
        return getattr(self._broker, name)

    def submit(self, order):
        try:
            return self._broker.submit(order)
        finally:
            self._n += 1
            self._then.get(self._n, lambda: None)()


@pytest.fixture
def office(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeAlpaca() as fake:
        for name, value in fake.keys.items():
            monkeypatch.setenv(name, value)
        yield Office(fake, tmp_path)


# ------------------------------------------------------------------------------------------------- an ordinary day


def test_a_dry_run_sends_nothing_and_keeps_no_plan(office):
    outcome = office.run(send=False)
    assert [o.symbol for o in outcome.plan.orders] == ["AAA", "BBB", "CCC", "DDD", "EEE"] and not outcome.sent
    assert office.sent == [] and office.journal.runs() == [] and office.journal.orders() == []


def test_a_dry_run_may_be_asked_for_at_night(office):
    office.at(LAST_HOUR - timedelta(hours=12))
    assert office.run(send=False).plan.orders and office.sent == []


def test_the_sells_go_first_and_the_buys_spend_what_they_brought(office):
    outcome = office.run()
    assert [(o["symbol"], o["side"]) for o in office.sent] == [
        *(("AAA", "sell"), ("BBB", "sell")),
        *(("CCC", "buy"), ("DDD", "buy"), ("EEE", "buy")),
    ]
    assert outcome.sent and {o.state for o in outcome.orders} == {"filled"}
    assert office.journal.run("2025-06-03").status == "done"
    value = outcome.plan.value
    for symbol, weight in zip(SYMBOLS, (0, 0.1, 0.25, 0.3, 0.3), strict=True):
        assert float(office.held.get(symbol, 0)) * PRICES[symbol] / value == pytest.approx(weight, abs=0.006)


def test_a_second_run_of_a_finished_session_sends_nothing(office):
    office.run()
    outcome = office.run()
    assert outcome.sent and len(outcome.orders) == len(office.sent) == 5


def test_whole_shares_are_sent_with_a_limit_at_the_collar(office):
    office.changes["shares"] = "whole"
    office.run()
    for o in office.sent:
        worst = PRICES[o["symbol"]] * (0.98 if o["side"] == "sell" else 1.02)
        assert o["type"] == "limit" and abs(float(o["limit_price"]) - worst) < 0.011
    assert all(Decimal(o["qty"]) % 1 == 0 for o in office.sent)


def test_a_decision_to_hold_ends_without_orders(office):
    office.known.hold = True
    assert office.run().orders == () and office.sent == [] and office.journal.run("2025-06-03").status == "done"


def test_the_policy_sees_the_last_closes_and_its_own_past(office):
    office.run()
    cash = float(office.fake.cash)
    office.at(LAST_HOUR + DAY)
    office.run()
    (_, first, no_past), (_, second, lived) = office.known.asked
    assert no_past == [] and [str(one.session) for one in lived] == ["2025-06-03"]
    assert first.holdings == (6000.0, 6025.0, 2000.0, 0.0, 0.0, CASH) and first.regime == 0
    assert second.regime == 1 and second.holdings[0] == 0 and second.holdings[-1] == pytest.approx(cash)


def test_a_declared_part_of_the_cash_is_all_that_is_spent(office):
    office.fake.set_account(cash=50_000)
    office.changes["cash"] = CASH
    outcome = office.run()
    assert outcome.plan.value == pytest.approx(16_025) and office.fake.cash > 48_000


# -------------------------------------------------------------------------------------- orders that do not go well


def test_buys_are_cut_to_what_the_sells_have_brought(office):
    office.fake.script("AAA", share=0.5, then="canceled")
    outcome = office.run()
    cut = {o.symbol: o.quantity / o.planned for o in outcome.orders if o.side == "buy"}
    assert set(cut) == {"CCC", "DDD", "EEE"} and max(cut.values()) < 0.85
    assert max(cut.values()) - min(cut.values()) < Decimal("1e-6")
    assert office.fake.cash > 0 and office.fake.sold["AAA"] == 30


def test_the_rest_is_cancelled_at_the_deadline_and_told(office):
    office.fake.script("BBB", share=0.5)
    outcome = office.run()
    sold = next(o for o in outcome.orders if o.symbol == "BBB")
    assert (sold.state, sold.filled) == ("canceled", round(sold.planned / 2, 9))
    assert office.clock.waited >= 60 and office.fake.count(DELETE) == 1
    assert office.held["BBB"] == HELD["BBB"] - sold.filled


def test_a_rejected_order_is_told_with_its_reason(office):
    office.fake.fail(POST, 403, skip=3, message="asset DDD cannot be bought")
    outcome = office.run()
    assert {(o.symbol, o.reason) for o in outcome.orders if o.state == "rejected"} == {
        ("DDD", "asset DDD cannot be bought")
    }
    assert len(office.sent) == 5 and "DDD" not in office.held


@pytest.mark.parametrize("how", ["accept_then_504", "accept_then_reset", "accept_then_html"])
def test_an_order_of_unclear_fate_is_looked_up_and_never_sent_again(office, how):
    office.fake.fail(POST, how, times=None)
    outcome = office.run()
    assert {o.state for o in outcome.orders} == {"filled"} and len(office.sent) == 5 == office.fake.accepted


def test_an_order_is_not_given_up_after_one_look(office):
    """It may have been asked for before it arrived."""
    office.fake.fail(POST, "accept_then_504")
    office.fake.fail(LOOKUP, "answer", status=404, body={"code": 40410000, "message": "order not found"})
    assert {o.state for o in office.run().orders} == {"filled"}
    assert len(office.sent) == 5 and office.clock.waited >= 30


def test_an_order_that_never_arrived_is_given_up_for_the_session(office):
    office.fake.fail(POST, 500)
    given_up = office.run().orders[0]
    assert given_up.state == "absent" and "500" in given_up.reason
    office.run()
    assert len(office.sent) == 5 and office.fake.accepted == 4 and office.held["AAA"] == 60
    assert office.fake.cash >= 0


def test_an_order_whose_fate_stays_unknown_stops_all_until_it_is_known(office):
    office.fake.fail(POST, "accept_then_504")
    office.fake.fail(LOOKUP, 500, times=2)
    office.stopped()
    assert len(office.sent) < 5 and office.journal.run("2025-06-03").status == "selling"
    assert {o.state for o in office.run().orders} == {"filled"}
    assert len(office.sent) == 5 == office.fake.accepted


def test_an_order_without_an_end_stops_all(office):
    office.fake.script("BBB", share=0.5, on_cancel="stay")
    assert "cannot be brought to an end" in office.stopped()
    assert {o["side"] for o in office.sent} == {"sell"}


# ----------------------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("what", sorted(set(READS) - {"order"}))
@pytest.mark.parametrize("how", ["500", "empty", "garbage"])
def test_unreadable_is_not_empty(office, what, how):
    office.fake.fail(READS[what], how, times=None)
    with pytest.raises(Refused) as refused:
        office.run()
    assert refused.value.exit_code == 3 and office.sent == [] and office.journal.runs() == []


def test_positions_that_vanish_are_a_difference_and_not_the_truth(office):
    office.run()
    n = len(office.sent)
    office.at(LAST_HOUR + DAY)
    office.fake.fail(READS["positions"], "answer", times=None, body=[])
    assert "the journal" in office.stopped(Halted) and len(office.sent) == n


def test_a_fill_between_two_reads_is_no_difference(office):
    """The broker's list of positions may come a moment later than its word that an order is filled."""
    office.run()
    office.at(LAST_HOUR + DAY)
    office.fake.fail(READS["positions"], "answer", times=1, body=[])
    assert office.run().sent


def test_a_price_that_goes_missing_stops_the_rest(office):
    office.then = {3: lambda: office.fake.prices.pop("DDD")}
    assert "no price of DDD" in office.stopped()
    assert [o["symbol"] for o in office.sent] == ["AAA", "BBB", "CCC"]


# --------------------------------------------------------------------------------------------- what is not ours


def test_positions_and_orders_of_others_are_left_alone_and_told(office):
    office.fake.set_price("ZZZ", 30)
    office.fake.hold("ZZZ", 7)
    order = office.fake.foreign_order("ZZZ", "sell", 3, 90)
    found = office.run().reconciled
    assert found.foreign_positions == {"ZZZ": 7} and found.foreign_orders == (order,)
    assert office.held["ZZZ"] == 7 and office.fake.orders[order].open and office.fake.count(DELETE) == 0


def test_an_order_of_somebody_else_in_the_sleeve_refuses(office):
    office.fake.foreign_order("AAA", "sell", 1, 150)
    assert "AAA" in office.stopped() and office.sent == []


def test_an_order_of_ours_that_a_lost_journal_has_sent_refuses(office):
    office.fake.submit(f"tac-{NUMBER}-20250603-AAA-s-1", "AAA", "sell", Decimal(1), Decimal(150))
    assert "this journal does not know" in office.stopped() and office.sent == []


def test_a_short_position_refuses(office):
    office.fake.hold("DDD", -1)
    assert "short of DDD" in office.stopped() and office.sent == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda office: office.fake.set_account(number="PA3OTHER"), "PA3OTHER"),
        (lambda office: office.changes.update(cash=5_000.0), "lower 'cash'"),
    ],
)
def test_an_account_that_is_not_the_declared_one_is_the_users_mistake(office, change, says):
    change(office)
    with pytest.raises(UserError, match=says) as error:
        office.run()
    assert error.value.exit_code == 2 and office.sent == []


def test_real_money_needs_the_word_for_it(office):
    cycle = office.cycle()
    cycle.desk.broker._broker.real_money = True
    with pytest.raises(UserError, match="live: true"):
        cycle.run(send=True)
    assert office.sent == []


def test_a_blocked_account_refuses(office):
    office.fake.set_account(trading_blocked=True)
    assert "trading is blocked" in office.stopped() and office.sent == []


def test_a_clock_that_is_off_refuses(office):
    office.fake.fail(
        READS["now"], "edit", edit=lambda answer: answer | {"timestamp": "2025-06-03T19:00:00Z"}, times=None
    )
    assert "differ by 600 seconds" in office.stopped() and office.sent == []


# --------------------------------------------------------------------------------------- prices, assets and hours


def test_a_price_far_from_the_last_close_refuses(office):
    office.fake.set_price("CCC", 10)
    assert "a split, or a wrong bar" in office.stopped() and office.sent == []


def test_a_price_of_an_earlier_session_refuses(office):
    office.fake.set_price("CCC", 20, at=LAST_HOUR - DAY)
    assert "CCC was at 2025-06-02 15:10 EDT" in office.stopped() and office.sent == []


def test_an_asset_that_is_halted_keeps_its_position(office):
    office.fake.halt("BBB")
    outcome = office.run()
    assert "BBB" in outcome.plan.left_out and office.held["BBB"] == HELD["BBB"]
    assert "BBB" not in {o["symbol"] for o in office.sent} and len(office.sent) > 1


def test_a_price_that_runs_away_stops_the_rest(office):
    office.then = {2: lambda: office.fake.set_price("DDD", 230)}
    assert "price_collar" in office.stopped()
    assert [o["symbol"] for o in office.sent] == ["AAA", "BBB", "CCC"]


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        (datetime(2025, 6, 3, 15, 0, tzinfo=UTC), "2025-06-03 15:00 EDT (21:00 CEST here)"),
        (datetime(2025, 6, 3, 2, 0, tzinfo=UTC), "2025-06-03 15:00 EDT (21:00 CEST here)"),
        (datetime(2025, 6, 7, 15, 0, tzinfo=UTC), "2025-06-09 15:00 EDT (21:00 CEST here)"),
        (HALF_DAY - timedelta(hours=1), "2025-07-03 12:00 EDT (18:00 CEST here)"),
        (LAST_HOUR.replace(hour=19, minute=59, second=40), "2025-06-03 15:00 EDT (21:00 CEST here)"),
    ],
    ids=["morning", "night", "weekend", "half_day", "too_late"],
)
def test_outside_the_window_nothing_is_sent_and_the_window_is_told(office, monkeypatch, at, opens):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        office.at(at)
        assert opens in office.stopped()
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert office.sent == [] and office.journal.runs() == []


def test_the_window_of_a_half_day_lies_before_its_early_close(office):
    office.at(HALF_DAY)
    assert office.run().sent


def test_what_comes_too_near_to_the_close_lapses_in_the_next_session(office):
    office.at(LAST_HOUR.replace(hour=19, minute=59))
    office.fake.script("AAA", share=0.5)
    assert "too near" in office.stopped()
    office.fake.end_of_day()
    office.at(LAST_HOUR + DAY)
    office.known.hold = True
    assert office.run().orders == ()
    assert {o.state for o in office.journal.orders("2025-06-03") if o.side == "buy"} == {"lapsed"}
    assert [run.status for run in office.journal.runs()] == ["done", "done"]


# ----------------------------------------------------------------------------------------------- halt and resume


def test_a_difference_halts_and_stays_halted_when_the_file_is_removed_by_hand(office):
    office.run()
    office.fake.hold("CCC", office.fake.positions["CCC"] + 1)
    office.at(LAST_HOUR + DAY)
    first, n = office.stopped(Halted), len(office.sent)
    assert "CCC" in first and (office.folder / HALT).exists()
    (office.folder / HALT).unlink()
    office.fake.hold("CCC", office.fake.positions["CCC"] - 1)
    assert "trading is halted: the broker holds" in office.stopped(Halted) and len(office.sent) == n


def test_money_that_is_missing_halts(office):
    office.run()
    office.fake.cash -= 500
    office.at(LAST_HOUR + DAY)
    assert "withdrawal" in office.stopped(Halted)


def test_a_little_money_that_is_missing_is_not_spent(office):
    office.changes["cash"] = CASH
    office.then = {2: lambda: setattr(office.fake, "cash", office.fake.cash - 150)}
    office.run()
    assert office.fake.cash >= 0 and len(office.sent) == 5


def test_a_resumption_adopts_what_the_broker_holds(office):
    office.run()
    office.fake.hold("CCC", 5)
    office.at(LAST_HOUR + DAY)
    office.stopped(Halted)
    assert office.resume().sleeve.positions["CCC"] == 5
    assert office.run().sent


def test_a_plan_that_was_made_for_other_holdings_lapses_with_the_resumption(office):
    """Otherwise a sell would be sent of what a person has sold meanwhile, and the account would be short."""
    office.then = {1: lambda: office.halt_by_hand()}
    office.stopped(Halted)
    office.fake.hold("BBB", 0)
    office.fake.cash += 6025
    office.then = {}
    office.resume()
    assert {o.state for o in office.run().orders[1:]} == {"lapsed"} and len(office.sent) == 1
    assert office.journal.run("2025-06-03").status == "done"


def test_a_resumption_takes_the_brokers_word_for_an_order_that_it_has_lost(office):
    office.fake.script("AAA", share=0, on_cancel="stay")
    office.stopped()
    office.fake.orders.clear()
    assert "no longer knows" in office.stopped()
    office.resume()
    assert next(o.state for o in office.run().orders if o.symbol == "AAA") == "absent"


def test_a_halt_between_two_orders_stops_the_rest_and_cancels_what_is_open(office):
    office.fake.script("AAA", share=0.5)
    office.then = {1: office.halt_by_hand}
    assert "a person wants it" in office.stopped(Halted)
    assert len(office.sent) == 1 and office.fake.open_orders() == [] and office.clock.waited < 30
    assert office.journal.last("halted").body["reason"] == "a person wants it"


def test_a_halt_cancels_what_the_program_waits_for(office):
    """The sells never fill. A person halts while the program waits for them, half a minute before its deadline."""
    office.changes["order_minutes"] = 10
    for symbol in HELD:
        office.fake.script(symbol, share=0)
    wait = office.clock.wait

    def halted_after_half_a_minute(seconds):
        wait(seconds)
        if office.clock.waited > 30:
            office.halt_by_hand()

    office.clock.wait = halted_after_half_a_minute
    assert "a person wants it" in office.stopped(Halted)
    assert office.fake.open_orders() == [] and office.clock.waited < 60
    assert not any(body["side"] == "buy" for body in office.sent)


def test_a_flatten_sells_all_of_the_sleeve_and_the_halt_stays(office):
    office.fake.set_price("ZZZ", 30)
    office.fake.hold("ZZZ", 7)
    office.run()
    cycle = office.cycle()
    cycle.desk.halt("enough")
    assert cancel_ours(cycle.desk) == []
    done = flatten(cycle.desk, next_to_close("XNYS", office.now()))
    assert {o.state for o in done} == {"filled"} and office.held == {"ZZZ": 7}
    assert "enough" in office.stopped(Halted)


def test_a_flatten_outside_the_hours_refuses(office):
    office.at(LAST_HOUR + timedelta(hours=5))
    with pytest.raises(Refused, match="opens 2025-06-04 09:30 EDT"):
        flatten(office.cycle().desk, next_to_close("XNYS", office.now()))


def test_another_model_needs_a_resumption(office):
    office.run()
    office.at(LAST_HOUR + DAY)
    office.known.model = "another"
    assert "The model is another one" in office.stopped()


# ------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("key", "limit"),
    [
        ("max_order", 0.2),
        ("max_order_adv", 1e-9),
        ("max_position", 0.25),
        ("max_turnover", 0.5),
        ("max_orders", 4),
    ],
)
def test_a_limit_refuses_the_whole_plan(office, key, limit):
    office.changes[key] = limit
    said = office.stopped()
    assert said.startswith("The whole plan for 2025-06-03 is refused: ") and f"{key}: " in said
    assert office.sent == [] and office.journal.runs() == []


@pytest.mark.parametrize(("key", "other"), [("max_daily_loss", "max_drawdown"), ("max_drawdown", "max_daily_loss")])
def test_a_loss_refuses_the_whole_plan(office, key, other):
    office.run()
    n = len(office.sent)
    office.at(LAST_HOUR + DAY)
    for symbol, price in PRICES.items():
        office.fake.set_price(symbol, 0.8 * price)
    office.known.prices = {symbol: 0.8 * price for symbol, price in PRICES.items()}
    office.changes |= {key: 0.15, other: 1.0}
    assert f"{key}: the loss" in office.stopped() and len(office.sent) == n


def some_plan(**changes):
    """A plan that buys 10 AAA, and an account and a decision for it."""
    said = advice(LAST_HOUR.date(), None)
    sleeve = Sleeve({"BBB": Decimal(10)}, 2_000.0)
    plan = Plan("2025-06-03", sleeve, PRICES, 2_500.0, {}, (), {}, {}, {})
    return replace(plan, **changes), said


def entry(symbol, side, shares):
    return Entry(f"{symbol}-{side}", "2025-06-03", symbol, side, Decimal(shares), Decimal(shares), PRICES[symbol])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"orders": (entry("BBB", "sell", 11),)}, "long only: 11 BBB"),
        ({"orders": (entry("AAA", "buy", 20),)}, "cash_floor: 0.00 would be left"),
        ({"orders": (entry("AAA", "buy", 19),), "costs": {"spread": 95.0}}, "cash_floor: 5.00 would be left"),
        ({"value": 0.0}, "the sleeve is worth 0.00"),
        ({"value": float("nan")}, "the sleeve is worth nan"),
    ],
)
def test_what_no_account_file_can_allow(changes, says):
    plan, said = some_plan(**changes)
    found = breaches(plan, said, account_file(max_order=1.0, max_position=1.0), Past(None, None))
    assert any(says in one for one in found), found


def test_an_ordinary_plan_passes():
    plan, said = some_plan(orders=(entry("AAA", "buy", 10),))
    assert breaches(plan, said, account_file(), Past(2_500.0, 2_500.0)) == []


@pytest.mark.parametrize("shares", ["fractional", "whole"])
def test_no_limit_binds_by_default_for_a_switch_from_cash_to_twelve_symbols(office, shares):
    symbols = [f"S{k}" for k in range(12)]
    office.known = Told(prices=dict.fromkeys(symbols, 50.0), targets=(*[1 / 12] * 12, 0.0))
    office.changes = {"shares": shares}
    for symbol in symbols:
        office.fake.set_price(symbol, 50)
    office.fake.positions.clear()
    office.fake.set_account(cash=100_000)
    outcome = office.run()
    assert {o.state for o in outcome.orders} == {"filled"} and len(outcome.orders) == 12
    assert outcome.reconciled.sleeve.cash / 100_000 == pytest.approx(
        0.005, abs=0.004 if shares == "fractional" else 0.025
    )


def test_what_happened_can_be_read_in_the_journal(office):
    office.run()
    kinds = [event.kind for event in office.journal.events()]
    assert kinds[:4] == ["adopted", "planned", "selling", "sending"] and kinds[-2:] == ["reconciled", "done"]
    plan = json.loads(json.dumps(office.journal.run("2025-06-03").plan))
    assert plan["decision"]["name"] == "some" and plan["weights"]["DDD"] == pytest.approx(0.2985)


def test_money_that_was_taken_out_is_forgotten_with_the_resumption(office):
    office.changes["cash"] = CASH
    office.run()
    office.at(LAST_HOUR + DAY)
    office.fake.set_account(cash=10)
    assert "in cash, and the journal" in office.stopped(Halted)
    office.resume()
    assert office.journal.last("adopted").body["cash"] == 10
    office.run()


@pytest.mark.parametrize(
    ("before", "after", "money"), [("all", 500, 500), (500, 700, 700), (700, 300, 300), (500, "all", 1e5)]
)
def test_another_amount_in_the_account_file_counts_from_a_resumption_on(office, before, after, money):
    office.known.hold = True
    office.fake.set_account(cash=1e5)
    office.changes["cash"] = before
    office.run()
    office.at(LAST_HOUR + DAY)
    office.changes["cash"] = after
    assert "declares" in (told := office.stopped()) and "trade resume --account FILE" in told
    assert office.resume().sleeve.cash == pytest.approx(money)
    assert office.run().reconciled.sleeve.cash == pytest.approx(money)


def test_the_journal_of_another_account_is_the_users_mistake(office):
    office.then[1] = lambda: office.fake.set_price("BBB", 90)
    office.stopped()  # with a plan under way
    office.fake.set_price("BBB", 50)
    office.fake.set_account(number="PA3FAKE00002")
    office.changes["account"] = "PA3FAKE00002"
    sent = len(office.sent)
    said = office.stopped(UserError)
    assert f"is of account {NUMBER}, and the account file says PA3FAKE00002" in said and len(office.sent) == sent


def test_a_policy_of_another_universe_knows_no_session_of_before(office):
    office.run()
    office.at(LAST_HOUR + DAY)
    office.known.prices = dict(reversed(PRICES.items()))
    office.known.hold = True
    office.run()
    session, seat, lived = office.known.asked[-1]
    assert lived == [] and (seat.regime, seat.since_trade) == (0, 0)
    office.at(LAST_HOUR + 2 * DAY)
    office.run()
    assert [one.session for one in office.known.asked[-1][2]] == [session]


def test_a_policy_of_other_regimes_knows_no_session_of_before(office):
    """The numbers of its regimes mean something else."""
    office.run()
    office.at(LAST_HOUR + DAY)
    office.known.regimes = ("hold", "cash", "some")
    office.known.hold = True
    office.run()
    _, seat, lived = office.known.asked[-1]
    assert lived == [] and (seat.regime, seat.since_trade) == (0, 0)


def test_a_flatten_leaves_the_ids_of_the_plan_that_may_still_come(office):
    office.run(send=False)
    desk = office.cycle().desk
    done = flatten(desk, next_to_close("XNYS", office.now()))
    office.fake.hold("AAA", 10)
    office.resume()
    orders = {entry.id: entry for entry in office.run().orders}
    assert all(orders[entry.id] == entry for entry in done)
    assert "AAA" not in office.held and orders[f"tac-{NUMBER}-20250603-AAA-s-1"].filled == 10
