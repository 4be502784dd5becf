"""The probe: what two small iterations tell about a large one, and how bytes are counted."""

import sys
from dataclasses import replace

import pytest
import torch

from tactician.config import load_config
from tactician.environment import first_state, load_cached_market
from tactician.hardware.probe import Taken, Trial, peak_allocated, probe_iteration
from tactician.learning import FULL, collect_rollout, make_learner, update
from tactician.training.setup import prepare_run

pytestmark = pytest.mark.whole_probe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def setup(tiny):
    """64 environments × 32 steps in sequences of 8."""
    config = load_config(tiny, {"n_envs": 64, "bptt_length": 8, "batch_size": 512, "dropout": 0.1})
    return prepare_run(config, load_cached_market(config, ""))


def probe(setup, policy):
    return probe_iteration(
        Trial(setup.environment, policy, setup.hyper, FULL, setup.sizes.n_steps, setup.sequence_length)
    )


def rollout_of(setup, policy):
    state = first_state(setup.environment, torch.arange(len(setup.windows)))
    hidden = policy.initial_state(setup.n_envs)
    lengths = {"n_steps": setup.sizes.n_steps, "sequence_length": setup.sequence_length}
    return collect_rollout(setup.environment, policy, state, hidden, **lengths, seed=0, iteration=0)[0]


def peak_of_update(setup, policy, rollout, keep_features=True, **changes) -> int:
    hyper = replace(setup.hyper, **changes)
    learner = make_learner(policy, hyper)
    with peak_allocated(CPU) as peak:
        update(learner, rollout, hyper, seed=0, iteration=0, keep_features=keep_features)
        return peak()


@pytest.mark.parametrize("batch_size", [256, 1024, 2048])
def test_small_iterations_foretell_what_a_large_one_allocates(setup, batch_size):
    found, policy = probe(setup, setup.make_policy()), setup.make_policy()
    rollout = rollout_of(setup, policy)
    samples = setup.sizes.samples
    taken = peak_of_update(setup, policy, rollout, batch_size=batch_size, ppo_epochs=1, critic_epochs=0)
    foretold = found.per_sample * samples + found.per_batch_sample * batch_size + found.fixed
    # From the second minibatch on Adam's moments exist, which `make_plan` adds.
    moments = 2 * sum(p.nbytes for p in policy.parameters()) if batch_size < samples else 0
    assert foretold + moments == pytest.approx(taken + samples * rollout.bytes_per_sample, rel=0.03)


def test_the_critics_features_are_not_held_twice(setup):
    policy = setup.make_policy()
    rollout, samples = rollout_of(setup, policy), setup.sizes.samples
    before = peak_of_update(setup, policy, rollout, ppo_epochs=0, critic_epochs=0)
    with_features = peak_of_update(setup, policy, rollout, ppo_epochs=0, critic_epochs=1, batch_size=8)
    assert samples * 64 <= with_features - before < 1.8 * samples * 4 * policy.hidden_dim


def test_features_that_are_not_kept_take_no_memory(setup):
    policy = setup.make_policy()
    rollout, samples = rollout_of(setup, policy), setup.sizes.samples
    kept, frugal = (
        peak_of_update(setup, policy, rollout, keep, ppo_epochs=0, critic_epochs=1, batch_size=8)
        for keep in (True, False)
    )
    assert kept - frugal > 0.8 * samples * 4 * policy.hidden_dim


def test_the_probe_leaves_the_run_as_it_was_and_says_the_same_again(setup):
    policy = setup.make_policy()
    weights = {name: x.clone() for name, x in policy.state_dict().items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert probe(setup, policy) == probe(setup, policy)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(x, weights[name]) for name, x in policy.state_dict().items())
    assert all(p.grad is None for p in policy.parameters())


def test_new_tensors_are_counted_from_their_first_to_their_last_use():
    there = torch.ones(100)
    with peak_allocated(CPU) as peak:
        a = there + 1
        assert peak() == 400
        there.view(10, 10).add_(1)  # neither views nor changes in place take anything
        b = torch.cat([a, a])
        assert peak() == 1200
        del a, b
        c = there * 2
        c = c * 2  # the old one goes when the new one is there
        assert peak() == 1200


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_taken_is_remembered_after_it_was_given_back():
    taken = Taken(CPU)
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    del block
    assert 0.9 * 64 * 2**20 < taken.peak() < 1.5 * 64 * 2**20
