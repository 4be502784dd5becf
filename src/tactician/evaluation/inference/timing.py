"""Did the moments matter? Decisions in another order are what a rule without timing would have done."""

import numpy as np
from numpy.typing import NDArray


def block_permutations(n_steps: int, block: int, n: int, seed: int) -> NDArray[np.int64]:
    """Orders of sessions in which blocks of consecutive ones stay together, ``[n, n_steps]``.

    Each row is a permutation. The series is closed to a circle and cut at a random place, so that no session is always the end
    of a block; then the blocks are shuffled.

    Args:
        n_steps: sessions T.
        block: sessions per block; the last one may be shorter.
        n: permutations.
        seed: of the random numbers.
    """
    draw = np.random.default_rng(seed)
    orders = np.empty((n, n_steps), dtype=np.int64)
    for row in orders:
        circle = (np.arange(n_steps) + draw.integers(n_steps)) % n_steps
        blocks = [circle[k : k + block] for k in range(0, n_steps, block)]
        row[:] = np.concatenate([blocks[k] for k in draw.permutation(len(blocks))])
    return orders


def permutation_p_value(actual: float, permuted: NDArray[np.float64]) -> float:
    """(1 + number of permuted values that reach the actual one)/(1 + n): never zero (Phipson and Smyth 2010).

    Values that agree to ten digits are equal: the order of a sum changes its rounding.

    Returns:
        NaN if a value is not finite, or if there is none.
    """
    if not len(permuted) or not np.isfinite(actual) or not np.isfinite(permuted).all():
        return float("nan")
    reached = permuted >= actual - 1e-10 * max(1.0, abs(actual))
    return float((1 + reached.sum()) / (1 + len(permuted)))
