"""Statistics of a path of wealth: figures of one strategy, and the difference between two with its standard error.

A figure that cannot be computed is NaN, "not available". It is never 0, which would be a result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.evaluation.backtest import Path
from tactician.evaluation.inference import FEWEST
from tactician.evaluation.inference.interval import logarithmic_mean
from tactician.monitor.wording import tell

_NO_DEVIATION = 1e-12
"""A smaller standard deviation of daily returns is only rounding."""
_CASH_LIKE = 0.0005
"""A path with a smaller annual volatility is like cash. Its Sharpe ratio would be noise over noise, and is not printed."""


class Performance(SimpleNamespace):
    """Figures of one strategy over one range: ``sessions``, and one attribute per entry of `STATISTICS`.

    Figures are fractions, not percent. A year has ``Path.sessions_per_year`` sessions. A figure that is not available is
    NaN. All of them are NaN if a growth is not finite.
    """

    sessions: int

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Column:
    """How a table prints a statistic."""

    label: str
    pattern: str
    """Number format, as `tell` takes it."""
    unit: str = ""
    scale: float = 1.0
    """Factor on the figure before it is printed."""
    error: str | None = None
    """Name of the statistic that is its standard error, printed beside it."""
    printed: Callable[[Performance], bool] = lambda _: True
    """Whether the figure is meaningful for this strategy. If not, "–" is printed."""

    def cell(self, name: str, figures: Performance) -> str:
        """The figure of this name, as printed."""
        value = self.scale * getattr(figures, name) if self.printed(figures) else math.nan
        text = tell(value, self.pattern, self.unit)
        if self.error is None or math.isnan(value):
            return text
        return f"{text} ± {tell(self.scale * getattr(figures, self.error), self.pattern, self.unit)}"


@dataclass(frozen=True)
class Statistic:
    """One figure of a strategy."""

    figure: Callable[[Path, int], float]
    """Computes the figure from a path and a strategy's number; NaN if not available. The path has finite growth and at least
    one session."""
    column: Column | None = None
    """Its column in the printed table; None if the table leaves it out."""


def performance(path: Path, strategy: int | str) -> Performance:
    """Summarise one strategy of a path, by number or name. All figures are NaN if a growth is not finite."""
    k = path.column(strategy)
    growth = path.growth[:, k]
    known = len(growth) > 0 and bool(growth.isfinite().all())
    figures = {name: statistic.figure(path, k) if known else math.nan for name, statistic in STATISTICS.items()}
    finite = {name: x if math.isfinite(x) else math.nan for name, x in figures.items()}
    return Performance(sessions=len(growth), **finite)


def difference(path: Path, strategy: int | str, other: int | str) -> tuple[float, float]:
    """Annual log growth of one strategy beyond another's, and its standard error; NaN if not available.

    Strategies are given by name, or by number if the path has no names.

    The standard error assumes independent daily differences, and is annualised like the mean. Daily differences of two
    portfolios of the same assets are nearly independent.
    """
    a, b = (path.growth[:, path.column(k)] for k in (strategy, other))
    return _mean_and_error(a - b, path.sessions_per_year)


def return_difference(path: Path, strategy: int | str, other: int | str) -> tuple[float, float]:
    """Annual return (geometric, as in `Performance`) of one strategy beyond another's, and its standard error.

    With annual log growths a and b the difference is D = exp(a) − exp(b) = L·(a − b). L is the logarithmic mean of the two
    annual wealths (Carlson 1972, "The logarithmic mean"). The standard error is L times that of a − b, which comes from
    paired days (`difference`). So D has the same t-statistic as a − b: it is one test, in the unit of the table. L is taken
    as known. Its error is that of the market's level, which both strategies share.

    Returns:
        Difference and standard error, as fractions; NaN if not available.
    """
    gap, error = difference(path, strategy, other)
    mine, theirs = (path.growth[:, path.column(k)].cpu().numpy() for k in (strategy, other))
    scale = logarithmic_mean(mine, theirs, path.sessions_per_year)
    return (scale * gap, scale * error) if math.isfinite(scale * gap) else (math.nan, math.nan)


def _mean_and_error(daily: Float[Tensor, " step"], per_year: int) -> tuple[float, float]:
    """Annualised mean of daily values, and its standard error."""
    mean = float(daily.mean()) * per_year
    error = _deviation(daily) / math.sqrt(max(len(daily), 1)) * per_year
    return (mean, error) if math.isfinite(mean) else (math.nan, math.nan)


def _years(path: Path) -> float:
    return len(path.growth) / path.sessions_per_year


def _total_return(path: Path, strategy: int) -> float:
    return _expm1(float(path.growth[:, strategy].sum()))


def _annual_return(path: Path, strategy: int) -> float:
    """Geometric: (final wealth)^(1/years) − 1."""
    return _expm1(float(path.growth[:, strategy].sum()) / _years(path))


def _annual_volatility(path: Path, strategy: int) -> float:
    return _deviation(torch.expm1(path.growth[:, strategy])) * math.sqrt(path.sessions_per_year)


def _sharpe(path: Path, strategy: int) -> float:
    """Annualised Sharpe ratio of simple returns in excess of cash; NaN if they do not vary, or are too few."""
    if len(path.growth) < FEWEST:
        return math.nan
    excess = torch.expm1(path.growth[:, strategy]) - torch.expm1(path.cash_growth)
    deviation = _deviation(excess)
    if not deviation > _NO_DEVIATION:
        return math.nan
    return float(excess.mean()) / deviation * math.sqrt(path.sessions_per_year)


def _sharpe_error(path: Path, strategy: int) -> float:
    """√((1 + S²/2Y) / years) with Y sessions per year: Lo (2002), "The statistics of Sharpe ratios", for normal returns."""
    return math.sqrt((1 + _sharpe(path, strategy) ** 2 / (2 * path.sessions_per_year)) / _years(path))


def _max_drawdown(path: Path, strategy: int) -> float:
    """Largest loss from a previous high of wealth. The initial wealth counts as a high."""
    growth = path.growth[:, strategy]
    wealth = torch.cat([torch.zeros_like(growth[:1]), growth.cumsum(0)])
    return max(0.0, float(-torch.expm1((wealth - wealth.cummax(0).values).min())))


def _annual_turnover(path: Path, strategy: int) -> float:
    return float(path.turnover[:, strategy].sum()) / _years(path)


def _annual_cost(path: Path, strategy: int) -> float:
    return float(path.costs[:, strategy].sum()) / _years(path)


def _deviation(x: Float[Tensor, " step"]) -> float:
    """Sample standard deviation; NaN for fewer than two values or if one is not finite."""
    return float(x.std()) if len(x) > 1 else math.nan


def _expm1(x: float) -> float:
    try:
        return math.expm1(x)
    except OverflowError:  # wealth beyond the largest float
        return math.nan


def _moves(figures: Performance) -> bool:
    return figures.annual_volatility >= _CASH_LIKE


STATISTICS: dict[str, Statistic] = {
    "total_return": Statistic(_total_return),
    "annual_return": Statistic(_annual_return, Column("Return", "+.1f", " %", 100)),
    "annual_volatility": Statistic(_annual_volatility, Column("Volatility", ".1f", " %", 100)),
    "sharpe": Statistic(_sharpe, Column("Sharpe ± s.e.", ".2f", error="sharpe_standard_error", printed=_moves)),
    "sharpe_standard_error": Statistic(_sharpe_error),
    "max_drawdown": Statistic(_max_drawdown, Column("Drawdown", ".1f", " %", 100)),
    "annual_turnover": Statistic(_annual_turnover, Column("Turnover", ".1f", " ×")),
    "annual_cost": Statistic(_annual_cost, Column("Costs", ".2f", " %", 100)),
}
"""By name, in the order in which results list them."""
