"""The distance of a market from the days of a training: worked by hand, and against numpy."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tactician.environment import (
    FEATURE_NAMES,
    OLDER,
    Distance,
    Names,
    RangeDistance,
    TrainingDays,
    fit_normaliser,
    normalise,
)
from tactician.environment.training_days import distances
from tests.markets import random_market

ROWS = range(1, 301)


@pytest.fixture(scope="module")
def raw():
    return random_market(n_days=400)


@pytest.fixture(scope="module")
def market(raw):
    return normalise(raw, *fit_normaliser(raw, ROWS))


@pytest.fixture(scope="module")
def training(market):
    return TrainingDays.of(market, ROWS)


def days_at(market, *values: float):
    """A market of which day k lies at the k-th distance: all its features have that value."""
    return replace(market, features=torch.tensor(values)[:, None].expand(-1, len(FEATURE_NAMES)).contiguous())


def test_the_distance_is_the_root_mean_square_of_what_the_policy_sees():
    """By hand: one feature at 3 and one at −4 standard deviations, the other 42 at their means: √(25/44)."""
    day = torch.zeros(1, 44)
    day[0, 5], day[0, 40] = 3.0, -4.0
    assert float(distances(day)[0]) == pytest.approx(5 / math.sqrt(44))


def test_distances_and_percentiles_are_those_of_numpy(raw, training):
    x = raw.features.numpy().astype(np.float64)
    seen = x[ROWS.start : ROWS.stop]
    z = np.clip((seen - seen.mean(0)) / seen.std(0, ddof=1), -5, 5)
    found = np.sqrt(np.mean(z**2, axis=1))
    # From the definition, in whole numbers: numpy's inverted_cdf takes 7 % of 300 for more than 21.
    expected = [min(x for x in found if 100 * np.sum(found <= x) >= p * len(found)) for p in range(101)]
    np.testing.assert_allclose(training.percentiles.numpy(), expected, rtol=1e-5)
    assert training.sessions == 300
    assert np.mean(found**2) == pytest.approx(1, abs=0.01)


def test_a_distance_is_told_by_the_training_days_that_lie_nearer(market):
    """By hand: 200 days at distances 0.01, 0.02 … 2."""
    training = TrainingDays.of(days_at(market, *(k / 100 for k in range(1, 201))), range(200))
    assert [training.percent_nearer(x) for x in (0.0, 0.011, 1.005, 1.945, 1.995, 2.001)] == [0, 0, 50, 97, 99, 100]
    day = Distance(1.945, training, ("spread_size",))
    assert day.sentence == (
        "Distance: this day lies farther from the centre of the training than 97 % of its days, 1.9 × as far as the median "
        "one. Most of it: spread_size."
    )
    assert "farther from the centre of the training than all of its days" in Distance(2.1, training).sentence
    assert day.as_dict() == {
        "value": 1.945,
        "farther_than": 0.97,
        "in_medians": pytest.approx(1.945),
        "largest": ["spread_size"],
        "training_sessions": 200,
        "note": None,
    }


@pytest.mark.parametrize("n", [1, 2, 7, 99, 100, 101, 250])
def test_a_share_of_nearer_days_is_never_overstated(market, n):
    numbers = torch.rand(n, generator=torch.Generator().manual_seed(n)).tolist()
    training = TrainingDays.of(days_at(market, *numbers), range(n))
    found = np.sort(distances(days_at(market, *numbers).features).numpy())
    for x in np.linspace(0, 1.1, 60):
        nearer = 100 * np.mean(found < x)
        assert nearer - 100 / n - 1 <= training.percent_nearer(x) <= nearer + 1e-9
    assert training.percent_nearer(float(found[-1]) + 1e-6) == 100


def test_a_training_day_is_near_and_a_shifted_one_farther(raw, market, training):
    far, mean_and_std = [], fit_normaliser(raw, ROWS)
    for shift in (0.0, 1.0, 2.0, 4.0):
        shifted = replace(raw, features=raw.features + shift)
        day = Distance.of_day(normalise(shifted, *mean_and_std).features[150], training)
        far.append(day.value)
    assert far == sorted(far) and len(set(far)) == 4
    assert training.percent_nearer(far[0]) < 100 and training.percent_nearer(far[-1]) == 100
    typical = int(distances(market.features[1:301]).argsort()[150]) + 1
    assert 48 <= Distance.of_day(market.features[typical], training).percent <= 50


def test_the_features_that_account_for_most_are_named(market, training):
    day = torch.zeros(44)
    day[[7, 30, 2]] = torch.tensor([-4.0, 3.0, 2.0])
    assert Distance.of_day(day, training).largest == (FEATURE_NAMES[7], FEATURE_NAMES[30], FEATURE_NAMES[2])


def test_a_feature_that_hardly_moved_in_training_cannot_drown_the_others(raw):
    almost = raw.features.clone()
    almost[:, 9] = 0.02 + 1e-6 * raw.features[:, 9]
    still = replace(raw, features=almost)
    elsewhere = almost.clone()
    elsewhere[350, 9] = 0.05
    seen = normalise(replace(still, features=elsewhere), *fit_normaliser(still, ROWS))
    assert float(distances(seen.features[350:351])[0]) < 2


def test_a_range_is_told_by_its_median_and_95th_percentile(market):
    """By hand: 101 days at 0, 0.02 … 2 beside 200 training days at 0.01 … 2; a last day lies farther than all."""
    training = TrainingDays.of(days_at(market, *(k / 100 for k in range(1, 201))), range(200))
    judged = days_at(market, *(k / 50 for k in range(101)))
    moved = replace(judged, features=torch.cat([judged.features[:-1], judged.features[-1:] + 1]))
    found = RangeDistance.of(moved, range(101), training)
    assert found.median == pytest.approx(1.0) and found.high == pytest.approx(1.9)
    assert found.beyond == pytest.approx(1 / 101)
    assert "than 49 % of its days, and the 95th percentile farther than 94 %. Days farther than all: 1.0 %" in (
        found.sentence
    )
    told = found.as_dict()
    assert (told["median"]["farther_than"], told["p95"]["farther_than"]) == (0.49, 0.94)
    json.dumps(told, allow_nan=False)


def test_of_an_older_model_the_distance_is_told_without_its_place(market):
    assert TrainingDays.kept_in({"normaliser": {}}) is None
    day = Distance.of_day(market.features[150], None)
    assert f"{day.value:.2f} standard deviations" in day.sentence and OLDER in day.sentence
    assert day.as_dict()["farther_than"] is None and day.as_dict()["note"] == OLDER
    found = RangeDistance.of(market, ROWS, None)
    assert OLDER in found.sentence and found.as_dict()["farther_than_all"] is None


def test_a_checkpoint_gives_back_what_it_keeps(training):
    back = TrainingDays.kept_in(training.as_dict())
    assert back.sessions == training.sessions and torch.equal(back.percentiles, training.percentiles)


def test_names_in_common_are_counted_and_their_order_does_not_count():
    assert not Names(("A", "B"), ("B", "A")).is_other
    partly = Names(("A", "X", "Y"), ("A", "B"), ("A", "B", "C"))
    assert partly.is_other and partly.sentence == (
        "the model was never trained on this universe: 1 of its 3 names are among the 3 of the training."
    )
    assert partly.clause == "the model was never trained on this universe (1 of its 3 names in common)"
    assert partly.as_dict() == {"trained_on": False, "names": 3, "names_in_common": 1, "names_in_training": 3}


def test_of_a_universe_whose_names_were_all_seen_less_is_claimed():
    """An ancestor of the model may have been trained on exactly these."""
    fewer = Names(("A", "B"), ("A", "B", "C"))
    assert (
        fewer.is_other and "never" not in fewer.sentence and "last training was on another universe" in fewer.sentence
    )
