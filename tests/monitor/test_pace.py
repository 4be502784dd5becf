"""How long an iteration and a run still take, by hand-worked clocks."""

from dataclasses import replace

import pytest

import tactician.training.loop as loop
from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.monitor.pace import Pace, Work
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state
from tests.monitor.terminal import Clock, plain, reporter


def paced(*durations: float, steps: int = 1000, total: int = 10_000) -> tuple[Pace, Clock]:
    """At the beginning of an iteration, after others that took so long."""
    clock = Clock()
    pace = Pace(clock)
    pace.begin_iteration(0, total)
    for k, seconds in enumerate(durations, 1):
        clock.now += seconds
        pace.begin_iteration(k * steps, total)
    return pace, clock


def test_nothing_is_known_at_the_beginning():
    pace = Pace(Clock())
    assert pace.seconds_left_of_run() is None and pace.seconds_left_of_iteration() is None
    pace, _ = paced()
    assert pace.seconds_left_of_run() is None and pace.seconds_left_of_iteration() is None


def test_the_run_takes_what_remains_at_the_speed_so_far():
    pace, clock = paced(10.0)
    assert pace.seconds_left_of_run() == pytest.approx(90)  # 9,000 steps at 100 per second
    clock.now += 4
    assert pace.seconds_left_of_run() == pytest.approx(86)
    clock.now += 1000
    assert pace.seconds_left_of_run() == 0, "never less than nothing"


def test_the_forecast_counts_what_validations_take():
    pace, _ = paced(*[10.0, 10.0, 10.0, 10.0, 40.0] * 2, total=15_000)  # every fifth one validates and saves
    assert pace.seconds_left_of_run() == pytest.approx(80)


def test_the_speed_of_long_ago_is_forgotten():
    pace, _ = paced(*[1.0] * 4, *[20.0] * 10, total=15_000)
    assert pace.seconds_left_of_run() == pytest.approx(20)


def test_a_run_that_goes_on_counts_what_this_session_has_done():
    clock = Clock()
    pace = Pace(clock)
    pace.begin_iteration(500_000, 1_000_000)
    clock.now = 50.0
    pace.begin_iteration(600_000, 1_000_000)
    assert pace.seconds_left_of_run() == pytest.approx(200)


def test_an_iteration_that_made_no_step_has_no_speed():
    clock = Clock()
    pace = Pace(clock)
    pace.begin_iteration(0, 100)
    clock.now = 5.0
    pace.begin_iteration(0, 100)
    assert pace.seconds_left_of_run() is None


def test_the_iteration_takes_as_long_as_the_one_before():
    pace, clock = paced(30.0, 12.0)
    clock.now += 5
    assert pace.seconds_left_of_iteration() == pytest.approx(7)
    clock.now += 20
    assert pace.seconds_left_of_iteration() == 0


def test_the_first_iteration_takes_what_is_expected():
    pace, clock = paced()
    pace.expect(20.0)
    clock.now += 5
    assert pace.seconds_left_of_iteration() == pytest.approx(15)
    pace.begin_iteration(1000, 10_000)
    clock.now += 1
    assert pace.seconds_left_of_iteration() == pytest.approx(4), "what it took counts from then on"


def test_the_first_iteration_takes_what_its_last_work_takes():
    pace, clock = paced()
    pace.work = Work(clock)
    clock.now += 10
    pace.work.done, pace.work.total = 1, 4
    assert pace.seconds_left_of_iteration() is None, "what follows the work is not known"
    pace.work.closing = True
    assert pace.seconds_left_of_iteration() == pytest.approx(30)


def test_the_iteration_takes_at_least_what_the_work_at_hand_takes():
    pace, clock = paced(12.0)
    pace.work = Work(clock)
    clock.now += 10
    pace.work.done, pace.work.total = 1, 4
    assert pace.seconds_left_of_iteration() == pytest.approx(30)


def test_work_tells_its_time_left():
    clock = Clock()
    work = Work(clock)
    clock.now = 6.0
    assert work.seconds_left is None
    work.total = 10
    assert work.seconds_left is None, "not a step is done"
    work.done = 4
    assert work.seconds_left == pytest.approx(9)
    assert Work(clock, expected=3.0).seconds_left == pytest.approx(3)


def test_a_resumed_run_expects_its_first_iteration_at_the_speed_it_had(tiny, monkeypatch):
    config = load_config(tiny)
    setup = prepare_run(config, load_cached_market(config, ""))
    state = replace(first_train_state(setup), metrics={"steps_per_second": 10.0})
    told, found = reporter(80, "quiet", clock=Clock()), []
    original = loop.collect_rollout

    def collect(*args, **kwargs):
        found.append(told.pace.seconds_left_of_iteration())
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "collect_rollout", collect)
    told.iteration(3, 0, 600)
    loop.iterate(setup, state, told)
    assert found == [pytest.approx(25.6)]  # 8 × 32 steps


def test_the_header_of_an_iteration_tells_the_time_left():
    clock = Clock()
    told = reporter(120, clock=clock)
    told.iteration(1, 0, 1_000_000)
    clock.now = 6.0
    told.iteration(2, 131_072, 1_000_000)
    assert plain(told)[1] == "  🔄 Iteration 1 | Steps: 0/1,000,000 (0.0%)"
    # 868,928 steps at 131,072 in 6 s
    assert plain(told)[4] == "  🔄 Iteration 2 | Steps: 131,072/1,000,000 (13.1%) | about 40 s left"


def test_a_quiet_run_keeps_its_pace_too():
    clock = Clock()
    told = reporter(80, "quiet", clock=clock)
    told.iteration(1, 0, 100)
    clock.now = 8.0
    told.iteration(2, 50, 100)
    clock.now = 11.0
    assert told.pace.seconds_left_of_iteration() == pytest.approx(5) and plain(told) == []
