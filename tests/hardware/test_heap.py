"""Memory that a training frees is kept for its next minibatch, and given back when it ends."""

import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from tactician.cli import main
from tactician.hardware import heap
from tactician.training import loop

GLIBC = pytest.mark.skipif(heap._glibc() is None, reason="no glibc: nothing is changed")

MEASURE = """
import resource, torch
from tactician.hardware.heap import freed_memory_kept
from tactician.hardware.probe import _resident

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(24 * 2**20)  # 96 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
empty, usual = _resident("VmRSS"), faults()
with freed_memory_kept(torch.device("cpu")):
    faults()
    kept, held = faults(), _resident("VmRSS") - empty
print(usual, kept, held // 2**20, (_resident("VmRSS") - empty) // 2**20)
"""


@GLIBC
def test_a_block_is_used_again_without_a_page_fault_and_given_back_in_the_end():
    # In a process of its own, since the allocator's settings are the process's.
    out = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    usual, kept, held, left = (int(x) for x in out.split())
    # Pages of 4 KiB are 24,576 faults per block, pages of 2 MiB are 48.
    assert usual >= 5 * 48 and kept < usual / 5
    assert held >= 90 and left < 10


def test_the_usual_settings_come_back_also_after_an_error(monkeypatch):
    calls = []

    class Libc:
        def mallopt(self, name, value):
            calls.append((name, value))

        def malloc_trim(self, pad):
            calls.append("trim")

    monkeypatch.setattr(heap, "_glibc", Libc)
    with pytest.raises(KeyError), heap.freed_memory_kept(torch.device("cpu")):
        assert calls == [*heap._KEPT.items()]
        raise KeyError
    assert calls[2:] == [*heap._AS_USUAL.items(), "trim"]
    assert heap._KEPT.keys() <= heap._AS_USUAL.keys()


def test_a_training_keeps_what_it_frees(tiny, tmp_path, monkeypatch):
    seen = []

    @contextmanager
    def spy(device):
        seen.append(device.type)
        yield
        seen.append("given back")

    original = loop.collect_rollout
    monkeypatch.setattr(loop, "freed_memory_kept", spy)
    monkeypatch.setattr(loop, "collect_rollout", lambda *a, **k: (seen.append("collected"), original(*a, **k))[1])
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "-q", "--iterations", "1"]) == 0
    assert seen == ["cpu", "collected", "given back"]


@pytest.mark.parametrize("missing", ["a GPU", "no glibc"])
def test_elsewhere_nothing_changes(missing, monkeypatch):
    monkeypatch.setattr(heap, "_set", lambda *_: pytest.fail("the allocator was changed"))
    if missing == "no glibc":
        monkeypatch.setattr(heap, "_glibc", lambda: None)
        heap.give_back(torch.device("cpu"))
    with heap.freed_memory_kept(torch.device("cuda" if missing == "a GPU" else "cpu")):
        pass
