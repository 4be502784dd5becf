"""The check of a device's recurrent kernels: it passes right ones, and catches wrong, missing and imprecise ones."""

import pytest
import torch

from tactician.policy import ActorCritic, GruLayer, fused_gru, fused_norm, parity, settle_recurrence
from tactician.policy.parity import kernel_error
from tactician.policy.relu_norm import ReluNorm


def layer(size=16) -> GruLayer:
    torch.manual_seed(0)
    return GruLayer(size, size)


def test_right_kernels_differ_by_rounding_only():
    assert kernel_error(layer(), torch.float32) < 1e-5
    assert kernel_error(layer().double(), torch.float64) < 1e-13


def test_sixteen_bits_differ_within_their_tolerance():
    # A few hundredths: bfloat16 has 8 bits of mantissa.
    assert 1e-4 < kernel_error(layer(), torch.bfloat16) < parity._TOLERANCE[torch.bfloat16]


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
    assert kernel_error(layer(), torch.float32) == pytest.approx(0.3, abs=1e-3)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Let the check believe that the network is not on a CPU; it stays there."""
    monkeypatch.setattr(parity, "_on_cpu", lambda policy: False)


def policy() -> ActorCritic:
    return ActorCritic(8, 3, hidden_dim=16, n_gru_layers=2)


def test_on_a_cpu_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(parity, "kernel_error", None)
    assert settle_recurrence(policy()) == ("plain", None)


def test_right_kernels_are_used(on_a_gpu):
    network = policy()
    assert settle_recurrence(network) == ("library", None)
    assert settle_recurrence(network, torch.bfloat16) == ("library", None)
    assert all(x.kernels == "library" for x in network.gru)


def test_ours_are_preferred_where_they_fit_and_16_bits_are_asked_for(on_a_gpu, monkeypatch):
    right = GruLayer.native_sequence
    monkeypatch.setattr(fused_gru, "fits", lambda units: True)
    monkeypatch.setattr(GruLayer, "sequence_by", lambda self, kernels, x, h: right(self, x, h))
    monkeypatch.setattr(parity, "norm_error", lambda *_: 0.0)
    network = policy()
    for dtype, fused, kernels in (
        (torch.bfloat16, True, "fused"),
        (torch.bfloat16, False, "library"),
        (torch.float32, True, "library"),
    ):
        assert settle_recurrence(network, dtype, fused=fused) == (kernels, None)
        assert all(x.kernels == kernels for x in network.gru)
        assert network.value_head[2].fused == (kernels == "fused" and fused_norm.AVAILABLE)


def test_a_wrong_normalisation_keeps_ours_away(on_a_gpu, monkeypatch):
    right = GruLayer.native_sequence
    monkeypatch.setattr(fused_gru, "fits", lambda units: True)
    monkeypatch.setattr(fused_norm, "fits", lambda units: True)
    monkeypatch.setattr(GruLayer, "sequence_by", lambda self, kernels, x, h: right(self, x, h))
    monkeypatch.setattr(ReluNorm, "by_kernel", lambda self, x: 1.5 * self.plainly(x))
    kernels, said = settle_recurrence(policy(), torch.bfloat16, fused=True)
    assert kernels == "library" and "differ by 0.5" in said


def test_without_a_compiler_for_ours_the_librarys_are_used_and_that_is_said(on_a_gpu, monkeypatch):
    def failing(*_):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(fused_gru, "fits", lambda units: True)
    monkeypatch.setattr(fused_gru, "fused_sequence", failing)
    network = policy()
    kernels, said = settle_recurrence(network, torch.bfloat16, fused=True)
    assert (
        kernels == "library" and "Failed to find C compiler" in said and "library's own layer is used instead" in said
    )
    assert all(x.kernels == "library" for x in network.gru)


@pytest.mark.parametrize("error", [0.3, float("nan")])
def test_wrong_kernels_are_replaced_and_that_is_said(on_a_gpu, monkeypatch, error):
    network = policy()
    monkeypatch.setattr(parity, "kernel_error", lambda *_: error)
    kernels, said = settle_recurrence(network)
    assert kernels == "plain" and "differ by" in said
    assert all(x.kernels == "plain" for x in network.gru)


def test_missing_kernels_are_replaced_and_that_is_said(on_a_gpu, monkeypatch):
    def missing(self, inputs, hidden):
        raise RuntimeError('"_thnn_fused_gru_cell_cuda" not implemented for BFloat16')

    network = policy()
    monkeypatch.setattr(GruLayer, "native_sequence", missing)
    kernels, said = settle_recurrence(network, torch.bfloat16)
    assert "not implemented for BFloat16" in said and "plain operations is used instead" in said
    assert kernels == "plain" and all(x.kernels == "plain" for x in network.gru)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_this_gpus_kernels_are_right(dtype):
    network = ActorCritic(64, 12).cuda()
    kernels, said = settle_recurrence(network, dtype, fused=True)
    assert said is None and kernels == ("library" if dtype == torch.float32 else "fused")
