"""The search for look-ahead: it is silent on an honest chain, and names each of many leaks that are built in on purpose."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tactician.environment.market_tensors as market_tensors
from tactician.environment import (
    FEATURE_NAMES,
    OBS_DIM,
    OBSERVATION_NAMES,
    build_market_tensors,
    fit_normaliser,
    observe,
)
from tactician.errors import UserError
from tactician.evaluation import leaks
from tactician.evaluation.futures import FUTURES, Cut, History, end, endings, noise, splits
from tactician.evaluation.leaks import Decisions, _bits_differ, choose_cuts, find_leak
from tactician.market import FACTORS, build_market, make_bars
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.conftest import synthetic_bars
from tests.markets import random_market

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
GROUPS = {"first": ("AAA", "BBB"), "second": ("CCC", "DDD"), "third": ("EEE", "FFF")}
TRAIN_UNTIL = date(2012, 3, 30)


def lively_frame() -> pd.DataFrame:
    """Three years with a late listing, a halt of weeks, a missing bar, a bar without a trade and a delisting."""
    f = synthetic_bars(SYMBOLS, "2010-01-04", "2012-12-31")
    day, symbol = f["date"], f["symbol"]
    absent = (symbol == "DDD") & (day < "2011-06-06")
    absent |= (symbol == "CCC") & (day >= "2012-05-01") & (day < "2012-06-01")
    absent |= (symbol == "BBB") & (day == "2012-02-15")
    absent |= (symbol == "EEE") & (day > "2012-08-15")
    quiet = ((symbol == "AAA") & (day == "2012-03-14")).to_numpy()
    f.loc[quiet, ["open", "high", "low", "close", "adj_close"]] = f["close"].shift(len(SYMBOLS))[quiet].iloc[0]
    f.loc[quiet, "volume"] = 0
    return f[~absent]


@pytest.fixture(scope="module")
def lively() -> History:
    frame = lively_frame()
    days = pd.DatetimeIndex(frame["date"].unique())
    rates = pd.DataFrame({"date": days, "rf_daily": 1e-4 + 5e-5 * np.sin(np.arange(len(days)))})
    return History(make_bars(frame, "lively", SYMBOLS, as_traded=True), rates)


@pytest.fixture
def build(tmp_path):
    """An honest chain."""

    def chain(history: History, regimes: str = "factor"):
        rate: float | Path = 0.01
        if history.rates is not None:
            rate = tmp_path / "rates.parquet"
            history.rates.to_parquet(rate)
        market = build_market(history.bars, cash_rate=rate)
        groups = {name: tuple(s for s in some if s in market.symbols) for name, some in GROUPS.items()}
        return build_market_tensors(market, regimes, {k: v for k, v in groups.items() if v}, {})

    return chain


def opinionated(n_actions: int = 16) -> ActorCritic:
    policy = ActorCritic(OBS_DIM, n_actions, 16, 1, generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    policy.policy_head[-1].weight.mul_(200)
    return policy


DECISIONS = Decisions(Frictions.specification(), 1e6, TRAIN_UNTIL)
AFTER_TROUBLE = {date(2012, 2, 16): "", date(2012, 3, 15): "", date(2012, 5, 8): "", date(2012, 8, 20): ""}
"""Decisions just after a missing bar, after a bar without a trade, inside a halt, and after a last bar."""


def test_an_honest_chain_has_no_leak_even_beside_halts_and_delistings(lively, build):
    decisions = replace(DECISIONS, policy=opinionated())
    told = []
    result = find_leak(build, lively, decisions, cuts=2, at=AFTER_TROUBLE, tell=lambda *x: told.append(x))
    assert result.leak is None, result.leak
    assert result.refused == () and result.compared == 4 * len(result.cuts) and result.values > 1e6
    assert set(AFTER_TROUBLE) <= set(result.cuts) and len(result.cuts) >= 8
    assert [done for done, _, _ in told] == list(range(len(told))) and told[0][1] == result.compared
    assert str(result).startswith("No leak: ") and "all equal to the bit" in str(result)


def test_a_constant_rate_and_adjusted_closes_have_no_leak(lively, build):
    adjusted = History(replace(lively.bars, as_traded=False))
    assert find_leak(build, adjusted, DECISIONS, cuts=2).leak is None


def caught(build, history, decisions=DECISIONS, **settings):
    result = find_leak(build, history, decisions, **{"cuts": 2, **settings})
    assert result.leak is not None
    assert str(result) == f"Leak: {result.leak}" and result.leak.table in str(result)
    return result.leak


def rows_between(build, history, first: date, last: date) -> int:
    dates = build(history).dates.tolist()
    return dates.index((last - date(1970, 1, 1)).days) - dates.index((first - date(1970, 1, 1)).days)


def test_a_centred_window_is_named_with_its_reach(lively, build):
    """Row t shows sessions up to t − 1 + 3: three too early, and the first row that shows it lies two before the cut."""
    column = FEATURE_NAMES.index("dispersion_1")

    def centred(history):
        market = build(history)
        features = market.features.clone()
        x = features[:, column].clone()
        features[3:-3, column] = x.unfold(0, 7, 1).mean(-1)
        return replace(market, features=features)

    leak = caught(centred, lively)
    assert (leak.table, leak.entry, leak.early) == ("feature", "dispersion_1", 3)
    assert rows_between(build, lively, leak.session, leak.cut) == 2
    assert float(leak.before) != float(leak.after) and "observation" in leak.also
    assert f"dispersion_1 of the decision on {leak.session} knows {leak.cut}, 3 sessions too early" in str(leak)


def test_a_normaliser_fitted_on_all_rows_is_named(lively, build):
    leak = caught(
        build, lively, replace(DECISIONS, fit=lambda market, rows: fit_normaliser(market, range(1, market.n_days)))
    )
    assert leak.table == "normaliser" and leak.entry.startswith("mean of ") and leak.also == ("observation",)


def test_a_normaliser_that_takes_validation_rows_for_training_is_caught(lively, build):
    def greedy(market, rows):
        return fit_normaliser(market, range(1, min(rows.stop + 60, market.n_days)))

    leak = caught(build, lively, replace(DECISIONS, fit=greedy), cuts=1)
    assert leak.table == "normaliser"


def test_a_rank_over_the_full_sample_is_named(lively, build):
    """Each asset's momentum is ranked by its mean over all sessions."""

    def hindsight(history):
        market = build(history)
        ranks = market.factor_ranks.clone()
        ranks[..., 0] = market.returns.mean(0).argsort().argsort().float()
        return replace(market, factor_ranks=ranks)

    leak = caught(hindsight, lively)
    assert leak.table == "factor rank" and leak.entry.split()[0] == "momentum" and leak.entry.split()[1] in SYMBOLS
    assert leak.session == build(lively).date_of(0)
    assert leak.early == rows_between(build, lively, leak.session, leak.cut) + 1


