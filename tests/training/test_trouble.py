"""Losses that are not finite, memory that runs out, disks that are full, files that are damaged."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch

import tactician.learning.ppo as ppo
import tactician.training.loop as loop
from tactician.cli import main
from tactician.errors import UserError
from tactician.storage import checksum
from tactician.training.checkpoint import read_checkpoint


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), *words])


def spoil(monkeypatch, which) -> None:
    """Make the policy loss of the run's chosen minibatches, counted from 0, not a number."""
    original, update, count = ppo.policy_loss, loop.update, iter(range(10**9))

    def spoilt(*args):
        loss, ratio = original(*args)
        return (loss * math.nan if which(next(count)) else loss), ratio

    def learn(*args, **kwargs):  # from the first iteration on: the memory plan's probe is no part of the run
        monkeypatch.setattr(ppo, "policy_loss", spoilt)
        return update(*args, **kwargs)

    monkeypatch.setattr(loop, "update", learn)


def test_an_update_that_is_not_finite_is_dropped_counted_and_shown(tiny, tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, lambda k: k in (1, 2))
    assert run(tiny, tmp_path, "--iterations", "1") == 0
    assert "2 updates were dropped" in capsys.readouterr().out
    saved = read_checkpoint(tmp_path / "model_final.pt")
    assert saved["progress"]["dropped_updates"] == 2
    assert all(x.isfinite().all() for x in saved["model_state_dict"].values())
    # 4 minibatches × 2 epochs, 2 of them dropped: neither moments nor step counts moved with those.
    assert {float(s["step"]) for s in saved["actor_optimizer_state_dict"]["state"].values()} == {6.0}


def test_a_run_that_drops_nothing_else_is_as_if_the_dropped_minibatches_had_not_been_there(tiny, tmp_path, monkeypatch):
    # All updates of all epochs dropped: parameters are those of the start, critic epochs apart.
    spoil(monkeypatch, lambda k: True)
    assert run(tiny, tmp_path, "--iterations", "1", "-q", "--critic-epochs", "0", "--max-dropped-updates", "99") == 0
    monkeypatch.undo()
    from tactician.config import load_config
    from tactician.environment import load_cached_market
    from tactician.training.setup import prepare_run

    config = load_config(tiny)
    first = prepare_run(config, load_cached_market(config, "")).make_policy().state_dict()
    saved = read_checkpoint(tmp_path / "model_final.pt")["model_state_dict"]
    assert all(torch.equal(first[name], saved[name]) for name in first)


def test_figures_of_an_iteration_are_those_of_the_updates_that_were_made(tiny, tmp_path, monkeypatch):
    """Dropped updates count for nothing: no mean is drawn towards 0, and without an update there is none."""
    spoil(monkeypatch, lambda k: k in (1, 2) or 8 <= k < 16)
    words = ("--iterations", "2", "-q", "--critic-epochs", "0", "--max-dropped-updates", "99")
    assert run(tiny, tmp_path, *words) == 0
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["entropy"] > 2.3  # of 12 actions: ln 12 = 2.48; with two of eight updates at 0 it would be 1.86
    names = ("entropy", "kl", "clip_fraction", "policy_loss", "value_loss", "actor_grad_norm", "critic_loss", "score")
    assert {name: second[name] for name in names} == dict.fromkeys(names)
    assert first["critic_loss"] is None


def test_too_many_in_a_row_stop_the_run_with_the_last_good_state_saved(tiny, tmp_path, monkeypatch, refused):
    spoil(monkeypatch, lambda k: k >= 8)  # the second iteration
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "-q", "--max-dropped-updates", "3"]
    said = refused(*words)
    assert "8 updates in a row" in said and "model_interrupted_" in said and "--actor-lr" in said
    (saved,) = tmp_path.glob("model_interrupted_*")
    assert all(x.isfinite().all() for x in read_checkpoint(saved)["model_state_dict"].values())


def test_memory_that_runs_out_at_the_start_halves_the_environments(tiny, tmp_path, monkeypatch, capsys):
    original = loop.collect_rollout

    def scarce(env, policy, state, *args, **kwargs):
        if len(state.holdings) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return original(env, policy, state, *args, **kwargs)

    monkeypatch.setattr(loop, "collect_rollout", scarce)
    assert run(tiny, tmp_path, "--timesteps", "600") == 0
    said = capsys.readouterr().out
    assert "going on with 4 environments" in said and "going on with 2 environments" in said
    saved = read_checkpoint(tmp_path / "model_final.pt")
    assert saved["progress"]["timesteps"] == 600 and saved["config"]["n_envs"] == 2
    assert not list(tmp_path.glob("model_interrupted_*"))


