"""Occlusion: a fast loop beside a slow and obvious one, and policies of which one knows what they read."""

import math

import pytest
import torch

from tactician.environment import FEATURE_NAMES, OBS_DIM
from tactician.evaluation.importance import METHOD, _log_probabilities, occlude, reference_values
from tactician.policy import ActorCritic

ACTIONS = 5


def opinionated(seed: int = 0, layers: int = 1, hidden: int = 8) -> ActorCritic:
    """A random policy whose probabilities are far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    policy = ActorCritic(OBS_DIM, ACTIONS, hidden, layers, generator=generator).requires_grad_(False)
    policy.policy_head[-1].weight.mul_(200)
    return policy


def recorded(policies: list[ActorCritic], steps: int, seed: int = 1):
    """Observations, each policy's state before each decision, and arbitrary actions."""
    generator = torch.Generator().manual_seed(seed)
    observations = torch.randn(steps, OBS_DIM, generator=generator)
    states = []
    for policy in policies:
        state, before = policy.initial_state(1), []
        for row in observations:
            before.append(state[:, 0])
            state = policy(row[None, None], state)[2]
        states.append(torch.stack(before))
    return observations, states, torch.randint(ACTIONS, (steps,), generator=generator)


def slow(policies, observations, states, chosen, reference):
    """Day by day and entry by entry, in plain probabilities."""

    def probabilities(day: int, seen: torch.Tensor) -> list[float]:
        each = [
            policy(seen[None, None], state[day][:, None])[0][0, 0].double().softmax(-1)
            for policy, state in zip(policies, states, strict=True)
        ]
        return [sum(float(p[a]) for p in each) / len(each) for a in range(ACTIONS)]

    effects, shifts = [], [0.0] * OBS_DIM
    for day, seen in enumerate(observations):
        whole, row = probabilities(day, seen), []
        for entry in range(OBS_DIM):
            covered = seen.clone()
            covered[entry] = reference[entry]
            without = probabilities(day, covered)
            row.append(math.log(whole[chosen[day]]) - math.log(without[chosen[day]]))
            shifts[entry] += sum(abs(p - q) for p, q in zip(whole, without, strict=True)) / 2
        effects.append(row)
    return torch.tensor(effects, dtype=torch.float64), torch.tensor(shifts, dtype=torch.float64) / sum(shifts)


@pytest.mark.parametrize(("policies", "layers"), [(1, 1), (3, 2), (2, 0)])
def test_a_slow_loop_gives_the_same(policies, layers):
    group = [opinionated(seed, layers) for seed in range(policies)]
    observations, states, chosen = recorded(group, 6)
    found = occlude(group, observations, states, chosen)
    reference = torch.cat([torch.zeros(len(FEATURE_NAMES)), observations[:, len(FEATURE_NAMES) :].mean(0)])
    effects, shares = slow(group, observations, states, chosen, reference)
    torch.testing.assert_close(found.effects, effects, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.shares, shares, rtol=1e-4, atol=1e-6)
    assert found.effects.abs().max() > 0.01 and found.shares.sum() == pytest.approx(1)


