"""Figures as a reader wants them: unit, sign, and words where there is no figure."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup

_SPACE = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_UNKNOWN = "There is no value: too few sessions, or the figure is not defined here."


def percent(x: float | None, digits: int = 1, reason: str | None = None) -> str:
    """A fraction as a percentage with its sign: "+8.3 %"."""
    return missing(reason) if x is None else f"{_fixed(100 * x, digits, '+')}{_SPACE}%"


def share(x: float | None, digits: int = 1, reason: str | None = None) -> str:
    """A fraction as a percentage that cannot be negative: "8.3 %"."""
    return missing(reason) if x is None else f"{_fixed(100 * x, digits)}{_SPACE}%"


def fall(x: float | None, digits: int = 1, reason: str | None = None) -> str:
    """A drawdown, whose sign is always minus: "−28.4 %"."""
    return missing(reason) if x is None else percent(-abs(x), digits)


def times(x: float | None, digits: int = 1, reason: str | None = None) -> str:
    """A multiple: "3.3 ×"."""
    return missing(reason) if x is None else f"{_fixed(x, digits)}{_SPACE}×"


def number(x: float | None, digits: int = 2, reason: str | None = None) -> str:
    """A plain number: "0.92"."""
    return missing(reason) if x is None else _fixed(x, digits)


def signed(x: float | None, digits: int = 2, reason: str | None = None) -> str:
    """A difference of plain numbers: "+0.04"."""
    return missing(reason) if x is None else _fixed(x, digits, "+")


def count(x: int | None, reason: str | None = None) -> str:
    """A count with separators: "1,005"."""
    return missing(reason) if x is None else f"{x:,}"


def day(iso: str) -> str:
    """A date that everyone reads alike: "2 Jan 2019"."""
    at = date.fromisoformat(iso[:10])
    return f"{at.day}{_SPACE}{at:%b}{_SPACE}{at.year}"


def moment(iso: str) -> str:
    """A moment in UTC: "2 Jan 2019, 20:45 UTC"."""
    at = datetime.fromisoformat(iso).astimezone(UTC)
    return f"{day(at.isoformat())}, {at:%H:%M}{_SPACE}UTC"


def quantity(x: float | None, reason: str | None = None) -> str:
    """Shares, with as many decimals as they have: "1,250" or "0.125"."""
    if x is None:
        return missing(reason)
    whole, _, parts = f"{x:z,.9f}".partition(".")
    return f"{whole}.{parts.rstrip('0')}".rstrip(".").replace("-", _MINUS)


def basis_points(x: float | None, digits: int = 1, reason: str | None = None) -> str:
    """Basis points with their sign: "+4.2 bp"."""
    return missing(reason) if x is None else f"{_fixed(x, digits, '+')}{_SPACE}bp"


def dates(pair: Sequence[str] | None) -> str:
    """First and last date of a range."""
    return missing() if pair is None else f"{pair[0]} to {pair[1]}"


def whole_dates(text: str) -> Markup:
    """A text in which no line breaks inside a date."""
    if isinstance(text, Markup):
        return text
    parts = re.split(r"(\d{4}-\d{2}-\d{2})", text)
    return Markup("").join(
        Markup('<span class="date">{}</span>').format(p) if k % 2 else p for k, p in enumerate(parts)
    )


def between(pair: Sequence[float | None] | None, shape: Callable[..., str], digits: int) -> str:
    """An interval in the words of one of these shapes; empty where it has no ends."""
    if pair is None or pair[0] is None or pair[1] is None:
        return ""
    return f"{shape(pair[0], digits)} to {shape(pair[1], digits)}"


def value(x: Any) -> str:
    """A setting of unknown type in one line."""
    if x is None:
        return "none"
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, list):
        return ", ".join(value(part) for part in x) or "none"
    return f"{x:g}" if isinstance(x, float) else str(x)


def missing(reason: str | None = None) -> Markup:
    """Words where a figure would stand; the reason shows on pointing at them."""
    return Markup('<span class="missing" title="{}">not available</span>').format(reason or _UNKNOWN)


def _fixed(x: float, digits: int, sign: str = "") -> str:
    # "z": a value that rounds to zero has no minus sign.
    text = f"{x:{sign}z,.{digits}f}".replace("-", _MINUS)
    return text.removeprefix("+") if float(f"{x:z.{digits}f}") == 0 else text


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": percent,
    "share": share,
    "fall": fall,
    "times": times,
    "number": number,
    "signed": signed,
    "count": count,
    "day": day,
    "moment": moment,
    "quantity": quantity,
    "basis_points": basis_points,
    "dates": dates,
    "value": value,
    "whole_dates": whole_dates,
    "percent_range": lambda pair, digits=1: between(pair, percent, digits),
    "number_range": lambda pair, digits=2: between(pair, number, digits),
    "signed_range": lambda pair, digits=2: between(pair, signed, digits),
}