def test_memory_that_runs_out_later_is_saved_first(tiny, tmp_path, monkeypatch, capsys):
    original, calls = loop.collect_rollout, iter(range(100))

    def scarce(*args, **kwargs):
        if next(calls) == 1:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"
            )
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "collect_rollout", scarce)
    assert run(tiny, tmp_path, "--timesteps", "600") == 0
    (saved,) = tmp_path.glob("model_interrupted_*")
    assert read_checkpoint(saved)["progress"]["iteration"] == 1
    assert "going on with 4 environments" in capsys.readouterr().out


@pytest.mark.parametrize("n_envs", ["8", "1"])
def test_memory_that_runs_out_in_mid_update_saves_the_iteration_before_as_it_was(tiny, tmp_path, monkeypatch, n_envs):
    original, calls = loop.update, iter(range(100))

    def scarce(*args, **kwargs):
        figures = original(*args, **kwargs)  # the learner is changed by now
        if next(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return figures

    monkeypatch.setattr(loop, "update", scarce)
    code = run(
        tiny, tmp_path, "--timesteps", "600", "-q", "--save-every", "1", "--keep-checkpoints", "99", "--n-envs", n_envs
    )
    assert code == (2 if n_envs == "1" else 0)  # one environment cannot be halved
    (saved,) = tmp_path.glob("model_interrupted_*")
    there, before = read_checkpoint(saved), read_checkpoint(tmp_path / "model_iteration_000001.pt")
    for key in ("model_state_dict", "actor_optimizer_state_dict", "critic_optimizer_state_dict", "progress"):
        assert checksum(there[key]) == checksum(before[key]), key


def test_rows_of_dropped_updates_are_counted_across_iterations(tiny, tmp_path, monkeypatch, refused):
    spoil(monkeypatch, lambda k: True)  # 8, 8 and 4, while the critic's own updates are sound
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "-q", "--max-dropped-updates", "20"]
    assert "20 updates in a row" in refused(*words)


def test_a_full_disk_under_the_metrics_is_said_in_a_sentence(tiny, tmp_path, monkeypatch, refused):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tactician.monitor.trackers.Trackers._log", full)
    said = refused("train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "-q", "--iterations", "1")
    assert "Cannot write the metrics" in said and "No space left on device" in said


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(loop, "collect_rollout", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(tiny, tmp_path, "-q")


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    assert run(tiny, folder, "-q", "--iterations", "1") == 0
    return (folder / "model_final.pt").read_bytes()


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_damaged_checkpoints_are_refused_in_one_sentence_or_harmless(checkpoint, tmp_path, kind):
    # 100 of each here; benchmarks/kill_test.py --damage does 1,000.
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "model.pt"
    path.write_bytes(checkpoint)
    unharmed = checksum(read_checkpoint(path))
    for _ in range(100):
        data = bytearray(checkpoint)
        place = int(torch.randint(len(data), (), generator=generator))
        if kind == "cut":
            data = data[:place]
        else:
            data[place] ^= 1 << int(torch.randint(8, (), generator=generator))
        path.write_bytes(data)
        try:
            content = read_checkpoint(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert kind == "flip" and checksum(content) == unharmed


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (witness,))

    torch.save({"format": "tactician checkpoint", "version": 1, "x": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(UserError, match="damaged or no checkpoint"):
            read_checkpoint(tmp_path / name)
    assert not witness.exists()


def test_a_disk_that_fills_up_while_saving_loses_nothing_saved_before(tiny, tmp_path, monkeypatch, refused):
    assert run(tiny, tmp_path, "-q", "--iterations", "2", "--save-every", "1") == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("model_*")}
    original = torch.save

    def full(content, file):
        original(content, file)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    words = [
        "train",
        "--config",
        str(tiny),
        "--checkpoint-dir",
        str(tmp_path),
        "-q",
        "--iterations",
        "4",
        "--save-every",
        "1",
    ]
    said = refused(*words, "--resume")
    assert "No space left on device" in said
    assert {path.name: path.read_bytes() for path in tmp_path.glob("model_*")} == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_guard_remembers_the_longest_run():
    guard = ppo.Guard(torch.device("cpu"))
    for value in (1.0, math.nan, math.inf, 2.0, math.nan):
        guard.judge(torch.tensor(value))
    assert (float(guard.dropped), float(guard.longest), float(guard.in_a_row)) == (3, 2, 1)
