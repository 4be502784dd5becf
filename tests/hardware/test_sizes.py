"""Sizes: defaults, the length of training sequences, and windows shared among processes."""

import re

import pytest
import torch

from tactician.config import load_config, make_config
from tactician.environment import load_cached_market
from tactician.errors import UserError
from tactician.hardware.sizes import Sizes, choose_sizes, note_on_learning, sequence_length, split_windows
from tactician.training.setup import prepare_run

pytestmark = pytest.mark.whole_probe

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
RANGES = {"train_until": "2015-01-01", "validation_until": "2016-01-01", "checkpoint_dir": "x", "cache_path": "x.pt"}


def config(**changes):
    return make_config({"universe": {"a": ["X"], "b": ["Y", "CASH"]}, **RANGES, **changes}, "test")


def chosen(device=CPU, **changes) -> tuple[int, int]:
    """Steps of a rollout and of a training sequence."""
    asked = config(**changes)
    sizes, _ = choose_sizes(asked, device)
    return sizes.n_steps, sequence_length(asked, sizes, device)


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        ({}, Sizes(16_384, 64, 8_192)),
        ({"high_vram": True}, Sizes(65_536, 64, 262_144)),
        ({"low_vram": True}, Sizes(8_192, 64, 8_192)),
        ({"high_vram": True, "n_envs": 96, "batch_size": 512}, Sizes(96, 64, 512)),
        ({"high_vram": True, "n_steps": 512}, Sizes(65_536, 512, 262_144)),
    ],
)
def test_defaults_on_a_gpu_are_the_specifications_with_short_rollouts_and_the_users_sizes_win(flags, sizes):
    assert choose_sizes(config(**flags), CUDA) == (sizes, [])


def test_every_gpu_brings_as_many_environments_again():
    sizes, _ = choose_sizes(config(), CUDA, n_processes=2)
    assert sizes.n_envs == 32_768


def test_sizes_for_a_gpu_are_not_taken_on_a_cpu_and_that_is_said():
    sizes, notes = choose_sizes(config(high_vram=True), CPU)
    assert sizes.n_envs == 256 and "--high-vram sizes a run for a GPU, and there is none here" in notes[0]


def test_a_cap_for_a_gpu_that_is_not_there_is_remarked_upon():
    _, notes = choose_sizes(config(max_vram_gpu0=10.0), CPU)
    assert "--max-vram-gpu0 caps the memory of a GPU, and there is none here" in notes[0]


@pytest.mark.parametrize(
    ("flags", "n_steps", "sequence"),
    [
        ({}, 64, 64),
        ({"on": "cuda"}, 64, 64),
        ({"episode_length": 252}, 63, 63),
        ({"episode_length": 252, "on": "cuda"}, 63, 63),
        ({"episode_length": 64}, 64, 64),
        ({"episode_length": 1000}, 50, 50),
        ({"episode_length": 1000, "on": "cuda"}, 50, 50),
        ({"episode_length": 250}, 50, 50),
        ({"episode_length": 1024, "high_vram": True, "on": "cuda"}, 64, 64),
        ({"episode_length": 273}, 39, 39),  # its largest divisor up to 256, 91, has no divisor from 16 to 64
        ({"episode_length": 13}, 13, 13),  # the sequence is the episode
        ({"episode_length": 16}, 64, 16),
        ({"n_steps": 8}, 8, 8),  # or the rollout
        ({"bptt_length": 8}, 64, 8),
        ({"bptt_length": 1}, 64, 1),
        ({"bptt_length": 128}, 128, 128),  # the rollout grows with it
        ({"bptt_length": 1000}, 256, 256),
        ({"episode_length": 254, "bptt_length": 2}, 254, 2),
        ({"episode_length": 251, "bptt_length": 251}, 251, 251),
    ],
)
def test_rollouts_and_sequences_fit_into_episodes(flags, n_steps, sequence):
    flags = dict(flags)
    device = torch.device(flags.pop("on", "cpu"))
    assert chosen(device, **flags) == (n_steps, sequence)
    assert (n_steps % sequence == 0 and config(**flags).episode_length % sequence == 0) or sequence == n_steps


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"episode_length": 251}, "episode_length 251 with n_steps 251 gives training sequences of 1, too short"),
        (
            {"episode_length": 251},
            "use episode_length 250 (sequences of 50) or 252 (sequences of 63), or set bptt_length 1 if",
        ),
        ({"episode_length": 254}, "sequences of 2, too short"),
        ({"episode_length": 257}, "use episode_length 256 (sequences of 64) or "),
        ({"episode_length": 257, "bptt_length": 32}, "episode_length 257 with n_steps 1 gives training sequences of 1"),
        ({"episode_length": 2 * 67}, "use episode_length 132 (sequences of 44) or 135"),
        ({"episode_length": 254, "n_steps": 254}, "use episode_length and n_steps 252 (sequences of 63) or 255"),
        ({"episode_length": 32 * 251, "n_steps": 251}, "use n_steps 32 (sequences of 32), or"),
        ({"episode_length": 67}, "use episode_length 66 (sequences of 33) or 68"),
    ],
)
def test_a_length_that_leaves_hardly_any_gradient_through_time_is_refused_with_good_ones(flags, said):
    with pytest.raises(UserError) as refusal:
        chosen(**flags)
    assert said in str(refusal.value)


