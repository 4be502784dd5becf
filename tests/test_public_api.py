"""``import tactician``: what a program or a notebook uses."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tactician
from tactician.cli import main
from tactician.training.checkpoint import read_checkpoint

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def config(tiny, tmp_path_factory):
    return tactician.load_config(tiny, checkpoint_dir=tmp_path_factory.mktemp("api") / "run")


@pytest.fixture(scope="module")
def summary(config):
    return tactician.train(config)


def best(config):
    return config.checkpoint_dir / "model_best.pt"


def test_importing_the_package_imports_none_of_what_it_needs():
    check = (
        "import sys, tactician; dir(tactician); sys.exit(any(m in sys.modules for m in ('torch', 'pydantic', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_every_name_of_the_interface_is_there_and_explained():
    assert set(tactician.__all__) <= set(dir(tactician))
    assert all(getattr(tactician, name).__doc__ for name in tactician.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tactician.nonsense


def test_a_duration_replaces_those_of_the_file_as_on_the_command_line(tiny):
    assert tactician.load_config(tiny).timesteps == 600
    config = tactician.load_config(tiny, episodes=4)
    assert (config.timesteps, config.episodes) == (None, 4)


def test_a_cache_path_is_that_of_every_universe():
    config = tactician.load_config("rl_v2_multi_asset", expanded=True, cache_path="mine.pt")
    assert config.cache == Path("mine.pt")


def test_a_mistake_is_one_sentence(tiny):
    with pytest.raises(tactician.UserError, match=r"unknown key 'hiden_dim'; did you mean 'hidden_dim'\?"):
        tactician.load_config(tiny, hiden_dim=8)


def test_building_a_market_writes_the_cache_and_prints_nothing(tiny, tmp_path, capfd):
    config = tactician.load_config(tiny, cache_path=tmp_path / "cache.pt")
    with pytest.raises(
        tactician.UserError, match=r"no market cache at .*; make it with: tactician.build_market\(config\)"
    ):
        tactician.load_market(config)
    built = tactician.build_market(config)
    assert capfd.readouterr() == ("", "")
    read = tactician.load_market(config)
    assert read.fingerprint == built.fingerprint == tactician.load_market(tactician.load_config(tiny)).fingerprint


def looks_told(said: str) -> int:
    return int(re.search(r"looked at (\d+) times", said)[1])


def test_training_gives_the_figures_of_the_command_line(tiny, summary, tmp_path, capsys):
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    judged = tactician.evaluate(tmp_path / "run" / "model_best.pt")
    theirs = summary.results["test"]
    assert judged.performances == theirs.performances and judged.verdict == theirs.verdict
    # Other tests look at the same range of the same cache.
    looks = [looks_told(repr(x)) for x in (judged, tactician.evaluate(tmp_path / "run" / "model_best.pt"))]
    assert looks[0] >= 2 and looks[1] == looks[0] + 1
    ours, theirs = (read_checkpoint(path) for path in (best(summary.setup.config), tmp_path / "run" / "model_best.pt"))
    weights = ours["model_state_dict"], theirs["model_state_dict"]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_the_run_shows_itself_as_its_report(summary):
    said = repr(summary)
    assert said.startswith("Held-out test range 2013-04-01 to 2013-06-27\n") and "Equal weight" in said
    assert "Verdict: the agent is" in said and str(best(summary.setup.config)) in said
    assert "Summary(" not in said and "\x1b" not in said


def test_only_warnings_are_printed_unless_asked_for(tiny, tmp_path, capfd):
    config = tactician.load_config(tiny, checkpoint_dir=tmp_path, iterations=1)
    for warnings in (("adjusted_level_leak",), ("adjusted_level_leak", "held an earlier run")):
        tactician.train(config)
        out, err = capfd.readouterr()
        lines = err.splitlines()
        assert not out and len(lines) == len(warnings)
        assert all(warning in line for warning, line in zip(warnings, lines, strict=True))
    tactician.train(config, verbose=True)
    assert "Iteration 1" in capfd.readouterr().out


def test_a_run_is_resumed_to_the_total(tiny, tmp_path):
    config = tactician.load_config(tiny, checkpoint_dir=tmp_path, iterations=1)
    tactician.train(config)
    longer = tactician.load_config(tiny, checkpoint_dir=tmp_path, iterations=2)
    assert tactician.train(longer, resume=True).progress.iteration == 2
    assert not (tmp_path / "earlier_1").exists()


def test_a_run_in_another_thread_needs_no_signals(tiny, tmp_path, monkeypatch):
    def no_signals(*_):  # as Python refuses it outside of the main thread
        raise AssertionError("signals were asked for")

    monkeypatch.setattr("signal.signal", no_signals)
    config, done = tactician.load_config(tiny, checkpoint_dir=tmp_path, iterations=1), []
    thread = threading.Thread(target=lambda: done.append(tactician.train(config)))
    thread.start()
    thread.join()
    assert done[0].progress.iteration == 1


def test_a_saved_model_is_judged_as_its_run_was(summary, config):
    for split in ("test", "validation"):
        judged = tactician.evaluate(best(config), split=split)
        assert judged.as_dict() == summary.results[split].as_dict()
    assert "Buy and hold" in repr(judged) and "Verdict: the agent is" in repr(judged)


def test_a_look_at_the_test_range_is_counted_and_one_at_the_validation_range_is_not(summary, config):
    def looks():
        (look,) = read_checkpoint(best(config))["seen"]["looks"]
        return look["count"]

    before = looks()
    tactician.evaluate(best(config), split="validation")
    assert looks() == before
    tactician.evaluate(best(config))
    assert looks() == before + 1


def test_a_range_that_the_model_has_seen_is_refused_as_on_the_command_line(tiny, summary, config, refused):
    earlier = {"train_until": "2011-06-30", "validation_until": "2012-06-29"}
    other = tactician.load_config(tiny, **earlier)
    with pytest.raises(tactician.UserError) as refusal:
        tactician.evaluate(best(config), other)
    flags = [word for key, value in earlier.items() for word in (f"--{key.replace('_', '-')}", value)]
    said = refused("train", "--config", str(tiny), *flags, "--checkpoint", str(best(config)))
    assert said == f"tactician train: {refusal.value}"
    assert "CONTAMINATED" in repr(tactician.evaluate(best(config), other, allow_contaminated=True))


def test_a_resumed_run_is_refused_a_range_that_it_has_seen(tiny, tmp_path):
    tactician.train(tactician.load_config(tiny, checkpoint_dir=tmp_path, iterations=1))
    settings = {"checkpoint_dir": tmp_path, "train_until": "2011-06-30", "validation_until": "2012-06-29"}
    other = tactician.load_config(tiny, iterations=2, **settings)
    with pytest.raises(tactician.UserError, match="is not held out"):
        tactician.train(other, resume=True)
    contaminated = tactician.train(other, resume=True, allow_contaminated=True)
    assert repr(contaminated).startswith("CONTAMINATED test range")


def test_a_model_of_other_regimes_is_refused(tiny, summary, config):
    with pytest.raises(tactician.UserError, match=r"regime \d+ \w+, and the configuration \w+; set 'regimes'"):
        tactician.evaluate(best(config), tactician.load_config(tiny, regimes="static"))


@pytest.mark.parametrize(
    ("path", "split", "named"), [("none.pt", "test", "no checkpoint at"), (None, "train", "'train'")]
)
def test_what_cannot_be_judged_is_refused(summary, config, tmp_path, path, split, named):
    with pytest.raises(tactician.UserError, match=named):
        tactician.evaluate(tmp_path / path if path else best(config), split=split)


def test_the_lines_in_the_readme_run(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"## From Python\n.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    load, few_years = tactician.load_config, {"start": "2017-01-03", "train_until": "2021-12-31"}
    few_years["validation_until"] = "2022-06-30"
    monkeypatch.setattr(tactician, "load_config", lambda name, **changes: load(name, **changes, **few_years))
    exec(compile(block, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "Held-out test range" in said and said.count("Verdict: the agent is") == 2
