"""The study's table: a market and a variant per row, over all seeds."""

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tactician.studies.learnability_plan import VARIANTS
from tactician.synthetic import ALL_PROBLEMS

LEVELS = ("0.90", "0.95")
"""Shares of the optimum for which the table shows when they were reached."""


@dataclass(frozen=True)
class Row:
    """A market and a variant over their seeds: medians, and the range of the share."""

    market: str
    variant: str
    seeds: int
    share: float
    share_low: float
    share_high: float
    turnover: float
    turnover_of_optimum: float
    steps_to: dict[str, float | None]
    """By level: environment steps after which the share was kept, in the median seed; None if it was not kept."""
    seconds_to: dict[str, float | None]
    """By level: seconds of rollouts and updates until then."""
    seconds: float
    gap: float
    """Between the policy that draws and the one that is judged (`training.deployed`), the largest of the seeds; or NaN."""
    training: float
    """Median annual log growth of the deployed policy beyond equal weight, on days of training; NaN if it was not kept."""
    strength: float
    """Median of how far an ensemble is followed (`evaluation.Found`); 1 for single agents."""
    never_trades: bool
    settings: dict[str, Any]
    """Of its trainings, without the seed."""


def summarise_runs(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per market, variant and settings; the first variant's markets first."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        settings = json.dumps(_without_seed(run), sort_keys=True)
        groups.setdefault((run["market"], run["variant"], settings), []).append(run)
    variants, markets = list(VARIANTS), list(ALL_PROBLEMS)

    def place(key: tuple[str, str, str]) -> tuple[Any, ...]:
        market, variant, settings = key
        first = re.split(r"[@#]", market)[0]
        return (
            variants.index(variant) if variant in variants else len(variants),
            markets.index(first) if first in markets else len(markets),
            market,
            settings,
        )

    return [_row(*key[:2], groups[key]) for key in sorted(groups, key=place)]


@dataclass(frozen=True)
class Pair:
    """A method beside the defaults, on the same seeds of one market."""

    market: str
    variant: str
    seeds: int
    figure: str
    """'share' of the optimum, or 'turnover' where nothing is to gain and less is better."""
    difference: float
    """Mean over seeds of the method's figure less the defaults'."""
    low: float
    high: float
    """95 % confidence interval of the mean, by Student's t over the paired differences."""


def compare(runs: Sequence[Mapping[str, Any]], base: str = "window") -> list[Pair]:
    """Every method beside the defaults, paired by seed; those with fewer than three common seeds are left out."""
    from statsmodels.stats.weightstats import DescrStatsW

    figures: dict[tuple[str, str], dict[int, float]] = {}
    for run in runs:
        name = "turnover" if run["never_trades"] else "share"
        figures.setdefault((run["market"], run["variant"]), {})[run["seed"]] = run["points"][-1][name]
    pairs = []
    for (market, variant), found in figures.items():
        theirs = figures.get((market, base), {})
        common = sorted(found.keys() & theirs.keys())
        if variant == base or len(common) < 3:
            continue
        gaps = [found[seed] - theirs[seed] for seed in common]
        low, high = DescrStatsW(gaps).tconfint_mean() if statistics.pstdev(gaps) > 0 else (gaps[0], gaps[0])
        never = any(run["never_trades"] for run in runs if run["market"] == market)
        mean = statistics.fmean(gaps)
        pairs.append(
            Pair(market, variant, len(common), "turnover" if never else "share", mean, float(low), float(high))
        )
    return pairs


def _largest(gaps: Iterable[float | None]) -> float:
    known = [gap for gap in gaps if gap is not None and not math.isnan(gap)]
    return max(known, default=math.nan)


def _without_seed(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run["settings"].items() if key != "seed"}


def _row(market: str, variant: str, runs: Sequence[Mapping[str, Any]]) -> Row:
    last = [run["points"][-1] for run in runs]
    shares = [p["share"] for p in last if p["share"] is not None and not math.isnan(p["share"])]
    if runs[0]["never_trades"] or not shares:  # the gap to the best constant regime is luck
        shares = [math.nan]
    reached = {level: [_kept(run["points"], float(level)) for run in runs] for level in LEVELS}
    return Row(
        market=market,
        variant=variant,
        seeds=len(runs),
        share=statistics.median(shares),
        share_low=min(shares),
        share_high=max(shares),
        turnover=statistics.median(p["turnover"] for p in last),
        turnover_of_optimum=statistics.median(run["optimum"]["turnover"] for run in runs),
        steps_to={level: _median(points, "timesteps") for level, points in reached.items()},
        seconds_to={level: _median(points, "seconds") for level, points in reached.items()},
        seconds=statistics.median(p["seconds"] for p in last),
        gap=_largest(run.get("gap") for run in runs),
        training=statistics.median(run.get("training", math.nan) for run in runs),
        strength=statistics.median(run.get("strength", 1.0) for run in runs),
        never_trades=runs[0]["never_trades"],
        settings=_without_seed(runs[0]),
    )


def _kept(points: Sequence[Mapping[str, Any]], level: float) -> Mapping[str, Any] | None:
    """The first point after which the share is never lower again."""
    found = None
    for point in reversed(points):
        if point["share"] is None or not point["share"] >= level:
            break
        found = point
    return found


def _median(points: Sequence[Mapping[str, Any] | None], name: str) -> float | None:
    middle = statistics.median(math.inf if p is None else p[name] for p in points)
    return None if math.isinf(middle) else middle
