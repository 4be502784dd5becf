"""The race, on a market and a network so small that seconds suffice."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tactician.synthetic import PROBLEMS

RACE = Path(__file__).parent.parent / "benchmarks" / "race"
TINY = {"n_envs": 8, "n_steps": 16, "episode_length": 32, "batch_size": 64, "hidden_dim": 8, "n_gru_layers": 1}


@pytest.fixture(scope="module")
def race():
    sys.path.insert(0, str(RACE))
    try:
        import race

        yield race
    finally:
        sys.path.remove(str(RACE))


@pytest.fixture(scope="module")
def problem():
    return PROBLEMS["observable"](100)


def test_speed_tells_a_rate_and_its_share_of_the_products(race, problem):
    found = race.speed(race.CONTESTANTS[:1], problem, 2, memory=False, **TINY)
    rate = found["steps_per_second"]["specified network"]
    assert rate > 0 and found["ratio_to_peer"] == {}
    expected = rate * found["specified_operations_per_step"] / (1e9 * found["product_gflops"])
    assert found["specified_share_of_product_rate"] == pytest.approx(expected)


def test_operations_are_those_of_every_product(race, problem):
    setup = race.make_setup(problem, race.CONTESTANTS[0], **TINY, **race.AS_THE_PEERS, ppo_epochs=2, critic_epochs=3)
    trunk = 64 * 8 + 8 * 8 + 2 * 3 * 8 * 8
    actor, value = 8 * 128 + 128 * problem.market.regimes.n_actions, 8 * 128 + 128
    every = trunk + actor + value
    assert setup.memory.keep_features
    assert race.operations_per_step(setup) == 2 * (every + 3 * 2 * every + trunk + 3 * 3 * value)


def test_a_peer_that_is_not_installed_is_named_and_left_out(race, capsys):
    absent = replace(race.CONTESTANTS[-1], package="no_such_package")
    assert race.entrants([race.CONTESTANTS[0], absent]) == [race.CONTESTANTS[0]]
    assert capsys.readouterr().out == "no_such_package is not installed: left out\n"


def test_a_run_without_time_enough_says_what_it_was_worth(race, problem):
    found = race.learn(problem, race.CONTESTANTS[0], 0.01, 100, **TINY)
    assert found["seconds"] is None and found["spent"] >= 0.01 and found["steps"] == 128 and found["share"] < 0.95


def test_learning_goes_on_where_it_stopped(race, monkeypatch, problem):
    trained = []

    def learn(problem, contestant, seconds, seed, **_):
        trained.append(seed)
        return {"seconds": 2.0 if seed == 101 else None, "steps": 1, "share": 0.1, "spent": seconds, "whole": False}

    monkeypatch.setattr(race, "learn", learn)
    monkeypatch.setattr(race, "PROBLEMS", {"observable": lambda seed: problem})
    first = next(race.learning(race.CONTESTANTS[:1], 9.0, [100, 101], ["observable"]))
    assert (first["market"], first["seed"], first["contestant"]) == ("observable", 100, "specified network")
    rest = list(race.learning(race.CONTESTANTS[:1], 9.0, [100, 101], ["observable"], before=[first]))
    assert [run["seed"] for run in rest] == trained[1:] == [101]
    # With more time only the run that was not there in time is done again.
    longer = race.learning(race.CONTESTANTS[:1], 10.0, [100, 101], ["observable"], before=[first, *rest])
    assert [run["seed"] for run in longer] == [100]


def test_both_parts_are_kept_and_drawn(race, tmp_path):
    out = tmp_path / "race.json"
    speed = {"steps_per_second": {"a": 2.0, "b": 1.0}, "hidden_dim": 8, "n_gru_layers": 1}
    runs = [
        {"market": "observable", "seed": 1, "contestant": "a", "seconds": 2.0, "steps": 1, "share": 1.0},
        {"market": "observable", "seed": 1, "contestant": "b", "seconds": None, "steps": 1, "share": 0.1, "spent": 9.0},
    ]
    race.keep("speed", speed, out)
    race.keep("learning", {"seconds": 9.0, "runs": runs}, out)
    assert json.loads(out.read_text()) == {"speed": speed, "learning": {"seconds": 9.0, "runs": runs}}
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("package", ["sb3_contrib", "skrl", "torchrl"])
def test_a_peer_trains_and_chooses(race, problem, package):
    pytest.importorskip(package)
    (peer,) = (c for c in race.CONTESTANTS if c.package == package)
    setup = race.make_setup(problem, peer, **TINY)
    runner = peer.make(setup)
    assert [runner.train() for _ in range(3)] == [128, 128, 128]
    played = race.play(problem, runner.choose(), setup.environment)
    assert 0 <= played.agreement <= 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's high-water mark")
def test_memory_is_what_training_adds(race, problem):
    grown = race.peak_memory(race.CONTESTANTS[0], problem, **TINY)
    assert grown is None or 0 <= grown < 200
