"""Judging: any path of target weights through the ledger that the agent trains with, and what it earned."""

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment import HOLD, MarketTensors
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import grow, rebalance, settle
from tactician.portfolio.regimes import FactorTilt

_YEAR = 252


@dataclass(frozen=True)
class Path:
    """What B strategies lived through in T sessions, float64."""

    growth: Float[Tensor, "step strategy"]
    """Log growth of wealth per session, net of cost."""
    costs: Float[Tensor, "step strategy component"]
    """Spread, slippage, impact, commission, as fractions of the value before the trade."""
    turnover: Float[Tensor, "step strategy"]
    cash_growth: Float[Tensor, " step"]
    """Log growth of cash, the reference of the Sharpe ratio."""


@dataclass(frozen=True)
class Performance:
    """Figures of one strategy over one range; fractions, not percent; annual means 252 sessions."""

    sessions: int
    total_return: float
    annual_return: float
    annual_volatility: float
    sharpe: float
    """Mean over standard deviation of simple returns in excess of cash, times √252."""
    sharpe_standard_error: float
    """√((1 + S²/504) / years): Lo (2002), "The statistics of Sharpe ratios", for independent normal returns."""
    max_drawdown: float
    annual_turnover: float
    annual_cost: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def backtest(
    market: MarketTensors,
    rows: range,
    targets: Float[Tensor, "step strategy asset+1"],
    hold: Bool[Tensor, "step strategy"],
    frictions: Frictions,
    portfolio_value: float = 1.0,
) -> Path:
    """Run B strategies over T rows, from cash, with expected slippage, in float64.

    Args:
        market: T rows of it are used.
        rows: decision rows, T of them.
        targets: weights to trade to at each row's close, cash last; ignored where ``hold``.
        hold: do not trade.
        frictions: the costs.
        portfolio_value: currency value of the wealth of 1 with which each strategy starts.
    """
    strategies = targets.shape[1]
    holdings = torch.zeros(strategies, targets.shape[2], dtype=torch.float64, device=market.device)
    holdings[:, -1] = 1
    growth, costs, turnover = [], [], []
    adv = frictions.impact_adv > 0
    for k, t in enumerate(rows):
        holdings = settle(holdings, market.delisted[t])
        value = holdings.sum(-1)
        trade = rebalance(
            holdings,
            targets[k].double(),
            frictions,
            hold=hold[k],
            fillable=market.fillable[t],
            vol_daily=market.vol_daily[t].double() if adv else None,
            adv=market.dollar_volume[t].double() / portfolio_value if adv else None,
        )
        holdings = grow(trade.holdings, market.returns[t].double(), market.cash_return[t].double())
        growth.append(torch.log(holdings.sum(-1) / value))
        costs.append(trade.costs / value[:, None])
        turnover.append(trade.turnover)
    cash = torch.log1p(market.cash_return[rows.start : rows.stop].double())
    return Path(torch.stack(growth), torch.stack(costs), torch.stack(turnover), cash)


def baseline_targets(
    market: MarketTensors, rows: range
) -> tuple[tuple[str, ...], Float[Tensor, "step strategy asset+1"], Bool[Tensor, "step strategy"]]:
    """Equal weight (rebalanced every session), cash, and buy-and-hold (equal weight bought once).

    Returns:
        Their names, target weights and hold flags, for `backtest`.
    """
    days = slice(rows.start, rows.stop)
    # By the same rule and in the same precision as EQUAL_WEIGHT of `action_targets`: the same path to the last bit.
    risky = FactorTilt().weights(market.factor_ranks[days].double(), market.tradable[days])
    equal = torch.cat([risky, (risky.sum(-1, keepdim=True) == 0).double()], -1)
    cash = torch.zeros_like(equal)
    cash[:, -1] = 1
    hold = torch.zeros(len(rows), 3, dtype=torch.bool, device=market.device)
    hold[1:, 2] = True
    return ("equal_weight", "cash", "buy_and_hold"), torch.stack([equal, cash, equal], dim=1), hold


def action_targets(
    market: MarketTensors, rows: range, actions: Int64[Tensor, " step"]
) -> tuple[Float[Tensor, "step 1 asset+1"], Bool[Tensor, "step 1"]]:
    """The path of weights, float64, that a path of regimes stands for.

    The environment's own targets are float32; a judgement must not tell rounding from skill.
    """
    ranks = market.factor_ranks[rows.start : rows.stop].double()
    tradable = market.tradable[rows.start : rows.stop]
    targets = torch.zeros(len(rows), tradable.shape[1] + 1, dtype=torch.float64, device=market.device)
    for action in actions.unique().tolist():
        chosen = actions == action
        targets[chosen] = market.regimes.target(action, ranks[chosen], tradable[chosen])
    return targets[:, None], (actions == HOLD)[:, None]


def performance(path: Path, strategy: int) -> Performance:
    """Summarise one strategy of a path."""
    growth = path.growth[:, strategy]
    years = len(growth) / _YEAR
    excess = torch.expm1(growth) - torch.expm1(path.cash_growth)
    deviation = float(excess.std())
    sharpe = float(excess.mean()) / deviation * math.sqrt(_YEAR) if deviation > 1e-12 else 0.0
    wealth = torch.cat([torch.zeros_like(growth[:1]), growth.cumsum(0)])
    drawdown = float(-torch.expm1((wealth - wealth.cummax(0).values).min()))
    return Performance(
        sessions=len(growth),
        total_return=math.expm1(float(growth.sum())),
        annual_return=math.expm1(float(growth.sum()) / years),
        annual_volatility=float(torch.expm1(growth).std()) * math.sqrt(_YEAR),
        sharpe=sharpe,
        sharpe_standard_error=math.sqrt((1 + sharpe**2 / (2 * _YEAR)) / years),
        max_drawdown=max(0.0, drawdown),
        annual_turnover=float(path.turnover[:, strategy].sum()) / years,
        annual_cost=float(path.costs[:, strategy].sum()) / years,
    )


def difference(path: Path, strategy: int, other: int) -> tuple[float, float]:
    """Annual log growth of one strategy beyond another's, and its standard error.

    The error is that of a mean of independent daily differences, times 252; daily differences of two portfolios of the
    same assets are close to independent. Anything within two standard errors is not distinguishable from no difference.
    """
    daily = path.growth[:, strategy] - path.growth[:, other]
    return float(daily.mean()) * _YEAR, float(daily.std()) / math.sqrt(len(daily)) * _YEAR