@pytest.mark.parametrize(("device", "flags"), [(CPU, {}), (CUDA, {"high_vram": True})])
def test_all_lengths_up_to_four_years_give_long_sequences_or_are_refused_with_lengths_that_do(device, flags):
    refused = 0
    for episode_length in range(1, 1009):
        try:
            n_steps, sequence = chosen(device, episode_length=episode_length, **flags)
        except UserError as refusal:
            refused += 1
            good = re.findall(r"(\d+) \(sequences of (\d+)\)", str(refusal))
            assert good
            for length, sequence in good:
                assert chosen(device, episode_length=int(length), **flags)[1] == int(sequence) >= 32
        else:
            assert n_steps % sequence == episode_length % sequence == 0
            assert 16 <= sequence <= 64 or sequence == episode_length
    assert 300 < refused < 600


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"bptt_length": 60}, r"bptt_length \(60\) must divide 64, .* use 64\."),
        ({"bptt_length": 40}, r"use 32\."),
        ({"bptt_length": 3}, r"use 4\."),
        # 8 divides the episode, and not the rollout of 50 that is chosen for it.
        (
            {"bptt_length": 8, "episode_length": 1000},
            r"must divide 50, the shorter of n_steps \(50\) and episode_length \(1000\), .* use 10\.",
        ),
        ({"bptt_length": 50, "episode_length": 251}, r"use 251\."),  # rather than 1
    ],
)
def test_a_bptt_length_is_checked_against_the_sizes_that_were_chosen(flags, said):
    with pytest.raises(UserError, match=said):
        chosen(**flags)


def test_a_run_with_an_awkward_length_is_refused_before_it_begins(tiny, refused):
    words = ["--n-steps", "67", "--episode-length", "67", "--dry-run"]
    assert "gives training sequences of 1" in refused("train", "--config", str(tiny), *words)
    asked = load_config(tiny, {"n_steps": 128, "episode_length": 128, "bptt_length": 32})
    assert prepare_run(asked, load_cached_market(asked, "")).sequence_length == 32


def test_windows_are_shared_in_proportion_to_the_budgets():
    assert split_windows(65, [45.0, 20.0]) == [range(45), range(45, 65)]
    assert split_windows(3, [1.0, 1e9, 1.0]) == [range(1), range(1, 2), range(2, 3)]
    with pytest.raises(ValueError, match="cannot be shared"):
        split_windows(1, [1.0, 1.0])


def test_many_environments_for_few_steps_are_remarked_upon():
    said = note_on_learning(Sizes(65_536, 512, 65_536), 50_000_000, 4)
    assert "renewed 2 times in the whole run" in said
    assert note_on_learning(Sizes(512, 256, 8_192), 50_000_000, 4) is None
