"""The GPU's kernels of the recurrent layer against the layer that is written out; without a GPU in Triton's interpreter."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tactician.policy import GruLayer, fused_gru

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(not fused_gru.AVAILABLE, reason="needs triton")


# Sequences that are no multiple of a program's rows, units that are no multiple of a block, and a single step.
@needs_triton
@pytest.mark.parametrize(
    ("envs", "steps", "units", "inputs"), [(5, 3, 32, 48), (17, 4, 64, 64), (40, 2, 128, 32), (1, 1, 64, 8)]
)
def test_states_and_gradients_are_those_of_the_layer_that_is_written_out(monkeypatch, envs, steps, units, inputs):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    layer = GruLayer(inputs, units).to(DEVICE)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(3)  # gates away from their middle
    x = torch.randn(steps, envs, inputs, device=DEVICE, requires_grad=True)
    h = torch.randn(envs, units, device=DEVICE, requires_grad=True)
    direction = torch.randn(steps, envs, units, device=DEVICE)
    found = []
    for kernels in ("plain", "fused"):
        states = layer.sequence_by(kernels, x, h)
        found.append([states.detach(), *torch.autograd.grad((states * direction).sum(), (x, h, *layer.weights))])
    for name, one, other in zip(("states", "x", "h", "W_ih", "W_hh", "b_ih", "b_hh"), *found, strict=True):
        assert float((one - other).norm() / one.norm()) < 2e-6, name
    with torch.no_grad():  # nothing is kept for a derivative
        assert torch.equal(layer.sequence_by("fused", x, h), found[1][0])


COMPILE = """
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from tactician.policy import fused_gru, fused_norm

    def check(kernel, types, constants):
        names = kernel.arg_names
        signature = {name: types.get(name, "constexpr") for name in names}
        aligned = {(names.index(name),): [["tt.divisibility", 16]] for name, kind in types.items() if kind[0] == "*"}
        source = ASTSource(kernel, signature, {(names.index(k),): v for k, v in constants.items()}, aligned)
        assert compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8}).asm["cubin"]

    for kind, precision, rows in (("bf16", "tf32", 32), ("fp32", "tf32", 16), ("fp32", "ieee", 16)):
        sizes = dict(steps=64, size=64, rows=rows, block=64, terms=32, precision=precision)
        pointers = {name: f"*{kind}" for name in ("gates", "weight", "states", "products")} | {"envs": "i32"}
        for train in (False, True):
            check(fused_gru._forward, pointers | {"bias_n": "*fp32"}, sizes | {"train": train})
        check(fused_gru._backward, pointers | {"grad_states": f"*{kind}", "grads": f"*{kind}", "carried": "*fp32"}, sizes)
    for kernel, more in (
        (fused_norm._forward, {"y": "*bf16", "bias": "*fp32"}),
        (fused_norm._backward, {"grad": "*bf16", "of_input": "*bf16", "sums": "*fp32"}),
    ):
        types = {"x": "*bf16", "weight": "*fp32", "n_rows": "i32", "eps": "fp32"} | more
        check(kernel, types, {k: v for k, v in dict(programs=8, turns=3, units=64, rows=64).items() if k in kernel.arg_names})
    print("compiled")
"""


@needs_triton
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    # The interpreter allows what the compiler does not. In a process of its own, since the interpreter is chosen at import.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COMPILE)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "compiled", done.stderr[-2000:]


def test_programs_take_more_sequences_once_every_processor_has_a_program():
    assert [fused_gru.rows_per_program(n, 132) for n in (1, 1024, 132 * 16, 132 * 16 + 1, 10**6)] == [
        16,
        16,
        16,
        32,
        32,
    ]


@pytest.mark.parametrize(
    ("units", "fits"), [(16, False), (32, True), (48, False), (96, False), (256, True), (512, True), (1024, False)]
)
def test_a_layer_fits_if_its_units_fill_the_blocks(units, fits):
    assert fused_gru.fits(units) == (fits and fused_gru.AVAILABLE)
