"""The model score: the formula of docs/score.md, its bounds, and that it moves with each component."""

import itertools
import math
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.training.score import WEIGHTS, Score, model_score

METRICS = {
    "trade_return": 0.004,
    "win_rate": 0.5,
    "reward": 0.05,
    "explained_variance": 0.6,
    "entropy": 1.2,
    "kl": 0.015,
    "clip_fraction": 0.06,
}
finite = st.floats(-1e6, 1e6)


def test_an_example_worked_by_hand():
    # tanh(0.4) = 0.379949, tanh(1) = 0.761594, 1.2/ln 12 = 0.482915, (0.5 + 0.2)/2 = 0.35
    score = model_score(METRICS, 12)
    assert asdict(score) == pytest.approx(
        {
            "profitability": 0.379949,
            "reward": 0.761594,
            "value_accuracy": 0.6,
            "exploration": 0.482915,
            "instability": 0.35,
        },
        abs=1e-6,
    )
    assert score.total == pytest.approx(40 * 0.379949 + 20 * 0.761594 + 12 + 4.82915 - 3.5, abs=1e-3)


def test_the_weights_are_the_specifications():
    assert sorted(100 * w for w in WEIGHTS.values()) == pytest.approx([-10, 10, 20, 20, 40])
    assert list(WEIGHTS) == [f.name for f in fields(Score)]


@given(st.fixed_dictionaries(dict.fromkeys(METRICS, finite)), st.integers(2, 64))
def test_every_component_stays_in_its_range_and_the_score_in_its(metrics, n_actions):
    score = model_score(metrics, n_actions)
    assert all(-1 <= x <= 1 for x in asdict(score).values())
    assert 0 <= score.exploration <= 1 and 0 <= score.instability <= 1
    assert -90 - 1e-9 <= score.total <= 90 + 1e-9


def test_the_bounds_are_reached():
    best = {
        **METRICS,
        "trade_return": 1,
        "win_rate": 1,
        "reward": 9,
        "explained_variance": 1,
        "kl": 0,
        "clip_fraction": 0,
    }
    assert model_score({**best, "entropy": math.log(12)}, 12).total == pytest.approx(90)
    worst = {"trade_return": -1, "reward": -9, "explained_variance": -5, "entropy": 0, "kl": 1, "clip_fraction": 1}
    assert model_score({"win_rate": 1, **worst}, 12).total == pytest.approx(-90)


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_the_total_is_monotone_in_each_component(name):
    base = model_score(METRICS, 12)
    totals = [replace(base, **{name: x / 10}).total for x in range(-10, 11)]
    rising = all(a < b for a, b in itertools.pairwise(totals))
    falling = all(a > b for a, b in itertools.pairwise(totals))
    assert falling if name == "instability" else rising


@pytest.mark.parametrize(
    ("figure", "values", "sign"),
    [
        ("trade_return", (-0.02, -0.001, 0.0, 0.003, 0.01), 1),
        ("win_rate", (0.0, 0.3, 0.5, 0.9), 1),  # where trades earn
        ("reward", (-0.1, 0.0, 0.02, 0.1), 1),
        ("explained_variance", (-0.5, 0.0, 0.4, 1.0), 1),
        ("entropy", (0.0, 0.5, 1.5, 2.4), 1),
        ("kl", (0.0, 0.01, 0.029), -1),
        ("clip_fraction", (0.0, 0.1, 0.29), -1),
    ],
)
def test_the_score_moves_the_right_way_with_each_figure(figure, values, sign):
    totals = [sign * model_score({**METRICS, figure: x}, 12).total for x in values]
    assert totals == sorted(totals) and len(set(totals)) == len(totals)


@pytest.mark.parametrize(("total", "style"), [(20.5, "green"), (20.0, ""), (0.0, ""), (-0.5, "red")])
def test_colours_change_above_20_and_below_0(total, style):
    assert replace(Score(0, 0, 0, 0, 0), profitability=total / 40).style == style


def test_the_page_has_the_constants_of_the_code():
    page = Path("docs/score.md").read_text(encoding="utf-8")
    assert re.findall(r"\| (−?\d+) \|$", page, re.M) == ["40", "20", "20", "10", "−10"]
    for constant in ("/ 0.005)", "/ 0.05)", "KL / 0.03)", "clip fraction / 0.3)", "ln(actions)"):
        assert constant in page


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("figure", list(METRICS))
def test_a_figure_that_is_not_available_leaves_no_score(figure, broken):
    score = model_score({**METRICS, figure: broken}, 12)
    assert math.isnan(score.total) and score.style == ""
    assert sum(math.isnan(x) for x in asdict(score).values()) == 1, "and spoils its own component only"
