"""The memorising gap: what is earned beyond equal weight where it was learnt, and where not."""

import math

from tactician.evaluation import Found
from tactician.evaluation.inference import Interval
from tactician.training.deployed import Deployed, Lived
from tactician.training.memorising import memorising_gap, sentence


def learnt(beyond):
    return Deployed(Lived(0.1, 3.0, beyond), Lived(0.2, 9.0, 0.5))


def test_each_place_has_its_own_figure():
    found = Found((), Interval(0.02, -0.01, 0.05))
    gap = memorising_gap(learnt(0.12), found, 0.01, -0.03)
    assert gap == {"training": 0.12, "held_out_days": 0.02, "validation": 0.01, "test": -0.03}
    assert sentence(gap) == (
        "Log growth per year beyond equal weight: days of training +12.0 %, days left out +2.0 %, validation +1.0 %, "
        "test -3.0 %"
    )


def test_places_without_a_figure_are_left_out():
    gap = memorising_gap(learnt(math.nan), None, 0.01, None)
    assert gap == {"training": None, "held_out_days": None, "validation": 0.01, "test": None}
    assert sentence(gap) == "Log growth per year beyond equal weight: validation +1.0 %"
