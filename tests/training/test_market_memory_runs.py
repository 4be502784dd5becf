"""Whole runs with a memory of the market: in two processes, in 16 bits, and without a leak."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.training import loop
from tactician.training.checkpoint import read_checkpoint
from tests.hardware.test_processes import torchrun, training
from tests.training.test_resume_is_bit_exact import differences, run, state


@pytest.fixture
def config(tiny, tmp_path) -> Path:
    """The tiny configuration with windows of two portfolios, which share a memory."""
    path = tmp_path / "memory.yaml"
    keys = {"network": "market_memory", "portfolios_per_window": 2, "baseline": "window"}
    path.write_text(yaml.safe_dump(yaml.safe_load(tiny.read_text()) | keys))
    return path


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(config, tmp_path):
    # Small steps, so that a rounding rarely decides on which side of its kink a ReLU is.
    words = ("--iterations", "2", "--dropout", "0.1", "--actor-lr", "3e-4", "--critic-lr", "3e-4")
    assert run(config, tmp_path / "alone", *words) == 0
    log = tmp_path / "log"
    process = torchrun(
        "--standalone", "--nproc-per-node", "2", words=training(config, tmp_path / "both", *words), log=log
    )
    assert process.wait(120) == 0, log.read_text()
    alone, together = (read_checkpoint(tmp_path / name / "model_final.pt") for name in ("alone", "both"))
    assert "summary.0.weight" in alone["model_state_dict"]
    for name, value in alone["env_state"].items():
        assert torch.allclose(value.double(), together["env_state"][name].double(), rtol=1e-5, atol=1e-6), name
    for name, value in alone["model_state_dict"].items():
        assert torch.allclose(value, together["model_state_dict"][name], rtol=1e-3, atol=2e-5), name
    for key in ("reward", "policy_loss", "value_loss", "critic_loss", "entropy", "kl", "actor_grad_norm"):
        assert together["metrics"][key] == pytest.approx(alone["metrics"][key], rel=1e-3, abs=1e-5), key


@pytest.mark.slow
def test_n_and_resume_and_n_equal_2n_in_16_bits(config, tmp_path):
    words = ("--n-steps", "8", "--dropout", "0.2", "--amp", "--amp-dtype", "bf16")
    assert run(config, tmp_path / "whole", *words, "--iterations", "4") == 0
    assert run(config, tmp_path / "halves", *words, "--iterations", "2") == 0
    assert run(config, tmp_path / "halves", *words, "--iterations", "4", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert differences(whole, halves) == []
    assert run(config, tmp_path / "wide", *words[:4], "--iterations", "4") == 0
    assert differences(whole, state(tmp_path / "wide" / "model_final.pt"))  # it was computed in 16 bits


def test_an_older_checkpoint_repeats_a_windows_memory_and_goes_on_to_the_same_bits(config, tmp_path):
    for name in ("new", "old"):
        assert run(config, tmp_path / name, "--n-steps", "8", "--iterations", "1") == 0
    path = tmp_path / "old" / "model_final.pt"
    content = read_checkpoint(path)
    assert content["hidden"].shape[1] == len(content["env_state"]["day"]) == len(content["env_state"]["holdings"]) // 2
    torch.save(content | {"hidden": content["hidden"].repeat_interleave(2, 1)}, path)
    for name in ("new", "old"):
        assert run(config, tmp_path / name, "--n-steps", "8", "--iterations", "3", "--resume") == 0
    assert differences(*(state(tmp_path / name / "model_final.pt") for name in ("new", "old"))) == []


def test_a_short_last_iteration_leaves_the_memories_of_the_other_windows(config, tmp_path):
    words = ("--n-steps", "8", "--dropout", "0.1")  # 8 environments in 4 windows: 64 steps, and 16 of one window
    assert run(config, tmp_path / "whole", *words, "--timesteps", "64") == 0
    assert run(config, tmp_path / "more", *words, "--timesteps", "80") == 0
    whole, more = (read_checkpoint(tmp_path / name / "model_final.pt") for name in ("whole", "more"))
    assert more["progress"]["timesteps"] == 80 and more["hidden"].shape == whole["hidden"].shape
    assert len(more["env_state"]["day"]) == more["hidden"].shape[1] == 4
    stayed = whole["env_state"]["age"] == more["env_state"]["age"]
    assert stayed.tolist() == [False, True, True, True]
    assert torch.equal(whole["hidden"][:, 1:], more["hidden"][:, 1:])
    assert not torch.equal(whole["hidden"][:, 0], more["hidden"][:, 0])


def test_memory_that_runs_out_halves_the_windows_with_their_memories(config, tmp_path, monkeypatch, capsys):
    original = loop.collect_rollout

    def scarce(env, policy, state, hidden, **kwargs):
        if len(state.holdings) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        assert hidden.shape[1] == len(state.day)
        return original(env, policy, state, hidden, **kwargs)

    monkeypatch.setattr(loop, "collect_rollout", scarce)
    assert run(config, tmp_path, "--n-steps", "8", "--timesteps", "64", "--dropout", "0.1") == 0
    assert "going on with 4 environments" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "model_final.pt")["hidden"].shape[1] == 2


def test_what_it_has_learnt_has_no_leak(config, tmp_path, capsys):
    assert run(config, tmp_path / "run", "--iterations", "1") == 0
    capsys.readouterr()
    model = str(tmp_path / "run" / "model_final.pt")
    assert main(["check-leaks", "--config", str(config), "--cuts", "1", "--json", "--checkpoint", model]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["leak"] is None and result["refused"] == []
