"""The result as a document: plain values, the same in report.json and on the page. Figures are fractions, or None.

The page's parts are named in the order in which they are shown.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import torch
from torch import Tensor

from tactician.environment import OBSERVATION_NAMES, MarketTensors
from tactician.evaluation.agent import Evaluation, beyond
from tactician.evaluation.backtest import Path
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT
from tactician.evaluation.evidence import evidence, intervals
from tactician.evaluation.importance import METHOD, occlude
from tactician.evaluation.judge import Judged, Strategy
from tactician.evaluation.statistics import performance
from tactician.portfolio.frictions import COMPONENTS
from tactician.storage import plain

_CURVES = (AGENT, EQUAL_WEIGHT, "buy_and_hold", "cash", "best_constant")
"""The strategies whose wealth the page draws, if they have a path."""
_SHOWN_ASSETS = 12
_FIGURES = ("annual_return", "annual_volatility", "sharpe", "max_drawdown", "annual_turnover", "annual_cost")
_EPOCH = date(1970, 1, 1)


def document(
    judged: Judged,
    result: Evaluation,
    *,
    kind: str,
    title: str,
    subtitle: str,
    trials: tuple[int | None, Sequence[float]],
    training: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Everything that was found, as plain values.

    Args:
        judged: the judge's findings.
        result: the agent beside the always present baselines, with verdict, caveat and notes.
        kind: 'evaluation' or 'walk_forward'.
        title: of the page.
        subtitle: of the page.
        trials: how many configurations were tried on this data, None if not known, and their Sharpe ratios per session.
        training: what was trained beside what is judged.
        provenance: where it all comes from.
        more: further parts: folds, memorising, found, run.
    """
    market, rows, path = judged.market, judged.rows, judged.path
    content = {
        "format": "tactician report",
        "version": 1,
        "kind": kind,
        "title": title,
        "subtitle": subtitle,
        "verdict": _verdict(result),
        "range": {
            "first": result.first,
            "last": result.last,
            "sessions": len(rows),
            "sessions_per_year": path.sessions_per_year,
        },
        "dates": end_dates(market, rows),
        "decided": [str(market.date_of(row)) for row in rows],
        "curves": _curves(judged),
        "band": _band(judged),
        "regimes": {
            "names": list(market.regimes.names),
            "colours": None,
            "chosen": judged.decisions.actions[:, 0].tolist(),
            "probabilities": _rounded(judged.decisions.probabilities[:, 0], 4),
        },
        "allocation": _allocation(market, path),
        "trading": {
            "turnover": _rounded(path.turnover[:, 0], 6),
            "cost": _rounded(path.costs[:, 0].sum(-1), 8),
            "components": {name: _rounded(path.costs[:, 0, k], 8) for k, name in enumerate(COMPONENTS)},
        },
        "why": _why(judged),
        "strategies": [_strategy(judged, s) for s in judged.strategies],
        "cost_components": [
            {"name": name, "annual": float(path.costs[:, 0, k].sum()) * path.sessions_per_year / len(rows)}
            for k, name in enumerate(COMPONENTS)
        ],
        "cost_multipliers": [{"multiplier": m, **_beside(p, AGENT, EQUAL_WEIGHT)} for m, p in judged.by_cost.items()],
        "delays": [{"sessions": k, **_beside(p, AGENT, EQUAL_WEIGHT)} for k, p in judged.by_delay.items()],
        "starts": _starts(judged),
        "months": {name: _months(market, rows, path, name) for name in (AGENT, EQUAL_WEIGHT)},
        "training": training,
        "memorising": None,
        "found": None,
        "statistics": evidence(judged, *trials),
        "folds": None,
        "seeds": _seeds(judged),
        "provenance": dict(provenance),
        "run": None,
        **more,
    }
    whole: dict[str, Any] = plain(content)  # a figure that is not available is None
    return whole


def end_dates(market: MarketTensors, rows: range) -> list[str]:
    """The sessions at whose close the rows' returns end, YYYY-MM-DD."""
    return [str(_EPOCH + timedelta(days=day)) for day in market.end_dates[rows.start : rows.stop].tolist()]


def _verdict(result: Evaluation) -> dict[str, Any]:
    gap = result.interval
    return {
        "text": f"The agent is {result.verdict}.",
        "side": result.side,
        "caveat": result.caveat,
        "notes": list(result.notes),
        # The verdict says it already where nothing is claimed.
        "power": None if result.side == "not distinguishable" else result.power,
        "difference": {"value": gap.value, "low": gap.low, "high": gap.high, "unit": "return per year"},
    }


def _curves(judged: Judged) -> list[dict[str, Any]]:
    curves = []
    for s in judged.strategies:
        if s.name in _CURVES and not s.missing:
            growth = judged.path.growth[:, judged.path.column(s.name)]
            free = judged.by_cost[0.0]
            gross = free.growth[:, free.column(s.name)] if s.name in free.strategies else None
            told = None if gross is None else _rounded(gross, 8)
            curves.append({"name": s.name, "label": s.label, "growth": _rounded(growth, 8), "gross": told})
    return curves


