"""Held-out names: drawn by their own seed, in markets of their own, and unknown to the names that remain."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.cli import main
from tactician.config import Config, load_config
from tactician.environment import (
    HELD_OUT,
    MarketTensors,
    build_market_tensors,
    draw_held_out,
    draw_sub_universes,
    further_markets,
    held_out_markets,
    load_cached_market,
)
from tactician.errors import UserError
from tactician.market import build_market, make_bars
from tests.conftest import synthetic_bars
from tests.environment.test_further import NAMES, config_of, same

EIGHT = NAMES[:8]
GROUPS = {"first": EIGHT[:4], "second": EIGHT[4:]}


@settings(deadline=None, max_examples=60)
@given(
    n_groups=st.integers(1, 8), number=st.integers(3, 21), seed=st.integers(0, 2**40), order=st.permutations(range(24))
)
def test_the_draw_does_not_depend_on_the_order_of_names_and_groups(n_groups, number, seed, order):
    groups = {f"g{k}": NAMES[k::n_groups] for k in range(n_groups)}
    mixed = {f"g{k}": [NAMES[i] for i in order if i % n_groups == k] for k in reversed(range(n_groups))}
    drawn, again = (draw_held_out(config_of(g, held_out_names=number, held_out_seed=seed)) for g in (groups, mixed))
    assert set(drawn) == set(again) and len(drawn) == len(set(drawn)) == number
    config = config_of(mixed, held_out_names=number, held_out_seed=seed, seed=5)
    assert draw_held_out(config) == tuple(s for s in config.symbols if s in again)
    if n_groups <= min(number, 24 - number):
        for names in groups.values():
            assert set(names) & set(drawn) and set(names) - set(drawn)


def test_each_name_is_held_out_as_often_as_any_other_and_none_without_the_key():
    drawn = [draw_held_out(config_of({"all": NAMES}, held_out_names=6, held_out_seed=k)) for k in range(2000)]
    counts = np.array([sum(name in each for each in drawn) for name in NAMES])
    assert counts.min() > 0.8 * 500 and counts.max() < 1.2 * 500
    assert draw_held_out(config_of({"all": NAMES})) == ()


@pytest.mark.parametrize("number", [1, 2, 6, 7, 8])
def test_fewer_than_three_names_on_a_side_are_refused(number):
    with pytest.raises(UserError, match=rf"held_out_names \({number}\) must hold out at least 3 of the 8 names"):
        config_of({"all": EIGHT}, held_out_names=number)
    assert len(draw_held_out(config_of({"all": EIGHT}, held_out_names=5))) == 5


def test_regimes_of_groups_need_each_group_on_both_sides():
    groups = {"alone": EIGHT[:1], "rest": EIGHT[1:]}
    with pytest.raises(UserError, match=r"need a name of each of 2 groups both among the held-out names"):
        draw_held_out(config_of(groups, held_out_names=3, regimes="static"))
    assert len(draw_held_out(config_of(groups, held_out_names=3))) == 3


@pytest.fixture(scope="module")
def config() -> Config:
    return config_of(GROUPS, held_out_names=3, held_out_seed=1)


def bars(change: dict[str, float] | None = None):
    """Bars of eight names, some of them with other prices."""
    frame = synthetic_bars(EIGHT, "2010-01-04", "2012-06-29")
    for symbol, scale in (change or {}).items():
        rows = (frame["symbol"] == symbol).to_numpy()
        factor = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02 * scale, rows.sum())))
        for column in ("open", "high", "low", "close", "adj_close"):
            frame.loc[rows, column] *= factor
    return make_bars(frame, "random", as_traded=True)


@pytest.mark.parametrize("regimes", ["factor", "static"])
def test_both_markets_are_what_their_own_bars_give(config, regimes):
    config = config.model_copy(update={"regimes": regimes})
    frame, names = bars().frame, draw_held_out(config)
    (remaining, left), (held_out, kept) = held_out_markets(build_market(bars()), config)
    assert held_out.symbols == names and set(remaining.symbols) == set(EIGHT) - set(names)
    for tensors, groups in ((remaining, left), (held_out, kept)):
        own = make_bars(frame[frame["symbol"].isin(tensors.symbols)], "x", as_traded=True, symbols=tensors.symbols)
        assert same(tensors, build_market_tensors(build_market(own), regimes, groups, {})) == []


def test_other_prices_of_held_out_names_leave_the_remaining_market_as_it_is(config):
    held_out, remaining = draw_held_out(config)[0], next(s for s in EIGHT if s not in draw_held_out(config))
    (calm, _), _ = held_out_markets(build_market(bars()), config)
    (other, _), (theirs, _) = held_out_markets(build_market(bars({held_out: 1.0})), config)
    assert same(calm, other) == []
    # The test of the test: prices of a remaining name are seen.
    (changed, _), (kept, _) = held_out_markets(build_market(bars({remaining: 1.0})), config)
    assert "features" in same(calm, changed) and "features" in same(theirs, kept)


def test_sub_universes_have_no_held_out_name_and_named_universes_are_refused_with_one(config):
    with_subs = config.model_copy(update={"sub_universes": 20, "sub_universe_size": (2, 5)})
    drawn = {s for each in draw_sub_universes(with_subs) for symbols in each.values() for s in symbols}
    assert drawn == set(EIGHT) - set(draw_held_out(config))
    name = draw_held_out(config)[0]
    named = config.model_copy(update={"more_universes": {"mine": {"all": (name, "N99")}}})
    with pytest.raises(UserError, match=rf"more_universes, 'mine': training would see {name}, which held_out_names"):
        further_markets(build_market(bars()), named)


@pytest.fixture(scope="module")
def cached(tmp_path_factory, tiny) -> Path:
    folder = tmp_path_factory.mktemp("held_out")
    synthetic_bars(EIGHT, "2010-01-04", "2013-06-28").to_parquet(folder / "bars.parquet")
    changes = {
        "bars": str(folder / "bars.parquet"),
        "universe": {group: list(symbols) for group, symbols in GROUPS.items()},
        "held_out_names": 3,
        "sub_universes": 1,
        "sub_universe_size": [4, 4],
        "cache_path": str(folder / "cache.pt"),
    }
    path = folder / "names.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), **changes}))
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


def pair(market: MarketTensors) -> tuple[MarketTensors, MarketTensors]:
    assert market.remaining is not None and market.held_out is not None
    return market.remaining, market.held_out


def test_they_come_back_from_the_cache_with_the_regimes_asked_for(cached):
    config = load_config(cached)
    market = load_cached_market(config, "again")
    frame = synthetic_bars(EIGHT, "2010-01-04", "2013-06-28")
    built = held_out_markets(build_market(make_bars(frame, "x"), cash_rate=0.01), config)
    for one, (other, _) in zip(pair(market), built, strict=True):
        assert same(one, other) == [] and one.symbols == other.symbols
    static = load_cached_market(config.model_copy(update={"regimes": "static"}), "again")
    assert [(each.regimes.kind, each.regimes.n_actions) for each in pair(static)] == [
        ("static", static.regimes.n_actions)
    ] * 2
    assert static.regimes.n_actions != market.regimes.n_actions
    assert market.built_from[HELD_OUT] == " ".join(draw_held_out(config))


def test_a_cache_of_other_held_out_names_is_refused_only_for_training(cached):
    config = load_config(cached)
    for changes in ({"held_out_names": 4}, {"held_out_seed": 2}):
        other = config.model_copy(update={**changes, "sub_universes": 0})
        assert set(draw_held_out(other)) != set(draw_held_out(config))
        with pytest.raises(UserError, match=r"was built with held-out names = .* make it anew with: again"):
            load_cached_market(other, "again")
        assert load_cached_market(other, "again", alone=True).held_out is None
    assert load_cached_market(config, "again", alone=True).held_out is not None
    with pytest.raises(UserError, match="further markets"):  # the sub-universes were drawn from fewer names
        load_cached_market(config.model_copy(update={"held_out_names": 0}), "again")
    off = config.model_copy(update={"held_out_names": 0, "sub_universes": 0})
    assert load_cached_market(off, "again").held_out is None
