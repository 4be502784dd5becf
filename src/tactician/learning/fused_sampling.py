"""Drawing actions, with their random numbers, in one kernel. `rollout.sample_action_eager` is its definition."""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment.fused_parts import absorb, as_uniform

TILE = 1024
"""Numbers in a tile, environments × actions. A benchmark may try other powers of two."""


@triton.jit(do_not_specialize=["number", "n_envs", "n_actions"])
def _sample(
    action: tl.tensor,
    log_prob: tl.tensor,
    logits: tl.tensor,
    index: tl.tensor,
    number: tl.tensor,  # of 64 bits, or the address of one
    n_envs: tl.tensor,
    n_actions: tl.tensor,
    in_memory: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    env = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    there = env < n_envs
    column = tl.arange(0, lanes)[None, :]
    known = column < n_actions
    x = tl.load(logits + env[:, None] * n_actions + column, mask=there[:, None] & known, other=0.0).to(tl.float32)
    x = tl.where(known, x, float("-inf"))
    shifted = x - tl.max(x, axis=1)[:, None]
    log_probs = shifted - tl.log(tl.sum(tl.exp(shifted), axis=1))[:, None]
    edges = tl.cumsum(tl.exp(log_probs), axis=1)
    begun = number
    if in_memory:
        begun = tl.load(number)
    place = as_uniform(absorb(begun, tl.load(index + env, mask=there, other=0)))
    # The last edge may round to below 1, and then no action is left above it.
    chosen = tl.sum(((place[:, None] >= edges) & known).to(tl.int32), axis=1)
    chosen = tl.minimum(chosen, n_actions - 1)
    tl.store(action + env, chosen.to(tl.int64), mask=there)
    tl.store(log_prob + env, tl.sum(tl.where(column == chosen[:, None], log_probs, 0.0), axis=1), mask=there)


def fused_sample_action(
    logits: Float[Tensor, "env action"], number: int | Int64[Tensor, "1"], index: Int64[Tensor, " env"]
) -> tuple[Int64[Tensor, " env"], Float[Tensor, " env"]]:
    """`rollout.sample_action` in one kernel."""
    n_envs, n_actions = logits.shape
    lanes = max(2, triton.next_power_of_2(n_actions))
    rows = min(128, max(1, TILE // lanes))
    action = torch.empty(n_envs, dtype=torch.int64, device=logits.device)
    log_prob = torch.empty(n_envs, device=logits.device)
    with torch.cuda.device_of(logits):
        _sample[(triton.cdiv(n_envs, rows),)](
            action,
            log_prob,
            logits.contiguous(),
            index.contiguous(),
            number,
            n_envs,
            n_actions,
            in_memory=isinstance(number, Tensor),
            rows=rows,
            lanes=lanes,
            num_warps=min(4, max(1, rows * lanes // 32)),
        )
    return action, log_prob
