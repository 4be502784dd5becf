"""The cost report of a configuration: its regimes on one session of its market."""

from datetime import date

from tactician.config import Config
from tactician.environment import MarketTensors
from tactician.errors import UserError
from tactician.portfolio.costs import CostReport, cost_report
from tactician.training.setup import frictions


def session_costs(config: Config, market: MarketTensors, on: str | None) -> CostReport:
    """What every regime and every switch costs on one session.

    Args:
        config: frictions and portfolio value.
        market: whose regimes.
        on: ISO date; None for the last decision session.

    Raises:
        UserError: the market has no such session.
    """
    row = _row_of(market, on)
    if config.impact_adv > 0:
        market.require_traded_values()
    return cost_report(
        market.regimes,
        market.factor_ranks[row],
        market.tradable[row],
        frictions(config),
        session=str(market.date_of(row)),
        portfolio_value=config.portfolio_value,
        vol_daily=market.vol_daily[row],
        adv=market.dollar_volume[row],
    )


def _row_of(market: MarketTensors, on: str | None) -> int:
    if on is None:
        return market.n_days - 1
    try:
        wanted = date.fromisoformat(on)
    except ValueError as error:
        raise UserError(f"--on {on} is no date; write it as 2020-03-16.") from error
    first, last = market.date_of(0), market.date_of(market.n_days - 1)
    found = (market.dates == (wanted - date(1970, 1, 1)).days).nonzero()
    if len(found) == 0:
        raise UserError(f"--on {on} is no session of the market cache, which runs from {first} to {last}.")
    return int(found[0])
