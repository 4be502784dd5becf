"""The recurrent state with which an episode begins: empty, or that of a market which was watched before."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment import PORTFOLIO_NAMES, Environment, EnvState, assemble, earliest_row
from tactician.policy import Network

WATCHED = 64
"""Sessions that a market's memory has seen when an episode begins: about a quarter of a year, as in a training sequence."""


def sharing(env: Environment, policy: Network) -> int:
    """Environments in a row that have the same memory: the portfolios of a window, or 1."""
    return env.portfolios_per_window if policy.shares_memory else 1


@torch.no_grad()
def begin_memory(
    env: Environment,
    policy: Network,
    day: Int64[Tensor, " window"],
    masks: Float[Tensor, "mask memory hidden"] | None = None,
) -> Float[Tensor, "layer memory hidden"]:
    """The recurrent state of episodes that begin now: of each window if the policy shares its memory, or of each environment.

    A memory that depends on the market alone has watched the `WATCHED` sessions before the first decision. Those before row
    1 show row 1, since nothing earlier is known. Of several markets, each has its own row 1. Any other memory is empty, since
    there was no portfolio before.

    Args:
        env: gives the market, and the portfolios per window.
        policy: whose memory it is.
        day: row of each window's first decision.
        masks: dropout of the memories.
    """
    if not policy.shares_memory:
        return policy.initial_state(len(day) * env.portfolios_per_window)
    ago = torch.arange(WATCHED, 0, -1, device=day.device)
    watched = torch.maximum(day - ago[:, None], earliest_row(env, day))
    nobody = env.market.features.new_zeros(*watched.shape, len(PORTFOLIO_NAMES))
    return policy.trunk(assemble(env.market, watched, nobody), policy.initial_state(len(day)), masks)[1]


def renew_memory(
    env: Environment,
    policy: Network,
    state: EnvState,
    hidden: Float[Tensor, "layer memory hidden"],
    restarted: Bool[Tensor, " env"],
    masks: Float[Tensor, "mask memory hidden"] | None = None,
) -> Float[Tensor, "layer memory hidden"]:
    """The recurrent state with that of restarted environments begun again; see `begin_memory`."""
    if not policy.shares_memory:
        return torch.where(restarted[:, None], policy.initial_state(1).to(hidden.dtype), hidden)
    # Whoever watches the market for nothing pays for it. So the windows are selected, which waits for the device, once per
    # sequence.
    windows = restarted[:: env.portfolios_per_window].nonzero()[:, 0]
    if len(windows) == 0:
        return hidden
    begun = begin_memory(env, policy, state.day[windows], None if masks is None else masks[:, windows])
    renewed = hidden.clone()
    renewed[:, windows] = begun.to(hidden.dtype)
    return renewed
