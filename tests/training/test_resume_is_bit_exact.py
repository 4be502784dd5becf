"""2N iterations = N + resume + N, to the last bit of every tensor, however the first half ended."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.training.checkpoint import read_checkpoint

PARTS = (
    "model_state_dict",
    "actor_optimizer_state_dict",
    "critic_optimizer_state_dict",
    "env_state",
    "hidden",
    "precision",
)
WALL_CLOCK = {"seconds", "seconds_rollout", "seconds_update", "seconds_validation", "steps_per_second"}


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "--quiet", *words])


def differences(a, b, where="") -> list[str]:
    """Places at which two nested states differ, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        return [] if same else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where}: keys {a.keys() ^ b.keys()}"]
        return [d for key in a if key not in WALL_CLOCK for d in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        return [d for k, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{where}/{k}")]
    nothing = a != a and b != b  # NaN: not available in both
    return [] if a == b or nothing else [f"{where}: {a} != {b}"]


def state(path: Path) -> dict:
    """All that a run goes on with. Which model was the best is no part of it: halves have looked once more, in between."""
    content = read_checkpoint(path)
    kept = {key: content[key] for key in (*PARTS, "progress", "metrics", "normaliser", "value_scale")}
    kept["progress"] = {k: v for k, v in kept["progress"].items() if k not in ("best_validation", "best_iteration")}
    return kept


def lines(folder: Path) -> list[dict]:
    """Without the validation that the first half had at its end, where the whole had none."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK and "validation" not in k} for row in rows]


@pytest.fixture(scope="module")
def two_and_four(tiny, tmp_path_factory) -> Path:
    """Folders of a run of two and of one of four iterations."""
    folder = tmp_path_factory.mktemp("two_and_four")
    for n in ("2", "4"):
        assert run(tiny, folder / n, "--iterations", n) == 0
    return folder


@pytest.fixture
def two(two_and_four, tmp_path, capsys) -> Path:
    """A copy of the run of two iterations."""
    capsys.readouterr()
    return Path(shutil.copytree(two_and_four / "2", tmp_path / "two"))


@pytest.fixture
def four(two_and_four, tmp_path, capsys) -> Path:
    """A copy of the run of four iterations."""
    capsys.readouterr()
    return Path(shutil.copytree(two_and_four / "4", tmp_path / "four"))


@pytest.mark.parametrize(
    ("n_steps", "dropout"),  # whole episodes; and rollouts that stop in mid-episode
    [
        ("32", "0.0"),
        ("8", "0.2"),
        pytest.param("32", "0.2", marks=pytest.mark.slow),
        pytest.param("8", "0.0", marks=pytest.mark.slow),
    ],
)
def test_n_and_resume_and_n_equal_2n(tiny, tmp_path, dropout, n_steps):
    words = ("--dropout", dropout, "--n-steps", n_steps, "--n-gru-layers", "2")
    assert run(tiny, tmp_path / "whole", *words, "--iterations", "6") == 0
    assert run(tiny, tmp_path / "halves", *words, "--iterations", "3") == 0
    assert run(tiny, tmp_path / "halves", *words, "--iterations", "6", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert whole["progress"]["iteration"] == 6
    assert differences(whole, halves) == []
    assert lines(tmp_path / "whole") == lines(tmp_path / "halves")


def test_a_memory_of_the_market_goes_on_too(tiny, tmp_path):
    settings = {**yaml.safe_load(tiny.read_text()), "network": "market_memory"}
    config = tmp_path / "memory.yaml"
    config.write_text(yaml.safe_dump(settings))
    assert run(config, tmp_path / "whole", "--n-steps", "8", "--iterations", "6") == 0
    assert run(config, tmp_path / "halves", "--n-steps", "8", "--iterations", "3") == 0
    assert run(config, tmp_path / "halves", "--n-steps", "8", "--iterations", "6", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert "summary.0.weight" in whole["model_state_dict"]
    assert differences(whole, halves) == []


def test_the_comparison_sees_a_single_changed_bit(tiny, tmp_path):
    assert run(tiny, tmp_path, "--iterations", "1") == 0
    one, other = (state(tmp_path / "model_final.pt") for _ in range(2))
    assert differences(one, other) == []
    bits = other["hidden"].view(torch.int32)
    bits[0, 0, 0] ^= 1
    assert differences(one, other) == ["/hidden"]


def test_a_periodic_checkpoint_continues_as_the_final_one_does(tiny, tmp_path):
    assert run(tiny, tmp_path / "whole", "--iterations", "5", "--save-every", "1", "--keep-checkpoints", "4") == 0
    kept = sorted(path.name for path in (tmp_path / "whole").glob("model_iteration_*"))
    assert kept == [f"model_iteration_{k:06d}.pt" for k in (2, 3, 4, 5)]
    middle = tmp_path / "whole" / "model_iteration_000002.pt"
    assert run(tiny, tmp_path / "branch", "--iterations", "5", "--checkpoint", str(middle)) == 0
    ours, theirs = (state(tmp_path / name / "model_final.pt") for name in ("whole", "branch"))
    for part in PARTS:
        assert differences(ours[part], theirs[part]) == [], part


def test_a_run_goes_on_from_its_best_model_as_if_it_had_not_ended_there(tiny, tmp_path):
    assert run(tiny, tmp_path / "whole", "--iterations", "4", "--validate-every", "99") == 0
    assert run(tiny, tmp_path / "halves", "--iterations", "2", "--validate-every", "99") == 0
    (tmp_path / "halves" / "model_final.pt").unlink()  # killed just before it was written
    assert run(tiny, tmp_path / "halves", "--iterations", "4", "--validate-every", "99", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert differences(whole, halves) == []


def test_a_run_that_is_prolonged_after_a_partial_iteration_goes_on_with_all_environments(tiny, tmp_path):
    assert run(tiny, tmp_path, "--timesteps", "300") == 0  # one iteration of 256 and a part of the next
    assert len(read_checkpoint(tmp_path / "model_final.pt")["env_state"]["day"]) == 8
    assert run(tiny, tmp_path, "--timesteps", "1000", "--resume") == 0
    assert json.loads((tmp_path / "report.json").read_text())["run"]["timesteps"] == 1000


def test_a_finished_run_that_is_resumed_is_only_judged_again(tiny, two):
    before = state(two / "model_final.pt")
    first = json.loads((two / "report.json").read_text())["run"]
    assert run(tiny, two, "--iterations", "2", "--resume") == 0
    assert differences(before, state(two / "model_final.pt")) == []
    again = json.loads((two / "report.json").read_text())["run"]
    assert again["test"] == first["test"] and again["timesteps"] == first["timesteps"]


def test_best_figures_counts_and_rates_come_back(tiny, four, capsys):
    before = read_checkpoint(four / "model_final.pt")["progress"]
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(four), "--iterations", "5", "--resume"]) == 0
    said = capsys.readouterr().out
    assert "iteration 4, 1,024 of 1,280 steps done" in said
    after = read_checkpoint(four / "model_final.pt")["progress"]
    assert after["total_trades"] > before["total_trades"] > 0
    assert after["best_reward"] >= before["best_reward"] and after["winning_trades"] >= before["winning_trades"]


def test_a_step_of_the_optimiser_that_is_not_restored_would_be_seen(tiny, two, four, monkeypatch):
    # The test of the test: forget the moments of Adam, and the halves no longer equal the whole.
    import tactician.training.resume as module

    monkeypatch.setattr(module, "load_optimiser", lambda *_: None)
    assert run(tiny, two, "--iterations", "4", "--resume") == 0
    whole, halves = (state(folder / "model_final.pt") for folder in (four, two))
    assert differences(whole["model_state_dict"], halves["model_state_dict"])


def test_iterations_are_pure_given_the_state(tiny):
    # What resume relies on: nothing outside the state and the setup decides what an iteration does.
    from tactician.config import load_config
    from tactician.environment import load_cached_market
    from tactician.monitor.progress import Reporter
    from tactician.training.loop import iterate
    from tactician.training.setup import prepare_run
    from tactician.training.state import first_train_state

    config = load_config(tiny)
    setup = prepare_run(config, load_cached_market(config, "unused"))
    outcomes = []
    for noise in (0, 123):
        torch.manual_seed(noise)
        torch.randn(noise + 1)
        state = iterate(setup, first_train_state(setup), Reporter("quiet"))
        outcomes.append(state.state_dict(setup.process))
    assert differences(*[{k: v for k, v in o.items() if k in PARTS} for o in outcomes]) == []
    assert replace(state.progress, seconds=0).iteration == 1
