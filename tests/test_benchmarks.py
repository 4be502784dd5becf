"""The benchmarks are not run at size; what they say where there is nothing to measure is, and two with small sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    "words",
    [
        "bench_training.py",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("bench_memory.py", "kill_test.py --damage 1")),
    ],
)
def test_a_missing_cache_is_told_with_the_command_that_makes_it(words, tmp_path):
    script, *flags = words.split()
    ran = subprocess.run([sys.executable, BENCHMARKS / script, *flags], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.endswith("make it with: tactician build-cache --config embedded_sp500")
    assert not list(tmp_path.iterdir())


def test_the_environment_alone_is_measured(tmp_path):
    report, script = tmp_path / "report.json", BENCHMARKS / "bench_environment.py"
    words = ["--device", "cpu", "--n-envs", "16", "--rows", "300", "--steps", "2", "--repeats", "1", "--megabytes", "1"]
    subprocess.run([sys.executable, script, *words, "--json", report], check=True, capture_output=True)
    found = json.loads(report.read_text())
    assert [row["path"] for row in found["rows"]] == ["eager, restart", "eager"]
    assert min(row["steps_per_second"] for row in found["rows"]) > 0
    # Holdings of 30 assets and cash twice, 20 numbers observed, and little else.
    assert 400 < found["rows"][0]["bytes_per_step"] < 450


@pytest.mark.slow
def test_the_growth_of_cost_is_measured_and_drawn(tmp_path):
    earlier, report, picture = (tmp_path / name for name in ("earlier.json", "report.json", "growth.png"))
    script = [sys.executable, str(BENCHMARKS / "bench_growth.py"), "--quick"]
    subprocess.run([*script, "--json", earlier], check=True, capture_output=True)
    subprocess.run([*script, "--earlier", earlier, "--json", report, "--picture", picture], check=True)
    found = json.loads(report.read_text())
    assert found["earlier"] == json.loads(earlier.read_text())["sizes"]
    assert set(found["sizes"]) == {"environment", "episode_length", "hidden_dim"}
    figures = [value for rows in found["sizes"].values() for row in rows for value in row.values()]
    assert figures and min(figures) > 0
    # Bytes are counted, not timed: two runs agree.
    counted = [[row["bytes_per_env"] for row in sizes["environment"]] for sizes in (found["sizes"], found["earlier"])]
    assert counted[0] == counted[1]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_noise_of_gradients_is_measured_and_drawn(tmp_path):
    report, picture = tmp_path / "noise.json", tmp_path / "noise.png"
    words = ["--windows", "4", "--steps", "4096", "--markets", "observable", "--out", report, "--picture", picture]
    subprocess.run([sys.executable, BENCHMARKS / "gradient_noise.py", *words], check=True, capture_output=True)
    found = json.loads(report.read_text())["rows"]
    assert [row["estimator"] for row in found][::4] == ["PPO, critic", "lattice"] and len(found) == 5
    assert {row["market"] for row in found} == {"observable"}
    assert min(row["milliseconds_per_window"] for row in found) > 0
    # So few windows say nothing about noise, but many portfolios already point where the lattice does.
    cosine = {row["estimator"]: row["cosine"] for row in found}
    assert cosine["lattice"] == pytest.approx(1, abs=1e-4)
    assert cosine["PPO, window of 64"] > 0.5
    assert picture.read_bytes().startswith(b"\x89PNG")
