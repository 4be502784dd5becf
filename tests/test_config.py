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
        ({"spread": 2}, r"'spread' cannot be 2: .* 0.1; costs are fractions, so that 0.0002 is 0.02 %"),
        ({"slippage_max": 0.11}, "'slippage_max' cannot be 0.11"),
        ({"commission": 0.11}, "'commission' cannot be 0.11"),
        ({"impact": 50}, "'impact' cannot be 50"),
        ({"impact_linear": 0.21}, "'impact_linear' cannot be 0.21"),
        ({"impact_adv": 11}, "'impact_adv' cannot be 11"),
        ({"portfolio_value": 2e15}, r"'portfolio_value' cannot be 2000000000000000.0"),
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


@pytest.mark.parametrize(
    ("wrote", "read"),
    [
        ("ON", "true"),
        ("NO", "false"),
        ("YES", "true"),
        ("TRUE", "true"),
        ("NULL", "nothing"),
        ("600000", "600000"),
        ("0700", "448"),
        ("1", "1"),
        ("1.5", "1.5"),
        ("2020-01-02", "2020-01-02"),
    ],
)
@pytest.mark.parametrize("key", ["universe", "expanded_universe"])
def test_symbols_that_yaml_takes_for_something_else_are_refused_with_what_to_write(tmp_path, wrote, read, key):
    lines = [line for line in GOOD.read_text().splitlines() if not line.startswith("  technology")]
    if key == "universe":
        lines.insert(lines.index("universe:") + 1, f"  chips: [AAPL, {wrote}]")
    else:
        lines.append(f"expanded_universe:\n  chips: [AAPL, {wrote}]")
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, "\n".join(lines)))
    assert f"{key} 'chips' holds {read} where a symbol is expected" in str(error.value)
    assert f'YAML reads {wrote} as {read}: write "{wrote}" in quotes.' in str(error.value)
    quoted = "\n".join(lines).replace(f", {wrote}]", f', "{wrote}"]')
    config = load_config(write(tmp_path, quoted))
    assert wrote in (config.universe if key == "universe" else config.expanded_universe)["chips"]


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("  ON: [AAPL]", "universe holds true where the name of a group is expected"),
        ("  chips:\n  - AAPL\n  -", "universe 'chips' holds an empty entry where a symbol is expected; remove it"),
        ("  chips: [[AAPL]]", "universe 'chips' holds a list or mapping where a symbol is expected"),
        ("  chips: AAPL", "'universe' cannot be 'AAPL'"),
    ],
)
def test_groups_that_are_no_lists_of_symbols_are_refused(tmp_path, group, said):
    text = GOOD.read_text().replace("  technology: [AAPL, AMD, MSFT]", group)
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    assert said in str(error.value)


def test_symbols_that_only_look_odd_are_taken_as_they_are(tmp_path):
    text = GOOD.read_text().replace("[AAPL, AMD, MSFT]", "[BRK.B, BF-B, 1E5, ^GSPC, 0700.HK, n, AAPL, AAPL]")
    assert load_config(write(tmp_path, text)).universe["technology"][:4] == ("BRK.B", "BF-B", "1E5", "^GSPC")


def test_hindsight_is_said_of_the_universe_in_force_only():
    stocks, funds = GOOD, Path("configs/rl_v2_multi_asset.yaml")
    assert load_config(stocks).picked_with_hindsight
    assert not load_config(funds).picked_with_hindsight
    assert load_config(funds, {"expanded": True}).picked_with_hindsight
