"""Recordings of a GPU's work: on a CPU every call is a plain one, and an error tells what broke a recording off."""

import torch

from tactician.errors import UserError
from tactician.learning.recorded import Recorded, _explained


def test_without_a_gpu_every_call_runs_the_function():
    seen = torch.zeros(3)
    add = Recorded(lambda x: seen.add_(x), enabled=False)
    for _ in range(3):
        add(torch.ones(3))
    assert torch.equal(seen, torch.full((3,), 3.0))


def broken_off(first: Exception) -> Exception:
    try:
        try:
            raise first
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
    except RuntimeError as error:
        return _explained(error)


def test_memory_that_runs_out_in_a_recording_is_told_as_such():
    memory = torch.OutOfMemoryError("CUDA out of memory")
    assert broken_off(memory) is memory


def test_a_step_that_cannot_be_recorded_is_told_with_the_remedy():
    told = broken_off(RuntimeError("operation not permitted when stream is capturing"))
    assert isinstance(told, UserError) and "--no-fused" in str(told)
