"""Memory that a training frees is kept for its next minibatch, and given back when it ends."""

import subprocess
import sys

import pytest
import torch

from tactician.hardware import heap

GLIBC = pytest.mark.skipif(heap._glibc() is None, reason="no glibc: nothing is changed")

MEASURE = """
import resource, torch
from tactician.hardware.heap import freed_memory_kept
from tactician.hardware.probe import _resident

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 * 2**20)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
empty, usual = _resident("VmRSS"), faults()
with freed_memory_kept(torch.device("cpu")):
    faults()
    kept, held = faults(), _resident("VmRSS") - empty
print(usual, kept, held // 2**20, (_resident("VmRSS") - empty) // 2**20, faults())
"""


@GLIBC
def test_a_block_is_used_again_without_a_page_fault_and_given_back_in_the_end():
    # In a process of its own, since the allocator's settings are the process's.
    out = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    usual, kept, held, left, after = (int(x) for x in out.split())
    # 4 KiB pages are 16,384 faults per block, pages of 2 MiB are 32.
    assert usual >= 5 * 32 and kept < usual / 5
    assert held >= 60 and left < 10
    assert after > usual / 2  # the settings are the usual ones again


@pytest.mark.parametrize("missing", ["a GPU", "no glibc"])
def test_elsewhere_nothing_changes(missing, monkeypatch):
    monkeypatch.setattr(heap, "_set", lambda *_: pytest.fail("the allocator was changed"))
    if missing == "no glibc":
        monkeypatch.setattr(heap, "_glibc", lambda: None)
        heap.give_back(torch.device("cpu"))
    with heap.freed_memory_kept(torch.device("cuda" if missing == "a GPU" else "cpu")):
        pass
