"""``tactician sweep`` as a user meets it: plan, table, files, mistakes, and going on after a stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tactician.cli import main
from tactician.commands.flags import parse
from tactician.commands.train import TrainArguments
from tactician.config import load_config
from tactician.record.trials import read, trials_beside
from tactician.training.lock import only_writer
from tests.studies.sweeps import Here, made_up

WORDS = ("--keys", "gamma=0.9..0.99", "hidden_dim=8,16", "sharpening=1..8", "--trials", "5", "--timesteps", "300")


@pytest.fixture
def home(tiny, tmp_path) -> Path:
    """A configuration with a cache, and so a trial ledger, of its own."""
    settings = yaml.safe_load(tiny.read_text())
    (tmp_path / "cache.pt").write_bytes(Path(settings["cache_path"]).read_bytes())
    own = {"cache_path": str(tmp_path / "cache.pt"), "checkpoint_dir": str(tmp_path / "run")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**settings, **own}))
    return tmp_path


@pytest.fixture
def engine(monkeypatch) -> Here:
    """Results are made up, in this process."""
    made = Here(work=made_up)
    monkeypatch.setattr("tactician.studies.engine.make_engine", lambda *_, **__: made)
    return made


def words(home: Path, *more: str) -> list[str]:
    return ["sweep", "--config", str(home / "tiny.yaml"), *WORDS, *more]


def test_a_sweep_ends_with_a_table_a_file_and_the_command_that_trains_the_best(home, engine, capsys):
    assert main(words(home)) == 0
    said = capsys.readouterr().out
    document = json.loads((home / "run" / "sweep" / "sweep.json").read_text())
    assert [row["number"] for row in document["trials"]] != [0, 1, 2, 3, 4] and len(document["trials"]) == 5
    figures = [row["figure"] for row in document["trials"]]
    assert figures == sorted(figures, reverse=True)
    best = document["trials"][0]
    assert document["best"] == best["number"] != 0
    assert said.count("% per year beside equal weight; gamma") == 5 and "(0 trials to go)" in said
    assert "looks better than it is, because it was picked by these figures" in said
    table = said[said.index("Annual log growth") : said.index("  Best: trial")].splitlines()
    assert max(map(len, table)) <= 80 and f"{100 * best['figure']:+.2f} ± " in table[4]

    # The command trains the best setting with all other flags of the sweep; what has no flag is told beside.
    command = next(line.strip() for line in said.splitlines() if line.startswith("    tactician train"))
    assert command == document["train"] and "--timesteps 300" in command
    _, config = parse(TrainArguments, "train", command.split()[2:])
    assert config.gamma == best["settings"]["gamma"] and config.hidden_dim == best["settings"]["hidden_dim"]
    assert document["keys_of_the_file"] == {"sharpening": best["settings"]["sharpening"]}
    assert f"    sharpening: {best['settings']['sharpening']}" in said
    left = load_config(home / "tiny.yaml", {"timesteps": 300, "gamma": config.gamma, "hidden_dim": config.hidden_dim})
    assert config == left


def test_json_is_the_file(home, engine, capsys):
    assert main(words(home, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((home / "run" / "sweep" / "sweep.json").read_text())
    assert len(printed["held_out"]) == 4 and printed["held_out"][-1][1] <= "2012-12-31"


def test_a_dry_run_prints_the_plan_and_writes_nothing(home, engine, capsys):
    before = sorted(home.rglob("*"))
    assert main(words(home, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "gamma 0.9 to 0.99 (default: 0.95)" in said and "hidden_dim 8, 16 (default: 16)" in said
    assert "5 trials × 4 folds × 1 seed: 20 trainings at most" in said
    assert main(words(home, "--dry-run", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["default"]["gamma"] == 0.95
    assert sorted(home.rglob("*")) == before and engine.asked == []


def test_after_a_stop_the_same_command_goes_on(home, monkeypatch, capsys):
    engines = [Here(work=made_up, stop_after=6), Here(work=made_up)]
    monkeypatch.setattr("tactician.studies.engine.make_engine", lambda *_, **__: engines[0])
    assert main(words(home)) == 130
    assert "Stopped: 6 of 20 trainings are kept" in capsys.readouterr().out
    del engines[0]
    assert main(words(home)) == 0
    said = capsys.readouterr().out
    assert "Trials that are there already: 1 of 5." in said and len(engines[0].asked) == 14
    assert read(trials_beside(home / "cache.pt")).n_trials() == 5


def test_a_sweep_of_other_keys_in_the_same_folder_is_refused(home, engine, refused):
    assert main(words(home)) == 0
    said = refused(*[word.replace("0.9..", "0.8..") for word in words(home)])
    assert "holds another sweep: the searched keys differ; give --output another folder" in said


def test_a_second_writer_is_refused(home, engine, refused, monkeypatch):
    monkeypatch.setattr("tactician.training.lock._PATIENCE", 0.1)
    folder = home / "run" / "sweep"
    with only_writer(folder / ".sweep.lock", folder, "--output"):
        assert "is in use by another run" in refused(*words(home))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--keys",), "--keys needs a value; write --keys TEXT [TEXT ...]."),
        (("--keys", "gama=1,2"), "--keys: unknown key 'gama'; did you mean 'gamma'?"),
        (("--folds", "1"), "--folds cannot be '1': it must be at least 2."),
        (("--trials", "0"), "--trials cannot be '0': it must be above 0."),
        (("--folds", "2"), "without one of 2 pieces, no episode of 32 is left; use more --folds"),
        (("--address", "auto"), "--address auto names a Ray cluster; add --engine ray."),
    ],
)
def test_mistakes_are_told_in_one_sentence(home, refused, more, said):
    assert said in refused(*words(home, *more))


def test_without_keys_an_example_is_told(home, refused):
    assert "write for example --keys gamma=0.9..0.99" in refused("sweep", "--config", str(home / "tiny.yaml"))


def test_without_optuna_it_is_said_how_to_install_it(home, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert refused(*words(home)).endswith("needs Optuna; install it with: pip install 'tactician[sweep]'")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_process_goes_on_and_ends_as_one_that_was_not_killed(home):
    """The real thing: real trainings in real processes, and SIGKILL in the middle."""
    command = [sys.executable, "-m", "tactician", *words(home, "--trials", "2", "--processes", "1")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    parts, whole = home / "parts", home / "whole"
    process = subprocess.Popen([*command, "--output", str(parts)], **quiet)
    ledger, deadline = trials_beside(home / "cache.pt"), time.monotonic() + 120
    while not ledger.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (parts / "sweep.json").exists() and (parts / "sweep.db").exists()
    for folder in (parts, whole):
        assert subprocess.run([*command, "--output", str(folder)], **quiet, timeout=240).returncode == 0
    tables = [json.loads((folder / "sweep.json").read_text()) for folder in (parts, whole)]
    assert tables[0]["trials"] == tables[1]["trials"] and len(tables[0]["trials"]) == 2
