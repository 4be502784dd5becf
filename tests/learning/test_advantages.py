"""Generalised advantages against tables worked by hand and a slow definition."""

import pytest
import torch

from tactician.learning import explained_variance, generalised_advantages


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_three_steps_by_hand():
    # γ = 0.5, λ = 0.5; V = (1, 2, 3), V(s_3) = 4, r = (1, 0, 2).
    # δ_2 = 2 + 0.5·4 − 3 = 1          A_2 = 1
    # δ_1 = 0 + 0.5·3 − 2 = −0.5       A_1 = −0.5 + 0.25·1 = −0.25
    # δ_0 = 1 + 0.5·2 − 1 = 1          A_0 = 1 + 0.25·(−0.25) = 0.9375
    got = generalised_advantages(
        column(1, 0, 2), column(1, 2, 3), column(2, 3, 4), torch.ones(3, 1, dtype=torch.bool), 0.5, 0.5
    )
    assert got.flatten().tolist() == pytest.approx([0.9375, -0.25, 1.0], abs=1e-15)


def test_truncation_bootstraps_from_the_finished_episode_and_cuts_the_trace():
    # The episode ends after step 1; its last state is worth 10. Step 2 belongs to the next episode, which starts at V = 3.
    # δ_2 = 2 + 0.5·4 − 3 = 1          A_2 = 1
    # δ_1 = 0 + 0.5·10 − 2 = 3         A_1 = 3         (neither V = 3 of the new episode nor A_2 enters)
    # δ_0 = 1 + 0.5·2 − 1 = 1          A_0 = 1 + 0.25·3 = 1.75
    continues = torch.tensor([[True], [False], [True]])
    got = generalised_advantages(column(1, 0, 2), column(1, 2, 3), column(2, 10, 4), continues, 0.5, 0.5)
    assert got.flatten().tolist() == pytest.approx([1.75, 3.0, 1.0], abs=1e-15)


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_equals_the_sum_over_discounted_errors(lam):
    torch.manual_seed(0)
    rewards, values, following = (torch.randn(12, 5, dtype=torch.float64) for _ in range(3))
    continues = torch.rand(12, 5) > 0.2
    gamma = 0.97
    got = generalised_advantages(rewards, values, following, continues, gamma, lam)
    for env in range(5):
        for t in range(12):
            total, weight = 0.0, 1.0
            for k in range(t, 12):
                total += weight * float(rewards[k, env] + gamma * following[k, env] - values[k, env])
                weight *= gamma * lam
                if not continues[k, env]:
                    break
            assert float(got[t, env]) == pytest.approx(total, abs=1e-12)


def test_lambda_one_is_monte_carlo_and_lambda_zero_is_one_step():
    torch.manual_seed(1)
    rewards, values = torch.randn(6, 1, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    on = torch.ones(6, 1, dtype=torch.bool)
    whole = generalised_advantages(rewards, values[:-1], values[1:], on, 0.9, 1.0)
    expected = sum(0.9**k * float(rewards[k, 0]) for k in range(6)) + 0.9**6 * float(values[6, 0]) - float(values[0, 0])
    assert float(whole[0, 0]) == pytest.approx(expected, abs=1e-12)
    one = generalised_advantages(rewards, values[:-1], values[1:], on, 0.9, 0.0)
    assert torch.allclose(one, rewards + 0.9 * values[1:] - values[:-1])


def test_explained_variance():
    targets = torch.tensor([[1.0, 2.0, 3.0, 4.0]])

    def of(*values: float) -> float:
        v = torch.tensor([values])
        return float(explained_variance(v, targets - v))

    assert of(1, 2, 3, 4) == 1
    assert of(0, 0, 0, 0) == 0
    # Errors (0.5, −0.5, −0.5, 0.5) have variance 0.25; the targets have 1.25.
    assert of(0.5, 2.5, 3.5, 3.5) == pytest.approx(1 - 0.25 / 1.25)
    assert explained_variance(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, -3.0]])).isnan()  # constant targets
    # Samples that do not count do not count.
    valid = torch.tensor([[True, True, False]])
    assert explained_variance(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 0.0, 7.0]]), valid) == 1
