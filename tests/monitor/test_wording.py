"""Figures for the eye: values, counts, durations, the colour of a score."""

import math

import pytest

from tactician.monitor.wording import about, count, score_colour, tell, time_left
from tests.monitor.terminal import coloured, plain, reporter
from tests.monitor.test_layout import FIGURES


@pytest.mark.parametrize(
    ("n", "noun", "said"),
    [
        (0, "finding", "0 findings"),
        (1, "iteration", "1 iteration"),
        (2, "GPU", "2 GPUs"),
        (1, "training session", "1 training session"),
        (2048, "batch", "2,048 batches"),
        (3, "loss", "3 losses"),
        (2, "day", "2 days"),
        (2, "entry", "2 entries"),
    ],
)
def test_counts(n, noun, said):
    assert count(n, noun) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "about 1 s"),
        (0.6, "about 1 s"),
        (7.4, "about 7 s"),
        (9.9, "about 10 s"),
        (12.4, "about 10 s"),
        (38.0, "about 40 s"),
        (57.4, "about 55 s"),
        (57.6, "about 1 min"),
        (100.0, "about 2 min"),
        (3569.0, "about 59 min"),
        (3571.0, "about 1 h"),
        (11_300.0, "about 3 h 10 min"),
        (86_000.0, "about 23 h 50 min"),
        (86_399.0, "about 1 day"),
        (200_000.0, "about 2 days 8 h"),
    ],
)
def test_durations(seconds, said):
    assert about(seconds) == said and time_left(seconds) == f"{said} left"


def test_durations_only_grow():
    said = list(dict.fromkeys(about(0.25 * k) for k in range(4 * 100_000)))
    assert len(said) == len(set(said)) and said[-1] == "about 1 day 4 h"


def test_a_time_that_is_not_known_is_not_told():
    assert time_left(None) == ""


def test_values():
    assert tell(-0.001, "+.1f", " %") == "+0.0 %" and tell(math.nan, ".1f", " %") == "–"


@pytest.mark.parametrize(("score", "colour"), [(20.5, "green"), (20.0, ""), (0.0, ""), (-0.5, "red"), (math.nan, "")])
def test_the_score_has_its_colour_in_the_line_of_an_iteration(score, colour):
    assert score_colour(score) == colour
    told = reporter(300)
    told.figures({**FIGURES, "score": score})
    code = {"green": "\x1b[32m", "red": "\x1b[31m", "": ""}[colour]
    shown = tell(score, "+.0f")
    assert (f"Score {code}{shown}\x1b[0m" if code else f"Score {shown} |") in coloured(told)


@pytest.mark.parametrize(("dropped", "said"), [(1, "1 update was dropped"), (3, "3 updates were dropped")])
def test_dropped_updates_are_counted(dropped, said):
    told = reporter(300)
    told.figures({**FIGURES, "dropped_updates": float(dropped)})
    assert said in plain(told)[-1]
