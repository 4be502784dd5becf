"""No look-ahead, through the whole chain: bars → market → features, targets → observation → action.

Noise is added to every input from session t on. Whatever belongs to a decision at the close of t or before must stay the same
to the last bit. A second test makes the chain leak on purpose and sees the first one notice.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tactician.environment.market_tensors as market_tensors
from tactician.config import load_config
from tactician.environment import (
    FEATURE_NAMES,
    OBS_DIM,
    OBSERVATION_NAMES,
    Environment,
    MarketTensors,
    build_market_tensors,
    first_state,
    fit_normaliser,
    normalise,
    observe,
    step,
)
from tactician.market import FACTORS, build_market, embedded_bars, make_bars, read_bars
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.conftest import synthetic_bars

SEED_UNIVERSE = Path("../shared/data/seed_universe.parquet")
TABLES = ("factor", "static", "expanded")


@dataclass(frozen=True)
class Source:
    bars: object
    groups: dict
    rates: pd.DataFrame


def rates_of(frame: pd.DataFrame) -> pd.DataFrame:
    days = pd.DatetimeIndex(frame["date"].unique()).sort_values()
    return pd.DataFrame({"date": days, "rf_daily": 1e-4 + 5e-5 * np.sin(np.arange(len(days)))})


def random_source() -> Source:
    """Random bars with a late listing and an early end."""
    frame = synthetic_bars(("AAA", "BBB", "CCC", "DDD", "EEE"), "2010-01-04", "2012-06-29")
    late, gone = pd.Timestamp("2011-01-10"), pd.Timestamp("2012-04-02")
    frame = frame[(frame["symbol"] != "DDD") | (frame["date"] >= late)]
    frame = frame[(frame["symbol"] != "EEE") | (frame["date"] <= gone)]
    groups = {"first": ("AAA", "BBB"), "second": ("CCC",), "third": ("DDD", "EEE")}
    return Source(make_bars(frame, "random", as_traded=True), groups, rates_of(frame))


def embedded_source() -> Source:
    config = load_config("embedded_sp500")
    bars = embedded_bars(config.symbols, start=pd.Timestamp("2007-06-01").date(), end=pd.Timestamp("2009-12-31").date())
    return Source(bars, config.groups, rates_of(bars.frame))


def seed_source() -> Source:
    if not SEED_UNIVERSE.exists():
        pytest.skip(f"{SEED_UNIVERSE} is not here")
    config = load_config("rl_v2_multi_asset", {"expanded": True})
    start, end = pd.Timestamp("2018-06-01").date(), pd.Timestamp("2020-12-31").date()
    bars = read_bars(SEED_UNIVERSE, config.symbols, start, end)
    return Source(bars, config.groups, rates_of(bars.frame))


SOURCES = {"random": random_source, "embedded": embedded_source, "seed universe": seed_source}


@pytest.fixture(scope="module", params=list(SOURCES))
def source(request) -> Source:
    return SOURCES[request.param]()


def disturbed(source: Source, day: pd.Timestamp, seed: int = 0) -> Source:
    """Every price, volume and rate of the session and of all later ones multiplied by noise."""
    rng = np.random.default_rng(seed)
    frame = source.bars.frame.copy()
    hit = (frame["date"] >= day).to_numpy()
    level = np.exp(rng.normal(0, 0.05, hit.sum()))
    for column in ("open", "high", "low", "close"):
        if column in frame:
            frame.loc[hit, column] *= level
    frame.loc[hit, "adj_close"] *= np.exp(rng.normal(0, 0.05, hit.sum()))
    if "volume" in frame:
        frame.loc[hit, "volume"] *= np.exp(rng.normal(0, 1, hit.sum()))
    rates = source.rates.copy()
    rates.loc[rates["date"] >= day, "rf_daily"] *= 3
    return replace(source, bars=replace(source.bars, frame=frame), rates=rates)


def build(source: Source, tmp_path: Path) -> dict[str, MarketTensors]:
    """The market of every regime table."""
    file = tmp_path / "rates.parquet"
    source.rates.to_parquet(file)
    market = build_market(source.bars, cash_rate=file)
    tensors = build_market_tensors(market, "factor", source.groups, {})
    return {kind: tensors.with_regimes(kind, source.groups) for kind in TABLES}


def row_of(market: MarketTensors, day: pd.Timestamp) -> int:
    return int(torch.nonzero(market.dates == (day - pd.Timestamp(0)).days)[0])


def lives(market: MarketTensors, first: int, last: int, train: range) -> dict[str, torch.Tensor]:
    """Observations, logits and actions of a random recurrent policy, day by day from row first to last, 3 portfolios."""
    normal = normalise(market, *fit_normaliser(market, train))
    frictions = Frictions.specification()
    env = Environment(normal, frictions, range(first, last + 1), last + 1 - first, portfolios_per_window=3)
    policy = ActorCritic(
        OBS_DIM, market.regimes.n_actions, hidden_dim=16, generator=torch.Generator().manual_seed(0)
    ).requires_grad_(False)
    for parameter in policy.policy_head.parameters():
        parameter.mul_(100)  # with opinions, so that actions differ from day to day
    state, hidden, seen = first_state(env, torch.arange(1)), policy.initial_state(3), []
    while int(state.day) <= last:
        obs = observe(env, state)
        logits, _, hidden = policy(obs[None], hidden)
        action = logits[0].argmax(-1)
        seen.append((obs, logits[0], action))
        state, _ = step(env, state, action)
    return dict(zip(("observation", "logits", "action"), map(torch.stack, zip(*seen, strict=True)), strict=True))


def named_columns(markets: dict[str, MarketTensors], first: int, last: int) -> dict[str, torch.Tensor]:
    """All that is seen, by name, a row a session: features, ranks, targets, tradability, observations, actions."""
    market = markets["factor"]
    columns = {f"feature {name}": market.features[:, k] for k, name in enumerate(FEATURE_NAMES)}
    columns |= {f"rank {name}": market.factor_ranks[..., k] for k, name in enumerate(FACTORS)}
    columns |= {name: getattr(market, name) for name in ("tradable", "vol_daily", "dollar_volume")}
    for kind, other in markets.items():
        columns |= {f"target {kind} {name}": other.regime_weights[:, k] for k, name in enumerate(other.regimes.names)}
        life = lives(other, first, last, range(1, first))
        # Rows before the life have nothing to compare.
        padded = {name: torch.cat([x[:1].repeat(first, *[1] * (x.dim() - 1)), x]) for name, x in life.items()}
        columns |= {f"{kind} {name}": padded[name] for name in ("logits", "action")}
        columns |= {f"{kind} {name}": padded["observation"][..., k] for k, name in enumerate(OBSERVATION_NAMES)}
    return columns


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(nan=-1e9), b.nan_to_num(nan=-1e9))


def leaks(before: dict, after: dict, row: int) -> list[str]:
    """Names of what changed at the given row or before."""
    return [name for name in before if not same(before[name][: row + 1], after[name][: row + 1])]


@pytest.fixture(scope="module")
def calm(source, tmp_path_factory) -> dict[str, MarketTensors]:
    return build(source, tmp_path_factory.mktemp("calm"))


DAYS = (0.6, 0.85)


@pytest.mark.parametrize("share", DAYS)
def test_noise_from_session_t_on_changes_nothing_up_to_the_decision_at_t(source, calm, share, tmp_path):
    market = calm["factor"]
    row = int(share * market.n_days)
    day = pd.Timestamp(market.date_of(row))
    noisy = build(disturbed(source, day), tmp_path)
    first, last = row - 40, row + 25
    before, after = named_columns(calm, first, last), named_columns(noisy, first, last)
    assert leaks(before, after, row) == []
    # What is earned for the decision at t − 1 does change: the noise arrived.
    assert not torch.equal(market.returns[row - 1], noisy["factor"].returns[row - 1])
    assert torch.equal(market.returns[: row - 1], noisy["factor"].returns[: row - 1])


# Known ahead, or the same for every session here.
UNMOVED = {"feature year_sin", "feature year_cos", "feature days_waited", "tradable"}


def test_the_day_after_the_noise_is_seen(source, calm, tmp_path):
    """The power of the test above: at t + 1 nearly everything that can move has moved, and by t + 25 the rest."""
    row = int(0.7 * calm["factor"].n_days)
    noisy = build(disturbed(source, pd.Timestamp(calm["factor"].date_of(row))), tmp_path)
    before, after = named_columns(calm, row - 40, row + 25), named_columns(noisy, row - 40, row + 25)
    at_once = {n for n in before if n.startswith("feature") and not same(before[n][row + 1], after[n][row + 1])}
    later = {n for n in before if not same(before[n][row + 1 : row + 26], after[n][row + 1 : row + 26])}
    # Adjusted closes give no size score and no traded value.
    missing = set() if source.bars.as_traded else {n for n in before if "size" in n or n == "dollar_volume"}
    features = {f"feature {name}" for name in FEATURE_NAMES} - UNMOVED - missing
    assert len(at_once) >= 0.8 * len(features)
    assert features <= later
    assert {f"rank {name}" for name in FACTORS} - missing <= later and "vol_daily" in later
    assert {"factor action", "factor logits", "factor cost_to_equal_weight", "factor tilt_momentum"} <= later


def shifted(function, column: int):
    """The function with one column of its result moved a session into the past: today's row holds tomorrow's."""

    def leaky(market):
        features = function(market).clone()
        features[:-1, column] = features[1:, column].clone()
        return features

    return leaky


@pytest.mark.parametrize("name", ["index_return_1", "breadth_20", "excess_size_60", "cash_rate"])
def test_a_feature_that_peeks_is_caught_by_name(name, tmp_path, monkeypatch):
    source = random_source()
    monkeypatch.setattr(
        market_tensors, "market_features", shifted(market_tensors.market_features, FEATURE_NAMES.index(name))
    )
    caught = caught_leaks(source, tmp_path)
    assert f"feature {name}" in caught and f"factor {name}" in caught
    assert {n for n in caught if n.startswith("feature")} == {f"feature {name}"}


def test_scores_without_the_lag_are_caught(tmp_path, monkeypatch):
    original = market_tensors.rank_scores

    def peeking(scores, tradable):
        return original(torch.cat([scores[1:], scores[-1:]]), tradable)

    monkeypatch.setattr(market_tensors, "rank_scores", peeking)
    caught = caught_leaks(random_source(), tmp_path)
    assert any(name.startswith("rank") for name in caught) and any(name.startswith("target factor") for name in caught)


def caught_leaks(source: Source, tmp_path: Path) -> list[str]:
    calm = build(source, tmp_path)
    found: set[str] = set()
    for share in DAYS:  # a rank may stay as it was by chance
        row = int(share * calm["factor"].n_days)
        noisy = build(disturbed(source, pd.Timestamp(calm["factor"].date_of(row))), tmp_path)
        columns = [named_columns(x, row - 40, row + 25) for x in (calm, noisy)]
        found |= set(leaks(*columns, row))
    return sorted(found)
