"""Further markets: drawn by their own seed, computed from their own names alone, and kept in the cache."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.cli import main
from tactician.config import Config, load_config
from tactician.environment import (
    MarketTensors,
    build_market_tensors,
    draw_sub_universes,
    further_markets,
    load_cached_market,
)
from tactician.errors import UserError
from tactician.market import build_market, make_bars
from tests.conftest import synthetic_bars

NAMES = tuple(f"N{k:02}" for k in range(24))


def config_of(groups: dict, **changes) -> Config:
    base = {"universe": groups, "train_until": "2011-12-30", "validation_until": "2012-03-30"}
    return Config(**base, cache_path="unused", checkpoint_dir="unused", **changes)


def same(one: MarketTensors, other: MarketTensors, rows: int | None = None) -> list[str]:
    """Names of tensors that differ in their first rows."""
    differ = []
    for f in fields(one):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if torch.is_tensor(a):
            a, b = (x[:rows].nan_to_num(nan=-9e9) if x.is_floating_point() else x[:rows] for x in (a, b))
            differ += [] if torch.equal(a, b) else [f.name]
    return differ


@settings(deadline=None, max_examples=40)
@given(n_groups=st.integers(1, 12), low=st.integers(2, 24), more=st.integers(0, 30), seed=st.integers(0, 2**40))
def test_a_draw_has_names_of_the_universe_in_its_order_and_of_every_group(n_groups, low, more, seed):
    groups = {f"g{k}": NAMES[k::n_groups] for k in range(n_groups)}
    config = config_of(groups, sub_universes=5, sub_universe_size=(low, low + more), sub_universe_seed=seed)
    drawn = draw_sub_universes(config)
    assert len(drawn) == 5 and drawn == draw_sub_universes(config.model_copy(update={"seed": 99}))
    for each in drawn:
        names = [symbol for symbols in each.values() for symbol in symbols]
        assert low <= len(names) == len(set(names)) <= min(low + more, 24)
        assert all(tuple(s for s in groups[g] if s in names) == symbols for g, symbols in each.items())
        assert n_groups > low or list(each) == list(groups)


def test_sizes_and_names_are_drawn_alike():
    drawn = draw_sub_universes(config_of({"all": NAMES}, sub_universes=2000))
    sizes = np.array([len(each["all"]) for each in drawn])
    assert sizes.min() == 8 and sizes.max() == 20
    assert np.bincount(sizes)[8:].min() > 2000 / 13 * 0.7
    counts = np.array([sum(name in each["all"] for each in drawn) for name in NAMES])
    assert counts.min() > 0.9 * counts.mean() and counts.max() < 1.1 * counts.mean()
    other = draw_sub_universes(config_of({"all": NAMES}, sub_universes=3, sub_universe_seed=1))
    assert other != drawn[:3]


def test_what_cannot_be_drawn_is_refused_with_the_key():
    with pytest.raises(UserError, match=r"sub_universe_size begins with 8, and the universe has 4 names; lower it"):
        draw_sub_universes(config_of({"all": NAMES[:4]}, sub_universes=1))
    groups = {name: (name,) for name in NAMES[:5]} | {"rest": NAMES[5:]}
    with pytest.raises(UserError, match=r"need a name of each of 6 groups; raise it, or use --regimes factor"):
        draw_sub_universes(config_of(groups, sub_universes=1, sub_universe_size=(3, 9), regimes="static"))


def bars(frame: pd.DataFrame | None = None):
    frame = synthetic_bars(NAMES[:6], "2010-01-04", "2012-06-29") if frame is None else frame
    late = (frame["symbol"] == "N05") & (frame["date"] < pd.Timestamp("2011-02-01"))
    return make_bars(frame[~late], "random", as_traded=True)


@pytest.fixture(scope="module")
def config() -> Config:
    groups = {"first": NAMES[:3], "second": NAMES[3:6]}
    return config_of(groups, sub_universes=4, sub_universe_size=(2, 4), sub_universe_seed=3)


@pytest.mark.parametrize("regimes", ["factor", "static"])
def test_a_sub_universe_is_what_its_own_bars_give(config, regimes):
    config = config.model_copy(update={"regimes": regimes})
    for tensors, groups in further_markets(build_market(bars()), config):
        names = [symbol for symbols in groups.values() for symbol in symbols]
        frame = bars().frame
        own = make_bars(frame[frame["symbol"].isin(names)], "random", as_traded=True, symbols=tensors.symbols)
        assert set(tensors.symbols) == set(names)
        assert same(tensors, build_market_tensors(build_market(own), regimes, groups, {})) == []


def test_no_further_market_knows_what_comes(config):
    before = further_markets(build_market(bars()), config)
    day = pd.Timestamp("2012-01-10")
    frame = synthetic_bars(NAMES[:6], "2010-01-04", "2012-06-29")
    hit = (frame["date"] >= day).to_numpy()
    noise = np.exp(np.random.default_rng(0).normal(0, 0.05, hit.sum()))
    for column in ("open", "high", "low", "close", "adj_close", "volume"):
        frame.loc[hit, column] *= noise
    after = further_markets(build_market(bars(frame)), config)
    assert len(before) == len(after) == 4
    for (one, groups), (other, same_groups) in zip(before, after, strict=True):
        assert groups == same_groups
        row = int((one.dates < (day - pd.Timestamp(0)).days).sum())
        assert set(same(one, other, rows=row + 1)) <= {"returns", "cash_return", "fillable"}  # the session itself
        assert same(one, other, rows=row - 1) == []  # of which a return ends a session later
        assert {"features", "regime_weights", "factor_ranks"} <= set(same(one, other, rows=row + 10))


def test_a_market_whose_names_end_keeps_the_rows_before(config):
    frame = synthetic_bars(NAMES[:6], "2010-01-04", "2012-06-29")
    frame = frame[~(frame["symbol"].isin(NAMES[:3]) & (frame["date"] > pd.Timestamp("2011-10-03")))]
    one = config.model_copy(update={"universe": {"gone": NAMES[:3], "there": NAMES[3:6]}, "sub_universes": 8})
    for tensors, _ in further_markets(build_market(bars(frame)), one):
        assert tensors.features.isfinite().all() and tensors.n_days > 100


@pytest.fixture(scope="module")
def cached(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("further")
    changes = {
        "sub_universes": 2,
        "sub_universe_size": [3, 3],
        "more_universes": {"pair": {"all": ["AAA", "CCC", "CASH"]}},
        "cache_path": str(folder / "cache.pt"),
    }
    path = folder / "further.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), **changes}))
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


def test_they_come_back_from_the_cache_bit_for_bit_with_the_regimes_asked_for(cached, tiny):
    config = load_config(cached)
    market = load_cached_market(config, "again")
    plain = load_cached_market(load_config(tiny), "again")
    assert same(market, plain) == [] and market.fingerprint == plain.fingerprint
    assert [len(each.symbols) for each in market.beside] == [3, 3, 2]
    built = further_markets(build_market(make_bars(pd.read_parquet(config.bars), "x"), cash_rate=0.01), config)
    for one, (other, _) in zip(market.beside[:2], built[:2], strict=True):
        assert same(one, other) == []
    static = load_cached_market(
        config.model_copy(update={"regimes": "static", "more_universes": {}}), "again", alone=True
    )
    assert static.beside == () and static.regimes.kind == "static"


def test_a_cache_of_other_further_markets_is_refused_only_for_training(cached, tiny):
    config = load_config(cached)
    for changes in (
        {"sub_universes": 3},
        {"sub_universe_seed": 1},
        {"more_universes": {}},
        {"sub_universe_size": (2, 3)},
    ):
        other = config.model_copy(update=changes)
        with pytest.raises(UserError, match=r"was built with further markets = .* make it anew with: again"):
            load_cached_market(other, "again")
        assert load_cached_market(other, "again", alone=True).beside == ()
    off = config.model_copy(update={"sub_universes": 0, "more_universes": {}})
    assert load_cached_market(off, "again").beside == ()
    with pytest.raises(UserError, match="further markets"):
        load_cached_market(config.model_copy(update={"cache_path": load_config(tiny).cache_path}), "again")


def test_a_named_universe_that_has_no_bars_is_named(tiny, tmp_path, refused):
    path = tmp_path / "wrong.yaml"
    wrong = {"more_universes": {"odd": {"all": ["AAA", "ZZZ"]}}, "cache_path": str(tmp_path / "cache.pt")}
    path.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), **wrong}))
    said = refused("build-cache", "--config", str(path))
    assert "more_universes, 'odd'" in said and "ZZZ" in said
