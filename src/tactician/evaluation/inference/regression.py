"""Alpha and beta with errors that allow for dependence between sessions."""

import math
from dataclasses import dataclass

from tactician.evaluation.inference.interval import NOT_AVAILABLE, Interval
from tactician.evaluation.inference.resampling import Series, usable, varies


@dataclass(frozen=True)
class Regression:
    """A regression of excess returns on those of a benchmark."""

    alpha: Interval
    """Return per year that beta does not explain: the mean per session times the sessions of a year."""
    beta: Interval


def alpha_beta(mine: Series, theirs: Series, per_year: int) -> Regression:
    """Least squares of r = α + β·b, with 95 % intervals from the errors of Newey and West (1987), computed by statsmodels.

    Errors of up to ⌊4·(T/100)^(2/9)⌋ sessions apart may be correlated (Newey and West 1994).

    Args:
        mine: simple returns in excess of cash per session, of shape [T].
        theirs: those of the benchmark in the same sessions.
        per_year: sessions per year.

    Returns:
        Nothing available where the benchmark explains all: rounding would be taken for an error, and make any alpha sure.
    """
    nothing = Regression(NOT_AVAILABLE, NOT_AVAILABLE)
    if not usable(mine, theirs) or not varies(theirs):
        return nothing
    import statsmodels.api as sm

    lags = math.floor(4 * (len(mine) / 100) ** (2 / 9))
    fit = sm.OLS(mine, sm.add_constant(theirs)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    if not fit.resid.std() > 1e-9 * (mine.std() + abs(mine).max()):
        return nothing
    (alpha, beta), bounds = fit.params, fit.conf_int()
    return Regression(
        Interval(float(alpha), *map(float, bounds[0])).scaled(per_year), Interval(float(beta), *map(float, bounds[1]))
    )