def test_a_universe_of_survivors_is_named(lively, build):
    def survivors(history):
        frame = history.bars.frame
        alive = set(frame.loc[frame["date"] >= frame["date"].max() - pd.Timedelta(days=10), "symbol"])
        kept = tuple(s for s in history.bars.symbols if s in alive)
        return build(replace(history, bars=make_bars(frame, "survivors", kept, as_traded=True)))

    leak = caught(survivors, lively)
    assert (leak.table, leak.entry, leak.before, leak.after) == ("universe", "EEE", "no", "yes")
    leak = caught(survivors, lively, futures={"endings": endings})
    assert leak.table == "universe" and leak.entry in SYMBOLS and (leak.before, leak.after) == ("yes", "no")
    assert "delisted" in str(leak)


def test_assets_in_another_order_are_named(lively, build):
    def sorted_by_fate(history):
        frame = history.bars.frame
        last = frame.groupby("symbol")["adj_close"].last()
        order = tuple(last.sort_values().index)
        return build(replace(history, bars=make_bars(frame, "sorted", order, as_traded=True)))

    assert caught(sorted_by_fate, lively).table == "universe"


def test_a_tradable_mask_that_knows_who_survives_is_named(lively, build):
    def survivors(history):
        market = build(history)
        return replace(market, tradable=market.tradable & ~market.delisted.any(0))

    leak = caught(survivors, lively)
    assert (leak.table, leak.entry, leak.before, leak.after) == ("tradable", "EEE", "no", "yes")


