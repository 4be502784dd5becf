"""The configuration file: what is refused, and in which words."""

from pathlib import Path

import pytest

from tactician import configs
from tactician.bars import picked_with_hindsight
from tactician.config import Config, load_config, make_config, sections
from tactician.errors import UserError

GOOD = configs.find("embedded_sp500")


def write(folder: Path, text: str) -> Path:
    path = folder / "broken.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["embedded_sp500", "rl_v2_multi_asset"])
def test_shipped_configurations_are_valid(name):
    assert load_config(name).symbols


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
    with pytest.raises(UserError, match=r"unknown key 'zzzz'; `tactician train --help`"):
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
        ({"regimes": ""}, "'regimes' cannot be ''"),
        ({"checkpoint_dir": ""}, "'checkpoint_dir' cannot be '': it must not be empty"),
        ({"cache_path": " "}, "'cache_path' cannot be ' ': it must not be empty"),
        ({"bars": ""}, "'bars' cannot be '': it must not be empty"),
        ({"n_steps": 100}, r"n_steps \(100\) and episode_length \(256\) must divide one another"),
        (
            {"portfolios_per_window": 7, "n_envs": 256},
            r"n_envs \(\d+\) must be a multiple of portfolios_per_window \(7\)",
        ),
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
    config = load_config("rl_v2_multi_asset")
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
        ("  NO: [AAPL]\n  OFF: [KO]", 'YAML reads NO as false: write "NO" in quotes.'),
        ("  chips: AAPL", "universe 'chips' holds AAPL where a list of symbols is expected; write [AAPL]."),
        ("  chips: AAPL, KO", "universe 'chips' holds AAPL, KO where a list of symbols is expected; write [AAPL, KO]."),
        ("  chips: ON", 'holds ON where a list of symbols is expected; write ["ON"], in quotes because'),
        ("  chips: 0700", 'holds 0700 where a list of symbols is expected; write ["0700"], in quotes because'),
        ("  chips:", "universe 'chips' holds nothing where a list of symbols is expected; write [SPY, QQQ]."),
        ("  chips: {AAPL: 1}", "universe 'chips' holds a mapping where a list of symbols is expected"),
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
    stocks, funds = GOOD, "rl_v2_multi_asset"
    assert load_config(stocks).picked_with_hindsight
    assert not load_config(funds).picked_with_hindsight
    assert load_config(funds, {"expanded": True}).picked_with_hindsight


@pytest.mark.parametrize("universe", ["AAPL", "[AAPL, KO]", "3"])
def test_a_universe_without_groups_says_how_to_write_one(tmp_path, universe):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith(("universe", "  ")))
    with pytest.raises(UserError, match=r"universe holds no groups; write 'group: \[SPY, QQQ\]' below it"):
        load_config(write(tmp_path, f"{text}\nuniverse: {universe}\n"))


def test_groups_that_are_merged_from_an_anchor_are_taken(tmp_path):
    text = GOOD.read_text().replace("universe:\n", "universe: &all\n")
    text += "expanded_universe:\n  <<: *all\n  finance: [BAC]\n"
    config = load_config(write(tmp_path, text))
    assert config.expanded_universe == {**config.universe, "finance": ("BAC",)}


OTHER_THAN_SWITCHES = [name for name, field in Config.model_fields.items() if field.annotation is not bool]


@pytest.mark.parametrize("word", ["yes", "off"])
@pytest.mark.parametrize("key", [key for key in OTHER_THAN_SWITCHES if "universe" not in key])
def test_yes_and_no_are_no_numbers(tmp_path, key, word):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith(f"{key}:"))
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, f"{text}\n{key}: {word}\n"))
    read = {"yes": "true", "off": "false"}[word]
    assert f"'{key}' cannot be {read}: what belongs there is a number, a date or text; YAML reads" in str(error.value)


@pytest.mark.parametrize("key", OTHER_THAN_SWITCHES)
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers_wherever_they_come_from(key, value):
    with pytest.raises(UserError, match=f"elsewhere: '{key}' cannot be {str(value).lower()}: "):
        make_config({**load_config(GOOD).model_dump(), key: value}, "elsewhere")


