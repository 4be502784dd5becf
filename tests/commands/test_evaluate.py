"""``tactician evaluate`` as a user meets it: what it prints, and what it refuses without leaving anything half-written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tactician.cli import main
from tactician.record.trials import trials_beside
from tactician.storage import save_tensors
from tactician.training.checkpoint import read_checkpoint
from tests.trained import configuration, trained


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory) -> Path:
    return trained(tiny, tmp_path_factory.mktemp("evaluate"))


@pytest.fixture
def model(first, tmp_path) -> Path:
    """A copy of the run's folder; its market cache is that of all tests here."""
    shutil.copytree(first.parent, tmp_path / "run")
    return tmp_path / "run/model_best.pt"


@pytest.fixture
def config(tiny, first, tmp_path):
    """Write a configuration that differs from the model's."""

    def write(**changes) -> str:
        return str(configuration(tiny, tmp_path / "other", **changes))

    return write


@pytest.fixture
def untouched(model, refused):
    """Refuse `evaluate`, and look whether anything was written: a report, a registration, or a look."""

    def run(*words: str) -> str:
        def files() -> dict:
            ledgers = [*model.parents[1].rglob("*.jsonl"), trials_beside(Path(cache))]
            there = [path for path in (*model.parents[1].rglob("*"), *ledgers) if path.is_file()]
            return {path: path.read_bytes() for path in there}

        cache = read_checkpoint(model)["config"]["cache_path"]
        before = files()
        said = refused("evaluate", *words)
        assert files() == before
        return said

    return run


def changed(model: Path, **changes) -> Path:
    """The model's file with another content."""
    content = read_checkpoint(model)
    content["config"] |= changes.pop("config", {})
    save_tensors({**content, **changes}, model)
    return model


def strict(text: str) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# What it does


def test_help_names_its_flags(capsys):
    assert main(["evaluate", "--help"]) == 0
    said = capsys.readouterr().out
    for flag in ("--checkpoint", "--output", "--split", "--config", "--allow-contaminated", "--json"):
        assert flag in said


