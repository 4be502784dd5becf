"""What a chip and the kernels of one recurrent layer give, without a run around them; parts of `bench_gpu.py`."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tactician.policy import GruLayer, fused_gru

SHAPES = (
    (16, 8, 256, 32, 4),
    (16, 16, 256, 32, 4),
    (16, 8, 256, 16, 4),
    (16, 8, 128, 32, 4),
    (32, 8, 128, 32, 4),
    (32, 16, 128, 64, 3),
    (32, 8, 128, 64, 3),
    (16, 4, 64, 64, 3),
)
"""Rows, warps, units of a block, terms and stages of the layer's kernels."""


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = 5, warm_up: int = 2) -> float:
    """The median duration of a call, on the device's clock."""
    found = []
    for k in range(warm_up + repeats):
        begun = time.perf_counter()
        if device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            took = start.elapsed_time(end) / 1000
        else:
            work()
            took = time.perf_counter() - begun
        if k >= warm_up:
            found.append(took)
    return statistics.median(found)


def ceilings(device: torch.device, small: bool) -> dict[str, float]:
    """What the chip gives at most: bytes per second of a copy (read and written), and flops per second of a product."""
    numbers, side = (10**6, 256) if small else (2 * 10**9, 8192)
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)
    copied = seconds(lambda: target.copy_(source), device)
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    multiplied = seconds(lambda: a @ b, device)
    return {
        "copy_tb_per_s": 2 * source.nbytes / copied / 1e12,
        "matmul_tflop_per_s": 2 * side**3 / multiplied / 1e12,
    }


def layer(device: torch.device, small: bool) -> list[dict[str, Any]]:
    """The recurrent layer forwards, and forwards and backwards, by torch's kernels and by ours with blocks of all sizes."""
    steps, units = (8, 32) if small else (64, 256)
    dtypes, table = (torch.bfloat16 if device.type == "cuda" else torch.float32,), []
    for dtype, rows in itertools.product(dtypes, (32,) if small else (1024, 4096)):
        torch.manual_seed(0)
        gru = GruLayer(units, units).to(device)
        x = torch.randn(steps, rows, units, device=device, dtype=dtype).requires_grad_()
        h = torch.randn(rows, units, device=device, dtype=dtype)
        direction = torch.randn(steps, rows, units, device=device, dtype=dtype)

        def forwards(kernels: str, gru=gru, x=x, h=h) -> None:
            with torch.no_grad():
                gru.sequence_by(kernels, x, h)

        def both(kernels: str, gru=gru, x=x, h=h, direction=direction) -> None:
            states = gru.sequence_by(kernels, x, h)
            torch.autograd.grad(states, (x, *gru.weights), direction)

        def entry(name: str, kernels: str, dtype=dtype, rows=rows, forwards=forwards, both=both) -> dict[str, Any]:
            row = {"layer": name, "dtype": str(dtype), "rows": rows}
            try:
                row |= {
                    "forwards_ms": 1000 * seconds(lambda: forwards(kernels), device),
                    "both_ms": 1000 * seconds(lambda: both(kernels), device),
                }
            except Exception as error:  # blocks that the chip has no room for
                row["failed"] = str(error).splitlines()[0][:80]
            print(" ", row, flush=True)
            return row

        table.append(entry("library", "library" if device.type == "cuda" else "plain"))
        if device.type != "cuda" or not fused_gru.AVAILABLE:
            continue
        for shape in SHAPES:
            with blocks(*shape):
                table.append(entry("fused, {} rows, {} warps, {} units, {} terms, {} stages".format(*shape), "fused"))
    return table + one_step(device, small)


def one_step(device: torch.device, small: bool) -> list[dict[str, Any]]:
    """A rollout's step of the recurrent layer, for which the kernels of whole sequences were not made.

    Beside them: torch's cell, which has two matrix products and one kernel for the rest.
    """
    rows, units = (64, 32) if small else (65_536, 256)
    gru = GruLayer(units, units).to(device, torch.bfloat16)
    x, h = (torch.randn(rows, units, device=device, dtype=torch.bfloat16) for _ in range(2))
    ways: dict[str, Callable[[], Any]] = {
        name: lambda name=name: gru.sequence_by(name, x[None], h)
        for name in (("library", "fused") if device.type == "cuda" and fused_gru.AVAILABLE else ("plain",))
    }
    ways["cell"] = lambda: torch.gru_cell(x, h, *gru.weights)
    table = []
    for name, work in ways.items():
        with torch.no_grad():
            table.append({"layer": name, "steps": 1, "rows": rows, "forwards_ms": 1000 * seconds(work, device)})
        print(" ", table[-1], flush=True)
    return table


@contextmanager
def blocks(rows: int, warps: int, block: int, terms: int, stages: int) -> Iterator[None]:
    """The layer's kernels with other sizes."""
    changes = {
        "rows_per_program": lambda *_: rows,
        "MOST_BLOCK": block * rows // fused_gru.FEWEST_ROWS,
        "TERMS": terms,
        "WARPS": warps,
        "STAGES": stages,
    }
    before = {name: getattr(fused_gru, name) for name in changes}
    for name, value in changes.items():
        setattr(fused_gru, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(fused_gru, name, value)
