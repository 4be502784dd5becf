"""Random numbers without a generator: a pure function of seed, stream and counters.

A draw depends only on *what it is for* (seed, purpose, window, episode, step …), never on what was drawn before. So the
same environment sees the same noise on a CPU and on a GPU, alone or beside others, in one process or in eight. A resumed
run draws what an undisturbed one would, and there is no generator state to save. Salmon et al. (2011), "Parallel random
numbers: as easy as 1, 2, 3", call such generators counter-based.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", with Stafford's constants), applied once per counter.
"""

from enum import IntEnum

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """What a random number is for; each purpose draws from a stream of its own."""

    EPISODE_START = 1
    FIRST_HOLDINGS = 2
    SLIPPAGE = 3
    ACTION = 4
    DROPOUT = 5
    MINIBATCH = 6


def uniform(seed: int, stream: Stream, *counters: int | Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Uniform numbers in the open interval (0, 1), float32.

    Args:
        seed: the run's seed.
        stream: the purpose.
        counters: integers or broadcastable int64 tensors that name the draw; plain integers should come first, since
            they are mixed once and not per element. At least one must be a tensor.

    Returns:
        A float32 tensor of the counters' broadcast shape; a multiple of 2⁻²³ plus 2⁻²⁴, so neither 0 nor 1 occurs.
    """
    # The top 23 bits k, as (k + ½)/2²³: float32 holds each exactly, and neither end of the interval can be met.
    return ((_hash(seed, stream, *counters) >> 41) & 0x7FFFFF).to(torch.float32) * 2.0**-23 + 2.0**-24


def permutation(size: int, seed: int, stream: Stream, *counters: int, device: torch.device) -> Int64[Tensor, " size"]:
    """A random order of ``range(size)``: the indices sorted by their hash (ties, at 2⁻⁶⁴, keep their order)."""
    # Not torch.randperm: its order differs between devices, and it has a state.
    index = torch.arange(size, device=device)
    return _hash(seed, stream, *counters, index).argsort(stable=True)


def _hash(seed: int, stream: Stream, *counters: int | Tensor) -> Tensor:
    # Each counter is spread over all 64 bits by the odd constant, joined by exclusive or, and mixed before the next one
    # comes. Mixed only at the end, the counters 1, 2 and 2, 1 would be one number.
    state: Tensor | None = None
    number = _mix_int((seed + _GOLDEN * int(stream)) & _MASK)
    for counter in counters:
        if state is None and isinstance(counter, int):
            # On the host, as long as nothing else has come: one mix per draw instead of one per element.
            number = _mix_int((number ^ counter * _GOLDEN) & _MASK)
            continue
        # int64 products wrap around like unsigned ones, so both ways give the same bits.
        scaled = _signed(counter * _GOLDEN) if isinstance(counter, int) else counter * _signed(_GOLDEN)
        state = _mix_tensor(scaled ^ (_signed(number) if state is None else state))  # type: ignore[arg-type]
    if state is None:
        raise TypeError("at least one counter must be a tensor")
    return state


def _mix_int(x: int) -> int:
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX2) & _MASK
    return x ^ (x >> 31)


def _mix_tensor(x: Tensor) -> Tensor:
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX2)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch has no unsigned 64-bit arithmetic; its right shift copies the sign, which the mask removes again.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The same 64 bits read as a signed integer; int64 products wrap around, as SplitMix64 needs."""
    x &= _MASK
    return x - (1 << 64) if x >= 1 << 63 else x