def test_it_is_a_script_too():
    words = [sys.executable, "src/apps/evaluate.py", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "--checkpoint" in done.stdout and "--allow-contaminated" in done.stdout


def test_it_prints_a_table_the_verdict_and_where_the_report_is(model, tmp_path, capsys):
    assert main(["evaluate", "--checkpoint", str(model), "--output", str(tmp_path / "a/b")]) == 0
    out = capsys.readouterr().out
    said = " ".join(out.split())
    assert "Registered before the range is read: " in said and "Test range 2013-04-01 to 2013-06-27" in said
    assert "Verdict: the agent is " in said and "This test range was looked at" in said
    assert f"Report: {tmp_path / 'a/b/report.html'} (the same numbers: report.json; daily returns: returns.csv)" in said
    document = strict((tmp_path / "a/b/report.json").read_text())
    assert document["verdict"]["text"].removeprefix("The agent is ")[:-1] in said
    assert {p.name for p in (tmp_path / "a/b").iterdir()} == {
        "report.html",
        "report.json",
        "returns.csv",
        "registration.json",
    }
    assert document["provenance"]["checkpoint"] == str(model) and document["run"] is None


def test_json_is_alone_on_the_output_and_strict(model, capsys):
    assert main(["evaluate", "--checkpoint", str(model), "--json"]) == 0
    captured = capsys.readouterr()
    document = strict(captured.out)
    assert document["format"] == "tactician report" and captured.err == ""
    assert document == strict((model.parent / "report_test/report.json").read_text())


def test_another_range_of_a_configuration_is_judged(model, config, capsys):
    path = config(validation_until="2013-05-31")
    assert main(["evaluate", "--checkpoint", str(model), "--config", path, "--json"]) == 0
    assert strict(capsys.readouterr().out)["range"]["first"] == "2013-06-03"


def test_other_costs_of_a_configuration_count(model, config, capsys):
    words = ["evaluate", "--checkpoint", str(model), "--json", "--split", "validation"]
    paid = []
    for more in ([], ["--config", config(spread=0.002)]):
        assert main([*words, *more]) == 0
        costs = strict(capsys.readouterr().out)["cost_components"]
        paid.append({part["name"]: part["annual"] for part in costs})
    assert paid[1]["spread"] > 5 * paid[0]["spread"] > 0


# What it refuses


def test_a_missing_flag_or_file_is_told(untouched):
    assert "--checkpoint is missing; name a model" in untouched()
    assert "There is no checkpoint at nowhere.pt; train a model first" in untouched("--checkpoint", "nowhere.pt")


def test_a_file_that_is_no_checkpoint_is_told(untouched, tmp_path, first):
    wrong = tmp_path / "model_wrong.pt"
    wrong.write_text("hello")
    assert f"{wrong} is damaged or no checkpoint of this version" in untouched("--checkpoint", str(wrong))
    cache = first.parents[1] / "cache.pt"
    assert f"{cache} is damaged or no checkpoint" in untouched("--checkpoint", str(cache))
    assert "There is no checkpoint at" in untouched("--checkpoint", str(tmp_path))


def test_an_unknown_range_or_flag_is_told(untouched, model):
    said = untouched("--checkpoint", str(model), "--split", "training")
    assert "--split" in said and "test" in said and "validation" in said
    assert "--chekpoint" in untouched("--chekpoint", str(model))


def test_another_regime_table_is_refused(untouched, model, config):
    said = untouched("--checkpoint", str(model), "--config", config(regimes="static"))
    assert str(model) in said and "regime" in said and "as it was trained" in said


def test_another_universe_is_refused(untouched, model, config):
    path = config(universe={"first": ["AAA", "BBB"], "second": ["CCC", "CASH"]})
    said = untouched("--checkpoint", str(model), "--config", path)
    assert "was built with universe = AAA BBB CCC DDD" in said and "tactician build-cache" in said


def test_other_groups_of_the_same_assets_are_refused_where_they_make_the_regimes(tiny, untouched, model, config):
    """The factor table does not read the groups, so they may differ there."""
    groups = {"a": ["AAA"], "b": ["BBB", "CCC"], "c": ["DDD", "CASH"]}
    assert "regime" in untouched("--checkpoint", str(model), "--config", config(universe=groups, regimes="static"))
    assert main(["evaluate", "--checkpoint", str(model), "--config", config(universe=groups), "--json"]) == 0


def test_other_observations_are_refused(untouched, model):
    names = list(read_checkpoint(model)["observation_names"])
    other = [*names[:3], "weather", *names[4:]]
    said = untouched("--checkpoint", str(changed(model, observation_names=other)))
    assert f"observes weather where this version observes {names[3]}" in said
    said = untouched("--checkpoint", str(changed(model, observation_names=names[:-1])))
    assert f"observes nothing where this version observes {names[-1]}" in said


def test_a_file_without_names_is_refused_in_a_sentence(untouched, model):
    content = read_checkpoint(model)
    for key in ("regime_names", "observation_names"):
        save_tensors({name: value for name, value in content.items() if name != key}, model)
        said = untouched("--checkpoint", str(model))
        assert f"{model} does not name its {key.split('_')[0]}s; resume training from it once" in said


LATE = {"train_until": "2012-06-29", "validation_until": "2012-12-31"}
"""The test range of 2013 holds the sessions on which the model was validated."""


def test_a_range_that_the_model_has_seen_is_refused(untouched, model, config):
    said = untouched("--checkpoint", str(model), "--config", config(**LATE))
    assert "The test range 2013-01-02 to 2013-06-28 is not held out" in said
    assert f"{model} has seen data from 2011-04-01 to 2013-03-28" in said and "--allow-contaminated" in said


def test_a_range_that_the_model_has_seen_is_marked_if_it_is_allowed(model, config, capsys):
    words = ["evaluate", "--checkpoint", str(model), "--config", config(**LATE), "--allow-contaminated"]
    assert main(words) == 0
    assert "CONTAMINATED" in capsys.readouterr().out
    document = strict((model.parent / "report_test/report.json").read_text())
    assert "CONTAMINATED" in document["verdict"]["text"] and "CONTAMINATED" in document["verdict"]["caveat"]
    assert "CONTAMINATED" in (model.parent / "report_test/report.html").read_text()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_read(untouched, model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")

    def never(*arguments):
        raise AssertionError("the range was read")

    monkeypatch.setattr("tactician.training.reporting.judge", never)
    for folder in (tmp_path / "file", tmp_path / "file/deeper"):
        said = untouched("--checkpoint", str(model), "--output", str(folder))
        assert f"Cannot write into {folder}" in said and "choose another folder" in said


def test_a_missing_market_cache_is_told_with_a_remedy(untouched, model, tmp_path, tiny):
    gone = changed(model, config={"cache_path": str(tmp_path / "gone.pt")})
    said = untouched("--checkpoint", str(gone))
    assert f"There is no market cache at {tmp_path / 'gone.pt'}" in said
    assert "make it with: tactician build-cache" in said
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), "cache_path": str(tmp_path / "gone.pt")}))
    said = untouched("--checkpoint", str(model), "--config", str(other))
    assert f"tactician build-cache --config {other}" in said


def test_a_configuration_that_is_not_there_is_told(untouched, model):
    assert "nowhere.yaml" in untouched("--checkpoint", str(model), "--config", "nowhere.yaml")


def test_a_market_without_a_result_leaves_no_report_and_is_no_look(model, refused, monkeypatch):
    from tactician.evaluation import NotFinite

    def broken(*arguments):
        raise NotFinite("the growth of agent is not a finite number on 2013-08-01")

    monkeypatch.setattr("tactician.training.reporting.judge", broken)
    said = refused("evaluate", "--checkpoint", str(model))
    assert "is not a finite number on 2013-08-01" in said
    assert [path.name for path in (model.parent / "report_test").iterdir()] == ["registration.json"]
    assert read_checkpoint(model)["seen"]["looks"][0]["count"] == 1


def test_ctrl_c_ends_it(model, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tactician.training.reporting.judge", interrupted)
    assert main(["evaluate", "--checkpoint", str(model)]) == 130
    assert capsys.readouterr().err.strip() == "tactician evaluate: interrupted."
