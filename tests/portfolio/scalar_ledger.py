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
        by_volume = c.impact_adv * c.vol[i] * x * math.sqrt(x / (c.adv[i] + 1e-8)) if c.impact_adv and x > 0 else 0.0
        parts[2].append(by_size + by_volume + c.impact_linear * x * x / value)
        parts[3].append(c.commission * x)
    return [math.fsum(p) for p in parts]


def limits(n, c, fillable=None):
    """The largest trade of each asset: nothing without a fill, else what its volume allows."""
    result = []
    for i in range(n):
        largest = math.inf
        if c.impact_adv:
            volume = c.adv[i] if c.adv[i] > 0 else 0.0  # a missing volume (NaN) is not above zero either
            sigma = c.impact_adv * c.vol[i]
            largest = volume * ((0.1 / sigma) ** 2 if sigma > 0.1 else 1.0)
        result.append(largest if fillable is None or fillable[i] else 0.0)
    return result


def largest_that_fits(fits, high):
    low = 0.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return low
        if fits(middle):
            low = middle
        else:
            high = middle


def trade(holdings, targets, c, fillable=None):
    """Holdings after trading to ``targets`` (cash last in both), costs by component, turnover."""
    value = math.fsum(holdings)
    n = len(holdings) - 1
    most = limits(n, c, fillable)

    def amounts(after):
        return [max(-most[i], min(most[i], after * targets[i] - holdings[i])) for i in range(n)]

    def spent(trades):
        return math.fsum(trades) + math.fsum(trade_costs(trades, value, c))

    def shrunk(factor, trades):
        return [factor * x if x > 0 else x for x in trades]

    after = largest_that_fits(lambda v: v + math.fsum(trade_costs(amounts(v), value, c)) <= value, value)
    u = amounts(after)
    if spent(u) > holdings[n]:  # something that could not be sold leaves too little for the buys
        factor = largest_that_fits(lambda f: spent(shrunk(f, u)) <= holdings[n], 1.0)
        u = shrunk(factor, u)
    costs = trade_costs(u, value, c)
    cash = holdings[n] - math.fsum(u) - math.fsum(costs)
    return [holdings[i] + u[i] for i in range(n)] + [cash], costs, math.fsum(map(abs, u)) / value


def settle(holdings, delisted):
    """What is held of delisted assets, as cash."""
    kept = [0.0 if gone else h for h, gone in zip(holdings, delisted, strict=False)]
    return [*kept, holdings[-1] + math.fsum(h for h, gone in zip(holdings, delisted, strict=False) if gone)]


def grow(holdings, returns, cash_return):
    return [h * (1 + r) for h, r in zip(holdings, [*returns, cash_return], strict=True)]
