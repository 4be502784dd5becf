"""Everything that is measured on a GPU, in one run: ceilings, the recurrent layer, whole iterations by phase, and a profile.

    python benchmarks/bench_gpu.py [ceilings] [layer] [iterations] [memory] [sizes] [profile] [--json FILE]

Without names all parts run. Alternatives are measured in turns, after a warm-up, and the median counts. The file is written
after every part, so that an interrupted run keeps what it has. Without a GPU, `--device cpu --small` tries every part on a CPU.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from command_line import cached_market, run
from gpu_layer import ceilings, layer
from roofline import Shape, critic_bytes, critic_flop, joint_bytes, joint_flop, rollout_bytes, rollout_flop

from tactician.config import load_config
from tactician.environment import EnvState
from tactician.hardware.sizes import Sizes
from tactician.learning import Rollout, collect_rollout, update
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import TrainState, first_train_state

PARTS = ("ceilings", "layer", "iterations", "memory", "sizes", "profile")


def make_setup(args: argparse.Namespace, network: str = "recurrent", per_window: int = 1, **changes: Any) -> Setup:
    """A setup of the specified network, or of market memory with as many units."""
    sizes = {"hidden_dim": 32, "n_envs": 64, "n_steps": 64, "batch_size": 1024} if args.small else {}
    config = load_config(
        args.config,
        {"hidden_dim": 256, "n_gru_layers": 2, "encoder_layers": 2, "n_envs": 1024, "n_steps": 64, "batch_size": 65_536}
        | {"device": args.device, "amp": not args.small, "network": network, "portfolios_per_window": per_window}
        | {"fused": True, "timesteps": 10**12, "seed": 0, "baseline": "window" if per_window > 1 else "critic"}
        | sizes
        | changes,
    )
    return prepare_run(config, cached_market(args.config), fixed_sizes=True)


def collect(setup: Setup, state: TrainState) -> tuple[Rollout, EnvState, torch.Tensor]:
    """A rollout, with the states of environments and memory after it."""
    return collect_rollout(
        setup.training_environment,
        state.learner.policy,
        state.env_state,
        state.hidden,
        n_steps=setup.config.n_steps,
        sequence_length=setup.sequence_length,
        seed=0,
        iteration=state.progress.iteration,
        precision=state.learner.precision,
        recorded=state.learner.recorded,
    )


def phases(setup: Setup, state: TrainState) -> tuple[dict[str, float], TrainState]:
    """One iteration, with the device waited for after the rollout, and the beginning of the critic's epochs marked."""
    wait = torch.cuda.synchronize if setup.device.type == "cuda" else lambda: None
    marks: dict[str, float] = {}

    def on_batch(kind: str, done: int, total: int, epoch: int, epochs: int) -> None:
        if kind == "ppo" and (done, epoch) == (total, epochs):
            wait()
            marks["joint"] = time.perf_counter()

    wait()
    begun = time.perf_counter()
    rollout, env_state, hidden = collect(setup, state)
    wait()
    collected = time.perf_counter()
    update(
        state.learner,
        rollout,
        setup.hyper,
        seed=0,
        iteration=state.progress.iteration,
        keep_features=setup.memory.keep_features,
        on_batch=on_batch,
    )
    wait()
    ended = time.perf_counter()
    joint = marks.get("joint", collected)
    took = {"rollout": collected - begun, "joint": joint - collected, "critic": ended - joint}
    progress = replace(state.progress, iteration=state.progress.iteration + 1)
    return took, replace(state, env_state=env_state, hidden=hidden, progress=progress)


def going(setup: Setup, kernels: str, record: bool, fused: bool) -> Setup:
    """A setup whose recurrent layers, recordings and environment go one way or the other."""
    return replace(
        setup,
        recurrent_kernels=kernels,
        config=setup.config.model_copy(update={"fused": record}),
        training_environment=replace(setup.training_environment, fused=fused),
    )


