"""The configuration file: what is refused, and in which words."""

from pathlib import Path

import pytest

from tactician.config import Config, load_config
from tactician.errors import UserError

GOOD = Path("configs/embedded_sp500.yaml")


def write(folder: Path, text: str) -> Path:
    path = folder / "broken.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["embedded_sp500", "rl_v2_multi_asset"])
def test_shipped_configurations_are_valid(name):
    assert load_config(Path(f"configs/{name}.yaml")).symbols


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"Cannot read the configuration configs/nowhere.yaml: No such file"):
        load_config(Path("configs/nowhere.yaml"))


def test_malformed_yaml_is_named_with_its_line(tmp_path):
    with pytest.raises(UserError, match=r"broken.yaml is not valid YAML at line 3"):
        load_config(write(tmp_path, "bars: embedded\nuniverse: [unclosed\n"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_without_settings_is_refused(tmp_path, text):
    with pytest.raises(UserError, match="holds no settings"):
        load_config(write(tmp_path, text))


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'hiden_dim'; did you mean 'hidden_dim'\?"):
        load_config(write(tmp_path, GOOD.read_text() + "hiden_dim: 64\n"))
    with pytest.raises(UserError, match=r"unknown key 'zzzz'; docs/configuration.md"):
        load_config(write(tmp_path, GOOD.read_text() + "zzzz: 1\n"))


def test_yaml_tags_that_would_run_code_are_refused(tmp_path):
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(write(tmp_path, "bars: !!python/object/apply:os.system ['true']\n"))


def test_a_missing_key_is_named(tmp_path):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith("train_until"))
    with pytest.raises(UserError, match="the key 'train_until' is missing"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_dim": "wide"}, "'hidden_dim' cannot be 'wide'"),
        ({"hidden_dim": 0}, "'hidden_dim' cannot be 0"),
        ({"dropout": 1.0}, "'dropout' cannot be 1.0"),
        ({"gae_lambda": 1.5}, "'gae_lambda' cannot be 1.5"),
        ({"entropy_coef": float("inf")}, "'entropy_coef' cannot be inf"),
        ({"seed": 10**20}, "'seed' cannot be 100000000000000000000"),
        ({"n_envs": 8 * 10**320}, "'n_envs' cannot be 8"),
        ({"regimes": "astrology"}, "'regimes' cannot be 'astrology'"),
        ({"n_steps": 100}, r"n_steps \(100\) and episode_length \(256\) must divide one another"),
        ({"portfolios_per_window": 7}, r"n_envs \(\d+\) must be a multiple of portfolios_per_window \(7\)"),
        ({"train_until": "2019-12-31"}, r"validation_until \(2018-12-31\) must lie after train_until"),
        ({"start": "2017-01-01"}, r"start \(2017-01-01\) must lie before"),
        ({"universe": {"empty": ["CASH"]}}, "names no asset besides CASH"),
    ],
)
def test_impossible_values_are_refused_by_key(change, message):
    with pytest.raises(UserError, match=message):
        load_config(GOOD, change)


def test_every_field_explains_itself():
    for name, field in Config.model_fields.items():
        assert field.description and field.description.strip().endswith("."), name


def test_cash_may_be_named_in_the_universe_and_is_not_an_asset():
    config = load_config(Path("configs/rl_v2_multi_asset.yaml"))
    assert config.symbols == ("SPY", "QQQ", "IWM")
    assert len(config.model_copy(update={"expanded": True}).symbols) == 12
