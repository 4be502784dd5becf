"""The check of a device's recurrent kernels: it passes right ones, and catches wrong, missing and imprecise ones."""

import pytest
import torch

from tactician.policy import ActorCritic, GruLayer, parity, settle_recurrence
from tactician.policy.parity import native_error


def layer(size=16) -> GruLayer:
    torch.manual_seed(0)
    return GruLayer(size, size)


def test_right_kernels_differ_by_rounding_only():
    assert native_error(layer(), torch.float32) < 1e-5
    assert native_error(layer().double(), torch.float64) < 1e-13


def test_sixteen_bits_differ_within_their_tolerance():
    # A few hundredths: bfloat16 has 8 bits of mantissa.
    assert 1e-4 < native_error(layer(), torch.bfloat16) < parity._TOLERANCE[torch.bfloat16]


class _WrongGradient(torch.autograd.Function):
    """Right states and gradients that are 30 % short, as in the report on cuDNN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 0.7 * grad


def test_right_states_with_wrong_gradients_are_found(monkeypatch):
    right = GruLayer.native_sequence
    monkeypatch.setattr(GruLayer, "native_sequence", lambda self, x, h: _WrongGradient.apply(right(self, x, h)))
    assert native_error(layer(), torch.float32) == pytest.approx(0.3, abs=1e-3)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Let the check believe that the network is not on a CPU; it stays there."""
    monkeypatch.setattr(parity, "_on_cpu", lambda policy: False)


def policy() -> ActorCritic:
    return ActorCritic(8, 3, hidden_dim=16, n_gru_layers=2)


def test_on_a_cpu_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(parity, "native_error", None)
    assert settle_recurrence(policy()) is None


def test_right_kernels_are_used(on_a_gpu):
    network = policy()
    assert settle_recurrence(network) is None
    assert settle_recurrence(network, torch.bfloat16) is None
    assert all(x.native for x in network.gru)


@pytest.mark.parametrize("error", [0.3, float("nan")])
def test_wrong_kernels_are_replaced_and_that_is_said(on_a_gpu, monkeypatch, error):
    network = policy()
    monkeypatch.setattr(parity, "native_error", lambda *_: error)
    assert "differ by" in settle_recurrence(network)
    assert not any(x.native for x in network.gru)


def test_missing_kernels_are_replaced_and_that_is_said(on_a_gpu, monkeypatch):
    def missing(self, inputs, hidden):
        raise RuntimeError('"_thnn_fused_gru_cell_cuda" not implemented for BFloat16')

    network = policy()
    monkeypatch.setattr(GruLayer, "native_sequence", missing)
    said = settle_recurrence(network, torch.bfloat16)
    assert "not implemented for BFloat16" in said and "plain operations is used instead" in said
    assert not any(x.native for x in network.gru)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_this_gpus_kernels_are_right(dtype):
    network = ActorCritic(64, 12).cuda()
    said = settle_recurrence(network, dtype)
    assert said is None or "plain operations" in said
