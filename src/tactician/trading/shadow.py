"""The shadow of an account: its own decisions in the backtest, through the ledger. What differs is execution alone."""

from collections.abc import Sequence
from datetime import date

import torch

from tactician.environment import HOLD, MarketTensors
from tactician.evaluation import action_targets, backtest
from tactician.portfolio.frictions import Frictions
from tactician.trading.account_page import ShadowPath
from tactician.trading.cycle import lived_with
from tactician.trading.journal import Run

_EPOCH = date(1970, 1, 1)


def shadow_of(
    runs: Sequence[Run], market: MarketTensors, until: date, frictions: Frictions, portfolio_value: float
) -> ShadowPath | None:
    """Wealth of the account's decisions in the backtest.

    Args:
        runs: of the account. A session without one is held.
        market: that holds the sessions.
        until: the last session whose close is known.
        frictions: costs of the ledger.
        portfolio_value: currency value of 1.0 in the backtest's wealth.

    Returns:
        Wealth before each session's trades; None without a run, or if the market lacks the first session.
    """
    lived = lived_with(sorted(runs, key=lambda run: run.session), market.symbols, market.regimes.names)
    by_day = {(one.session - _EPOCH).days: one.action for one in lived}
    days = market.dates.tolist()
    if not lived or min(by_day) not in days or days.index(min(by_day)) == 0:
        return None
    first = days.index(min(by_day))
    rows = range(first, int((market.dates <= (until - _EPOCH).days).sum()) - 1)
    if not rows:  # the first session has no later close yet
        return ShadowPath([str(lived[0].session)], [1.0])
    dates = [str(market.date_of(row)) for row in (*rows, rows.stop)]
    actions = torch.tensor([by_day.get(days[row], HOLD) for row in rows])
    targets, hold = action_targets(market, rows, actions)
    held = torch.tensor([lived[0].seat.holdings], dtype=torch.float64)
    path = backtest(market, rows, targets, hold, frictions, portfolio_value, start=held / held.sum())
    growth = torch.cat([torch.zeros(1, dtype=torch.float64), path.growth[:, 0].cumsum(0)])
    return ShadowPath(dates, growth.exp().tolist())
