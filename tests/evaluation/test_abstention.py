"""How far what was learnt is followed: nothing unless days that it was not learnt on show it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.evaluation import Found, HeldOut, evaluate, found_from, on_held_out_days, weigh
from tactician.evaluation.inference import NOT_AVAILABLE, Interval
from tests.evaluation.agents import EQUAL, MOMENTUM, Told, environment, planned
from tests.markets import random_market

PIECES = (HeldOut("2001-01-02", "2004-12-30", 0.03, 4.0), HeldOut("2005-01-03", "2008-12-30", 0.05, 6.0))


def found(value, low, high):
    return Found(PIECES, Interval(value, low, high))


@pytest.mark.parametrize(
    ("interval", "strength"),
    [
        ((0.04, 0.0004, 0.08), 1 - (0.0396 / 1.959964 / 0.04) ** 2),  # by hand: s = 0.0202, s²/d² = 0.255
        ((0.04, 0.02, 0.06), 1 - (0.02 / 1.959964 / 0.04) ** 2),
        ((0.04, 0.04, 0.04), 1.0),  # there is no doubt
        ((0.04, 0.0216, 0.06), 1 - (0.0184 / 1.959964 / 0.04) ** 2),  # 0.945, just below what counts as no doubt
        ((0.04, 0.0232, 0.06), 1.0),  # 0.954
        ((0.04, 0.0, 0.08), 0.0),  # the interval reaches zero
        ((0.04, -0.01, 0.09), 0.0),
        ((-0.04, -0.06, -0.02), 0.0),
        ((math.nan, math.nan, math.nan), 0.0),
    ],
)
def test_the_strength_is_the_shrinkage_of_an_interval_above_zero(interval, strength):
    assert found(*interval).strength == pytest.approx(strength, abs=1e-6)


@given(value=st.floats(1e-4, 1), error=st.floats(1e-6, 0.5))
def test_the_strength_grows_as_the_doubt_shrinks_and_stays_a_share(value, error):
    less, more = (found(value, value - 1.96 * s, value + 1.96 * s).strength for s in (error / 2, error))
    assert 0 <= more <= less <= 1


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        (
            (-0.082, -0.167, 0.009),
            "Hold equal weight: nothing found (held-out days: -8.2 % per year beside equal weight, 95 % "
            "confidence interval -16.7 to +0.9).",
        ),
        (
            (0.04, 0.0004, 0.08),
            "Follow the agent for 74 %, and equal weight for the rest (held-out days: +4.0 % per year "
            "beside equal weight, 95 % confidence interval +0.0 to +8.0).",
        ),
        ((math.nan,) * 3, "Hold equal weight: nothing found (the held-out days give no figure)."),
    ],
)
def test_the_reader_is_told_what_to_do_and_from_which_figures(interval, told):
    assert found(*interval).told == told


def test_what_was_found_survives_a_checkpoint():
    one = found(0.04, 0.01, 0.07)
    assert found_from(one.as_dict()) == one


def test_the_pieces_together_give_one_interval():
    rng = np.random.default_rng(0)
    gaps = [rng.normal(4e-4, 1e-3, 400), rng.normal(4e-4, 1e-3, 500)]
    both = weigh(PIECES, gaps, 252)
    assert both.difference.value == pytest.approx(np.concatenate(gaps).mean() * 252)
    assert both.difference.low > 0 and both.strength > 0.5
    swapped = weigh(PIECES, [-gap for gap in gaps], 252)
    assert swapped.strength == 0


def test_too_few_days_find_nothing():
    assert weigh(PIECES, [np.zeros(2), np.ones(2)], 252).difference == NOT_AVAILABLE
    assert weigh(PIECES, [np.zeros(2), np.ones(2)], 252).strength == 0


def test_a_member_is_measured_beside_equal_weight_of_the_same_days():
    market = random_market(300, listing=False)
    lazy = environment(planned(market, (market.dates * 0 + EQUAL)))
    piece, gap = on_held_out_days(evaluate(lazy, Told(), range(120, 200)))
    assert piece.beyond_equal_weight == 0 and not gap.any() and len(gap) == 80
    assert (piece.first, piece.last) == market.dates_of(range(120, 200))
    busy, gap = on_held_out_days(
        evaluate(environment(planned(market, market.dates * 0 + MOMENTUM)), Told(), range(120, 200))
    )
    assert busy.beyond_equal_weight == pytest.approx(gap.mean() * 252) != 0
