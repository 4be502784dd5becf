"""A check, before a run begins, that a GPU's kernels step, observe and draw actions as plain operations do."""

from dataclasses import replace

import torch
from torch import Tensor

from tactician.environment import (
    Environment,
    Stream,
    first_state,
    mixed,
    observe,
    portfolio_index,
    step,
    uniform_after,
    uses_kernels,
)
from tactician.learning.rollout import sample_action, sample_action_eager

_WINDOWS = 64
_STEPS = 8
_TOLERANCE = 1e-3
"""Largest difference of an observation, a weight or a reward in percent. Rounding makes some 1e-5."""


def settle_environment(env: Environment) -> tuple[Environment, str | None]:
    """Use the kernels if they agree with the plain operations on some windows and steps.

    Args:
        env: whose ``fused`` asks for the kernels.

    Returns:
        The environment with ``fused`` as it can be, and what the user should be told if that is not what was asked for.
    """
    if not uses_kernels(env):
        return replace(env, fused=False), None
    try:
        error = _difference(env, replace(env, fused=False))
        reason = f"differ by {error:.1g} from their definition"
    except Exception as problem:  # a compiler of kernels raises whatever it likes
        error, reason = float("inf"), f"failed ({(str(problem) or repr(problem)).splitlines()[0][:80]})"
    if error <= _TOLERANCE:
        return env, None
    told = f"The environment's kernels {reason} on this GPU: slower plain operations are used instead (docs/gpu.md)."
    return replace(env, fused=False), told


def _difference(one: Environment, other: Environment) -> float:
    """Largest absolute difference of what is seen, held and earned, from the same states on."""
    device = one.market.device
    state = first_state(one, torch.arange(_WINDOWS, device=device))
    largest: list[Tensor] = []
    for t in range(_STEPS):
        seen = [observe(env, state) for env in (one, other)]
        # Every action comes up, HOLD among them.
        action = (torch.arange(len(state.regime), device=device) + t) % one.market.regimes.n_actions
        largest.append(_sampling_error(env=one, index=portfolio_index(one, state)))
        (after, earned), (after_too, earned_too) = (step(env, state, action) for env in (one, other))
        pairs = (seen, (after.holdings, after_too.holdings), (earned.reward, earned_too.reward))
        largest += [(a - b).abs().max() for a, b in pairs]
        state = after_too
    worst = torch.stack(largest).max()
    return float(torch.nan_to_num(worst, nan=torch.inf))


def _sampling_error(env: Environment, index: Tensor) -> Tensor:
    """Share of actions that the kernel draws differently; few lie within the rounding of an edge."""
    number = mixed(env.seed, Stream.ACTION)
    logits = torch.linspace(-2, 2, env.market.regimes.n_actions, device=index.device) * torch.cos(
        index[:, None].float()
    )
    drawn, _ = sample_action(logits, number, index, fused=True)
    expected, _ = sample_action_eager(logits, uniform_after(number, index))
    return ((drawn != expected).float().mean() - 2 / len(index)).clamp(min=0)
