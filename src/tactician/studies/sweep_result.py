"""What came out of a sweep: each trial's figure with its error, its difference from the default, and which is best."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactician.evaluation.agent import side_of
from tactician.evaluation.inference import NOT_AVAILABLE, Interval, growth_difference, superior_predictive_ability
from tactician.studies.sweep import Sweep, figure_of
from tactician.studies.sweep_store import Record

LEVEL = 0.05
"""Of the test whether the best of all trials beats the default."""


@dataclass(frozen=True)
class Row:
    """A trial. Growth is annual log growth, net of costs."""

    number: int
    settings: dict[str, Any]
    figure: float
    """Mean growth beyond equal weight over held-out pieces and seeds; NaN without a result."""
    error: float
    """Its standard error over the pieces."""
    turnover: float
    """Annual, in portfolios."""
    beside_default: Interval
    """Growth beyond the default's on the same sessions, with a 95 % confidence interval."""
    pieces: tuple[float, ...]
    """Growth beyond equal weight on each held-out piece, the mean of the seeds."""
    fault: str | None

    @property
    def told_apart(self) -> bool:
        """Whether the difference from the default matters, and its interval excludes zero: the rule of every verdict."""
        return side_of(self.beside_default) in ("above", "below")


@dataclass(frozen=True)
class Found:
    """The trials of a sweep, best first."""

    rows: tuple[Row, ...]
    within: tuple[int, ...]
    """Numbers of the trials within one standard error of the best, the best included, earliest first."""
    p_value: float
    """Of the hypothesis that no trial beats the default, with all of them counted; NaN if not available."""

    @property
    def best(self) -> Row | None:
        """The trial with the largest figure; None if none has one."""
        return self.rows[0] if self.rows and math.isfinite(self.rows[0].figure) else None

    @property
    def default(self) -> Row | None:
        """The configuration as it is."""
        return next((row for row in self.rows if row.number == 0), None)


def summarise(sweep: Sweep, records: Sequence[Record]) -> Found:
    """The table of the trials that are done."""
    done = [record for record in records if record.closed]
    growth = {record.number: _growth(sweep, record) for record in done if record.fault is None}
    default = growth.get(0)
    rows = [_row(sweep, record, growth.get(record.number), default) for record in done]
    rows.sort(key=lambda row: (-row.figure if math.isfinite(row.figure) else math.inf, row.number))
    others = [growth[number] for number in sorted(growth) if number]
    p_value = math.nan
    if default is not None and others:
        p_value = superior_predictive_ability(default, np.stack(others, 1))
    return Found(tuple(rows), _within(rows), p_value)


def as_document(sweep: Sweep, found: Found) -> dict[str, Any]:
    """Plain values for ``sweep.json``."""
    return {
        "format": "tactician sweep",
        "version": 1,
        "declared": sweep.declared,
        "held_out": [list(sweep.market.dates_of(fold.held_out)) for fold in sweep.folds],
        "trials": [asdict(row) for row in found.rows],
        "best": None if found.best is None else found.best.number,
        "within_one_standard_error": list(found.within),
        "p_value_no_trial_beats_the_default": found.p_value,
    }


def _within(rows: Sequence[Row]) -> tuple[int, ...]:
    """Breiman, Friedman, Olshen and Stone (1984), "Classification and regression trees", §3.4.3: the one-SE rule."""
    known = [row for row in rows if math.isfinite(row.figure)]
    if not known:
        return ()
    least = known[0].figure - known[0].error
    return tuple(sorted(row.number for row in known if row.figure >= least))


def _row(sweep: Sweep, record: Record, growth: NDArray[np.float64] | None, default: NDArray[np.float64] | None) -> Row:
    if growth is None:
        nan = math.nan
        return Row(record.number, record.settings, nan, nan, nan, NOT_AVAILABLE, (), record.fault)
    folds = range(1, sweep.n_folds + 1)
    pieces = [_mean(record.results[fold, seed]["figure"] for seed in sweep.seeds) for fold in folds]
    gap = NOT_AVAILABLE if default is None else growth_difference(growth, default, sweep.market.sessions_per_year)
    return Row(
        number=record.number,
        settings=record.settings,
        figure=figure_of(record),
        error=float(np.std(pieces, ddof=1)) / math.sqrt(len(pieces)),
        turnover=_mean(result["turnover"] for result in record.results.values()),
        beside_default=gap,
        pieces=tuple(pieces),
        fault=None,
    )


def _growth(sweep: Sweep, record: Record) -> NDArray[np.float64]:
    """Log growth in each session of all pieces, in the order of time: the mean of the seeds."""
    pieces = [
        np.mean([record.results[fold, seed]["growth"] for seed in sweep.seeds], 0)
        for fold in range(1, sweep.n_folds + 1)
    ]
    return np.concatenate(pieces)


def _mean(values: Any) -> float:
    every = list(values)
    return math.fsum(every) / len(every)
