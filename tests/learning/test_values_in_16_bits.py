"""Under autocast the value's last layer stays in float32, in the rollout and in the update."""

import pytest
import torch

from tactician.environment import portfolio_of
from tactician.learning import collect_rollout, make_learner, make_precision, prepare
from tactician.learning.ppo import _features
from tactician.policy import Ensemble
from tactician.policy.networks import NETWORKS
from tests.learning.test_ratio_is_one import HYPER, make_run

FORMATS = [torch.bfloat16, torch.float16]


def is_in_16_bits(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype).to(x.dtype) == x


def hidden_layer(policy, features, portfolio):
    """What the value's last layer reads, as autocast computes it."""
    return policy._head(policy.value_head, features, portfolio)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("kind", NETWORKS.values())
def test_the_last_layer_is_computed_in_float32(kind, dtype):
    _, policy, _, _ = make_run(dropout=0.0, kind=kind)
    policy.value_scale.fill_(7.3)
    generator = torch.Generator().manual_seed(2)
    obs = torch.randn(9, 8, policy.obs_dim, generator=generator)
    with torch.no_grad(), torch.autocast("cpu", dtype):
        logits, values, _ = policy(obs, policy.initial_state(8))
        x = hidden_layer(policy, policy.trunk(obs, policy.initial_state(8))[0], portfolio_of(obs))
        narrow = 7.3 * policy.value_head[-1](x).squeeze(-1).double()
    assert x.dtype == logits.dtype == dtype and values.dtype == torch.float32
    last = policy.value_head[-1]
    assert torch.equal(values, policy.value_scale * last(x.float()).squeeze(-1))
    assert is_in_16_bits(values, dtype).double().mean() < 0.1
    exact = policy.value_scale.double() * (x.double() @ last.weight.double().t() + last.bias.double()).squeeze(-1)
    error, of_16_bits = ((v.double() - exact).norm() / exact.norm() for v in (values, narrow))
    assert error < 2**-20 and of_16_bits > 2**-14


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("kind", NETWORKS.values())
def test_the_rollouts_values_are_those_of_the_update_and_of_the_critic_epochs(kind, dtype):
    env, policy, state, hidden = make_run(dropout=0.3, kind=kind, per_window=4)
    precision = make_precision(dtype, "cpu")
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0, precision=precision)
    assert rollout.values.dtype == torch.float32
    # Only a few of them happen to have a short mantissa.
    assert is_in_16_bits(rollout.values, dtype).double().mean() < 0.1
    assert is_in_16_bits(rollout.next_values, dtype).double().mean() < 0.1
    data = prepare(rollout, torch.zeros_like(rollout.rewards), rollout.values)
    with torch.no_grad(), precision.autocast():
        _, joint, _ = policy(data.obs, data.first_hidden, data.masks)
        critic = policy.values(_features(make_learner(policy, HYPER, precision), data), data.portfolio)
    # The shapes of the products differ, so a sum may round otherwise, and its 16 bits then differ by one step.
    for values in (joint, critic):
        assert (values - data.targets).norm() <= torch.finfo(dtype).eps / 8 * data.targets.norm()
    assert torch.equal(joint, critic)


def test_its_gradients_are_float32_and_near_those_without_autocast():
    _, policy, _, _ = make_run(dropout=0.0)
    obs = torch.randn(9, 8, policy.obs_dim, generator=torch.Generator().manual_seed(2))
    found = []
    for precision in (make_precision(torch.bfloat16, "cpu"), make_precision(None, "cpu")):
        policy.zero_grad()
        with precision.autocast():
            values = policy(obs, policy.initial_state(8))[1]
        values.square().sum().backward()
        found.append([p.grad.clone() for p in policy.critic_parameters()])
    for ours, full in zip(*found, strict=True):
        assert ours.dtype == torch.float32 and (ours - full).norm() <= 0.05 * full.norm()


def test_an_ensemble_keeps_the_values_of_its_members():
    members = [make_run(dropout=0.0)[1] for _ in range(2)]
    with torch.no_grad():
        members[1].value_head[-1].bias.add_(1 / 3)
    together = Ensemble(members)
    obs = torch.randn(3, 8, together.obs_dim, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, values, _ = together(obs, together.initial_state(8))
        each = [m(obs, m.initial_state(8))[1] for m in members]
    assert values.dtype == torch.float32 and torch.equal(values, (each[0] + each[1]) / 2)
    assert is_in_16_bits(values, torch.bfloat16).double().mean() < 0.1
