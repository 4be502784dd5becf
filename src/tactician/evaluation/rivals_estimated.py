"""Classical portfolios from estimated moments. The weights come from skfolio, and the wealth from our ledger."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tactician.evaluation.available import NotAvailable
from tactician.evaluation.question import Question, Targets
from tactician.evaluation.rivals_known import Known, equal_weights, known, month_starts

Estimator = Callable[[float], Any]
"""Makes an unfitted estimator of skfolio for a daily cash rate."""


def inverse_volatility(_: float) -> Any:
    """Weights in proportion to one over the volatility."""
    from skfolio.optimization import InverseVolatility

    return InverseVolatility()


def minimum_variance(_: float) -> Any:
    """Markowitz (1952), the portfolio of smallest variance."""
    from skfolio.optimization import MeanRisk

    return MeanRisk(prior_estimator=_shrunk())


def hierarchical_risk_parity(_: float) -> Any:
    """López de Prado (2016), "Building diversified portfolios that outperform out of sample"."""
    from skfolio.optimization import HierarchicalRiskParity

    return HierarchicalRiskParity(prior_estimator=_shrunk())


def maximum_sharpe(cash_rate: float) -> Any:
    """The tangency portfolio: the largest mean excess return per volatility."""
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    return MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO, prior_estimator=_shrunk(), risk_free_rate=cash_rate
    )


def _shrunk() -> Any:
    """Sample means, and the covariance shrunk by Ledoit and Wolf (2004): with 252 sessions the sample's own is too noisy."""
    from skfolio.moments import LedoitWolf
    from skfolio.prior import EmpiricalPrior

    return EmpiricalPrior(covariance_estimator=LedoitWolf())


class Estimated:
    """Weights that are estimated each month from the last 252 known sessions, and drift in between.

    Only assets take part that can be held now and were listed for the whole window. With fewer than 60 known sessions, or
    fewer than two such assets, the weights are equal. If an optimisation fails, the portfolio is held.
    """

    def __init__(self, name: str, estimator: Estimator, may_leave: bool = False) -> None:
        self.name = name
        self.estimator = estimator
        self.may_leave = may_leave
        """Whether all goes to cash if no asset's mean return beats it. Otherwise all is invested."""

    def __call__(self, question: Question) -> Targets:
        """The targets.

        Raises:
            NotAvailable: nothing could be estimated, or every optimisation failed.
        """
        market, rows = question.market.to("cpu"), question.rows
        weights, hold = equal_weights(market, rows), ~month_starts(market, rows)
        tried = failed = 0
        for k, t in enumerate(rows):
            past = None if hold[k] else known(market, t)
            if past is not None and past.usable.sum() >= 2:
                tried += 1
                estimate = self._weights(past)
                failed += estimate is None
                if estimate is not None:
                    weights[k] = estimate
                elif k > 0:
                    hold[k] = True
            if hold[k]:
                weights[k] = weights[k - 1]
        self._tell(question, tried, failed)
        return weights.to(question.market.device), hold.to(question.market.device)

    def _tell(self, question: Question, tried: int, failed: int) -> None:
        if tried == 0:
            raise NotAvailable("no two assets have 60 known sessions at any of its dates")
        if failed == tried:
            raise NotAvailable("the optimisation failed at every date")
        if failed:
            question.notes.append(
                f"{self.name}: the optimisation failed at {failed} of {tried} dates, where the weights before were kept."
            )

    def _weights(self, past: Known) -> Float[Tensor, " asset_and_cash"] | None:
        """Weights, cash last; None if the optimisation failed."""
        returns, cash_rate = past.returns[:, past.usable].numpy(), float(past.cash.mean())
        weights = torch.zeros(past.returns.shape[1] + 1, dtype=torch.float64)
        if self.may_leave and (returns.mean(0) <= cash_rate).all():
            weights[-1] = 1
            return weights
        risky = _fit(self.estimator, cash_rate, returns)
        if risky is None:
            return None
        weights[:-1][past.usable] = torch.from_numpy(risky)
        return weights


def _fit(estimator: Estimator, cash_rate: float, returns: np.ndarray) -> np.ndarray | None:
    """Weights of skfolio, cleaned of the solver's rounding; None if it fails or they are no long-only portfolio."""
    import pandas as pd

    try:
        with warnings.catch_warnings():  # a solver's doubts are judged below, by its weights
            warnings.simplefilter("ignore")
            found = estimator(cash_rate).fit(pd.DataFrame(returns)).weights_
    except Exception:  # skfolio, cvxpy and the solvers raise errors of many kinds
        return None
    found = np.asarray(found, dtype=np.float64)
    if not np.isfinite(found).all() or found.min() < -1e-6 or abs(found.sum() - 1) > 1e-3:
        return None
    kept = np.clip(found, 0, None)
    return kept / kept.sum()
