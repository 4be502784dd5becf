"""Summary statistics of samples for the screen, computed on the device over all processes. Learning does not use them."""

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from tactician.learning.collective import ALONE, Collective
from tactician.learning.sequences import moments

STATISTIC = "stat_"
"""Prefix of the names of these figures, which are printed and not kept."""


def describe(
    name: str,
    x: Shaped[Tensor, "step env"],
    valid: Bool[Tensor, "step env"] | None = None,
    collective: Collective = ALONE,
) -> dict[str, Tensor]:
    """Mean, standard deviation, minimum and maximum of the samples that count, as stat_NAME_mean, …_std, …_min, …_max."""
    mean, variance = moments(x, valid, collective)
    low, high = extremes(x, valid, collective)
    figures = {"mean": mean, "std": variance.sqrt(), "min": low, "max": high}
    return {f"{STATISTIC}{name}_{which}": figure for which, figure in figures.items()}


def extremes(
    x: Shaped[Tensor, "..."], valid: Bool[Tensor, "..."] | None = None, collective: Collective = ALONE
) -> tuple[Shaped[Tensor, ""], Shaped[Tensor, ""]]:
    """Smallest and largest of the samples that count, over all processes, in double precision."""
    low = high = x.double()
    if valid is not None:  # a process may have none that counts
        low, high = low.masked_fill(~valid, torch.inf), high.masked_fill(~valid, -torch.inf)
    negative_low, largest = collective.largest(torch.stack([-low.min(), high.max()])).unbind()
    return -negative_low, largest
