"""What a sweep searches: a configuration key per word, with a range or a list of values.

``gamma=0.9..0.99`` is a range, ``actor_lr=1e-4..3e-3@log`` one in which each factor of ten is as likely as another, and
``hidden_dim=16,32,64`` a list.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from tactician.config import DURATIONS, Config, make_config
from tactician.errors import UserError
from tactician.training.lineage import HARMLESS
from tactician.training.resume import OF_DATA
from tactician.training.setup import learning_rates

_SOURCE = "--keys"
_LOG = "@log"
_DIGITS = 4
"""Significant digits of a value from a range, so that the setting can be typed again."""

OF_COSTS = frozenset(
    {"spread", "slippage_max", "impact", "commission", "impact_adv", "impact_linear", "portfolio_value"}
)
_OF_THE_CHOICE = frozenset({"best_by", "validate_every"})


@dataclass(frozen=True)
class Range:
    """All numbers between two."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool
    """Whether they are whole numbers."""

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def setting(self, drawn: float) -> float:
        """A drawn number as it is set."""
        if self.whole:
            return int(drawn)
        return min(max(float(f"{drawn:.{_DIGITS}g}"), self.low), self.high)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that stand for all."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.name} {self.low:g} to {self.high:g}{' (logarithmic)' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """Some values, without an order."""

    name: str
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.values

    def setting(self, drawn: Any) -> Any:
        """A drawn value as it is set."""
        return drawn

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that stand for all."""
        return self.values

    def __str__(self) -> str:
        return f"{self.name} {', '.join(map(told, self.values))}"


Key = Range | Choice


def parse_keys(words: Sequence[str], config: Config) -> tuple[Key, ...]:
    """The keys of a sweep.

    Args:
        words: one per key.
        config: the other settings, with which each value must go together.

    Raises:
        UserError: names the key at fault and what to write.
    """
    if not words:
        raise UserError("--keys names nothing to search; write for example --keys gamma=0.9..0.99 hidden_dim=16,32,64.")
    keys: dict[str, Key] = {}
    for word in words:
        written, equals, values = word.partition("=")
        name = written.strip().lstrip("-").replace("-", "_")
        _refuse_key(name)
        if name in keys:
            raise UserError(f"{_SOURCE} names '{name}' twice; name it once, with all of its values.")
        if not equals or not values.strip():
            raise UserError(f"{_SOURCE} has no values of '{name}'; write {name}=LOW..HIGH, or {name}=A,B,C.")
        keys[name] = _key(name, values.strip(), config)
    return tuple(keys.values())


def refuse_impossible(keys: Sequence[Key], config: Config) -> None:
    """Try each value with the other settings.

    Raises:
        UserError: the configuration's own, which names the key.
    """
    for key in keys:
        for value in key.ends:
            changed(config, {key.name: value})


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with some keys set.

    Raises:
        UserError: a value cannot be, or two settings contradict one another.
    """
    return make_config({**config.model_dump(), **settings}, _SOURCE)


def value_in(config: Config, name: str) -> Any:
    """A key's value, also where a run chooses it: the learning rates follow the width."""
    return learning_rates(config).get(name, getattr(config, name))


def told(value: Any) -> str:
    """A value as a person reads it."""
    return "None" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _refuse_key(name: str) -> None:
    if name not in Config.model_fields:
        near = difflib.get_close_matches(name, Config.model_fields, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else "docs/configuration.md lists the known ones."
        raise UserError(f"{_SOURCE}: unknown key '{name}'; {hint}")
    reasons = (
        ({"seed"}, "is luck, not a setting; repeat each trial with --seeds N instead"),
        (DURATIONS, f"is the same for all trials; give it as a flag, --{name} N"),
        (OF_COSTS, "is what a trade costs, so trials would not be comparable; give it as a flag"),
        (OF_DATA | {"validation_until"}, "makes the market or its ranges, which all trials share; leave it out"),
        (HARMLESS | _OF_THE_CHOICE, "does not affect what is learnt; leave it out"),
    )
    for names, reason in reasons:
        if name in names:
            raise UserError(f"{_SOURCE} cannot search '{name}': it {reason}.")


def _key(name: str, written: str, config: Config) -> Key:
    body, at, scale = written.partition("@")
    if at and at + scale != _LOG:
        raise UserError(
            f"{_SOURCE}: '{at}{scale}' of '{name}' is no scale; write {name}=LOW..HIGH{_LOG}, or leave it out."
        )
    low, dots, high = body.partition("..")
    if not dots:
        if at:
            raise UserError(
                f"{_SOURCE}: {_LOG} is for a range; write {name}=LOW..HIGH{_LOG}, or leave it out of the list."
            )
        return _choice(name, body, config)
    ends = [_value(name, end, config) for end in (low, high)]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise UserError(f"{_SOURCE}: '{name}' is no number and has no range; list its values, {name}=A,B.")
    if not ends[0] < ends[1]:
        raise UserError(
            f"{_SOURCE}: the range of '{name}' is empty, from {told(ends[0])} to {told(ends[1])}; write the lower end first."
        )
    if at and ends[0] <= 0:
        raise UserError(f"{_SOURCE}: a logarithmic range of '{name}' cannot begin at {told(ends[0])}; begin above 0.")
    return Range(name, ends[0], ends[1], bool(at), isinstance(ends[0], int))


def _choice(name: str, body: str, config: Config) -> Choice:
    values = tuple(dict.fromkeys(_value(name, part, config) for part in body.split(",")))
    if len(values) < 2:
        raise UserError(
            f"{_SOURCE}: '{name}' has only one value, {told(values[0])}; add others, {name}=A,B, or set the key without "
            f"searching it."
        )
    return Choice(name, values)


def _value(name: str, written: str, config: Config) -> Any:
    written = written.strip()
    if not written:
        raise UserError(f"{_SOURCE}: a value of '{name}' is empty; write {name}=LOW..HIGH, or {name}=A,B,C.")
    optional = NoneType in get_args(Config.model_fields[name].annotation)
    value = None if written == "None" and optional else written
    return getattr(changed(config, {name: value}), name)
