"""A model that is asked about a universe that it was never trained on: it decides, and says so first."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

import tactician
from tactician.cli import main
from tactician.commands import clock
from tactician.environment import OLDER
from tactician.storage import save_tensors
from tactician.training.checkpoint import read_checkpoint
from tests.conftest import synthetic_bars
from tests.trained import configuration, restless, train, trained

NAMES = ("AAA", "XXX", "YYY")
LAST = "2013-12-31"
NEVER = "the model was never trained on this universe: 1 of its 3 names are among the 4 of the training."


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> Path:
    return restless(trained(tiny, tmp_path_factory.mktemp("elsewhere")))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the bars of another universe, calm and wild, and those of the model's own."""
    folder = tmp_path_factory.mktemp("other")
    bars = synthetic_bars(NAMES, last=LAST, seed=7)
    bars.to_csv(folder / "other.csv", index=False)
    synthetic_bars(last=LAST).to_csv(folder / "own.csv", index=False)
    synthetic_bars((*NAMES, "ZZZ"), last=LAST, seed=8).to_csv(folder / "four.csv", index=False)
    late = (bars["date"] > "2013-01-01").to_numpy()
    swings = 1 + 0.3 * (bars["date"].dt.dayofyear[late] % 3 - 1).to_numpy()
    bars.loc[late, ["open", "high", "low", "close", "adj_close"]] *= swings[:, None]
    bars.to_csv(folder / "wild.csv", index=False)
    return folder


@pytest.fixture
def other(tiny, place, tmp_path):
    """Write a configuration of another universe."""

    def write(bars: str = "other.csv", **changes) -> Path:
        universe = {"first": [*NAMES[:1], "CASH"], "second": list(NAMES[1:])}
        path = tmp_path / "other.yaml"
        settings = yaml.safe_load(tiny.read_text()) | {
            "universe": universe,
            "bars": str(place / bars),
            "cache_path": str(tmp_path / "other.pt"),
        }
        path.write_text(yaml.safe_dump(settings | changes))
        return path

    return write


@pytest.fixture
def older(model, tmp_path) -> Path:
    """The model as versions wrote it that kept neither distances nor ranges."""
    content = read_checkpoint(model)
    save_tensors({k: v for k, v in content.items() if k not in ("training_days", "feature_range")}, tmp_path / "old.pt")
    return tmp_path / "old.pt"


@pytest.fixture
def words(monkeypatch, tmp_path):
    """The words of a signal for 2014-01-02."""
    monkeypatch.setattr(clock, "now", lambda: datetime(2014, 1, 2, 20, 30, tzinfo=UTC))

    def of(model: Path, *more: object) -> list[str]:
        return ["signal", "--checkpoint", str(model), "--store", str(tmp_path / "store"), *map(str, more)]

    return of


