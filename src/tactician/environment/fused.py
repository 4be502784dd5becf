"""When the environment runs in fused kernels: if it is asked to, on CUDA, where Triton can be imported.

On a GPU the operations of one step are too small to keep it busy, so the time goes into launching them. There a step is one
kernel, and so is an observation. The eager functions remain the definition; the kernels repeat them within the rounding of
float32, with the same random numbers. This module imports no Triton, which does not exist for every platform.
"""

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tactician.environment.environment import Environment


def uses_kernels(env: "Environment") -> bool:
    """Whether an environment is computed by the kernels."""
    return env.fused and fused_on(env.market.device) and supported(env)


def fused_on(device: torch.device) -> bool:
    """Whether kernels can run on a device."""
    return device.type == "cuda" and _installed()


def supported(env: "Environment") -> bool:
    """Whether the kernels can compute an environment. Impact on traded volume is left to the eager functions."""
    market = env.market
    single = all(x.dtype == torch.float32 for x in (market.returns, market.regime_weights, market.factor_ranks))
    # The observation has four tilts, one per factor.
    return single and env.frictions.impact_adv == 0 and market.factor_ranks.shape[-1] == 4


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
