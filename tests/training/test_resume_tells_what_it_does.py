"""Resuming from what does not quite fit: other settings, other data, other networks, the old format, damaged files."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch

from tactician.cli import main
from tactician.config import load_config
from tactician.storage import save_tensors
from tactician.training.checkpoint import read_checkpoint
from tactician.training.legacy import legacy_weights
from tactician.training.resume import changed_keys, saved_normaliser, saved_since


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), *words])


@pytest.fixture(scope="module")
def original(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert run(tiny, folder, "--iterations", "2", "-q") == 0
    return folder


@pytest.fixture
def trained(original, tmp_path, capsys) -> Path:
    """A copy of a finished run."""
    shutil.copytree(original, tmp_path / "run")
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
    assert "1 GRU layer of 16 → 12 actions" in said and "1 GRU layer of 24 → 12 actions" in said
    assert "starts from the beginning" in said
    assert read_checkpoint(trained / "model_final.pt")["progress"]["iteration"] == 1


def test_a_file_older_than_the_keys_of_its_network_goes_on_with_the_network_that_it_has(tiny, tmp_path, capsys):
    tiny_text, older = tiny.read_text(), tmp_path / "older.yaml"
    older.write_text(tiny_text.replace("encoder_layers", "# encoder_layers"))
    folder = tmp_path / "run"
    assert run(older, folder, "--iterations", "1", "--encoder-layers", "2", "-q") == 0
    content = read_checkpoint(folder / "model_final.pt")
    for part in (content["config"], content["architecture"]):
        assert part.pop("encoder_layers") == 2
    del content["config"]["weight_decay"]
    content["flags"] = [key for key in content["flags"] if key != "encoder_layers"]
    save_tensors(content, folder / "model_final.pt")
    (folder / "model_best.pt").unlink()
    capsys.readouterr()
    assert run(older, folder, "--iterations", "2", "--resume") == 0
    said = flat(capsys.readouterr().out)
    assert "starts from the beginning" not in said and "encoder_layers was" not in said
    assert "weight_decay was not known and is now 10.0 (matters" in said  # the file is named, and has today's default
    saved = read_checkpoint(folder / "model_final.pt")
    assert saved["progress"]["iteration"] == 2 and saved["architecture"]["encoder_layers"] == 2
    linear = ("--iterations", "3", "--resume", "--encoder-layers", "0")
    assert run(older, folder, *linear) == 0
    said = flat(capsys.readouterr().out)
    assert "64 entries → 2 encoder layers → 1 GRU layer" in said and "64 entries → linear encoder → 1 GRU layer" in said
    assert "starts from the beginning" in said


def test_changed_settings_are_shown_with_whether_they_matter(tiny, trained, capsys):
    words = ("--iterations", "3", "--resume", "--actor-lr", "0.001", "--save-every", "7")
    assert run(tiny, trained, *words) == 0
    said = flat(capsys.readouterr().out)
    assert "actor_lr was 0.0048 and is now 0.001 (matters" in said
    assert "save_every was None and is now 7 (does not matter)" in said
    saved = read_checkpoint(trained / "model_final.pt")
    assert saved["actor_optimizer_state_dict"]["param_groups"][0]["lr"] == 0.001
    assert saved["critic_optimizer_state_dict"]["param_groups"][0]["lr"] == pytest.approx(0.0144)


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
    assert "has an old format" in flat(capsys.readouterr().out)
    saved = read_checkpoint(tmp_path / "new" / "model_final.pt")["progress"]
    assert saved["timesteps"] == 512 and saved["best_reward"] >= 0.25
    assert saved["total_trades"] > 40 and saved["winning_trades"] >= 30


@pytest.mark.parametrize("optimisers", [1, 2])
def test_moments_of_an_old_format_are_restored_where_they_fit(tiny, trained, tmp_path, capsys, optimisers):
    legacy_file(trained, tmp_path / "legacy.pt")
    content = torch.load(tmp_path / "legacy.pt", weights_only=True)
    ours = read_checkpoint(trained / "model_final.pt")
    actor, critic = (ours[f"{name}_optimizer_state_dict"]["state"] for name in ("actor", "critic"))
    if optimisers == 2:
        content |= {"actor_optimizer_state_dict": {"state": actor}, "critic_optimizer_state_dict": {"state": critic}}
    else:
        content["optimizer_state_dict"] = {"state": dict(enumerate([*actor.values(), *critic.values()]))}
    content["total_steps"] = 512
    torch.save(content, tmp_path / "legacy.pt")
    words = ("--checkpoint", str(tmp_path / "legacy.pt"), "--timesteps", "513")
    assert run(tiny, tmp_path / "new", *words) == 0
    assert "the optimisers' moments are restored" in flat(capsys.readouterr().out)
    saved = read_checkpoint(tmp_path / "new" / "model_final.pt")["actor_optimizer_state_dict"]["state"]
    assert float(saved[0]["step"]) > float(actor[0]["step"])
    # One moment of another shape, and both start fresh.
    actor[0]["exp_avg"] = torch.zeros(3)
    torch.save(content, tmp_path / "legacy.pt")
    assert run(tiny, tmp_path / "other", *words) == 0
    assert "optimisers of actor and critic start fresh" in flat(capsys.readouterr().out)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": "none"},
        {"metrics": {"total_trades": None, "win_rate": float("nan"), "best_reward": [1.0]}},
        {"total_steps": -100},
        {"actor_optimizer_state_dict": {}, "critic_optimizer_state_dict": {}, "optimizer_state_dict": None},
    ],
)
def test_whatever_stands_in_an_old_file_beside_the_weights_the_weights_are_restored(tiny, trained, tmp_path, changes):
    legacy_file(trained, tmp_path / "legacy.pt")
    content = {**torch.load(tmp_path / "legacy.pt", weights_only=True), **changes}
    torch.save({k: v for k, v in content.items() if v is not None}, tmp_path / "legacy.pt")
    words = ("--checkpoint", str(tmp_path / "legacy.pt"), "--timesteps", "1024", "-q")
    assert run(tiny, tmp_path / "new", *words) == 0
    saved = read_checkpoint(tmp_path / "new" / "model_final.pt")["progress"]
    assert saved["timesteps"] == 1024 and 0 <= saved["winning_trades"] <= saved["total_trades"]


def test_percent_is_understood_and_weights_that_are_no_numbers_are_not_taken(tiny, trained, tmp_path, capsys):
    legacy_file(trained, tmp_path / "legacy.pt")
    content = torch.load(tmp_path / "legacy.pt", weights_only=True)
    content["metrics"]["win_rate"] = 75.0
    torch.save(content, tmp_path / "percent.pt")
    assert run(tiny, tmp_path / "a", "--checkpoint", str(tmp_path / "percent.pt"), "--timesteps", "300") == 0
    saved = read_checkpoint(tmp_path / "a" / "model_final.pt")["progress"]
    assert 30 <= saved["winning_trades"] <= saved["total_trades"]
    content["model_state_dict"] = {k: x * float("nan") for k, x in content["model_state_dict"].items()}
    torch.save(content, tmp_path / "nan.pt")
    assert run(tiny, tmp_path / "b", "--checkpoint", str(tmp_path / "nan.pt"), "--timesteps", "256") == 0
    assert "not finite: training starts from the beginning" in flat(capsys.readouterr().out)


def test_another_network_brings_no_normaliser(trained, tiny):
    content, config = read_checkpoint(trained / "model_final.pt"), load_config(tiny)
    n_actions = content["architecture"]["n_actions"]
    assert saved_normaliser(content, config, n_actions) is not None
    assert saved_normaliser(content, config.model_copy(update={"hidden_dim": 24}), n_actions) is None
    assert saved_normaliser(content, config, n_actions + 1) is None


def best_of(folder: Path) -> dict:
    return read_checkpoint(folder / "model_best.pt")


def test_another_runs_best_model_is_never_taken_for_ones_own(tiny, trained, tmp_path):
    folder = tmp_path / "shared"
    assert run(tiny, folder, "--iterations", "2", "-q", "--hidden-dim", "24") == 0
    words = ("--checkpoint", str(trained / "model_final.pt"), "--iterations", "2", "-q")  # nothing is left to train
    assert run(tiny, folder, *words) == 0
    assert best_of(folder)["architecture"]["hidden_dim"] == 16


@pytest.mark.parametrize("key", ["validation-until", "spread"])
def test_a_best_figure_of_another_range_or_other_costs_is_forgotten(tiny, trained, key):
    content = best_of(trained)
    content["progress"]["best_validation"] = 1e9  # what no later figure could beat
    save_tensors(content, trained / "model_best.pt")
    final = read_checkpoint(trained / "model_final.pt")
    final["progress"]["best_validation"] = 1e9
    save_tensors(final, trained / "model_final.pt")
    value = {"validation-until": "2013-04-30", "spread": "0.001"}[key]
    assert run(tiny, trained, "--resume", "--iterations", "4", "-q", f"--{key}", value) == 0
    assert read_checkpoint(trained / "model_final.pt")["progress"]["best_iteration"] == 4
    assert best_of(trained)["progress"]["best_validation"] < 1e9


def test_a_finished_run_on_other_data_is_validated_again(tiny, trained, tmp_path):
    content = read_checkpoint(trained / "model_final.pt")
    content["data_fingerprint"] = "0" * 64
    save_tensors(content, trained / "model_final.pt")
    before = (trained / "model_best.pt").stat().st_mtime_ns
    assert run(tiny, trained, "--resume", "--iterations", "2", "-q") == 0
    assert (trained / "model_best.pt").stat().st_mtime_ns > before


def test_weights_that_are_not_finite_are_passed_over(tiny, trained, capsys):
    """What a run saved when its policy broke is not what --resume goes on from."""
    content = read_checkpoint(trained / "model_final.pt")
    name = next(iter(content["model_state_dict"]))
    content["model_state_dict"][name] = content["model_state_dict"][name] * math.nan
    content["progress"]["timesteps"] += 10**6
    save_tensors(content, trained / "model_interrupted_x.pt")
    assert run(tiny, trained, "--resume", "--iterations", "2") == 0
    said = flat(capsys.readouterr().out)
    assert "model_interrupted_x.pt holds weights that are not finite numbers. It is passed over." in said
    assert f"Resumed from {trained / 'model_final.pt'}" in said


def test_a_run_that_begins_in_the_folder_of_another_one_sets_it_aside(tiny, trained, capsys):
    names = {path.name for path in trained.glob("model_*.pt")} | {"metrics.jsonl", "registration.json"}
    names |= {"report.json"}
    before = {name: (trained / name).read_bytes() for name in names}
    assert run(tiny, trained, "--iterations", "1", "--save-every", "1") == 0
    assert f"{trained} held an earlier run, which is now in {trained / 'earlier_1'}" in flat(capsys.readouterr().out)
    assert {path.name: path.read_bytes() for path in (trained / "earlier_1").iterdir() if path.is_file()} == before
    # What goes on is the run that was begun last, though the one before it had more steps.
    assert run(tiny, trained, "--resume", "--iterations", "2") == 0
    assert "iteration 1, 256 of 512 steps done" in flat(capsys.readouterr().out)
    assert run(tiny, trained, "--iterations", "1", "-q") == 0 and (trained / "earlier_2" / "report.json").exists()


def test_a_run_from_elsewhere_sets_aside_what_it_would_overwrite(tiny, trained, tmp_path, capsys):
    folder = tmp_path / "used"
    assert run(tiny, folder, "--iterations", "3", "--seed", "9", "-q") == 0
    names = ("model_best.pt", "model_final.pt", "metrics.jsonl", "report.json")
    before = {name: (folder / name).read_bytes() for name in names}
    events = sorted(path.name for path in (folder / "tensorboard").iterdir())
    assert run(tiny, folder, "--checkpoint", str(trained / "model_final.pt"), "--iterations", "4") == 0
    assert f"{folder} held another run, which is now in {folder / 'earlier_1'}" in flat(capsys.readouterr().out)
    assert {name: (folder / "earlier_1" / name).read_bytes() for name in names} == before
    assert sorted(path.name for path in (folder / "earlier_1" / "tensorboard").iterdir()) == events
    lines = [json.loads(line)["iteration"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [3, 4]


def test_files_of_an_old_format_are_never_overwritten(tiny, trained, tmp_path, capsys):
    (tmp_path / "old").mkdir()
    legacy_file(trained, tmp_path / "old" / "model_best.pt")
    before = (tmp_path / "old" / "model_best.pt").read_bytes()
    assert run(tiny, tmp_path / "old", "--resume", "--timesteps", "600") == 0
    said = flat(capsys.readouterr().out)
    assert "held files of an old format, which are now in" in said and "at – steps/s" in said
    assert (tmp_path / "old" / "earlier_1" / "model_best.pt").read_bytes() == before


def test_a_run_that_cannot_be_gone_on_with_is_told_so_whatever_was_asked(tiny, trained, capsys):
    assert run(tiny, trained, "--resume", "--hidden-dim", "24", "--iterations", "1") == 0
    said = flat(capsys.readouterr().out)
    assert f"which is now in {trained / 'earlier_1'}: this one begins anew" in said
    assert "--resume would have gone on" not in said


def test_after_a_restart_only_what_the_run_has_saved_itself_counts(trained):
    newest = max(path.stat().st_mtime for path in trained.glob("model_*.pt"))
    assert saved_since(trained, newest + 1) is None
    found = saved_since(trained, newest - 1000)
    assert found is not None and found[1]["progress"]["iteration"] == 2


@pytest.mark.parametrize("junk", [b"\xff\xfe\n", b"5\n", b"{}\n"])
def test_lines_that_are_no_metrics_are_passed_over(tiny, trained, junk):
    path = trained / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + junk)
    assert run(tiny, trained, "--resume", "--iterations", "3", "-q") == 0
    assert len(path.read_text().splitlines()) == 3


def test_what_is_no_file_is_no_checkpoint(tiny, trained):
    (trained / "model_x.pt").symlink_to(trained / "nowhere")
    (trained / "model_y.pt").mkdir()
    assert run(tiny, trained, "--resume", "--iterations", "3", "-q") == 0


def test_the_newest_checkpoint_stays_whatever_the_clock_says(tiny, tmp_path):
    assert run(tiny, tmp_path, "--iterations", "3", "-q", "--save-every", "1") == 0
    for path in tmp_path.glob("model_iteration_*"):
        os.utime(path, (4e9, 4e9))
    middle = str(tmp_path / "model_iteration_000003.pt")
    assert run(tiny, tmp_path, "--iterations", "5", "-q", "--save-every", "1", "--checkpoint", middle) == 0
    assert (tmp_path / "model_iteration_000005.pt").exists()


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


def test_a_setting_that_is_gone_is_a_change_unless_it_was_off(tiny):
    config = load_config(tiny)
    before = config.model_dump(mode="json")
    assert changed_keys({**before, "cost_warmup": 0}, config) == {}
    assert changed_keys({**before, "cost_warmup": 1000}, config) == {"cost_warmup": (1000, 0)}
