"""What is not finite is no result: it stops a run, or is told as not available; it is never best."""

import importlib
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import tactician.environment as preparation
import tactician.training.loop as loop
from tactician.cli import main
from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.evaluation import Performance, evaluate
from tactician.monitor.progress import Reporter, tell
from tactician.storage import checksum, save_tensors
from tactician.training.checkpoint import read_checkpoint
from tactician.training.setup import prepare_run
from tactician.training.state import Progress, first_train_state
from tactician.training.summary import Summary, print_summary


def words(tiny: Path, folder: Path, *more: str) -> list[str]:
    return ["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "--iterations", "2", *more]


def strict(text: str) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def original(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("not_available")
    assert main(words(tiny, folder, "-q", "--save-every", "1")) == 0
    return folder


@pytest.fixture
def finished(original, tmp_path, capsys) -> Path:
    """A copy of a finished run of two iterations, with a checkpoint after the first."""
    shutil.copytree(original, tmp_path / "finished")
    capsys.readouterr()
    return tmp_path / "finished"


def poison(monkeypatch, tiny: Path, split: str, value: float) -> None:
    """The market cache gives one return that is no growth, in the midst of a range."""
    original = preparation.load_cached_market

    def load(config, rebuild):
        market = original(config, rebuild)
        rows = preparation.split_rows(config, market)[split]
        returns = market.returns.clone()
        returns[rows[len(rows) // 2]] = value
        return replace(market, returns=returns)

    monkeypatch.setattr(preparation, "load_cached_market", load)


@pytest.mark.parametrize("value", [math.nan, math.inf, -2.0])
def test_a_validation_range_without_a_result_stops_the_run_with_its_state_saved(
    tiny, tmp_path, monkeypatch, refused, value
):
    poison(monkeypatch, tiny, "validation", value)
    said = refused(*words(tiny, tmp_path, "-q"))
    assert "The validation range has no result" in said and "2013-" in said
    (saved,) = tmp_path.glob("model_interrupted_*.pt")
    assert str(saved) in said and read_checkpoint(saved)["progress"]["iteration"] == 2
    assert not (tmp_path / "report.json").exists() and not (tmp_path / "model_best.pt").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -2.0])
def test_a_test_range_without_a_result_leaves_models_and_no_summary(tiny, tmp_path, monkeypatch, refused, value):
    poison(monkeypatch, tiny, "test", value)
    said = refused(*words(tiny, tmp_path, "-q"))
    assert "The test range has no result" in said and str(tmp_path / "model_final.pt") in said
    final = read_checkpoint(tmp_path / "model_final.pt")
    assert final["progress"]["iteration"] == 2 and final["seen"]["looks"] == []
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_no_numbers_stop_at_once_and_nothing_is_learnt_from_them(
    tiny, finished, tmp_path, monkeypatch, refused, value
):
    original, calls = loop.collect_rollout, iter(range(99))

    def collect(*args, **kwargs):
        rollout, env_state, hidden = original(*args, **kwargs)
        if next(calls) == 1:
            rollout.rewards[3, 1] = value
        return rollout, env_state, hidden

    monkeypatch.setattr(loop, "collect_rollout", collect)
    said = refused(*words(tiny, tmp_path / "run", "-q"))
    assert "Rewards of iteration 2 are not finite numbers" in said
    (saved,) = (tmp_path / "run").glob("model_interrupted_*.pt")
    assert str(saved) in said
    before, there = read_checkpoint(finished / "model_iteration_000001.pt"), read_checkpoint(saved)
    for part in ("model_state_dict", "actor_optimizer_state_dict", "critic_optimizer_state_dict", "env_state"):
        assert checksum(before[part]) == checksum(there[part]), part
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_run_without_a_closed_trade_has_no_win_rate_and_no_score(tiny, tmp_path, monkeypatch, capsys):
    original = loop.collect_rollout

    def collect(*args, **kwargs):
        rollout, env_state, hidden = original(*args, **kwargs)
        return replace(rollout, trade_closed=torch.zeros_like(rollout.trade_closed)), env_state, hidden

    monkeypatch.setattr(loop, "collect_rollout", collect)
    agent = importlib.import_module("tactician.evaluation.agent")
    monkeypatch.setattr(agent, "closed_trades", lambda *_: torch.zeros(0, dtype=torch.float64))
    assert main(words(tiny, tmp_path, "--best-by", "score", "--validate-every", "1")) == 0
    out = capsys.readouterr().out
    said = " ".join(out.split())
    assert "Trades 0 | Win rate – | Avg return –" in said and "Score –" in said and "Model score: – on" in said
    assert "profitability –" in said and "nan" not in out.lower()
    assert said.count("The model score on the validation range is not available") >= 2
    assert "Best on validation so far" not in said and "no best model" in said
    summary = strict((tmp_path / "report.json").read_text())["run"]
    assert summary["win_rate"] is None and summary["score"] is None and summary["best_iteration"] == 0
    assert summary["test"]["win_rate"] is None and summary["test"]["trade_return"] is None
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        figures = strict(line)
        assert figures["win_rate"] is None and figures["validation_score"] is None and figures["trades"] == 0
    saved = read_checkpoint(tmp_path / "model_final.pt")["progress"]
    assert saved["best_validation"] == -math.inf and saved["best_iteration"] == 0


def test_a_best_figure_that_is_no_number_is_forgotten_on_resume(tiny, finished):
    for name in ("model_best.pt", "model_final.pt"):
        content = read_checkpoint(finished / name)
        content["progress"]["best_validation"] = math.nan
        save_tensors(content, finished / name)
    assert main(words(tiny, finished, "-q", "--resume", "--iterations", "4")) == 0
    progress = read_checkpoint(finished / "model_final.pt")["progress"]
    assert math.isfinite(progress["best_validation"]) and progress["best_iteration"] == 4


def test_json_of_a_whole_run_is_strict(tiny, finished, capsys):
    summary = strict((finished / "report.json").read_text())["run"]
    assert summary["test"]["cash"]["sharpe"] is None, "cash beyond cash does not vary"
    assert summary["test"]["return_beyond_equal_weight"] == pytest.approx(
        summary["test"]["agent"]["annual_return"] - summary["test"]["equal_weight"]["annual_return"], abs=1e-12
    )
    for line in (finished / "metrics.jsonl").read_text().splitlines():
        strict(line)
    for command in (["train", "--dry-run", "--json"], ["costs", "--json"]):
        assert main([command[0], "--config", str(tiny), *command[1:]]) == 0
        strict(capsys.readouterr().out)


def test_the_result_fits_eighty_columns(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words(tiny, tmp_path, "-q")) == 0
    said = capsys.readouterr().out
    table = said[said.index("Held-out") : said.index("Verdict")]
    assert max(map(len, table.splitlines())) <= 80
    (cash,) = [line for line in table.splitlines() if line.strip().startswith("Cash")]
    assert "–" in cash and "nan" not in table


def test_win_rate_of_no_trades_is_not_zero():
    assert math.isnan(Progress().win_rate)
    assert Progress(total_trades=4, winning_trades=1).win_rate == 0.25


def test_figures_of_an_iteration_say_what_is_not_available():
    names = "reward turnover_daily cost_annual win_rate trade_return explained_variance entropy kl clip_fraction score"
    figures = dict.fromkeys(names.split(), math.nan) | {"trades": 0.0, "steps_per_second": 9.0, "dropped_updates": 0.0}
    console = Console(record=True, width=300, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    Reporter("normal", console).figures(figures)
    said = console.export_text()
    assert "nan" not in said and said.count("–") == 10


@pytest.mark.parametrize("sessions", [252, 365])
def test_a_years_figures_follow_the_markets_sessions(tiny, sessions):
    config = load_config(tiny)
    market = replace(load_cached_market(config, ""), sessions_per_year=sessions)
    setup = prepare_run(config, market)
    state = loop.iterate(setup, first_train_state(setup), Reporter("quiet", silent=True))
    assert state.metrics["log_growth_annual"] == pytest.approx(state.metrics["reward"] / 100 * sessions)
    result = evaluate(setup.environment, state.learner.policy, setup.splits["test"])
    n = result.performances["cash"].sessions
    expected = (1 + result.performances["cash"].total_return) ** (sessions / n) - 1
    assert result.performances["cash"].annual_return == pytest.approx(expected)


@pytest.mark.parametrize("name", ["since_trade", "trade_growth", "age"])
def test_a_checkpoint_from_before_a_part_of_the_environments_was_known_resumes_with_zeros(tiny, finished, name):
    from tactician.training.resume import resume

    content = read_checkpoint(finished / "model_final.pt")
    before = content["env_state"].pop(name)
    config = load_config(tiny, {"iterations": 4})
    setup = prepare_run(config, load_cached_market(config, ""))
    state = resume(setup, finished / "model_final.pt", content, Reporter("quiet", silent=True))
    found = getattr(state.env_state, name)
    assert found.shape == before.shape and found.dtype == before.dtype and not bool(found.any())
    assert torch.equal(state.env_state.holdings, content["env_state"]["holdings"])
    save_tensors(content, finished / "model_final.pt")
    assert main(words(tiny, finished, "-q", "--resume", "--iterations", "4")) == 0


def result_table(tiny, width: int, **agent: float) -> str:
    """The table of a summary whose agent has these figures."""
    config = load_config(tiny)
    setup = prepare_run(config, load_cached_market(config, ""))
    state = first_train_state(setup)
    result = evaluate(setup.environment, state.learner.policy, setup.splits["test"])
    figures = Performance(**{**result.performances["agent"].as_dict(), **agent})
    result = replace(result, performances=result.performances | {"agent": figures})
    results = {"validation": result, "test": result}
    metrics = dict.fromkeys(("explained_variance", "entropy", "turnover_daily"), math.nan)
    page = io.StringIO()
    reporter = Reporter("quiet", Console(file=page, width=width, highlight=False, soft_wrap=True))
    print_summary(Summary(setup, state.progress, metrics, results, state.seen), reporter, [])
    return page.getvalue()


ORDINARY = {
    "annual_return": -0.0312,
    "annual_volatility": 0.1934,
    "sharpe": -0.21,
    "sharpe_standard_error": 1.41,
    "max_drawdown": 0.119,
    "annual_turnover": 91.2,
    "annual_cost": 0.1104,
}
VAST = {"annual_return": 123456789.125, "annual_turnover": 98765432.1, "annual_cost": 1234567.25}


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("figures", [ORDINARY, ORDINARY | VAST])
def test_no_figure_of_the_result_is_cut_on_a_narrow_console(tiny, width, figures):
    narrow, wide = (result_table(tiny, columns, **figures) for columns in (width, 300))
    rows = [[line for line in page.splitlines() if line.strip().startswith("Agent")] for page in (narrow, wide)]
    assert rows[0] == rows[1] and len(rows[0]) == 1 and "…" not in narrow
    if figures["annual_return"] > 1:
        assert "+12345678912.5 %" in rows[0][0] and "98765432.1 ×" in rows[0][0] and "123456725.00 %" in rows[0][0]
    else:
        assert "-3.1 %" in rows[0][0] and "-0.21 ± 1.41" in rows[0][0] and "11.04 %" in rows[0][0]


@pytest.mark.parametrize(
    ("volatility", "sharpe", "told"),
    [
        (0.2, -0.001, "0.00 ± 1.41"),
        (0.2, -0.006, "-0.01 ± 1.41"),
        (0.0005, 3.0, "3.00 ± 1.41"),
        (0.00049, 3.0, "–"),
        (0.2, math.nan, "–"),
    ],
)
def test_a_sharpe_ratio_is_told_without_a_minus_zero_and_not_of_what_is_like_cash(tiny, volatility, sharpe, told):
    page = result_table(tiny, 80, **(ORDINARY | {"annual_volatility": volatility, "sharpe": sharpe}))
    (row,) = [line for line in page.splitlines() if line.strip().startswith("Agent")]
    _, after = row.split(f"{100 * volatility:.1f} %", 1)
    assert after.split("11.9 %")[0].strip() == told


@pytest.mark.parametrize(
    ("value", "pattern", "told"),
    [
        (-0.001, ".2f", "0.00"),
        (-0.001, "+.2f", "+0.00"),
        (-0.01, ".2f", "-0.01"),
        (0.04, "+.1f", "+0.0"),
        (-1234.5, "+.1f", "-1234.5"),
        (-math.inf, ".2f", "–"),
    ],
)
def test_what_rounds_to_zero_is_told_without_a_minus_sign(value, pattern, told):
    assert tell(value, pattern) == told and tell(value, pattern, " %") == (told if told == "–" else f"{told} %")
