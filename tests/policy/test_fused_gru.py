"""The GPU's kernels of the recurrent layer, run by their interpreter on a CPU, against the layer that is written out."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tactician.policy import fused_gru

SCRIPT = """
    import torch
    from tactician.policy import GruLayer, fused_gru

    torch.manual_seed(0)
    # Sequences that are no multiple of a program's rows, and units that are no multiple of a block.
    for envs, steps, units, inputs in ((5, 3, 32, 48), (17, 4, 64, 64), (40, 2, 96, 32), (1, 1, 64, 8)):
        layer = GruLayer(inputs, units)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(3)  # gates away from their middle
        x, h = torch.randn(steps, envs, inputs, requires_grad=True), torch.randn(envs, units, requires_grad=True)
        direction = torch.randn(steps, envs, units)
        sources = (x, h, *layer.weights)
        found = []
        for kernels in ("plain", "fused"):
            states = layer.sequence_by(kernels, x, h)
            found.append([states.detach(), *torch.autograd.grad((states * direction).sum(), sources)])
        for name, one, other in zip(("states", "x", "h", "W_ih", "W_hh", "b_ih", "b_hh"), *found, strict=True):
            error = float((one - other).norm() / one.norm())
            assert error < 2e-6, (name, envs, steps, units, error)
        with torch.no_grad():  # nothing is kept for a derivative
            assert torch.equal(layer.sequence_by("fused", x, h), found[1][0])
    print("equal")
"""


@pytest.mark.skipif(not fused_gru.AVAILABLE, reason="needs triton")
def test_states_and_gradients_are_those_of_the_layer_that_is_written_out():
    # In a process of its own: the interpreter is chosen when the kernels are imported.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def test_programs_take_as_many_sequences_as_keep_all_processors_busy():
    rows = [fused_gru.rows_per_program(n, 132) for n in (1, 1024, 132 * 16, 132 * 32, 132 * 64, 10**6)]
    assert rows == [16, 16, 16, 32, 64, 64]


@pytest.mark.parametrize(("units", "fits"), [(16, False), (32, True), (48, False), (64, True), (256, True)])
def test_a_layer_fits_if_its_units_fill_the_blocks(units, fits):
    assert fused_gru.fits(units) == (fits and fused_gru.AVAILABLE)
