"""Training without some names: it never sees them, the judge judges all, and the memorising gap tells them apart."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.commands.announcement import plan, told_markets
from tactician.config import load_config
from tactician.environment import (
    MarketTensors,
    draw_held_out,
    fit_normaliser,
    load_cached_market,
    normalise,
)
from tactician.errors import UserError
from tactician.evaluation import evaluate
from tactician.training.checkpoint import load_policy, read_checkpoint
from tactician.training.deployed import deployed_gap
from tactician.training.held_out import PLACES, growth_on_held_out_names
from tactician.training.markets import make_environment
from tactician.training.resume import refuse_other_names
from tests.conftest import synthetic_bars
from tests.studies.test_ensemble_run import Here
from tests.studies.walk_forwards import train_here
from tests.training.test_resume_is_bit_exact import differences, run, state
from tests.training.test_training_on_many_markets import setup_of, weights_after

NAMES = tuple(f"N{k}" for k in range(8))
KEPT = {"training", "held_out_days", "validation", "test"}
SEEN = ("features", "returns", "regime_weights", "factor_ranks", "vol_daily")


@pytest.fixture(scope="module")
def config_file(tiny, tmp_path_factory) -> Path:
    """Eight names, three of which are held out, and the cache."""
    folder = tmp_path_factory.mktemp("names")
    synthetic_bars(NAMES, "2010-01-04", "2013-06-28", seed=3).to_parquet(folder / "bars.parquet")
    changes = {
        "bars": str(folder / "bars.parquet"),
        "universe": {"first": list(NAMES[:4]), "second": list(NAMES[4:])},
        "held_out_names": 3,
        "cache_path": str(folder / "cache.pt"),
    }
    path = folder / "names.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), **changes}))
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert run(config_file, folder, "--iterations", "4") == 0
    return folder


def spoilt(market: MarketTensors, names: tuple[str, ...] = SEEN) -> MarketTensors:
    """A market with other numbers in all that a decision sees or earns."""
    changed = {name: getattr(market, name).roll(7, 0) for name in names}
    return replace(market, **changed)


def test_training_depends_on_the_remaining_names_alone(config_file):
    market = load_cached_market(load_config(config_file), "unused")
    assert market.held_out is not None and market.remaining is not None
    other = replace(spoilt(market), held_out=spoilt(market.held_out))
    before, after = (setup_of(config_file, each) for each in (market, other))
    assert differences(before.normaliser, after.normaliser) == [] and before.value_scale == after.value_scale
    assert differences(before.feature_range, after.feature_range) == []
    assert differences(before.training_days.as_dict(), after.training_days.as_dict()) == []
    assert differences(weights_after(before), weights_after(after)) == []
    # The test of the test: the remaining names are seen.
    seen = setup_of(config_file, replace(market, remaining=spoilt(market.remaining)))
    assert differences(weights_after(before), weights_after(seen)) and before.value_scale != seen.value_scale


@pytest.mark.parametrize("more", [{}, {"bootstrap_markets": 2}])
def test_windows_trade_the_remaining_names_and_the_judge_all(config_file, more):
    setup, names = setup_of(config_file, **more), draw_held_out(load_config(config_file))
    assert setup.environment.market.symbols == NAMES and len(names) == 3
    assert set(setup.training_environment.market.symbols) == set(NAMES) - set(names)
    assert len(setup.training_environment.markets) == (3 if more else 0)
    assert plan(setup)["held_out_names"] == list(names)
    assert told_markets(setup).startswith(
        "3 markets in training: the judged one without the held-out names" if more else ""
    )
    market = load_cached_market(load_config(config_file), "unused")
    assert market.remaining is not None
    mean, std = fit_normaliser(market.remaining, setup.splits["train"])
    assert torch.equal(mean, setup.normaliser[0]) and torch.equal(std, setup.normaliser[1])


def test_the_end_of_a_run_tells_the_gap_on_held_out_names(config_file, finished):
    told = json.loads((finished / "report.json").read_text())["memorising"]
    assert set(told) == KEPT | set(PLACES.values())
    # Each figure again, from an environment that knows nothing but the names in question.
    config = load_config(config_file)
    market, loaded = load_cached_market(config, "unused"), load_policy(finished / "model_best.pt")
    moments = (loaded.content["normaliser"]["mean"], loaded.content["normaliser"]["std"])
    expected = {}
    for place, part in (("training", market.remaining), ("held_out_names", market.held_out)):
        assert part is not None
        alone = normalise(part, *moments)
        env = make_environment(config, alone, alone.rows(None, config.train_until))
        expected[place] = deployed_gap(env, loaded.policy, config.seed).deployed.beyond_equal_weight
        if place != "training":
            ranges = {
                "validation": alone.rows(config.train_until, config.validation_until),
                "test": alone.rows(config.validation_until, None),
            }
            for split, rows in ranges.items():
                expected[PLACES[split]] = evaluate(env, loaded.policy, rows).growth_beyond_equal_weight
    assert told == pytest.approx({**{key: told[key] for key in KEPT}, **expected}, abs=1e-12)
    assert len({round(x, 6) for x in told.values() if x is not None}) == 6


def test_a_judgement_later_tells_the_same_gap_and_which_names_were_held_out(finished, tmp_path, capsys):
    words = ["evaluate", "--checkpoint", str(finished / "model_best.pt")]
    assert main([*words, "--output", str(tmp_path / "again")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    document = json.loads((tmp_path / "again" / "report.json").read_text())
    assert document["memorising"] == json.loads((finished / "report.json").read_text())["memorising"]
    assert "Training never saw 3 of the 8 names, which are held out: " in said
    assert "held-out names on days of training " in said and "the model was never trained" not in said
    told = document["universe"]
    assert told["trained_on"] and told["names"] == 8 and told["names_in_common"] == told["names_in_training"] == 5
    page = (tmp_path / "again" / "report.html").read_text()
    assert page.count("Held-out names, ") == 3
    assert main([*words, "--split", "validation", "--output", str(tmp_path / "validation")]) == 0
    document = json.loads((tmp_path / "validation" / "report.json").read_text())
    assert set(document["memorising"]) == KEPT | set(PLACES.values()) - {PLACES["test"]}


def test_a_cache_of_other_held_out_names_is_refused_by_a_judgement(config_file, finished, tmp_path, refused):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(config_file.read_text()), "cache_path": str(tmp_path / "own.pt")}))
    assert main(["build-cache", "--config", str(path), "--held-out-names", "0"]) == 0
    words = ("evaluate", "--checkpoint", str(finished / "model_best.pt"), "--config", str(path))
    assert "has other held-out names than the model; make it anew with: tactician build-cache" in refused(*words)
    assert main(["build-cache", "--config", str(path)]) == 0
    assert main([*words, "--output", str(tmp_path / "judged")]) == 0


def test_another_universe_has_no_held_out_names(config_file, finished, tmp_path, capsys):
    few = {"universe": {"all": list(NAMES[:4])}, "cache_path": str(tmp_path / "few.pt"), "held_out_names": 0}
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(config_file.read_text()), **few}))
    assert main(["build-cache", "--config", str(path)]) == 0
    words = ["evaluate", "--checkpoint", str(finished / "model_best.pt"), "--config", str(path)]
    assert main([*words, "--output", str(tmp_path / "few")]) == 0
    document = json.loads((tmp_path / "few" / "report.json").read_text())
    assert set(document["memorising"]) == KEPT
    trained = set(NAMES) - set(draw_held_out(load_config(config_file)))
    assert document["universe"]["names_in_common"] == len(trained & set(NAMES[:4]))


def test_a_range_without_the_names_has_no_figure(config_file, finished):
    setup = setup_of(config_file)
    market, policy = setup.environment.market, load_policy(finished / "model_best.pt").policy
    assert market.held_out is not None
    until = setup.splits["validation"].stop
    cut = {f.name: x[:until] for f in fields(market) if torch.is_tensor(x := getattr(market.held_out, f.name))}
    env = replace(setup.environment, market=replace(market, held_out=replace(market.held_out, **cut)))
    ranges = {name: setup.splits[name] for name in ("validation", "test")}
    found = growth_on_held_out_names(env, policy, ranges, 0)
    assert found[PLACES["test"]] is None and None not in (found[PLACES["train"]], found[PLACES["validation"]])
    short = replace(env.market.held_out, **{name: x[:20] for name, x in cut.items()})
    raw = load_cached_market(load_config(config_file), "unused")
    with pytest.raises(UserError, match=r"held-out names .* have fewer than 32 sessions in the training range; change"):
        setup_of(config_file, replace(raw, held_out=short))


@pytest.mark.parametrize("changes", [{}, {"bootstrap_markets": 1, "dropout": 0.2}])
def test_n_and_resume_and_n_equal_2n(config_file, tmp_path, changes):
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(config_file.read_text()), **changes}))
    assert run(path, tmp_path / "whole", "--iterations", "4") == 0
    assert run(path, tmp_path / "halves", "--iterations", "2") == 0
    assert run(path, tmp_path / "halves", "--iterations", "4", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert differences(whole, halves) == []


def test_a_run_is_not_resumed_with_other_held_out_names(config_file, finished, tmp_path, refused):
    config, path = load_config(config_file), finished / "model_final.pt"
    content = read_checkpoint(path)
    assert set(content["seen"]["symbols"]) == set(NAMES) - set(draw_held_out(config))
    refuse_other_names(config, path, content)
    for changes, said in (
        ({"held_out_names": 4}, "was trained on"),
        ({"held_out_seed": 5}, "was trained on"),
        ({"held_out_names": 0}, "holds out"),
        ({"held_out_names": 0, "universe": {"all": draw_held_out(config)}}, "holds out"),
    ):
        with pytest.raises(UserError, match=rf"model_final.pt {said} .*; leave held_out_names, held_out_seed"):
            refuse_other_names(config.model_copy(update=changes), path, content)
    elsewhere = config.model_copy(update={"held_out_names": 0, "universe": {"all": ("X", "Y", "Z")}})
    refuse_other_names(elsewhere, path, content)
    with pytest.raises(UserError, match="may have been trained on"):
        refuse_other_names(config, path, {"config": {}})
    # As a user meets it.
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    words = ("train", "--config", str(config_file), "--checkpoint-dir", str(folder), "--resume", "--iterations", "6")
    assert "holds out N" in refused(*words, "--held-out-names", "0")
    more = (*words, "--held-out-names", "4", "--cache-path", str(tmp_path / "four.pt"))
    assert main(["build-cache", "--config", str(config_file), *more[-4:]]) == 0
    assert "was trained on N" in refused(*more)


def test_a_market_that_holds_out_other_names_is_refused(config_file):
    market = load_cached_market(load_config(config_file), "unused")
    for changes in ({"held_out_names": 0}, {"held_out_names": 4}):
        with pytest.raises(UserError, match=r"The market holds out N\d, N\d, N\d, and held_out_names asks for"):
            setup_of(config_file, market, **changes)
    with pytest.raises(UserError, match="The market holds out none, and"):
        setup_of(config_file, replace(market, held_out=None, remaining=None))


def test_members_of_an_ensemble_hold_out_the_same_names(config_file, tmp_path, monkeypatch):
    monkeypatch.setattr("tactician.studies.ensemble.member_engine", lambda setup: Here())
    assert run(config_file, tmp_path / "run", "--iterations", "2", "--members", "3") == 0
    told = json.loads((tmp_path / "run" / "report.json").read_text())["memorising"]
    assert set(told) == KEPT | set(PLACES.values())
    for member in ("member_1", "member_2", "member_3"):
        seen = read_checkpoint(tmp_path / "run" / member / "model_final.pt")["seen"]["symbols"]
        assert set(seen) == set(NAMES) - set(draw_held_out(load_config(config_file)))


@pytest.mark.parametrize("seeds", ["1", "3"])
def test_folds_of_a_walk_forward_tell_it_and_their_mean(config_file, tmp_path, monkeypatch, seeds):
    train_here(monkeypatch)
    monkeypatch.setattr("tactician.environment.ranges.LOOK_BACK", 20)  # three members fit into the short history
    words = ["walk-forward", "--config", str(config_file), "--folds", "2", "--purge", "20", "--test-from", "2013-01-02"]
    words += ["--seeds", seeds, "--iterations", "2", "--output", str(tmp_path / "study")]
    assert main(words) == 0
    document = json.loads((tmp_path / "study" / "report.json").read_text())
    folds = [fold["memorising"] for fold in document["folds"]]
    for place in PLACES.values():
        assert document["memorising"][place] == pytest.approx(sum(fold[place] for fold in folds) / 2, abs=1e-12)
        assert folds[0][place] != folds[1][place]
