"""Several policies that act as one, and the one that holds equal weight."""

import pytest
import torch

from tactician.policy import Ensemble, EqualWeight, make_network
from tests.evaluation.agents import network


def observations(steps=3, envs=2):
    return torch.randn(steps, envs, 64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("layers", [1, 2])
def test_an_ensemble_chooses_by_the_mean_of_its_members_probabilities(layers):
    members = [network(seed, layers) for seed in range(3)]
    together, seen = Ensemble(members), observations()
    logits, values, after = together(seen, together.initial_state(2))
    alone = [member(seen, member.initial_state(2)) for member in members]
    mean = sum(each[0].softmax(-1) for each in alone) / 3
    assert torch.allclose(logits.softmax(-1), mean, atol=1e-6)
    assert torch.allclose(values, sum(each[1] for each in alone) / 3, atol=1e-6)
    assert torch.equal(after, torch.cat([each[2] for each in alone]))  # the states, one member after the other


def test_an_ensembles_memory_goes_on_where_it_stopped():
    together, seen = Ensemble([network(0), network(1)]), observations(6)
    whole, _, _ = together(seen, together.initial_state(2))
    first, _, state = together(seen[:4], together.initial_state(2))
    second, _, _ = together(seen[4:], state)
    assert torch.allclose(torch.cat([first, second]), whole, atol=1e-6)


def test_an_ensemble_is_built_again_from_its_architecture_and_weights():
    together = Ensemble([network(0), network(1)])
    again = make_network(together.architecture, float(together.value_scale))
    again.load_state_dict(together.state_dict())
    assert isinstance(again, Ensemble) and len(again.policies) == 2
    seen = observations()
    assert torch.equal(again(seen, again.initial_state(2))[0], together(seen, together.initial_state(2))[0])


@pytest.mark.parametrize("members", [[], [network(0, 1), network(0, 2)]])
def test_members_of_two_architectures_or_none_are_refused(members):
    with pytest.raises(ValueError, match="members of one architecture"):
        Ensemble(members)


def test_a_policy_that_has_found_nothing_chooses_one_regime_whatever_it_sees():
    policy = EqualWeight(64, 12, 4)
    logits, values, after = policy(observations(), policy.initial_state(2))
    assert (logits.argmax(-1) == 4).all() and float(logits.softmax(-1)[..., 4].min()) == 1.0
    assert logits.isfinite().all() and (values == 0).all() and after.numel() == 0
    assert not list(policy.parameters())
