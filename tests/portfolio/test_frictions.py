"""Trading costs: hand-worked figures, switches, and the seed's formulas share by share."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.errors import UserError
from tactician.portfolio.frictions import COMPONENTS, Frictions, component_costs, cost_rates
from tests.portfolio.scalar_ledger import Coefficients, trade_costs

F64 = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def trading_costs(traded, value, frictions, **more):
    return component_costs(traded, frictions, cost_rates(value, frictions, **more))


def costs_of(traded, value, frictions, **more):
    return dict(zip(COMPONENTS, trading_costs(traded, value, frictions, **more).tolist(), strict=True))


def test_each_component_by_hand():
    # x = 250,000 and 40,000 of V = 1,000,000: √(x/V) = 0.5 and 0.2; √(x/ADV) = 0.1 and 0.02.
    costs = costs_of(
        tensor(250_000, 40_000),
        torch.tensor(1e6, dtype=F64),
        Frictions(spread=0.0002, slippage_max=0.0005, impact=0.01, commission=0.001, impact_adv=0.5),
        slippage=tensor(0.0004, 0.0001),
        vol_daily=tensor(0.02, 0.01),
        adv=tensor(25e6, 100e6),
    )
    assert costs["spread"] == pytest.approx(58)
    assert costs["slippage"] == pytest.approx(100 + 4)
    by_size = 0.01 * 0.5 * 250_000 + 0.01 * 0.2 * 40_000
    by_volume = 0.5 * 0.02 * 0.1 * 250_000 + 0.5 * 0.01 * 0.02 * 40_000
    assert costs["impact"] == pytest.approx(by_size + by_volume)
    assert costs["commission"] == pytest.approx(290)


def test_the_specification_formulas_share_by_share():
    # §13 counts shares and prices; 1,200 shares at 50 with a drawn slippage of 0.03 %, in a portfolio of 400,000.
    shares, close, drawn, value = 1200, 50.0, 0.0003, 400_000.0
    trade_value = shares * close
    slippage_buy = shares * (close * (1 + drawn)) - trade_value
    slippage_sell = trade_value - shares * (close * (1 - drawn))
    impact_cost = 0.01 * math.sqrt(trade_value / value) * trade_value
    costs = costs_of(
        tensor(trade_value), torch.tensor(value, dtype=F64), Frictions.specification(), slippage=tensor(drawn)
    )
    assert costs["slippage"] == pytest.approx(slippage_buy)
    assert costs["slippage"] == pytest.approx(slippage_sell)
    assert costs["spread"] == pytest.approx(0.0002 * abs(shares) * close)
    assert costs["impact"] == pytest.approx(impact_cost)
    assert costs["commission"] == 0


@pytest.mark.parametrize(
    ("off", "component"),
    [("spread", "spread"), ("slippage_max", "slippage"), ("impact", "impact"), ("commission", "commission")],
)
def test_each_friction_switches_off_alone(off, component):
    on = {"spread": 0.001, "slippage_max": 0.001, "impact": 0.01, "commission": 0.001}
    value = torch.tensor(1e6, dtype=F64)
    every = costs_of(tensor(1e5, 2e5), value, Frictions(**on))
    without = costs_of(tensor(1e5, 2e5), value, Frictions(**{**on, off: 0.0}))
    assert without[component] == 0
    assert {k: v for k, v in without.items() if k != component} == pytest.approx(
        {k: v for k, v in every.items() if k != component}
    )
    assert min(every.values()) > 0


def test_free_trading_is_free():
    assert set(costs_of(tensor(1e5, 9e5), torch.tensor(1e6, dtype=F64), Frictions.zero()).values()) == {0.0}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.floats(1e4, 1e8), st.floats(0, 0.05))
def test_the_total_is_the_sum_of_the_components_and_of_the_scalar_reference(traded, value, impact):
    n = len(traded)
    frictions = Frictions(impact=impact, commission=0.002, impact_adv=0.7, impact_linear=0.02)
    vol, adv, slippage = (
        [0.01 * (i + 1) for i in range(n)],
        [1e7 * (i + 1) for i in range(n)],
        [1e-4 * i for i in range(n)],
    )
    more = {"slippage": tensor(*slippage), "vol_daily": tensor(*vol), "adv": tensor(*adv)}
    v = torch.tensor(value, dtype=F64)
    components = trading_costs(tensor(*traded), v, frictions, **more)
    total = cost_rates(v, frictions, **more).total(tensor(*traded))
    reference = trade_costs(
        traded,
        value,
        Coefficients(0.0002, tuple(slippage), impact, 0.002, 0.7, 0.02, tuple(vol), tuple(adv)),
    )
    assert components.tolist() == pytest.approx(reference, rel=1e-12)
    assert total.item() == pytest.approx(math.fsum(reference), rel=1e-12)


def test_a_ruined_portfolio_pays_nothing_rather_than_nan():
    assert trading_costs(torch.zeros(3), torch.tensor(0.0), Frictions()).eq(0).all()


def test_a_session_without_volume_is_dear_but_finite():
    frictions = Frictions(0.0, 0.0, 0.0, 0.0, 1.0)
    cost = trading_costs(tensor(1.0), torch.tensor(1e6, dtype=F64), frictions, vol_daily=tensor(0.01), adv=tensor(0.0))
    assert cost[2].item() == pytest.approx(0.01 * 1e4)


def test_impact_on_volume_asks_for_volatility_and_volume():
    with pytest.raises(ValueError, match="impact_adv needs vol_daily and adv"):
        trading_costs(tensor(1.0), torch.tensor(1.0, dtype=F64), Frictions(impact_adv=0.1))


@pytest.mark.parametrize("wrong", [-0.001, float("nan"), float("inf")])
def test_a_negative_or_infinite_coefficient_is_named(wrong):
    with pytest.raises(UserError, match=r"^slippage_max cannot be .*; give a number that is zero or positive\.$"):
        Frictions(slippage_max=wrong)
