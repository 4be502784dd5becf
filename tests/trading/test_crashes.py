"""A program that is killed at any point, at a broker that fails in any way, never trades more than it has planned.

For every point and every fault, after any number of runs: shares bought <= planned and shares sold <= held, nothing outside
the sleeve, no order taken twice, the journal's chain intact. Without a fault, all ends as if nothing had happened.
"""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tactician.trading.simulated import Script
from tests.trading.crashing import FOREIGN, AtAlpaca, AtSimulation
from tests.trading.sessions import HALF_DAY, LAST_HOUR, SYMBOLS

pytest.importorskip("alpaca", reason="needs alpaca-py")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

POST, DELETE, LOOKUP = "POST /v2/orders", "DELETE /v2/orders", "GET /v2/orders:by_client_order_id"
POSITIONS, ACCOUNT = "GET /v2/positions", "GET /v2/account"
NOT_FOUND = {"status": 404, "body": {"code": 40410000, "message": "order not found"}}
SELLS = 2
"""Orders of the plan that are sells. They come first."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the broker."""

    arm: object
    """Called with the world before the first run."""
    hangs: bool = False
    codes: tuple = (0, 3, 4)
    """Exit codes of the last run."""


def fails(request, how, codes=(0,), **details):
    return Fault(lambda world: world.fake.fail(request, how, **details), hangs="hang" in str(how), codes=codes)


def scripts(codes=(0,), symbols=SYMBOLS, **fill):
    def arm(world):
        for symbol in symbols:
            world.fake.script(symbol, **fill)

    return Fault(arm, codes=codes)


def after_order(number, change, codes=(0, 3, 4)):
    """Something happens as soon as so many orders were taken."""

    def arm(world):
        def happen(n):
            if n == number:
                change(world)

        world.fake.after_order.append(happen)

    return Fault(arm, codes=codes)


def runs_away(world):
    world.fake.set_price("DDD", 230)


def withdraws(world):
    world.fake.withdrawn = 3_000
    world.fake.cash -= world.fake.withdrawn


def both(*faults):
    def arm(world):
        for fault in faults:
            fault.arm(world)

    codes = {code for fault in faults for code in fault.codes} | {0, 3, 4}
    return Fault(arm, any(fault.hangs for fault in faults), tuple(codes))


def strict(world):
    world.fake.strict = True


def late(world):
    """The broker shows an order only after several looks. Nobody can know then, so that it must not take an id twice."""
    world.fake.strict = True
    world.fake.fail(LOOKUP, "answer", times=3, **NOT_FOUND)


def gets_lost(world):
    """An answer is lost, and the order is shown only after several looks."""
    late(world)
    world.fake.fail(POST, "accept_then_504", skip=1)


FAULTS = {
    "none": Fault(lambda world: None, codes=(0,)),
    "strict": Fault(strict, codes=(0,)),
    "accept then hang": fails(POST, "accept_then_hang", times=2, skip=1),
    "accept then 504": fails(POST, "accept_then_504", times=None),
    "accept then reset": fails(POST, "accept_then_reset", times=None),
    "429 on an order": fails(POST, 429, times=2, skip=1),
    "500 before accepting": fails(POST, 500, times=2, skip=1),
    "partial fill then open": scripts(share=0.5),
    "partial fill then canceled": scripts(share=0.5, then="canceled"),
    "nothing fills": scripts(share=0),
    "reject": fails(POST, 403, times=1, skip=2, message="insufficient buying power"),
    "accept, then reject": scripts(share=0, then="rejected", symbols=("BBB", "DDD")),
    "slow fill": scripts(after=4),
    "slower fill": scripts(after=25),
    "slow fill of a half": scripts(after=3, share=0.5),
    "fill while cancelling": scripts(share=0.25, on_cancel="fill", cancel_after=2),
    "cancel without end": scripts(share=0.25, on_cancel="stay", codes=(3,)),
    "cancel refused": scripts(share=0.25, on_cancel="refuse", codes=(3,)),
    "cancel is lost": both(scripts(share=0.25), fails(DELETE, 504, times=2)),
    "cancel then hang": both(scripts(share=0.25), fails(DELETE, "accept_then_hang", times=1)),
    "positions lie": fails(POSITIONS, "answer", codes=(0, 4), times=1, skip=1, body=[]),
    "positions lie for long": fails(POSITIONS, "answer", codes=(4,), times=None, skip=1, body=[]),
    "positions 500": fails(POSITIONS, 500, codes=(0, 3), times=5, skip=1),
    "account unreadable": fails(ACCOUNT, 500, codes=(0, 3), times=9, skip=3),
    "lookups fail": fails(LOOKUP, 503, codes=(0, 3), times=8, skip=2),
    "orders come late": Fault(late),
    "orders come late, without an answer": Fault(gets_lost),
    "halted asset": Fault(lambda world: world.fake.halt("DDD"), codes=(0,)),
    "halted meanwhile": after_order(1, lambda world: world.fake.halt("DDD", refuse=False), codes=(0,)),
    "no price after a sell": after_order(1, lambda world: world.fake.prices.pop("DDD"), codes=(3,)),
    "no price after a buy": after_order(SELLS + 1, lambda world: world.fake.prices.pop("DDD"), codes=(3,)),
    "clock skew": after_order(1, lambda world: setattr(world.fake, "skew", 300.0), codes=(0, 3)),
    "split": after_order(1, lambda world: world.fake.split("BBB", 2), codes=(3, 4)),
    "foreign order elsewhere": Fault(lambda world: world.fake.foreign_order(FOREIGN, "sell", 3, 90), codes=(0,)),
    "foreign order of ours": after_order(1, lambda world: world.fake.foreign_order("BBB", "sell", 1, 90), codes=(3,)),
    "foreign fill of ours": after_order(1, lambda world: world.fake.foreign_order("CCC", "buy", 9), codes=(4,)),
    "halt file": after_order(1, lambda world: world.halt_by_hand(), codes=(4,)),
    "halt file before the buys": after_order(SELLS + 1, lambda world: world.halt_by_hand(), codes=(4,)),
    "price runs away": after_order(SELLS, runs_away, codes=(3,)),
    "cash withdrawn": after_order(SELLS, withdraws, codes=(4,)),
}
FAULTS |= {
    "sells fill below the plan": both(scripts(symbols=("AAA",), price=98.5), scripts(symbols=("BBB",), price=49.2)),
    "buys fill above the plan": scripts(symbols=("DDD",), price=203),
}
PAIRS = [
    ("accept then 504", "partial fill then open"),
    ("accept then hang", "halt file"),
    ("accept then reset", "price runs away"),
    ("500 before accepting", "slow fill"),
    ("429 on an order", "cash withdrawn"),
    ("orders come late", "lookups fail"),
    ("positions lie", "slow fill of a half"),
    ("reject", "cancel is lost"),
    ("account unreadable", "fill while cancelling"),
    ("split", "partial fill then open"),
    ("halted meanwhile", "accept then 504"),
    ("foreign order of ours", "cancel refused"),
]

