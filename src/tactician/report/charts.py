"""What the charts need of a document, as small as the eye allows.

Tables are written by the template, out of the document itself. Rounding concerns the charts and their downloads only.
"""

import re
from collections.abc import Mapping
from typing import Any

from tactician.report.palette import colours

_GROWTH, _WEALTH, _SHARE, _COST, _EFFECT, _VALUE = 7, 5, 4, 7, 5, 2
"""Decimals. A growth of 1e-7 is a thousandth of a basis point."""
_HOLD = "HOLD"


def chart_data(document: Mapping[str, Any]) -> dict[str, Any]:
    """The series of the charts. Tables of sessions × names are turned: one list per name compresses better."""
    regimes, allocation, trading = document["regimes"], document["allocation"], document["trading"]
    names = regimes["names"]
    return {
        "dates": document["dates"],
        "kind": document["kind"],
        "curves": _curves(document["curves"]),
        "band": _band(document["band"]),
        "regimes": {
            "names": names,
            "colours": _given(regimes["colours"], len(names)) or colours(names),
            "hold": names.index(_HOLD) if _HOLD in names else -1,
            "chosen": regimes["chosen"],
            "probabilities": _columns(regimes["probabilities"], len(names)),
        },
        "allocation": {
            "names": allocation["assets"],
            "colours": colours(allocation["assets"]),
            "weights": _columns(allocation["weights"], len(allocation["assets"])),
        },
        "trading": {
            "turnover": _rounded(trading["turnover"], _SHARE + 1),
            "cost": _rounded(trading["cost"], _COST),
            "components": {name: _rounded(cost, _COST) for name, cost in trading["components"].items()},
        },
        "why": _why(document["why"]),
    }


def _curves(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shades = colours([c["name"] for c in curves])
    return [
        {"name": c["name"], "label": c["label"], "colour": colour}
        | {"growth": _rounded(c["growth"], _GROWTH), "gross": _rounded(c["gross"], _GROWTH)}
        for c, colour in zip(curves, shades, strict=True)
    ]


def _band(band: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if band is None:
        return None
    seeds = [{"seed": s["seed"], "wealth": _rounded(s["wealth"], _WEALTH)} for s in band["seeds"]]
    ends = {name: _rounded(band[name], _WEALTH) for name in ("low", "high")}
    return {"label": band["label"], **ends, "seeds": seeds}


def _why(why: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if why is None:
        return None
    decisions = [
        [[entry, _one(effect, _EFFECT), _one(standing, _VALUE)] for entry, effect, standing in decision]
        for decision in why["decisions"]
    ]
    return {"entries": why["entries"], "decisions": decisions}


def _given(shades: list[Any] | None, n: int) -> list[str] | None:
    """Colours that the document brings, if all are usable: a colour is text that reaches a style."""
    usable = shades is not None and len(shades) == n and all(re.fullmatch("#[0-9a-fA-F]{6}", str(s)) for s in shades)
    return shades if usable else None


def _columns(rows: list[list[float | None]], n: int) -> list[list[float | None]]:
    return [[_one(row[k], _SHARE) for row in rows] for k in range(n)]


def _rounded(series: list[float | None] | None, digits: int) -> list[float | None] | None:
    return None if series is None else [_one(x, digits) for x in series]


def _one(x: float | None, digits: int) -> float | int | None:
    if x is None:
        return None
    near = round(x, digits)
    return int(near) if near == int(near) else near
