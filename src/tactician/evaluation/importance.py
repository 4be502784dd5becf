"""What moved a decision: occlusion of one observation at a time.

Zeiler and Fergus (2014, "Visualizing and understanding convolutional networks") cover a part of the input and look at the
output. Here the part is one entry of the observation on one day. It is replaced by its mean, while everything else stays,
the recurrent state included.

The result says what the policy reads, not what moves the market. It has three limits:

* Entries that say nearly the same, such as volatilities over 20 and 60 sessions, share their effect: each one alone hardly
  matters while the others are still there. Effects do not add up.
* An entry is covered on the day of the decision only. What the policy remembers of earlier days is not.
* Observations with one entry replaced may be such as never occur.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import FEATURE_NAMES
from tactician.policy import Network

METHOD = (
    "Occlusion: on the day of the decision one observation is replaced by its mean, and everything else stays, the memory of "
    "earlier days included. The effect is what the log-probability of the chosen regime loses: above zero, the observation "
    "spoke for the choice. The importance over the range is the mean shift of probability between regimes, as a share of the "
    "sum over all observations. Observations that say nearly the same share their effect."
)
"""The method in words, for a reader of a report."""

_BLOCK = 4096
"""Days in one forward pass."""
_NOTHING = 1e-12
"""A smaller total shift of probability is none."""


@dataclass(frozen=True)
class Importance:
    """What the entries of the observation did to T decisions."""

    effects: Float[Tensor, "step obs"]
    """Log-probability of the chosen action less that without the entry. Above zero, the entry spoke for the choice."""
    values: Float[Tensor, "step obs"]
    """The observations: market features in standard deviations from their training mean, portfolio entries as they are."""
    shares: Float[Tensor, " obs"]
    """Mean total variation distance between the action probabilities with and without the entry, as a share of the sum over
    all entries. All are 0 if no entry has any effect."""

    def top(self, k: int = 10) -> list[list[tuple[int, float, float]]]:
        """Per decision, the at most k entries with the largest effect, without those that have none.

        Returns:
            Entry, effect and value of each, the largest absolute effect first.
        """
        order = self.effects.abs().argsort(dim=1, descending=True, stable=True)[:, :k]
        rows = zip(
            order.tolist(), self.effects.gather(1, order).tolist(), self.values.gather(1, order).tolist(), strict=True
        )
        return [[one for one in zip(*row, strict=True) if one[1] != 0] for row in rows]


def reference_values(observations: Float[Tensor, "step obs"]) -> Float[Tensor, " obs"]:
    """What a covered entry shows: 0 for a market feature, its training mean, and for the portfolio's the mean of the path."""
    means = observations.mean(0)
    means[: len(FEATURE_NAMES)] = 0
    return means


@torch.no_grad()
def occlude(
    policies: Sequence[Network],
    observations: Float[Tensor, "step obs"],
    hidden: Sequence[Float[Tensor, "step layer hidden"]],
    chosen: Int64[Tensor, " step"],
    reference: Float[Tensor, " obs"] | None = None,
) -> Importance:
    """Cover each entry of each observation, and see how the decision changes.

    Args:
        policies: one, or an ensemble whose action probabilities are averaged.
        observations: of the decisions, as the policies saw them.
        hidden: of each policy, its recurrent state before each decision.
        chosen: the action taken in each.
        reference: what a covered entry shows; default: `reference_values`.

    Returns:
        Effects and shares, float64 on the CPU.

    Raises:
        ValueError: there is no policy or no decision, or not one recurrent state per policy.
    """
    if not policies or len(policies) != len(hidden) or len(observations) == 0:
        raise ValueError(f"{len(policies)} policies, {len(hidden)} states, {len(observations)} decisions to explain")
    reference = reference_values(observations) if reference is None else reference
    effects = torch.empty(observations.shape, dtype=torch.float64)
    shifts = torch.empty_like(effects)
    for rows in torch.arange(len(observations)).split(_BLOCK):
        block = slice(int(rows[0]), int(rows[-1]) + 1)
        seen, states = observations[block], [h[block].transpose(0, 1).contiguous() for h in hidden]
        whole, action = _log_probabilities(policies, seen, states), chosen[block, None]
        for entry in range(observations.shape[1]):
            covered = seen.clone()
            covered[:, entry] = reference[entry]
            without = _log_probabilities(policies, covered, states)
            effects[block, entry] = (whole - without).gather(1, action)[:, 0].cpu()
            shifts[block, entry] = 0.5 * (whole.exp() - without.exp()).abs().sum(1).cpu()
    mean = shifts.mean(0)
    shares = mean / mean.sum() if mean.sum() > _NOTHING else torch.zeros_like(mean)
    return Importance(effects, observations.double().cpu(), shares)


def _log_probabilities(
    policies: Sequence[Network], seen: Float[Tensor, "env obs"], states: Sequence[Float[Tensor, "layer env hidden"]]
) -> Float[Tensor, "env action"]:
    """Logarithm of the mean action probabilities, float64. Every day is an environment of its own, one step long."""
    each = [
        policy(seen[None], state)[0][0].double().log_softmax(-1) for policy, state in zip(policies, states, strict=True)
    ]
    # The mean of probabilities, without leaving the logarithm: a probability may be too small for a number.
    return torch.stack(each).logsumexp(0) - torch.tensor(float(len(each)), dtype=torch.float64).log()
