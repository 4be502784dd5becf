"""What the written-out recurrent layer gains on this machine: forward and backward of `GruLayer` beside `nn.GRU`.

Both hold the same weights and read the same numbers, and their gradients are compared before anything is timed. They run
in turns, so that a busy neighbour slows both; the medians of the rounds after the warm-up count, and the ratio is the
median of the rounds' ratios. A step is one environment's: T × N of them in a pass.

    OMP_NUM_THREADS=1 python benchmarks/bench_policy.py [--hidden-dim 256] [--rounds 7] [--device cpu] [--quick] [--json FILE]
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from tactician.policy import GruLayer

FULL = [(steps, envs) for steps in (64, 256) for envs in (32, 128)]
QUICK = [(64, 32)]


def make_passes(hidden_dim: int, steps: int, envs: int, device: torch.device):
    """Two functions, ours and torch's, that run forward and backward and return the gradients."""
    generator = torch.Generator().manual_seed(0)
    mine = GruLayer(hidden_dim, hidden_dim).to(device)
    plain = nn.GRU(hidden_dim, hidden_dim).to(device)
    plain.load_state_dict(mine.state_dict())
    inputs = torch.randn(steps, envs, hidden_dim, generator=generator).to(device).requires_grad_()
    hidden = torch.randn(envs, hidden_dim, generator=generator).tanh().to(device)
    direction = torch.randn(steps, envs, hidden_dim, generator=generator).to(device)

    def ours():
        return torch.autograd.grad(mine.sequence(inputs, hidden), (inputs, *mine.parameters()), direction)

    def torchs():
        return torch.autograd.grad(plain(inputs, hidden[None])[0], (inputs, *plain.parameters()), direction)

    return ours, torchs


def disagreement(ours, torchs) -> float:
    """Largest relative difference of a gradient, in the 2-norm."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours(), torchs(), strict=True))


def seconds(run, device: torch.device) -> float:
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def measure(hidden_dim: int, steps: int, envs: int, rounds: int, device: torch.device) -> dict[str, float]:
    ours, torchs = make_passes(hidden_dim, steps, envs, device)
    error = disagreement(ours, torchs)
    if error > (1e-4 if device.type == "cpu" else 1e-2):  # a GPU may round factors to TF32
        raise SystemExit(f"The gradients differ by {error:.1g} for T={steps}, N={envs}: there is nothing to time.")
    for run in (ours, torchs):
        seconds(run, device)
    # Who begins alternates too: what one leaves in the caches is not always the other's luck.
    mine, theirs = [], []
    for k in range(rounds):
        for run, times in ((ours, mine), (torchs, theirs))[:: 1 if k % 2 == 0 else -1]:
            times.append(seconds(run, device))
    rate = steps * envs
    return {
        "steps": steps,
        "envs": envs,
        "ours_steps_per_second": rate / statistics.median(mine),
        "torch_steps_per_second": rate / statistics.median(theirs),
        "ratio": statistics.median(b / a for a, b in zip(mine, theirs, strict=True)),
        "gradient_difference": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds per size, at least 5")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="one small size only")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.rounds < 5:
        parser.error("--rounds must be at least 5: the median of fewer says little")
    device = torch.device(args.device)
    report = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hidden_dim": args.hidden_dim,
        "rounds": args.rounds,
    }
    for name, value in report.items():
        print(f"{name:24} {value}")
    rows = []
    for steps, envs in QUICK if args.quick else FULL:
        row = measure(args.hidden_dim, steps, envs, args.rounds, device)
        rows.append(row)
        print(
            f"T={steps:<4} N={envs:<4} ours {row['ours_steps_per_second']:9,.0f} steps/s   "
            f"nn.GRU {row['torch_steps_per_second']:9,.0f} steps/s   ratio {row['ratio']:.2f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({**report, "sizes": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
