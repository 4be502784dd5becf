"""How cost grows: steps per second and bytes against environments, universe, episode length and hidden size.

* The environment alone (observation, step, restart), without a policy: for 2⁶ … 2¹⁴ environments and 3, 30 and 300 assets.
* Whole iterations (rollout, one joint and one critic epoch, minibatches of 2,048) with episodes of 64, 256 and 1,024
  sessions, each rollout one episode of 64 environments; and with networks of 64 to 512 units, 32 environments × 64 steps.

The market is random, with the 12 regimes of `factor` and 8 portfolios per window. Seconds are those of this process on one
core, so that a busy neighbour counts little. Each figure is the median of several runs after a dropped one. Bytes are the
peak of the tensors that exist at once, beyond what existed before (`tactician.hardware.probe.peak_allocated`).

    python benchmarks/bench_growth.py [--quick] [--json FILE] [--earlier FILE] [--picture FILE]

`--earlier` takes the JSON of another version of Tactician. Its figures are drawn beside these and kept in the JSON.
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
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tactician.environment import OBS_DIM, Environment, first_state, observe, restart_finished, step
from tactician.hardware.probe import peak_allocated
from tactician.learning import Hyperparameters, begin_memory, collect_rollout, make_learner, update
from tactician.policy import Architecture, make_network
from tactician.portfolio.frictions import Frictions

random_market = runpy.run_path(str(Path(__file__).parent.parent / "tests" / "markets.py"))["random_market"]

PER_WINDOW, BATCH, HIDDEN, CPU = 8, 2048, 64, torch.device("cpu")
FULL = {
    "assets": (3, 30, 300),
    "envs": tuple(2**k for k in range(6, 15)),
    "lengths": (64, 256, 1024),
    "widths": (64, 128, 256, 512),
    "few": 64,
    "seconds": 1.0,
}
QUICK = {"assets": (3,), "envs": (64, 128), "lengths": (64,), "widths": (8,), "few": 16, "seconds": 0.0}


def environment(n_assets: int, length: int) -> Environment:
    market = random_market(n_days=1200, n_assets=n_assets)
    return Environment(market, Frictions(), range(1, 1200), episode_length=length, portfolios_per_window=PER_WINDOW)


def median_seconds(call: Callable[[], object], budget: float, least: int = 3) -> float:
    """Median over at least a few calls, and as many as the budget has seconds for, up to 50. The first is dropped."""
    times: list[float] = []
    call()
    while len(times) < least or (sum(times) < budget and len(times) < 50):
        begun = time.process_time()
        call()
        times.append(time.process_time() - begun)
    return statistics.median(times)


def of_environment(n_assets: int, n_envs: int, seconds: float) -> dict[str, float]:
    env = environment(n_assets, 64)
    state = first_state(env, torch.arange(n_envs // PER_WINDOW), stagger=1)
    action = torch.arange(n_envs) % env.market.regimes.n_actions

    def live() -> None:
        nonlocal state
        observe(env, state)
        state, _ = step(env, state, action)
        state, _ = restart_finished(env, state)

    took = median_seconds(live, seconds)
    with peak_allocated(CPU) as peak:
        live()
        most = peak()
    return {"n_assets": n_assets, "n_envs": n_envs, "steps_per_second": n_envs / took, "bytes_per_env": most / n_envs}


def of_iteration(hidden_dim: int, length: int, n_envs: int, seconds: float) -> dict[str, float]:
    """A rollout of one episode, and its update."""
    env, samples = environment(30, length), n_envs * length
    hyper = Hyperparameters(
        batch_size=BATCH,
        ppo_epochs=1,
        critic_epochs=1,
        gamma=0.95,
        gae_lambda=0.95,
        baseline="critic",
        portfolios_per_window=PER_WINDOW,
        clip=0.2,
        entropy_coef=0.05,
        value_coef=0.5,
        max_grad_norm=0.5,
        actor_lr=3e-4,
        critic_lr=9e-4,
        target_kl=None,
    )
    described = Architecture(
        network="recurrent",
        obs_dim=OBS_DIM,
        n_actions=env.market.regimes.n_actions,
        hidden_dim=hidden_dim,
        n_gru_layers=2,
        dropout=0.1,
    )
    policy = make_network(described, 1.0, torch.Generator().manual_seed(0))
    learner = make_learner(policy, hyper)
    state = first_state(env, torch.arange(n_envs // PER_WINDOW))

    def iterate() -> None:
        memory = begin_memory(env, policy, state.day)
        rollout, _, _ = collect_rollout(
            env, policy, state, memory, n_steps=length, sequence_length=64, seed=0, iteration=0
        )
        update(learner, rollout, hyper, seed=0, iteration=0)

    took = median_seconds(iterate, seconds)
    with peak_allocated(CPU) as peak:
        iterate()
        most = peak()
    return {
        "hidden_dim": hidden_dim,
        "episode_length": length,
        "n_envs": n_envs,
        "steps_per_second": samples / took,
        "bytes_per_sample": most / samples,
    }


def measure(sizes: dict) -> dict[str, list[dict[str, float]]]:
    seconds, few = sizes["seconds"], sizes["few"]
    found: dict[str, list[dict[str, float]]] = {"environment": [], "episode_length": [], "hidden_dim": []}

    def note(kind: str, row: dict[str, float]) -> None:
        found[kind].append(row)
        print(kind, " ".join(f"{name} {value:,.0f}" for name, value in row.items()), flush=True)

    for n_assets in sizes["assets"]:
        for n_envs in sizes["envs"]:
            note("environment", of_environment(n_assets, n_envs, seconds))
    for length in sizes["lengths"]:
        note("episode_length", of_iteration(HIDDEN, length, few, seconds))
    for width in sizes["widths"]:
        note("hidden_dim", of_iteration(width, 64, few // 2, seconds))
    return found


COLOURS = ("#1f77b4", "#2ca02c", "#d62728")


def draw_environment(axes: Axes, report: dict, figure: str) -> None:
    """One line per universe, dashed for the earlier version."""
    versions = [("now", report["sizes"], "-"), ("before", report.get("earlier"), "--")]
    assets = sorted({row["n_assets"] for row in report["sizes"]["environment"]})
    for when, sizes, style in versions:
        for n_assets, colour in zip(assets, COLOURS, strict=False):
            rows = [row for row in sizes["environment"] if row["n_assets"] == n_assets] if sizes else []
            x, y = [row["n_envs"] for row in rows], [row[figure] for row in rows]
            if rows:
                label = f"{n_assets} assets" + ("" if when == "now" else ", before")
                axes.plot(x, y, style, color=colour, label=label, marker="o", markersize=3, linewidth=1.4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("environments")


def draw_iteration(axes: Axes, rows: list[dict[str, float]], name: str, label: str) -> None:
    """Bars of steps per second, with the figures above them."""
    x = [str(row[name]) for row in rows]
    speed = [row["steps_per_second"] for row in rows]
    axes.bar(x, speed, width=0.5, color="#9fc5e8")
    for k, row in enumerate(rows):
        text = f"{row['steps_per_second']:,.0f}/s\n{row['bytes_per_sample'] / 1000:,.1f} kB"
        axes.annotate(text, (k, speed[k]), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8)
    axes.set_ylim(0, 1.3 * max(speed))
    axes.set_xlabel(label)


def draw(report: dict, target: Path) -> None:
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (speed, memory), (length, width) = figure.subplots(2, 2)
    draw_environment(speed, report, "steps_per_second")
    speed.set_title("environment alone: steps/s", fontsize=10, loc="left")
    draw_environment(memory, report, "bytes_per_env")
    memory.set_title("environment alone: peak bytes per environment", fontsize=10, loc="left")
    draw_iteration(length, report["sizes"]["episode_length"], "episode_length", "episode length, sessions (hidden 64)")
    length.set_title("whole iterations: steps/s, and peak bytes per sample", fontsize=10, loc="left")
    draw_iteration(width, report["sizes"]["hidden_dim"], "hidden_dim", "hidden size (episodes of 64)")
    width.set_title("whole iterations: steps/s, and peak bytes per sample", fontsize=10, loc="left")
    figure.legend(*speed.get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=9, frameon=False)
    for axes in (speed, memory):
        axes.grid(alpha=0.3)
    for axes in (length, width):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small sizes, to see that it runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--earlier", type=Path, help="the JSON of another version, to be drawn beside this one")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report = {"torch": torch.__version__, "python": platform.python_version(), "threads": 1, "clock": "cpu"}
    report["sizes"] = measure(QUICK if args.quick else FULL)
    if args.earlier:
        report["earlier"] = json.loads(args.earlier.read_text(encoding="utf-8"))["sizes"]
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.picture:
        draw(report, args.picture)


if __name__ == "__main__":
    run(main)
