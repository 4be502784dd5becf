"""What it brings to keep freed memory (`tactician.hardware.heap`): whole iterations on a CPU with and without, in turns.

    OMP_NUM_THREADS=1 python benchmarks/bench_heap.py [--rounds 5] [--json FILE]

It needs the embedded market's cache (`tactician build-cache --config embedded_sp500`).
"""

import argparse
import json
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from command_line import cached_market, run

from tactician.config import load_config
from tactician.hardware.heap import freed_memory_kept
from tactician.monitor.progress import Reporter
from tactician.training.loop import iterate
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state

CONFIG, CPU = "embedded_sp500", torch.device("cpu")
LARGE = {"hidden_dim": 256, "n_gru_layers": 2}
SPECIFIED = {**LARGE, "encoder_layers": 2, "n_envs": 512}
MEMORY = {**LARGE, "network": "market_memory", "portfolios_per_window": 128, "n_envs": 2048}
SIZES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("the defaults", {}),
    ("specified network", {**SPECIFIED, "batch_size": 8192}),
    ("specified network", {**SPECIFIED, "batch_size": 32_768}),
    ("market memory", {**MEMORY, "batch_size": 32_768}),
    ("market memory", {**MEMORY, "batch_size": 131_072}),
)


def measure(keys: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Steps per second of iterations both ways, the first of each dropped, and the median of their ratios."""
    setup = prepare_run(load_config(CONFIG, keys | {"device": "cpu", "timesteps": 10**9}), cached_market(CONFIG))
    state, rates = first_train_state(setup), dict[bool, list[float]]({False: [], True: []})
    for number in range(rounds + 1):
        for kept in (False, True):
            # Two iterations: the first one of a round fetches what the other way has given back.
            with freed_memory_kept(CPU) if kept else nullcontext():
                state = iterate(setup, state, Reporter("quiet", silent=True))
                begun = time.perf_counter()
                state = iterate(setup, state, Reporter("quiet", silent=True))
                took = time.perf_counter() - begun
            if number:
                rates[kept].append(setup.sizes.samples / took)
    return {
        "n_envs": setup.n_envs,
        "n_steps": setup.config.n_steps,
        "batch_size": setup.hyper.batch_size,
        "usual": statistics.median(rates[False]),
        "kept": statistics.median(rates[True]),
        "ratio": statistics.median(b / a for a, b in zip(rates[False], rates[True], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = []
    for name, keys in SIZES:
        table.append({"run": name, **measure(keys, args.rounds)})
        print(table[-1], flush=True)
        if args.json:
            args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
