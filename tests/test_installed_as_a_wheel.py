"""What a stranger gets from a package registry: one wheel, no repository, any folder, no network."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tactician import configs

REPOSITORY = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-index", "--no-deps"]
FEW_YEARS = "--start 2014-01-02 --end 2019-12-31 --train-until 2016-12-30 --validation-until 2018-06-29"
SMALL = "--device cpu --hidden-dim 16 --n-envs 8 --episode-length 64 --n-steps 64 --batch-size 256"


def run(*words: str | Path, folder: Path, target: Path | None = None) -> str:
    """Run a program in a folder, with the installed package before all others; what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if target is not None:
        environment |= {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert target is None or not ran.stderr  # of pip's we know nothing
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools leaves files in the tree that it builds from, and takes up those of an older build."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    without = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "src", tree / "src", ignore=without)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tree)
    run(*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", folder, tree, folder=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel alone in a folder; what it depends on is found where the tests find it."""
    target = tmp_path_factory.mktemp("target")
    run(*PIP, "install", *OFFLINE, "--target", target, wheel, folder=target)
    return target


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"tactician/configs/{name}.yaml" for name in configs.names()} | {"tactician/py.typed"} <= names
    ours = {p.relative_to(REPOSITORY / "src").as_posix() for p in REPOSITORY.glob("src/tactician/**/*.py")}
    assert {name for name in names if name.endswith(".py")} == ours
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"tactician"}


def test_it_builds_a_cache_and_trains_from_an_empty_folder(installed, tmp_path):
    def tactician(*words: str) -> str:
        return run(installed / "bin" / "tactician", *words, folder=tmp_path, target=installed)

    where = run(sys.executable, "-c", "import tactician; print(tactician.__file__)", folder=tmp_path, target=installed)
    assert Path(where.strip()).is_relative_to(installed)
    assert tactician("config", "embedded_sp500") == configs.find("embedded_sp500").read_text()
    said = tactician("build-cache", "--config", "embedded_sp500", *FEW_YEARS.split())
    assert "Next: tactician train --config embedded_sp500 --start 2014-01-02" in said
    said = tactician("train", "--config", "embedded_sp500", *FEW_YEARS.split(), *SMALL.split(), "--episodes", "4")
    assert "Verdict: the agent is" in said
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    run_folder = "checkpoints/embedded_sp500"
    assert {
        "data/embedded_sp500/gpu_cache.pt",
        f"{run_folder}/model_best.pt",
        f"{run_folder}/model_final.pt",
        f"{run_folder}/report.json",
    } <= made
