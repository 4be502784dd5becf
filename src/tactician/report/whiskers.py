"""Confidence intervals as small pictures: a line from end to end, a dot for the estimate, a mark at zero."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

Span = tuple[float, float]
_MARGIN = 4.0  # per cent at each side, so that a dot at the end is whole


def span(rows: Iterable[Mapping[str, Any]]) -> Span:
    """The scale that all intervals of a table share; zero is on it."""
    return _around(x for row in rows for x in (row["low"], row["high"]))


def strategy_span(strategies: Iterable[Mapping[str, Any]], interval: str) -> Span:
    """The same for one interval of the strategies. Hindsight is left out: it would squeeze all others to nothing."""
    kept = [s for s in strategies if s["available"] and s["group"] != "hindsight"]
    return _around(x for s in kept for x in s["intervals"].get(interval) or ())


def whisker(
    value: float | None, low: float | None, high: float | None, scale: Span, words: str, zero: str = ""
) -> Markup:
    """An interval as a picture on a scale. An end beyond the scale is drawn as an arrow.

    Args:
        value: the estimate, or None.
        low: lower end.
        high: upper end.
        scale: what the left and right edges of the picture stand for.
        words: what is read aloud instead.
        zero: what stands under the mark at zero.
    """
    if low is None or high is None:
        return Markup("")
    first, last, middle = _place(low, scale), _place(high, scale), _place(0.0, scale)
    side = "above" if low > 0 else "below" if high < 0 else "across"
    parts = [
        Markup('<line class="zero" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(middle),
        Markup('<line class="reach" x1="{}%" x2="{}%" y1="50%" y2="50%"/>').format(first, last),
    ]
    for end, at in ((low, first), (high, last)):
        if scale[0] <= end <= scale[1]:
            parts.append(Markup('<line class="reach" x1="{0}%" x2="{0}%" y1="28%" y2="72%"/>').format(at))
    if low < scale[0]:
        parts.append(Markup('<text class="beyond" x="{}%" y="50%">‹</text>').format(_place(scale[0], scale)))
    if high > scale[1]:
        parts.append(Markup('<text class="beyond" x="{}%" y="50%">›</text>').format(_place(scale[1], scale)))
    if zero:
        anchor = "start" if middle < 20 else "end" if middle > 80 else "middle"
        label = Markup('<text class="label" x="{}%" y="100%" dy="14" text-anchor="{}">{}</text>')
        parts.append(label.format(middle, anchor, zero))
    if value is not None and scale[0] <= value <= scale[1]:
        parts.append(Markup('<circle cx="{}%" cy="50%" r="4"/>').format(_place(value, scale)))
    picture = Markup('<svg class="whisker {}" role="img" aria-label="{}">{}</svg>')
    return picture.format(side, words, Markup("").join(parts))


def _around(ends: Iterable[float | None]) -> Span:
    known: Sequence[float] = [x for x in ends if x is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    return (low, high) if high > low else (-1.0, 1.0)


def _place(x: float, scale: Span) -> float:
    share = min(max((x - scale[0]) / (scale[1] - scale[0]), 0.0), 1.0)
    return round(_MARGIN + share * (100 - 2 * _MARGIN), 2)
