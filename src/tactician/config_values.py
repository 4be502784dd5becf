"""Values of settings: how people write whole numbers and dates, and what is said of a wrong value."""

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

COMMAND_LINE = "the command line"
"""The source of settings that are flags."""


def _whole(value: Any) -> Any:
    """A whole number as people write it: 1e6, 2.5e5, 1_000_000. Pydantic refuses the rest."""
    if not isinstance(value, str):
        return value
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        return value
    written_out = number.is_finite() and number.adjusted() < 30  # 1e999999999 would not end
    return int(number) if written_out and number == number.to_integral_value() else value


def _day(value: Any) -> Any:
    """A date as year, month and day. Pydantic would take a number for the seconds since 1970."""
    if value is None or isinstance(value, bool) or type(value) is date:
        return value
    text = str(value)
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise PydanticCustomError("date", "there is no such day ({why})", {"why": str(error)}) from error
    try:
        meant = str(date.fromisoformat(text[:10]))
    except ValueError:
        meant = "2010-01-04"
    raise PydanticCustomError("date", "a date has a year, a month and a day; write it as {day}", {"day": meant})


def _named(value: Any) -> Any:
    """A path. An empty one, of a variable that is not set, would be the folder where the program was started."""
    if isinstance(value, str) and not value.strip():
        raise PydanticCustomError("empty", "it must not be empty")
    return value


def _text_of_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


Named = Annotated[Path, BeforeValidator(_named)]
"""A path that has a name."""
Place = Annotated[str, BeforeValidator(_text_of_path), Field(min_length=1)]
"""The name of something, or its path."""
Whole = Annotated[int, BeforeValidator(_whole)]
NonNegativeInt = Annotated[Whole, Field(ge=0)]
SubSize = Annotated[Whole, Field(ge=2)]
"""A number of names. Fewer than two leave nothing to choose."""
PositiveInt = Annotated[Whole, Field(gt=0)]
Count = Annotated[Whole, Field(gt=0, le=10**12)]
"""A number of steps or samples. Products of larger ones overflow."""
Day = Annotated[date, BeforeValidator(_day)]

_FRACTIONS = ("spread", "slippage_max", "impact", "commission", "impact_linear")
_EXPECTED = {
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "string_type": "give text, in quotes",
    "string_too_short": "it must not be empty",
    "too_short": "it must not be empty",
    "path_type": "give a path, in quotes",
    "literal_error": "give {expected}",
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than": "it must be below {lt}",
    "less_than_equal": "it must be at most {le}",
}
"""What was expected, by pydantic's type of error."""


def explain(error: ValidationError, source: str) -> str:
    """The first complaint of a validation, as one sentence; a key of the command line is called by its flag."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "missing":
        return f"{source}: the key '{key}' is missing; add it."
    reason = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] in _EXPECTED:
        bounds = first.get("ctx", {}).items()
        reason = _EXPECTED[first["type"]].format(**{name: _rounded(bound) for name, bound in bounds})
    hint = "; costs are fractions, so that 0.0002 is 0.02 %" if key in _FRACTIONS else ""
    name = f"--{key.replace('_', '-')}" if source == COMMAND_LINE else f"{source}: '{key}'"
    return f"{name} cannot be {_as_written(first['input'])}: {reason}{hint}."


def _rounded(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _as_written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, Path) else str(value) if isinstance(value, date) else repr(value)


LOWEST_RATE, HIGHEST_RATE = -0.05, 0.3
"""Bounds of an annual rate of cash."""


def rate_fault(rate: Any) -> str | None:
    """Why something cannot be a constant annual rate of cash, with what to write instead; None if it can be."""
    if isinstance(rate, bool) or not isinstance(rate, Real):
        return "an annual rate is a number, 0.02 for 2 %"
    x = float(rate)
    if isfinite(x) and LOWEST_RATE <= x <= HIGHEST_RATE:
        return None
    hint = f"; write {x:g} % as {x / 100:g}" if LOWEST_RATE <= x / 100 <= HIGHEST_RATE else ""
    return f"an annual rate lies between {LOWEST_RATE:g} and {HIGHEST_RATE:g}{hint}"


_PERCENT = re.compile(r"([-+]?(?:\d+[.,]?\d*|[.,]\d+))\s*%")


def _cash_rate(value: Any) -> Any:
    """A constant rate (in quotes or not), or the path of a file."""
    if isinstance(value, str | Path) and (percent := _PERCENT.fullmatch(str(value).strip())):
        rate = float(percent[1].replace(",", ".")) / 100
        beyond = f"an annual rate lies between {LOWEST_RATE:g} and {HIGHEST_RATE:g}"
        said = f"write {100 * rate:g} % as {rate:g}" if LOWEST_RATE <= rate <= HIGHEST_RATE else beyond
        raise PydanticCustomError("cash_rate", "{fault}", {"fault": said})
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return Path(value)
    if not isinstance(value, Path) and (fault := rate_fault(value)):
        raise PydanticCustomError("cash_rate", "{fault}", {"fault": fault})
    return value


CashRate = Annotated[float | Path, BeforeValidator(_cash_rate)]
"""What cash earns: a constant annual rate, or the path of a file of rates."""

CostShare = Annotated[float, Field(ge=0, le=0.1)]
"""A coefficient of cost, as a fraction. A larger one was meant as percent or basis points."""

CostFactor = Annotated[float, Field(ge=0.01, le=100)]
"""A factor of all costs."""
