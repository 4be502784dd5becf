"""Figures as text: values, counts, durations, and the colour of a score."""

import math

GOOD, BAD = 20.0, 0.0
"""A model score above the first is shown green, one below the second red."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def tell(value: float, pattern: str, unit: str = "") -> str:
    """A figure as text; "–" if it is not available. A value that rounds to zero has no minus sign."""
    sign = "+" if pattern.startswith("+") else ""
    return f"{value:{sign}z{pattern.removeprefix('+')}}{unit}" if math.isfinite(value) else "–"


def count(n: int, noun: str) -> str:
    """A number and what it counts: "1 iteration", "2,048 batches"."""
    return f"{n:,} {noun if n == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a noun, by the rules of English spelling; irregular nouns are not known."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


def about(seconds: float) -> str:
    """A duration as precise as a forecast can be: "about 40 s", "about 2 min", "about 3 h 10 min"."""
    if (n := _rounded(seconds, 1 if seconds < 10 else 5)) < _MINUTE:
        return f"about {max(n, 1)} s"
    if (n := _rounded(seconds, _MINUTE)) < _HOUR:
        return f"about {n // _MINUTE} min"
    if (n := _rounded(seconds, 10 * _MINUTE)) < _DAY:
        return f"about {_two(n, _HOUR, 'h', _MINUTE, 'min')}"
    n = _rounded(seconds, _HOUR)
    return f"about {_two(n, _DAY, 'day' if n < 2 * _DAY else 'days', _HOUR, 'h')}"


def time_left(seconds: float | None) -> str:
    """The time that is left, as in "about 40 s left"; empty if it is not known."""
    return "" if seconds is None else f"{about(seconds)} left"


def score_colour(score: float) -> str:
    """The style of a model score: green above +20, red below 0, none between or if it is not available."""
    return "green" if score > GOOD else "red" if score < BAD else ""


def _rounded(seconds: float, unit: int) -> int:
    return unit * math.floor(seconds / unit + 0.5)


def _two(n: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = n % large // small
    return f"{n // large} {large_name}" + (f" {rest} {small_name}" if rest else "")