def moved(name: str):
    """A table whose rows hold the next row's values."""

    def lagging(market):
        table = getattr(market, name)
        return replace(market, **{name: torch.cat([table[1:], table[-1:]])})

    return lagging


@pytest.mark.parametrize(
    ("name", "table", "entries"),
    [
        ("features", "feature", FEATURE_NAMES),
        ("factor_ranks", "factor rank", [f"{f} {s}" for f in FACTORS for s in SYMBOLS]),
        ("vol_daily", "volatility", SYMBOLS),
        ("dollar_volume", "traded value", SYMBOLS),
        ("regime_weights", "target", None),
    ],
)
def test_a_table_without_its_lag_is_named_as_one_session_too_early(lively, build, name, table, entries):
    leak = caught(lambda history: moved(name)(build(history)), lively, cuts=4)
    assert (leak.table, leak.early, leak.session) == (table, 1, leak.cut)
    assert entries is None or leak.entry in entries
    assert "1 session too early" in str(leak)


def test_a_chain_without_the_lag_is_caught(lively, build, monkeypatch):
    original = market_tensors.market_features
    monkeypatch.setattr(
        market_tensors,
        "market_features",
        lambda market: torch.cat([original(market)[1:], original(market)[-1:]]),
    )
    leak = caught(build, lively)
    assert (leak.table, leak.early) == ("feature", 1)


def test_a_rate_of_cash_that_is_known_too_early_is_named(lively, build):
    leak = caught(lambda history: moved("cash_return")(build(history)), lively)
    assert (leak.table, leak.entry, leak.early) == ("return of cash", "", 1)


def test_returns_that_use_later_bars_are_named(lively, build):
    leak = caught(lambda history: moved("returns")(build(history)), lively)
    assert leak.table == "return" and leak.entry in SYMBOLS and leak.early == 1


def test_a_level_that_knows_later_splits_is_named(lively, build):
    """Adjusted closes that are ranked as if they were a price level: half of the stocks split after the cut."""

    def levels(history):
        market = build(history)
        frame = history.bars.frame.pivot(index="date", columns="symbol", values="adj_close")[list(SYMBOLS)]
        days = pd.to_datetime(market.dates.numpy(), unit="D")
        level = torch.from_numpy(frame.reindex(days).shift(1).ffill().fillna(0).to_numpy(copy=True)).float()
        return replace(market, dollar_volume=level)

    adjusted = History(replace(lively.bars, as_traded=False))
    leak = caught(levels, adjusted)
    assert (leak.table, leak.future) == ("traded value", "splits")


def test_sessions_that_depend_on_later_bars_are_named(lively, build):
    """A first row that is trimmed by how long the history is."""

    def trimmed(history):
        market = build(history)
        first = market.n_days // 10
        tables = {k: v[first:] for k, v in vars(market).items() if isinstance(v, torch.Tensor)}
        return replace(market, **tables)

    leak = caught(trimmed, lively)
    assert (leak.table, leak.future) == ("session", "end") and date.fromisoformat(leak.after) < leak.session


