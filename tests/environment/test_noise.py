"""Counter-based random numbers against a scalar SplitMix64 and against the uniform distribution."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.environment.noise import Stream, _mix_int, permutation, random_bits, uniform

MASK = (1 << 64) - 1


def scalar_hash(seed: int, stream: int, *counters: int) -> int:
    state = _mix_int((seed + 0x9E3779B97F4A7C15 * stream) & MASK)
    for counter in counters:
        state = _mix_int((state ^ (counter * 0x9E3779B97F4A7C15)) & MASK)
    return state


def test_mixing_function_gives_the_published_splitmix64_sequence():
    # First outputs of SplitMix64 seeded with 1234567, as in the reference implementation's published test vector.
    state, out = 1234567, []
    for _ in range(3):
        out.append(_mix_int(state))
        state = (state + 0x9E3779B97F4A7C15) & MASK
    assert out == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(
    seed=st.integers(0, 2**32),
    a=st.integers(-(2**31), 2**31),
    b=st.lists(st.integers(0, 2**40), min_size=1, max_size=9),
)
@settings(deadline=None, max_examples=50)
def test_tensor_arithmetic_equals_scalar_arithmetic(seed, a, b):
    got = random_bits(seed, Stream.ACTION, a, torch.tensor(b))
    expected = [scalar_hash(seed, int(Stream.ACTION), a, x) for x in b]
    assert [x & MASK for x in got.tolist()] == expected


def test_an_integer_and_a_tensor_counter_name_the_same_draw():
    index = torch.arange(5)
    assert torch.equal(uniform(3, Stream.SLIPPAGE, 7, index), uniform(3, Stream.SLIPPAGE, torch.full((5,), 7), index))


def test_numbers_are_uniform_and_streams_are_unrelated():
    index = torch.arange(200_000)
    x, y = uniform(0, Stream.ACTION, index), uniform(0, Stream.SLIPPAGE, index)
    assert x.min() > 0 and x.max() < 1
    # Kolmogorov-Smirnov distance; 1.95/√n is the 0.1 % point.
    distance = (x.sort().values - (index + 0.5) / len(index)).abs().max()
    assert distance < 1.95 / len(index) ** 0.5
    for other in (y, uniform(1, Stream.ACTION, index), uniform(0, Stream.ACTION, index + 1)):
        assert torch.corrcoef(torch.stack([x, other]))[0, 1].abs() < 0.01


def test_a_draw_does_not_depend_on_what_else_is_drawn():
    many = uniform(5, Stream.ACTION, 2, torch.arange(1000))
    few = uniform(5, Stream.ACTION, 2, torch.arange(400, 500))
    assert torch.equal(many[400:500], few)


def test_permutation_holds_every_index_once_and_changes_with_its_counters():
    first = permutation(257, 0, Stream.MINIBATCH, 3, 1, device=torch.device("cpu"))
    assert torch.equal(first.sort().values, torch.arange(257))
    assert not torch.equal(first, permutation(257, 0, Stream.MINIBATCH, 3, 2, device=torch.device("cpu")))
