"""End-to-end training throughput on this machine: environment steps per second of whole iterations, rollout and update.

Ours and sb3-contrib's RecurrentPPO train on the same market, with the same environments, episode length, minibatch size
and joint epochs, in turns. sb3-contrib has no critic epochs and an LSTM instead of a GRU; its network is made as large as
its options allow (encoder 64→H→H, n LSTM layers of H, heads of 128). The first iteration of each is dropped; the median of
the others counts.

    python benchmarks/bench_training.py [--n-envs 512] [--hidden-dim 256] [--network market_memory]
        [--portfolios-per-window 32] [--iterations 3] [--amp] [--no-peer] [--json FILE]

On a machine that others use too, `OMP_NUM_THREADS=1` and `--cpu-time` count the processor's seconds instead of the clock's.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from command_line import cached_market, run

from tactician.config import load_config
from tactician.environment import first_state, observe, restart_finished, step
from tactician.errors import UserError
from tactician.monitor.progress import Reporter
from tactician.training.loop import iterate
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state


def make_setup(args: argparse.Namespace):
    config = load_config(
        args.config,
        {
            "hidden_dim": args.hidden_dim,
            "encoder_layers": 2,  # the specified network, and that of the peers
            "n_gru_layers": args.layers,
            "n_envs": args.n_envs,
            "batch_size": args.batch_size,
            "device": args.device,
            "amp": args.amp,
            "network": args.network,
            "portfolios_per_window": args.portfolios_per_window,
            "timesteps": 10**9,
        },
    )
    return prepare_run(config, cached_market(args.config))


def ours(setup, iterations: int, clock):
    """Yield the figures of each iteration after the first."""
    state = first_train_state(setup)
    for k in range(iterations + 1):
        begun = clock()
        state = iterate(setup, state, Reporter("quiet"))
        if k:
            yield {**state.metrics, "steps_per_second": setup.n_envs * setup.config.n_steps / (clock() - begun)}


def environment_only(setup, steps: int = 100) -> float:
    """Environment steps per second of observation and step, without a policy."""
    env = setup.environment
    state = first_state(env, torch.arange(len(setup.windows), device=setup.device))
    action = torch.zeros(setup.n_envs, dtype=torch.int64, device=setup.device) + 4
    begun = time.perf_counter()
    for k in range(steps + 10):
        if k == 10:
            begun = time.perf_counter()
        observe(env, state)
        state, _ = step(env, state, action)
        state, _ = restart_finished(env, state)
    if setup.device.type == "cuda":
        torch.cuda.synchronize()
    return steps * setup.n_envs / (time.perf_counter() - begun)


def peer(setup, clock):
    """sb3-contrib's RecurrentPPO on the same environment, as a generator of steps per second per iteration."""
    try:
        from sb3_contrib import RecurrentPPO

        from tactician.environment.gymnasium import stable_baselines
    except ModuleNotFoundError as error:
        raise UserError("sb3-contrib is not installed; `make bench` installs it, --no-peer does without.") from error

    hidden = setup.config.hidden_dim
    model = RecurrentPPO(
        "MlpLstmPolicy",
        stable_baselines(setup.environment, setup.n_envs),
        n_steps=setup.config.n_steps,
        batch_size=setup.config.batch_size,
        n_epochs=setup.config.ppo_epochs,
        device=setup.device,
        policy_kwargs={
            "lstm_hidden_size": hidden,
            "n_lstm_layers": setup.config.n_gru_layers,
            "shared_lstm": True,
            "enable_critic_lstm": False,
            "net_arch": {"pi": [128], "vf": [128]},
        },
    )
    per_iteration = setup.config.n_steps * setup.n_envs
    first = True
    while True:
        begun = clock()
        model.learn(per_iteration, reset_num_timesteps=first)
        if not first:
            yield per_iteration / (clock() - begun)
        first = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="embedded_sp500")
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--network", default="recurrent")
    parser.add_argument("--portfolios-per-window", type=int, default=8)
    parser.add_argument("--n-envs", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--amp", action="store_true", help="ours in 16 bits; the peer stays in float32")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of this process on the CPU, not of the clock")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    clock = time.process_time if args.cpu_time else time.perf_counter
    setup = make_setup(args)
    report = {
        "device": torch.cuda.get_device_name() if setup.device.type == "cuda" else "cpu",
        "network": args.network,
        "portfolios_per_window": args.portfolios_per_window,
        "precision": str(setup.autocast_dtype or torch.float32),
        "clock": "cpu" if args.cpu_time else "wall",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "n_envs": setup.n_envs,
        "n_steps": setup.config.n_steps,
        "batch_size": setup.config.batch_size,
        "hidden_dim": args.hidden_dim,
        "n_gru_layers": args.layers,
        "environment_only": environment_only(setup),
    }
    # In turns, so that a busy neighbour slows both.
    rivals = None if args.no_peer else peer(replace(setup), clock)
    mine, theirs, phases = [], [], []
    for metrics in ours(setup, args.iterations, clock):
        mine.append(metrics["steps_per_second"])
        phases.append((metrics["seconds_rollout"], metrics["seconds_update"]))
        print(f"ours {mine[-1]:,.0f} steps/s", flush=True)
        if rivals is not None:
            theirs.append(next(rivals))
            print(f"sb3-contrib {theirs[-1]:,.0f} steps/s", flush=True)
    report["ours_steps_per_second"] = statistics.median(mine)
    report["seconds_rollout"], report["seconds_update"] = (statistics.median(p) for p in zip(*phases, strict=True))
    if theirs:
        report["peer_steps_per_second"] = statistics.median(theirs)
        report["ratio"] = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    for name, value in report.items():
        print(f"{name:24} {value:,.2f}" if isinstance(value, float) else f"{name:24} {value}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
