"""An order needs a bar: nothing is bought at an old price, nothing is sold for want of a bar, nothing outlives its last bar.

The chain is the real one, bars → market → tensors → environment and backtest. Prices are flat but for what each test moves, and
trading is free, so that every figure can be worked out by hand.
"""

from dataclasses import replace

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
import torch

from tactician.environment import (
    Environment,
    build_market_tensors,
    first_state,
    fit_normaliser,
    normalise,
    observe,
    step,
)
from tactician.evaluation import Question, action_targets, backtest, baseline_targets
from tactician.evaluation.agent import closed_trades
from tactician.market import build_market, make_bars
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market
from tests.portfolio import scalar_ledger

SYMBOLS = ("A", "B", "C")
DAYS = exchange_calendars.get_calendar("XNYS", start="2018-01-02", end="2020-12-31").sessions.astype("datetime64[ns]")
MISSING = 600
"""Position of the session from which B lacks bars."""


def bars(missing=(), jump=1.0, noise=0.0, seed=0):
    """Three stocks; B has no bar in the missing sessions, and its price is `jump` times as high from MISSING on."""
    rng, frames = np.random.default_rng(seed), []
    for k, symbol in enumerate(SYMBOLS):
        # A tick up and down, so that no price is constant.
        close = 50.0 * (k + 1) * (1 + 1e-9 * (np.arange(len(DAYS)) % 2))
        close = close * np.exp(np.cumsum(rng.normal(0, noise, len(DAYS)))) if noise else close
        if symbol == "B":
            close = np.where(np.arange(len(DAYS)) >= MISSING, jump * close, close)
        frame = pd.DataFrame({"date": DAYS, "symbol": symbol, "close": close, "adj_close": close})
        frames.append(frame.drop(index=list(missing)) if symbol == "B" else frame)
    return make_bars(pd.concat(frames), "test")


def tensors(**options):
    rules = {"delisting_return": options.pop("delisting_return", 0.0)}
    return build_market_tensors(build_market(bars(**options), **rules), "factor", {"all": SYMBOLS}, {})


def row_of(market, position):
    return next(k for k in range(market.n_days) if market.date_of(k) == DAYS[position].date())


def live(market, first, names):
    """Path of a portfolio that begins in cash and follows named regimes from a position of the calendar on."""
    row = row_of(market, first)
    rows = range(row, row + len(names))
    actions = torch.tensor([market.regimes.names.index(name) for name in names])
    targets, hold = action_targets(market, rows, actions)
    return backtest(market, rows, targets, hold, Frictions.zero())


EW = "EQUAL_WEIGHT"


def test_an_asset_without_a_bar_is_not_bought_at_its_old_price():
    """B is missing in one session and comes back a half higher: who buys that day gets none of it."""
    market = tensors(missing=[MISSING], jump=1.5)
    path = live(market, MISSING, [EW, "HOLD"])
    assert path.growth[:, 0].abs().max() < 1e-6
    assert path.turnover[0, 0] == pytest.approx(2 / 3, abs=1e-6)  # B's third stays in cash


def test_who_holds_an_asset_through_a_gap_earns_the_jump():
    market = tensors(missing=[MISSING], jump=1.5)
    path = live(market, MISSING - 1, [EW, "HOLD", "HOLD"])
    assert path.growth[1, 0].exp().item() == pytest.approx(1 + 0.5 / 3, abs=1e-6)


def test_one_missing_bar_does_not_sell_an_asset_and_buy_it_back():
    market = tensors(missing=[MISSING])
    path = live(market, MISSING - 3, [EW] * 8)
    assert path.turnover[0, 0] == pytest.approx(1, abs=1e-6)
    assert path.turnover[1:, 0].max() < 1e-6


def test_a_rule_leaves_an_asset_out_only_after_more_than_five_missing_sessions():
    gap = range(MISSING, MISSING + 12)
    market = tensors(missing=gap)
    tradable = market.tradable[row_of(market, MISSING) :, 1].tolist()
    # Row t knows sessions up to t − 1: the sixth missing one is known at MISSING + 6.
    assert tradable[:6] == [True] * 6 and tradable[6] is False
    # Twenty bars later the scores look back over bars alone.
    assert tradable.index(True, 6) == 12 + 20
    path = live(market, MISSING - 1, [EW] * 40)
    assert (
        path.turnover[1:13, 0].max() < 1e-6
    )  # the position cannot be sold amid the gap, and nothing else is to be done
    assert path.turnover[13, 0] == pytest.approx(2 / 3, abs=1e-6)  # it is sold with its first bar, and the rest bought


def test_a_delisted_asset_is_not_bought_after_its_last_bar():
    market = tensors(missing=range(MISSING, len(DAYS)))
    path = live(market, MISSING, [EW] * 8)
    assert path.turnover[0, 0] == pytest.approx(2 / 3, abs=1e-6)
    assert path.turnover[1:6, 0].max() < 1e-6
    # Once its rules leave it out, its third is spread over the other two.
    assert path.turnover[6, 0] == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("paid", [0.0, -0.3])
