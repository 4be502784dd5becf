"""Our trades replayed by cvxportfolio's simulator: same wealth, same costs by component.

cvxportfolio knows one impact law, b·σ·x·√(x/volume). The law on portfolio value is that with volume V; since the
simulator has only one volume, its σ is scaled by √(volume/V) instead.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from tactician.portfolio.frictions import COMPONENTS, Frictions
from tactician.portfolio.ledger import grow, rebalance

DAYS, ASSETS, START = 261, 4, 5e6
FRICTIONS = Frictions(spread=0.0003, slippage_max=0.0005, impact=0.01, commission=0.0001, impact_adv=0.4)


def random_market():
    rng = np.random.default_rng(11)
    return {
        "returns": rng.normal(3e-4, 0.015, (DAYS, ASSETS)),
        "cash": rng.uniform(0, 2e-4, DAYS),
        "adv": rng.lognormal(np.log(5e7), 0.5, (DAYS, ASSETS)),
        "vol": rng.uniform(0.008, 0.03, (DAYS, ASSETS)),
        "slippage": rng.uniform(0, FRICTIONS.slippage_max, (DAYS, ASSETS)),
        "targets": rng.dirichlet(np.full(ASSETS + 1, 0.5), DAYS),
        "hold": rng.random(DAYS) < 0.3,
    }


def our_history(market):
    at = {name: torch.from_numpy(rows) for name, rows in market.items()}
    holdings = torch.zeros(ASSETS + 1, dtype=torch.float64)
    holdings[-1] = START
    values, trades, costs = [], [], []
    for t in range(DAYS - 1):
        trade = rebalance(
            holdings,
            at["targets"][t],
            FRICTIONS,
            hold=at["hold"][t],
            slippage=at["slippage"][t],
            vol_daily=at["vol"][t],
            adv=at["adv"][t],
        )
        values.append(holdings.sum().item())
        trades.append((trade.holdings - holdings)[:-1].numpy())
        costs.append(trade.costs.numpy())
        holdings = grow(trade.holdings, at["returns"][t], at["cash"][t])
    return np.array([*values, holdings.sum().item()]), np.array(trades), np.array(costs)


@pytest.mark.filterwarnings("ignore")
def test_wealth_and_every_cost_agree_over_260_random_days():
    cvx = pytest.importorskip("cvxportfolio", reason="cvxportfolio is the extra 'oracle'")
    market = random_market()
    values, trades, costs = our_history(market)

    days, names = pd.bdate_range("2020-01-01", periods=DAYS), [f"S{i}" for i in range(ASSETS)]

    def frame(rows):
        return pd.DataFrame(rows, days[: len(rows)], names)

    returns = frame(market["returns"]).assign(cash=market["cash"])
    value_size = np.sqrt((market["adv"] + 1e-8) / values[:, None])
    parts = {
        "spread": {"a": FRICTIONS.spread},
        "slippage": {"a": frame(market["slippage"])},
        "impact_v": {"b": FRICTIONS.impact, "sigma": frame(value_size)},
        "impact_adv": {"b": FRICTIONS.impact_adv, "sigma": frame(market["vol"])},
        "commission": {"a": FRICTIONS.commission},
    }
    # The simulator files costs by class name.
    parts = [type(name, (cvx.TransactionCost,), {})(**arguments) for name, arguments in parts.items()]
    data = cvx.UserProvidedMarketData(
        returns=returns, volumes=frame(market["adv"]), cash_key="cash", min_history=pd.Timedelta("0d")
    )
    wanted = frame(trades / values[:-1, None])
    wanted["cash"] = -wanted.sum(axis=1)
    simulator = cvx.MarketSimulator(market_data=data, costs=parts)
    result = simulator.backtest(cvx.FixedTrades(wanted), start_time=days[0], end_time=days[-1], initial_value=START)

    np.testing.assert_allclose(values, result.v.to_numpy(), rtol=1e-12)
    theirs = {name: series.to_numpy()[: DAYS - 1] for name, series in result.costs.items()}
    theirs["impact"] = theirs.pop("impact_v") + theirs.pop("impact_adv")
    for column, name in enumerate(COMPONENTS):
        assert costs[:, column].sum() > 0
        np.testing.assert_allclose(costs[:, column], theirs[name], rtol=1e-9, atol=1e-12 * START, err_msg=name)
