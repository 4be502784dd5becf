"""Where a result comes from."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

import tactician.training.provenance as module
from tactician.config import load_config
from tactician.record.registration import Registration
from tactician.training.counting import configuration_hash
from tactician.training.provenance import commit, installed, provenance
from tests.markets import random_market


def git(folder, *words):
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *author, "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder in which the code seems to lie."""
    file = tmp_path / "src/tactician/training/provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("# the code\n")
    monkeypatch.setattr(module, "__file__", str(file))
    return tmp_path


def test_code_outside_a_repository_has_no_commit(code):
    assert commit() is None


def test_code_installed_inside_another_repository_has_no_commit_of_that_one(code, monkeypatch):
    """Such as a virtual environment in a user's own repository."""
    git(code, "init", "-q")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "theirs")
    inner = code / "venv/lib/site-packages/tactician/training"
    inner.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(inner / "provenance.py"))
    assert commit() is None


def test_the_commit_is_named_and_changes_since_are_marked(code):
    git(code, "init", "-q")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "first")
    assert commit() == git(code, "rev-parse", "HEAD") and len(commit()) == 40
    (code / "notes.txt").write_text("not of the code")
    assert not commit().endswith("+")
    (code / "src/tactician/training/provenance.py").write_text("# changed\n")
    assert commit() == git(code, "rev-parse", "HEAD") + "+"


def test_a_repository_that_git_cannot_read_has_no_commit(code, monkeypatch):
    (code / ".git").write_text("nonsense")
    assert commit() is None
    git(code / "src", "init", "-q")
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_versions_of_what_is_there_alone():
    assert installed(("numpy", "no-such-package")) == {"numpy": version("numpy")}
    assert list(installed(("no-such-package",))) == []


def test_it_says_everything_that_is_needed_to_make_the_result_again(tiny):
    config = load_config(tiny)
    market = replace(random_market(), built_from={"source": "embedded"}, findings=("one",))
    told = provenance(
        config,
        market,
        registration=Registration("sha", "2020-01-01T00:00:00Z", Path("registration.json")),
        looks=2,
        trials=None,
        hindsight=True,
        checkpoint=Path("run/model_best.pt"),
    )
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["registration"], told["registered_at"]) == ("sha", "2020-01-01T00:00:00Z")
    assert (told["looks"], told["trials"], told["hindsight"]) == (2, None, True)
    assert (told["source"], told["data_fingerprint"], told["data_findings"]) == ("embedded", "random", ["one"])
    assert told["symbols"] == list(market.symbols) and told["checkpoint"] == "run/model_best.pt"
    assert told["configuration"] == config.model_dump(mode="json")
    assert told["configuration_sha256"] == configuration_hash(config)
    assert told["python"] == ".".join(map(str, sys.version_info[:3])) and "torch" in told and "tactician" in told
    made = datetime.strptime(told["created"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=1)


def test_what_is_not_there_is_none(tiny):
    told = provenance(load_config(tiny), random_market(), registration=None, looks=None, trials=None, hindsight=False)
    for key in ("registration", "registered_at", "looks", "trials", "checkpoint", "source"):
        assert told[key] is None, key
