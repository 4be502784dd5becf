"""The memory plan beside reality, and what saving costs: one process per size, peak memory of two iterations.

The plan says what an iteration adds to what the process held before it. On a CPU the kernel's high-water mark says what it
added, on a GPU what torch reserved.

    python benchmarks/bench_memory.py [--device cuda] [--seconds] [--json FILE]

It needs the embedded market's cache (`tactician build-cache --config embedded_sp500`).
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch
from command_line import cached_market, run

from tactician.config import load_config
from tactician.hardware.heap import freed_memory_kept
from tactician.hardware.probe import Taken
from tactician.monitor.progress import Reporter
from tactician.training.checkpoint import save_checkpoint
from tactician.training.loop import iterate
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state

CONFIG = "embedded_sp500"
CPU = [(64, 1, 256, 2048), (64, 1, 1024, 8192), (256, 2, 128, 8192), (256, 2, 512, 8192), (256, 2, 512, 32768)]
GPU = [
    (64, 1, 16384, 8192),
    (256, 2, 2048, 8192),
    (256, 2, 16384, 8192),
    (256, 2, 16384, 65536),
    (256, 2, 32768, 65536),
]
SECONDS = [(64, 1, 256, 8192), (256, 2, 64, 8192), (512, 3, 16, 8192)]
"""For the prediction of seconds: short iterations of a small, the specified and a large network."""


def measure(device: str, amp: bool, size: tuple[int, int, int, int], epochs: int) -> dict:
    hidden, layers, n_envs, batch = size
    changes = {"hidden_dim": hidden, "n_gru_layers": layers, "n_envs": n_envs, "batch_size": batch, "timesteps": 10**9}
    changes |= {"ppo_epochs": epochs, "critic_epochs": epochs, "device": device, "amp": amp, "max_vram_gpu0": 1000}
    config = load_config(CONFIG, changes)
    market = cached_market(CONFIG)
    begun = time.perf_counter()
    setup = prepare_run(config, market)
    planning = time.perf_counter() - begun
    state = first_train_state(setup)
    taken = Taken(setup.device)
    begun = time.perf_counter()
    with freed_memory_kept(setup.device):
        for _ in range(2):
            state = iterate(setup, state, Reporter("quiet"))
    seconds = (time.perf_counter() - begun) / 2
    added = taken.peak()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        begun = time.perf_counter()
        save_checkpoint(setup, state, path)
        saving, file_size = time.perf_counter() - begun, path.stat().st_size
    planned = setup.memory.predicted(setup.sizes)
    return {
        "amp": amp,
        "hidden_dim": hidden,
        "n_gru_layers": layers,
        "n_envs": n_envs,
        "batch_size": batch,
        "planned_mb": round(planned / 1e6),
        "measured_mb": round(added / 1e6),
        "plan_error": round(planned / added - 1, 3),
        "formula_mb": round(setup.memory.formula_bytes_per_sample * 1.5 * setup.sizes.samples / 1e6),
        "held_bytes_per_sample": round(setup.memory.held_bytes_per_sample, 1),
        "batch_bytes_per_sample": round(setup.memory.batch_bytes_per_sample),
        "seconds_planning": round(planning, 2),
        "seconds_planned": None if setup.seconds_per_iteration is None else round(setup.seconds_per_iteration, 2),
        "seconds_iteration": round(seconds, 2),
        "seconds_saving": round(saving, 4),
        "checkpoint_mb": round(file_size / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", action="store_true", help="sizes and epochs that show the prediction of seconds")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cached_market(CONFIG)  # refused here rather than in a process
    report = {"device": args.device, "torch": torch.__version__, "threads": torch.get_num_threads(), "sizes": []}
    gpu = args.device != "cpu"
    sizes, epochs = (SECONDS, 4) if args.seconds else (GPU if gpu else CPU, 1)
    jobs = [(args.device, amp, size, epochs) for amp in ((False, True) if gpu else (False,)) for size in sizes]
    for job in jobs:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            report["sizes"].append(pool.apply(measure, job))
        print(report["sizes"][-1], flush=True)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