def test_an_observation_of_the_portfolio_that_knows_more_is_named(lively, build, monkeypatch):
    def peeking(env, state):
        seen = observe(env, state)
        seen[:, OBSERVATION_NAMES.index("since_trade")] += env.market.returns[-1, 0]
        return seen

    monkeypatch.setattr(leaks, "observe", peeking)
    leak = caught(build, lively)
    assert (leak.table, leak.entry, leak.also) == ("observation", "since_trade of portfolio 0", ())
    assert leak.early == rows_between(build, lively, leak.session, leak.cut) + 1 > 60


def test_the_probabilities_of_a_policy_are_compared(lively, build):
    seeing = replace(DECISIONS, policy=opinionated())
    leak = caught(lambda history: moved("features")(build(history)), lively, seeing, cuts=1)
    assert {"observation", "action probability"} <= set(leak.also)


def test_a_policy_reads_observations_by_its_own_normaliser(lively, build):
    """One that turns every feature into 5 hides the leak from the observation, and so from the policy."""
    blind = (torch.full((len(FEATURE_NAMES),), -torch.inf), torch.ones(len(FEATURE_NAMES)))
    leak = caught(
        lambda history: moved("features")(build(history)),
        lively,
        replace(DECISIONS, policy=opinionated(), moments=blind),
        cuts=1,
    )
    assert leak.table == "feature" and not {"observation", "action probability"} & set(leak.also)


def test_a_hint_is_told_with_a_leak_at_its_cut(lively, build):
    day = date(2011, 4, 20)  # before all other cuts
    leak = caught(
        lambda history: moved("features")(build(history)), lively, at={day: "Something was found."}, futures=FUTURES
    )
    assert leak.cut == day and str(leak).endswith("others (seen in normaliser, observation too). Something was found.")


def test_a_future_that_cannot_be_built_is_told_and_the_others_are_compared(lively, build):
    def refusing(history):
        if history.bars.frame["date"].max() < lively.bars.frame["date"].max():
            raise UserError("too short; give more.")
        return build(history)

    result = find_leak(refusing, lively, DECISIONS, cuts=2)
    assert result.leak is None and result.compared + len(result.refused) == 4 * len(result.cuts)
    assert result.refused[0].startswith("end from ") and result.refused[0].endswith("too short; give more.")


def test_if_no_future_can_be_built_that_is_said(lively, build):
    with pytest.raises(UserError, match="No other future can be built"):
        find_leak(build, lively, DECISIONS, futures={"nothing": lambda history, cut, seed: None})


def test_a_market_of_two_assets_is_checked(build, lively):
    frame = lively.bars.frame
    bars = make_bars(frame, "two", ("AAA", "FFF"), as_traded=True)
    result = find_leak(build, History(bars), DECISIONS, cuts=2)
    assert result.leak is None and result.refused == ()


def test_a_result_is_plain_values(lively, build):
    plain = find_leak(build, lively, DECISIONS, cuts=1).as_dict()
    assert plain["leak"] is None and plain["futures"] == list(FUTURES) and len(plain["cuts"]) >= 2
    leak = find_leak(lambda history: moved("features")(build(history)), lively, DECISIONS, cuts=1).as_dict()["leak"]
    assert leak["table"] == "feature" and leak["early"] == 1 and date.fromisoformat(leak["session"])


def test_cuts_are_spread_and_contain_the_end_of_training_and_the_last_but_three():
    market = random_market(400)
    rows = choose_cuts(market, 5, [], market.date_of(299))
    assert rows == (64, 148, 232, 300, 315, 396, 399)
    assert choose_cuts(market, 1, [market.date_of(7), date(1950, 1, 1)], None) == (7, 64, 396)
    with pytest.raises(UserError, match="3 decision sessions, too few"):
        choose_cuts(random_market(3), 5, [], None)


def test_bits_are_compared():
    a = torch.tensor([[1.0, 0.0, torch.nan, 2.0]])
    b = torch.tensor([[1.0, -0.0, torch.nan, 2.0000002]])
    assert _bits_differ(a, b).tolist() == [[False, True, False, True]]
    assert _bits_differ(torch.tensor([torch.nan]), -torch.tensor([torch.nan])).tolist() == [False]
    assert _bits_differ(torch.tensor([1, 2]), torch.tensor([1])).tolist() == [False, True]


