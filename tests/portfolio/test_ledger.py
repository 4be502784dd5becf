"""The ledger against a scalar reference, and the properties that any ledger must have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.portfolio.frictions import Frictions, component_costs, cost_rates, largest_trade
from tactician.portfolio.ledger import grow, move_cost, rebalance, settle
from tests.portfolio.scalar_ledger import Coefficients
from tests.portfolio.scalar_ledger import grow as scalar_grow
from tests.portfolio.scalar_ledger import settle as scalar_settle
from tests.portfolio.scalar_ledger import trade as scalar_trade

FEW = settings(deadline=None, max_examples=60)
F64 = torch.float64


def weights_of(counts):
    return [c / sum(counts) for c in counts]


def some_weights(n):
    return st.lists(st.integers(0, 10), min_size=n, max_size=n).filter(any).map(weights_of)


def random_weights(*shape, dtype=F64, seed=0):
    """Dirichlet-like rows, many of them concentrated, every second without cash."""
    raw = torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) ** 6
    raw[::2, ..., -1] = 0
    return raw / raw.sum(-1, keepdim=True)


@st.composite
def histories(draw):
    """A start, frictions, and up to six sessions of (targets, hold, slippage, returns, cash return)."""
    n = draw(st.integers(1, 5))
    fraction = st.floats(0, 0.005)
    frictions = Frictions(
        spread=draw(fraction),
        slippage_max=draw(fraction),
        impact=draw(st.floats(0, 0.03)),
        commission=draw(fraction),
        impact_adv=draw(st.sampled_from([0.0, 0.4, 1.0])),
        impact_linear=draw(st.sampled_from([0.0, 0.02])),
    )
    start = [1e6 * w for w in draw(some_weights(n + 1))]

    def each(low, high):
        return draw(st.lists(st.floats(low, high), min_size=n, max_size=n))

    volume = st.sampled_from([0.0, -5.0, math.nan, 1.0, 1e4, 1e6])
    adv = draw(st.lists(st.one_of(volume, st.floats(1e4, 1e10)), min_size=n, max_size=n))
    alive = [True] * n
    sessions = []
    for _ in range(draw(st.integers(1, 6))):
        fillable = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        delisted = [not a for a in alive]
        alive = [a and draw(st.integers(0, 9)) > 0 for a in alive]
        fillable = [f and not d for f, d in zip(fillable, delisted, strict=True)]
        earned = (each(-0.2, 0.25), draw(st.floats(-1e-4, 1e-3)))
        sessions.append((draw(some_weights(n + 1)), draw(st.booleans()), each(0, 0.005), *earned, fillable, delisted))
    return start, frictions, sessions, each(0.0, 0.4), adv


def coefficients(frictions, slippage, vol, adv):
    f = frictions
    return Coefficients(
        f.spread, tuple(slippage), f.impact, f.commission, f.impact_adv, f.impact_linear, tuple(vol), tuple(adv)
    )


@FEW
@given(histories())
def test_a_history_agrees_with_the_scalar_reference_to_1e_12(history):
    start, frictions, sessions, vol, adv = history
    ours, reference = torch.tensor(start, dtype=F64), list(start)
    law = {"vol_daily": torch.tensor(vol, dtype=F64), "adv": torch.tensor(adv, dtype=F64)}
    for targets, hold, slippage, returns, cash_return, fillable, delisted in sessions:
        ours, reference = settle(ours, torch.tensor(delisted)), scalar_settle(reference, delisted)
        value = sum(reference)
        trade = rebalance(
            ours,
            torch.tensor(targets, dtype=F64),
            frictions,
            hold=torch.tensor(hold),
            fillable=torch.tensor(fillable),
            slippage=torch.tensor(slippage, dtype=F64),
            iterations=12,  # these frictions take up to a quarter of a trade
            **law,
        )
        costs, turnover = [0.0] * 4, 0.0
        if not hold:
            c = coefficients(frictions, slippage, vol, adv)
            reference, costs, turnover = scalar_trade(reference, targets, c, fillable)
        assert trade.holdings.tolist() == pytest.approx(reference, rel=1e-12, abs=1e-12 * value)
        assert trade.costs.tolist() == pytest.approx(costs, rel=1e-12, abs=1e-12 * value)
        assert trade.turnover.item() == pytest.approx(turnover, rel=1e-12, abs=1e-12)
        ours = grow(trade.holdings, torch.tensor(returns, dtype=F64), torch.tensor(cash_return, dtype=F64))
        reference = scalar_grow(reference, returns, cash_return)
        assert ours.tolist() == pytest.approx(reference, rel=1e-12, abs=1e-12 * value)


@FEW
@given(histories())
def test_money_is_neither_made_nor_lost(history):
    start, frictions, sessions, vol, adv = history
    before = torch.tensor(start, dtype=F64)
    targets, _, slippage, returns, cash_return = (torch.tensor(x, dtype=F64) for x in sessions[0][:5])
    law = {"vol_daily": torch.tensor(vol, dtype=F64), "adv": torch.tensor(adv, dtype=F64)}
    fillable = torch.tensor(sessions[0][5])
    trade = rebalance(before, targets, frictions, slippage=slippage, fillable=fillable, **law)
    assert trade.holdings.sum().item() + trade.costs.sum().item() == pytest.approx(1e6, rel=1e-14)
    assert torch.equal(trade.holdings[:-1][~fillable], before[:-1][~fillable])
    assert trade.holdings.min() >= 0
    earned = (trade.holdings[:-1] * returns).sum() + trade.holdings[-1] * cash_return
    after = grow(trade.holdings, returns, cash_return)
    assert after.sum().item() == pytest.approx((trade.holdings.sum() + earned).item(), rel=1e-14)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("assets", [2, 7, 13, 29, 300])
def test_what_cannot_be_filled_stays_and_cash_is_never_negative(dtype, assets):
    before = random_weights(4000, assets + 1, dtype=dtype, seed=21)
    before *= torch.linspace(1, 3e4, 4000, dtype=dtype)[:, None]
    before[::4, -1] = 0
    targets = random_weights(4000, assets + 1, dtype=dtype, seed=22)
    locked = torch.rand(4000, assets, generator=torch.Generator().manual_seed(23)) < 0.3
    locked[::8] = True  # no cash, and nothing can be traded: not even rounding may make cash negative
    for frictions in (Frictions.zero(), Frictions.specification(), Frictions(0.01, 0.02, 0.05)):
        for iterations in (1, 3, 5):
            trade = rebalance(before, targets, frictions, fillable=~locked, iterations=iterations)
            assert trade.holdings.min() >= 0
            assert torch.equal(trade.holdings[:, :-1][locked], before[:, :-1][locked])
            assert trade.traded[locked].eq(0).all()
            torch.testing.assert_close(trade.holdings[::8].sum(-1), before[::8].sum(-1))
        held = trade.holdings / trade.holdings.sum(-1, keepdim=True)
        excess = (held - targets)[:, :-1].masked_fill(locked, 0.0)
        assert excess.max() < 1e-4  # less than the target where something was locked, never more


def test_a_locked_position_beyond_its_target_shrinks_the_buys_by_one_factor():
    """By hand: A is locked at 60; from 40 in cash, B and C are to get 30 and 50, and 40 is all there is."""
    before = torch.tensor([60.0, 0.0, 0.0, 40.0], dtype=F64)
    targets = torch.tensor([0.2, 0.3, 0.5, 0.0], dtype=F64)
    trade = rebalance(before, targets, Frictions.zero(), fillable=torch.tensor([False, True, True]))
    assert trade.holdings.tolist() == pytest.approx([60.0, 15.0, 25.0, 0.0], abs=1e-10)


def test_a_locked_position_below_its_target_leaves_the_rest_in_cash():
    before = torch.tensor([10.0, 0.0, 90.0], dtype=F64)
    targets = torch.tensor([0.5, 0.5, 0.0], dtype=F64)
    trade = rebalance(before, targets, Frictions.zero(), fillable=torch.tensor([False, True]))
    assert trade.holdings.tolist() == pytest.approx([10.0, 50.0, 40.0], abs=1e-10)


def test_where_all_can_be_filled_the_mask_changes_no_bit():
    before, targets = (random_weights(3000, 21, dtype=torch.float32, seed=s) for s in (24, 25))
    fillable = torch.ones(3000, 20, dtype=torch.bool)
    fillable[::2, 3] = False
    plain = rebalance(before, targets, Frictions(), iterations=3)
    masked = rebalance(before, targets, Frictions(), fillable=fillable, iterations=3)
    assert torch.equal(plain.holdings[1::2], masked.holdings[1::2])
    assert not torch.equal(plain.holdings[::2], masked.holdings[::2])


@pytest.mark.parametrize("volume", [0.0, -1e6, math.nan, 1e-9, 1e3, 1e12])
@pytest.mark.parametrize("vol", [0.0, 0.02, 5.0])
@pytest.mark.parametrize("b", [0.1, 10.0])
def test_no_volume_makes_a_number_that_cannot_be(volume, vol, b):
    before = 1e9 * random_weights(200, 4, seed=26)
    targets = random_weights(200, 4, seed=27)
    adv = torch.tensor([volume, 1e9, 1e9], dtype=F64)
    frictions = Frictions(impact_adv=b)
    trade = rebalance(before, targets, frictions, vol_daily=torch.full((3,), vol, dtype=F64), adv=adv)
    assert trade.holdings.isfinite().all() and trade.holdings.min() >= 0
    assert (trade.costs.sum(-1) <= 0.25 * trade.traded.sum(-1)).all()
    assert trade.traded[:, 0].max() <= (volume if volume > 0 else 0.0) + 1e-6


def test_the_cost_of_the_largest_trade_is_a_tenth_or_its_volume_is_traded_up():
    """The square-root law once more: b·σ·√(x/ADV) = 0.1 at x = ADV·(0.1/(b·σ))²; with b·σ = 0.2 a quarter of ADV."""
    frictions = Frictions(impact_adv=10.0)
    largest = largest_trade(frictions, torch.tensor([0.02, 0.001]), torch.tensor([4e6, 4e6]))
    assert largest.tolist() == pytest.approx([1e6, 4e6])
    assert 10 * 0.02 * math.sqrt(1e6 / 4e6) == pytest.approx(0.1)


def test_what_is_held_of_a_delisted_asset_becomes_cash_and_is_no_trade():
    before = torch.tensor([[40.0, 35.0, 25.0], [0.0, 35.0, 25.0]], dtype=F64)
    after = settle(before, torch.tensor([True, False]))
    assert after.tolist() == [[0.0, 35.0, 65.0], [0.0, 35.0, 25.0]]


@pytest.mark.parametrize(("dtype", "miss"), [(F64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("assets", [1, 3, 20, 300])
def test_targets_hold_after_costs_and_cash_is_never_negative(dtype, miss, assets):
    before = 1e6 * random_weights(2000, assets + 1, dtype=dtype, seed=1)
    before[::3] = 0
    before[::3, -1] = 1e6
    targets = random_weights(2000, assets + 1, dtype=dtype, seed=2)
    for frictions in (Frictions.zero(), Frictions.specification(), Frictions(0.002, 0.005, 0.03, 0.001)):
        trade = rebalance(before, targets, frictions)
        held = trade.holdings / trade.holdings.sum(-1, keepdim=True)
        assert (held - targets).abs().max() < miss * (1 + assets / 30)
        assert trade.holdings.min() >= 0
        assert trade.costs.min() >= 0


def test_cash_is_never_negative_even_where_one_evaluation_is_all_that_is_allowed():
    before = torch.zeros(1000, 6)
    before[:, -1] = 1.0
    targets = random_weights(1000, 6, dtype=torch.float32)
    for iterations in (1, 2, 3):
        assert rebalance(before, targets, Frictions(), iterations=iterations).holdings.min() >= 0


def test_three_evaluations_are_as_good_as_five_in_single_precision():
    before, targets = (1e6 * random_weights(5000, 21, dtype=torch.float32, seed=s) for s in (1, 2))
    three, five = (rebalance(before, targets / 1e6, Frictions(), iterations=k).holdings for k in (3, 5))
    assert (three - five).abs().max() < 2.0  # 2e-6 of V


def test_holding_changes_nothing_at_all():
    before = 1e6 * random_weights(500, 8, dtype=torch.float32, seed=3)
    targets = random_weights(500, 8, dtype=torch.float32, seed=4)
    hold = torch.arange(500) % 2 == 0
    trade = rebalance(before, targets, Frictions(), hold=hold)
    assert torch.equal(trade.holdings[hold], before[hold])
    assert trade.costs[hold].eq(0).all()
    assert trade.traded[hold].eq(0).all()
    assert trade.turnover[hold].eq(0).all()
    assert trade.costs[~hold].sum(-1).gt(0).all()
    assert torch.equal(trade.holdings[~hold], rebalance(before[~hold], targets[~hold], Frictions()).holdings)


def test_without_costs_and_trades_it_is_buy_and_hold():
    generator = torch.Generator().manual_seed(5)
    returns = 0.02 * torch.randn(50, 4, dtype=F64, generator=generator)
    cash = torch.full((50,), 1e-4, dtype=F64)
    held = start = torch.tensor([10.0, 20.0, 30.0, 5.0, 35.0], dtype=F64)
    for t in range(50):
        held = rebalance(held, torch.zeros(5, dtype=F64), Frictions.zero(), hold=torch.tensor(True)).holdings
        held = grow(held, returns[t], cash[t])
    wealth = [start[i].item() * math.prod(1 + r for r in returns[:, i].tolist()) for i in range(4)]
    assert held.tolist() == pytest.approx([*wealth, 35 * 1.0001**50], rel=1e-13)


def test_turnover_counts_buys_and_sells_of_risky_assets_from_drifted_holdings():
    drifted = torch.tensor([60.0, 20.0, 20.0], dtype=F64)
    targets = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    assert rebalance(drifted, targets, Frictions.zero()).turnover.item() == pytest.approx(0.2)
    to_cash = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
    assert rebalance(drifted, to_cash, Frictions.zero()).turnover.item() == pytest.approx(0.8)


def test_the_order_of_assets_does_not_matter():
    before, targets = 1e6 * random_weights(200, 7, seed=6), random_weights(200, 7, seed=7)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with_cash = torch.cat([order, torch.tensor([6])])
    plain = rebalance(before, targets, Frictions(impact=0.02))
    shuffled = rebalance(before[:, with_cash], targets[:, with_cash], Frictions(impact=0.02))
    torch.testing.assert_close(shuffled.holdings, plain.holdings[:, with_cash], rtol=1e-12, atol=1e-6)
    torch.testing.assert_close(shuffled.traded, plain.traded[:, order], rtol=1e-12, atol=1e-6)
    torch.testing.assert_close(shuffled.costs, plain.costs, rtol=1e-12, atol=1e-7)


def test_a_larger_trade_costs_more():
    share = torch.linspace(0, 1, 101, dtype=F64)
    targets = torch.stack([share / 2, share / 2, 1 - share], dim=-1)
    before = torch.tensor([0.0, 0.0, 1e6], dtype=F64).expand(101, 3)
    costs = rebalance(before, targets, Frictions(commission=0.001)).costs
    assert costs[1:].gt(costs[:-1]).all()
    assert costs[0].eq(0).all()


@FEW
@given(st.floats(1e-3, 1e12), st.integers(0, 50))
def test_without_traded_volumes_the_size_of_the_portfolio_does_not_matter(size, seed):
    before, targets = random_weights(4, 6, seed=seed), random_weights(4, 6, seed=seed + 100)
    small, large = rebalance(before, targets, Frictions()), rebalance(size * before, targets, Frictions())
    torch.testing.assert_close(large.holdings / size, small.holdings, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(large.costs / size, small.costs, rtol=1e-11, atol=1e-14)


def test_with_traded_volumes_a_larger_portfolio_pays_a_larger_share():
    before, targets = random_weights(1, 6, seed=8), random_weights(1, 6, seed=9)
    law = {"vol_daily": torch.full((5,), 0.01, dtype=F64), "adv": torch.full((5,), 1e8, dtype=F64)}
    frictions = Frictions(0.0, 0.0, 0.0, 0.0, 1.0)
    shares = [rebalance(v * before, targets, frictions, **law).costs.sum() / v for v in (1e6, 4e6)]
    assert (shares[1] / shares[0]).item() == pytest.approx(2, rel=5e-3)  # √4, but for the fixed point


def test_slippage_without_a_draw_is_its_mean():
    before, targets = 1e6 * random_weights(10, 4, seed=10), random_weights(10, 4, seed=11)
    mean = torch.full((10, 3), 0.0004, dtype=F64)
    expected = rebalance(before, targets, Frictions(slippage_max=0.0008))
    torch.testing.assert_close(
        expected.holdings, rebalance(before, targets, Frictions(slippage_max=0.0008), slippage=mean).holdings
    )


def test_leading_dimensions_broadcast_and_rows_do_not_touch_one_another():
    before = 1e6 * random_weights(3, 5, 4, seed=12)
    targets = random_weights(3, 1, 4, seed=13)
    together = rebalance(before, targets, Frictions())
    for w in range(3):
        for p in range(5):
            alone = rebalance(before[w, p], targets[w, 0], Frictions())
            torch.testing.assert_close(together.holdings[w, p], alone.holdings, rtol=1e-13, atol=1e-7)
    grown = grow(together.holdings, torch.full((3, 1, 3), 0.5, dtype=F64), torch.full((3, 1), 0.1, dtype=F64))
    torch.testing.assert_close(grown[..., :-1], together.holdings[..., :-1] * 1.5)
    torch.testing.assert_close(grown[..., -1], together.holdings[..., -1] * 1.1)


def test_the_estimate_of_a_move_is_the_cost_up_to_its_square():
    before = 1e6 * random_weights(50, 6, seed=14)
    targets = random_weights(50, 12, 6, seed=15)
    law = {"vol_daily": torch.full((50, 5), 0.01, dtype=F64), "adv": torch.full((50, 5), 1e8, dtype=F64)}
    frictions = Frictions(impact_adv=0.5)
    estimate = move_cost(before, targets, frictions, **law)
    for r in range(12):
        exact = rebalance(before, targets[:, r], frictions, **law).costs.sum(-1) / 1e6
        assert (estimate[:, r] - exact).abs().max() < 2 * exact.max() ** 2
    assert estimate.shape == (50, 12)


def test_the_estimate_of_a_move_charges_the_trades_before_costs():
    before = 3e6 * random_weights(20, 6, seed=18)
    targets = random_weights(20, 4, 6, seed=19)
    law = {"vol_daily": torch.full((20, 5), 0.02, dtype=F64), "adv": 1e6 + 1e7 * random_weights(20, 5, seed=20)}
    frictions = Frictions(commission=0.001, impact_adv=0.5)
    value = before.sum(-1)
    estimate = move_cost(before, targets, frictions, **law)
    for r in range(4):
        traded = (value[:, None] * targets[:, r] - before)[:, :-1].abs()
        traded = traded.minimum(largest_trade(frictions, **law))
        exact = component_costs(traded, frictions, cost_rates(value, frictions, **law)).sum(-1) / value
        torch.testing.assert_close(estimate[:, r], exact, rtol=1e-6, atol=0)  # the floor of ADV is in units of V here


def test_the_estimate_of_holding_is_zero_and_windows_share_their_targets():
    before = 1e6 * random_weights(3, 5, 4, seed=16)
    targets = random_weights(3, 1, 2, 4, seed=17)
    hold = torch.tensor([True, False])
    estimate = move_cost(before, targets, Frictions(), hold=hold)
    assert estimate.shape == (3, 5, 2)
    assert estimate[..., 0].eq(0).all()
    torch.testing.assert_close(estimate[1, 2], move_cost(before[1, 2], targets[1, 0], Frictions(), hold=hold))
