"""What there are several of is a table: one entry more, made outside of the package, arrives where a user sees it."""

import json

import pytest
import torch
from torch import nn

from tactician.bars import SOURCES, Source, make_bars
from tactician.cli import main
from tactician.environment import load_market
from tactician.evaluation import BASELINES, STATISTICS, Baseline, Column, Statistic
from tactician.policy import NETWORKS, Architecture, Network
from tactician.portfolio import regimes
from tactician.portfolio.regimes import REGIME_TABLES, FactorTilt, GroupSplit, Regime, regime_table
from tactician.training.checkpoint import load_policy, read_checkpoint
from tests.conftest import synthetic_bars
from tests.markets import random_market


def train(tiny, folder, *more) -> dict:
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "--quiet", *more]) == 0
    return json.loads((folder / "report.json").read_text())["run"]


def test_a_regime_is_priced_and_chosen_from(tiny, tmp_path, monkeypatch, capsys):
    half = Regime("HALF_MOMENTUM", "mixed", "50% cash + 50% momentum tilt", 0.5, FactorTilt("momentum"))
    monkeypatch.setattr(regimes, "_FACTOR_REGIMES", (*regimes._FACTOR_REGIMES, half))
    assert main(["costs", "--config", str(tiny), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    costs = {regime["name"]: regime["from_cash"]["total"] for regime in report["regimes"]}
    assert len(costs) == 13 and 0 < costs["HALF_MOMENTUM"] < costs["MOMENTUM"]
    assert report["regimes"][-1]["description"] == half.description
    assert main(["costs", "--config", str(tiny)]) == 0
    assert "HALF_MOMENTUM" in capsys.readouterr().out
    assert "HALF_MOMENTUM" in train(tiny, tmp_path, "--iterations", "1")["test"]["regime_use"]


def test_a_kind_of_regime_table_gives_the_market_its_targets(monkeypatch):
    def ends(symbols, groups):
        rule = GroupSplit(((0,), (len(symbols) - 1,)))
        return [Regime("ENDS", "group", "First and last symbol", 0.0, rule)]

    monkeypatch.setitem(REGIME_TABLES, "ends", ends)
    market = random_market(listing=False).with_regimes("ends", {})
    assert market.regimes.names == ("HOLD", "FULL_CASH", "ENDS") and market.regimes.kind == "ends"
    assert market.regime_weights[7, 2].tolist() == pytest.approx([0.5, 0, 0, 0, 0.5, 0])
    with pytest.raises(Exception, match="choose factor, static, expanded or ends"):
        regime_table("middle", ["A"])


def test_a_kind_of_regime_table_is_a_value_of_its_key(tiny, tmp_path, monkeypatch, capsys):
    cash = [Regime("ALL_THE_SAME", "cash", "90% cash + 10% equal weight", 0.9, FactorTilt())]
    monkeypatch.setitem(REGIME_TABLES, "careful", lambda symbols, groups: cash)
    use = train(tiny, tmp_path, "--iterations", "1", "--regimes", "careful")["test"]["regime_use"]
    assert list(use) == ["HOLD", "FULL_CASH", "ALL_THE_SAME"]
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "--regimes", "astrology"]) == 2
    assert "there is no table 'astrology'; choose factor, static, expanded or careful" in capsys.readouterr().err


def test_a_baseline_and_a_statistic_are_in_the_summary_and_in_the_printed_table(tiny, tmp_path, monkeypatch, capsys):
    def first_asset(question):
        targets = torch.zeros(len(question.rows), len(question.market.symbols) + 1, dtype=torch.float64)
        targets[:, 0] = 1
        return targets, torch.zeros(len(question.rows), dtype=torch.bool)

    def worst(path, strategy):
        return float(torch.expm1(path.growth[:, strategy].min()))

    monkeypatch.setitem(BASELINES, "first_asset", Baseline("First asset", first_asset, always=True))
    monkeypatch.setitem(STATISTICS, "worst_session", Statistic(worst, Column("Worst", ".2f", " %", 100)))
    test = train(tiny, tmp_path, "--iterations", "1")["test"]
    assert list(test["first_asset"]) == list(test["agent"]) == ["sessions", *STATISTICS]
    lowest = test["first_asset"]["worst_session"]
    assert -0.1 < lowest < test["equal_weight"]["worst_session"] < 0  # one asset moves more than the mean of four
    lines = capsys.readouterr().out.splitlines()
    (heading,) = [line for line in lines if "Return" in line and "Drawdown" in line]
    assert heading.split()[-1] == "Worst"
    (row,) = [line for line in lines if line.strip().startswith("First asset")]
    assert row.split()[-2:] == [f"{100 * lowest:.2f}", "%"]


