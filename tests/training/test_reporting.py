"""A finished run is judged and reported: registered first, counted as a look, written as files that agree."""

import json
import math
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import tactician.training.reporting as reporting
from tactician.cli import main
from tactician.config import load_config
from tactician.record.registration import verify
from tactician.record.trials import read, trials_beside
from tactician.storage import checksum, save_tensors
from tactician.training.checkpoint import load_policy, read_checkpoint
from tactician.training.saved import judged_settings, settings_of
from tests.trained import configuration, train, trained

FILES = {"report.html", "report.json", "returns.csv", "registration.json"}


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory) -> Path:
    return trained(tiny, tmp_path_factory.mktemp("reporting"))


@pytest.fixture
def model(first, tmp_path) -> Path:
    """A copy whose cache, ledger and models a test may change."""
    shutil.copytree(first.parents[1], tmp_path / "own")
    for path in (tmp_path / "own/run").glob("model_*.pt"):
        content = read_checkpoint(path)
        content["config"]["cache_path"] = str(tmp_path / "own/cache.pt")
        save_tensors(content, path)
    return tmp_path / "own/run/model_best.pt"


def ledger(model: Path):
    return read(trials_beside(model.parents[1] / "cache.pt"))


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def evaluate(model: Path, *words: str) -> dict:
    assert main(["evaluate", "--checkpoint", str(model), *words]) == 0
    return report(model.parent / "report_test")


def dsr(document: dict) -> dict:
    (found,) = [part for part in document["statistics"] if part["name"] == "dsr"]
    return found


def test_a_run_ends_with_its_report(first):
    assert {path.name for path in first.parent.iterdir()} >= FILES
    document = report(first.parent)
    assert document["kind"] == "evaluation" and document["title"] == "Test range 2013-04-01 to 2013-06-27"
    assert document["subtitle"] == "4 assets, 12 regimes (factor), seed 0"
    assert document["run"]["finished"] and document["run"]["test"]["verdict"] in document["verdict"]["text"]
    html = (first.parent / "report.html").read_text()
    assert document["title"] in html and document["verdict"]["text"].split(" (")[0] in html


def test_the_registration_holds_what_will_be_judged(first):
    registered = verify(first.parent / "registration.json")
    content = json.loads(registered.path.read_text())["content"]
    assert content["model"] == checksum(dict(load_policy(first).policy.state_dict()))
    assert content["folds"] == [
        {
            "train": ["2011-04-01", "2012-12-28"],
            "validation": ["2013-01-02", "2013-03-27"],
            "test": ["2013-04-01", "2013-06-27"],
        }
    ]
    assert content["seeds"] == [0] and content["metric"] == reporting.METRIC
    told = report(first.parent)["provenance"]
    assert content["configuration"] == told["configuration"] and content["data_fingerprint"] == told["data_fingerprint"]
    assert (told["registration"], told["registered_at"]) == (registered.sha256, registered.at)


def test_the_registration_is_on_the_disk_before_the_range_is_read(model, monkeypatch):
    folder, seen = model.parent / "report_test", []
    whole = reporting.judge

    def look_first(*arguments):
        seen.append(verify(folder / "registration.json").sha256)
        assert not (folder / "report.json").exists() and len(looks(model)) == 1
        return whole(*arguments)

    monkeypatch.setattr(reporting, "judge", look_first)
    assert evaluate(model)["provenance"]["registration"] == seen[0]
    assert len(looks(model)) == 2


def looks(model: Path) -> list:
    return [entry for entry in ledger(model).entries if entry.kind == "look"]


def test_trial_and_look_are_in_the_ledger_and_the_look_in_the_models(first):
    entries = ledger(first).entries
    assert [entry.kind for entry in entries] == ["trial", "trial", "look"]
    begun, validated, look = entries
    assert begun.validated is None and validated.validated == ("2013-01-02", "2013-03-27")
    assert look.range == ("2013-04-01", "2013-06-27")
    assert look.registration == verify(first.parent / "registration.json").sha256
    assert len({entry.configuration for entry in entries}) == 1 and {entry.seed for entry in entries} == {0}
    told = report(first.parent)
    assert look.configuration == told["provenance"]["configuration_sha256"]
    agent = told["strategies"][0]["figures"]
    assert look.sharpe_per_session == pytest.approx(agent["sharpe"] / math.sqrt(252))
    assert (told["provenance"]["looks"], told["provenance"]["trials"]) == (1, 1)
    for name in ("model_best.pt", "model_final.pt"):
        assert read_checkpoint(first.parent / name)["seen"]["looks"] == [
            {"first": "2013-04-01", "last": "2013-06-27", "count": 1}
        ]


def test_evaluate_counts_a_second_look_and_gives_the_same_figures(model):
    document, before = evaluate(model), report(model.parent)
    assert (document["provenance"]["looks"], document["provenance"]["trials"]) == (2, 1)
    assert "looked at 2 times" in " ".join(document["verdict"]["notes"])
    assert "looked at" not in " ".join(before["verdict"]["notes"])
    assert read_checkpoint(model)["seen"]["looks"][0]["count"] == 2
    for part in ("curves", "regimes", "trading", "strategies", "delays", "months", "training"):
        assert document[part] == before[part], part
    assert {path.name for path in (model.parent / "report_test").iterdir()} == FILES
    assert report(model.parent) == before  # the run's own report is left alone


def test_another_configuration_is_another_trial_whose_looks_count_here_too(tiny, model):
    config = configuration(tiny, model.parents[1], actor_lr=1e-4)
    assert train(config, "--checkpoint-dir", str(model.parents[1] / "second")) == 0
    second = report(model.parents[1] / "second")
    assert (second["provenance"]["trials"], second["provenance"]["looks"]) == (2, 2)
    assert "looked at 2 times" in second["verdict"]["notes"][0]
    document = evaluate(model)
    assert (document["provenance"]["trials"], document["provenance"]["looks"]) == (2, 3)
    assert dsr(document)["value"] is not None and "2 counted" in dsr(document)["text"]


