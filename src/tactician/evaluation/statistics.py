"""What a path of wealth comes to: figures of one strategy, and the difference between two with its standard error.

A figure that cannot be computed is NaN, "not available": never 0, which would be a result.
"""

import math
from dataclasses import asdict, dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.evaluation.backtest import Path

_NO_DEVIATION = 1e-12
"""A standard deviation of daily returns below this is rounding."""


@dataclass(frozen=True)
class Performance:
    """Figures of one strategy over one range; fractions, not percent; a year has ``Path.sessions_per_year`` sessions.

    NaN where a figure is not available: every one if a growth is not finite.
    """

    sessions: int
    total_return: float
    annual_return: float
    """Geometric: (final wealth)^(1/years) − 1."""
    annual_volatility: float
    sharpe: float
    """Mean over standard deviation of simple returns in excess of cash, times √(sessions per year). NaN if they do not vary."""
    sharpe_standard_error: float
    """√((1 + S²/2Y) / years) with Y sessions per year: Lo (2002), "The statistics of Sharpe ratios", for independent normal
    returns."""
    max_drawdown: float
    annual_turnover: float
    annual_cost: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def performance(path: Path, strategy: int) -> Performance:
    """Summarise one strategy of a path; every figure is NaN if a growth is not finite."""
    growth, per_year = path.growth[:, strategy], path.sessions_per_year
    n = len(growth)
    figures = dict.fromkeys((f.name for f in fields(Performance) if f.name != "sessions"), math.nan)
    if n and bool(growth.isfinite().all()):
        simple, years = torch.expm1(growth), n / per_year
        sharpe = _sharpe(simple - torch.expm1(path.cash_growth), per_year)
        wealth = torch.cat([torch.zeros_like(growth[:1]), growth.cumsum(0)])
        figures |= {
            "total_return": _expm1(float(growth.sum())),
            "annual_return": _expm1(float(growth.sum()) / years),
            "annual_volatility": _deviation(simple) * math.sqrt(per_year),
            "sharpe": sharpe,
            "sharpe_standard_error": math.sqrt((1 + sharpe**2 / (2 * per_year)) / years),
            "max_drawdown": max(0.0, float(-torch.expm1((wealth - wealth.cummax(0).values).min()))),
            "annual_turnover": float(path.turnover[:, strategy].sum()) / years,
            "annual_cost": float(path.costs[:, strategy].sum()) / years,
        }
    return Performance(n, **{name: x if math.isfinite(x) else math.nan for name, x in figures.items()})


def difference(path: Path, strategy: int, other: int) -> tuple[float, float]:
    """Annual log growth of one strategy beyond another's, and its standard error; NaN where not available.

    The error is that of a mean of independent daily differences, times the sessions of a year; daily differences of two
    portfolios of the same assets are close to independent.
    """
    a, b = path.growth[:, strategy], path.growth[:, other]
    return _mean_and_error(a - b, path.sessions_per_year)


def return_difference(path: Path, strategy: int, other: int) -> tuple[float, float]:
    """Annual return (geometric, as in `Performance`) of one strategy beyond another's, and its standard error.

    With yearly log growths a and b the difference is D = exp(a) − exp(b) = L·(a − b), where L is the logarithmic mean of the
    two yearly wealths (Carlson 1972, "The logarithmic mean"). The error is L times that of a − b, of paired days
    (`difference`). So D over its error is what a − b is over its own: one test, told in the unit of the table. L is taken as
    known. Its own error is that of the market's level, which both share, and no evidence about their difference.

    Returns:
        Difference and standard error, as fractions; NaN where not available.
    """
    gap, error = difference(path, strategy, other)
    mine, theirs = (_expm1(float(path.growth[:, k].mean()) * path.sessions_per_year) + 1 for k in (strategy, other))
    # Of two wealths that are nearly the same the quotient would be rounding.
    scale = (mine - theirs) / gap if abs(gap) > 1e-6 else (mine + theirs) / 2
    return (mine - theirs, scale * error) if math.isfinite(mine - theirs) else (math.nan, math.nan)


def _mean_and_error(daily: Float[Tensor, " step"], per_year: int) -> tuple[float, float]:
    """Of a yearly sum of daily values."""
    mean = float(daily.mean()) * per_year
    error = _deviation(daily) / math.sqrt(max(len(daily), 1)) * per_year
    return (mean, error) if math.isfinite(mean) else (math.nan, math.nan)


def _sharpe(excess: Float[Tensor, " step"], per_year: int) -> float:
    deviation = _deviation(excess)
    return float(excess.mean()) / deviation * math.sqrt(per_year) if deviation > _NO_DEVIATION else math.nan


def _deviation(x: Float[Tensor, " step"]) -> float:
    """Sample standard deviation; NaN for fewer than two values or if one is not finite."""
    return float(x.std()) if len(x) > 1 else math.nan


def _expm1(x: float) -> float:
    try:
        return math.expm1(x)
    except OverflowError:  # a wealth that is no number any more
        return math.nan
