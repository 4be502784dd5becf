"""Random numbers without a generator: a pure function of seed, stream and counters.

A draw depends only on its purpose and place (seed, stream, window, episode, step …), never on earlier draws. So the same
environment sees the same noise on a CPU and on a GPU, alone or beside others, in one process or in eight. A resumed run
draws the same numbers as an uninterrupted one, and there is no generator state to save. Salmon et al. (2011), "Parallel
random numbers: as easy as 1, 2, 3", call such generators counter-based.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", with Stafford's constants), applied once per counter.
"""

from enum import IntEnum
from itertools import takewhile

import torch
from jaxtyping import Float, Int64
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
MIX1 = 0xBF58476D1CE4E5B9
MIX2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """The purpose of a random number. Each purpose draws from a stream of its own."""

    EPISODE_START = 1
    FIRST_HOLDINGS = 2
    SLIPPAGE = 3
    ACTION = 4
    DROPOUT = 5
    MINIBATCH = 6
    BLOCK_END = 7
    BLOCK_START = 8
    COST_MULTIPLE = 9
    SUB_UNIVERSE = 10
    SUB_UNIVERSE_SIZE = 11
    CHECKSUM = 12


def uniform(seed: int, stream: Stream, *counters: int | Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Uniform numbers in the open interval (0, 1), float32.

    Args:
        seed: the run's seed.
        stream: the purpose.
        counters: integers or broadcastable int64 tensors that identify the draw, at least one of them a tensor. Plain
            integers should come first: they are mixed once, not per element.

    Returns:
        A float32 tensor of the counters' broadcast shape. Each value is a multiple of 2⁻²³ plus 2⁻²⁴, so neither 0 nor 1
        occurs.
    """
    return _as_uniform(random_bits(seed, stream, *counters))


def uniform_after(number: int | Int64[Tensor, "1"], *counters: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`uniform` with its leading integers mixed before.

    Args:
        number: `mixed` of seed, stream and leading integers; as a tensor it can change where plain numbers are fixed, as in
            the replay of a CUDA graph.
        counters: the other counters, at least one.
    """
    return _as_uniform(_absorb(number, *counters))


def mixed(seed: int, stream: Stream, *counters: int) -> int:
    """Seed, stream and leading integers of a draw as one number: 64 bits, signed, for `uniform_after` and the kernels."""
    number = _mix_int((seed + GOLDEN * int(stream)) & _MASK)
    for counter in counters:
        number = _mix_int((number ^ counter * GOLDEN) & _MASK)
    return signed(number)


def permutation(size: int, seed: int, stream: Stream, *counters: int, device: torch.device) -> Int64[Tensor, " size"]:
    """A random order of ``range(size)``: the indices sorted by their hash (ties, at 2⁻⁶⁴, keep their order)."""
    # torch.randperm is not used: its order differs between devices, and its generator has a state.
    index = torch.arange(size, device=device)
    return random_bits(seed, stream, *counters, index).argsort(stable=True)


def random_bits(seed: int, stream: Stream, *counters: int | Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """64 random bits for each draw; arguments and shape as for `uniform`."""
    # Leading integers are mixed on the host: one mix per draw instead of one per element.
    leading = list(takewhile(lambda counter: isinstance(counter, int), counters))
    return _absorb(mixed(seed, stream, *leading), *counters[len(leading) :])  # type: ignore[arg-type]


def _absorb(number: int | Tensor, *counters: int | Tensor) -> Tensor:
    # The odd constant spreads each counter over all 64 bits. The counter is joined by exclusive or, and the result is mixed
    # before the next counter. With mixing only at the end, the counters 1, 2 and 2, 1 would give the same number.
    state = number
    for counter in counters:
        # int64 products wrap around like unsigned ones, so the host and the tensors give the same bits.
        scaled = signed(counter * GOLDEN) if isinstance(counter, int) else counter * signed(GOLDEN)
        state = _mix_tensor(scaled ^ state)  # type: ignore[arg-type]
    if isinstance(state, int):
        raise TypeError("at least one counter must be a tensor")
    return state


def _as_uniform(hashed: Tensor) -> Tensor:
    # The top 23 bits k become (k + ½)/2²³. float32 holds each value exactly, and none is 0 or 1.
    return _shift_right(hashed, 41).to(torch.float32).mul_(2.0**-23).add_(2.0**-24)


def _mix_int(x: int) -> int:
    x = (x + GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * MIX1) & _MASK
    x = ((x ^ (x >> 27)) * MIX2) & _MASK
    return x ^ (x >> 31)


def _mix_tensor(x: Tensor) -> Tensor:
    # In place on a tensor of its own: one draw per portfolio and asset makes these the largest tensors of a step.
    x = x + signed(GOLDEN)
    x.bitwise_xor_(_shift_right(x, 30)).mul_(signed(MIX1))
    x.bitwise_xor_(_shift_right(x, 27)).mul_(signed(MIX2))
    return x.bitwise_xor_(_shift_right(x, 31))


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch has no unsigned 64-bit arithmetic. Its right shift copies the sign bit, and the mask removes the copies.
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def signed(x: int) -> int:
    """The same 64 bits as a signed integer. Products of int64 wrap around, as SplitMix64 needs."""
    x &= _MASK
    return x - (1 << 64) if x >= 1 << 63 else x
