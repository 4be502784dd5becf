"""One gated recurrent layer over a whole sequence, exact on every device and fast on a CPU.

The cell is that of Cho et al. (2014) in the form of cuDNN and ``nn.GRU``, with σ the logistic function::

    r  = σ(W_ir x + b_ir + W_hr h + b_hr)
    z  = σ(W_iz x + b_iz + W_hz h + b_hz)
    n  = tanh(W_in x + b_in + r ⊙ q),   q = W_hn h + b_hn
    h' = (1 − z) ⊙ n + z ⊙ h

On a CUDA device one call of cuDNN computes it, or kernels of our own (`fused_gru`). On a CPU ``nn.GRU`` is a loop of separate
operations whose autograd allocates every intermediate and adds every step's weight gradient on its own. Here the derivative is
written out instead. The loop over time keeps only what is truly sequential. Everything else is one large matrix product over
many steps.
"""

import warnings
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tactician.policy import fused_gru

# Weights in 16 bits, and those of a copied layer, are not contiguous in memory. cuDNN then copies them together at each call,
# and warns. That costs microseconds, and a user can do nothing about it.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk of memory")

# Rows (steps × environments) whose gate gradients are held before they are turned into weight gradients. Enough of them for
# a matrix product at full rate, few enough for the 4·H columns to stay in a laptop's last-level cache.
_ROWS_PER_CHUNK = 4096

# d(loss)/d(pre-activation) from d(loss)/d(activation) and the activation, in one pass and without a temporary.
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


Kernels = Literal["fused", "library", "plain"]
"""Ours for a GPU (`fused_gru`), or else those of torch's own library, or the operations below. A CPU always takes the last."""


SIXTEEN = (torch.bfloat16, torch.float16)
"""Precisions in which our kernels are used. In float32 the library's are faster (docs/gpu.md)."""


