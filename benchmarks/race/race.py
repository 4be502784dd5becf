"""The race: Tactician's networks and recurrent PPO of others on the same markets, in turns, on one machine.

    python benchmarks/race/race.py speed    [--rounds 5] [--hidden-dim 256] [--layers 2]
    python benchmarks/race/race.py learning [--seconds 600] [--seeds 3]

``speed`` measures whole iterations in environment steps per second, as medians of alternating rounds. Beside them it has the
environment alone, the machine's matrix-product rate with the specified network's share of it, and the memory of each
contestant. ``learning`` measures seconds of training until the policy earns 95 % of the known optimum's gain, judged on days
that nobody trained on. A trainer that is not there in time is "not in N seconds". It goes on where it stopped. All seconds
are of the CPU: with one thread (``OMP_NUM_THREADS=1``) they are those of the clock on a quiet machine.

Both write to benchmarks/results/race.json and draw race.png beside it. A peer that is not installed is named and left out:
``make race`` installs all of them.
"""

import argparse
import importlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from command_line import run
from contestants import CONTESTANTS, Contestant, entrants, timed
from picture import draw

from tactician.environment import first_state, observe, restart_finished, step
from tactician.hardware.heap import freed_memory_kept
from tactician.studies.learnability import measure, problem_setup
from tactician.synthetic import PROBLEMS, Problem, play
from tactician.training.setup import Setup

RESULTS = Path(__file__).parent.parent / "results" / "race.json"
LEARNABLE = ("oracle", "observable", "hidden", "regimes", "predictable")
"""Markets with something to gain."""
ENOUGH = 0.95
FIRST_SEED = 20
"""All settings were chosen on seeds from 100."""
MOST_STEPS = 3_000_000
"""Duration that the schedules of our PPO are made for, as in `tactician learnability`."""


AS_THE_PEERS: dict[str, Any] = {"encoder_layers": 2, "entropy_coef": 0.1, "weight_decay": 0.0}
"""Settings in which the defaults differ from what the peers can do, and with which all are compared."""


def make_setup(problem: Problem, contestant: Contestant, **changes: Any) -> Setup:
    """The run of a contestant on a market, as long as it likes."""
    return problem_setup(problem, {"timesteps": MOST_STEPS, **changes, **contestant.settings})


def environment_rate(setup: Setup, steps: int = 64) -> float:
    """Environment steps per second of observation and step alone."""
    env = setup.environment
    state = first_state(env, torch.arange(len(setup.windows)))
    action = torch.ones(setup.n_envs, dtype=torch.int64)
    begun = time.process_time()
    for _ in range(steps):
        observe(env, state)
        state, _ = step(env, state, action)
        state, _ = restart_finished(env, state)
    return steps * setup.n_envs / (time.process_time() - begun)


def product_rate(size: int = 1024, repeats: int = 20) -> float:
    """Floating-point operations per second of a square matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    begun = time.process_time()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (time.process_time() - begun)


def operations_per_step(setup: Setup) -> float:
    """Floating-point operations of the specified network's matrix products for one environment step, counted by hand.

    A product with a matrix of n weights costs 2n forwards and 4n backwards. With P weights in all matrices, T of them in
    encoder and GRU, V in the value head, E joint and C critic epochs, a step costs

        2 · (P + 3·E·P + T·k + 3·C·V)

    The terms are the rollout, the joint epochs, the features for the critic epochs and these epochs. The features are computed
    once (k = 1) where memory allows, else in each critic epoch (k = C). Everything else, the environment included, counts as 0.
    """
    policy, config = setup.make_policy(), setup.config

    def weights(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for m in modules for p in m.parameters() if p.dim() == 2)

    value: Any = policy.value_head
    every, head = weights(policy), weights(value)
    trunk: Any = weights(policy.encoder, policy.gru)  # type: ignore[arg-type]
    features = (1 if setup.memory.keep_features else config.critic_epochs) if config.critic_epochs else 0
    return 2.0 * (every + 3 * config.ppo_epochs * every + trunk * features + 3 * config.critic_epochs * head)


def speed(
    contestants: Sequence[Contestant], problem: Problem, rounds: int, memory: bool = True, **changes: Any
) -> dict[str, Any]:
    """Steps per second of each contestant, in alternating rounds after one that is dropped.

    Args:
        contestants: those that are installed; the first has the specified network.
        problem: the market.
        rounds: how many count.
        memory: whether the memory of each is measured too, in processes of their own.
        changes: configuration keys for all.
    """
    setups = [make_setup(problem, c, **changes) for c in contestants]
    runners = [c.make(setup) for c, setup in zip(contestants, setups, strict=True)]
    found: dict[str, list[float]] = {c.name: [] for c in contestants}
    alone, products = [], []
    for number in range(rounds + 1):
        for contestant, runner in zip(contestants, runners, strict=True):
            steps, seconds = timed(runner)
            if number:
                found[contestant.name].append(steps / seconds)
                print(f"  {contestant.name}: {steps / seconds:,.0f} steps/s", flush=True)
        alone.append(environment_rate(setups[0]))
        products.append(product_rate())
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    product, operations = statistics.median(products), operations_per_step(setups[0])
    result = {
        "hidden_dim": setups[0].config.hidden_dim,
        "n_gru_layers": setups[0].config.n_gru_layers,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "steps_per_second": medians,
        "ratio_to_peer": {c.name: _ratios(found, c.name) for c in contestants if c.package},
        "environment_alone": statistics.median(alone),
        "product_gflops": product / 1e9,
        "specified_operations_per_step": operations,
        "specified_share_of_product_rate": medians[contestants[0].name] * operations / product,
    }
    if memory:
        result["peak_mib"] = {c.name: peak_in_own_process(c, **changes) for c in contestants}
    return result


def _ratios(found: Mapping[str, Sequence[float]], peer: str) -> dict[str, float]:
    """Median over the rounds of each contestant's rate over a peer's."""
    theirs = found[peer]
    return {name: statistics.median(a / b for a, b in zip(rates, theirs, strict=True)) for name, rates in found.items()}


def peak_memory(contestant: Contestant, problem: Problem, **changes: Any) -> float | None:
    """MiB by which the resident high-water mark (VmHWM) rises while a contestant is made and trains for two iterations.

    Market, setup and the imports of all packages come before and do not count. None where the system cannot tell.
    """
    setup = make_setup(problem, contestant, **changes)
    if contestant.package:
        importlib.import_module(contestant.package)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    except OSError:
        return None
    before = _high_water()
    runner = contestant.make(setup)
    with nullcontext() if contestant.package else freed_memory_kept(setup.device):
        for _ in range(2):
            runner.train()
    # The kernel counts in batches per core, so a mark that did not rise can read a few pages lower.
    return max(0.0, _high_water() - before)


def _high_water() -> float:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def peak_in_own_process(contestant: Contestant, **changes: Any) -> float | None:
    """The `peak_memory` of a contestant on the market of ``speed``, in a fresh process, where nobody else left memory."""
    command = [sys.executable, __file__, "memory", "--contestant", contestant.name, "--changes", json.dumps(changes)]
    made: float | None = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return made


def learn(problem: Problem, contestant: Contestant, seconds: float, seed: int, **changes: Any) -> dict[str, Any]:
    """Train until the optimum's share is reached, or the time is over. Judging does not count as training."""
    yardstick = measure(problem)
    setup = make_setup(problem, contestant, seed=seed, **changes)
    runner, spent, steps, share = contestant.make(setup), 0.0, 0, 0.0
    judged = 0.0
    while spent < seconds and steps < setup.total_timesteps:
        made, took = timed(runner)
        spent, steps = spent + took, steps + made
        over = spent >= seconds or steps >= setup.total_timesteps
        if spent < 1.1 * judged and not over:  # a judgement for every tenth of the time, and one at the end
            continue
        judged = spent
        share = yardstick.share(play(problem, runner.choose(), setup.environment))
        if share >= ENOUGH:
            return {"seconds": spent, "steps": steps, "share": share}
    whole = steps >= setup.total_timesteps
    return {"seconds": None, "steps": steps, "share": share, "spent": spent, "whole": whole}


