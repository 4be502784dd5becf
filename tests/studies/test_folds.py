"""Folds keep time's order: what is trained on, picked on and tested on never overlap, and the test pieces leave nothing out."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tactician.environment import MarketTensors
from tactician.errors import UserError
from tactician.studies.folds import FEWEST, LOOK_BACK, make_folds
from tests.markets import random_market

FIRST_DAY = date(1970, 1, 1) + timedelta(days=10_000)  # of a random market, one row per day
MARKET = random_market(600, n_assets=2, listing=False)


@dataclass(frozen=True)
class Asked:
    """What folds are asked for."""

    market: MarketTensors
    n: int
    episode_length: int
    window: str
    begin: int | None
    purge: int

    def folds(self):
        return make_folds(
            self.market,
            self.n,
            episode_length=self.episode_length,
            window=self.window,
            test_from=None if self.begin is None else FIRST_DAY + timedelta(days=self.begin),
            purge=self.purge,
        )

    def folds_if_any(self):
        try:
            return self.folds()
        except UserError:
            assume(False)


@st.composite
def requests(draw):
    n_days = draw(st.integers(200, 1500))
    return Asked(
        market=random_market(n_days, n_assets=2, listing=False),
        n=draw(st.integers(1, 8)),
        episode_length=draw(st.integers(1, 60)),
        window=draw(st.sampled_from(["expanding", "rolling"])),
        begin=draw(st.none() | st.integers(150, n_days - 2)),
        purge=draw(st.integers(0, 300)),
    )


@settings(max_examples=100, deadline=None)
@given(requests())
def test_test_pieces_join_up_to_the_out_of_sample_range_and_are_equally_long(asked):
    folds = asked.folds_if_any()
    rows = [row for fold in folds for row in fold.test]
    begin = 1 + (asked.market.n_days - 1) // 2 if asked.begin is None else asked.begin
    assert rows == list(range(begin, asked.market.n_days))
    lengths = [len(fold.test) for fold in folds]
    assert len(folds) == asked.n and max(lengths) - min(lengths) <= 1 and min(lengths) >= 2
    assert [fold.number for fold in folds] == list(range(1, asked.n + 1))


@settings(max_examples=100, deadline=None)
@given(requests())
def test_each_range_is_over_before_the_next_decides(asked):
    for fold in asked.folds_if_any():
        # By the dates of the market, not by rows: the last reward of a range ends before the next one's first decision.
        for earlier, later in ((fold.train, fold.validation), (fold.validation, fold.test), (fold.train, fold.test)):
            assert asked.market.end_dates[earlier[-1]] < asked.market.dates[later[0]]
        between_training_and_validation = range(fold.train.stop, fold.validation.start)
        assert len(between_training_and_validation) == asked.purge + 1
        assert fold.test.start - fold.validation.stop == 1


@settings(max_examples=100, deadline=None)
@given(requests())
def test_training_has_room_for_an_episode_and_validation_says_something(asked):
    folds = asked.folds_if_any()
    for fold in folds:
        assert fold.train.start >= 1 and len(fold.train) >= asked.episode_length
        assert len(fold.validation) == max(len(folds[0].test), FEWEST)
    for before, after in pairwise(folds):
        assert after.train.stop > before.train.stop
        if asked.window == "expanding":
            assert after.train.start == before.train.start == 1
        else:
            assert len(after.train) == len(before.train)


def test_five_folds_by_hand():
    market = random_market(2001, n_assets=2, listing=False)
    folds = make_folds(market, 5, episode_length=256)
    assert [(fold.test.start, fold.test.stop) for fold in folds] == [
        (1001, 1201),
        (1201, 1401),
        (1401, 1601),
        (1601, 1801),
        (1801, 2001),
    ]
    first, last = folds[0], folds[-1]
    assert (first.train, first.validation) == (range(1, 547), range(800, 1000)) and LOOK_BACK == 252
    assert (last.train, last.validation) == (range(1, 1347), range(1600, 1800))
    rolling = make_folds(market, 5, episode_length=256, window="rolling")
    assert rolling[0] == first and rolling[-1].train == range(801, 1347)
    assert market.dates_of(first.test) == ("2000-02-14", "2000-08-31")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n": 400}, "--folds"),
        ({"n": 200, "begin": 590}, "--folds"),
        ({"begin": 1}, "--test-from 1997-05-20 lies outside"),
        ({"begin": 600}, "--test-from 1999-01-09 lies outside"),
        ({"begin": 599}, "--folds"),  # one session is left
        ({"purge": 200}, "--purge"),
        ({"purge": 10_000}, "--purge"),
        ({"begin": 100}, "--test-from"),
        ({"episode_length": 400}, "--episode-length"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence_that_names_the_flag(changes, named):
    asked = Asked(
        **{"market": MARKET, "n": 2, "episode_length": 32, "window": "expanding", "begin": None, "purge": 10} | changes
    )
    with pytest.raises(UserError) as caught:
        asked.folds()
    said = str(caught.value)
    assert named in said and said.endswith(".") and said.count(". ") == 0 and "\n" not in said


def test_a_first_test_session_without_a_bar_is_the_next_one():
    market = random_market(900, n_assets=2, listing=False)
    later = market.dates + (market.dates >= 10_500) * 3  # a long weekend
    with_gap = replace(market, dates=later, end_dates=later + 1)
    for day in (500, 501, 502, 503):
        (fold,) = make_folds(with_gap, 1, episode_length=8, test_from=FIRST_DAY + timedelta(days=day), purge=0)
        assert fold.test.start == 500
