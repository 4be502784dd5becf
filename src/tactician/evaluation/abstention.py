"""How far to follow what was learnt, from days that it was not learnt on; nothing is found if they do not show it.

Each member of an ensemble is judged on a piece of the training range that it never saw. Together the pieces cover the range. So
the training range itself tells whether the way of learning finds something there that holds on other days.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tactician.evaluation.agent import Evaluation
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT
from tactician.evaluation.inference import Interval, growth_difference
from tactician.evaluation.inference.resampling import Series
from tactician.policy import EqualWeight
from tactician.portfolio.regimes import equal_weight_action

_NORMAL_975 = 1.959963984540054

_WHOLE = 0.95
"""Strength from which the agent is followed all the way. The estimate is then 4.5 standard errors above zero: no doubt is left
that shrinking could serve, and every percent of equal weight costs a percent of what was found."""


@dataclass(frozen=True)
class HeldOut:
    """A member on the days that were held out from it."""

    first: str
    last: str
    beyond_equal_weight: float
    """Annual log growth beyond equal weight, net of costs."""
    turnover: float
    """Annual, in portfolios."""


@dataclass(frozen=True)
class Found:
    """What an ensemble's members earn on days that they have not seen, and how far it is therefore followed."""

    pieces: tuple[HeldOut, ...]
    difference: Interval
    """Annual log growth beyond equal weight over all pieces, net of costs, with its 95 % confidence interval."""

    @property
    def strength(self) -> float:
        """How far targets go from equal weight to the agent's, in [0, 1]: 0 unless the interval lies above zero.

        Of an estimate d with standard error s, the multiple with the least expected squared error is 1 − s²/d², with the
        plug-in for the true d² (James and Stein 1961, the positive part). s is taken from the interval's lower half. From
        0.95 on it is 1.
        """
        value, low = self.difference.value, self.difference.low
        if not (math.isfinite(value) and math.isfinite(low) and low > 0):
            return 0.0
        error = (value - low) / _NORMAL_975
        strength = max(0.0, 1 - (error / value) ** 2)
        return 1.0 if strength >= _WHOLE else strength

    @property
    def sentence(self) -> str:
        """What was found, for a reader."""
        if not math.isfinite(self.difference.value):
            return "hold equal weight: nothing found (the held-out days give no figure)"
        value, low, high = (
            f"{100 * x:+.1f}" for x in (self.difference.value, self.difference.low, self.difference.high)
        )
        measured = f"held-out days: {value} % per year beside equal weight, 95 % confidence interval {low} to {high}"
        if not self.strength:
            return f"hold equal weight: nothing found ({measured})"
        return f"follow the agent for {100 * self.strength:.0f} %, and equal weight for the rest ({measured})"

    @property
    def told(self) -> str:
        """The sentence as one that stands alone."""
        return f"{self.sentence[0].upper()}{self.sentence[1:]}."

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them."""
        return {
            "strength": self.strength,
            "sentence": self.sentence,
            "difference": [self.difference.value, self.difference.low, self.difference.high],
            "pieces": [vars(piece).copy() for piece in self.pieces],
        }


def found_from(content: dict[str, Any]) -> Found:
    """The inverse of `Found.as_dict`."""
    return Found(tuple(HeldOut(**piece) for piece in content["pieces"]), Interval(*content["difference"]))


def weigh(pieces: Sequence[HeldOut], gaps: Sequence[Series], per_year: int) -> Found:
    """Put the members' judgements on their held-out pieces together.

    Args:
        pieces: one per member, in the order of time.
        gaps: log growth per session beyond equal weight, of each piece.
        per_year: sessions per year.
    """
    gap = np.concatenate(list(gaps))
    return Found(tuple(pieces), growth_difference(gap, np.zeros_like(gap), per_year))


def on_held_out_days(judged: Evaluation) -> tuple[HeldOut, Series]:
    """A member's judgement as `weigh` takes it."""
    path = judged.path
    gap = path.growth[:, path.column(AGENT)] - path.growth[:, path.column(EQUAL_WEIGHT)]
    turnover = judged.performances[AGENT].annual_turnover
    return HeldOut(judged.first, judged.last, judged.growth_beyond_equal_weight, turnover), gap.cpu().numpy()


def hold_equal_weight(obs_dim: int, regime_names: Sequence[str]) -> EqualWeight:
    """The policy of an ensemble that has found nothing.

    With a strength of 0 every regime holds equal weight, and the one of that name says so.

    Args:
        obs_dim: entries of an observation.
        regime_names: of the table, in order.
    """
    return EqualWeight(obs_dim, len(regime_names), equal_weight_action(regime_names))
