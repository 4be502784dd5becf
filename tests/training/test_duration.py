"""Durations are met to the step."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.config import load_config
from tactician.training.duration import n_iterations, next_share, total_timesteps

CONFIG = Path("rl_v2_multi_asset")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"timesteps": 1_000_000}, 1_000_000),
        ({"timesteps": None, "episodes": 100}, 25_600),  # the specification's example
        ({"timesteps": None, "iterations": 5}, 2_621_440),  # likewise, with 2,048 environments
        ({"timesteps": 7, "episodes": 100, "iterations": 5}, 7),
        ({"timesteps": None, "episodes": 100, "iterations": 5}, 25_600),
        ({"timesteps": None}, 10_000_000),
    ],
)
def test_conversion_and_priority(given, expected):
    assert total_timesteps(load_config(CONFIG, given), n_envs=2048, n_steps=256) == expected


@given(total=st.integers(1, 5000), windows=st.integers(1, 8), per_window=st.integers(1, 4), n_steps=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_iterations_add_up_to_the_total_exactly(total, windows, per_window, n_steps):
    n_envs = windows * per_window
    done, count = 0, 0
    while done < total:
        share = next_share(total - done, n_envs, n_steps, per_window)
        envs = share.n_windows * per_window
        assert 1 <= share.n_windows <= windows
        valid = share.valid(envs, torch.device("cpu"))
        counted = envs * n_steps if valid is None else int(valid.sum())
        assert counted == share.samples
        if valid is not None:  # cut from the end: whole environments, then part of one
            assert (valid[:-1] >= valid[1:]).all() and valid.sum(0).sort(descending=True).values.equal(valid.sum(0))
        done += share.samples
        count += 1
    assert done == total and count == n_iterations(total, n_envs, n_steps)
