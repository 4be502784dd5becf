"""The benchmarks are not run here; what they say where there is nothing to measure is."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("words", ["bench_training.py", "bench_memory.py", "kill_test.py --damage 1"])
def test_a_missing_cache_is_told_with_the_command_that_makes_it(words, tmp_path):
    script, *flags = words.split()
    ran = subprocess.run([sys.executable, BENCHMARKS / script, *flags], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.endswith("make it with: tactician build-cache --config embedded_sp500")
    assert not list(tmp_path.iterdir())
