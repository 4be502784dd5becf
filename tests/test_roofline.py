"""The roofline's counts, by hand, against real modules and real states; and its picture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tactician.environment import OBS_DIM, PORTFOLIO_NAMES, Environment, first_state, step
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MEASURED = {
    "device": "a device",
    "copy_tb_per_s": 2.0,
    "matmul_tflop_per_s": 100.0,
    "phases": [
        # 10 FLOP/byte: under the slope, 20 TFLOP/s at most; 1e6 FLOP in 1e-7 s are 10.
        {"name": "slow", "flop_per_step": 1e6, "bytes_per_step": 1e5, "seconds_per_step": 1e-7},
        # 1000 FLOP/byte: under the flat part; 25 of 100 TFLOP/s.
        {"name": "dense", "flop_per_step": 1e6, "bytes_per_step": 1e3, "seconds_per_step": 4e-8},
    ],
}


@pytest.fixture(scope="module")
def roofline():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import roofline

        yield roofline
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def tiny(roofline):
    """3 of 5 entries are the portfolio's; 2 units, 1 layer, 3 actions, heads of 4 units."""
    return roofline.Shape(hidden=2, layers=1, actions=3, obs=5, portfolio=3, head=4)


def test_operations_worked_by_hand(roofline, tiny):
    # Encoder 5·2 + 2·2 = 14, GRU 6·4 = 24, actor 2·4 + 4·3 = 20, value 2·4 + 4·1 = 12: 70 weights.
    assert (tiny.trunk_weights, tiny.actor_weights, tiny.value_weights) == (38, 20, 12)
    assert roofline.rollout_flop(tiny) == 140
    assert roofline.joint_flop(tiny, epochs=2) == 2 * 3 * 140
    assert roofline.critic_flop(tiny, epochs=2) == 2 * 3 * 24
    assert roofline.critic_flop(tiny, epochs=2, trunk_passes=1) == 2 * 3 * 24 + 76
    # 3 assets, 2 regimes: 7·3·2 = 42 for the moves, and (24 + 4 + 8)·3 = 108.
    assert roofline.environment_flop(3, 2) == 150


def test_bytes_worked_by_hand(roofline, tiny):
    # Kept: encoder 2·2·2 = 8, GRU 5·2 = 10, heads 4·4 = 16, logits and value 4.
    assert (tiny.kept, tiny.kept_of_value) == (38, 9)
    # Read: observation 20, state and mask 8 each. Written: state 8, portfolio 12, day, action, log-probability, value 16.
    assert roofline.rollout_bytes(tiny) == 20 + 8 + 8 + 8 + 12 + 16
    # Portfolio 12, day, action, log-probability, advantage, target 20; 38 entries of 2 bytes written and read.
    assert roofline.joint_bytes(tiny, epochs=3) == 3 * (32 + 2 * 2 * 38)
    # Features 2·4, target 4; 9 entries of 4 bytes written and read.
    assert roofline.critic_bytes(tiny, epochs=2, width=4) == 2 * (8 + 4 + 2 * 4 * 9)
    # State 4·4 + 8 + 8 + 4 + 1 + 32/2 = 53 in and out, action 8, observation 256, outcome 29.
    assert roofline.environment_bytes(3, portfolios_per_window=2) == 106 + 8 + 256 + 29


@pytest.mark.parametrize("encoder_layers", [0, 1, 2, 3])
def test_weights_are_those_of_the_network(roofline, encoder_layers):
    policy = ActorCritic(OBS_DIM, 12, hidden_dim=16, n_gru_layers=3, encoder_layers=encoder_layers)
    shape = roofline.Shape(hidden=16, layers=3, actions=12, encoder_layers=encoder_layers)

    def matrices(*modules):
        return sum(p.numel() for module in modules for p in module.parameters() if p.dim() == 2)

    assert shape.trunk_weights == matrices(policy.encoder, policy.gru)
    assert shape.actor_weights == matrices(policy.policy_head)
    assert shape.value_weights == matrices(policy.value_head)
    assert (shape.obs, shape.portfolio) == (OBS_DIM, len(PORTFOLIO_NAMES))


def test_bytes_are_those_of_states_and_outcomes(roofline):
    env = Environment(random_market(), Frictions(), range(1, 400), episode_length=32, portfolios_per_window=4)
    before = first_state(env, torch.arange(2))
    after, outcome = step(env, before, torch.zeros(8, dtype=torch.int64))
    held = [*vars(before).values(), *vars(after).values(), *vars(outcome).values()]
    per_environment = sum(x.numel() * x.element_size() for x in held) / 8
    action, observation = 8, 4 * OBS_DIM
    assert roofline.environment_bytes(5, portfolios_per_window=4) == per_environment + action + observation


def test_phases_lie_under_the_ceiling_of_their_intensity(roofline):
    slow, dense = roofline.points(MEASURED)
    assert (slow.intensity, dense.intensity) == (10, 1000)
    assert (slow.rate, dense.rate) == pytest.approx((10, 25))
    assert (slow.ceiling, dense.ceiling) == (20, 100)
    assert (slow.label, dense.label) == ("slow (50 %)", "dense (25 %)")


def test_labels_neither_overlap_nor_leave_the_picture(roofline, tmp_path, monkeypatch):
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.append(figure))
    crowd = [
        {"name": f"phase {k}", "flop_per_step": 1e6 * (1 + k / 50), "bytes_per_step": 1e4, "seconds_per_step": 5e-8}
        for k in range(8)
    ]
    roofline.draw(MEASURED | {"phases": crowd}, tmp_path / "crowd.png")
    (axes,) = figures[0].axes
    renderer = figures[0].canvas.get_renderer()
    boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]
    assert len(boxes) == 8 + 2
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    frame = axes.get_window_extent(renderer)
    assert all(frame.contains(*corner) for box in boxes for corner in box.corners())


def test_the_script_draws_and_tells(tmp_path):
    measured, picture = tmp_path / "measured.json", tmp_path / "roofline.png"
    measured.write_text(json.dumps(MEASURED))
    words = [sys.executable, BENCHMARKS / "roofline.py", measured, "--picture", picture]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == "slow (50 %): 10 FLOP/byte, 10 of 20 TFLOP/s"
    assert picture.read_bytes().startswith(b"\x89PNG")
    measured.write_text("no JSON")
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 2 and "cannot be read as JSON" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "fast", True, None])
def test_what_is_no_positive_number_is_refused(roofline, value):
    from tactician.errors import UserError

    with pytest.raises(UserError, match="'copy_tb_per_s' of the measurements"):
        roofline.points(MEASURED | {"copy_tb_per_s": value})
    with pytest.raises(UserError, match="'seconds_per_step' of phase 'slow'"):
        roofline.points(MEASURED | {"phases": [MEASURED["phases"][0] | {"seconds_per_step": value}]})


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ([1], "the measurements must be an object"),
        (MEASURED | {"phases": []}, "name no phases"),
        (MEASURED | {"phases": 3}, "name no phases"),
        (MEASURED | {"phases": [3]}, "phase '1' must be an object"),
    ],
)
def test_what_has_another_form_is_refused(roofline, measured, told):
    from tactician.errors import UserError

    with pytest.raises(UserError, match=told):
        roofline.points(measured)
