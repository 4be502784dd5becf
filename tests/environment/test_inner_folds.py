"""Pieces of the training range that are held out: together they cover it, and what is trained on knows nothing of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.environment import LOOK_BACK, inner_folds
from tactician.errors import UserError


@given(start=st.integers(1, 500), length=st.integers(1200, 6000), n=st.integers(2, 12), episode=st.integers(1, 256))
def test_the_pieces_cover_the_range_and_training_keeps_its_distance(start, length, n, episode):
    train = range(start, start + length)
    folds = inner_folds(train, n, episode)
    assert [row for fold in folds for row in fold.held_out] == list(train)
    for fold in folds:
        for part in fold.stretches:
            assert len(part) >= episode and part.start >= train.start and part.stop <= train.stop
            # The last reward before the piece ends before its first row, and the first decision after it sees nothing of it.
            assert part.stop <= fold.held_out.start - 1 or part.start - 1 - LOOK_BACK >= fold.held_out.stop


def test_an_example_by_hand():
    first, second = inner_folds(range(1, 1201), 2, 100)
    assert (first.number, first.held_out, first.stretches) == (1, range(1, 601), (range(854, 1201),))
    assert (second.number, second.held_out, second.stretches) == (2, range(601, 1201), (range(1, 600),))


def test_a_range_that_leaves_no_episode_is_refused_with_the_remedy():
    with pytest.raises(UserError, match="more members"):
        inner_folds(range(1, 400), 2, 256)
