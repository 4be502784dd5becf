"""From a market cache to a trained, saved and judged agent: what a run leaves behind and what it says."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tactician.cli import main
from tactician.config import load_config
from tactician.environment import OBS_DIM, load_cached_market
from tactician.evaluation import evaluate
from tactician.training.checkpoint import load_policy
from tactician.training.setup import prepare_run

METRICS = [
    "reward",
    "log_growth_annual",
    "trades",
    "win_rate",
    "trade_return",
    "turnover_daily",
    "cost_annual",
    "cost_spread_annual",
    "cost_slippage_annual",
    "cost_impact_annual",
    "cost_commission_annual",
    "use_HOLD",
    "use_RISK_ON",
    "policy_loss",
    "value_loss",
    "critic_loss",
    "explained_variance",
    "entropy",
    "kl",
    "clip_fraction",
    "steps_per_second",
    "seconds_rollout",
    "seconds_update",
    "iteration",
    "timesteps",
]
PLAN_KEYS = [
    "assets",
    "regimes",
    "obs_dim",
    "n_actions",
    "n_params",
    "n_envs",
    "n_steps",
    "batch_size",
    "total_timesteps",
    "iterations",
    "bptt_length",
    "seconds_per_iteration",
    "bytes_per_sample",
    "memory",
    "device",
    "markets",
    "splits",
    "data_fingerprint",
]
TIMED = ("steps_per_second", "seconds_rollout", "seconds_update", "seconds_validation")


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "--quiet"]) == 0
    return folder, json.loads((folder / "report.json").read_text())["run"]


def test_the_duration_is_met_to_the_step(run):
    folder, summary = run
    # 600 steps of 8 environments × 32: two whole iterations of 256 and one of 88.
    assert (summary["timesteps"], summary["iterations"]) == (600, 3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["timesteps"] for line in lines] == [256, 512, 600]


def test_every_promised_metric_is_there_and_finite(run):
    folder, _ = run
    for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
        assert all(isinstance(line[name], int | float) for name in METRICS), line
        assert sum(line[name] for name in line if name.startswith("use_")) == pytest.approx(1, abs=1e-5)
        parts = sum(line[f"cost_{part}_annual"] for part in ("spread", "slippage", "impact", "commission"))
        assert line["cost_annual"] == pytest.approx(parts, rel=1e-4)
    assert list((folder / "tensorboard").glob("events.*"))


def test_summary_holds_what_a_reader_needs(run):
    folder, summary = run
    for name in ("validation", "test"):
        part = summary[name]
        for strategy in ("agent", "equal_weight", "cash", "buy_and_hold"):
            assert {"annual_return", "sharpe", "max_drawdown", "annual_turnover"} <= set(part[strategy])
        assert part["verdict"]
    assert summary["test"]["first_session"] > "2013-03-28" >= summary["validation"]["last_session"]
    assert summary["validation"]["first_session"] > "2012-12-31"
    assert summary["config"]["checkpoint_dir"] == str(folder)
    assert set(summary["versions"]) == {"tactician", "torch", "python"}
    assert len(summary["data_fingerprint"]) == 64


def test_the_saved_best_model_gives_the_summarys_figures_again(run, tiny):
    folder, summary = run
    config = load_config(tiny)
    setup = prepare_run(config, load_cached_market(config, "unused"))
    loaded = load_policy(folder / "model_best.pt")
    assert loaded.content["data_fingerprint"] == summary["data_fingerprint"]
    again = evaluate(setup.environment, loaded.policy, setup.splits["test"]).as_dict()
    assert json.loads(json.dumps(again)) == summary["test"]
    assert (folder / "model_final.pt").exists()


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(run, tiny, tmp_path):
    def comparable(summary: dict) -> dict:
        summary = {k: v for k, v in summary.items() if k not in ("steps_per_second", "config")}
        return summary | {"last_iteration": {k: v for k, v in summary["last_iteration"].items() if k not in TIMED}}

    _, first = run
    for seed, same in ((0, True), (1, False)):
        folder = tmp_path / str(seed)
        words = ["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "-q", "--seed", str(seed)]
        assert main(words) == 0
        second = json.loads((folder / "report.json").read_text())["run"]
        assert (comparable(first) == comparable(second)) == same


def test_checkpoints_load_without_running_code_and_hold_the_whole_state(run):
    content = torch.load(run[0] / "model_final.pt", weights_only=True)
    for key in ("model_state_dict", "actor_optimizer_state_dict", "critic_optimizer_state_dict", "env_state", "hidden"):
        assert content[key] is not None
    assert content["progress"]["timesteps"] == 600
    assert content["normaliser"]["mean"].shape == (44,)


def test_no_temporary_file_is_left(run):
    assert {p.name for p in run[0].iterdir() if p.name.startswith(".")} == {".lock"}


def test_progress_reads_as_specified(tiny, tmp_path, capsys):
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "--timesteps", "512"]
    assert main([*words, "--verbose"]) == 0
    out = capsys.readouterr().out
    for text in (
        "🔄 Iteration 1 | Steps: 0/512 (0.0%)",
        "🔄 Iteration 2 | Steps: 256/512 (50.0%)",
        "🎲 Collecting rollout (32 steps × 8 envs)... done (",
        "📈 PPO Update... done (",
        "🎯 Critic Update... done (",
        "samples counted",
        "Held-out test range",
        "Verdict: the agent is",
        "model_best.pt",
        "report.json",
        "Next:",
    ):
        assert text in out, text
    assert main([*words, "--quiet"]) == 0
    quiet = capsys.readouterr().out
    assert "Iteration" not in quiet and "done (" not in quiet and "Verdict" in quiet


def test_the_plan_as_json_has_the_specified_keys(tiny, capsys):
    assert main(["train", "--config", str(tiny), "--dry-run", "--json", "--episodes", "100"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert list(plan) == PLAN_KEYS
    assert plan["total_timesteps"] == 3200 and plan["iterations"] == 13
    assert plan["assets"] == ["AAA", "BBB", "CCC", "DDD", "CASH"]


def test_the_specified_network_has_941457_parameters_and_341_bytes_a_sample(tiny, capsys):
    words = ["--dry-run", "--json", "--regimes", "static", "--hidden-dim", "256", "--n-gru-layers", "2"]
    assert main(["train", "--config", str(tiny), *words]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["obs_dim"], plan["n_actions"]) == (OBS_DIM, 16) == (64, 16)
    assert (plan["n_params"], plan["bytes_per_sample"]) == (941_457, 341)


def test_a_dry_run_writes_nothing(tiny, tmp_path):
    assert main(["train", "--config", str(tiny), "--dry-run", "--checkpoint-dir", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()


def test_costs_as_table_and_as_json(tiny, capsys):
    assert main(["costs", "--config", str(tiny), "--json", "--on", "2013-06-27"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["session"] == "2013-06-27" and len(report["switch"]) == len(report["regimes"]) == 12
    # Four assets at a quarter each: 0.00045 + 0.01·√0.25 of what is traded.
    total = next(r for r in report["regimes"] if r["name"] == "EQUAL_WEIGHT")["from_cash"]["total"]
    assert total == pytest.approx(0.00545, rel=0.01)
    assert main(["costs", "--config", str(tiny)]) == 0
    assert "EQUAL_WEIGHT" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["train", "build_cache", "costs"])
def test_scripts_and_console_verbs_are_the_same(verb):
    script = subprocess.run(
        [sys.executable, f"src/apps/{verb}.py", "--help"], capture_output=True, text=True, check=True
    )
    module = subprocess.run(
        [sys.executable, "-c", "from tactician.cli import main; main()", verb.replace("_", "-"), "--help"],
        capture_output=True,
        text=True,
    )
    assert script.stdout == module.stdout and "--config" in script.stdout


def test_the_command_that_building_a_cache_names_next_reads_that_cache(tiny, tmp_path, capsys):
    other = ("--cash-rate", "0.02", "--delisting-return", "-0.3", "--cache-path", str(tmp_path / "an other.pt"))
    assert main(["build-cache", "--config", str(tiny), *other]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "Next:" in x]
    words = shlex.split(line.split("tactician train")[1])
    assert main(["train", *words, "--dry-run"]) == 0
