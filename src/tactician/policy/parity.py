"""A check, before a run begins, that the device computes the recurrent layer and its gradients correctly.

Recurrent kernels of GPUs differ between generations and libraries. Some lack bfloat16. Gradients of cuDNN have been reported
to be wrong on one device and right on another (PyTorch issue 150700). A run with wrong gradients looks like one that learns
badly. So the device's kernels are first compared with the written-out layer.
"""

import torch
from torch import Tensor

from tactician.policy import fused_gru, fused_norm
from tactician.policy.gru import SIXTEEN, GruLayer, Kernels
from tactician.policy.network import Network
from tactician.policy.relu_norm import ReluNorm

_STEPS, _ENVS = 32, 64
_CANDIDATES: tuple[tuple[Kernels, str, str], ...] = (
    ("fused", "Our recurrent kernels", "the GPU library's own layer"),
    ("library", "This GPU's recurrent kernels", "a slower layer of plain operations"),
)
"""In the order in which they are tried: name, whose they are, and what comes after them."""
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Relative errors: float32 leaves room for TF32, which keeps 10 bits of a factor's mantissa as float16 does."""


def settle_recurrence(
    policy: Network, dtype: torch.dtype | None = None, *, fused: bool = False
) -> tuple[Kernels, str | None]:
    """Use the first recurrent kernels that agree with the written-out layer: ours, the library's, or that layer itself.

    Args:
        policy: on its device; the ``kernels`` of its layers, if it has any, are set.
        dtype: precision of the forward passes; None for that of the parameters.
        fused: whether ours are tried, in 16 bits.

    Returns:
        The kernels, and what the user should be told if better ones cannot be used.
    """
    layers = _recurrent_layers(policy)
    if _on_cpu(policy) or not layers:  # the written-out layer is used anyway
        return "plain", None
    kind = dtype or policy.value_scale.dtype
    name = str(kind).removeprefix("torch.")
    told = None
    for kernels, whose, instead in _CANDIDATES:
        if kernels == "fused" and not (
            fused and kind in SIXTEEN and all(fused_gru.fits(x.hidden_size) for x in layers)
        ):
            continue
        try:
            error = max(kernel_error(layer, kind, kernels) for layer in layers)
            if kernels == "fused":
                error = max([error, *(norm_error(norm, kind) for norm in _norms(policy))])
            reason = f"differ by {error:.1g} from their definition"
        except Exception as problem:  # a compiler of kernels raises whatever it likes, and the next candidate may work
            error, reason = float("inf"), f"failed ({(str(problem) or repr(problem)).splitlines()[0][:80]})"
        if error <= _TOLERANCE[kind]:
            use_kernels(policy, kernels)
            return kernels, told
        told = f"{whose} {reason} in {name}: {instead} is used instead."
    use_kernels(policy, "plain")
    return "plain", told


def _on_cpu(policy: Network) -> bool:
    return policy.value_scale.is_cpu  # every network has this buffer; one that holds equal weight has no parameters


def use_kernels(policy: Network, kernels: Kernels) -> None:
    """Let all recurrent layers use these kernels on a GPU, and with ours also the normalisations."""
    for layer in _recurrent_layers(policy):
        layer.kernels = kernels
    for norm in _norms(policy):
        norm.fused = kernels == "fused"


def _recurrent_layers(policy: Network) -> list[GruLayer]:
    return [module for module in policy.modules() if isinstance(module, GruLayer)]


def _norms(policy: Network) -> list[ReluNorm]:
    """Those that a kernel of ours can compute."""
    return [m for m in policy.modules() if isinstance(m, ReluNorm) and fused_norm.fits(m.weight.numel())]


def norm_error(norm: ReluNorm, dtype: torch.dtype) -> float:
    """Largest relative error, in the 2-norm, of a normalisation and of its gradients by our kernel.

    Args:
        norm: on the device in question; unchanged.
        dtype: precision of the kernel. It is compared with torch's operations in the parameters' precision.
    """
    generator = torch.Generator().manual_seed(0)
    # Rows that fill no tile, and more of them than the derivative has programs.
    x, direction = (torch.randn(10_007, norm.weight.numel(), generator=generator).to(norm.weight) for _ in range(2))
    x = x.to(dtype).to(x.dtype).requires_grad_()  # the same numbers for both, so that none changes its sign
    sources = (x, norm.weight, norm.bias)
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        both = (norm.plainly(x), norm.by_kernel(x.to(dtype)))
        right, found = ([y.detach(), *torch.autograd.grad((y * direction).sum(), sources)] for y in both)
    return _largest_error(right, found)


def kernel_error(layer: GruLayer, dtype: torch.dtype, kernels: Kernels = "library") -> float:
    """Largest relative error, in the 2-norm, of the states and of every gradient that kernels compute.

    Args:
        layer: on the device in question; unchanged.
        dtype: precision of the kernels. They are compared with the written-out layer in the parameters' precision.
        kernels: which.
    """
    few = _error_with(layer, dtype, kernels, _STEPS, _ENVS)
    if kernels != "fused":
        return few
    # With so many sequences our kernels take other sizes.
    return max(few, _error_with(layer, dtype, kernels, 2, fused_gru.many_rows(layer.weight_ih_l0.device)))


def _error_with(layer: GruLayer, dtype: torch.dtype, kernels: Kernels, steps: int, envs: int) -> float:
    weight = layer.weight_ih_l0
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(weight)

    inputs = normal(steps, envs, layer.input_size).requires_grad_()
    hidden = normal(envs, layer.hidden_size).tanh().requires_grad_()
    direction = normal(steps, envs, layer.hidden_size)
    sources = (inputs, hidden, *layer.weights)
    with torch.enable_grad(), torch.autocast(weight.device.type, enabled=False):
        states = layer.own_sequence(inputs, hidden)
        right = [states.detach(), *torch.autograd.grad((states * direction).sum(), sources)]
        states = layer.sequence_by(kernels, inputs.to(dtype), hidden.to(dtype))
        found = [states.detach(), *torch.autograd.grad((states * direction).sum(), sources)]
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):  # as in a rollout, which keeps nothing
        acting = layer.sequence_by(kernels, inputs.to(dtype), hidden.to(dtype))
    return _largest_error([*right, right[0]], [*found, acting])


def _largest_error(right: list[Tensor], found: list[Tensor]) -> float:
    errors = [(b.to(a) - a).norm() / a.norm().clamp(min=1e-12) for a, b in zip(right, found, strict=True)]
    return float(torch.stack(errors).max())
