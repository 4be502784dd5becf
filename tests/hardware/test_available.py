"""The memory that a run may take: beside other programs, inside a container, and on each GPU."""

from pathlib import Path

import psutil
import pytest
import torch

from tactician.config import make_config
from tactician.hardware import available
from tactician.hardware.available import available_memory, memory_budget
from tactician.hardware.memory import GB

CPU = torch.device("cpu")
RANGES = {"train_until": "2015-01-01", "validation_until": "2016-01-01", "checkpoint_dir": "x", "cache_path": "x.pt"}


def config(**changes):
    return make_config({"universe": {"a": ["X"], "b": ["Y", "CASH"]}, **RANGES, **changes}, "test")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Write a file system that tells of control groups, on a machine with 1,000,000 bytes available."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1_000_000})())

    def write(cgroup: str, files: dict[str, str]) -> Path:
        for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return write


def test_a_containers_limit_counts(tree):
    assert available_memory(tree("0::/", {"memory.max": "3000", "memory.current": "1000"})) == 2000


def test_a_containers_limit_counts_in_version_1_too(tree):
    files = {"memory/memory.limit_in_bytes": "5000", "memory/memory.usage_in_bytes": "4000"}
    assert available_memory(tree("5:cpu,cpuacct:/\n4:memory:/", files)) == 1000


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory.max": "max", "memory.current": "1000"},
        {"memory.max": "3000"},
        {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1000"},
    ],
)
def test_without_a_limit_the_machines_memory_counts(tree, files):
    assert available_memory(tree("4:memory:/\n0::/", files)) == 1_000_000


def test_a_machine_that_tells_of_no_groups_has_its_memory(tree, tmp_path):
    assert available_memory(tmp_path / "not Linux") == 1_000_000


def test_more_in_use_than_allowed_leaves_nothing(tree):
    assert available_memory(tree("0::/", {"memory.max": "10", "memory.current": "20"})) == 0


@pytest.mark.parametrize("binding", ["", "a/", "a/b/"])
def test_the_narrowest_of_all_groups_above_the_process_counts(tree, binding):
    files = {}
    for group in ("", "a/", "a/b/", "a/other/"):
        limit = "500" if group == "a/other/" else "3000" if group == binding else "9000"
        files |= {f"{group}memory.max": limit, f"{group}memory.current": "1000"}
    assert available_memory(tree("0::/a/b", files)) == 2000


def test_a_limit_that_slows_a_process_down_counts_as_one_that_kills_it(tree):
    files = {"memory.max": "9000", "memory.high": "3000", "memory.current": "1000"}
    assert available_memory(tree("0::/", files)) == 2000


@pytest.mark.parametrize("path", ["/docker/4711", "/../elsewhere"])
def test_a_group_that_is_not_visible_from_inside_is_passed_over(tree, path):
    files = {"memory/memory.limit_in_bytes": "5000", "memory/memory.usage_in_bytes": "4000"}
    assert available_memory(tree(f"4:memory:{path}", files)) == 1000


def test_files_that_were_read_and_are_not_in_use_leave_their_memory(tree):
    stat = "anon 200\nactive_file 50\ninactive_file 700\ninactive_anon 9"
    files = {"memory.max": "3000", "memory.current": "1000", "memory.stat": stat}
    assert available_memory(tree("0::/", files)) == 3000 - (1000 - 700)


def test_version_1_counts_the_files_of_the_groups_below(tree):
    stat = "inactive_file 5\ntotal_inactive_file 700"
    files = {"memory.limit_in_bytes": "3000", "memory.usage_in_bytes": "1000", "memory.stat": stat}
    assert available_memory(tree("4:memory:/", {f"memory/{k}": v for k, v in files.items()})) == 2700


@pytest.mark.parametrize(
    ("free", "budget"),
    [(64, 48), (8, 6), (4, 3), (3, 2), (2, 1), (1, 0.5)],  # three quarters; all but 1 GB; half
)
def test_other_programs_keep_a_quarter_of_main_memory_and_a_gigabyte_where_that_is_less_than_half(
    free, budget, monkeypatch
):
    monkeypatch.setattr(available, "available_memory", lambda: free * GB)
    assert memory_budget(config(), CPU) == pytest.approx(budget * GB)


def test_processes_on_one_machine_share_its_main_memory(monkeypatch):
    monkeypatch.setattr(available, "available_memory", lambda: 8 * GB)
    assert memory_budget(config(), CPU, n_sharing=3) == pytest.approx(2 * GB)


@pytest.mark.parametrize(
    ("flags", "index", "gb"),
    [
        ({}, 0, 45),
        ({}, 1, 20),
        ({"max_vram_gpu0": 30.0}, 0, 30),
        ({"max_vram_gpu0": 30.0, "max_vram_gpu1": 10.0}, 1, 10),
        ({"max_vram_gpu1": 200.0}, 3, 72),  # 90 % of what is free
        ({"low_vram": True}, 0, 8),
        ({"low_vram": True, "max_vram_gpu1": 6.0}, 1, 6),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_gpus_cap_is_the_least_of_its_own_flag_and_what_is_free(flags, index, gb, named, monkeypatch):
    device = torch.device("cuda", index) if named else torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 7 if named else index)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda asked: (80 * GB, 80 * GB) if asked == device else (0, 0))
    assert memory_budget(config(**flags), device) == pytest.approx(gb * GB)
