"""The announcement of a run before it begins, and the plan that a dry run prints instead."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tactician.environment import OBS_DIM, market_bytes
from tactician.hardware.memory import GB
from tactician.monitor.progress import Reporter
from tactician.monitor.tables import print_table
from tactician.monitor.wording import count
from tactician.storage import json_text
from tactician.training.markets import names_trained_on
from tactician.training.setup import Setup

_VALUE_WIDTH = 30
"""Least width of the plan's values on a narrow console, so that a number and its name stay on one line."""

_FINGERPRINT = 12


def announce(setup: Setup, reporter: Reporter) -> None:
    """Print the data, the size of the run, and the planned memory."""
    judged = setup.environment.market
    market, (rows, *_) = names_trained_on(judged, (setup.splits["train"],))
    memory = setup.memory.as_dict(setup.sizes)
    reporter.note(
        f"  Training on {count(len(market.symbols), 'asset')} and CASH, {count(len(rows), 'session')} from "
        f"{market.date_of(rows.start)} to {market.date_of(rows.stop - 1)}"
    )
    low, high = setup.config.cost_multipliers
    if (low, high) != (1, 1):
        reporter.note(f"  Costs in training are {low:g} to {high:g} times as high, another factor in every episode")
    if judged.held_out is not None:
        reporter.note(f"  Held out from training: {', '.join(judged.held_out.symbols)}")
    if further := told_markets(setup):
        reporter.note(f"  {further}")
    reporter.note(
        f"  {count(setup.total_timesteps, 'step')} in {count(setup.iterations, 'iteration')}, "
        f"{count(market.regimes.n_actions, 'regime')} ({market.regimes.kind}), "
        f"{count(setup.sizes.n_envs, 'environment')} on {setup.device}"
    )
    reporter.note(
        f"  Memory: {memory['predicted_gb']:.2f} GB of {memory['budget_gb']:.1f} GB planned, "
        f"{memory['held_bytes_per_sample']:.0f} bytes per sample (the specification's formula: "
        f"{setup.memory.formula_bytes_per_sample} × {memory['overhead']})"
    )
    if judged.findings:
        found = count(len(judged.findings), "finding")
        reporter.note(f"  {found} about the data, kept in report.json (shown with --verbose)")


def told_markets(setup: Setup) -> str:
    """How many markets and sessions a run trains on, and of which kind; empty if there is only the judged one."""
    env, config = setup.training_environment, setup.config
    if not env.markets:
        return ""
    further = len(env.markets) - 1 - config.bootstrap_markets
    kinds = {"of other names": further, "in blocks of days of the same": config.bootstrap_markets}
    told = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)
    first = "the judged one" + (" without the held-out names" if config.held_out_names else "")
    return (
        f"{count(len(env.markets), 'market')} in training: {first}, {told}; "
        f"{count(sum(map(len, env.stretches)), 'session')}, {market_bytes(env.market) / GB:.3f} GB"
    )


def plan(setup: Setup) -> dict[str, Any]:
    """The plan of a run, as plain values for JSON and for the table."""
    market = setup.environment.market
    n_actions = market.regimes.n_actions
    policy = setup.make_policy()
    seconds = setup.seconds_per_iteration
    return {
        "assets": [*market.symbols, "CASH"],
        "regimes": list(market.regimes.names),
        "obs_dim": OBS_DIM,
        "n_actions": n_actions,
        "n_params": sum(p.numel() for p in policy.parameters()),
        **asdict(setup.sizes),
        "total_timesteps": setup.total_timesteps,
        "iterations": setup.iterations,
        "bptt_length": setup.sequence_length,
        "seconds_per_iteration": None if seconds is None else float(f"{seconds:.3g}"),
        "bytes_per_sample": setup.memory.formula_bytes_per_sample,
        "memory": setup.memory.as_dict(setup.sizes),
        "device": str(setup.device),
        "markets": told_markets(setup) or "1",
        **({} if market.held_out is None else {"held_out_names": list(market.held_out.symbols)}),
        "splits": {
            name: {
                "first": str(market.date_of(rows.start)),
                "last": str(market.date_of(rows.stop - 1)),
                "sessions": len(rows),
            }
            for name, rows in setup.splits.items()
        },
        "data_fingerprint": market.fingerprint,
    }


def print_plan(content: dict[str, Any], as_json: bool, console: Console | None = None) -> None:
    """Print the plan, as a table or as JSON."""
    if as_json:
        print(json_text(content, indent=2))
        return
    table = Table(title="Plan (nothing is trained)", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", min_width=_VALUE_WIDTH)
    for key, value in content.items():
        table.add_row(key, Text(_told(key, value)))
    print_table(console or Console(highlight=False), table)


def _told(key: str, value: Any) -> str:
    if key == "data_fingerprint":
        return str(value)[:_FINGERPRINT]  # as elsewhere; whole in the JSON
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_plain(part)}" for name, part in value.items())
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(part: Any) -> str:
    if isinstance(part, dict):
        return f"{part['first']} to {part['last']}, {count(part['sessions'], 'session')}"
    return str(part).lower() if isinstance(part, bool) else f"{part:,}"