class GruLayer(nn.GRU):
    """A one-layer ``nn.GRU`` (same parameters, same names, same gate order r, z, n) with a functional `sequence`.

    Args:
        input_size: size of a step's input.
        hidden_size: size of the recurrent state.
    """

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: nn.Parameter

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.kernels: Kernels = "library"
        """Compute the layer on a GPU. A training takes faster ones once `tactician.policy.parity` has checked them."""

    @property
    def weights(self) -> tuple[nn.Parameter, ...]:
        """W_ih, W_hh, b_ih, b_hh."""
        return self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0

    def sequence(
        self, inputs: Float[Tensor, "step env input"], hidden: Float[Tensor, "env hidden"]
    ) -> Float[Tensor, "step env hidden"]:
        """The state after every step; the last one is where the next sequence starts.

        On a CPU always in the parameters' precision, on a GPU in that of autocast if it is on.
        """
        device = inputs.device.type
        kernels = "plain" if inputs.is_cpu else self.kernels
        autocast = torch.is_autocast_enabled(device) and kernels != "plain"
        dtype = torch.get_autocast_dtype(device) if autocast else self.weight_ih_l0.dtype
        if kernels == "fused" and dtype not in SIXTEEN:  # as in a judgement, which is in float32
            kernels = "library"
        # Autocast would turn the weights of a recurrent layer into float16 even where bfloat16 was asked for.
        with torch.autocast(device, enabled=False):
            return self.sequence_by(kernels, inputs.to(dtype), hidden.to(dtype))

    def sequence_by(self, kernels: Kernels, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The layer by the kernels that are named, in the inputs' precision; the shapes of `sequence`."""
        if kernels == "fused":
            return fused_gru.fused_sequence(inputs, hidden, *self.weights)
        return (self.own_sequence if kernels == "plain" else self.native_sequence)(inputs, hidden)

    def own_sequence(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The layer as it is written out below; the shapes and types of `sequence`."""
        states: Tensor = _GruSequence.apply(inputs, hidden, *self.weights)
        return states

    def native_sequence(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The layer in one call of torch, in the inputs' precision; the shapes of `sequence`."""
        weights = [w.to(inputs.dtype) for w in self.weights]
        train = torch.is_grad_enabled()  # what cuDNN keeps for the backward pass it keeps in training only
        states, _ = torch.gru(inputs, hidden.unsqueeze(0).contiguous(), weights, True, 1, 0.0, train, False, False)
        return states


class _GruSequence(torch.autograd.Function):
    """The layer and its derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        steps, envs, _ = inputs.shape
        size = hidden.shape[-1]
        # The inputs' part of all gates does not depend on the state: one product for all steps, outside the loop.
        # b_hr and b_hz only ever add to b_ir and b_iz; b_hn stays apart because r multiplies it.
        bias = torch.cat((bias_ih[: 2 * size] + bias_hh[: 2 * size], bias_ih[2 * size :]))
        gates = torch.addmm(bias, inputs.flatten(0, 1), weight_ih.t()).view(steps, envs, 3 * size)
        products = inputs.new_empty(steps, envs, size)
        states = inputs.new_empty(steps + 1, envs, size)
        states[0] = hidden
        weight_rz, weight_n, bias_n = weight_hh[: 2 * size].t(), weight_hh[2 * size :].t(), bias_hh[2 * size :]
        minus_one = inputs.new_full((), -1.0)
        views = _steps(gates[..., : 2 * size], *gates.split(size, -1), products, states[:-1], states[1:])
        for rz, r, z, n, q, before, after in views:
            rz.addmm_(before, weight_rz).sigmoid_()
            torch.addmm(bias_n, before, weight_n, out=q)
            # tanh a = 2σ(2a) − 1: torch's σ is vectorised, its tanh on a CPU costs ten times as much.
            torch.add(minus_one, n.addcmul_(r, q).mul_(2.0).sigmoid_(), alpha=2.0, out=n)
            torch.lerp(n, before, z, out=after)
        # The gates were overwritten by their activations, which is all that the derivatives of σ and tanh need.
        ctx.save_for_backward(inputs, weight_ih, weight_hh, gates, products, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_ih, weight_hh, gates, products, states = ctx.saved_tensors
        steps, envs, input_size = inputs.shape
        size = products.shape[-1]
        chunk = max(1, min(steps, _ROWS_PER_CHUNK // max(1, envs)))
        # Columns q, r, z, n: the first three meet W_hh and the last three W_ih, so neither product copies anything.
        grads = inputs.new_empty(chunk, envs, 4 * size)
        slots = _steps(grads[..., : 3 * size], *grads.split(size, -1))
        known = _steps(grad_states, states[:-1], products, *gates.split(size, -1))
        weight_qrz = torch.cat((weight_hh[2 * size :], weight_hh[: 2 * size]))
        grad_ih, grad_qrz = torch.zeros_like(weight_ih), torch.zeros_like(weight_qrz)
        grad_bias = inputs.new_zeros(4 * size)
        grad_inputs = inputs.new_empty(inputs.shape) if ctx.needs_input_grad[0] else None
        carried = torch.zeros_like(products[0])
        # From the last step to the first: ``carried`` is the gradient that the later steps send to the state before them.
        for end in range(steps, 0, -chunk):
            begin = max(0, end - chunk)
            rows = (end - begin) * envs
            carried = _gate_gradients(carried, known[begin:end], slots[: end - begin], weight_qrz)
            block = grads[: end - begin].view(rows, 4 * size)
            grad_ih.addmm_(block[:, size:].t(), inputs[begin:end].reshape(rows, input_size))
            grad_qrz.addmm_(block[:, : 3 * size].t(), states[begin:end].view(rows, size))
            grad_bias += block.sum(0)
            if grad_inputs is not None:
                torch.mm(block[:, size:], weight_ih, out=grad_inputs[begin:end].view(rows, input_size))
        # Back from the order q, r, z to the parameters' own r, z, n.
        grad_hh, grad_bias_hh = (torch.cat((x[size : 3 * size], x[:size])) for x in (grad_qrz, grad_bias))
        return grad_inputs, carried, grad_ih, grad_hh, grad_bias[size:], grad_bias_hh


def _gate_gradients(
    carried: Tensor, known: list[tuple[Tensor, ...]], slots: list[tuple[Tensor, ...]], weight_qrz: Tensor
) -> Tensor:
    """Walk a chunk backwards; fill the slots with the gates' gradients, return that of the state before the chunk.

    With δ = d(loss)/dh', the cell's derivative is ::

        dz = δ (h − n) z(1 − z),   dn = δ (1 − z) (1 − n²),   dq = dn · r,   dr = dn · q · r(1 − r)
        dh = δ z + [dq dr dz] [W_hn; W_hr; W_hz]
    """
    spare = torch.empty_like(carried)
    for (grad, before, q, r, z, n), (d_qrz, dq, dr, dz, dn) in zip(reversed(known), reversed(slots), strict=True):
        carried.add_(grad)
        _sigmoid_backward(torch.sub(before, n, out=spare).mul_(carried), z, grad_input=dz)
        _tanh_backward(carried, n, grad_input=dn)
        dn.addcmul_(dn, z, value=-1.0)
        torch.mul(dn, r, out=dq)
        _sigmoid_backward(torch.mul(dn, q, out=spare), r, grad_input=dr)
        carried, spare = torch.mul(carried, z, out=spare).addmm_(d_qrz, weight_qrz), carried
    return carried


def _steps(*buffers: Tensor) -> list[tuple[Tensor, ...]]:
    """Every step's views of the buffers, made at once: on few rows, indexing in the loop costs as much as arithmetic."""
    return list(zip(*(buffer.unbind(0) for buffer in buffers), strict=True))