def test_blocks_of_days_change_nothing(monkeypatch):
    policy = opinionated()
    arguments = ([policy], *recorded([policy], 11))
    whole = occlude(*arguments)
    monkeypatch.setattr("tactician.evaluation.importance._BLOCK", 4)
    parts = occlude(*arguments)
    torch.testing.assert_close(whole.effects, parts.effects, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.shares, parts.shares, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entry", [3, 50])
def test_a_policy_that_reads_one_entry_has_all_its_importance_there(entry):
    policy = opinionated()
    first = policy.encoder[0].weight
    first[:, [k for k in range(OBS_DIM) if k != entry]] = 0
    observations, states, chosen = recorded([policy], 20)
    found = occlude([policy], observations, states, chosen)
    assert found.shares[entry] == 1 and found.shares.sum() == 1
    days = found.top(10)
    assert [[one[0] for one in day] for day in days] == [[entry]] * 20
    assert days[7][0] == pytest.approx((entry, float(found.effects[7, entry]), float(observations[7, entry])))


@pytest.mark.parametrize("layers", [0, 2])
def test_a_constant_policy_has_no_importance_and_no_nan(layers):
    policy = opinionated(layers=layers)
    policy.policy_head[-1].weight.zero_()
    observations, states, chosen = recorded([policy], 5)
    found = occlude([policy], observations, states, chosen)
    assert found.shares.tolist() == [0.0] * OBS_DIM
    assert found.effects.abs().max() == 0 and found.top(3) == [[]] * 5


def test_an_entry_at_its_mean_has_no_effect_and_one_that_speaks_for_the_choice_has_a_positive_one():
    """By hand: two actions, logits (x, 0), chosen 0. With x = 2 covered by 0, ln σ(2) − ln σ(0) = ln 2 − ln(1 + e⁻²)."""

    class Reader(torch.nn.Module):
        def forward(self, obs, hidden):
            return torch.stack([obs[..., 0], 0 * obs[..., 0]], -1), obs[..., 0], hidden

    observations = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    states = [torch.zeros(2, 0, 1)]
    chosen, reference = torch.tensor([0, 0]), torch.zeros(2)
    found = occlude([Reader()], observations, states, chosen, reference)
    assert found.effects[0, 0] == pytest.approx(math.log(2) - math.log(1 + math.exp(-2)))
    assert found.effects[1].tolist() == [0, 0]
    assert found.shares.tolist() == [1, 0]
    against = occlude([Reader()], observations, states, torch.tensor([1, 1]), reference)
    assert against.effects[0, 0] < 0


def test_of_many_entries_the_largest_effects_come_first():
    policy = opinionated()
    observations, states, chosen = recorded([policy], 9)
    found = occlude([policy], observations, states, chosen)
    for day, row in enumerate(found.top(4)):
        sizes = [abs(effect) for _, effect, _ in row]
        assert sizes == sorted(found.effects[day].abs().tolist(), reverse=True)[:4]


def test_probabilities_too_small_for_a_number_leave_finite_effects():
    policy = opinionated()
    policy.policy_head[-1].weight.mul_(1e4)
    observations, states, chosen = recorded([policy], 5)
    found = occlude([policy], observations, states, chosen)
    assert found.effects.isfinite().all() and found.shares.isfinite().all()


def test_the_probabilities_of_an_ensemble_are_the_mean_of_its_members():
    group = [opinionated(0), opinionated(1, 0)]
    observations, states, _ = recorded(group, 4)
    states = [state.transpose(0, 1) for state in states]
    together = _log_probabilities(group, observations, states).exp()
    each = [_log_probabilities([p], observations, [h]).exp() for p, h in zip(group, states, strict=True)]
    torch.testing.assert_close(together, (each[0] + each[1]) / 2)
    torch.testing.assert_close(together.sum(1), torch.ones(4, dtype=torch.float64))


def test_portfolio_entries_are_covered_by_their_mean_and_features_by_zero():
    observations = torch.full((3, OBS_DIM), 2.0)
    assert reference_values(observations).tolist() == [0.0] * len(FEATURE_NAMES) + [2.0] * 20
    assert observations.eq(2).all()  # the path itself is not changed


def test_what_cannot_be_explained_is_refused():
    policy = opinionated()
    observations, states, chosen = recorded([policy], 3)
    for arguments in (([], observations, [], chosen), ([policy], observations, [], chosen)):
        with pytest.raises(ValueError, match="policies"):
            occlude(*arguments)
    with pytest.raises(ValueError, match="0 decisions"):
        occlude([policy], observations[:0], [states[0][:0]], chosen[:0])


def test_the_method_is_said_in_words():
    assert "Occlusion" in METHOD and all(len(sentence.split()) <= 30 for sentence in METHOD.split(". "))
