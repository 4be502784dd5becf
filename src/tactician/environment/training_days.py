"""How far a market lies from the days that a model was trained on: names in common, and one distance.

The distance is taken from what the policy sees, the standardised features. So it means the same for any universe, and needs
none of the training's data: a checkpoint keeps its percentiles over the training days.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.environment.features import FEATURE_NAMES
from tactician.environment.market_tensors import MarketTensors
from tactician.monitor.wording import count

_KEY = "training_days"
"""Where a checkpoint keeps them."""
OLDER = "not known: the model is older"
"""Said of what a checkpoint does not keep."""

_UNIT = "standard deviations from the centre of the training, where a day of its own has about 1"
_PERCENTS = range(101)
_NAMED = 3
"""Features that are named with a distance."""


def distances(features: Float[Tensor, "day feature"]) -> Float[Tensor, " day"]:
    """The distance of each day from the centre of the training days, in standard deviations.

    It is the root mean square of the standardised features, √(Σ z²/44): their Euclidean distance from the training mean,
    divided by √44. A feature counts up to ±5, as the policy sees it (`normalise`). Over the training days the mean of the
    square is about 1.

    Args:
        features: standardised by the model's normaliser.

    Returns:
        float64, on the CPU.
    """
    return features.double().square().mean(-1).sqrt().cpu()


@dataclass(frozen=True)
class TrainingDays:
    """The distances of the training days, as a checkpoint keeps them."""

    percentiles: Float[Tensor, "101"]
    """The p-th is the smallest distance that at least p % of the days do not exceed; the first is the smallest of all."""
    sessions: int
    """Number of training days."""

    @classmethod
    def of(cls, market: MarketTensors, rows: range) -> "TrainingDays":
        """Sum up the training days.

        Args:
            market: its features are normalised.
            rows: the training range, at least one row.
        """
        found = distances(market.features[rows.start : rows.stop]).sort().values
        n = len(found)
        # The inverse of the empirical distribution (Hyndman and Fan 1996, "Sample Quantiles", definition 1): ⌈np⌉.
        places = [max(-(-n * p // 100), 1) - 1 for p in _PERCENTS]
        return cls(found[places], n)

    @classmethod
    def kept_in(cls, content: Mapping[str, Any]) -> "TrainingDays | None":
        """What a checkpoint keeps; None in those of before it was kept."""
        kept = content.get(_KEY)
        return None if kept is None else cls(kept["percentiles"], int(kept["sessions"]))

    def as_dict(self) -> dict[str, Any]:
        """The part of a checkpoint that `kept_in` reads."""
        return {_KEY: {"percentiles": self.percentiles, "sessions": self.sessions}}

    def percent_nearer(self, distance: float) -> int:
        """Percent of the training days that certainly lie nearer than a distance; 100 if all do."""
        return max(int((self.percentiles < distance).sum()) - 1, 0)

    def in_medians(self, distance: float) -> float:
        """A distance as a multiple of the median training day's; NaN if that is zero."""
        median = float(self.percentiles[50])
        return distance / median if median > 0 else math.nan


