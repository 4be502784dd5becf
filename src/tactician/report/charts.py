"""What the charts need of a document, as small as the eye allows.

Tables are written by the template, out of the document itself. Rounding concerns the charts and their downloads only.
"""

import re
from collections.abc import Mapping
from typing import Any

from tactician.report.palette import colours

_AGENT, _RIVAL, _WEIGHT, _PROBABILITY, _TURNOVER, _COST, _EFFECT, _VALUE = 5, 4, 4, 3, 5, 6, 4, 1
"""Decimals, no fewer than are shown. ``report.json`` has all of them."""
_MANY = 100_000
"""More probabilities than these are told by the per cent: 6,000 sessions of 64 regimes must fit into the page."""
_HOLD = "HOLD"


def chart_data(document: Mapping[str, Any]) -> dict[str, Any]:
    """The series of the charts. Tables of sessions × names are turned: one list per name compresses better."""
    regimes, allocation, trading = document["regimes"], document["allocation"], document["trading"]
    names, chosen, probabilities = regimes["names"], regimes["chosen"], regimes["probabilities"]
    many = len(names) * len(chosen) > _MANY
    return {
        "dates": document["dates"],
        "decided": document["decided"],
        "kind": document["kind"],
        "curves": _curves(document["curves"]),
        "band": _band(document["band"]),
        "regimes": {
            "names": names,
            "colours": _given(regimes["colours"], len(names)) or colours(names),
            "hold": names.index(_HOLD) if _HOLD in names else -1,
            "chosen": chosen,
            "chance": [_one(row[k], _PROBABILITY + 1) for row, k in zip(probabilities, chosen, strict=True)],
            "probabilities": _columns(probabilities, len(names), _PROBABILITY - many),
        },
        "allocation": {
            "names": allocation["assets"],
            "colours": colours(allocation["assets"]),
            "weights": _columns(allocation["weights"], len(allocation["assets"]), _WEIGHT),
        },
        "trading": {
            "turnover": _rounded(trading["turnover"], _TURNOVER),
            "cost": _rounded(trading["cost"], _COST),
            "components": {name: _rounded(cost, _COST) for name, cost in trading["components"].items()},
        },
        "why": _why(document["why"]),
    }


def _curves(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shades = colours([c["name"] for c in curves])
    return [
        {"name": c["name"], "label": c["label"], "colour": colour}
        | {name: _growth(c[name], _RIVAL if place else _AGENT) for name in ("growth", "gross")}
        for place, (c, colour) in enumerate(zip(curves, shades, strict=True))
    ]


def _growth(growth: list[float | None] | None, digits: int) -> list[float | None] | None:
    """Growth whose running sum is rounded: the errors of thousands of sessions do not add up in the wealth."""
    if growth is None:
        return None
    made: list[float | None] = []
    exact = told = 0.0
    for g in growth:
        if g is None:
            made.append(None)
            continue
        exact += g
        step = round(exact - told, digits)
        told += step
        made.append(_one(step, digits))
    return made


def _band(band: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if band is None:
        return None
    seeds = [{"seed": s["seed"], "wealth": _rounded(s["wealth"], _RIVAL)} for s in band["seeds"]]
    ends = {name: _rounded(band[name], _RIVAL) for name in ("low", "high")}
    return {"label": band["label"], **ends, "seeds": seeds}


def _why(why: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if why is None:
        return None
    decisions = why["decisions"]
    return {
        "entries": why["entries"],
        "entry": [[entry for entry, _, _ in decision] for decision in decisions],
        "effect": [[_one(effect, _EFFECT) for _, effect, _ in decision] for decision in decisions],
        "seen": [[_one(value, _VALUE) for _, _, value in decision] for decision in decisions],
    }


def _given(shades: list[Any] | None, n: int) -> list[str] | None:
    """Colours that the document brings, if all are usable: a colour is text that reaches a style."""
    usable = shades is not None and len(shades) == n and all(re.fullmatch("#[0-9a-fA-F]{6}", str(s)) for s in shades)
    return shades if usable else None


def _columns(rows: list[list[float | None]], n: int, digits: int) -> list[list[float | None]]:
    return [[_one(row[k], digits) for row in rows] for k in range(n)]


def _rounded(series: list[float | None] | None, digits: int) -> list[float | None] | None:
    return None if series is None else [_one(x, digits) for x in series]


def _one(x: float | None, digits: int) -> float | int | None:
    if x is None:
        return None
    near = round(x, digits)
    return int(near) if near == int(near) else near
