"""What the fused kernels share: tiles, random numbers and costs.

One program handles a tile of environments × assets. The tile has three axes: environment, group and lane, with the asset
``group · lanes + lane``. A thread holds all groups of its lane, so most of a sum over the assets needs no other thread.
Numbers per environment are ``[env]``.

Kernels are written without ``and``, ``or`` and early returns, and names of constants are arguments with ``tl.constexpr``.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from tactician.environment.noise import GOLDEN, MIX1, MIX2, signed

TILE = 512
"""Numbers in a tile, environments × assets, at most. A benchmark may try other powers of two."""

WARPS = 4
"""Most warps of a program, of 32 threads each."""

GROUPS_FIRST = tl.constexpr(tuple(int(x) for x in triton.__version__.split(".")[:2]) >= (3, 7))
"""Whether tiles are ``[group, env, lane]`` instead of ``[env, group, lane]``. It decides speed, not results.

Triton spreads the threads of a warp over the lanes and then over one more axis, which must be that of the environments. That
is the first axis until Triton 3.6, and the second one since.
"""

GROUP_AXIS = tl.constexpr(0 if GROUPS_FIRST.value else 1)

_GOLDEN = tl.constexpr(signed(GOLDEN))
_MIX1 = tl.constexpr(signed(MIX1))
_MIX2 = tl.constexpr(signed(MIX2))
_LOW33 = tl.constexpr((1 << 33) - 1)
_LOW34 = tl.constexpr((1 << 34) - 1)
_LOW37 = tl.constexpr((1 << 37) - 1)
_LOW23 = tl.constexpr((1 << 23) - 1)
_UNIT = tl.constexpr(2.0**-23)
_HALF_UNIT = tl.constexpr(2.0**-24)


class Tile(NamedTuple):
    """Shape of a tile, all powers of two, and the warps that compute it."""

    groups: int
    rows: int
    lanes: int
    warps: int


def tile(n_assets: int) -> Tile:
    """The tile for a number of assets. It has `TILE` numbers, or fewer if a thread would have to hold several environments."""
    block = max(2, triton.next_power_of_2(n_assets))
    # Eight lanes read one sector of memory. With more assets a whole warp reads a row, so that few rows fill a tile.
    lanes = min(block, 8 if block <= 64 else 32)
    rows = max(1, min(TILE // block, 32 * WARPS // lanes))
    # A thread holds at most eight numbers of a tile, as far as the warps allow: with more its registers run out.
    return Tile(block // lanes, rows, lanes, min(WARPS, max(1, rows * lanes // 32, rows * block // 256)))


@triton.jit
def mix(x: tl.tensor) -> tl.tensor:
    """`noise._mix_tensor`: the finaliser of SplitMix64 on int64."""
    # The right shift copies the sign bit, and the masks remove the copies.
    x = x + _GOLDEN
    x = (x ^ ((x >> 30) & _LOW34)) * _MIX1
    x = (x ^ ((x >> 27) & _LOW37)) * _MIX2
    return x ^ ((x >> 31) & _LOW33)


@triton.jit
def absorb(number: tl.tensor, counter: tl.tensor) -> tl.tensor:
    """Mix one more counter into a number, as `noise.uniform` does."""
    return mix((counter.to(tl.int64) * _GOLDEN) ^ number)


@triton.jit
def as_uniform(hashed: tl.tensor) -> tl.tensor:
    """A mixed number as a uniform one in (0, 1). All steps are exact."""
    top = ((hashed >> 41) & _LOW23).to(tl.int32)
    return top.to(tl.float32) * _UNIT + _HALF_UNIT


@triton.jit
def cost_multiple(
    window: tl.tensor, episode: tl.tensor, number: tl.tensor, log_low: tl.tensor, log_range: tl.tensor
) -> tl.tensor:
    """`environment.cost_multiple`, from the number that seed and stream are mixed to."""
    place = as_uniform(absorb(absorb(number, window), episode))
    return tl.exp(log_low + place * log_range)


@triton.jit
def assets(groups: tl.constexpr, lanes: tl.constexpr) -> tl.tensor:
    """Indices of a tile's assets, the same for all environments."""
    group, lane = tl.arange(0, groups), tl.arange(0, lanes)[None, None, :]
    if GROUPS_FIRST:
        return group[:, None, None] * lanes + lane
    else:
        return group[None, :, None] * lanes + lane


@triton.jit
def wide(x: tl.tensor) -> tl.tensor:
    """Numbers per environment, to be combined with a tile."""
    if GROUPS_FIRST:
        return x[None, :, None]
    else:
        return x[:, None, None]


@triton.jit
def row_sum(x: tl.tensor) -> tl.tensor:
    """Sum over the assets, per environment."""
    return tl.sum(tl.sum(x, axis=GROUP_AXIS), axis=1)


@triton.jit
def row_max(x: tl.tensor) -> tl.tensor:
    """Maximum over the assets, per environment."""
    return tl.max(tl.max(x, axis=GROUP_AXIS), axis=1)


@triton.jit
def impact_rate(
    traded: tl.tensor, root: tl.tensor, square: tl.tensor, rooted: tl.constexpr, squared: tl.constexpr
) -> tl.tensor:
    """The part of an asset's cost rate that grows with the trade (`CostRates.impact`)."""
    rate = traded * 0.0
    if rooted:
        rate = tl.sqrt(traded) * root
    if squared:
        rate = rate + square * traded
    return rate


@triton.jit
def total_cost(
    traded: tl.tensor,
    linear: tl.tensor,
    root: tl.tensor,
    square: tl.tensor,
    rooted: tl.constexpr,
    squared: tl.constexpr,
) -> tl.tensor:
    """Cost of all assets, per environment (`CostRates.total`)."""
    if rooted or squared:
        return row_sum((impact_rate(traded, root, square, rooted, squared) + linear) * traded)
    else:
        return row_sum(traded * linear)
