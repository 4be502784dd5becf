"""Figures over many universes, and their tables in markdown: plain values in, plain values out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tactician.evaluation.inference import Interval, growth_difference, sharpe_difference

PLACES = ("training", "held_out_days", "validation", "test")
"""Where growth beyond equal weight is measured, from what was learnt by heart to what was not."""


def beside_equal_weight(universe: Mapping[str, Any], per_year: int) -> dict[str, list[float]]:
    """Annual log growth and annual Sharpe ratio beyond equal weight, each with its 95 % confidence interval.

    Args:
        universe: log growth per session of ``agent``, ``equal_weight`` and ``cash``.
        per_year: sessions per year.
    """
    agent, equal, cash = (np.array(universe[name]) for name in ("agent", "equal_weight", "cash"))
    growth = growth_difference(agent, equal, per_year)
    sharpe = sharpe_difference(np.expm1(agent) - np.expm1(cash), np.expm1(equal) - np.expm1(cash), per_year)
    return {"growth": _ends(growth), "sharpe": _ends(sharpe)}


def pooled(universes: Sequence[Mapping[str, Any]], per_year: int) -> dict[str, Any]:
    """The same of the mean universe: each common session counts once, with the mean over the universes.

    Universes share sessions, and often names. What happens in a session happens to many of them, so N universes of T sessions
    are not N·T observations. Means by session keep what they share in the variance. The bootstrap then draws blocks of
    sessions, as for one universe. For the Sharpe ratio returns in excess of cash are averaged: it is that of one account that
    is split evenly over all universes in every session.

    Args:
        universes: as for `beside_equal_weight`, with ``dates`` of their sessions.
        per_year: sessions per year.
    """
    common = sorted(set.intersection(*(set(one["dates"]) for one in universes)))

    def mean(name: str, other: str | None = None) -> np.ndarray:
        rows = []
        for one in universes:
            at = {day: k for k, day in enumerate(one["dates"])}
            kept = [at[day] for day in common]
            x = np.array(one[name], dtype=float)[kept]
            rows.append(x if other is None else np.expm1(x) - np.expm1(np.array(one[other], dtype=float)[kept]))
        return np.mean(rows, 0)

    growth = growth_difference(mean("agent"), mean("equal_weight"), per_year)
    sharpe = sharpe_difference(mean("agent", "cash"), mean("equal_weight", "cash"), per_year)
    return {"sessions": len(common), "growth": _ends(growth), "sharpe": _ends(sharpe)}


def summary(universes: Mapping[str, Mapping[str, Any]], per_year: int) -> dict[str, Any]:
    """All figures but those of the transfer: per universe, pooled, and the shares.

    Args:
        universes: by name, as `universes.py` keeps them.
        per_year: sessions per year.
    """
    each = {
        name: {
            "names": one["names"],
            **beside_equal_weight(one, per_year),
            "folds": len(one["strengths"]),
            "abstained": sum(strength == 0 for strength in one["strengths"]),
            "strengths": one["strengths"],
            "memorising": one["memorising"],
            "memorising_followed_all_the_way": one["all_the_way"],
        }
        for name, one in universes.items()
    }
    folds, abstained = (sum(row[key] for row in each.values()) for key in ("folds", "abstained"))
    return {
        "universes": each,
        "pooled": pooled(list(universes.values()), per_year),
        "share_below_equal_weight": _share(row["growth"][2] < 0 for row in each.values()),
        "share_above_equal_weight": _share(row["growth"][1] > 0 for row in each.values()),
        "folds": folds,
        "share_of_folds_that_abstained": abstained / folds,
    }


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """The whole result in markdown, line by line."""
    heads = ("universe", "names", "ΔSharpe", "Δgrowth %", "held equal weight", "training %", "left out %", "test %")
    yield f"| {' | '.join(heads)} |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name, row in found["universes"].items():
        gap = row["memorising_followed_all_the_way"]
        cells = [
            name,
            f"{len(row['names'])}",
            _told(row["sharpe"]),
            _told(row["growth"], 100),
            f"{row['abstained']} of {row['folds']}",
            *(_number(gap[place], 100) for place in ("training", "held_out_days", "test")),
        ]
        yield f"| {' | '.join(cells)} |"
    whole = found["pooled"]
    yield f"| **pooled** | | **{_told(whole['sharpe'])}** | **{_told(whole['growth'], 100)}** | | | | |"
    yield ""
    yield (
        "Δ is the deployed agent less equal weight, per year and net of costs, with 95 % intervals; growth is logarithmic. The "
        "last three columns are Δgrowth of the ensembles followed all the way, as means over the folds. Pooled: differences "
        f"are averaged over the universes in each of {whole['sessions']:,} common sessions, since universes share days and "
        "names."
    )
    yield ""
    yield (
        f"Below equal weight by more than the interval: {100 * found['share_below_equal_weight']:.0f} % of the universes; "
        f"above: {100 * found['share_above_equal_weight']:.0f} %. Equal weight was held in "
        f"{100 * found['share_of_folds_that_abstained']:.0f} % of {found['folds']} folds."
    )
    if found.get("transfer"):
        yield ""
        yield from _transfer(found["transfer"])


def _transfer(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    judged = list(next(iter(rows.values())))
    yield "Δgrowth %, last fold, trained on the row's universe and judged on the column's, followed all the way:"
    yield ""
    yield f"| trained on | {' | '.join(judged)} | followed |"
    yield f"|---|{'--:|' * (len(judged) + 1)}"
    for name, row in rows.items():
        cells = [_told(None if cell is None else cell["all_the_way"], 100) for cell in row.values()]
        strength = next((cell["strength"] for cell in row.values() if cell is not None), None)
        yield f"| {name} | {' | '.join(cells)} | {'–' if strength is None else f'{100 * strength:.0f} %'} |"


def _ends(x: Interval) -> list[float]:
    return [x.value, x.low, x.high]


def _share(cases: Iterator[bool]) -> float:
    told = list(cases)
    return sum(told) / len(told)


def _told(ends: Sequence[float | None] | None, factor: float = 1) -> str:
    if ends is None or ends[0] is None or not math.isfinite(ends[0]):
        return "–"
    value, low, high = (_number(x, factor) for x in ends)
    return value if low == "–" else f"{value} ({low} to {high})"


def _number(x: float | None, factor: float = 1) -> str:
    digits = 2 if factor == 1 else 1
    return "–" if x is None or not math.isfinite(x) else f"{factor * x:+z.{digits}f}"