def test_without_the_ledger_counts_and_deflated_ratio_are_not_available(model):
    path = trials_beside(model.parents[1] / "cache.pt")
    path.unlink()
    # Its own look is written to a new ledger. That ledger was not there when the model was trained.
    document = evaluate(model)
    assert document["provenance"]["trials"] is None and dsr(document)["value"] is None, document["provenance"]
    assert "the number of trials is not known" in dsr(document)["reason"]
    # What the checkpoint remembers still counts.
    assert "looked at 2 times" in " ".join(document["verdict"]["notes"])


def test_what_would_end_a_judgement_is_told_before_the_look(model, tmp_path, refused):
    ledger = trials_beside(model.parents[1] / "cache.pt")
    before = read_checkpoint(model)["seen"]["looks"]
    (tmp_path / "report" / "report.html").mkdir(parents=True)
    said = refused("evaluate", "--checkpoint", str(model), "--output", str(tmp_path / "report"))
    assert "report.html is a folder" in said
    with ledger.open("a") as file:
        file.write("{}\n{}\n")
    said = refused("evaluate", "--checkpoint", str(model), "--output", str(tmp_path / "other"))
    assert "is no entry of a trial ledger" in said
    assert not list((tmp_path / "other").iterdir()) and read_checkpoint(model)["seen"]["looks"] == before


def test_a_file_changes_market_dates_and_costs_but_not_what_the_model_is(model, tmp_path):
    settings = yaml.safe_load((model.parents[1] / "my.yaml").read_text())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**settings, "seed": 9, "hidden_dim": 999, "spread": 0.003}))
    own = settings_of(read_checkpoint(model), model)
    judged = judged_settings(read_checkpoint(model), model, load_config(other))
    assert (judged.seed, judged.hidden_dim, judged.spread) == (own.seed, own.hidden_dim, 0.003)


def test_a_model_on_other_data_is_said_to_be(model, tmp_path):
    settings = yaml.safe_load((model.parents[1] / "my.yaml").read_text())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**settings, "cash_rate": 0.02, "cache_path": str(tmp_path / "cache.pt")}))
    assert main(["build-cache", "--config", str(other)]) == 0
    assert main(["evaluate", "--checkpoint", str(model), "--config", str(other), "--output", str(tmp_path)]) == 0
    said = "trained on other data"
    assert said in " ".join(report(tmp_path)["verdict"]["notes"])
    assert said not in " ".join(report(model.parent)["verdict"]["notes"])


def test_a_damaged_ledger_stops_a_run_before_it_trains(tiny, tmp_path, refused):
    config = configuration(tiny, tmp_path)
    trials_beside(tmp_path / "cache.pt").write_text("{}\n{}\n")
    said = refused("train", "--config", str(config), "-q", "--iterations", "2")
    assert "line 1 is no entry of a trial ledger; put it back as it was" in said
    assert not list((tmp_path / "run").glob("model_*"))


def test_the_look_counts_although_the_report_could_not_be_written(model, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(reporting, "write_report", interrupted)
    assert main(["evaluate", "--checkpoint", str(model)]) == 130
    assert len(looks(model)) == 2 and read_checkpoint(model)["seen"]["looks"][0]["count"] == 2


def test_the_validation_range_is_neither_registered_nor_a_look(model):
    assert main(["evaluate", "--checkpoint", str(model), "--split", "validation"]) == 0
    folder = model.parent / "report_validation"
    assert {path.name for path in folder.iterdir()} == FILES - {"registration.json"}
    document = report(folder)
    assert document["title"] == "Validation range 2013-01-02 to 2013-03-27"
    assert document["provenance"]["registration"] is None
    assert not any("looked at" in note for note in document["verdict"]["notes"])
    assert len(looks(model)) == 1 and read_checkpoint(model)["seen"]["looks"][0]["count"] == 1


# Other packages read the returns


def returns_of(folder: Path) -> pd.Series:
    """As docs/evaluation.md has it."""
    return pd.read_csv(folder / "returns.csv", index_col=0, parse_dates=True).squeeze()


def test_pandas_reads_the_returns_and_their_product_is_the_reports(first):
    returns, document = returns_of(first.parent), report(first.parent)
    assert isinstance(returns, pd.Series) and returns.name == "agent"
    assert isinstance(returns.index, pd.DatetimeIndex) and returns.index.is_monotonic_increasing
    assert [f"{day:%Y-%m-%d}" for day in returns.index] == document["dates"]
    assert document["dates"][-1] == "2013-06-28"
    total = document["run"]["test"]["agent"]["total_return"]
    assert float((1 + returns).prod()) - 1 == pytest.approx(total, abs=5e-7)  # 64 returns in single precision
    months = returns.groupby(returns.index.month).apply(lambda x: (1 + x).prod() - 1)
    assert document["months"]["agent"][0]["returns"][3:6] == pytest.approx(months.tolist(), abs=5e-7)


def test_quantstats_reads_the_returns(first):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        qs = pytest.importorskip("quantstats")
        returns = returns_of(first.parent)
        sharpe, drawdown = float(qs.stats.sharpe(returns)), float(qs.stats.max_drawdown(returns))
    expected = returns.mean() / returns.std() * np.sqrt(252)
    assert sharpe == pytest.approx(float(expected))
    figures = report(first.parent)["strategies"][0]["figures"]
    assert drawdown == pytest.approx(-figures["max_drawdown"], abs=1e-6)
