"""The memory plan: the specification's formula, caps, defaults, and the plan beside what is really taken."""

import sys
from dataclasses import replace

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.config import load_config, make_config
from tactician.environment import load_cached_market
from tactician.errors import UserError
from tactician.hardware.memory import GB, HEAP, MemoryPlan, bytes_per_sample, fit_to_memory, make_plan
from tactician.hardware.probe import Probe
from tactician.hardware.sizes import Sizes
from tactician.policy import ActorCritic
from tactician.training.setup import prepare_run

pytestmark = pytest.mark.whole_probe

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
RANGES = {"train_until": "2015-01-01", "validation_until": "2016-01-01", "checkpoint_dir": "x", "cache_path": "x.pt"}
MEASURED = MemoryPlan(
    budget=45 * GB,
    formula_bytes_per_sample=341,
    stored_bytes_per_sample=141.0,
    feature_bytes_per_sample=1024.0,
    batch_bytes_per_sample=10_000.0,
    fixed_bytes=15_000_000,
)


def config(**changes):
    return make_config({"universe": {"a": ["X"], "b": ["Y", "CASH"]}, **RANGES, **changes}, "test")


def test_the_formula_is_the_specifications():
    # 64 × 4 + 8 + 4 + 4 + 4 + 1 + 16 × 4
    assert bytes_per_sample(64, 16) == 341


def test_the_request_for_312500_gb_is_warned_about_and_capped():
    # The bug report behind the specification: 1.8 million environments × 512,000 steps.
    asked = Sizes(1_790_000, 512_000, 8_192)
    assert asked.samples * 341 / GB == pytest.approx(312_500, rel=1e-3)
    sizes, _, warning = fit_to_memory(asked, MEASURED, per_window=1)
    assert sizes.samples * 341 * 1.5 <= 45 * GB and sizes.n_envs >= 1
    assert "45.0 GB may be used" in warning and f"{sizes.n_envs:,} environments are taken instead" in warning


@pytest.mark.parametrize("per_window", [1, 8])
def test_what_is_capped_is_the_most_that_fits(per_window):
    sizes, frugal, warning = fit_to_memory(Sizes(10**7, 256, 8_192), MEASURED, per_window)
    assert not frugal.keep_features
    assert warning is not None and sizes.n_envs % per_window == 0

    def fits(n_envs):
        s = replace(sizes, n_envs=n_envs)
        return s.samples * 341 * 1.5 <= frugal.budget and frugal.predicted(s) <= frugal.budget

    assert fits(sizes.n_envs) and not fits(sizes.n_envs + per_window)


def test_what_fits_is_left_alone():
    asked = Sizes(16_384, 256, 8_192)
    assert fit_to_memory(asked, MEASURED, 1) == (asked, MEASURED, None)


def test_a_minibatch_that_cannot_fit_is_made_smaller_before_environments_go():
    asked = Sizes(4_096, 256, 10_000_000)
    sizes, frugal, warning = fit_to_memory(replace(asked, n_envs=40_960), MEASURED, 1)
    assert sizes.n_envs == 40_960 and frugal.predicted(sizes) <= MEASURED.budget
    assert MEASURED.budget / 3 < sizes.batch_size * MEASURED.batch_bytes_per_sample < MEASURED.budget / 2
    assert f"minibatches have {sizes.batch_size:,} samples" in warning


@pytest.mark.parametrize(("n_steps", "per_window"), [(320_000_000, 1), (256, 10**9)])
def test_where_not_even_a_window_fits_the_run_is_refused(n_steps, per_window):
    with pytest.raises(UserError, match=r"not even .* environments fit; lower --n-steps"):
        fit_to_memory(Sizes(10**9, n_steps, 8_192), MEASURED, per_window)


def test_a_network_that_cannot_fit_is_refused_in_a_sentence(tiny, refused, monkeypatch):
    def scarce(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr("tactician.training.setup.make_policy", scarce)
    assert "The network does not fit into memory" in refused("train", "--config", str(tiny), "--dry-run")


def test_a_smaller_minibatch_is_what_the_run_learns_with(tiny, monkeypatch):
    monkeypatch.setattr("tactician.training.setup.memory_budget", lambda *_: 3e6)
    config = load_config(tiny, {"n_envs": 64, "batch_size": 2048})
    setup = prepare_run(config, load_cached_market(config, ""))
    assert setup.hyper.batch_size == setup.sizes.batch_size == setup.config.batch_size < 2048


def test_the_critics_features_are_given_up_before_environments_are():
    asked = Sizes(65_536, 512, 65_536)  # 39 GB of features alone
    sizes, frugal, warning = fit_to_memory(asked, MEASURED, 1)
    assert sizes == asked and MEASURED.predicted(asked) > 45 * GB >= frugal.predicted(asked)
    assert frugal == replace(MEASURED, keep_features=False)
    assert "the critic's features are not kept" in warning


def test_the_plan_counts_what_comes_after_the_probes_peak():
    policy = ActorCritic(64, 12, hidden_dim=32, n_gru_layers=1)
    moments = 2 * 4 * sum(p.numel() for p in policy.parameters())
    with_features, without = (
        make_plan(Probe(200.0, 5000.0, 128.0, 1e6), policy, 12, critic_epochs=epochs, budget=GB) for epochs in (1, 0)
    )
    assert (with_features.held_bytes_per_sample, without.held_bytes_per_sample) == (200 + 4 * 32, 200)
    allocated = 100 * 328 + 10 * 5000 + 1e6 + moments
    assert with_features.predicted(Sizes(10, 10, 10)) == pytest.approx(HEAP["cpu"] * allocated)


def test_features_of_a_shared_memory_are_planned_once_per_window(tiny, tmp_path):
    keys = {"network": "market_memory", "portfolios_per_window": 4, "baseline": "window"}
    path = tmp_path / "memory.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(tiny.read_text()) | keys))
    config = load_config(path, {})
    setup = prepare_run(config, load_cached_market(config, ""))
    assert setup.memory.feature_bytes_per_sample == 64 * 4 / 4  # a summary of 64 numbers


def test_the_plans_error_is_told(tiny, tmp_path, capsys):
    assert MEASURED.compare(Sizes(100, 100, 100), MEASURED.predicted(Sizes(100, 100, 100)) / 1.1).endswith(
        "error +10 %"
    )
    words = ["--checkpoint-dir", str(tmp_path), "--iterations", "1", "--verbose"]
    assert main(["train", "--config", str(tiny), *words]) == 0
    assert ("plan error" in capsys.readouterr().out) == (sys.platform == "linux")


def test_a_request_that_cannot_fit_is_capped_in_the_plan_too(tiny, capsys):
    assert main(["train", "--config", str(tiny), "--n-envs", "80000000", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "80,000,000 environments × 32 steps in minibatches of 64 would take about" in said
        and "are taken instead" in said
    )
