"""The gated recurrent layer of `gru` on an NVIDIA GPU: one kernel for all steps of a sequence, and one for its derivative.

A library's recurrent layer starts several kernels per step, and its derivative reads and writes every gate more than once. Here
a program takes a few sequences and walks through all of their steps. The state stays in the caches between two steps, and a
barrier inside the program takes the place of a launch. Sequences need nothing of one another, so programs never wait.

What does not depend on the state is left to large matrix products of the library: the inputs' part of the gates before the
loop, and the gradients of inputs and weights after it. Products take operands of the inputs' type and add up in float32 (TF32
products for float32). States are rounded to the inputs' type after every step.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:  # comes with torch for CUDA, and not with torch for a CPU
    triton = None

AVAILABLE = triton is not None
"""Whether the kernels can be compiled here."""

FEWEST_UNITS, MOST_UNITS = 32, 512
"""Hidden units of a layer: a power of two within these bounds."""

MOST_BLOCK, TERMS = 256, 32
"""Hidden units that a program computes at once (half of them with more sequences), and terms of its products; backwards twice
as many."""

_FEWEST_TERMS = 16
"""A tensor core multiplies as many."""

WARPS, STAGES = 8, 4
"""Warps of a program, and stages of its products: the weights of the next terms are on their way meanwhile."""

FEWEST_ROWS, MOST_ROWS = 16, 32
"""Sequences of a program. A tensor core multiplies at least 16 rows."""


def fits(units: int) -> bool:
    """Whether the kernels can compute a layer of so many hidden units here."""
    return AVAILABLE and FEWEST_UNITS <= units <= MOST_UNITS and units & (units - 1) == 0


def rows_per_program(n_rows: int, processors: int) -> int:
    """Sequences that a program takes: as few as let every processor have one program at most, within the bounds.

    Every program reads all weights in every step. So a second program on a processor costs as much as the first.
    """
    return FEWEST_ROWS if n_rows <= FEWEST_ROWS * processors else MOST_ROWS


def many_rows(device: torch.device) -> int:
    """Sequences of which programs take more than the fewest; no multiple of what they take."""
    return FEWEST_ROWS * _processors(device) + 7


def fused_sequence(
    inputs: Float[Tensor, "step env input"],
    hidden: Float[Tensor, "env hidden"],
    weight_ih: Float[Tensor, "gates input"],
    weight_hh: Float[Tensor, "gates hidden"],
    bias_ih: Float[Tensor, " gates"],
    bias_hh: Float[Tensor, " gates"],
) -> Float[Tensor, "step env hidden"]:
    """The state after every step, as `gru.GruLayer.sequence` defines it.

    Args:
        inputs: of float32, bfloat16 or float16; the states have the same type.
        hidden: the state before the first step, of the same type.
        weight_ih: of the inputs, gates r, z, n one after the other.
        weight_hh: of the state; its number of units `fits`.
        bias_ih: of the inputs' part.
        bias_hh: of the state's part.
    """
    states: Tensor = _FusedGru.apply(inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh)
    return states


class _FusedGru(torch.autograd.Function):
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
        kept = weight_ih.to(inputs.dtype), weight_hh.to(inputs.dtype)
        # b_hr and b_hz only ever add to b_ir and b_iz; b_hn stays apart because r multiplies it.
        bias = torch.cat((bias_ih[: 2 * size] + bias_hh[: 2 * size], bias_ih[2 * size :])).to(inputs.dtype)
        gates = torch.addmm(bias, inputs.flatten(0, 1), kept[0].t())
        states = inputs.new_empty(steps + 1, envs, size)
        states[0] = hidden
        train = any(ctx.needs_input_grad)
        # The derivative needs the four activations. Three overwrite the inputs' part of the gates.
        products = inputs.new_empty(steps * envs, size) if train else gates
        rows_of_each = rows_per_program(envs, _processors(inputs.device))
        _forward[(triton.cdiv(envs, rows_of_each),)](
            gates,
            kept[1].t().contiguous(),
            bias_hh[2 * size :].float(),
            states,
            products,
            envs,
            steps,
            size,
            train,
            rows_of_each,
            **_blocks(inputs, size, rows_of_each, 3),
        )
        ctx.save_for_backward(inputs, *kept, gates, products, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_ih, weight_hh, gates, products, states = ctx.saved_tensors
        steps, envs, input_size = inputs.shape
        size, rows = states.shape[-1], steps * envs
        # Columns q, r, z, n: the first three meet W_hh and the last three W_ih, so neither product copies anything.
        grads = inputs.new_empty(rows, 4 * size)
        carried = torch.zeros(envs, size, dtype=torch.float32, device=inputs.device)
        rows_of_each = rows_per_program(envs, _processors(inputs.device))
        _backward[(triton.cdiv(envs, rows_of_each),)](
            gates,
            torch.cat((weight_hh[2 * size :], weight_hh[: 2 * size])),
            states,
            products,
            grad_states.contiguous(),
            grads,
            carried,
            envs,
            steps,
            size,
            rows_of_each,
            **_blocks(inputs, size, rows_of_each, 1),
        )
        of_inputs, of_state = grads[:, size:], grads[:, : 3 * size]
        grad_ih = of_inputs.t() @ inputs.view(rows, input_size)
        grad_qrz = of_state.t() @ states[:-1].view(rows, size)
        grad_bias = grads.sum(0, dtype=torch.float32)
        grad_inputs = (of_inputs @ weight_ih).view_as(inputs) if ctx.needs_input_grad[0] else None
        # Back from the order q, r, z to the parameters' own r, z, n.
        grad_hh, grad_bias_hh = (torch.cat((x[size : 3 * size], x[:size])) for x in (grad_qrz, grad_bias))
        return grad_inputs, carried.to(inputs.dtype), grad_ih, grad_hh, grad_bias[size:], grad_bias_hh


def _blocks(like: Tensor, size: int, rows: int, gates: int) -> dict[str, Any]:
    """Hidden units of a block, terms of a product, how float32 is multiplied, warps, and stages."""
    # Of float32 torch's switch of its own recurrent kernels counts.
    tf32 = torch.backends.cudnn.allow_tf32 or like.dtype != torch.float32
    units = min(MOST_BLOCK * FEWEST_ROWS // rows, size)
    terms = min(size, TERMS if gates > 1 else 2 * TERMS)
    # All stages but one hold the weights of their terms, and the states of the program's sequences. The rest is for results.
    bytes_of_a_term, room = (gates * units + rows) * like.element_size(), int(0.85 * _shared_memory(like.device))
    while terms > _FEWEST_TERMS and terms * bytes_of_a_term > room // 2:
        terms //= 2
    stages = max(2, min(STAGES, 1 + room // (terms * bytes_of_a_term)))
    return {
        "block": units,
        "terms": terms,
        "precision": "tf32" if tf32 else "ieee",
        "num_warps": WARPS,
        "num_stages": stages,
    }


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _shared_memory(device: torch.device) -> int:
    """Bytes that a program may take of a processor's fast memory: 227 KiB on Hopper, 99 KiB on smaller chips."""
    known = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return getattr(known, "shared_memory_per_block_optin", 227 << 10)