def test_after_the_last_bar_a_holding_becomes_cash_at_the_last_price_times_what_is_paid(paid):
    market = tensors(missing=range(MISSING, len(DAYS)), delisting_return=paid)
    path = live(market, MISSING - 2, [EW, "HOLD", "HOLD", "HOLD"])
    wealth = path.growth[:, 0].cumsum(0).exp().tolist()
    assert wealth == pytest.approx([1.0, 1 + paid / 3, 1 + paid / 3, 1 + paid / 3], abs=1e-6)
    assert path.turnover[1:, 0].abs().max() == 0 and path.costs.abs().max() == 0
    # What became cash earns what cash earns: with cash at 1 % a session it is seen.
    earning = replace(market, cash_return=torch.full_like(market.cash_return, 0.01))
    growth = live(earning, MISSING - 2, [EW, "HOLD", "HOLD", "HOLD"]).growth[:, 0].expm1()
    third = (1 + paid) / 3
    assert growth[2].item() == pytest.approx(0.01 * third / (2 / 3 + third), abs=1e-6)


def test_the_environment_lives_through_gaps_and_ends_as_the_backtest_and_the_scalar_ledger_do():
    gaps = [*range(MISSING, MISSING + 2), MISSING + 5, *range(MISSING + 9, len(DAYS))]
    market = tensors(missing=gaps, noise=0.02, delisting_return=-0.3)
    # Cash that earns something, so that it tells whether a holding has become cash.
    market = replace(market, cash_return=torch.full_like(market.cash_return, 0.002))
    row = row_of(market, MISSING - 2)
    names = [EW, "MOMENTUM", "FULL_CASH", "RISK_ON", EW, EW, "LOW_VOL", "HOLD", EW, EW, "HOLD", "MOMENTUM", EW, EW, EW]
    rows, actions = range(row, row + len(names)), torch.tensor([market.regimes.names.index(n) for n in names])
    frictions = Frictions()
    targets, hold = action_targets(market, rows, actions)
    path = backtest(market, rows, targets, hold, frictions)

    env = Environment(market, frictions, rows, len(names), first_holdings="cash", random_slippage=False)
    state, rewards = first_state(env, torch.zeros(1, dtype=torch.int64)), []
    c = scalar_ledger.Coefficients(frictions.spread, (frictions.slippage_max / 2,) * 3, frictions.impact)
    held, growth = [0.0, 0.0, 0.0, 1.0], []
    for k, day in enumerate(rows):
        state, outcome = step(env, state, actions[k : k + 1])
        rewards.append(outcome.reward.item() / 100)
        held = scalar_ledger.settle(held, market.delisted[day].tolist())
        value = sum(held)
        if not hold[k]:
            held, _, _ = scalar_ledger.trade(held, targets[k, 0].tolist(), c, market.fillable[day].tolist())
        held = scalar_ledger.grow(held, market.returns[day].double().tolist(), float(market.cash_return[day]))
        growth.append(float(np.log(sum(held) / value)))
    assert path.growth[:, 0].tolist() == pytest.approx(growth, abs=1e-12)
    assert rewards == pytest.approx(growth, abs=3e-6)
    assert path.turnover[-1, 0] > 0 and float(np.abs(growth).max()) > 0.01


def test_nothing_that_the_agent_sees_depends_on_which_bars_come():
    """Whether B has a bar at t, or ever again, changes no observation up to t."""
    whole = tensors(noise=0.01)
    row = row_of(whole, MISSING)
    for missing in ([MISSING], range(MISSING, MISSING + 9), range(MISSING, len(DAYS))):
        other = tensors(noise=0.01, missing=missing)
        for name in ("features", "regime_weights", "tradable", "factor_ranks", "vol_daily"):
            assert torch.equal(getattr(whole, name)[: row + 1], getattr(other, name)[: row + 1]), name
        seen = []
        for market in (whole, other):
            env = Environment(
                normalise(market, *fit_normaliser(market, range(1, row - 40))),
                Frictions(),
                range(row - 30, row + 2),
                32,
            )
            state = first_state(env, torch.zeros(1, dtype=torch.int64))
            for _ in range(31):
                seen.append(observe(env, state))
                state, _ = step(env, state, torch.tensor([4]))
        assert torch.equal(torch.stack(seen[:31]), torch.stack(seen[31:]))


def test_the_bars_so_far_tell_what_is_tradable_whatever_comes_later():
    """A file that ends amid a gap says the same of its sessions as one that goes on."""
    frame = bars(missing=range(MISSING, MISSING + 4)).frame
    whole = build_market(make_bars(frame, "test"))
    for last in range(MISSING - 1, MISSING + 6):
        part = build_market(make_bars(frame[frame["date"] <= DAYS[last]], "test"))
        assert torch.equal(part.tradable, whole.tradable[: last + 1])