@pytest.fixture(scope="module")
def cut(lively) -> Cut:
    days = pd.DatetimeIndex(lively.bars.frame["date"].unique())
    return Cut(days[days >= "2012-05-08"], ("AAA", "BBB", "DDD", "EEE", "FFF"))  # CCC is halted


@pytest.mark.parametrize("future", [noise, end, endings])
def test_a_future_leaves_all_bars_before_the_cut_as_they_are(lively, cut, future):
    ours, theirs = (h.bars.frame for h in (lively, future(lively, cut, 3)))
    before = ours[ours["date"] < cut.first].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, theirs[theirs["date"] < cut.first].reset_index(drop=True), check_exact=True)
    assert not ours.equals(theirs) and (theirs["date"] >= cut.first).any()


def test_noise_moves_every_later_price_volume_and_rate_and_keeps_the_order_within_a_bar(lively, cut):
    other = noise(lively, cut, 1)
    ours, theirs = lively.bars.frame, other.bars.frame
    later = (ours["date"] >= cut.first).to_numpy()
    for column in ("open", "high", "low", "close", "adj_close", "volume"):
        assert (ours[column] != theirs[column])[later].all()
    assert (theirs["low"] <= theirs["close"]).all() and (theirs["high"] >= theirs["open"]).all()
    moved_rates = (lively.rates["rf_daily"] != other.rates["rf_daily"]).to_numpy()
    assert (moved_rates == (lively.rates["date"] >= cut.first).to_numpy()).all()


def test_an_ended_history_is_flat_and_short_and_keeps_the_fate_of_a_halted_asset(lively, cut):
    frame = end(lively, cut, 0).bars.frame
    later = frame[frame["date"] >= cut.first]
    assert later["date"].nunique() == 7 and later.groupby("symbol")["adj_close"].nunique().eq(1).all()
    assert later[later["symbol"] == "CCC"]["date"].tolist() == [cut.days[6]]  # it is traded again, as in the data
    last = frame[frame["date"] < cut.first].groupby("symbol")["adj_close"].last()
    assert later.groupby("symbol")["adj_close"].first().eq(last).all()
    rates = end(lively, cut, 0).rates
    assert rates.loc[rates["date"] >= cut.first, "rf_daily"].nunique() == 1


def test_endings_end_some_assets_and_halt_others(lively, cut):
    frame = endings(lively, cut, 0).bars.frame
    later = frame[frame["date"] >= cut.first]
    gone = set(cut.living) - set(later["symbol"])
    halted = {s for s, part in later.groupby("symbol") if s in cut.living and part["date"].min() > cut.days[6]}
    assert len(gone) == 1 and len(halted) == 1
    assert endings(lively, replace(cut, living=("AAA",)), 0) is None


@pytest.mark.parametrize("as_traded", [True, False])
def test_splits_rescale_the_past_as_the_vendor_does(lively, cut, as_traded):
    ours = lively.bars.frame
    theirs = splits(replace(lively, bars=replace(lively.bars, as_traded=as_traded)), cut, 0).bars.frame
    before = (ours["date"] < cut.first).to_numpy()
    halved = {s for s in SYMBOLS if (theirs["adj_close"] < ours["adj_close"])[(ours["symbol"] == s) & before].all()}
    assert len(halved) == 2
    ratio = (theirs["close"] / ours["close"])[ours["symbol"].isin(halved).to_numpy()]
    was = before[ours["symbol"].isin(halved).to_numpy()]
    assert ratio[was].eq(1 if as_traded else 0.5).all() and ratio[~was].eq(0.5 if as_traded else 1).all()


def test_the_example_of_the_page_finds_its_leak(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", Path("docs/leaks.md").read_text(), re.S)
    exec(compile(example, "docs/leaks.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Leak: feature index_return_1 of the decision on ")
