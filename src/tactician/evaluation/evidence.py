"""The statistics of a judged path, each with a sentence that says what it means here. Not available is None, never a number."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tactician.evaluation import inference
from tactician.evaluation.backtest import Path
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT
from tactician.evaluation.inference import Interval
from tactician.evaluation.judge import Judged

_TOO_LITTLE = "too few sessions, or a path that does not vary"


def intervals(path: Path, strategy: str) -> dict[str, Interval]:
    """Sharpe ratio, and return and Sharpe ratio beyond equal weight, with 95 % confidence intervals."""
    year = path.sessions_per_year
    mine, theirs = _excess(path, strategy), _excess(path, EQUAL_WEIGHT)
    return {
        "sharpe": inference.sharpe_interval(mine, year),
        "return_beyond_equal_weight": inference.return_difference(
            _growth(path, strategy), _growth(path, EQUAL_WEIGHT), year
        ),
        "sharpe_beyond_equal_weight": inference.sharpe_difference(mine, theirs, year),
    }


def evidence(judged: Judged, n_trials: int | None, trial_sharpes: Sequence[float]) -> list[dict[str, Any]]:
    """All statistics of the agent, in the order in which the page lists them.

    Args:
        judged: the judge's findings.
        n_trials: how many configurations were tried on this data; None if not known.
        trial_sharpes: their Sharpe ratios per session, of those that have one.
    """
    path, year = judged.path, judged.path.sessions_per_year
    mine, theirs = _excess(path, AGENT), _excess(path, EQUAL_WEIGHT)
    sharpe = inference.sharpe_interval(mine, year)
    beyond = inference.sharpe_difference(mine, theirs, year)
    growth = inference.growth_difference(_growth(path, AGENT), _growth(path, EQUAL_WEIGHT), year)
    detectable = inference.minimum_detectable_sharpe_difference(mine, theirs, year)
    fit = inference.alpha_beta(mine, theirs, year)
    return [
        _entry(
            "sharpe", "Sharpe ratio", sharpe, "Of net daily returns in excess of cash, per year, with its interval."
        ),
        _entry(
            "sharpe_beyond_equal_weight",
            "Sharpe ratio beyond equal weight",
            beyond,
            "From the same days of both, so what moves the whole market cancels.",
        ),
        _entry(
            "growth_beyond_equal_weight",
            "Log growth beyond equal weight",
            growth,
            "Per year, from the same days of both.",
        ),
        _entry(
            "detectable_sharpe_difference",
            "Smallest difference that could be seen",
            detectable,
            "A true Sharpe ratio beyond equal weight of this size would have been found in 80 % of such samples.",
        ),
        _entry(
            "psr",
            "Probabilistic Sharpe ratio",
            inference.probabilistic_sharpe(mine),
            "Probability that the true Sharpe ratio exceeds zero, given length, skew and tails (Bailey and López de Prado "
            "2012).",
        ),
        _deflated(mine, n_trials, trial_sharpes),
        *_among_many(judged),
        _entry(
            "alpha",
            "Alpha",
            fit.alpha,
            "Return per year beyond beta times equal weight; interval with Newey-West errors.",
        ),
        _entry("beta", "Beta", fit.beta, "Of the agent's excess returns on those of equal weight."),
        _entry(
            "timing",
            "Timing (p-value)",
            judged.timing,
            "How often the agent's own regimes, shuffled in blocks of sessions, grew as much before costs. Small means that "
            "the moments mattered.",
        ),
    ]


def _deflated(excess: np.ndarray, n_trials: int | None, trial_sharpes: Sequence[float]) -> dict[str, Any]:
    said = "Probability that the true Sharpe ratio exceeds what the best of as many trials shows by luck"
    value = inference.deflated_sharpe(excess, n_trials, trial_sharpes)
    if n_trials is None:
        reason = "the number of trials is not known: the ledger beside the market cache has no record of this run"
    elif n_trials > 1 and len(trial_sharpes) < 2:
        reason = "fewer than two trials have a Sharpe ratio, so their spread is not known"
    else:
        reason = _TOO_LITTLE
        said = f"{said} ({n_trials} counted)"
    return _entry("dsr", "Deflated Sharpe ratio", value, f"{said} (Bailey and López de Prado 2014).", reason)


def _among_many(judged: Judged) -> list[dict[str, Any]]:
    """Statistics over the agent and all baselines that could have been followed."""
    path = judged.path
    names = [s.name for s in judged.strategies if not s.missing and s.group != "hindsight"]
    growth = np.stack([_growth(path, name) for name in names], 1)
    equal = names.index(EQUAL_WEIGHT)
    others = [name for name in names if name != EQUAL_WEIGHT]
    spa = inference.superior_predictive_ability(growth[:, equal], np.delete(growth, equal, 1))
    kept = inference.model_confidence_set(growth, names)
    excess = np.stack([_excess(path, name) for name in names], 1)
    labels = {s.name: s.label for s in judged.strategies}
    return [
        _entry(
            "spa",
            "Superior predictive ability (p-value)",
            spa,
            f"Whether the best of {len(others)} strategies beats equal weight, given that the best was picked (Hansen 2005). "
            "Large means that luck explains it.",
        ),
        {
            **_entry(
                "mcs",
                "Model confidence set",
                math.nan if kept is None else len(kept),
                "Strategies that cannot be told from the best at 90 % (Hansen, Lunde and Nason 2011): "
                + ("" if kept is None else ", ".join(labels[name] for name in kept) + "."),
            ),
            "members": kept,
        },
        _entry(
            "pbo",
            "Probability of backtest overfitting",
            inference.probability_of_overfitting(excess),
            f"How often the best of these {len(names)} strategies in one half of the sessions is below the median in the other "
            "(Bailey et al. 2017).",
        ),
    ]


def _entry(name: str, label: str, figure: Interval | float, text: str, reason: str = _TOO_LITTLE) -> dict[str, Any]:
    value, low, high = (figure.value, figure.low, figure.high) if isinstance(figure, Interval) else (figure, None, None)
    known = math.isfinite(value)
    return {
        "name": name,
        "label": label,
        "value": value if known else None,
        "low": low,
        "high": high,
        "text": text,
        "reason": None if known else reason,
    }


def _growth(path: Path, strategy: str) -> np.ndarray:
    growth: np.ndarray = path.growth[:, path.column(strategy)].cpu().numpy()
    return growth


def _excess(path: Path, strategy: str) -> np.ndarray:
    """Simple returns in excess of cash."""
    return np.expm1(_growth(path, strategy)) - np.expm1(path.cash_growth.cpu().numpy())