def test_switches_take_what_yaml_reads_as_true(tmp_path):
    assert load_config(write(tmp_path, GOOD.read_text() + "amp: yes\nlow_vram: on\n")).amp


@pytest.mark.parametrize("key", ["start", "end", "train_until", "validation_until"])
@pytest.mark.parametrize(
    ("wrote", "instead"),
    [
        ("2010", "2010-01-04"),
        ("86400", "2010-01-04"),
        ("0", "2010-01-04"),
        ("1.5", "2010-01-04"),
        ("20110203", "2011-02-03"),
        ("'20110203'", "2011-02-03"),
        ("'2010'", "2010-01-04"),
        ("03.02.2011", "2010-01-04"),
        ("2011-02-03 16:00:00", "2011-02-03"),
        ("2011-02-03T00:00:00Z", "2011-02-03"),
        ("'2011-02-03T00:00'", "2011-02-03"),
    ],
)
def test_what_is_no_plain_date_is_refused_with_how_to_write_it(tmp_path, key, wrote, instead):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith(f"{key}:"))
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, f"{text}\n{key}: {wrote}\n"))
    assert f"'{key}' cannot be " in str(error.value) and str(error.value).endswith(f"write it as {instead}.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seed: !!int one", "'one' is no value"),
        ("amp: !!bool perhaps", "'perhaps' is no value"),
        ("start: !!timestamp today", "'today' is no value"),
    ],
)
def test_what_yaml_cannot_make_a_value_of_is_named_with_its_line(tmp_path, line, said):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, f"bars: embedded\n{line}\n"))
    assert f"is not valid YAML at line 2: {said}" in str(error.value)


def test_brackets_without_end_are_told(tmp_path):
    with pytest.raises(UserError, match="is nested too deeply"):
        load_config(write(tmp_path, "bars: " + "[" * 100_000))


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("seed: 1\namp: true\nseed: 2\n", 3, "seed", 1),
        ("universe:\n  a: [AAA]\n  b: [BBB]\n  a: [CCC]\n", 4, "a", 2),
        ("universe:\n  a: [AAA]\n  'a': [CCC]\n", 3, "a", 2),
    ],
)
def test_keys_that_are_there_twice_are_refused_with_both_lines(tmp_path, text, line, key, first):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    assert f"at line {line}: '{key}' is there a second time (first at line {first})" in str(error.value)


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        ("2%", "'2%': write 2 % as 0.02."),
        ("1.7 %", "'1.7 %': write 1.7 % as 0.017."),
        ("1,7%", "'1,7%': write 1.7 % as 0.017."),
        ("-.5%", "'-.5%': write -0.5 % as -0.005."),
        ("40%", "'40%': an annual rate lies between -0.05 and 0.3."),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_rate_in_percent_is_no_file(rate, said, kind):
    with pytest.raises(UserError) as error:
        load_config(GOOD, {"cash_rate": kind(rate)})
    assert str(error.value).endswith(f"'cash_rate' cannot be {said}")


@pytest.mark.parametrize("file", ["rates.csv", "rates/2%.csv", "50%off"])
def test_a_rate_may_be_a_file(file):
    assert load_config(GOOD, {"cash_rate": file}).cash_rate == Path(file)


@pytest.mark.parametrize("value", [1e-310, 0, 0.99])
def test_a_portfolio_is_worth_a_unit_of_currency_at_least(value):
    with pytest.raises(UserError, match=r"'portfolio_value' cannot be .*: it must be at least 1\."):
        load_config(GOOD, {"portfolio_value": value})
    assert load_config(GOOD, {"portfolio_value": 1}).portfolio_value == 1


def test_the_embedded_stocks_are_known_to_be_picked_with_hindsight():
    stocks, funds = load_config(GOOD, {"hindsight": False}), load_config("rl_v2_multi_asset")
    assert picked_with_hindsight(stocks, "embedded") and picked_with_hindsight(funds, "embedded")
    assert not picked_with_hindsight(stocks, "bars.csv"), (
        "where a market came from decides, not what is asked for today"
    )
    assert not picked_with_hindsight(load_config("rl_v2_multi_asset", {"bars": "embedded"}), "yfinance")