def _band(judged: Judged) -> dict[str, Any] | None:
    """Wealth of the seeds: median, lowest and highest by session."""
    if not judged.seeds:
        return None
    wealth = torch.stack([judged.path.growth[:, judged.path.column(s)].cumsum(0).exp() for s in judged.seeds])
    return {
        "label": f"{len(judged.seeds)} seeds, lowest to highest",
        "low": _rounded(wealth.amin(0), 6),
        "high": _rounded(wealth.amax(0), 6),
        "median": _rounded(wealth.quantile(0.5, 0), 6),
        "seeds": [{"seed": k, "wealth": _rounded(w, 6)} for k, w in enumerate(wealth)],
    }


def _allocation(market: MarketTensors, path: Path) -> dict[str, Any]:
    """The agent's weights after each trade: its largest positions by mean weight, the others together, and cash."""
    assert path.weights is not None
    weights = path.weights[:, 0]
    risky, cash = weights[:, :-1], weights[:, -1:]
    order = risky.mean(0).argsort(descending=True, stable=True)[:_SHOWN_ASSETS].sort().values
    columns, names = [risky[:, order]], [market.symbols[k] for k in order.tolist()]
    if len(market.symbols) > len(names):
        columns.append(risky.sum(1, keepdim=True) - columns[0].sum(1, keepdim=True))
        names.append("others")
    return {"assets": [*names, "cash"], "weights": _rounded(torch.cat([*columns, cash], 1), 5)}


def _why(judged: Judged) -> dict[str, Any]:
    """What moved each decision, and how much of it each entry of the observation accounts for."""
    parts, decisions, done = [], judged.decisions, 0
    for turn, remembered in zip(judged.turns, judged.memories, strict=True):
        rows = slice(done, done + len(turn.piece.rows))
        done = rows.stop
        parts.append(occlude(turn.policies, decisions.observations[rows], remembered, decisions.actions[rows, 0]))
    shares = torch.stack([part.shares * len(part.effects) for part in parts]).sum(0) / done
    return {
        "method": METHOD,
        "entries": list(OBSERVATION_NAMES),
        "decisions": [
            [[entry, round(effect, 5), round(value, 4)] for entry, effect, value in day]
            for part in parts
            for day in part.top(10)
        ],
        "importance": [
            {"entry": name, "share": round(share, 6)}
            for name, share in sorted(
                zip(OBSERVATION_NAMES, shares.tolist(), strict=True), key=lambda part: part[1], reverse=True
            )
        ],
    }


def _strategy(judged: Judged, s: Strategy) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": s.name,
        "label": s.label,
        "group": s.group,
        "available": not s.missing,
        "reason": s.missing or None,
    }
    if s.missing:
        return {**told, "figures": {}, "intervals": {}, "beyond": {}}
    figures = performance(judged.path, s.name)
    found = intervals(judged.path, s.name)
    return {
        **told,
        "figures": {name: getattr(figures, name) for name in _FIGURES},
        "intervals": {name: [x.low, x.high] for name, x in found.items()},
        "beyond": {
            "return": found["return_beyond_equal_weight"].value,
            "sharpe": found["sharpe_beyond_equal_weight"].value,
        },
    }


def _beside(path: Path, strategy: str, other: str) -> dict[str, float]:
    gap = beyond(path, strategy, other)
    return {
        "annual_return": performance(path, strategy).annual_return,
        "beyond_equal_weight": gap.value,
        "low": gap.low,
        "high": gap.high,
    }


def _starts(judged: Judged) -> list[dict[str, Any]]:
    path = judged.by_start
    assert path.weights is not None
    in_cash = (path.weights[..., -1] > 1 - 1e-6).double().mean(0).tolist()
    return [
        {
            "name": name,
            "annual_return": performance(path, name).annual_return,
            "beyond_equal_weight": gap.value,
            "low": gap.low,
            "high": gap.high,
            "sessions_in_cash": in_cash[k],
        }
        for k, (name, gap) in enumerate(judged.starts.items())
    ]


def _months(market: MarketTensors, rows: range, path: Path, strategy: str) -> list[dict[str, Any]]:
    """Simple returns by calendar month; a month without a session is None."""
    growth: dict[int, list[list[float]]] = {}
    for day, x in zip(end_dates(market, rows), path.growth[:, path.column(strategy)].tolist(), strict=True):
        year, month = int(day[:4]), int(day[5:7])
        growth.setdefault(year, [[] for _ in range(12)])[month - 1].append(x)
    return [
        {
            "year": year,
            "returns": [math.expm1(math.fsum(days)) if days else None for days in months],
            "total": math.expm1(math.fsum(x for days in months for x in days)),
        }
        for year, months in growth.items()
    ]


def _seeds(judged: Judged) -> list[dict[str, Any]] | None:
    if not judged.seeds:
        return None
    figures = [(k, performance(judged.path, name), name) for k, name in enumerate(judged.seeds)]
    return [
        {
            "seed": k,
            "annual_return": f.annual_return,
            "sharpe": f.sharpe,
            "beyond_equal_weight": beyond(judged.path, name, EQUAL_WEIGHT).value,
        }
        for k, f, name in figures
    ]


def _rounded(x: Tensor, digits: int) -> Any:
    """Plain numbers, short enough for a page; None for what is not finite."""

    def each(value: Any) -> Any:
        if isinstance(value, list):
            return [each(v) for v in value]
        return round(value, digits) if math.isfinite(value) else None

    return each(x.double().tolist())
