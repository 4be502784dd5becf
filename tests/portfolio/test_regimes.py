"""The three regime tables: names, weights by hand, renormalisation, causality, wrong universes."""

import math
import pickle
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.errors import UserError
from tactician.market import FACTORS
from tactician.portfolio.regimes import REGIME_TABLES, regime_table, tilt_weights

NAN = float("nan")
approx = partial(pytest.approx, rel=1e-14, abs=1e-14)
SPECIFIED = {
    "HOLD": "hold",
    "FULL_CASH": "cash",
    "DEFENSIVE": "cash",
    "LIGHT_CASH": "cash",
    "EQUAL_WEIGHT": "factor",
    "MOMENTUM": "factor",
    "LOW_VOL": "factor",
    "QUALITY": "factor",
    "SIZE_SMALL": "factor",
    "SAFE_MOMENTUM": "mixed",
    "SAFE_QUALITY": "mixed",
    "RISK_ON": "mixed",
}
SEED_GROUPS = {"large_cap": ["SPY"], "growth": ["QQQ"], "small_cap": ["IWM"]}
EXPANDED_GROUPS = {
    "index_funds": ["SPY", "QQQ", "IWM"],
    "platforms": ["AAPL", "MSFT", "AMZN", "META", "GOOGL"],
    "chips": ["NVDA", "AMD"],
    "disruptors": ["TSLA", "NFLX"],
}


def flat(groups):
    return [s for group in groups.values() for s in group]


def tables():
    return [
        regime_table("factor", list("abcde")),
        regime_table("static", flat(SEED_GROUPS), SEED_GROUPS),
        regime_table("expanded", flat(EXPANDED_GROUPS), EXPANDED_GROUPS),
    ]


def weights(table, symbols, scores=None, tradable=None):
    """Weights of one session by regime name."""
    n = len(symbols)
    scores = torch.zeros(n, 4, dtype=torch.float64) if scores is None else scores
    tradable = torch.ones(n, dtype=torch.bool) if tradable is None else torch.tensor(tradable)
    rows = table.weights(scores[None], tradable[None])[0]
    return dict(zip(table.names, rows.tolist(), strict=True))


def slow_tilt(score, tradable, top, overweight):
    """The rule in words, asset by asset."""
    able = [i for i, t in enumerate(tradable) if t]
    scored = sorted((i for i in able if not math.isnan(score[i])), key=lambda i: -score[i])  # sorted() is stable
    best = set(scored[: math.ceil(round(top * len(able), 9))])
    if not best or {score[i] for i in able} == {score[scored[0]]}:
        return [1 / len(able) if t else 0.0 for t in tradable] if able else [0.0] * len(tradable)
    if math.isinf(overweight):
        return [1 / len(best) if i in best else 0.0 for i in range(len(tradable))]
    whole = sum(overweight if i in best else 1 for i in able)
    return [(overweight if i in best else 1) / whole if tradable[i] else 0.0 for i in range(len(tradable))]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from([NAN, -1.0, 0.0, 0.0, 2.0, math.inf, -math.inf]), st.floats(-5, 5)), st.booleans()
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]),
    st.sampled_from([1.0, 3.0, math.inf]),
)
def test_a_tilt_is_the_rule_in_words(assets, top, overweight):
    score, tradable = [a[0] for a in assets], [a[1] for a in assets]
    ours = tilt_weights(torch.tensor(score, dtype=torch.float64), torch.tensor(tradable), top, overweight)
    assert ours.tolist() == approx(slow_tilt(score, tradable, top, overweight))


@pytest.mark.parametrize(
    ("top", "n", "count"),
    # 0.07 · 100 and 0.55 · 100 come out a little above 7 and 55 in floating point.
    [(0.3, 1, 1), (0.3, 3, 1), (0.3, 4, 2), (0.3, 10, 3), (0.3, 300, 90), (0.5, 3, 2), (0.07, 100, 7), (0.55, 100, 55)],
)
def test_the_best_are_counted_without_rounding_accidents(top, n, count):
    held = tilt_weights(torch.arange(n, dtype=torch.float32), torch.ones(n, dtype=torch.bool), top, math.inf)
    assert held.gt(0).sum() == count


def test_an_asset_without_a_score_is_never_overweighted():
    tradable = torch.ones(4, dtype=torch.bool)
    held = tilt_weights(torch.tensor([NAN, 1.0, NAN, NAN], dtype=torch.float64), tradable)
    assert held.tolist() == approx([1 / 6, 1 / 2, 1 / 6, 1 / 6])
    for overweight in (3.0, math.inf):
        unscored = torch.full((4,), NAN, dtype=torch.float64)
        assert tilt_weights(unscored, tradable, overweight=overweight).tolist() == approx([0.25] * 4)


def test_equal_scores_are_ranked_in_asset_order():
    score = torch.zeros(301)
    score[300] = -1.0
    held = tilt_weights(score, torch.ones(301, dtype=torch.bool), 0.3, math.inf)
    assert held.gt(0).tolist() == [True] * 91 + [False] * 210


