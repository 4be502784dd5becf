"""What the policy says for the next close: the same as in the backtest, and nothing of what comes later."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch

from tactician.bars import make_bars
from tactician.environment import HOLD, build_market_tensors
from tactician.errors import Refused
from tactician.evaluation.decisions import decide
from tactician.evaluation.importance import occlude
from tactician.market import build_market
from tactician.trading.advice import Lived, Seat
from tactician.training.checkpoint import read_checkpoint
from tests.conftest import synthetic_bars

ROWS = range(400, 430)


def test_every_day_has_the_probabilities_of_the_judges_one_pass(advisor):
    """Day by day, with a memory rebuilt from the journal, as one pass over the whole range with a memory that is carried."""
    whole = decide(advisor.env, advisor.policies, ROWS)
    lived: list[Lived] = []
    seat = Seat((0.0,) * len(advisor.raw.symbols) + (advisor.env.portfolio_value,))
    state = None
    for k, row in enumerate(ROWS):
        session = advisor.raw.date_of(row)
        advice = advisor.advise(session, seat, lived)
        chances = torch.tensor(list(advice.probabilities.values()))
        assert torch.allclose(chances, whole.probabilities[k, 0], atol=1e-5)
        assert advice.action == int(whole.actions[k, 0])
        assert advice.known_until == advisor.raw.date_of(row - 1)
        lived.append(Lived(session, seat, advice.action))
        part = decide(advisor.env, advisor.policies, range(ROWS.start, row + 1))
        state = part.last
        held = tuple((state.holdings[0].double() * advisor.env.portfolio_value).tolist())
        seat = Seat(held, int(state.regime[0]), int(state.since_trade[0]))
        assert (advice.next_regime, advice.next_since) == (seat.regime, seat.since_trade)


def test_nothing_that_comes_later_changes_the_advice(advisor):
    row = 420
    session, seat = advisor.raw.date_of(row), Seat((1e5,) * len(advisor.raw.symbols) + (5e5,), 3, 4)
    gen = torch.Generator().manual_seed(0)

    def disturbed(market):
        def later(x, first):
            noise = torch.rand(x.shape, generator=gen)
            return torch.where(torch.arange(len(x))[(...,) + (None,) * (x.dim() - 1)] >= first, noise.to(x), x)

        return replace(
            market,
            features=later(market.features, row + 1),
            regime_weights=later(market.regime_weights, row + 1),
            returns=later(market.returns, row - 1),  # of row − 1 ends at the close of this session
            cash_return=later(market.cash_return, row),
            fillable=torch.where(torch.arange(market.n_days)[:, None] >= row, False, market.fillable),
        )

    other = replace(
        advisor, env=replace(advisor.env, market=disturbed(advisor.env.market)), raw=disturbed(advisor.raw), _paper={}
    )
    # As text, since a volume that is not known is NaN, which equals nothing.
    assert repr(other.advise(session, seat)) == repr(advisor.advise(session, seat))


def test_a_session_without_a_decision_counts_as_held(advisor):
    """The account missed a day: the memory of that day is that of a portfolio that drifted."""
    first, missed, now = (advisor.raw.date_of(row) for row in (400, 401, 402))
    seat = Seat((0.0,) * len(advisor.raw.symbols) + (1e6,))
    told = [Lived(first, seat, HOLD), Lived(missed, replace(seat, since_trade=1), HOLD)]
    here = Seat(seat.holdings, 0, 2)
    gap, full = advisor.advise(now, here, told[:1]), advisor.advise(now, here, told)
    for name, chance in full.probabilities.items():
        assert gap.probabilities[name] == pytest.approx(chance, abs=1e-4)


def test_reasons_are_the_judges_own(advisor):
    row = 410
    whole = decide(advisor.env, advisor.policies, range(row, row + 1))
    advice = advisor.advise(advisor.raw.date_of(row), Seat((0.0,) * len(advisor.raw.symbols) + (1e6,)))
    reference = torch.cat([whole.paper, whole.observations]).mean(0)
    reference[:44] = 0
    found = occlude(advisor.policies, whole.observations, whole.memories, whole.actions[:, 0], reference)
    (expected,) = found.top(8)
    for reason, (_, effect, value) in zip(advice.why, expected, strict=True):
        assert (reason.effect, reason.value) == (pytest.approx(effect, abs=1e-5), pytest.approx(value, abs=1e-5))


def test_features_beyond_those_of_the_training_are_named(advisor):
    row = 410
    low, high = advisor.feature_range
    assert not advisor._strange(row) or len(advisor._strange(row)) < 20
    moved = high.clone()
    moved[3] = advisor.raw.features[row, 3] - 1e-3
    narrow = replace(advisor, feature_range=(low, moved))
    assert "index_return_10" in narrow._strange(row)
    nothing = replace(advisor, feature_range=(low - 1e9, high + 1e9))
    assert nothing._strange(row) == ()


def test_a_training_day_lies_where_numpy_puts_it_among_the_training_days(advisor, model):
    """From the market's own features and the checkpoint's normaliser; the training range ends with 2012."""
    normaliser = read_checkpoint(model)["normaliser"]
    z = (advisor.raw.features.double().numpy() - normaliser["mean"].numpy()) / normaliser["std"].numpy()
    found = np.sqrt((z.clip(-5, 5) ** 2).mean(1))
    seen = advisor.raw.rows(None, date(2012, 12, 31))
    days, row = found[seen.start : seen.stop], 300
    assert row in seen and advisor.training.sessions == len(days)
    advice = advisor.advise(advisor.raw.date_of(row), Seat((0.0,) * len(advisor.raw.symbols) + (1e6,)))
    assert advice.distance.value == pytest.approx(found[row], rel=1e-5)
    nearer = 100 * np.mean(days < found[row])
    assert nearer - 1.5 <= advice.distance.percent <= nearer
    assert not advice.names.is_other


def test_a_session_that_the_bars_do_not_reach_is_refused(advisor):
    with pytest.raises(Refused, match="The bars give no decision for 2031-01-02"):
        advisor.advise(date(2031, 1, 2), Seat((0.0,) * len(advisor.raw.symbols) + (1e6,)))


def test_an_output_that_is_no_number_is_refused(advisor):
    policy = type(advisor.policies[0])(
        **{k: v for k, v in advisor.policies[0].architecture.items() if k != "network"}, value_scale=1.0, generator=None
    )
    with torch.no_grad():
        next(iter(policy.policy_head.parameters())).fill_(torch.nan)
    broken = replace(advisor, policies=(policy,))
    with pytest.raises(Refused, match="not a finite number"):
        broken.advise(advisor.raw.date_of(410), Seat((0.0,) * len(advisor.raw.symbols) + (1e6,)))


def test_the_row_of_the_next_decision_is_what_it_will_be_once_the_session_is_over():
    """The same row from bars that end the session before, and from bars that go on: bit by bit."""
    frame = synthetic_bars()
    groups = {"one": ("AAA", "BBB"), "two": ("CCC", "DDD")}
    dates = sorted(frame["date"].unique())
    cut, coming = dates[700], [pd.Timestamp(d).date() for d in dates[701:703]]

    def tensors(rows, future=()):
        market = build_market(make_bars(rows, "test", as_traded=True), cash_rate=0.02)
        return build_market_tensors(market.with_future(future) if future else market, "factor", groups, {})

    early, late = tensors(frame[frame["date"] <= cut], coming), tensors(frame)
    row = early.n_days - 1
    assert early.date_of(row) == coming[0] == late.date_of(row)
    seen = late.until(row)
    for name in ("features", "regime_weights", "tradable", "factor_ranks", "vol_daily", "dollar_volume", "returns"):
        mine, theirs = getattr(early, name), getattr(seen, name)
        assert torch.equal(torch.nan_to_num(mine), torch.nan_to_num(theirs)), name
    assert early.fillable[-1].all() and not early.returns[-1].any()
