"""What --verbose tells of an iteration is what the samples are, and changes nothing."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import tactician.training.loop as loop
from tactician.cli import main
from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.learning import describe, extremes, generalised_advantages, leave_one_out
from tactician.storage import checksum
from tactician.training.checkpoint import read_checkpoint
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state
from tests.monitor.terminal import plain, reporter


def test_samples_are_described_as_numpy_does():
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)) * 3 + 100
    valid = torch.rand(7, 5, generator=torch.Generator().manual_seed(2)) > 0.4
    for mask in (None, valid):
        kept = (x if mask is None else x[mask]).double().numpy()
        found = {name: float(figure) for name, figure in describe("x", x, mask).items()}
        expected = {"mean": kept.mean(), "std": kept.std(), "min": kept.min(), "max": kept.max()}
        assert found == pytest.approx({f"stat_x_{name}": value for name, value in expected.items()}, rel=1e-5)


def test_without_a_sample_that_counts_other_processes_decide():
    low, high = extremes(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool))
    assert (float(low), float(high)) == (np.inf, -np.inf)


@pytest.fixture
def told(tiny, monkeypatch):
    """The lines of one verbose iteration by their first word, its setup and its rollout."""

    def run(**changes):
        config = load_config(tiny, changes)
        setup = prepare_run(config, load_cached_market(config, ""))
        original, kept = loop.collect_rollout, []

        def collect(*args, **kwargs):
            kept.append(original(*args, **kwargs))
            return kept[-1]

        monkeypatch.setattr(loop, "collect_rollout", collect)
        page = reporter(400, "verbose", terminal=False)
        state = loop.iterate(setup, first_train_state(setup), page)
        monkeypatch.setattr(loop, "collect_rollout", original)
        lines = {line.split()[0].rstrip(":,"): line.strip() for line in plain(page) if line.startswith("     ")}
        return lines, setup, kept[0][0], state

    return run


def numbers(line: str) -> list[float]:
    return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", line)]


def moments_of(x: torch.Tensor) -> list[float]:
    y = x.double().numpy()
    return [y.mean(), y.std(), y.min(), y.max()]


@pytest.mark.parametrize("baseline", ["critic", "window"])
def test_the_lines_tell_the_rollout(told, baseline):
    lines, setup, rollout, state = told(baseline=baseline, portfolios_per_window=1 if baseline == "critic" else 4)
    assert numbers(lines["Rewards"]) == pytest.approx(moments_of(rollout.rewards), abs=1e-4)
    assert numbers(lines["Values"]) == pytest.approx(moments_of(rollout.values), abs=1e-4)
    advantages = generalised_advantages(
        rollout.rewards, rollout.values, rollout.next_values, rollout.continues, setup.hyper.gamma, 0.95
    )
    used = advantages if baseline == "critic" else leave_one_out(advantages, 4)
    assert numbers(lines["Advantages"]) == pytest.approx(moments_of(used), abs=1e-4)
    chosen = torch.bincount(rollout.actions.flatten(), minlength=12).double() / rollout.actions.numel()
    shares = numbers(lines["Regimes"])
    assert shares[:5] == pytest.approx((100 * chosen.sort(descending=True).values[:5]).tolist(), abs=0.051)
    assert sum(shares) == pytest.approx(100, abs=0.4)
    market, days = setup.environment.market, rollout.day
    first, last = int(days.min()), int(days.max())
    where = f"rows {first} to {last} ({market.date_of(first)} to {market.date_of(last)}), all inside the training rows"
    assert where in lines["Indexing"] and f"windows 0 to {len(setup.windows) - 1};" in lines["Indexing"]
    assert f"{int((~rollout.continues).sum())} episodes ended" in lines["Indexing"]
    assert lines["Samples"].startswith("Samples: 256 of 256 samples counted (100 %)")
    assert not [name for name in state.metrics if name.startswith("stat_")]


def test_samples_that_do_not_count_are_left_out(told):
    lines, _, rollout, _ = told(timesteps=40)  # 32 steps of the first environment and 8 of the second
    counted = torch.cat([rollout.rewards[:, 0], rollout.rewards[:8, 1]])
    assert numbers(lines["Rewards"]) == pytest.approx(moments_of(counted), abs=1e-4)
    assert lines["Samples"].startswith("Samples: 40 of 64 samples counted (62 %)")
    assert "1 episode ended" in lines["Indexing"]


@pytest.mark.parametrize("row", [0, 440])  # the training rows are 1 to 439
def test_a_row_outside_the_training_range_is_told(told, monkeypatch, row):
    original = loop.collect_rollout

    def collect(*args, **kwargs):
        rollout, env_state, hidden = original(*args, **kwargs)
        day = rollout.day.clone()
        day[3, 1] = row
        return replace(rollout, day=day), env_state, hidden

    monkeypatch.setattr(loop, "collect_rollout", collect)
    lines, *_ = told()
    assert "1 sample OUTSIDE the training rows" in lines["Indexing"]


def test_telling_changes_no_number_of_the_training(tiny, tmp_path, capsys):
    for flag in ("--quiet", "--verbose"):
        words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / flag), "--iterations", "2"]
        assert main([*words, flag]) == 0
    quiet, verbose = (read_checkpoint(tmp_path / flag / "model_final.pt") for flag in ("--quiet", "--verbose"))
    for part in (
        "model_state_dict",
        "actor_optimizer_state_dict",
        "critic_optimizer_state_dict",
        "env_state",
        "hidden",
    ):
        assert checksum(quiet[part]) == checksum(verbose[part]), part
    lines = [
        [json.loads(line) for line in (tmp_path / flag / "metrics.jsonl").read_text().splitlines()]
        for flag in ("--quiet", "--verbose")
    ]
    timed = {"steps_per_second", "seconds_rollout", "seconds_update", "seconds_validation"}
    assert all(list(a) == list(b) for a, b in zip(*lines, strict=True))
    assert all(a[name] == b[name] for a, b in zip(*lines, strict=True) for name in a.keys() - timed)


def test_without_verbose_nothing_is_computed_or_told(tiny, monkeypatch):
    config = load_config(tiny)
    setup = prepare_run(config, load_cached_market(config, ""))

    def fail(*args, **kwargs):
        raise AssertionError("not asked for")

    monkeypatch.setattr("tactician.learning.ppo.describe", fail)
    monkeypatch.setattr(loop, "rollout_statistics", fail)
    page = reporter(200, terminal=False)
    loop.iterate(setup, first_train_state(setup), page)
    assert not [line for line in plain(page) if line.startswith("     ")]
