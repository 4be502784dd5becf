"""The ledger once more, in plain Python floats, one asset at a time: the reference for the batched one.

Written from docs/accounting.md, not from the package: it solves for the value after costs by bisection, where the
package iterates, and adds costs trade by trade.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    spread: float = 0.0
    slippage: tuple[float, ...] = ()  # fraction by asset
    impact: float = 0.0
    commission: float = 0.0
    impact_adv: float = 0.0
    impact_linear: float = 0.0
    vol: tuple[float, ...] = ()
    adv: tuple[float, ...] = ()


def trade_costs(amounts, value, c):
    """(spread, slippage, impact, commission) of the signed trades ``amounts``."""
    parts = [[], [], [], []]
    for i, amount in enumerate(amounts):
        x = math.fabs(amount)
        parts[0].append(c.spread * x)
        parts[1].append(c.slippage[i] * x)
        by_size = c.impact * math.sqrt(x / value) * x
        by_volume = c.impact_adv * c.vol[i] * x * math.sqrt(x / (c.adv[i] + 1e-8)) if c.impact_adv else 0.0
        parts[2].append(by_size + by_volume + c.impact_linear * x * x / value)
        parts[3].append(c.commission * x)
    return [math.fsum(p) for p in parts]


def trade(holdings, targets, c):
    """Holdings after trading to ``targets`` (cash last in both), costs by component, turnover."""
    value = math.fsum(holdings)
    n = len(holdings) - 1

    def amounts(after):
        return [after * targets[i] - holdings[i] for i in range(n)]

    low, high = 0.0, value
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if middle + math.fsum(trade_costs(amounts(middle), value, c)) > value:
            high = middle
        else:
            low = middle
    u = amounts(low)
    costs = trade_costs(u, value, c)
    cash = holdings[n] - math.fsum(u) - math.fsum(costs)
    return [holdings[i] + u[i] for i in range(n)] + [cash], costs, math.fsum(map(abs, u)) / value


def grow(holdings, returns, cash_return):
    return [h * (1 + r) for h, r in zip(holdings, [*returns, cash_return], strict=True)]