def learning(
    contestants: Sequence[Contestant],
    seconds: float,
    seeds: Iterable[int],
    markets: Sequence[str] = LEARNABLE,
    before: Iterable[Mapping[str, Any]] = (),
    **changes: Any,
) -> Iterator[dict[str, Any]]:
    """Every contestant on every market and seed, in turns, except for runs that need not be done again."""
    done = {_key(known) for known in before if is_final(known, seconds)}
    for seed in seeds:
        for market in markets:
            missing = [c for c in contestants if (market, seed, c.name) not in done]
            if not missing:
                continue
            problem = PROBLEMS[market](seed)
            for contestant in missing:
                result = learn(problem, contestant, seconds, seed, **changes)
                yield {"market": market, "seed": seed, "contestant": contestant.name, **result}


def is_final(known: Mapping[str, Any], seconds: float) -> bool:
    """Whether a run of `learn` would say nothing new with this much time: it was there, had the time, or did all steps."""
    return known["seconds"] is not None or known["spent"] >= seconds or known["whole"]


def _key(known: Mapping[str, Any]) -> tuple[str, int, str]:
    return known["market"], known["seed"], known["contestant"]


def recorded(path: Path) -> dict[str, Any]:
    """The results so far."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def keep(part: str, result: Any, path: Path) -> None:
    """Write one part of the results and leave the other as it is. Draw both."""
    whole = {**recorded(path), part: result}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    draw(whole, path.with_suffix(".png"))


def run_learning(contestants: Sequence[Contestant], seconds: float, seeds: int, path: Path) -> None:
    """The ``learning`` part, kept after each run."""
    runs = {_key(known): known for known in recorded(path).get("learning", {}).get("runs", [])}
    chosen = range(FIRST_SEED, FIRST_SEED + seeds)
    size = {"hidden_dim": 64, "n_gru_layers": 1}
    for result in learning(contestants, seconds, chosen, before=list(runs.values()), **size, **AS_THE_PEERS):
        runs[_key(result)] = result
        print(json.dumps(result), flush=True)
        keep(
            "learning", {"seconds": seconds, "threads": torch.get_num_threads(), **size, "runs": [*runs.values()]}, path
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "learning", "memory"), help="memory: of one contestant, for speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--contestant", choices=[c.name for c in CONTESTANTS], default=CONTESTANTS[0].name)
    parser.add_argument("--changes", type=json.loads, default={}, help="configuration keys, as JSON, for memory")
    args = parser.parse_args()
    if args.part == "memory":
        (chosen,) = (c for c in CONTESTANTS if c.name == args.contestant)
        print(json.dumps(peak_memory(chosen, PROBLEMS["regimes"](0), **args.changes)))
        return
    # Our runs keep the memory that they free. All contestants share this process, so the peers have that too.
    with freed_memory_kept(torch.device("cpu")):
        if args.part == "speed":
            size = {"hidden_dim": args.hidden_dim, "n_gru_layers": args.layers}
            result = speed(entrants(), PROBLEMS["regimes"](0), args.rounds, **size, **AS_THE_PEERS)
            print(json.dumps(result, indent=1))
            keep("speed", result, args.out)
        else:
            run_learning(entrants([c for c in CONTESTANTS if c.learns]), args.seconds, args.seeds, args.out)


if __name__ == "__main__":
    run(main)