def test_where_all_scores_are_the_same_there_is_no_tilt():
    for overweight in (3.0, math.inf):
        held = tilt_weights(torch.zeros(4), torch.tensor([True, True, False, True]), 0.3, overweight)
        assert held.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


def test_the_factor_table_is_the_specified_one_whatever_the_universe():
    for n in (1, 3, 300):
        table = regime_table("factor", [f"S{i}" for i in range(n)])
        assert dict(zip(table.names, table.kinds, strict=True)) == SPECIFIED
        assert table.n_actions == 12


def test_factor_weights_by_hand():
    # Four assets; scores rank a > b > c > d by momentum, the reverse by all other factors.
    scores = torch.tensor([[4.0, 1, 1, 1], [3, 2, 2, 2], [2, 3, 3, 3], [1, 4, 4, 4]], dtype=torch.float64)
    w = weights(regime_table("factor", list("abcd")), "abcd", scores)
    high, low = 3 / 8, 1 / 8  # two at 3, two at 1
    assert w["HOLD"] == [0, 0, 0, 0, 0]
    assert w["FULL_CASH"] == [0, 0, 0, 0, 1]
    assert w["DEFENSIVE"] == approx([0.125] * 4 + [0.5])
    assert w["LIGHT_CASH"] == approx([0.1875] * 4 + [0.25])
    assert w["EQUAL_WEIGHT"] == approx([0.25] * 4 + [0])
    assert w["MOMENTUM"] == approx([high, high, low, low, 0])
    for name in ("LOW_VOL", "QUALITY", "SIZE_SMALL"):
        assert w[name] == approx([low, low, high, high, 0])
    assert w["SAFE_MOMENTUM"] == approx([0.7 * high, 0.7 * high, 0.7 * low, 0.7 * low, 0.3])
    assert w["SAFE_QUALITY"] == approx([0.7 * low, 0.7 * low, 0.7 * high, 0.7 * high, 0.3])
    assert w["RISK_ON"] == approx([0.5, 0.5, 0, 0, 0])  # the top 30 % of four: two


def test_each_factor_regime_reads_its_own_score():
    table = regime_table("factor", list("abcd"))
    readers = {"MOMENTUM": 0, "LOW_VOL": 1, "QUALITY": 2, "SIZE_SMALL": 3, "SAFE_MOMENTUM": 0, "SAFE_QUALITY": 2}
    for name, factor in {**readers, "RISK_ON": 0}.items():
        scores = torch.zeros(4, 4, dtype=torch.float64)
        scores[3, factor] = 1.0  # asset d is the best by this factor alone; ties favour a
        held = weights(table, "abcd", scores)[name]
        assert held[3] == max(held[:4]), (name, FACTORS[factor])
        assert held[1] < held[3]


def test_static_makes_the_16_of_three_index_funds():
    table = regime_table("static", flat(SEED_GROUPS), SEED_GROUPS)
    sets = ["SPY", "QQQ", "IWM", "SPY+QQQ", "SPY+IWM", "QQQ+IWM", "ALL"]
    assert list(table.names) == ["HOLD", "FULL_CASH", *sets, *(f"HALF_{s}" for s in sets)]
    w = weights(table, flat(SEED_GROUPS))
    assert w["SPY+IWM"] == approx([0.5, 0, 0.5, 0])
    assert w["ALL"] == approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert w["HALF_QQQ"] == approx([0, 0.5, 0, 0.5])
    assert w["HALF_ALL"] == approx([1 / 6, 1 / 6, 1 / 6, 0.5])


def test_expanded_makes_the_24_of_four_groups():
    symbols = flat(EXPANDED_GROUPS)
    table = regime_table("expanded", symbols, EXPANDED_GROUPS)
    assert table.n_actions == 24
    assert table.names[-8:] == (
        "ALL",
        "HALF_INDEX_FUNDS",
        "HALF_PLATFORMS",
        "HALF_CHIPS",
        "HALF_DISRUPTORS",
        "ALL_CASH25",
        "ALL_CASH50",
        "ALL_CASH75",
    )
    w = weights(table, symbols)
    assert w["CHIPS"] == approx([0] * 8 + [0.5, 0.5, 0, 0, 0])
    assert w["INDEX_FUNDS+CHIPS"] == approx([1 / 6] * 3 + [0] * 5 + [0.25] * 2 + [0, 0, 0])
    assert w["HALF_PLATFORMS"] == approx([0] * 3 + [0.1] * 5 + [0] * 4 + [0.5])
    assert w["ALL_CASH75"] == approx([0.25 / 12] * 3 + [0.25 / 20] * 5 + [0.25 / 8] * 4 + [0.75])