@dataclass(frozen=True)
class Distance:
    """A distance beside those of the training days."""

    value: float
    """See `distances`."""
    training: TrainingDays | None
    """None if the model is older."""
    largest: tuple[str, ...] = ()
    """The features that account for most of it, the largest first."""

    @classmethod
    def of_day(cls, features: Float[Tensor, " feature"], training: TrainingDays | None) -> "Distance":
        """Of a day's standardised features."""
        return cls(float(distances(features[None])[0]), training, _largest(features.square()))

    @property
    def percent(self) -> int | None:
        """Percent of the training days that lie nearer; None if not known."""
        return None if self.training is None else self.training.percent_nearer(self.value)

    @property
    def told(self) -> str:
        """In words that continue 'farther from the centre of the training than': '97 % of its days'."""
        if self.percent is None:
            return OLDER
        return "all of its days" if self.percent == 100 else f"{self.percent} % of its days"

    @property
    def sentence(self) -> str:
        """What a day's distance means."""
        if self.training is None:
            return f"Distance: this day lies {self.value:.2f} {_UNIT}. How many of its days lie nearer is {OLDER}."
        return (
            f"Distance: this day lies farther from the centre of the training than {self.told}, "
            f"{self.training.in_medians(self.value):.1f} × as far as the median one. Most of it: {', '.join(self.largest)}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None for what is not known."""
        return {**_place(self.value, self.training), **_background(self.training, self.largest)}


@dataclass(frozen=True)
class RangeDistance:
    """The distances of the days of a range, beside those of the training days."""

    median: float
    high: float
    """The 95th percentile."""
    beyond: float | None
    """Share of the days that lie farther than every training day; None if not known."""
    training: TrainingDays | None
    """None if the model is older."""
    largest: tuple[str, ...]
    """The features that account for most of the range's squared distances, the largest first."""

    @classmethod
    def of(cls, market: MarketTensors, rows: range, training: TrainingDays | None) -> "RangeDistance":
        """Of a normalised market's rows, at least one."""
        features = market.features[rows.start : rows.stop]
        found = distances(features)
        middle, high = (float(x) for x in found.quantile(torch.tensor([0.5, 0.95], dtype=found.dtype)))
        beyond = None if training is None else float((found > training.percentiles[-1]).double().mean())
        return cls(middle, high, beyond, training, _largest(features.double().square().mean(0)))

    @property
    def sentence(self) -> str:
        """What it means."""
        median, high = Distance(self.median, self.training), Distance(self.high, self.training)
        if self.beyond is None:
            return (
                f"Distance: the median day of this range lies {self.median:.2f}, and the 95th percentile {self.high:.2f} "
                f"{_UNIT}. How many of its days lie nearer is {OLDER}."
            )
        return (
            f"Distance: the median day of this range lies farther from the centre of the training than {median.told}, and "
            f"the 95th percentile farther than {high.told.removesuffix(' of its days')}. Days farther than all: "
            f"{100 * self.beyond:.1f} %. Most of it: {', '.join(self.largest)}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None for what is not known."""
        return {
            "median": _place(self.median, self.training),
            "p95": _place(self.high, self.training),
            "farther_than_all": self.beyond,
            **_background(self.training, self.largest),
        }


def _place(value: float, training: TrainingDays | None) -> dict[str, float | None]:
    """A distance and its place among the training days; None for what is not known."""
    if training is None:
        return {"value": value, "farther_than": None, "in_medians": None}
    medians = training.in_medians(value)
    farther = training.percent_nearer(value) / 100
    return {"value": value, "farther_than": farther, "in_medians": medians if math.isfinite(medians) else None}


def _background(training: TrainingDays | None, largest: tuple[str, ...]) -> dict[str, Any]:
    return {
        "largest": list(largest),
        "training_sessions": None if training is None else training.sessions,
        "note": OLDER if training is None else None,
    }


def _largest(squares: Float[Tensor, " feature"]) -> tuple[str, ...]:
    order = squares.argsort(descending=True, stable=True)[:_NAMED]
    return tuple(FEATURE_NAMES[k] for k in order.tolist())


@dataclass(frozen=True)
class Names:
    """The names of a universe beside those of a model's training."""

    asked: tuple[str, ...]
    """Symbols to decide for."""
    own: tuple[str, ...]
    """Symbols of the model's training."""
    seen: tuple[str, ...] = ()
    """Symbols that it or an ancestor has seen."""
    held_out: tuple[str, ...] = ()
    """Those of its own that were held out from the training."""

    @property
    def is_other(self) -> bool:
        """Whether it is another universe than that of the training. The order of the names does not count."""
        return set(self.asked) != set(self.own)

    @property
    def in_training(self) -> int:
        """How many names the training had."""
        return len(self._trained)

    @property
    def common(self) -> int:
        """How many names of the universe were in the training."""
        return len({*self.asked} & self._trained)

    @property
    def _trained(self) -> set[str]:
        return {*self.own, *self.seen} - {*self.held_out}

    @property
    def told_held_out(self) -> str:
        """Which names of the model's own universe were held out, in a sentence; '' if none were, or it is another universe."""
        if self.is_other or not self.held_out:
            return ""
        return (
            f"Training never saw {len(self.held_out)} of the {len(self.own)} names, which are held out: "
            f"{', '.join(self.held_out)}."
        )

    @property
    def clause(self) -> str:
        """What a verdict ends with, of another universe."""
        return f"{self._never} ({self.common} of its {count(len(self.asked), 'name')} in common)"

    @property
    def sentence(self) -> str:
        """What a person has to know first, of another universe."""
        return (
            f"{self._never}: {self.common} of its {count(len(self.asked), 'name')} are among the {self.in_training} of the "
            "training."
        )

    @property
    def _never(self) -> str:
        # With all names in common an ancestor may have been trained on just these, so less is claimed.
        if self.common == len(self.asked):
            return "the model's last training was on another universe"
        return "the model was never trained on this universe"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trained_on": not self.is_other,
            "names": len(self.asked),
            "names_in_common": self.common,
            "names_in_training": self.in_training,
        }
