"""Recordings of a GPU's work: on a CPU every call is a plain one, and an error tells what broke a recording off."""

import torch

from tactician.learning.recorded import Recorded, _first


def test_without_a_gpu_every_call_runs_the_function():
    seen = torch.zeros(3)
    add = Recorded(lambda x: seen.add_(x), enabled=False)
    for _ in range(3):
        add(torch.ones(3))
    assert torch.equal(seen, torch.full((3,), 3.0))


def test_the_error_that_broke_a_recording_off_is_the_one_that_is_raised():
    try:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
    except RuntimeError as error:
        assert isinstance(_first(error), torch.OutOfMemoryError)