SIMULATED = {
    "none": None,
    "half is filled": Script(filled=dict.fromkeys(SYMBOLS, 0.5)),
    "a sell is rejected": Script(rejected={"AAA": "halted"}),
    "a buy is rejected": Script(rejected={"DDD": "halted"}),
    "prices have moved": Script(gap={"AAA": -0.01, "DDD": 0.01}),
}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("APCA_API_KEY_ID", "PKFAKE")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "fakesecret")


@pytest.fixture
def tell(capsys, request):
    """Says how many combinations were run."""

    def say(n):
        with capsys.disabled():
            print(f"\n{request.node.name}: {n} combinations of crash points and faults, none failed")

    return say


class Worlds:
    """Makes one world after the other."""

    def __init__(self, folder):
        self.folder, self.n = folder, 0

    def alpaca(self, fault, shares="fractional", at=LAST_HOUR):
        self.n += 1
        world = AtAlpaca(self.folder / str(self.n), shares, at, hasty=fault.hangs)
        fault.arm(world)
        return world

    def simulation(self, script):
        self.n += 1
        return AtSimulation(self.folder / str(self.n), script=script)


@pytest.fixture
def worlds(tmp_path):
    return Worlds(tmp_path)


def live_through(world, points, codes=(0, 3, 4)):
    """Run to the end; where it is halted, a person resumes, and it runs on. What must hold is looked at after each run."""
    try:
        ended = world.run_to_the_end(points)
        assert ended.code in codes, f"{ended} after points {points}"
        end = world.end()
        if ended.code == 4:
            resumed = world.resume()
            assert resumed.code in (0, 3), resumed
            world.run_to_the_end(tries=1)
        return end
    finally:
        world.close()


def points_of(world):
    """How many points an undisturbed run has."""
    try:
        world.run()
        world.check()
        return world.shared.points
    finally:
        world.close()


def every_point(worlds, fault, shares, at=LAST_HOUR, step=1, first=1):
    last = points_of(worlds.alpaca(fault, shares, at))
    points = range(first, last + 1, step)
    for point in points:
        try:
            live_through(worlds.alpaca(fault, shares, at), [point], fault.codes)
        except AssertionError as error:
            raise AssertionError(f"killed at point {point} of {last}: {error}") from error
    return len(points)


def every_point_without_fault(make, step=1, first=1):
    undisturbed = live_through(make(), [])
    points = range(first, points_of(make()) + 1, step)
    for point in points:
        assert live_through(make(), [point]) == undisturbed, f"killed at point {point}"
    return len(points)


# --------------------------------------------------------------------------------------- every point, every fault


@pytest.mark.parametrize("shares", ["fractional", "whole"])
def test_without_a_fault_all_ends_as_if_nothing_had_happened(worlds, shares, tell):
    step, first = (13, 1) if shares == "fractional" else (17, 9)
    tell(every_point_without_fault(lambda: worlds.alpaca(FAULTS["none"], shares), step, first))


