"""The model score: trading performance and stability of learning in one number, from −90 to +90 (docs/score.md)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tactician.monitor.wording import score_colour

WEIGHTS = {"profitability": 0.4, "reward": 0.2, "value_accuracy": 0.2, "exploration": 0.1, "instability": -0.1}
"""The specification's weights; 'instability' is its penalty."""

_PROFIT_SCALE = 0.005
_REWARD_SCALE = 0.05
_KL_LIMIT, _CLIP_LIMIT = 0.03, 0.3


@dataclass(frozen=True)
class Score:
    """The components, each on a scale that does not depend on the market. NaN means not available."""

    profitability: float
    """tanh(mean trade return · win rate / 0.005), in [−1, 1]."""
    reward: float
    """tanh(mean reward / 0.05 % per session), in [−1, 1]."""
    value_accuracy: float
    """Explained variance, cut to [−1, 1]."""
    exploration: float
    """Entropy over its maximum ln(actions), in [0, 1]."""
    instability: float
    """½·min(1, KL / 0.03) + ½·min(1, clip fraction / 0.3), in [0, 1]."""

    @property
    def total(self) -> float:
        """100 · Σ weight · component; NaN if a component is not available."""
        return 100 * sum(WEIGHTS[name] * value for name, value in asdict(self).items())

    @property
    def style(self) -> str:
        """Colour of the total, the same in all outputs."""
        return score_colour(self.total)


def model_score(metrics: Mapping[str, float], n_actions: int) -> Score:
    """The score of a model.

    Args:
        metrics: figures of an iteration. A figure that is not finite counts as not available. The keys are

            * ``trade_return``: mean simple net return of the closed trades;
            * ``win_rate``: share of the closed trades with a gain;
            * ``reward``: mean, in percent per session;
            * ``explained_variance``;
            * ``entropy``: mean, in nats;
            * ``kl``: mean divergence of the update, in nats;
            * ``clip_fraction``.
        n_actions: actions to choose from, at least 2.
    """
    stability = [
        _cut(metrics[name] / limit, 0, 1) for name, limit in (("kl", _KL_LIMIT), ("clip_fraction", _CLIP_LIMIT))
    ]
    return Score(
        profitability=_tanh(metrics["trade_return"] * metrics["win_rate"] / _PROFIT_SCALE),
        reward=_tanh(metrics["reward"] / _REWARD_SCALE),
        value_accuracy=_cut(metrics["explained_variance"], -1, 1),
        exploration=_cut(metrics["entropy"] / math.log(n_actions), 0, 1),
        instability=sum(stability) / 2,
    )


def _tanh(x: float) -> float:
    return math.tanh(x) if math.isfinite(x) else math.nan


def _cut(x: float, low: float, high: float) -> float:
    return min(max(x, low), high) if math.isfinite(x) else math.nan
