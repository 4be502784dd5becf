"""Checkpoints of the old formats: weights, one or two optimisers, metrics."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tactician.learning import Learner
from tactician.monitor.progress import Reporter
from tactician.monitor.wording import count
from tactician.training.checkpoint import BEFORE
from tactician.training.lineage import run_name, seen_by_checkpoint
from tactician.training.setup import Setup
from tactician.training.state import Progress, TrainState, load_optimiser


def from_legacy(
    setup: Setup, fresh: TrainState, path: Path, content: dict[str, Any], reporter: Reporter
) -> TrainState | None:
    """Restore an old checkpoint: weights and metrics, and the moments of its optimisers if they fit ours.

    Returns:
        The state; None, with a warning, if the weights are of another network or not finite.
    """
    policy = fresh.learner.policy
    renamed = legacy_weights(policy.state_dict(), content["model_state_dict"])
    if renamed is not None and not all(bool(x.isfinite().all()) for x in renamed.values()):
        reporter.warn(f"{path} holds weights that are not finite: training starts from the beginning.")
        return None
    if renamed is None:
        theirs = sum(x.numel() for x in content["model_state_dict"].values() if isinstance(x, Tensor))
        warn_mismatch(path, f"{theirs:,} parameters", shape_of(policy.architecture), reporter)
        return None
    policy.load_state_dict(renamed)
    nested = content.get("metrics")
    flat = {**content, **(nested if isinstance(nested, Mapping) else {})}
    trades = int(_number(flat, "total_trades"))
    win_rate = _number(flat, "win_rate")
    progress = Progress(
        timesteps=int(_number(flat, "total_steps", _number(flat, "timesteps"))),
        iteration=int(_number(flat, "iteration")),
        total_trades=trades,
        winning_trades=round(trades * min(win_rate / 100 if win_rate > 1 else win_rate, 1.0)),  # some wrote percent
        best_reward=_number(flat, "best_reward", -math.inf, least=-math.inf),
        seconds=math.nan,  # not known, so no speed of the whole run is
    )
    moments = _restore_moments(fresh.learner, content)
    restored = "weights, metrics and the optimisers' moments are restored"
    if not moments:
        restored = "weights and metrics are restored, the optimisers of actor and critic start fresh from them"
    reporter.warn(f"{path} has an old format: {restored}, and portfolios begin new episodes.")
    config = setup.config.model_dump(mode="json")
    run = run_name(config, setup.environment.market.fingerprint, f"an old format after {progress.timesteps}")
    return replace(fresh, progress=progress, run=run, seen=seen_by_checkpoint(content).merged(fresh.seen))


def _restore_moments(learner: Learner, content: Mapping[str, Any]) -> bool:
    """Load both optimisers from two old ones, or from one of all parameters, in the order of the network's parts.

    Returns:
        Whether the file has every moment with its parameter's shape. If not, both optimisers stay fresh.
    """
    ours = (learner.actor_optimiser, learner.critic_optimiser)
    counts = [len(optimiser.param_groups[0]["params"]) for optimiser in ours]
    states = [_moments(content.get(f"{name}_optimizer_state_dict")) for name in ("actor", "critic")]
    if not any(states):
        every = _moments(content.get("optimizer_state_dict"))
        if sum(counts) != len(every):
            return False
        states = [every[: counts[0]], every[counts[0] :]]
    for optimiser, state in zip(ours, states, strict=True):
        if not _fits(optimiser, state):
            return False
    for optimiser, state in zip(ours, states, strict=True):
        saved = copy.deepcopy(optimiser.state_dict())
        load_optimiser(optimiser, {**saved, "state": dict(enumerate(state))})
    return True


def _moments(saved: Any) -> list[Any]:
    """Adam's state of every parameter, in order; empty if ``saved`` is no optimiser's state."""
    state = saved.get("state") if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping) or set(state) != set(range(len(state))):
        return []
    return [state[k] for k in range(len(state))]


def _fits(optimiser: torch.optim.Optimizer, state: list[Any]) -> bool:
    parameters = optimiser.param_groups[0]["params"]
    if len(parameters) != len(state):
        return False
    for parameter, moments in zip(parameters, state, strict=True):
        if not isinstance(moments, Mapping) or set(moments) != {"step", "exp_avg", "exp_avg_sq"}:
            return False
        for name in ("exp_avg", "exp_avg_sq"):
            x = moments[name]
            if not isinstance(x, Tensor) or x.shape != parameter.shape or not bool(x.isfinite().all()):
                return False
    return True


def _number(values: Mapping[str, Any], key: str, default: float = 0.0, least: float = 0.0) -> float:
    """A metric of an old file, which may hold any value."""
    try:
        found = float(values[key])
    except (KeyError, TypeError, ValueError, RuntimeError):
        return default
    return max(found, least) if math.isfinite(found) else default


def legacy_weights(ours: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The old format's weights under our names, part by part and in order; None if any shape differs.

    The parts are encoder, GRU, policy head and value head. Prefixes of wrappers (``module.``, ``_orig_mod.``) are removed.
    """
    clean = {str(name).replace("module.", "").replace("_orig_mod.", ""): x for name, x in theirs.items()}
    result = {name: x for name, x in ours.items() if name == "value_scale"}
    for part, names in {
        "encoder": ("encoder",),
        "gru": ("gru", "rnn"),
        "policy_head": ("policy_head", "actor", "policy"),
        "value_head": ("value_head", "critic", "value"),
    }.items():
        targets = [name for name in ours if name.startswith(part)]
        sources = [x for name, x in clean.items() if name.split(".")[0] in names and isinstance(x, Tensor)]
        if len(targets) != len(sources):
            return None
        for name, source in zip(targets, sources, strict=True):
            if source.shape != ours[name].shape:
                return None
            result[name] = source
    return result


def shape_of(architecture: Mapping[str, Any]) -> str:
    """A network in words."""
    a = architecture
    layers = a.get("encoder_layers", BEFORE["encoder_layers"])
    encoder = count(layers, "encoder layer") if layers else "linear encoder"
    memory = f"{count(a['n_gru_layers'], 'GRU layer')} of {a['hidden_dim']}"
    return f"{a['obs_dim']} entries → {encoder} → {memory} → {a['n_actions']} actions"


def warn_mismatch(path: Path, theirs: str, ours: str, reporter: Reporter) -> None:
    """Warn that a checkpoint holds another network, so that training starts anew."""
    reporter.warn(f"{path} holds another network ({theirs}; this run has {ours}): training starts from the beginning.")
