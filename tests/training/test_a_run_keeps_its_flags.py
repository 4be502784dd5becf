"""Who resumes need not repeat the flags that a run was started with; a flag of today goes before them."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tactician.cli import main
from tactician.commands.flags import given_keys
from tactician.config import load_config
from tactician.monitor.progress import Reporter
from tactician.training.checkpoint import read_checkpoint
from tactician.training.resume import settings_to_go_on


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), *words])


def config_of(folder: Path) -> dict:
    return read_checkpoint(folder / "model_final.pt")["config"]


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def original(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("started")
    words = ("--hidden-dim", "24", "--actor-lr=0.001", "--seed", "5", "--iterations", "2", "-q")
    assert run(tiny, folder, *words) == 0
    return folder


@pytest.fixture
def started(original, tmp_path, capsys) -> Path:
    """A copy of a run that was started with flags."""
    shutil.copytree(original, tmp_path / "run")
    capsys.readouterr()
    return tmp_path / "run"


def test_network_and_settings_come_from_the_checkpoint(tiny, started, capsys):
    assert run(tiny, started, "--resume", "--iterations", "3") == 0
    said = flat(capsys.readouterr().out)
    assert "iteration 2, 512 of 768 steps done" in said
    assert "hidden_dim stays 24, as the run has it (the configuration has 16; --hidden-dim would change it)" in said
    config = config_of(started)
    assert (config["hidden_dim"], config["actor_lr"], config["seed"]) == (24, 0.001, 5)
    assert not (started / "earlier_1").exists()


def test_the_flags_live_on_through_several_resumes(tiny, started):
    for n in ("3", "4"):
        assert run(tiny, started, "--resume", "--iterations", n, "-q") == 0
    assert config_of(started)["seed"] == 5 and config_of(started)["hidden_dim"] == 24
    assert read_checkpoint(started / "model_final.pt")["progress"]["iteration"] == 4


def test_a_flag_of_today_goes_before_the_runs(tiny, started, capsys):
    assert run(tiny, started, "--resume", "--iterations", "3", "--actor-lr", "0.0005") == 0
    assert "actor_lr was 0.001 and is now 0.0005" in flat(capsys.readouterr().out)
    assert config_of(started)["actor_lr"] == 0.0005 and config_of(started)["seed"] == 5


def test_the_runs_duration_is_its_flag_too_and_one_of_today_replaces_all(tiny, tmp_path):
    assert run(tiny, tmp_path, "--iterations", "4", "-q", "--save-every", "1", "--keep-checkpoints", "9") == 0
    for name in ("model_final.pt", "model_best.pt", "model_iteration_000003.pt", "model_iteration_000004.pt"):
        (tmp_path / name).unlink()
    assert run(tiny, tmp_path, "--resume", "-q") == 0  # the file says 600 timesteps, the run 4 iterations
    assert read_checkpoint(tmp_path / "model_final.pt")["progress"]["iteration"] == 4
    assert run(tiny, tmp_path, "--resume", "--timesteps", "1100", "-q") == 0
    assert read_checkpoint(tmp_path / "model_final.pt")["progress"]["timesteps"] == 1100


def edited(tiny: Path, target: Path, **changes) -> Path:
    target.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), **changes}))
    return target


def test_a_file_that_was_edited_counts_where_no_flag_stood_but_not_for_the_network(tiny, started, tmp_path, capsys):
    other = edited(tiny, tmp_path / "other.yaml", actor_lr=0.5, gamma=0.9, hidden_dim=32)
    assert run(other, started, "--resume", "--iterations", "3") == 0
    config = config_of(started)
    assert (config["actor_lr"], config["gamma"], config["hidden_dim"]) == (0.001, 0.9, 24)
    assert "gamma was 0.95 and is now 0.9 (matters" in flat(capsys.readouterr().out)


def test_without_a_file_everything_comes_from_the_checkpoint(tiny, started, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tactician.commands.flags.DEFAULT_CONFIG", edited(tiny, tmp_path / "d.yaml", gamma=0.5))
    words = ["--checkpoint", str(started / "model_final.pt"), "--checkpoint-dir", str(started), "--iterations", "3"]
    assert main(["train", *words]) == 0
    assert config_of(started)["gamma"] == 0.95 and "gamma stays 0.95" in flat(capsys.readouterr().out)


def test_a_flag_for_another_network_starts_fresh_beside_the_run_and_not_over_it(tiny, started, capsys):
    before = (started / "model_final.pt").read_bytes()
    assert run(tiny, started, "--resume", "--hidden-dim", "8", "--iterations", "1") == 0
    said = flat(capsys.readouterr().out)
    assert "holds another network" in said and "is now in" in said
    assert (started / "earlier_1" / "model_final.pt").read_bytes() == before
    assert config_of(started)["hidden_dim"] == 8


def test_a_checkpoint_that_does_not_tell_its_flags_keeps_all_its_settings(tiny, started):
    content = read_checkpoint(started / "model_final.pt")
    del content["flags"]
    config = settings_to_go_on(
        load_config(tiny), Path("x.pt"), content, {"gamma"}, file_named=True, reporter=Reporter("quiet")
    )
    assert (config.actor_lr, config.seed, config.hidden_dim, config.gamma) == (0.001, 5, 24, 0.95)
    assert config.checkpoint_dir == load_config(tiny).checkpoint_dir


def test_sizes_that_were_chosen_for_the_machine_are_the_runs(tiny, tmp_path):
    settings = yaml.safe_load(tiny.read_text())
    open_sizes = tmp_path / "open.yaml"
    open_sizes.write_text(yaml.safe_dump({k: v for k, v in settings.items() if k not in ("n_envs", "n_steps")}))
    assert run(open_sizes, tmp_path / "run", "--timesteps", "600", "-q") == 0
    content = read_checkpoint(tmp_path / "run" / "model_final.pt")
    assert "n_envs" not in content["flags"] and content["config"]["n_envs"] == 256
    content["config"] |= {"n_envs": 24, "n_steps": 32}
    config = settings_to_go_on(
        load_config(open_sizes), Path("x.pt"), content, (), file_named=True, reporter=Reporter("quiet")
    )
    assert (config.n_envs, config.n_steps, config.batch_size) == (24, 32, 64)


def test_flags_are_told_from_words():
    words = ["--hidden-dim", "8", "--n_envs=4", "--resume", "-q", "--config", "x", "--checkpoint", "--unknown"]
    assert given_keys(words) == {"hidden_dim", "n_envs", "config"}


def test_the_command_that_is_printed_goes_on(tiny, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tactician.training.interruption.Interruption.__enter__", _ask_at_once)
        code = run(tiny, tmp_path / "run", "--iterations", "3", "--hidden-dim", "24")
    assert code == 130
    said = capsys.readouterr().out
    command = "".join(said[said.index("Go on with:") :].splitlines()[0]).removeprefix("Go on with: ")
    assert command.startswith("tactician train ") and "--resume" in command
    assert main(command.split()[1:]) == 0
    saved = read_checkpoint(tmp_path / "run" / "model_final.pt")
    assert saved["progress"]["iteration"] == 3 and saved["config"]["hidden_dim"] == 24
    summary = json.loads((tmp_path / "run" / "report.json").read_text())["run"]
    assert summary["finished"] is True


def test_the_command_names_no_file_that_was_not_named(tiny, started, tmp_path, monkeypatch, capsys):
    folder = str(tmp_path / "new")
    words = ["--checkpoint", str(started / "model_final.pt"), "--checkpoint-dir", folder, "--iterations", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tactician.training.interruption.Interruption.__enter__", _ask_at_once)
        assert main(["train", *words]) == 130
    said = capsys.readouterr().out
    assert f"Go on with: tactician train --resume --checkpoint-dir {folder}" in "".join(said.split("\n"))
    assert main(["train", "--resume", "--checkpoint-dir", folder]) == 0
    assert read_checkpoint(tmp_path / "new" / "model_final.pt")["progress"]["iteration"] == 4


def test_the_hint_of_another_seed_is_the_same_experiment(tiny, tmp_path, capsys):
    words = ("--hidden-dim", "24", "--validate-every", "1", "--iterations", "1", "--regimes", "static")
    assert run(tiny, tmp_path / "run", *words) == 0
    said = "".join(capsys.readouterr().out.split("\n"))
    hint = " --hidden-dim 24 --iterations 1 --regimes static --validate-every 1 --seed 1 --checkpoint-dir "
    assert f"{hint}{tmp_path / 'run_seed1'}" in said


def _ask_at_once(self):
    self.signal_number = 2
    return self


def test_a_rank_of_another_program_does_not_silence_a_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")  # as a batch system may leave it
    assert run(tiny, tmp_path / "run", "--iterations", "1") == 0
    assert "Iteration 1" in capsys.readouterr().out
