"""How many samples, updates and seconds a policy needs until it is nearly the known optimum, by the sizes of a run.

    python benchmarks/bench_sizes.py [--markets regimes predictable] [--seeds 20] [--json FILE]
    python benchmarks/bench_sizes.py --device cpu --scale 16 --hidden-dim 64 --layers 1 --most-seconds 400

A training ends when its most probable regimes earn 80 % of what the optimum earns beyond the best constant regime, on days that
nobody trained on. Learning rates stay what they are, since nobody knows before how long it takes. So the last percents are
out of reach on the hard markets. ``--scale 16`` takes a sixteenth of the environments and of the minibatch: a CPU can tell
how many samples and updates are needed, and a GPU how many seconds.
"""

import argparse
import copy
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch
from command_line import run

from tactician.hardware.heap import freed_memory_kept
from tactician.monitor.progress import Reporter
from tactician.policy.networks import NETWORKS
from tactician.studies.learnability import deterministic, measure, problem_setup
from tactician.synthetic import PROBLEMS, Problem, play
from tactician.training.loop import iterate
from tactician.training.state import first_train_state

SIZES = (
    (65_536, 512, 65_536),
    (65_536, 128, 65_536),
    (65_536, 64, 65_536),
    (65_536, 128, 262_144),
    (65_536, 64, 262_144),
    (65_536, 64, 524_288),
    (16_384, 64, 65_536),
    (16_384, 256, 8_192),
    (16_384, 64, 8_192),
)
"""Environments, steps of a rollout and samples of a minibatch. The specification has the first for `--high-vram`, and the last
but one for a GPU without a flag."""


def train_until_enough(problem: Problem, keys: dict[str, Any], enough: float, most_seconds: float) -> dict[str, Any]:
    """Train until the optimum's share is enough, or the time is over. Judgements are on the CPU, and take none of it.

    Args:
        problem: the market.
        keys: of the run's configuration.
        enough: share of the optimum's gain.
        most_seconds: of rollouts and updates.
    """
    yardstick = measure(problem)
    setup = problem_setup(problem, keys)
    judged = problem_setup(problem, keys | {"device": "cpu", "n_envs": keys["portfolios_per_window"], "amp": False})
    quiet = Reporter("quiet", silent=True)
    if setup.device.type == "cuda":  # kernels are compiled before the clock runs
        iterate(setup, first_train_state(setup), quiet)
    state, shares, spent = first_train_state(setup), list[float](), 0.0
    with freed_memory_kept(setup.device):
        while spent < most_seconds and (not shares or shares[-1] < enough):
            begun = time.perf_counter()
            state = iterate(setup, state, quiet)  # it reads its figures at the end, so the device has finished
            spent += time.perf_counter() - begun
            choose = deterministic(judged.environment, copy.deepcopy(state.learner.policy).cpu())
            shares.append(yardstick.share(play(problem, choose, judged.environment)))
    samples, hyper = state.progress.timesteps, setup.hyper
    return {
        "n_envs": setup.n_envs,
        "n_steps": setup.config.n_steps,
        "batch_size": hyper.batch_size,
        "iterations": len(shares),
        "samples": samples,
        "joint_updates": round(samples * hyper.ppo_epochs / hyper.batch_size),
        "seconds": round(spent, 2),
        "enough": shares[-1] >= enough,
        "shares": [round(x, 4) for x in shares],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", nargs="+", default=["regimes", "predictable"], choices=[*PROBLEMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[20], help="of the market and the training")
    parser.add_argument("--sizes", nargs="+", type=int, default=range(len(SIZES)), help="numbers of rows of SIZES")
    parser.add_argument("--network", default="recurrent", choices=[*NETWORKS])
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--per-window", type=int, default=8, help="portfolios per window")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--enough", type=float, default=0.8, help="share of the optimum's gain")
    parser.add_argument("--most-seconds", type=float, default=30, help="of each training")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    run_keys = {
        "device": args.device,
        "amp": args.device != "cpu",
        "network": args.network,
        "hidden_dim": args.hidden_dim,
        "n_gru_layers": args.layers,
        "portfolios_per_window": args.per_window,
        "timesteps": 10**12,
        "anneal_steps": 0,
    }
    name = "cpu" if args.device == "cpu" else torch.cuda.get_device_name()
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "scale": args.scale, "runs": []}
    for seed, market, number in itertools.product(args.seeds, args.markets, args.sizes):
        n_envs, n_steps, batch = SIZES[number]
        sizes = {"n_envs": n_envs // args.scale, "n_steps": n_steps, "batch_size": batch // args.scale}
        keys = run_keys | sizes | {"seed": seed}
        result = train_until_enough(PROBLEMS[market](seed), keys, args.enough, args.most_seconds)
        report["runs"].append({"market": market, "seed": seed, **result})
        print(json.dumps(report["runs"][-1]), flush=True)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
