"""``tactician check-leaks`` as a user meets it: files with halts, coins, hindsight in a repair, mistakes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import tactician.environment
from tactician.cli import main
from tactician.environment import load_market
from tactician.policy import make_network
from tactician.storage import save_tensors
from tests.conftest import LAST, TINY, synthetic_bars

SEED_UNIVERSE = Path("../shared/data/seed_universe.parquet")


def configuration(folder: Path, frame: pd.DataFrame, **settings) -> str:
    """A YAML file over a CSV file of the bars."""
    frame.to_csv(folder / "bars.csv", index=False)
    values = {**TINY, "bars": str(folder / "bars.csv"), "cache_path": str(folder / "c.pt"), **settings}
    (folder / "my.yaml").write_text(yaml.safe_dump({"checkpoint_dir": str(folder / "run"), **values}))
    return str(folder / "my.yaml")


def short_bars() -> pd.DataFrame:
    """Each bar is changed and computed with again many times."""
    return synthetic_bars(first="2011-01-03", last=LAST)


def with_halt_and_delisting() -> pd.DataFrame:
    frame = short_bars()
    halted = (frame["symbol"] == "CCC") & frame["date"].between("2012-05-01", "2012-05-31")
    ended = (frame["symbol"] == "DDD") & (frame["date"] > "2013-05-10")
    return frame[~halted & ~ended]


def test_a_file_with_a_halted_and_a_delisted_asset_has_no_leak(tmp_path, capsys):
    path = configuration(tmp_path, with_halt_and_delisting(), closes="as_traded")
    assert main(["check-leaks", "--config", path, "--cuts", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No leak: " in said and "× 4 futures compared, all equal to the bit." in said
    assert "The closes are taken for prices as traded." in said and "1 asset ends before the data do." in said
    assert "could not be built" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.csv", "my.yaml"]  # nothing is written


@pytest.mark.slow
def test_sub_universes_are_searched_too_and_a_leak_in_one_is_named(tmp_path, capsys, monkeypatch):
    values = []
    for more in ({}, {"sub_universes": 2, "sub_universe_size": [3, 3]}):
        path = configuration(tmp_path, with_halt_and_delisting(), **more)
        assert main(["check-leaks", "--config", path, "--cuts", "1", "--json"]) == 0
        values.append(json.loads(capsys.readouterr().out)["values"])
    assert values[1] > 1.5 * values[0]
    honest = tactician.environment.further_markets

    def leaky(market, config):
        (first, groups), *rest = honest(market, config)
        return [(replace(first, features=first.features.roll(-1, 0)), groups), *rest]

    monkeypatch.setattr(tactician.environment, "further_markets", leaky)
    assert main(["check-leaks", "--config", path, "--cuts", "1", "--json"]) == 1
    leak = json.loads(capsys.readouterr().out)["leak"]
    assert leak["table"] == "feature of further market 1" and leak["also"] == []


def test_a_leak_in_the_market_of_held_out_names_is_named(tmp_path, capsys, monkeypatch):
    names = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
    more = {"universe": {"all": list(names)}, "held_out_names": 3}
    path = configuration(tmp_path, synthetic_bars(names, first="2011-01-03", last=LAST), **more)
    assert main(["check-leaks", "--config", path, "--cuts", "1"]) == 0
    capsys.readouterr()
    honest = tactician.environment.held_out_markets

    def leaky(market, config):
        remaining, (names, groups) = honest(market, config)
        return remaining, (replace(names, features=names.features.roll(-1, 0)), groups)

    monkeypatch.setattr(tactician.environment, "held_out_markets", leaky)
    assert main(["check-leaks", "--config", path, "--cuts", "1", "--json"]) == 1
    leak = json.loads(capsys.readouterr().out)["leak"]
    assert leak["table"] == "feature of further market 2" and leak["also"] == []


def test_json_is_alone_on_the_output_and_names_what_is_not_seen(tmp_path, capsys):
    path = configuration(tmp_path, short_bars())
    assert main(["check-leaks", "--config", path, "--cuts", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["leak"] is None and result["refused"] == [] and result["values"] > 100_000
    assert result["not_seen"][0].startswith("The closes may be adjusted for later splits")
    # The first session after the training and the validation range is a cut.
    assert {"2013-01-02", "2013-04-01"} <= set(result["cuts"])


def test_a_repair_that_used_later_bars_is_a_leak_and_is_told_with_its_finding(tmp_path, capsys):
    """A price a hundred times too high is known to be an error only by the day after."""
    frame = short_bars()
    wrong = (frame["symbol"] == "AAA") & (frame["date"] == "2012-08-08")
    frame.loc[wrong, ["open", "high", "low", "close", "adj_close"]] *= 100
    path = configuration(tmp_path, frame)
    assert main(["check-leaks", "--config", path, "--cuts", "1", "--json"]) == 1
    leak = json.loads(capsys.readouterr().out)["leak"]
    assert (leak["table"], leak["entry"], leak["cut"], leak["early"]) == ("return", "AAA", "2012-08-09", 1)
    assert "price_spike, AAA 2012-08-08" in leak["sentence"]
    assert main(["check-leaks", "--config", path, "--cuts", "1"]) == 1
    assert "Leak: return AAA of the decision on 2012-08-07 knows 2012-08-09, 1 session too early" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.slow
def test_coins_that_trade_every_day_have_no_leak(tmp_path):
    days, rng = pd.date_range("2015-01-01", "2018-12-31"), np.random.default_rng(0)
    coins = []
    for k, symbol in enumerate(("BTC", "ETH", "XRP")):
        its = days[400 * (k == 2) :]
        close = 100 * np.exp(np.cumsum(rng.normal(5e-4, 0.04, len(its))))
        coins.append(
            pd.DataFrame({"date": its, "symbol": symbol, "close": close, "volume": rng.integers(1, 99, len(its))})
        )
    path = configuration(
        tmp_path,
        pd.concat(coins),
        universe={"large": ["BTC", "ETH"], "small": ["XRP"]},
        calendar="24/7",
        train_until="2017-06-30",
        validation_until="2018-03-31",
    )
    assert main(["check-leaks", "--config", path, "--cuts", "1"]) == 0


def test_the_seed_universe_has_no_leak(capsys):
    if not SEED_UNIVERSE.exists():
        pytest.skip(f"{SEED_UNIVERSE} is not here")
    words = ["check-leaks", "--config", "rl_v2_multi_asset", "--bars", str(SEED_UNIVERSE), "--start", "2016-01-04"]
    rates = str(SEED_UNIVERSE.with_name("risk_free.csv"))
    assert main([*words, "--cuts", "1", "--cash-rate", rates]) == 0, capsys.readouterr().out


def test_the_embedded_prices_have_no_leak():
    assert main(["check-leaks", "--config", "embedded_sp500", "--start", "2012-06-01", "--cuts", "1"]) == 0


def checkpoint(folder: Path, tiny: Path, **changes) -> Path:
    """A model that was never trained, as a file."""
    market = load_market(tiny.parent / "cache.pt", {}, "")
    architecture = {
        "obs_dim": 64,
        "n_actions": market.regimes.n_actions,
        "hidden_dim": 8,
        "n_gru_layers": 1,
        "dropout": 0,
    }
    policy = make_network(architecture, generator=torch.Generator().manual_seed(0))
    content = {
        "format": "tactician checkpoint",
        "version": 1,
        "architecture": policy.architecture,
        "value_scale": 1.0,
        "normaliser": {"mean": torch.zeros(44), "std": torch.ones(44)},
        "observation_names": list(tactician.environment.OBSERVATION_NAMES),
        "regime_names": list(market.regimes.names),
        "model_state_dict": policy.state_dict(),
    }
    others = ("config", "actor_optimizer_state_dict", "critic_optimizer_state_dict", "env_state", "hidden")
    others += ("data_fingerprint", "progress", "metrics", "precision")
    path = folder / "model.pt"
    save_tensors({**{key: {} for key in others}, **content, **changes}, path)
    return path


def test_a_models_probabilities_are_compared(tiny, tmp_path, capsys):
    words = ["check-leaks", "--config", str(tiny), "--cuts", "1", "--json"]
    assert main(words) == 0
    alone = json.loads(capsys.readouterr().out)["values"]
    assert main([*words, "--checkpoint", str(checkpoint(tmp_path, tiny))]) == 0
    result = json.loads(capsys.readouterr().out)
    # At 4 futures: 64 sessions up to each cut, or fewer, of 3 portfolios and 16 regimes.
    more = (result["values"] - alone) / (3 * 16 * 4)
    assert more == int(more) and len(result["cuts"]) <= more <= 64 * len(result["cuts"])


def test_a_model_of_other_regimes_or_observations_is_refused(tiny, tmp_path, refused):
    words = ("check-leaks", "--config", str(tiny), "--checkpoint")
    other = checkpoint(tmp_path, tiny, regime_names=["HOLD", "FULL_CASH"])
    assert "and the configuration has 12; set 'regimes' and the groups of 'universe' as it was trained" in refused(
        *words, str(other)
    )
    other = checkpoint(tmp_path, tiny, observation_names=["one"])
    assert "where this version observes" in refused(*words, str(other))
    assert "There is no checkpoint at nowhere.pt" in refused(*words, "nowhere.pt")


def test_mistakes_are_told_in_one_sentence(tiny, refused):
    assert "nowhere.yaml" in refused("check-leaks", "--config", "nowhere.yaml")
    assert "There are no bars at nowhere.csv" in refused("check-leaks", "--config", str(tiny), "--bars", "nowhere.csv")
    assert "cuts" in refused("check-leaks", "--config", str(tiny), "--cuts", "0")
    said = refused("check-leaks", "--config", str(tiny), "--start", "2013-04-01", "--train-until", "2013-05-01")
    assert "validation_until" in said


def test_bars_that_do_not_pass_validation_are_refused_in_one_sentence(tmp_path, refused):
    frame = synthetic_bars()
    path = configuration(tmp_path, frame[frame["date"].dt.dayofweek == 2])
    assert "weekly_bars" in refused("check-leaks", "--config", path)


def test_ctrl_c_ends_it(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    path = configuration(tmp_path, synthetic_bars())
    monkeypatch.setattr("tactician.evaluation.leaks._compare", interrupted)
    assert main(["check-leaks", "--config", path]) == 130
    assert capsys.readouterr().err.strip() == "tactician check-leaks: interrupted."


def test_it_is_a_script_too():
    words = [sys.executable, "src/apps/check_leaks.py", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "--checkpoint" in done.stdout and "--cuts" in done.stdout
