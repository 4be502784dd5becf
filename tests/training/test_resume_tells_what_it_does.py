"""Resuming from what does not quite fit: other settings, other data, other networks, the old format, damaged files."""

import os
from pathlib import Path

import pytest
import torch

from tactician.cli import main
from tactician.storage import save_tensors
from tactician.training.checkpoint import read_checkpoint
from tactician.training.resume import legacy_weights


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), *words])


@pytest.fixture
def trained(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "run", "--iterations", "2", "-q") == 0
    capsys.readouterr()
    return tmp_path / "run"


def flat(text: str) -> str:
    return " ".join(text.split())


def test_resume_in_an_empty_folder_starts_from_the_beginning(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path, "--iterations", "1", "--resume") == 0
    assert "no checkpoint to resume from: training starts from the beginning" in flat(capsys.readouterr().out)


def test_the_newest_by_modification_time_is_taken(tiny, trained, capsys):
    older = trained / "model_iteration_000009.pt"
    older.write_bytes((trained / "model_final.pt").read_bytes())
    os.utime(older, (1, 1))
    assert run(tiny, trained, "--iterations", "2", "--resume") == 0
    assert "Resumed from " + str(trained / "model_final.pt") in flat(capsys.readouterr().out)
    os.utime(older, (4e9, 4e9))
    assert run(tiny, trained, "--iterations", "2", "--resume") == 0
    assert "Resumed from " + str(older) in flat(capsys.readouterr().out)


def test_a_damaged_newest_file_is_named_left_alone_and_passed_over(tiny, trained, capsys):
    damaged = trained / "model_interrupted_20260101_000000.pt"
    damaged.write_bytes((trained / "model_final.pt").read_bytes()[:-100])
    os.utime(damaged, (4e9, 4e9))
    assert run(tiny, trained, "--iterations", "3", "--resume") == 0
    said = flat(capsys.readouterr().out)
    assert f"{damaged} is damaged" in said and "passed over" in said
    assert f"Resumed from {trained / 'model_final.pt'}" in said
    assert damaged.exists()


def test_a_named_checkpoint_that_is_missing_or_damaged_is_refused(tiny, tmp_path, refused):
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "run"), "--checkpoint"]
    assert "There is no checkpoint" in refused(*words, str(tmp_path / "none.pt"))
    (tmp_path / "bad.pt").write_text("nonsense")
    assert "bad.pt is damaged or no checkpoint" in refused(*words, str(tmp_path / "bad.pt"))
    assert not (tmp_path / "run").exists()


def test_another_network_warns_with_both_shapes_and_starts_fresh(tiny, trained, capsys):
    assert run(tiny, trained, "--iterations", "1", "--resume", "--hidden-dim", "24") == 0
    said = flat(capsys.readouterr().out)
    assert "1 GRU layers of 16 → 12 actions" in said and "1 GRU layers of 24 → 12 actions" in said
    assert "starts from the beginning" in said
    assert read_checkpoint(trained / "model_final.pt")["progress"]["iteration"] == 1


def test_changed_settings_are_shown_with_whether_they_matter(tiny, trained, capsys):
    words = ("--iterations", "3", "--resume", "--actor-lr", "0.001", "--save-every", "7")
    assert run(tiny, trained, *words) == 0
    said = flat(capsys.readouterr().out)
    assert "actor_lr was 0.0003 and is now 0.001 (matters" in said
    assert "save_every was None and is now 7 (does not matter)" in said
    saved = read_checkpoint(trained / "model_final.pt")
    assert saved["actor_optimizer_state_dict"]["param_groups"][0]["lr"] == 0.001
    assert saved["critic_optimizer_state_dict"]["param_groups"][0]["lr"] == 0.0009


def test_other_environments_keep_what_was_learnt_and_begin_new_episodes(tiny, trained, capsys):
    assert run(tiny, trained, "--iterations", "3", "--resume", "--n-envs", "4") == 0
    said = flat(capsys.readouterr().out)
    assert "n_envs was 8 and is now 4 (matters" in said and "begin new episodes" in said
    saved = read_checkpoint(trained / "model_final.pt")
    # 512 steps were done with 8 environments; 3 iterations of 4 × 32 are fewer, so nothing is left to do.
    assert saved["progress"]["timesteps"] == 512 and len(saved["env_state"]["day"]) == 4


def test_other_data_is_said_aloud_and_keeps_the_normaliser(tiny, trained, tmp_path, capsys):
    content = read_checkpoint(trained / "model_final.pt")
    content["data_fingerprint"] = "0" * 64
    content["normaliser"]["mean"] += 1
    other = tmp_path / "other.pt"
    save_tensors(content, other)
    assert run(tiny, tmp_path / "new", "--iterations", "3", "--checkpoint", str(other)) == 0
    said = flat(capsys.readouterr().out)
    assert "trained on other data (000000000000" in said and "begin new episodes" in said
    saved = read_checkpoint(tmp_path / "new" / "model_final.pt")
    assert torch.equal(saved["normaliser"]["mean"], content["normaliser"]["mean"])


def legacy_file(trained: Path, path: Path) -> dict:
    content = read_checkpoint(trained / "model_final.pt")
    renamed = {}
    for name, value in content["model_state_dict"].items():
        if name != "value_scale":
            renamed["module." + name.replace("gru.0.weight", "gru.weight").replace("gru.0.bias", "gru.bias")] = value
    metrics = {"best_reward": 0.25, "total_trades": 40, "win_rate": 0.75}
    legacy = {
        "model_state_dict": renamed,
        "optimizer_state_dict": {"state": {}},
        "metrics": metrics,
        "total_steps": 256,
    }
    torch.save(legacy, path)
    return content["model_state_dict"]


def test_the_old_format_restores_weights_and_metrics_and_says_so(tiny, trained, tmp_path, capsys):
    legacy_file(trained, tmp_path / "legacy.pt")
    assert run(tiny, tmp_path / "new", "--iterations", "2", "--checkpoint", str(tmp_path / "legacy.pt")) == 0
    assert "old format with one optimiser" in flat(capsys.readouterr().out)
    saved = read_checkpoint(tmp_path / "new" / "model_final.pt")["progress"]
    assert saved["timesteps"] == 512 and saved["best_reward"] >= 0.25
    assert saved["total_trades"] > 40 and saved["winning_trades"] >= 30


def test_old_weights_find_their_places(trained, tmp_path):
    ours = legacy_file(trained, tmp_path / "legacy.pt")
    found = legacy_weights(ours, read_checkpoint(tmp_path / "legacy.pt")["model_state_dict"])
    assert found is not None and found.keys() == ours.keys()
    assert all(torch.equal(found[name], ours[name]) for name in ours)
    assert legacy_weights(ours, {"encoder.0.weight": torch.zeros(3, 3)}) is None


def test_an_old_file_of_another_shape_starts_fresh(tiny, trained, tmp_path, capsys):
    legacy_file(trained, tmp_path / "legacy.pt")
    words = ("--iterations", "1", "--checkpoint", str(tmp_path / "legacy.pt"), "--hidden-dim", "24")
    assert run(tiny, tmp_path / "new", *words) == 0
    assert "holds another network" in flat(capsys.readouterr().out)
