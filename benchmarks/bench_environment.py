"""The environment alone, on one device: steps per second of the eager functions and of the kernels, launched and replayed.

One measurement is a sequence of observations and steps, timed by the device's own events; each figure is the median of several
after warm-ups. "Graph" replays the whole sequence as one CUDA graph. The market is random: 4,000 rows, 30 assets and the 12
regimes of `factor`. The observation is the portfolio's part, as a rollout stores it. "Restart" also begins new episodes after
every step, which a rollout does only after every sequence.

    python benchmarks/bench_environment.py [--device cuda] [--portfolios 8] [--n-envs 4096 65536] [--json FILE]

Bytes are counted, not measured: the state that a step reads and the one that it writes, action, observation and outcome.
Reading the state once more to observe it, and rows of the market, are not counted. The share of the bandwidth is that of these
bytes in what a copy within the device's memory reads and writes. On a CPU only the eager functions run.
"""

import argparse
import json
import platform
import runpy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from command_line import run

from tactician.environment import (
    Environment,
    EnvState,
    first_state,
    fused_on,
    observe_portfolio,
    observe_portfolio_eager,
    observed_day,
    restart_finished,
    step,
    step_eager,
)
from tactician.portfolio.frictions import Frictions

random_market = runpy.run_path(str(Path(__file__).parent.parent / "tests" / "markets.py"))["random_market"]

SIZES = (4096, 65_536, 262_144)
ROWS, ASSETS, EPISODE = 4000, 30, 256


def environment(device: torch.device, portfolios: int, rows: int = ROWS, assets: int = ASSETS) -> Environment:
    market = random_market(n_days=rows, n_assets=assets, listing=False).to(device)
    return Environment(
        market,
        Frictions(),
        range(1, rows),
        episode_length=min(EPISODE, rows // 2),
        portfolios_per_window=portfolios,
        fused=True,
    )


def sequence(
    env: Environment, begin: EnvState, actions: torch.Tensor, fused: bool, restart: bool
) -> Callable[[], object]:
    """Observe and step as often as there are actions, always from the same state."""
    see, go = (observe_portfolio, step) if fused else (observe_portfolio_eager, step_eager)

    def live() -> object:
        state, last = begin, None
        for action in actions:
            seen = see(env, state, observed_day(env, state))
            state, outcome = go(env, state, action)
            if restart:
                state, _ = restart_finished(env, state)
            last = (seen, state, outcome)
        return last

    return live


def replayed(call: Callable[[], object]) -> Callable[[], object]:
    """The same work as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries and kernels load outside the capture
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median of several calls after two dropped ones."""
    times = [_seconds(call, device) for _ in range(2 + repeats)]
    return statistics.median(times[2:])


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000


def copy_bandwidth(device: torch.device, repeats: int, megabytes: int) -> float:
    """Bytes per second that a copy within the device's memory reads and writes."""
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / median_seconds(lambda: target.copy_(source), device, repeats)


def bytes_per_step(env: Environment, state: EnvState) -> float:
    """Bytes of one environment: state in and out, action, observation, outcome."""

    def size(*tensors: torch.Tensor) -> int:
        return sum(x.numel() * x.element_size() for x in tensors)

    action = torch.zeros_like(state.regime)
    after, outcome = step_eager(env, state, action)
    written = [v for k, v in vars(after).items() if k not in ("window", "episode")]
    seen = observe_portfolio_eager(env, state, observed_day(env, state))
    return size(*vars(state).values(), action, *written, *vars(outcome).values(), seen) / len(action)


def paths(device: torch.device) -> list[tuple[str, bool, bool, bool]]:
    """Name, kernels, restart and graph of each way to run."""
    ways = [("eager, restart", False, True), ("eager", False, False)]
    if fused_on(device):
        ways += [("fused, restart", True, True), ("fused", True, False)]
    graphs = (False, True) if device.type == "cuda" else (False,)
    return [
        (name + (", graph" if graph else ""), fused, restart, graph)
        for graph in graphs
        for name, fused, restart in ways
    ]


def measure(args: argparse.Namespace) -> dict:
    device = torch.device(args.device)
    env = environment(device, args.portfolios, args.rows, args.assets)
    bandwidth = copy_bandwidth(device, args.repeats, args.megabytes)
    rows = []
    for n_envs in args.n_envs:
        begin = first_state(env, torch.arange(n_envs // args.portfolios, device=device))
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(env.market.regimes.n_actions, (args.steps, len(begin.regime)), generator=generator)
        moved = bytes_per_step(env, begin)
        for name, fused, restart, graph in paths(device):
            call = sequence(env, begin, drawn.to(device), fused, restart)
            seconds = median_seconds(replayed(call) if graph else call, device, args.repeats) / args.steps
            rate = len(begin.regime) / seconds
            share = rate * moved / bandwidth
            figures = {"milliseconds": 1000 * seconds, "steps_per_second": rate, "share_of_bandwidth": share}
            rows.append({"n_envs": len(begin.regime), "path": name, **figures, "bytes_per_step": moved})
            print(f"{n_envs:>8} {name:<22} {1000 * seconds:>9.4f} ms {rate:>15,.0f} steps/s {share:>7.1%}", flush=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    sizes = {"assets": args.assets, "rows": args.rows, "regimes": env.market.regimes.n_actions}
    sizes |= {"portfolios_per_window": args.portfolios, "steps": args.steps, "repeats": args.repeats}
    return {"device": name, "torch": torch.__version__, **sizes, "copy_bytes_per_second": bandwidth, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--n-envs", type=int, nargs="+", default=SIZES)
    parser.add_argument("--portfolios", type=int, default=8, help="of each window")
    parser.add_argument("--assets", type=int, default=ASSETS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--steps", type=int, default=32, help="in one measurement; fewer than an episode has")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--megabytes", type=int, default=1024, help="that are copied to measure the bandwidth")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args)
    print(f"{found['device']}: a copy reads and writes {found['copy_bytes_per_second'] / 1e9:,.0f} GB/s")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