def measure(setup: Setup, iterations: int) -> dict[str, Any]:
    """Steps per second of whole iterations by phase, the first dropped, and the peak of memory."""
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    state, found = first_train_state(setup), []
    for _ in range(iterations + 1):
        took, state = phases(setup, state)
        found.append(took)
    medians = {name: statistics.median(x[name] for x in found[1:]) for name in found[0]}
    samples = setup.sizes.samples
    report: dict[str, Any] = {f"{name}_ns": 1e9 * took / samples for name, took in medians.items()}
    report["steps_per_second"] = samples / sum(medians.values())
    hyper = setup.hyper
    report["updates_per_million_samples"] = 1e6 * hyper.ppo_epochs / hyper.batch_size
    if setup.device.type == "cuda":
        report["peak_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return report


def table_of(
    setups: Sequence[tuple[dict[str, Any], Callable[[], dict[str, Any]]]], rounds: int
) -> list[dict[str, Any]]:
    """Every alternative in turns; of each the round with the median rate."""
    found: list[list[dict[str, Any]]] = [[] for _ in setups]
    for _ in range(rounds):
        for place, (name, work) in zip(found, setups, strict=True):
            try:
                place.append(name | work())
            except RuntimeError as error:  # memory that does not suffice
                place.append(name | {"failed": str(error).splitlines()[0][:100], "steps_per_second": 0.0})
            print(" ", {k: f"{v:,.2f}" if isinstance(v, float) else v for k, v in place[-1].items()}, flush=True)
    return [sorted(rows, key=lambda row: row["steps_per_second"])[len(rows) // 2] for rows in found]


def iterations(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The specified network: kernels × recordings × environment."""
    base = make_setup(args)
    setup = base.with_sizes(Sizes(*((64, 64, 1024) if args.small else (65_536, 128, 65_536))))
    alternatives = []
    for kernels, record, fused in (
        ("library", False, False),
        ("fused", False, False),
        ("fused", False, True),
        ("fused", True, True),
        ("library", True, True),
    ):

        def work(kernels=kernels, record=record, fused=fused) -> dict[str, Any]:
            return measure(going(setup, kernels, record, fused), 1)

        alternatives.append(({"layer": kernels, "recorded": record, "fused environment": fused}, work))
    return table_of(alternatives, args.rounds)


def roofline_of(report: dict[str, Any]) -> dict[str, Any]:
    """What `roofline.py` draws: the ceilings, and the phases of the fastest way."""
    best = max(report["iterations"], key=lambda row: row["steps_per_second"])
    shape = Shape()
    counted = {
        "rollout": (rollout_flop(shape), rollout_bytes(shape)),
        "joint": (joint_flop(shape, 4), joint_bytes(shape, 4)),
        "critic": (critic_flop(shape, 4, 1), critic_bytes(shape, 4)),
    }
    return report["ceilings"] | {
        "phases": [
            {"name": name, "flop_per_step": flop, "bytes_per_step": size, "seconds_per_step": best[f"{name}_ns"] / 1e9}
            for name, (flop, size) in counted.items()
        ]
    }


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Market memory with many portfolios per window."""
    alternatives = []
    base = make_setup(args, "market_memory", 16 if args.small else 64)
    many = (
        ((64, 64, 1024),) if args.small else ((65_536, 128, 65_536), (65_536, 128, 262_144), (262_144, 128, 1_048_576))
    )
    for sizes in many:
        setup = base.with_sizes(Sizes(*sizes))
        for record in (False, True):

            def work(setup=setup, record=record) -> dict[str, Any]:
                return measure(going(setup, "fused", record, True), 1)

            alternatives.append((asdict(setup.sizes) | {"recorded": record}, work))
    return table_of(alternatives, args.rounds)


def sizes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The specified network at sizes of minibatches and lengths of sequences."""
    many = [(65_536, 64), (262_144, 64), (524_288, 64)]
    alternatives = []
    for batch, length in [(1024, 32)] if args.small else many:
        base = make_setup(args, bptt_length=length)
        setup = base.with_sizes(Sizes(*((64, 64, batch) if args.small else (65_536, 128, batch))))
        alternatives.append((asdict(setup.sizes) | {"bptt_length": length}, lambda setup=setup: measure(setup, 1)))
    return table_of(alternatives, 1)


def profile(args: argparse.Namespace) -> dict[str, Any]:
    """What the device does in a rollout, in joint minibatches and in the critic's, by kernel, with both networks."""
    print("  specified network", flush=True)
    specified = profile_of(make_setup(args), Sizes(*((64, 64, 1024) if args.small else (16_384, 64, 262_144))))
    print("  market memory", flush=True)
    memory = make_setup(args, "market_memory", 16 if args.small else 64)
    return specified | {
        "market_memory": profile_of(memory, Sizes(*((64, 64, 1024) if args.small else (65_536, 64, 1_048_576))))
    }


def profile_of(setup: Setup, sizes: Sizes) -> dict[str, Any]:
    """The `profile` of one network; nothing is recorded."""
    setup = setup.with_sizes(sizes)
    setup = going(setup, setup.recurrent_kernels, False, True)
    state = first_train_state(setup)

    rollout = collect(setup, state)[0]

    def learn(joint: int, critic: int) -> Callable[[], Any]:
        hyper = replace(setup.hyper, ppo_epochs=joint, critic_epochs=critic)
        return lambda: update(state.learner, rollout, hyper, seed=0, iteration=0)

    works = {"rollout": lambda: collect(setup, state), "joint": learn(1, 0), "critic": learn(0, 1)}
    return {name: profiled(name, work, setup.device) for name, work in works.items()}


def profiled(name: str, work: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """Wall time, the device's own time, launches, and the kernels that take most of it."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    work()
    with torch.profiler.profile(activities=kinds) as seen:
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall = time.perf_counter() - begun
    events = [e for e in seen.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    found = {
        "wall_ms": 1000 * wall,
        "busy_ms": sum(e.self_device_time_total for e in events) / 1000,
        "launches": sum(e.count for e in events),
        "kernels": [
            [e.key[:70], e.count, e.self_device_time_total / 1000]
            for e in sorted(events, key=lambda e: -e.self_device_time_total)[:22]
        ],
    }
    print(f"  {name}: wall {found['wall_ms']:.1f} ms, busy {found['busy_ms']:.1f} ms, {found['launches']} launches")
    for key, count, took in found["kernels"]:
        print(f"    {took:8.2f} ms {count:6d} × {key}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--config", default="embedded_sp500")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    works: dict[str, Callable[[], Any]] = {
        "ceilings": lambda: ceilings(device, args.small),
        "layer": lambda: layer(device, args.small),
        "iterations": lambda: iterations(args),
        "memory": lambda: memory(args),
        "sizes": lambda: sizes(args),
        "profile": lambda: profile(args),
    }
    for name in args.parts or PARTS:
        begun = time.perf_counter()
        print(name, flush=True)
        report[name] = works[name]()
        print(f"  {time.perf_counter() - begun:.0f} s", flush=True)
        if name == "iterations" and "ceilings" in report:
            report |= roofline_of(report)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report.get("ceilings")))


if __name__ == "__main__":
    run(main)