def test_a_configuration_that_is_made_directly_is_checked_in_the_same_sentences():
    good = load_config(GOOD).model_dump()
    with pytest.raises(UserError, match="the settings: 'gamma' cannot be 'much': give a number"):
        Config(**{**good, "gamma": "much"})
    with pytest.raises(UserError, match="must divide one another"):
        Config(**{**good, "n_steps": 48, "episode_length": 32})
    with pytest.raises(UserError, match="unknown key 'hidden_dimm'; did you mean 'hidden_dim'"):
        Config(**good, hidden_dimm=4)
    assert Config(**{**good, "bars": Path("x.csv")}).bars == "x.csv"


@pytest.mark.parametrize("key", ["start", "end", "train_until", "validation_until"])
@pytest.mark.parametrize(
    ("wrote", "why"),
    [
        ("2018-13-01", "month must be in 1..12"),
        ("2010-02-30", "day is out of range for month"),
        ("'2010-02-30'", "day is out of range for month"),
    ],
)
def test_a_day_that_there_is_not_is_told_with_its_key(tmp_path, key, wrote, why):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith(f"{key}:"))
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, f"{text}\n{key}: {wrote}\n"))
    day = wrote.strip("'")
    assert str(error.value).endswith(f"broken.yaml: '{key}' cannot be '{day}': there is no such day ({why}).")


@pytest.mark.parametrize("key", ["timesteps", "n_envs", "anneal_steps", "seed", "hidden_dim"])
@pytest.mark.parametrize(
    ("wrote", "means"),
    [
        ("1e6", 1_000_000),
        ("1.0e+6", 1_000_000),
        ("2.5e5", 250_000),
        ("1_000_000", 1_000_000),
        ("'1e6'", 1_000_000),
        ("4096.0", 4096),
    ],
)
def test_whole_numbers_may_be_written_with_an_exponent(tmp_path, key, wrote, means):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith((f"{key}:", "batch_size")))
    value = getattr(load_config(write(tmp_path, f"{text}\n{key}: {wrote}\n")), key)
    assert value == means and type(value) is int


@pytest.mark.parametrize("wrote", ["1.5", "1e6.5", "15e-1", "'1.5'", "1e999999999", "one million", "[1]"])
def test_what_is_no_whole_number_is_refused(tmp_path, wrote):
    text = "\n".join(line for line in GOOD.read_text().splitlines() if not line.startswith("timesteps:"))
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, f"{text}\ntimesteps: {wrote}\n"))
    assert "'timesteps' cannot be " in str(error.value) and str(error.value).endswith(": give a whole number.")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("dropout", "much", "'dropout' cannot be 'much': give a number."),
        ("dropout", float("nan"), "'dropout' cannot be nan: give a finite number."),
        ("amp", "perhaps", "'amp' cannot be 'perhaps': give true or false."),
        ("best_by", "profit", "'best_by' cannot be 'profit': give 'growth' or 'score'."),
        ("calendar", 5, "'calendar' cannot be 5: give text, in quotes."),
        ("calendar", "", "'calendar' cannot be '': it must not be empty."),
        ("cache_path", 5, "'cache_path' cannot be 5: give a path, in quotes."),
        ("delisting_return", -1, "'delisting_return' cannot be -1: it must be above -1."),
        ("listing_warmup", 5, "'listing_warmup' cannot be 5: it must be at least 60."),
        ("portfolio_value", 1e16, "'portfolio_value' cannot be 1e+16: it must be at most 1000000000000000."),
    ],
)
def test_a_wrong_value_is_told_with_what_is_expected(key, value, said):
    with pytest.raises(UserError) as error:
        load_config(GOOD, {key: value})
    assert str(error.value) == f"{GOOD}: {said}"


def test_every_key_belongs_to_a_section():
    by_name = sections()
    assert list(by_name) == ["market", "portfolio", "environment", "policy", "learning", "training", "hardware"]
    assert [key for keys in by_name.values() for key in keys] == list(Config.model_fields)
    assert "checkpoint_dir" in by_name["training"] and "impact" in by_name["portfolio"]
