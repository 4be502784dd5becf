"""What the commands print at every width: nothing is cut, no word is divided, one thing is singular."""

import io
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from tactician.bars.findings import Finding
from tactician.commands.announcement import announce, plan, print_plan
from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.evaluation import evaluate
from tactician.market.findings_table import MAX_KINDS, findings_table
from tactician.monitor.tables import print_table
from tactician.portfolio.costs import cost_report
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.regimes import regime_table
from tactician.studies.learnability_table import Row
from tactician.studies.report import _table, tell_run
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state
from tactician.training.summary import Summary, print_summary
from tests.monitor.terminal import WIDTHS, coloured, fits, plain, reporter
from tests.monitor.test_layout import COMMAND

BOARD = "tensorboard --logdir '/home/a person/my results/run/tensorboard'"


@pytest.fixture
def setup(tiny):
    config = load_config(tiny)
    return prepare_run(config, load_cached_market(config, ""))


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_announcement(setup, width):
    told, wide = reporter(width), reporter(500)
    for each in (told, wide):
        announce(setup, each)
    assert fits(plain(told), width) and words(plain(told)) == words(plain(wide))
    said = " ".join(words(plain(told)))
    assert "Training on 4 assets and CASH, 439 sessions from 2011-04-01 to 2012-12-28" in said
    assert "600 steps in 3 iterations, 12 regimes (factor), 8 environments on cpu" in said


def test_one_of_each_is_singular(setup):
    market = setup.environment.market
    one = replace(
        setup,
        environment=replace(setup.environment, market=replace(market, symbols=("AAA",), findings=("one",))),
        splits={**setup.splits, "train": range(1, 2)},
        sizes=replace(setup.sizes, n_envs=1, n_steps=1),
        total_timesteps=1,
    )
    told = reporter(500)
    announce(one, told)
    said = " ".join(plain(told))
    for text in ("1 asset and", "1 session from", "1 step in 1 iteration,", "1 environment on", "1 finding about"):
        assert text in said


@pytest.mark.parametrize("width", WIDTHS)
def test_the_plan(setup, width):
    content = plan(setup)
    page = io.StringIO()
    print_plan(content, False, Console(file=page, width=width, highlight=False))
    lines = page.getvalue().splitlines()
    assert "…" not in page.getvalue() and fits(lines, max(width, 58))
    values = " ".join(line.split("│")[2].strip() for line in lines if line.count("│") == 3)
    for text in (
        *content["regimes"],
        *content["assets"],
        f"{content['n_params']:,}",
        "samples: 256",
    ):
        assert text in values
    assert "439 sessions" in values and content["data_fingerprint"][:12] in values


def test_names_with_brackets_are_no_markup_in_the_plan(setup):
    page = io.StringIO()
    print_plan({"regimes": ["[bold]A", "B[/]"]}, False, Console(file=page, width=80, force_terminal=True))
    assert "[bold]A, B[/]" in page.getvalue()


def summary_of(setup) -> Summary:
    state = first_train_state(setup)
    result = evaluate(setup.environment, state.learner.policy, setup.splits["test"])
    config = setup.config.model_copy(update={"hindsight": True})
    figures = ("explained_variance", "entropy", "trade_return", "win_rate", "reward", "kl", "clip_fraction")
    metrics = dict.fromkeys(figures, 0.5)
    progress = replace(state.progress, iteration=1, timesteps=1, best_iteration=1)
    setup = replace(setup, config=config, total_timesteps=1)
    return Summary(setup, progress, metrics, {"validation": result, "test": result}, state.seen)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_summary(setup, width):
    summary, (told, wide) = summary_of(setup), (reporter(width), reporter(500))
    for each in (told, wide):
        print_summary(summary, each, [COMMAND + "   (does it hold for another seed?)", BOARD])
    lines, all_lines = plain(told), plain(wide)
    begin, whole = (
        next(k for k, line in enumerate(page) if line.startswith("  Verdict:")) for page in (lines, all_lines)
    )
    prose = [
        line
        for line in lines[begin:]
        if COMMAND not in line and BOARD not in line and "model_best" not in line and "Summary" not in line
    ]
    paths = [line for line in prose if "/" in line and "steps/s" not in line]
    assert fits([line for line in prose if line not in paths], width)
    assert words(lines[begin:]) == words(all_lines[whole:])
    assert all(any(command in line for line in lines) for command in (COMMAND, BOARD)), "they can be copied"
    assert "Trained 1 step in 1 iteration at" in " ".join(words(lines))
    assert "\x1b[32m" in coloured(told), "the score's colour"


def test_quiet_leaves_the_score_out(setup):
    told = reporter(80, "quiet")
    print_summary(summary_of(setup), told, [COMMAND])
    said = " ".join(plain(told))
    assert "Model score" not in said and "Next" not in said and "Verdict" in said


@pytest.mark.parametrize("kind", ["factor", "static", "expanded"])
def test_the_costs_fit_80_columns(kind):
    symbols = list("abcdef")
    groups = {"tech": ["a", "b"], "finance": ["c", "d"], "energy": ["e", "f"]}
    table = regime_table(kind, symbols, None if kind == "factor" else groups)
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    result = cost_report(table, scores, torch.ones(6, dtype=torch.bool), Frictions(impact=0.05), session="2022-12-28")
    page = io.StringIO()
    result.render(Console(file=page, width=80, force_terminal=True, color_system=None))
    lines = page.getvalue().splitlines()
    assert fits(lines, 80) and "…" not in page.getvalue()
    flat = re.sub(r"\s", "", page.getvalue())
    assert all(re.sub(r"\s", "", name) in flat for name in table.names)


def test_kinds_beyond_the_table_are_counted():
    findings = [Finding(f"kind_{k}", "warning", "text") for k in range(MAX_KINDS + 1)]
    assert findings_table(findings)[-1] == "  and 1 more kind with 1 row"
    assert findings_table([*findings, Finding("kind_x", "warning", "text")])[-1] == "  and 2 more kinds with 2 rows"


def test_the_study_at_80_columns():
    row = Row(
        market="predictable",
        variant="no critic epochs",
        seeds=5,
        share=0.976,
        share_low=0.952,
        share_high=1.001,
        turnover=0.068,
        turnover_of_optimum=0.063,
        steps_to={"0.90": 983_040.0, "0.95": 1_966_080.0},
        seconds_to={"0.95": 345.0},
        seconds=1.0,
        gap=0.012,
        training=0.031,
        strength=0.88,
        never_trades=False,
        settings={},
    )
    pages = []
    for width in (40, 80, 300):
        page = io.StringIO()
        print_table(Console(file=page, width=width), _table([row]))
        pages.append(page.getvalue())
        assert "1,966,080" in pages[-1] and "345" in pages[-1] and "…" not in pages[-1]
    assert fits(pages[1].splitlines(), 80)


def test_a_training_of_the_study_is_told_in_words():
    run = {"market": "null", "variant": "window", "seed": 0}
    run["points"] = [{"share": 0.5, "turnover": 0.01, "timesteps": 1, "seconds": 2.0}]
    told = reporter(200)
    tell_run(run, 3, told)
    assert plain(told) == [
        "  null, window, seed 0: 50.0 % of the optimum, turnover 1.00 % per session, 1 step in 2 s (3 to go)"
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_command_of_the_house_is_known_without_being_named(width):
    told = reporter(width)
    command = "python src/apps/train.py --config 'my configs/one.yaml' --resume"
    told.say(f"  Stopped and saved run/model.pt. Go on with: {command}  (with the flags of this run)")
    assert any(command in line for line in plain(told))
