"""Backtest: any path of target weights, through the same ledger as in training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment import HOLD, MarketTensors
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import Trade, grow, rebalance, settle


@dataclass(frozen=True)
class Path:
    """Growth, costs and turnover of B strategies over T sessions, float64."""

    growth: Float[Tensor, "step strategy"]
    """Log growth of wealth per session, net of cost."""
    costs: Float[Tensor, "step strategy component"]
    """Spread, slippage, impact, commission, as fractions of the value before the trade."""
    turnover: Float[Tensor, "step strategy"]
    cash_growth: Float[Tensor, " step"]
    """Log growth of cash, the reference of the Sharpe ratio."""
    sessions_per_year: int = 252
    """Figures are annualised by it."""
    strategies: tuple[str, ...] = ()
    """Names of the columns; empty if strategies are known by number only."""
    weights: Float[Tensor, "step strategy asset+1"] | None = None
    """What each strategy holds after each session's trade, cash last."""

    def column(self, strategy: int | str) -> int:
        """The number of a strategy.

        Raises:
            ValueError: no strategy has the name.
        """
        return strategy if isinstance(strategy, int) else self.strategies.index(strategy)

    def only(self, strategies: Sequence[str]) -> "Path":
        """The path of some strategies alone, in this order."""
        kept = [self.column(name) for name in strategies]
        return replace(
            self,
            growth=self.growth[:, kept],
            costs=self.costs[:, kept],
            turnover=self.turnover[:, kept],
            strategies=tuple(strategies),
            weights=None if self.weights is None else self.weights[:, kept],
        )

    def sessions(self, some: range) -> "Path":
        """The same strategies over consecutive sessions, counted from 0."""
        rows = slice(some.start, some.stop)
        return replace(
            self,
            growth=self.growth[rows],
            costs=self.costs[rows],
            turnover=self.turnover[rows],
            cash_growth=self.cash_growth[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    def named(self, strategies: Sequence[str]) -> "Path":
        """The same path with other names."""
        return replace(self, strategies=tuple(strategies))

    @property
    def is_finite(self) -> bool:
        """Whether every growth is finite. If not, no result may be reported."""
        return bool(self.growth.isfinite().all() & self.cash_growth.isfinite().all())


def backtest(
    market: MarketTensors,
    rows: range,
    targets: Float[Tensor, "step strategy asset+1"],
    hold: Bool[Tensor, "step strategy"],
    frictions: Frictions,
    portfolio_value: float = 1.0,
    strategies: tuple[str, ...] = (),
    *,
    start: Float[Tensor, "strategy asset+1"] | None = None,
    liquidate: bool = False,
) -> Path:
    """Run B strategies over T rows with expected slippage, in float64.

    Args:
        market: gives returns, tradability and volumes.
        rows: the T decision rows.
        targets: weights to trade to at each row's close, cash last; ignored where ``hold``.
        hold: do not trade.
        frictions: coefficients of the trading costs.
        portfolio_value: currency value of the initial wealth, which is 1.
        strategies: their names, kept with the path.
        start: weights that each holds at the close before the first row; default: cash. They cost nothing.
        liquidate: sell everything after the last row, at the same costs. Otherwise a strategy that holds shares at the end
            would have paid for half of its trade only. The last session's growth, costs and turnover include it.
    """
    holdings = _before_first_row(market, rows, targets, start)
    growth, costs, turnover, weights = [], [], [], []

    adv = frictions.impact_adv > 0

    def trade(t: int, goal: Tensor, hold: Tensor | None = None, fillable: Tensor | None = None) -> Trade:
        return rebalance(
            holdings,
            goal,
            frictions,
            hold=hold,
            fillable=fillable,
            vol_daily=market.vol_daily[t].double() if adv else None,
            adv=market.dollar_volume[t].double() / portfolio_value if adv else None,
        )

    for k, t in enumerate(rows):
        # The holdings are valued at close t already: the previous pass has applied the returns up to it.
        holdings = settle(holdings, market.delisted[t])
        # As in the environment, the value is taken before the costs, so that growth is net of them.
        value = holdings.sum(-1)
        traded = trade(t, targets[k].double(), hold=hold[k], fillable=market.fillable[t])
        holdings = grow(traded.holdings, market.returns[t].double(), market.cash_return[t].double())
        growth.append(torch.log(holdings.sum(-1) / value))
        costs.append(traded.costs / value[:, None])
        turnover.append(traded.turnover)
        weights.append(traded.holdings / traded.holdings.sum(-1, keepdim=True))
    if liquidate:
        # The rows have no volume and no volatility of the close at which the last return ends. The last ones known count.
        sale = trade(rows[-1], in_cash(holdings))
        growth[-1] = growth[-1] + torch.log(sale.holdings.sum(-1) / holdings.sum(-1))
        costs[-1] = costs[-1] + sale.costs / value[:, None]
        turnover[-1] = turnover[-1] + sale.turnover
    cash = torch.log1p(market.cash_return[rows.start : rows.stop].double())
    lived = torch.stack(growth), torch.stack(costs), torch.stack(turnover)
    return Path(*lived, cash, market.sessions_per_year, strategies, torch.stack(weights))


def in_cash(holdings: Float[Tensor, "*batch asset+1"]) -> Float[Tensor, "*batch asset+1"]:
    """Weights of cash alone, of the same shape."""
    cash = torch.zeros_like(holdings)
    cash[..., -1] = 1
    return cash


def _before_first_row(
    market: MarketTensors, rows: range, targets: Tensor, start: Tensor | None
) -> Float[Tensor, "strategy asset+1"]:
    """Holdings of the strategies at the close of the first row, worth 1 each, before its trade."""
    if start is None:
        return in_cash(targets[0].double())
    t = rows.start - 1
    holdings = grow(start.double(), market.returns[t].double(), market.cash_return[t].double())
    return holdings / holdings.sum(-1, keepdim=True)


def action_targets(
    market: MarketTensors, rows: range, actions: Int64[Tensor, " step"]
) -> tuple[Float[Tensor, "step 1 asset+1"], Bool[Tensor, "step 1"]]:
    """The path of target weights, float64, for a path of regimes.

    The environment's own targets are float32. Their rounding would add noise to the comparison with the baselines.
    """
    ranks = market.factor_ranks[rows.start : rows.stop].double()
    tradable = market.tradable[rows.start : rows.stop]
    targets = torch.zeros(len(rows), tradable.shape[1] + 1, dtype=torch.float64, device=market.device)
    for action in actions.unique().tolist():
        chosen = actions == action
        targets[chosen] = market.regimes.target(action, ranks[chosen], tradable[chosen])
    return targets[:, None], (actions == HOLD)[:, None]
