"""The number that tells copies of a network apart, against Python's own integers and against single changes."""

import pytest
import torch
from torch import nn

from tactician.environment import Stream, random_bits
from tactician.learning import ALONE, checksum
from tactician.policy import ActorCritic


def make() -> ActorCritic:
    return ActorCritic(10, 5, hidden_dim=8, generator=torch.Generator().manual_seed(0))


def flip(tensor: torch.Tensor, entry: int, bit: int) -> None:
    word = tensor.detach().view(-1).view(torch.int32)
    word[entry] ^= -(2**31) if bit == 31 else 2**bit


def test_it_is_the_sum_over_words_modulo_2_to_the_64():
    module = nn.Linear(3, 2).double()
    words = [w for tensor in module.state_dict().values() for w in tensor.view(-1).view(torch.int32).tolist()]
    assert len(words) == 2 * (3 * 2 + 2)  # an entry of 64 bits is two words
    odd = (random_bits(0, Stream.CHECKSUM, torch.arange(len(words))) | 1).tolist()
    expected = sum(a * b for a, b in zip(words, odd, strict=True)) % 2**64
    assert int(checksum(module)) % 2**64 == expected


def test_any_bit_of_any_entry_changes_it():
    policy, seen = make(), set()
    before = int(checksum(policy))
    entries = [(tensor, k) for tensor in policy.state_dict().values() for k in {0, tensor.numel() // 2}]
    for tensor, entry in entries:
        for bit in range(32):
            flip(tensor, entry, bit)
            seen.add(int(checksum(policy)))
            flip(tensor, entry, bit)
    assert int(checksum(policy)) == before and before not in seen and len(seen) == 32 * len(entries)


def test_the_sign_of_zero_changes_it():
    policy = make()
    before = int(checksum(policy))
    with torch.no_grad():
        policy.value_head[-1].bias.fill_(-0.0)
    assert int(checksum(policy)) != before


def test_entries_that_change_places_change_it():
    policy = make()
    before, weight = int(checksum(policy)), policy.policy_head[-1].weight.data
    assert weight[0, 0] != weight[0, 1]
    weight[0, :2] = weight[0, :2].flip(0)
    assert int(checksum(policy)) != before


def test_parameters_that_change_places_change_it():
    policy = make()
    before, (one, other) = int(checksum(policy)), (policy.policy_head[0].weight, policy.value_head[0].weight)
    one.data, other.data = other.data, one.data
    assert int(checksum(policy)) != before


def test_equal_bits_have_equal_numbers_whatever_the_threads_and_the_layout():
    policy, threads = make(), torch.get_num_threads()
    before, weight = int(checksum(policy)), policy.policy_head[0].weight
    weight.data = weight.data.t().contiguous().t()  # the same entries in another order of memory
    try:
        torch.set_num_threads(2)
        assert int(checksum(policy)) == int(checksum(make())) == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_formats_have_one_too(dtype):
    module = nn.Linear(3, 2).to(dtype)
    before = int(checksum(module))
    with torch.no_grad():
        module.bias[1] = -module.bias[1]
    assert int(checksum(module)) != before


def test_one_process_differs_from_nobody():
    numbers = torch.tensor([0, -1, -(2**63), 2**63 - 1])
    assert not any(ALONE.differ(number) for number in numbers)


def test_a_module_without_anything_is_refused():
    with pytest.raises(ValueError, match="no checksum"):
        checksum(nn.ReLU())