@pytest.fixture
def said(capsys):
    """What a command prints, as JSON."""

    def run(words: list[str]) -> dict:
        assert main([*words, "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return json.loads(captured.out)

    return run


# signal


def test_a_signal_is_given_for_a_universe_that_was_never_trained_on(model, other, words, said):
    answer = said(words(model, "--config", other()))
    assert {order["symbol"] for order in answer["orders"]} <= set(NAMES) and answer["orders"]
    assert set(answer["weights"]) == {*NAMES, "CASH"}
    assert answer["universe"] == {"trained_on": False, "names": 3, "names_in_common": 1, "names_in_training": 4}
    distance = answer["distance"]
    assert 0 <= distance["farther_than"] <= 1 and distance["training_sessions"] > 300
    assert distance["note"] is None and len(distance["largest"]) == 3


def test_the_first_lines_of_the_sheet_say_that_it_was_never_trained_on(model, other, words, capsys):
    assert main(words(model, "--config", other())) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "... done" not in line]
    assert lines[1] == f"Warning: {NEVER}"
    assert "this day lies farther from the centre of the training than" in lines[2]


def test_the_models_own_universe_is_no_other_one_whatever_the_order_of_its_names(model, other, words, said, capsys):
    groups = {"first": ["DDD", "CCC"], "second": ["BBB", "AAA", "CASH"]}
    path = other("own.csv", universe=groups)
    assert said(words(model, "--config", path))["universe"]["trained_on"]
    assert main(words(model, "--config", path)) == 0
    out = capsys.readouterr().out
    assert "never trained" not in out and "Distance: this day lies" in out


def test_a_wild_universe_is_farther_than_a_calm_one_and_told_loudly(model, other, words, said, capsys):
    calm, wild = (said(words(model, "--config", other(bars)))["distance"] for bars in ("other.csv", "wild.csv"))
    assert wild["value"] > 1.5 * calm["value"] and wild["farther_than"] == 1.0 > calm["farther_than"]
    assert main(words(model, "--config", other("wild.csv"))) == 0
    out = capsys.readouterr().out
    assert "Warning: far from the training. Distance: this day lies farther" in out and "than all of its days" in out


def test_an_older_model_decides_and_says_what_is_not_known(older, other, words, said, capsys):
    answer = said(words(older, "--config", other()))
    assert answer["distance"]["farther_than"] is None and answer["distance"]["note"] == OLDER
    assert answer["distance"]["value"] > 0
    # The range of the features cannot be taken from the bars of another universe.
    assert answer["outside_training"] is None and answer["outside_training_share"] is None
    assert main(words(older, "--config", other())) == 0
    out = capsys.readouterr().out
    assert out.count(OLDER) == 2 and f"Warning: {NEVER}" in out


def test_an_older_model_still_knows_the_range_of_its_own_features_from_its_own_bars(older, place, words, said):
    answer = said(words(older, "--bars", place / "own.csv"))
    assert answer["outside_training"] is not None and answer["distance"]["note"] == OLDER


def test_python_gets_distance_and_names_too(model, other, words, said, tmp_path):
    asked = said(words(model, "--config", other()))
    sheet = tactician.signal(model, tactician.load_config(other()), store=tmp_path / "store")
    assert sheet.as_dict()["distance"] == asked["distance"]
    assert sheet.advice.names.is_other and sheet.advice.distance.percent == round(
        100 * asked["distance"]["farther_than"]
    )
    assert repr(sheet).startswith(f"Warning: {NEVER}")


# What is refused


def test_other_regimes_are_refused_before_any_bar_is_read(model, other, words, refused, tmp_path):
    path = other("nowhere.csv", regimes="static")
    assert "set 'regimes' to factor, as it was trained; any universe will do" in refused(
        *words(model, "--config", path)
    )
    assert not (tmp_path / "store").exists()


def test_where_groups_make_the_regimes_their_names_are_told_and_suffice(tiny, tmp_path, other, words, refused, said):
    pairs = {"first": ["AAA", "BBB"], "second": ["CCC", "DDD", "CASH"]}
    config = configuration(tiny, tmp_path / "grouped", regimes="static", universe=pairs)
    assert train(config) == 0
    model = tmp_path / "grouped/run/model_best.pt"
    wrong = other(regimes="static", universe={"one": ["AAA", "XXX"], "two": ["YYY", "ZZZ", "CASH"]})
    sentence = refused(*words(model, "--config", wrong))
    assert "set 'regimes' and the groups of 'universe' as it was trained (static; groups: first, second)" in sentence
    same = other("four.csv", regimes="static", universe={"first": ["XXX", "YYY"], "second": ["AAA", "ZZZ"]})
    assert said(words(model, "--config", same))["universe"]["names_in_common"] == 1


def test_bars_of_other_names_without_a_configuration_are_refused_with_the_remedy(model, place, words, refused):
    said = refused(*words(model, "--bars", place / "other.csv"))
    assert (
        "has no bars of BBB, CCC, DDD; it has: AAA, XXX, YYY. Another universe is named in a file for --config" in said
    )


def test_real_trading_takes_no_other_universe(model, place, other, words, refused, tmp_path):
    """Neither by a flag, nor by a key of the account, nor by bars of other names."""
    words(model)  # sets the clock
    account = {"account": "SIM001", "checkpoint": str(model), "bars": str(place / "other.csv")}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(account))
    assert "has no bars of BBB, CCC, DDD" in refused("trade", "run", "--account", str(path))
    assert "--config" in refused("trade", "run", "--account", str(path), "--config", str(other()))
    path.write_text(yaml.safe_dump(account | {"universe": ["AAA", "XXX", "YYY"]}))
    assert "universe" in refused("trade", "run", "--account", str(path))


def test_python_is_told_of_other_regimes_as_well(model, other):
    with pytest.raises(tactician.UserError, match="set 'regimes' to factor, as it was trained"):
        tactician.signal(model, tactician.load_config(other(regimes="static")))


# evaluate


@pytest.fixture
def cached(other) -> Path:
    path = other()
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


def test_a_judgement_on_another_universe_says_so_in_its_verdict(model, cached, tmp_path, capsys):
    words = ["evaluate", "--checkpoint", str(model), "--config", str(cached), "--output", str(tmp_path / "out")]
    capsys.readouterr()
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"Warning: {NEVER}"
    (verdict,) = [line for line in lines if "Verdict:" in line]
    assert verdict.endswith("the model was never trained on this universe (1 of its 3 names in common).")
    document = json.loads((tmp_path / "out/report.json").read_text())
    assert document["universe"]["trained_on"] is False
    assert document["verdict"]["text"].endswith("(1 of its 3 names in common).")
    assert document["verdict"]["notes"][0].endswith("are among the 4 of the training.")
    assert document["verdict"]["notes"][1].startswith("Distance: the median day of this range lies farther")
    assert not any("fingerprint" in note for note in document["verdict"]["notes"])
    distance = document["distance"]
    assert distance["median"]["value"] < distance["p95"]["value"] and distance["training_sessions"] > 300
    assert "never trained on this universe" in (tmp_path / "out/report.html").read_text()


def test_a_judgement_on_the_own_universe_carries_the_distance_and_no_note(model, tmp_path, said):
    document = said(["evaluate", "--checkpoint", str(model), "--output", str(tmp_path / "out")])
    assert document["universe"]["trained_on"] and document["distance"]["median"]["farther_than"] < 1
    assert "never trained" not in json.dumps(document["verdict"])


def test_an_older_model_is_judged_and_says_what_is_not_known(older, cached, tmp_path):
    config = tactician.load_config(cached)
    result = tactician.evaluate(older, config, split="validation", output=tmp_path / "out")
    assert "never trained on this universe" in result.verdict and any(OLDER in note for note in result.notes)


def test_the_report_at_the_end_of_a_training_knows_its_own_universe(model):
    document = json.loads((model.parent / "report.json").read_text())
    assert document["universe"] == {"trained_on": True, "names": 4, "names_in_common": 4, "names_in_training": 4}
    assert document["distance"]["note"] is None
