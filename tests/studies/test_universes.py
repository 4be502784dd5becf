"""The study over many universes: registered as one, gone on with, pooled by days, and judged on one another's markets."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from tactician.config import load_config
from tactician.environment import load_cached_market, normalise
from tactician.evaluation.backtest import action_targets, backtest
from tactician.evaluation.decisions import decide
from tactician.evaluation.inference import growth_difference
from tactician.evaluation.rivals_known import equal_weights
from tactician.record.registration import verify
from tactician.storage import load_tensors
from tactician.studies.fold_job import load_model
from tactician.training.markets import make_environment
from tests.studies.walk_forwards import PURGE, TEST_FROM, train_here

FOLDER = Path(__file__).parents[2] / "benchmarks" / "walk_forward"
NAMES = ("draw_01", "draw_02")

pytestmark = pytest.mark.slow
"""Eight trainings and two judgements: half a minute."""


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(FOLDER / "universes.py"))


@pytest.fixture(scope="module")
def pooling(script):
    return runpy.run_path(str(FOLDER / "pooled.py"))


@pytest.fixture(scope="module")
def done(script, tiny_longer, short_validation, tmp_path_factory):
    """A finished study of two draws of three names: its words, folder, and what was on the disk before the first training."""
    folder = tmp_path_factory.mktemp("universes")
    words = [str(tiny_longer), "--draws", "2", "--sizes", "3", "3", "--draw-seed", "2", "--folds", "2", "--seeds", "2"]
    words += ["--purge", str(PURGE), "--test-from", str(TEST_FROM), "--output", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        engine = train_here(patch, watch=lambda: sorted(path.name for path in folder.rglob("registration.json")))
        script["main"](words)
    return words, folder, engine


def test_all_universes_are_registered_under_one_hash_before_anything_is_trained(done):
    _, folder, engine = done
    assert len(engine.seen) == 3  # one of each universe, and one over all
    registration = verify(folder / "registration.json")
    content = json.loads(registration.path.read_text())["content"]
    assert tuple(content["configuration"]) == NAMES and content["seeds"] == [0, 1]
    assert content["data_fingerprint"]["draw_01"] != content["data_fingerprint"]["draw_02"]
    own = {name: verify(folder / name / "walk_forward" / "registration.json").sha256 for name in NAMES}
    assert content["registrations"] == own
    assert json.loads((folder / "universes.json").read_text())["registration"] == registration.sha256


def test_each_universe_has_its_own_names_and_its_own_walk_forward(done):
    _, folder, _ = done
    found = json.loads((folder / "universes.json").read_text())
    names = [found["universes"][name]["names"] for name in NAMES]
    assert [len(each) for each in names] == [3, 3] and names[0] != names[1]
    for name in NAMES:
        report = json.loads((folder / name / "walk_forward" / "report.json").read_text())
        row = found["universes"][name]
        assert row["strengths"] == [fold["found"]["strength"] for fold in report["folds"]]
        assert row["memorising"] == report["memorising"]
        curves = {curve["name"]: np.array(curve["growth"]) for curve in report["curves"]}
        expected = 252 * (curves["agent"] - curves["equal_weight"]).mean()
        assert row["growth"][0] == pytest.approx(expected, abs=1e-5)
        # The left-out days are those of the members alone, however far they are followed.
        assert row["memorising_followed_all_the_way"]["held_out_days"] == report["memorising"]["held_out_days"]
    assert found["folds"] == 4
    abstained = sum(strength == 0 for name in NAMES for strength in found["universes"][name]["strengths"])
    assert found["share_of_folds_that_abstained"] == abstained / 4


@torch.no_grad()
def test_a_transferred_ensemble_sees_the_other_market_with_its_own_normaliser(done, tiny_longer):
    _, folder, _ = done
    content = json.loads((folder / "registration.json").read_text())["content"]
    cell = json.loads((folder / "universes.json").read_text())["transfer"]["draw_01"]["draw_02"]
    universe = content["configuration"]["draw_02"]["universe"]
    other = {"universe": universe, "cache_path": str(folder / "draw_02" / "market.pt")}
    config = load_config(tiny_longer, other)
    market = load_cached_market(config, "")
    loaded = [
        load_model(load_tensors(folder / "draw_01" / "walk_forward" / f"fold_2_seed_{seed}.pt")["model"])
        for seed in (0, 1)
    ]
    first, last = content["folds"]["draw_01"][1]["test"]
    rows = [row for row in range(market.n_days) if first <= str(market.date_of(row)) <= last]
    test = range(rows[0], rows[-1] + 1)
    env = make_environment(config, normalise(market, *loaded[0][1]), range(1, test.start))
    taken = decide(env, [policy for policy, _ in loaded], test)
    own, hold = action_targets(market, test, taken.actions[:, 0])
    both = torch.cat([own, equal_weights(market, test)[:, None]], 1)
    path = backtest(
        market, test, both, torch.cat([hold, torch.zeros_like(hold)], 1), env.frictions, 1e5, liquidate=True
    )
    gap = path.growth[:, 0] - path.growth[:, 1]
    assert cell["sessions"] == len(test)
    assert cell["all_the_way"][0] == pytest.approx(252 * float(gap.mean()), abs=1e-9)
    assert cell["strength"] == 0 and cell["deployed"] == [0, 0, 0]  # equal weight beside itself


def test_the_same_command_trains_and_judges_nothing_again_and_prints_the_same_tables(done, script, monkeypatch, capsys):
    words, folder, _ = done
    before = (folder / "universes.json").read_bytes()
    monkeypatch.setitem(script["main"].__globals__, "judge_study", lambda *_: pytest.fail("a second look"))
    monkeypatch.setitem(script["main"].__globals__, "evaluate", lambda *_: pytest.fail("a second look"))
    engine = train_here(monkeypatch)
    script["main"](words)
    said = capsys.readouterr()
    assert engine.asked == [] and (folder / "universes.json").read_bytes() == before
    assert (
        said.out.startswith("| universe |") and "| **pooled** |" in said.out and "| trained on | draw_01 |" in said.out
    )
    assert "4 of 4 trainings are there already" in said.err


def universe(agent, equal, first=0):
    days = [f"day {first + k:04d}" for k in range(len(agent))]
    return {"dates": days, "agent": list(agent), "equal_weight": list(equal), "cash": [0.0] * len(agent)}


def test_a_copy_of_a_universe_adds_no_evidence(pooling):
    rng = np.random.default_rng(0)
    equal, gap = rng.normal(0, 0.01, 300), rng.normal(0.0005, 0.004, 300)
    one = universe(equal + gap, equal)
    alone, twice = (pooling["pooled"]([one] * n, 252) for n in (1, 2))
    assert twice == alone
    expected = growth_difference(equal + gap, equal, 252)
    assert alone["growth"] == pytest.approx([expected.value, expected.low, expected.high])
    assert alone["growth"][0] == pytest.approx(252 * gap.mean())


def test_universes_are_pooled_on_common_days_only(pooling):
    rng = np.random.default_rng(1)
    equal = [rng.normal(0, 0.01, 200) for _ in range(2)]
    gaps = [rng.normal(0.001, 0.004, 200) for _ in range(2)]
    made = [universe(e + g, e, first) for e, g, first in zip(equal, gaps, (0, 50), strict=True)]
    found = pooling["pooled"](made, 252)
    # Days 50 to 199 are common: the last 150 of the first universe, the first 150 of the second.
    assert found["sessions"] == 150
    assert found["growth"][0] == pytest.approx(252 * (gaps[0][50:].mean() + gaps[1][:150].mean()) / 2)
    ours = (np.expm1(made[0]["agent"][50:]) + np.expm1(made[1]["agent"][:150])) / 2
    theirs = (np.expm1(equal[0][50:]) + np.expm1(equal[1][:150])) / 2
    sharpe = [x.mean() / x.std(ddof=1) * 252**0.5 for x in (ours, theirs)]
    assert found["sharpe"][0] == pytest.approx(sharpe[0] - sharpe[1])


def test_only_universes_whose_interval_excludes_zero_count_as_below_or_above(pooling):
    rng = np.random.default_rng(2)
    equal = rng.normal(0, 0.01, 500)
    noise = rng.normal(0, 0.002, 500)
    noise -= noise.mean()
    more = {"names": ["A"], "strengths": [0.0, 0.5], "memorising": {}, "all_the_way": {}}
    drifts = {"far below": -0.002, "a little below": -0.00001, "above": 0.002, "far above": 0.004}
    found = pooling["summary"]({k: {**universe(equal + noise + x, equal), **more} for k, x in drifts.items()}, 252)
    assert (found["share_below_equal_weight"], found["share_above_equal_weight"]) == (0.25, 0.5)
    assert (found["folds"], found["share_of_folds_that_abstained"]) == (8, 0.5)


def test_equal_draws_are_refused_because_one_would_count_twice(script, tiny_longer, tmp_path):
    with pytest.raises(script["UserError"], match="Two draws have the same names"):
        script["main"]([str(tiny_longer), "--draws", "7", "--sizes", "3", "3", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_draws_of_several_configurations_are_refused(script, tiny_longer, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(tiny_longer.read_text())
    with pytest.raises(script["UserError"], match="--draws takes one broad configuration, and 2 were named"):
        script["main"]([str(tiny_longer), str(other), "--draws", "2", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