@pytest.mark.slow
@pytest.mark.parametrize("at", [LAST_HOUR, HALF_DAY], ids=["whole_day", "half_day"])
@pytest.mark.parametrize("shares", ["fractional", "whole"])
@pytest.mark.parametrize("fault", ["none", "strict"])
def test_without_a_fault_all_ends_as_if_nothing_had_happened_at_every_point(worlds, fault, shares, at, tell):
    tell(every_point_without_fault(lambda: worlds.alpaca(FAULTS[fault], shares, at)))


@pytest.mark.parametrize("name", FAULTS)
def test_one_point_of_each_fault(worlds, name):
    number, fault = list(FAULTS).index(name), FAULTS[name]
    shares = "whole" if number % 2 else "fractional"
    live_through(worlds.alpaca(fault, shares), [12 + 11 * number % 50], fault.codes)


@pytest.mark.slow
@pytest.mark.parametrize("shares", ["fractional", "whole"])
@pytest.mark.parametrize("name", FAULTS)
def test_every_point(worlds, name, shares, tell):
    tell(every_point(worlds, FAULTS[name], shares))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_every_second_point_with_two_faults(worlds, pair, tell):
    tell(every_point(worlds, both(*(FAULTS[name] for name in pair)), "fractional", step=2))


@pytest.mark.parametrize("name", SIMULATED)
def test_some_points_at_the_simulated_broker(worlds, name):
    every_point_without_fault(lambda: worlds.simulation(SIMULATED[name]), step=29, first=14)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATED)
def test_every_point_at_the_simulated_broker(worlds, name, tell):
    tell(every_point_without_fault(lambda: worlds.simulation(SIMULATED[name])))


# ------------------------------------------------------------------------------------- more than one death, or run


def any_life(worlds, name, points, shares):
    live_through(worlds.alpaca(FAULTS[name], shares), points, FAULTS[name].codes)


lives = given(
    name=st.sampled_from(sorted(FAULTS)),
    points=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    shares=st.sampled_from(["fractional", "whole"]),
)


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@lives
def test_a_program_that_dies_again_and_again(worlds, name, points, shares):
    any_life(worlds, name, points, shares)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@lives
def test_a_program_that_dies_again_and_again_in_many_ways(worlds, name, points, shares):
    any_life(worlds, name, points, shares)


def two_sessions(worlds, fault, point):
    """The first one is killed and not run again. The second one ends well."""
    world = worlds.alpaca(fault)
    try:
        killed = world.run(point).killed
        world.check()
        world.next_session(LAST_HOUR + timedelta(days=1))
        ended = world.run_to_the_end()
        assert ended.code == 0, ended
        first, second = str(LAST_HOUR.date()), world.session
        end = world.end()
        assert set(end["runs"]) <= {first, second} and set(end["runs"].values()) == {"done"}
        dead = {state for id, (state, *_) in end["orders"].items() if first.replace("-", "") in id}
        assert dead <= {"filled", "canceled", "expired", "absent", "lapsed", "rejected"}
        return killed
    finally:
        world.close()


def test_the_next_session_lapses_what_was_never_sent(worlds):
    for point in (14, 29, 44):
        assert two_sessions(worlds, FAULTS["none"], point)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "strict", "partial fill then open", "nothing fills", "accept then 504"])
def test_the_next_session_lapses_what_was_never_sent_after_every_point(worlds, name, tell):
    point = 1
    while two_sessions(worlds, FAULTS[name], point):
        point += 1
    tell(point)


@pytest.mark.parametrize("slow", [pytest.param(False, id="some"), pytest.param(True, id="all", marks=pytest.mark.slow)])
def test_a_flatten_that_is_killed_sells_nothing_twice(worlds, slow, tell):
    n = 0
    for first in (5, 20, 40) if slow else (20,):
        point = 3
        while True:
            world = worlds.alpaca(FAULTS["none"])
            try:
                world.run(first)
                killed = world.halt_and_flatten(point).killed
                world.check()
                assert world.halt_and_flatten().code == 0
                world.check()
                assert world.positions() == {FOREIGN: 7}
                assert world.run().code == 4
                assert world.resume().code == 0 and world.run().code == 0
                world.check()
            finally:
                world.close()
            if not killed:
                break
            point, n = point + (1 if slow else 15), n + 1
    tell(n)


def test_of_two_programs_at_a_time_one_stops_cleanly(worlds):
    """The commands hold a lock. Without it, the journal itself lets only one of two go on."""
    for _ in range(3):
        world = worlds.alpaca(FAULTS["strict"])
        try:
            children = [world.start(lambda cycle: cycle.run(send=True)) for _ in range(2)]
            ended = [world.ended(pid, allowed=(0, 2, 3, 4)) for pid in children]
            world.check()
            assert world.run_to_the_end().code in (0, 4)
            assert 2 not in {e.code for e in ended} or any("cannot be written" in e.said for e in ended), ended
        finally:
            world.close()