@pytest.mark.parametrize(
    ("kind", "n", "count"), [("static", 2, 8), ("static", 5, 64), ("expanded", 2, 10), ("expanded", 5, 41)]
)
def test_the_number_of_generated_regimes_follows_the_number_of_groups(kind, n, count):
    groups = {f"g{i}": [f"A{i}", f"B{i}"] for i in range(n)}
    assert regime_table(kind, flat(groups), groups).n_actions == count


def test_the_share_of_what_cannot_be_traded_goes_to_the_rest_and_else_to_cash():
    symbols = flat(EXPANDED_GROUPS)
    table = regime_table("expanded", symbols, EXPANDED_GROUPS)
    listed = [s not in ("META", "NVDA", "AMD") for s in symbols]
    w = weights(table, symbols, tradable=listed)
    assert w["PLATFORMS"] == approx([0] * 3 + [0.25, 0.25, 0.25, 0, 0.25] + [0] * 5)
    assert w["INDEX_FUNDS+CHIPS"] == approx([1 / 3] * 3 + [0] * 10)
    assert w["CHIPS"] == [0] * 12 + [1]
    assert w["HALF_CHIPS"] == [0] * 12 + [1]


def test_nothing_tradable_means_all_cash():
    for table, n in zip(tables(), (5, 3, 12), strict=True):
        rows = table.weights(torch.randn(2, n, 4), torch.zeros(2, n, dtype=torch.bool))
        assert rows[:, 1:, :-1].eq(0).all()
        assert rows[:, 1:, -1].eq(1).all()
        assert rows[:, 0].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_weights_and_only_tradable_assets_have_one(dtype):
    generator = torch.Generator().manual_seed(1)
    for table, n in zip(tables(), (5, 3, 12), strict=True):
        scores = torch.randn(300, n, 4, dtype=dtype, generator=generator)
        scores[scores.abs() < 0.1] = NAN
        tradable = torch.rand(300, n, generator=generator) < 0.7
        rows = table.weights(scores, tradable)
        assert rows.dtype == dtype
        assert rows.shape == (300, table.n_actions, n + 1)
        assert rows.ge(0).all()
        moving = rows[:, ~table.is_hold]
        assert (moving.sum(-1) - 1).abs().max() < 8 * torch.finfo(dtype).eps
        assert rows[..., :-1].masked_select(~tradable.unsqueeze(1)).eq(0).all()


def test_a_session_sees_its_own_row_alone():
    generator = torch.Generator().manual_seed(2)
    for table, n in zip(tables(), (5, 3, 12), strict=True):
        scores = torch.randn(60, n, 4, generator=generator)
        tradable = torch.rand(60, n, generator=generator) < 0.8
        whole = table.weights(scores, tradable)
        changed, other = scores.clone(), tradable.clone()
        changed[31:] += torch.randn(29, n, 4, generator=generator)
        other[31:] = ~other[31:]
        assert torch.equal(table.weights(changed, other)[:31], whole[:31])
        assert torch.equal(table.weights(scores[:31], tradable[:31]), whole[:31])


def test_every_kind_makes_a_table_that_bears_its_name():
    made = [regime_table(kind, flat(SEED_GROUPS), SEED_GROUPS) for kind in REGIME_TABLES]
    assert [table.kind for table in made] == ["factor", "static", "expanded"]
    assert [table.n_actions for table in made] == [12, 2 + 2 * 7, 2 + 7 + 3 + 3]


def test_hold_is_first_cash_second_and_names_are_unique():
    for table in tables():
        assert table.names[:2] == ("HOLD", "FULL_CASH")
        assert table.is_hold.tolist() == [True] + [False] * (table.n_actions - 1)
        assert len(set(table.names)) == table.n_actions
        assert all(name == name.upper() for name in table.names)
        assert pickle.loads(pickle.dumps(table)) == table


@pytest.mark.parametrize(
    ("kind", "groups", "message"),
    [
        ("momentum", SEED_GROUPS, "regimes: there is no table 'momentum'; choose factor, static or expanded."),
        ("static", None, "universe: the regimes 'static' are made from groups; list the symbols by group."),
        ("static", {"a": ["SPY"]}, "universe: the regimes 'static' need 2 to 5 groups and there are 1; "),
        ("expanded", {str(i): ["SPY"] for i in range(6)}, "universe: the regimes 'expanded' need 2 to 5 groups and"),
        ("static", {"a": ["SPY"], "b": []}, "universe: the group 'b' is empty; add a symbol or remove it."),
        ("static", {"a": ["SPY"], "b": ["TLT"]}, "universe: the group 'b' names TLT, which the market does not hold; "),
        ("static", {"spy": ["QQQ", "IWM"], "b": ["SPY"]}, "universe: its groups make two regimes named SPY; rename"),
    ],
)
def test_a_wrong_universe_is_named(kind, groups, message):
    with pytest.raises(UserError) as caught:
        regime_table(kind, flat(SEED_GROUPS), groups)
    assert str(caught.value).startswith(message)