@pytest.mark.parametrize("silent", [range(MISSING, len(DAYS)), range(300), range(MISSING, MISSING + 12)])
def test_bars_that_nobody_traded_at_are_as_if_they_were_not_there(silent):
    """Filled forward after an end or amid a halt, or backward before a listing, with volume 0: like a file without them."""
    clean = bars(noise=0.01, missing=silent).frame.assign(volume=1e6)
    whole = bars(noise=0.01).frame.assign(volume=1e6)
    hit = (whole["symbol"] == "B") & whole["date"].isin(DAYS[list(silent)])
    price = clean.loc[clean["symbol"] == "B"].set_index("date")["close"].reindex(DAYS).ffill().bfill()
    for column in ("close", "adj_close"):
        whole.loc[hit, column] = price[whole.loc[hit, "date"]].to_numpy()
    whole.loc[hit, "volume"] = 0.0
    filled, left_out = (build_market(make_bars(x, "test")) for x in (whole, clean))
    assert torch.equal(filled.delisted, left_out.delisted)
    # The first filled bar repeats no close before it, so it cannot be told from a quiet day.
    assert (filled.fillable != left_out.fillable).sum() <= 1
    difference = (filled.tradable != left_out.tradable).sum(0).tolist()
    assert difference[0] == difference[2] == 0 and difference[1] <= 1
    assert torch.equal(filled.returns, left_out.returns)


def test_a_few_missing_sessions_at_the_end_of_the_data_are_no_delisting():
    for absent, ended in ((1, False), (5, False), (6, True)):
        market = build_market(bars(missing=range(len(DAYS) - absent, len(DAYS))), delisting_return=-0.3)
        assert bool(market.delisted.any()) == ended
        assert bool((market.returns[-7:, 1] < -0.29).any()) == ended


def test_regimes_that_differ_only_later_are_one_until_then():
    market = random_market(100)
    weights = market.regime_weights.clone()
    weights[:60, 5] = weights[:60, 4]
    market = replace(market, regime_weights=weights)
    assert market.canonical_regimes(range(60))[5] == 4 and market.canonical_regimes(range(100))[5] == 5


def test_cash_is_no_trade_and_the_same_targets_are_no_move():
    market = tensors(noise=0.01)  # SIZE_SMALL is EQUAL_WEIGHT here: there are no closes as traded
    names = market.regimes.names
    env = Environment(market, Frictions(), range(1, 100), 8, first_holdings="cash", seed=3)
    state = first_state(env, torch.arange(4))
    closed = []
    for name in ("FULL_CASH", "HOLD", EW, "SIZE_SMALL", EW, "MOMENTUM", "FULL_CASH", "FULL_CASH"):
        state, outcome = step(env, state, torch.full((4,), names.index(name)))
        closed.append(bool(outcome.trade_closed.all()))
        assert bool(outcome.trade_closed.any()) == closed[-1]
    assert closed == [False] * 5 + [True, True, False]
    actions = torch.tensor([names.index(x) for x in ("FULL_CASH", EW, "SIZE_SMALL", "MOMENTUM", "FULL_CASH", "HOLD")])
    growth = torch.tensor([0.01, 0.02, 0.03, -0.01, 0.0, 0.0], dtype=torch.float64)
    trades = closed_trades(market.canonical_regimes(range(market.n_days))[actions], growth)
    assert trades.tolist() == pytest.approx([np.expm1(0.05), np.expm1(-0.01)])


def test_equal_weight_chosen_every_day_is_the_baseline_to_the_last_bit():
    market = tensors(missing=range(MISSING, MISSING + 9), noise=0.02)
    rows = range(1, market.n_days)
    targets, hold = action_targets(market, rows, torch.full((len(rows),), market.regimes.names.index(EW)))
    names, baseline, baseline_hold = baseline_targets(Question(market, rows))
    path = backtest(market, rows, torch.cat([targets, baseline], 1), torch.cat([hold, baseline_hold], 1), Frictions())
    assert torch.equal(path.growth[:, 0], path.growth[:, 1 + names.index("equal_weight")])


def test_what_an_episode_starts_with_is_no_trade_of_the_agent():
    market = tensors(noise=0.01)
    env = Environment(market, Frictions(), range(1, 100), 8, seed=3)
    state = first_state(env, torch.arange(64))
    closed = torch.zeros(64)
    for t in range(6):  # another regime at once, hold, another one in the end
        action = torch.where(state.regime == 4, 5, 4) if t in (0, 5) else torch.zeros(64, dtype=torch.int64)
        state, outcome = step(env, state, action)
        closed += outcome.trade_closed
        if t == 0:
            growth = outcome.reward / 100
            assert (outcome.trade_return == 0).all()
        elif t < 5:
            growth += outcome.reward / 100
    assert (closed == 1).all()
    assert torch.allclose(outcome.trade_return, growth.expm1(), atol=1e-6)


def test_who_buys_once_and_holds_closes_no_trade():
    market = tensors(noise=0.01)
    env = Environment(market, Frictions(), range(1, 100), 8, seed=3)
    state = first_state(env, torch.arange(16))
    for action in (4, 0, 0, 4, 0, 0, 0):
        state, outcome = step(env, state, torch.full((16,), action))
        assert not outcome.trade_closed.any()
