"""A number that tells two copies of a network apart: exact, on the device, without a wait for it."""

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from tactician.environment import Stream, random_bits

_NARROW = {1: torch.uint8, 2: torch.int16}
"""Integers as wide as an entry of one or two bytes. Wider entries are read as words of 32 bits."""


def checksum(module: nn.Module) -> Int64[Tensor, ""]:
    """Sum of every word's bits times an odd number of its place, modulo 2⁶⁴, over all parameters and buffers.

    A word is an entry, or 32 bits of a longer one. Integer sums are exact, so neither their order nor the device matters.
    An odd number has an inverse modulo 2⁶⁴, so a change of one word always changes the sum. The odd numbers are random bits
    of the place, so two words that change places go unseen with a probability of at most 2⁻³².

    Bits count, not values: 0.0 and −0.0 differ, and so do two NaNs of different bits.

    Returns:
        The sum, on the device of the module, which must lie on one.

    Raises:
        ValueError: the module has neither parameters nor buffers.
    """
    tensors = [tensor.detach().reshape(-1) for tensor in module.state_dict().values()]
    if not tensors:
        raise ValueError("a module without parameters and buffers has no checksum")
    sums, begin = [], 0
    for tensor in tensors:
        words = tensor.view(_NARROW.get(tensor.element_size(), torch.int32))
        place = torch.arange(begin, begin + len(words), device=words.device)
        sums.append(random_bits(0, Stream.CHECKSUM, place).bitwise_or_(1).mul_(words).sum())
        begin += len(words)
    return torch.stack(sums).sum()
