"""The GPU's kernel of ReLU and layer normalisation against torch's operations; without a GPU in Triton's interpreter."""

import pytest
import torch

from tactician.policy import fused_norm
from tactician.policy.relu_norm import ReluNorm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(not fused_norm.AVAILABLE, reason="needs triton")


def norm_of(units: int) -> ReluNorm:
    norm = ReluNorm(units).to(DEVICE)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


# Rows that fill no tile; one row; more rows than the derivative has programs at once (set to two below).
@pytest.mark.parametrize(("shape", "units"), [((7, 5), 64), ((1,), 256), ((300,), 128), ((3, 9), 16)])
def test_results_and_gradients_are_those_of_torch(monkeypatch, shape, units):
    monkeypatch.setattr(fused_norm, "PROGRAMS", 2)
    torch.manual_seed(0)
    norm, x = norm_of(units), torch.randn(*shape, units, device=DEVICE, requires_grad=True)
    direction = torch.randn(*shape, units, device=DEVICE)
    one, other = (
        (y, *torch.autograd.grad((y * direction).sum(), (x, norm.weight, norm.bias)))
        for y in (norm.plainly(x), norm.by_kernel(x))
    )
    for name, a, b in zip(("result", "x", "weight", "bias"), one, other, strict=True):
        assert float((a - b).norm()) < 2e-6 * float(a.norm()) + 1e-6, name


def test_rows_without_a_positive_number_have_no_gradient():
    norm, x = norm_of(32), -torch.rand(4, 32, device=DEVICE).requires_grad_()
    y = norm.by_kernel(x)
    assert torch.equal(y, norm.bias.expand(4, 32))
    assert float(torch.autograd.grad(y.sum(), x)[0].abs().max()) == 0


def test_a_gpu_that_is_not_asked_for_its_kernel_and_a_cpu_use_torch():
    norm, x = norm_of(32), torch.randn(4, 32, device=DEVICE)
    assert torch.equal(norm(x), norm.plainly(x))


@pytest.mark.parametrize(("units", "fits"), [(8, False), (16, True), (48, False), (256, True), (2048, False)])
def test_powers_of_two_fit(units, fits):
    assert fused_norm.fits(units) == fits
