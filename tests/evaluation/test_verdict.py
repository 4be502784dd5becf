"""The verdict puts uncertainty first."""

from dataclasses import replace

import pytest
import torch

from tactician.evaluation import Evaluation, Path


def evaluation(gap: float, error: float) -> Evaluation:
    nothing = torch.zeros(2, 1)
    path = Path(nothing, torch.zeros(2, 1, 4), nothing, torch.zeros(2))
    return Evaluation("2019-01-02", "2022-12-28", {}, gap, error, {}, trade_return=0.0, win_rate=0.0, path=path)


@pytest.mark.parametrize(("gap", "error"), [(0.05, 0.03), (-0.05, 0.03), (0.0, 0.0), (0.06, 0.03)])
def test_within_two_standard_errors_nothing_is_claimed(gap, error):
    assert evaluation(gap, error).verdict.startswith("not distinguishable from equal weight")


def test_beyond_two_standard_errors_the_side_is_named_and_hedged():
    good, bad = evaluation(0.10, 0.03), replace(evaluation(0.10, 0.03), growth_beyond_equal_weight=-0.10)
    assert good.verdict.startswith("above") and "one path proves little" in good.verdict
    assert bad.verdict.startswith("below")
