"""ReLU and layer normalisation in one kernel, forwards and backwards, on an NVIDIA GPU.

Between two matrix products a layer reads and writes its units several times, once per operation. Here a program reads rows
once, keeps them in registers, and writes the result. For the derivative it reads the input again instead of a stored result.
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

TILE, WARPS = 4096, 4
"""Numbers of a tile, rows × units, and warps of a program."""

PROGRAMS = 528
"""Programs that share the rows of a derivative: four for each of 132 processors. The sums of each are added up at the end."""


def fits(units: int) -> bool:
    """Whether the kernels can normalise so many units here."""
    return AVAILABLE and 16 <= units <= 1024 and units & (units - 1) == 0


def fused_relu_norm(
    x: Float[Tensor, "*batch unit"], weight: Float[Tensor, " unit"], bias: Float[Tensor, " unit"], eps: float
) -> Float[Tensor, "*batch unit"]:
    """Layer normalisation of max(x, 0), times a weight, plus a bias, in the type of x; sums are in float32.

    Args:
        x: before the ReLU; its number of units `fits`.
        weight: of each unit, float32.
        bias: of each unit, float32.
        eps: added to the variance.
    """
    y: Tensor = _ReluNorm.apply(x, weight, bias, eps)
    return y


class _ReluNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        units = x.shape[-1]
        rows = TILE // units
        _forward[(triton.cdiv(x.numel() // units, rows),)](
            x, weight, bias, y, x.numel() // units, eps, units, rows, num_warps=WARPS
        )
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        units = x.shape[-1]
        n_rows, rows, of_input = x.numel() // units, TILE // units, torch.empty_like(x)
        programs = min(PROGRAMS, triton.cdiv(n_rows, rows))
        turns = triton.cdiv(n_rows, programs * rows)
        sums = torch.empty(2, programs, units, device=x.device)
        _backward[(programs,)](
            x,
            weight,
            grad.contiguous(),
            of_input,
            sums,
            n_rows,
            ctx.eps,
            programs,
            turns,
            units,
            rows,
            num_warps=WARPS,
        )
        of_weight, of_bias = sums.sum(1)
        return of_input, of_weight, of_bias, None


if AVAILABLE:

    @triton.jit(do_not_specialize=["n_rows", "eps"])
    def _forward(
        x: tl.tensor,
        weight: tl.tensor,
        bias: tl.tensor,
        y: tl.tensor,
        n_rows: tl.tensor,
        eps: tl.tensor,
        units: tl.constexpr,
        rows: tl.constexpr,
    ) -> None:
        row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
        unit = tl.arange(0, units)[None, :]
        inside = (row < n_rows)[:, None]
        place = row[:, None] * units + unit
        a = tl.maximum(tl.load(x + place, mask=inside, other=0.0).to(tl.float32), 0.0)
        centred = a - (tl.sum(a, axis=1) / units)[:, None]
        scale = tl.rsqrt(tl.sum(centred * centred, axis=1) / units + eps)[:, None]
        result = centred * scale * tl.load(weight + unit) + tl.load(bias + unit)
        tl.store(y + place, result.to(y.dtype.element_ty), mask=inside)

    @triton.jit(do_not_specialize=["n_rows", "eps"])
    def _backward(
        x: tl.tensor,
        weight: tl.tensor,
        grad: tl.tensor,
        of_input: tl.tensor,
        sums: tl.tensor,
        n_rows: tl.tensor,
        eps: tl.tensor,
        programs: tl.constexpr,
        turns: tl.constexpr,
        units: tl.constexpr,
        rows: tl.constexpr,
    ) -> None:
        """With g = grad·weight and h the normalised input: s·(g − mean g − h·mean(g·h)), where the input is positive."""
        program = tl.program_id(0).to(tl.int64)
        unit = tl.arange(0, units)[None, :]
        w = tl.load(weight + unit)
        of_weight = tl.zeros((1, units), tl.float32)
        of_bias = tl.zeros((1, units), tl.float32)
        for turn in range(turns):
            row = (turn * programs + program) * rows + tl.arange(0, rows)
            inside = (row < n_rows)[:, None]
            place = row[:, None] * units + unit
            before = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
            d = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
            a = tl.maximum(before, 0.0)
            centred = a - (tl.sum(a, axis=1) / units)[:, None]
            scale = tl.rsqrt(tl.sum(centred * centred, axis=1) / units + eps)[:, None]
            h = centred * scale
            g = d * w
            along = (tl.sum(g * h, axis=1) / units)[:, None]
            result = scale * (g - (tl.sum(g, axis=1) / units)[:, None] - h * along)
            tl.store(of_input + place, tl.where(before > 0.0, result, 0.0).to(of_input.dtype.element_ty), mask=inside)
            of_weight += tl.sum(d * h, axis=0)[None, :]
            of_bias += tl.sum(d, axis=0)[None, :]
        tl.store(sums + program * units + unit, of_weight)
        tl.store(sums + (programs + program) * units + unit, of_bias)