if AVAILABLE:

    @triton.jit(do_not_specialize=["envs"])
    def _forward(
        gates: tl.tensor,
        weight: tl.tensor,
        bias_n: tl.tensor,
        states: tl.tensor,
        products: tl.tensor,
        envs: tl.tensor,
        steps: tl.constexpr,
        size: tl.constexpr,
        train: tl.constexpr,
        rows: tl.constexpr,
        block: tl.constexpr,
        terms: tl.constexpr,
        precision: tl.constexpr,
    ) -> None:
        """Walk ``rows`` sequences through all steps.

        ``gates [step·env, 3·size]`` holds the inputs' part of r, z, n, and their activations afterwards (with ``train``);
        ``weight [size, 3·size]`` is W_hh transposed; ``states [step + 1, env, size]``; ``products [step·env, size]`` gets q.
        """
        kind: tl.constexpr = states.dtype.element_ty
        row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
        inside = (row < envs)[:, None]
        for t in range(steps):
            now = t * envs.to(tl.int64) + row
            before, after = states + now[:, None] * size, states + (now + envs)[:, None] * size
            gate = gates + now[:, None] * (3 * size)
            for j in range(0, size, block):
                unit = (j + tl.arange(0, block))[None, :]
                # What the products do not need is asked for before them, so that it arrives while they are made.
                r_in = tl.load(gate + unit, mask=inside, other=0.0)
                z_in = tl.load(gate + size + unit, mask=inside, other=0.0)
                n_in = tl.load(gate + 2 * size + unit, mask=inside, other=0.0)
                h_own = tl.load(before + unit, mask=inside, other=0.0)
                r = tl.zeros((rows, block), tl.float32)
                z = tl.zeros((rows, block), tl.float32)
                q = tl.zeros((rows, block), tl.float32)
                for k in range(0, size, terms):
                    term = k + tl.arange(0, terms)
                    h = tl.load(before + term[None, :], mask=inside, other=0.0)
                    column = weight + term[:, None] * (3 * size) + unit
                    r = tl.dot(h, tl.load(column), r, input_precision=precision)
                    z = tl.dot(h, tl.load(column + size), z, input_precision=precision)
                    q = tl.dot(h, tl.load(column + 2 * size), q, input_precision=precision)
                r = tl.sigmoid(r + r_in.to(tl.float32))
                z = tl.sigmoid(z + z_in.to(tl.float32))
                q += tl.load(bias_n + unit)
                n = 2.0 * tl.sigmoid(2.0 * (n_in.to(tl.float32) + r * q)) - 1.0
                tl.store(after + unit, (n + z * (h_own.to(tl.float32) - n)).to(kind), mask=inside)
                if train:
                    tl.store(gate + unit, r.to(kind), mask=inside)
                    tl.store(gate + size + unit, z.to(kind), mask=inside)
                    tl.store(gate + 2 * size + unit, n.to(kind), mask=inside)
                    tl.store(products + now[:, None] * size + unit, q.to(kind), mask=inside)
            # The next step reads what other threads of this program have written.
            tl.debug_barrier()

    @triton.jit(do_not_specialize=["envs"])
    def _backward(
        gates: tl.tensor,
        weight: tl.tensor,
        states: tl.tensor,
        products: tl.tensor,
        grad_states: tl.tensor,
        grads: tl.tensor,
        carried: tl.tensor,
        envs: tl.tensor,
        steps: tl.constexpr,
        size: tl.constexpr,
        rows: tl.constexpr,
        block: tl.constexpr,
        terms: tl.constexpr,
        precision: tl.constexpr,
    ) -> None:
        """Walk ``rows`` sequences backwards; the formulas are those of `gru._gate_gradients`.

        ``weight [3·size, size]`` is W_hn, W_hr, W_hz; ``grads [step·env, 4·size]`` gets the gradients of q, r, z, n;
        ``carried [env, size]`` begins as 0 and ends as the gradient of the first state.
        """
        kind: tl.constexpr = states.dtype.element_ty
        row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
        inside = (row < envs)[:, None]
        carry = carried + row[:, None] * size
        for i in range(steps):
            now = (steps - 1 - i) * envs.to(tl.int64) + row
            gate, grad = gates + now[:, None] * (3 * size), grads + now[:, None] * (4 * size)
            own = now[:, None] * size
            for j in range(0, size, block):
                unit = (j + tl.arange(0, block))[None, :]
                d = tl.load(carry + unit, mask=inside, other=0.0)
                d += tl.load(grad_states + own + unit, mask=inside, other=0.0).to(tl.float32)
                r = tl.load(gate + unit, mask=inside, other=0.0).to(tl.float32)
                z = tl.load(gate + size + unit, mask=inside, other=0.0).to(tl.float32)
                n = tl.load(gate + 2 * size + unit, mask=inside, other=0.0).to(tl.float32)
                q = tl.load(products + own + unit, mask=inside, other=0.0).to(tl.float32)
                h = tl.load(states + own + unit, mask=inside, other=0.0).to(tl.float32)
                dn = d * (1.0 - z) * (1.0 - n * n)
                tl.store(grad + unit, (dn * r).to(kind), mask=inside)
                tl.store(grad + size + unit, (dn * q * r * (1.0 - r)).to(kind), mask=inside)
                tl.store(grad + 2 * size + unit, (d * (h - n) * z * (1.0 - z)).to(kind), mask=inside)
                tl.store(grad + 3 * size + unit, dn.to(kind), mask=inside)
                tl.store(carry + unit, d * z, mask=inside)
            tl.debug_barrier()
            for j in range(0, size, block):
                unit = (j + tl.arange(0, block))[None, :]
                d = tl.load(carry + unit, mask=inside, other=0.0)
                for k in range(0, 3 * size, terms):
                    term = k + tl.arange(0, terms)
                    g = tl.load(grad + term[None, :], mask=inside, other=0.0)
                    d = tl.dot(g, tl.load(weight + term[:, None] * size + unit), d, input_precision=precision)
                tl.store(carry + unit, d, mask=inside)
            tl.debug_barrier()
