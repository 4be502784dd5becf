"""A check, before a run begins, that the device computes the recurrent layer and its gradients correctly.

Recurrent kernels of GPUs differ between generations and libraries. Some lack bfloat16. Gradients of cuDNN have been reported
to be wrong on one device and right on another (PyTorch issue 150700). A run with wrong gradients looks like one that learns
badly. So the device's kernels are first compared with the written-out layer.
"""

import torch
from torch import Tensor

from tactician.policy.gru import GruLayer
from tactician.policy.network import Network

_STEPS, _ENVS = 32, 64
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Relative errors: float32 leaves room for TF32, which keeps 10 bits of a factor's mantissa as float16 does."""


def settle_recurrence(policy: Network, dtype: torch.dtype | None = None) -> str | None:
    """Use the device's recurrent kernels if they agree with the written-out layer, else that layer.

    Args:
        policy: on its device; the ``native`` of its layers, if it has any, is set.
        dtype: precision of the forward passes; None for that of the parameters.

    Returns:
        What the user should be told, if the kernels cannot be used.
    """
    if _on_cpu(policy):  # the written-out layer is used anyway
        return None
    kind = dtype or policy.value_scale.dtype
    try:
        error = max((native_error(layer, kind) for layer in _recurrent_layers(policy)), default=0.0)
        reason = f"differ by {error:.1g} from their definition"
    except (RuntimeError, NotImplementedError) as problem:
        error, reason = float("inf"), f"failed ({str(problem).splitlines()[0][:80]})"
    use_native(policy, error <= _TOLERANCE[kind])
    if error <= _TOLERANCE[kind]:
        return None
    name = str(kind).removeprefix("torch.")
    return f"This GPU's recurrent kernels {reason} in {name}: a slower layer of plain operations is used instead."


def _on_cpu(policy: Network) -> bool:
    return policy.value_scale.is_cpu  # every network has this buffer; one that holds equal weight has no parameters


def use_native(policy: Network, native: bool) -> None:
    """Let all recurrent layers use the device's kernels, or none."""
    for layer in _recurrent_layers(policy):
        layer.native = native


def _recurrent_layers(policy: Network) -> list[GruLayer]:
    return [module for module in policy.modules() if isinstance(module, GruLayer)]


def native_error(layer: GruLayer, dtype: torch.dtype) -> float:
    """Largest relative error, in the 2-norm, of the states and of every gradient that torch's own kernels compute.

    Args:
        layer: on the device in question; unchanged.
        dtype: precision of the kernels. They are compared with the written-out layer in the parameters' precision.
    """
    weight = layer.weight_ih_l0
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(weight)

    inputs = normal(_STEPS, _ENVS, layer.input_size).requires_grad_()
    hidden = normal(_ENVS, layer.hidden_size).tanh().requires_grad_()
    direction = normal(_STEPS, _ENVS, layer.hidden_size)
    sources = (inputs, hidden, *layer.weights)
    with torch.enable_grad(), torch.autocast(weight.device.type, enabled=False):
        states = layer.own_sequence(inputs, hidden)
        right = [states.detach(), *torch.autograd.grad((states * direction).sum(), sources)]
        states = layer.native_sequence(inputs.to(dtype), hidden.to(dtype))
        found = [states.detach(), *torch.autograd.grad((states * direction).sum(), sources)]
    errors = [(b.to(a) - a).norm() / a.norm().clamp(min=1e-12) for a, b in zip(right, found, strict=True)]
    return float(torch.stack(errors).max())
