"""Actions are drawn from the policy's distribution, and the kernel draws the same ones."""

import pytest
import torch

from tactician.environment import Stream, mixed, uniform
from tactician.learning import sample_action, sample_action_eager

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
N = 300


def logits(kind: str, n_actions: int) -> torch.Tensor:
    drawn = torch.randn(N, n_actions, generator=torch.Generator().manual_seed(0))
    return {
        "plain": drawn,
        "extreme": 200 * drawn,
        "equal": torch.zeros_like(drawn),
        "large": drawn + 1e4,
        "impossible": torch.where((drawn > 1) & (torch.arange(n_actions) > 0), -torch.inf, drawn),
        "half": drawn.bfloat16(),
    }[kind].to(DEVICE)


def test_numbers_that_are_mixed_before_draw_the_same_actions():
    index = torch.arange(N, device=DEVICE)
    x, number = logits("plain", 12), mixed(5, Stream.ACTION, 3, 9)
    expected = sample_action_eager(x, uniform(5, Stream.ACTION, 3, 9, index))
    for given in (number, torch.tensor([number], device=DEVICE)):
        action, log_prob = sample_action(x, given, index)
        assert torch.equal(action, expected[0])
        torch.testing.assert_close(log_prob, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_actions", [2, 12, 64])
@pytest.mark.parametrize("kind", ["plain", "extreme", "equal", "large", "impossible", "half"])
def test_the_kernel_draws_the_same_actions(kind, n_actions):
    pytest.importorskip("triton")
    from tactician.learning.fused_sampling import fused_sample_action

    index, number = torch.arange(7, N + 7, device=DEVICE), mixed(1, Stream.ACTION, 2, 3)
    x, noise = logits(kind, n_actions), uniform(1, Stream.ACTION, 2, 3, index)
    given = torch.tensor([number], device=DEVICE) if kind == "plain" else number
    (action, log_prob), (expected, _) = fused_sample_action(x, given, index), sample_action_eager(x, noise)
    # A number at an edge may fall to either side of it, by rounding.
    log_probs = torch.log_softmax(x.float(), -1)
    near = ((noise[:, None] - log_probs.exp().cumsum(-1)).abs() < 1e-6).any(-1)
    assert torch.equal(action[~near], expected[~near]) and near.sum() < 3
    assert ((action - expected).abs()[near] <= 1).all()
    there = log_probs.gather(-1, action[:, None])[:, 0]
    torch.testing.assert_close(log_prob, there, rtol=1e-5, atol=2e-6)


def test_what_is_not_a_number_stays_one():
    pytest.importorskip("triton")
    from tactician.learning.fused_sampling import fused_sample_action

    x, index = logits("plain", 5), torch.arange(N, device=DEVICE)
    x[3, 2] = torch.nan
    (action, log_prob), (expected, there) = (
        fused_sample_action(x, mixed(0, Stream.ACTION), index),
        sample_action_eager(x, uniform(0, Stream.ACTION, index)),
    )
    assert log_prob[3].isnan() and there[3].isnan() and action[3] == expected[3] == 0
    assert log_prob.isnan().sum() == 1


def test_a_number_above_the_last_edge_gives_the_last_action():
    pytest.importorskip("triton")
    from tactician.learning.fused_sampling import fused_sample_action

    x, number = logits("plain", 64), mixed(0, Stream.ACTION)
    many = torch.arange(2**23)
    highest = int(uniform(0, Stream.ACTION, many).argmax())
    index = torch.full((N,), highest, device=DEVICE)
    noise = uniform(0, Stream.ACTION, index)
    above = noise >= torch.log_softmax(x, -1).exp().cumsum(-1)[:, -1]
    action, log_prob = fused_sample_action(x, number, index)
    assert above.any() and (action[above] == 63).all() and log_prob.isfinite().all()
    assert action.max() == sample_action_eager(x, noise)[0].max() == 63
