"""What --config means: a file, or a configuration that comes with the package, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tactician import configs
from tactician.cli import main
from tactician.config import load_config
from tactician.errors import UserError

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize("given", ["embedded_sp500", "embedded_sp500.yaml", "configs/embedded_sp500.yaml"])
def test_a_packaged_configuration_has_three_spellings_in_every_folder(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(given).bars == "embedded"


def test_a_file_goes_before_the_packaged_one_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = yaml.safe_load(configs.find("embedded_sp500").read_text()) | {"hidden_dim": 8}
    for name in ("embedded_sp500", "embedded_sp500.yaml", "configs/embedded_sp500.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(copy))
        assert load_config(name).hidden_dim == 8 and configs.shortest(name) == name
        path.unlink()


def test_a_folder_does_not_hide_a_packaged_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded_sp500").mkdir()
    assert load_config("embedded_sp500").hidden_dim == 64


@pytest.mark.parametrize("given", ["nowhere", "other/embedded_sp500.yaml", "configs/nowhere.yaml", "x" * 300, "."])
def test_what_is_neither_is_named_beside_the_names_that_there_are(given):
    with pytest.raises(UserError) as refusal:
        load_config(given)
    said = str(refusal.value)
    assert said.startswith(f"Cannot read the configuration {given}: ")
    assert said.endswith("give --config a YAML file or one of embedded_sp500, rl_v2_multi_asset.")


def test_the_command_line_tells_it_in_one_sentence(refused):
    assert "nowhere" in refused("train", "--config", "nowhere")


@pytest.mark.parametrize(
    ("given", "elsewhere"),
    [
        ("configs/rl_v2_multi_asset.yaml", True),
        (None, False),
        pytest.param("configs/rl_v2_multi_asset.yaml", False, marks=pytest.mark.slow),
        pytest.param(None, True, marks=pytest.mark.slow),
    ],
)
def test_the_specifications_command_finds_its_configuration_from_every_folder(given, elsewhere, tmp_path):
    words = ["--config", given] if given else []
    ran = subprocess.run(
        [sys.executable, REPOSITORY / "src/apps/train.py", *words, "--cache-path", tmp_path / "none.pt", "--dry-run"],
        cwd=tmp_path if elsewhere else REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert f"make it with: tactician build-cache --config rl_v2_multi_asset --cache-path {tmp_path}" in ran.stderr


def test_a_configuration_can_be_copied_and_edited(tmp_path, capsys):
    assert main(["config", "embedded_sp500"]) == 0
    copy = tmp_path / "my.yaml"
    copy.write_text(capsys.readouterr().out)
    assert load_config(copy) == load_config("embedded_sp500")


def test_without_a_name_the_configurations_are_listed(capsys):
    assert main(["config"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in configs.names()) and "my.yaml" in said


def test_only_a_packaged_configuration_is_printed(tiny, refused):
    assert "embedded_sp500, rl_v2_multi_asset" in refused("config", str(tiny))
