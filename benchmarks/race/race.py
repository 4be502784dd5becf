"""The race: Tactician's networks and sb3-contrib's RecurrentPPO on the same markets, in turns, on one machine.

    python benchmarks/race/race.py speed    [--rounds 5] [--hidden-dim 256] [--layers 2]
    python benchmarks/race/race.py learning [--seconds 600] [--seeds 3]

``speed`` measures whole iterations in environment steps per second, as medians of alternating rounds, beside the environment
alone and the machine's matrix-product rate. ``learning`` measures seconds of training until the policy earns 95 % of the known
optimum's gain, judged on days that nobody trained on. A trainer that is not there in time is "not in N seconds". Both write to
benchmarks/results/race.json.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from command_line import run
from contestants import CONTESTANTS, Contestant, timed

from tactician.environment import first_state, observe, restart_finished, step
from tactician.studies.learnability import measure, problem_setup
from tactician.synthetic import PROBLEMS, Problem, play
from tactician.training.setup import Setup

RESULTS = Path(__file__).parent.parent / "results" / "race.json"
LEARNABLE = ("oracle", "observable", "hidden", "regimes", "predictable")
"""Markets with something to gain."""
ENOUGH = 0.95


def make_setup(problem: Problem, contestant: Contestant, **changes: Any) -> Setup:
    """The run of a contestant on a market, as long as it likes."""
    return problem_setup(problem, {"timesteps": 2_000_000, **changes, **contestant.settings})


def environment_rate(setup: Setup, steps: int = 64) -> float:
    """Environment steps per second of observation and step alone."""
    env = setup.environment
    state = first_state(env, torch.arange(len(setup.windows)))
    action = torch.ones(setup.n_envs, dtype=torch.int64)
    begun = time.perf_counter()
    for _ in range(steps):
        observe(env, state)
        state, _ = step(env, state, action)
        state, _ = restart_finished(env, state)
    return steps * setup.n_envs / (time.perf_counter() - begun)


def product_rate(size: int = 1024, repeats: int = 20) -> float:
    """Floating-point operations per second of a square matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    begun = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (time.perf_counter() - begun)


def speed(rounds: int, hidden_dim: int, layers: int) -> dict[str, Any]:
    """Steps per second of each contestant, in alternating rounds after one that is dropped."""
    problem = PROBLEMS["regimes"](0)
    setups = [make_setup(problem, c, hidden_dim=hidden_dim, n_gru_layers=layers) for c in CONTESTANTS]
    runners = [c.make(setup) for c, setup in zip(CONTESTANTS, setups, strict=True)]
    found: dict[str, list[float]] = {c.name: [] for c in CONTESTANTS}
    alone, products = [], []
    for number in range(rounds + 1):
        for contestant, runner in zip(CONTESTANTS, runners, strict=True):
            steps, seconds = timed(runner)
            if number:
                found[contestant.name].append(steps / seconds)
                print(f"  {contestant.name}: {steps / seconds:,.0f} steps/s", flush=True)
        alone.append(environment_rate(setups[0]))
        products.append(product_rate())
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    peer = found[CONTESTANTS[-1].name]
    ratios = {name: statistics.median(a / b for a, b in zip(rates, peer, strict=True)) for name, rates in found.items()}
    return {
        "hidden_dim": hidden_dim,
        "n_gru_layers": layers,
        "steps_per_second": medians,
        "ratio_to_sb3_contrib": ratios,
        "environment_alone": statistics.median(alone),
        "product_gflops": statistics.median(products) / 1e9,
    }


def learn(problem: Problem, contestant: Contestant, seconds: float, seed: int) -> dict[str, Any]:
    """Train until the optimum's share is reached, or the time is over. Judging does not count as training."""
    yardstick = measure(problem)
    setup = make_setup(problem, contestant, hidden_dim=64, n_gru_layers=1, seed=seed)
    runner, spent, steps, share = contestant.make(setup), 0.0, 0, 0.0
    judged = 0.0
    while spent < seconds and steps < setup.total_timesteps:
        made, took = timed(runner)
        spent, steps = spent + took, steps + made
        if spent < 1.1 * judged and steps < setup.total_timesteps:  # a judgement for every tenth of the time
            continue
        judged = spent
        share = yardstick.share(play(problem, runner.choose(), setup.environment))
        if share >= ENOUGH:
            return {"seconds": spent, "steps": steps, "share": share}
    return {"seconds": None, "steps": steps, "share": share, "spent": spent}


def learning(seconds: float, seeds: int) -> Iterator[dict[str, Any]]:
    """Every contestant on every market and seed, in turns."""
    for seed in range(20, 20 + seeds):
        for market in LEARNABLE:
            problem = PROBLEMS[market](seed)
            for contestant in CONTESTANTS:
                result = learn(problem, contestant, seconds, seed)
                yield {"market": market, "seed": seed, "contestant": contestant.name, **result}


def keep(part: str, result: Any) -> None:
    """Write one part of the results and leave the other as it is."""
    whole = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**whole, part: result}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "learning"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if args.part == "speed":
        result = speed(args.rounds, args.hidden_dim, args.layers)
        print(json.dumps(result, indent=1))
        keep("speed", {"threads": torch.get_num_threads(), "torch": torch.__version__, **result})
        return
    runs = []
    for result in learning(args.seconds, args.seeds):
        runs.append(result)
        print(json.dumps(result), flush=True)
        keep("learning", {"seconds": args.seconds, "threads": torch.get_num_threads(), "runs": runs})


if __name__ == "__main__":
    run(main)
