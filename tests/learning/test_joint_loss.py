"""The joint loss and its step, worked by hand: each term, its sign, the normalisation before it and the clipping after."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tactician.learning import collect_rollout, make_learner, prepare, update
from tactician.learning.ppo import _SUMS, Guard, _joint_loss, _joint_step
from tactician.learning.sequences import Sequences
from tests.learning.test_ratio_is_one import HYPER, make_run


class Table(nn.Module):
    """Two actions; a logit of each and a value per sample are the parameters, whatever is observed."""

    def __init__(self, probability, values, value_scale):
        super().__init__()
        first = torch.tensor(probability)
        self.logits = nn.Parameter(torch.stack([first, 1 - first], -1).log())
        self.value = nn.Parameter(torch.tensor(values))
        self.register_buffer("value_scale", torch.tensor(value_scale))

    def forward(self, obs, hidden, masks):
        return self.logits, self.value, hidden

    def actor_parameters(self):
        return [self.logits]

    def critic_parameters(self):
        return [self.value]


class Samples(Sequences):
    """Samples without observations."""

    obs = None


def samples(weight=None):
    """Two steps of two sequences."""
    zeros = torch.zeros(2, 2)
    return Samples(
        market=None,
        day=zeros.int(),
        portfolio=zeros,
        actions=torch.tensor([[0, 0], [1, 0]], dtype=torch.int32),
        log_probs=torch.full((2, 2), 0.5).log(),
        advantages=torch.tensor([[2.0, 1.0], [-1.0, -2.0]]),
        targets=torch.tensor([[1.0, 2.0], [-4.0, -2.0]]),
        weight=weight,
        first_hidden=torch.zeros(0, 2, 1),
        masks=None,
    )


COEFFICIENTS = replace(HYPER, clip=0.2, value_coef=0.5, entropy_coef=0.1)


def table(hyper=COEFFICIENTS):
    # Probabilities of the first action. The third sample took the second one, with probability 0.65.
    return make_learner(Table([[0.75, 0.55], [0.35, 0.25]], [[3.0, 1.0], [0.0, -2.0]], 2.0), hyper)


# Each action had probability 0.5 when it was taken; ε = 0.2, s = 2.
#
#   ρ = π/0.5   A    min(ρA, clip(ρ)A)     ½((V − R)/s)²           H = −Σ π ln π   ρ − 1 − ln ρ   |ρ − 1| > ε
#   1.5         2    min( 3.0,  2.4)       ½((3 − 1)/2)² = 0.5     0.56233514      0.09453489     yes
#   1.1         1    min( 1.1,  1.1)       ½((1 − 2)/2)² = 0.125   0.68813881      0.00468982     no
#   1.3        −1    min(−1.3, −1.2)       ½((0 + 4)/2)² = 2       0.64744664      0.03763574     yes (though not > 2ε)
#   0.5        −2    min(−1.0, −1.6)       0                       0.56233514      0.19314718     yes
#
# Policy loss −(2.4 + 1.1 − 1.3 − 1.6)/4 = −0.15; value loss 2.625/4; entropy 2.46025573/4; KL 0.33000763/4; clipped 3/4.
ALL = {
    "policy_loss": -0.15,
    "value_loss": 0.65625,
    "entropy": 0.61506393,
    "kl": 0.08250191,
    "clip_fraction": 0.75,
}
# Without the first sample: −(1.1 − 1.3 − 1.6)/3, 2.125/3, 1.89792059/3, 0.23547274/3, 2/3.
LAST_THREE = {
    "policy_loss": 0.6,
    "value_loss": 0.70833333,
    "entropy": 0.63264020,
    "kl": 0.07849091,
    "clip_fraction": 0.66666667,
}


@pytest.mark.parametrize(
    ("weight", "n_samples", "expected"),
    [
        (None, 4, ALL),
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), 3, LAST_THREE),
        (None, 8, {name: figure / 2 for name, figure in ALL.items()}),  # another process holds the other half
    ],
)
def test_every_term_of_the_loss_by_hand(weight, n_samples, expected):
    loss, figures = _joint_loss(table(), samples(weight), torch.tensor(float(n_samples)), COEFFICIENTS)
    assert dict(zip(_SUMS, figures.tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
    # Improvement and entropy are wanted, errors of the value are not.
    whole = expected["policy_loss"] + 0.5 * expected["value_loss"] - 0.1 * expected["entropy"]
    assert float(loss.detach()) == pytest.approx(whole, abs=1e-6)


def test_the_gradient_of_the_loss_by_hand():
    learner = table(replace(COEFFICIENTS, entropy_coef=0.0))
    hyper = replace(COEFFICIENTS, entropy_coef=0.0)
    _joint_loss(learner, samples(), torch.tensor(4.0), hyper)[0].backward()
    # By the logit of the action taken: −A·ρ·(1 − π)/4, and 0 where the clipped part is the smaller one.
    # Second sample: −1·1.1·0.45/4. Third, whose action is the second one: 1·1.3·0.35/4.
    expected = torch.tensor([[[0.0, 0.0], [-0.12375, 0.12375]], [[-0.11375, 0.11375], [0.0, 0.0]]])
    assert torch.allclose(learner.policy.logits.grad, expected, atol=1e-6)
    # By the value: c_v·(V − R)/s²/4.
    assert torch.allclose(learner.policy.value.grad, torch.tensor([[2.0, -1.0], [4.0, 0.0]]) * 0.5 / 16, atol=1e-6)


def test_advantages_are_normalised_over_the_samples_that_count():
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    rng = np.random.default_rng(0)
    advantages = rng.normal(5.0, 3.0, (32, 8)).astype(np.float32)
    counts = rng.random((32, 8)) < 0.7
    advantages[~counts] = 1000.0
    known = advantages[counts].astype(np.float64)
    for valid, those in ((torch.from_numpy(counts), known), (None, advantages.astype(np.float64))):
        data = prepare(rollout, torch.from_numpy(advantages), rollout.rewards, valid)
        # One sequence per environment, so the order is the rollout's.
        expected = (advantages - those.mean()) / those.std()
        assert np.allclose(data.advantages.numpy(), expected, rtol=1e-5, atol=1e-5)
        normal = data.advantages.double().numpy()[counts if valid is not None else ...]
        assert normal.mean() == pytest.approx(0, abs=1e-6) and normal.var() == pytest.approx(1, abs=1e-5)
        assert data.weight is None if valid is None else np.array_equal(data.weight.numpy(), counts)


def test_advantages_that_are_all_equal_ask_for_nothing():
    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    assert prepare(rollout, torch.full_like(rollout.rewards, 7.0), rollout.rewards).advantages.eq(0).all()


@pytest.mark.parametrize(("entropy_coef", "direction"), [(1.0, 1), (0.0, 0)])
def test_the_entropy_bonus_alone_raises_the_entropy(entropy_coef, direction):
    def entropy():
        with torch.no_grad():
            log_all = policy(data.obs, data.first_hidden, data.masks)[0].log_softmax(-1)
        return float(-(log_all.exp() * log_all).sum(-1).mean())

    env, policy, state, hidden = make_run()
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=32, seed=0, iteration=0)
    nothing = torch.zeros_like(rollout.rewards)
    idle = replace(rollout, rewards=nothing, values=nothing, next_values=nothing)  # every advantage is 0
    hyper = replace(HYPER, entropy_coef=entropy_coef, value_coef=0.0, ppo_epochs=1, critic_epochs=0, batch_size=10_000)
    data = prepare(rollout, nothing, nothing)
    before = entropy()
    update(make_learner(policy, hyper), idle, hyper, seed=0, iteration=0)
    gained = entropy() - before
    assert gained > 1e-4 if direction else gained == 0


def test_a_large_gradient_of_the_critic_leaves_the_actors_step_as_it_is():
    hyper = replace(COEFFICIENTS, max_grad_norm=0.5)
    steps = []
    for off in (0.0, 1e8):
        learner, batch = table(hyper), samples()
        before = learner.policy.logits.detach().clone()
        batch = replace(batch, targets=batch.targets + off)
        _, norms, made = _joint_step(learner, batch, torch.tensor(4.0), hyper, Guard(torch.device("cpu")))
        assert made == 1
        steps.append((learner.policy.logits.detach() - before, learner.policy.logits.grad, norms[0]))
    assert norms[1] > 1e6 and learner.policy.value.grad.norm() == pytest.approx(0.5, rel=1e-5)
    for small, large in zip(*steps, strict=True):
        assert torch.equal(small, large) and small.abs().max() > 0


def test_a_large_gradient_of_the_actor_leaves_the_critics_step_as_it_is():
    hyper = replace(COEFFICIENTS, max_grad_norm=0.5)
    steps = []
    for times in (1.0, 1e8):
        learner, batch = table(hyper), samples()
        before = learner.policy.value.detach().clone()
        batch = replace(batch, advantages=batch.advantages * times)
        _, norms, _ = _joint_step(learner, batch, torch.tensor(4.0), hyper, Guard(torch.device("cpu")))
        steps.append((learner.policy.value.detach() - before, learner.policy.value.grad, norms[1]))
    assert norms[0] > 1e6 and learner.policy.logits.grad.norm() == pytest.approx(0.5, rel=1e-5)
    for small, large in zip(*steps, strict=True):
        assert torch.equal(small, large) and small.abs().max() > 0