def test_a_source_gives_a_market_its_bars_and_its_users_a_remedy(tiny, tmp_path, monkeypatch, refused, capsys):
    def read(config):
        return make_bars(frame, "lab", config.symbols, config.start, config.end)

    frame = synthetic_bars(seed=5)
    monkeypatch.setitem(SOURCES, "lab", Source(read, "ask the lab for others"))
    cache = tmp_path / "lab.pt"
    words = ("build-cache", "--config", str(tiny), "--cache-path", str(cache), "--bars")
    assert main([*words, "lab"]) == 0
    market = load_market(cache, {}, "")
    assert market.built_from["source"] == "lab" and market.symbols == ("AAA", "BBB", "CCC", "DDD")
    assert "Reading bars (lab)" in capsys.readouterr().out
    assert "give --bars embedded, yfinance, lab, or a CSV/Parquet file" in refused(*words, str(tmp_path / "none.csv"))
    rows = frame.index[frame["symbol"] == "BBB"]
    frame.loc[rows[300:600], "close"] = float("nan")
    assert main([*words, "lab"]) == 2
    assert "ask the lab for others" in capsys.readouterr().err


class Linear(Network):
    """No encoder and no memory but a count of sessions, which begins at 1."""

    name = "linear"

    def __init__(self, obs_dim, n_actions, value_scale=1.0, generator=None, **unused):
        super().__init__()
        self.made_of = {"obs_dim": obs_dim, "n_actions": n_actions, **unused}
        self.obs_dim, self.act, self.value = obs_dim, nn.Linear(obs_dim + 1, n_actions), nn.Linear(obs_dim + 1, 1)
        self.register_buffer("value_scale", torch.tensor(float(value_scale)))
        for layer in (self.act, self.value):
            nn.init.orthogonal_(layer.weight, 0.1, generator=generator)
            nn.init.zeros_(layer.bias)

    @property
    def architecture(self):
        return Architecture(network=self.name, **self.made_of)

    def initial_state(self, n_envs):
        return torch.ones(1, n_envs, 1, device=self.value_scale.device)

    def trunk(self, obs, hidden, masks=None):
        count = hidden[0] + torch.arange(len(obs))[:, None, None]
        return torch.cat([obs, 0.01 * count], -1), hidden + len(obs)

    def heads(self, features, portfolio):
        return self.act(features), self.value_scale * self.value(features)[..., 0]

    def masks(self, index, seed, iteration):
        return None

    def critic_parameters(self):
        return list(self.value.parameters())


def test_a_network_is_trained_saved_judged_and_gone_on_with(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(NETWORKS, Linear.name, Linear)
    linear = tmp_path / "linear.yaml"
    linear.write_text(f"{tiny.read_text()}network: {Linear.name}\n")
    summary = train(linear, tmp_path, "--iterations", "2")
    assert summary["iterations"] == 2 and summary["test"]["verdict"]
    policy = load_policy(tmp_path / "model_final.pt").policy
    assert isinstance(policy, Linear) and policy.architecture["hidden_dim"] == 16
    content = read_checkpoint(tmp_path / "model_final.pt")
    assert content["hidden"].eq(1).all()  # episodes ended with the rollout, and begin where the network says
    assert policy.act.weight.abs().sum() != 0 and content["model_state_dict"]["act.weight"].shape == (12, 65)
    train(linear, tmp_path, "--iterations", "3", "--resume")
    train(tiny, tmp_path, "--iterations", "4", "--resume")  # whose file names no network: the run keeps its own
    assert "holds another network" not in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "model_final.pt")["progress"]["iteration"] == 4
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(f"{tiny.read_text()}network: oracle\n")
    assert main(["train", "--config", str(unknown), "--checkpoint-dir", str(tmp_path / "x"), "-q"]) == 2
    assert "There is no network 'oracle', only recurrent, market_memory, linear" in capsys.readouterr().err
