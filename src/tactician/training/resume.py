"""Going on from a checkpoint: what is restored, what begins anew, and what the user is told about it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tactician.config import Config
from tactician.errors import UserError
from tactician.monitor.progress import Reporter
from tactician.policy import network_of
from tactician.training.checkpoint import BEST, is_legacy, newest_checkpoint, read_checkpoint
from tactician.training.lineage import HARMLESS, run_name, run_of, seen_by_checkpoint
from tactician.training.setup import Setup, architecture
from tactician.training.state import Progress, TrainState, first_train_state, fresh_environments, restored_environments

OF_DATA = frozenset(
    {
        "train_until",
        "regimes",
        "universe",
        "expanded_universe",
        "expanded",
        "start",
        "end",
        "calendar",
        "listing_warmup",
        "cash_rate",
        "on_findings",
        "closes",
        "delisting_return",
    }
)
"""Keys that shape the market."""

_OF_ENVIRONMENTS = OF_DATA | {
    "n_envs",
    "n_steps",
    "episode_length",
    "portfolios_per_window",
    "first_holdings",
    "seed",
}
"""Keys with whose change the simulated portfolios cannot simply live on: they begin new episodes."""

_OF_VALIDATION = OF_DATA | {
    "best_by",
    "validation_until",
    "spread",
    "slippage_max",
    "impact",
    "commission",
    "impact_adv",
    "impact_linear",
    "portfolio_value",
}
"""Keys with whose change figures on the validation range cannot be compared with earlier ones."""


def find_checkpoint(config: Config, checkpoint: Path | None, reporter: Reporter) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from: the one named, or the newest loadable one of the run's folder.

    Returns:
        Path and content; None if the folder has none.

    Raises:
        UserError: the named one is missing or damaged.
    """
    if checkpoint is not None:
        return checkpoint, read_checkpoint(checkpoint)
    path, content, complaints = newest_checkpoint(config.checkpoint_dir)
    for complaint in complaints:
        reporter.warn(complaint)
    if path is None or content is None:
        reporter.warn(f"{config.checkpoint_dir} has no checkpoint to resume from: training starts from the beginning.")
        return None
    return path, content


def saved_since(folder: Path, since: float) -> tuple[Path, dict[str, Any]] | None:
    """The newest loadable checkpoint that was saved after a time, if there is one."""
    path, content, _ = newest_checkpoint(folder, since)
    return None if path is None or content is None else (path, content)


def saved_normaliser(content: Mapping[str, Any], config: Config, n_actions: int) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation with which a checkpoint's policy was trained.

    None if the run begins anew with another network, and in the old formats, which had none.
    """
    if is_legacy(content) or not goes_on_from(content, config, n_actions):
        return None
    return content["normaliser"]["mean"], content["normaliser"]["std"]


def goes_on_from(content: Mapping[str, Any], config: Config, n_actions: int) -> bool:
    """Whether a run takes over a checkpoint's weights; with another network it begins anew."""
    return is_legacy(content) or not _mismatch(content["architecture"], architecture(config, n_actions))


def resume(setup: Setup, path: Path, content: dict[str, Any], reporter: Reporter) -> TrainState:
    """The state that a checkpoint holds, as far as it fits the setup; the reporter tells what does not.

    An architecture that differs starts fresh, with a warning. Other data or environments keep what was learnt and begin
    new episodes.
    """
    fresh = first_train_state(setup)
    if is_legacy(content):
        return _from_legacy(setup, fresh, path, content, reporter)
    ours, theirs = fresh.learner.policy.architecture, content["architecture"]
    if _mismatch(theirs, ours):
        _warn_mismatch(path, _shape(theirs), _shape(ours), reporter)
        return fresh
    changed, foreign = _tell_changes(setup, path, content, reporter)
    learner = fresh.learner
    learner.policy.load_state_dict(content["model_state_dict"])
    _load_optimiser(learner.actor_optimiser, content["actor_optimizer_state_dict"])
    _load_optimiser(learner.critic_optimiser, content["critic_optimizer_state_dict"])
    learner.precision.load_state_dict(content["precision"])
    progress = dict(content["progress"])
    if foreign or _OF_VALIDATION & changed.keys() or not _owns_best(progress, setup.config.checkpoint_dir / BEST):
        if not foreign and progress["best_iteration"]:
            reporter.note(
                "  The best figure on the validation range is forgotten: it cannot be compared or its model is gone."
            )
        progress |= {"best_validation": float("-inf"), "best_iteration": 0}
    if foreign or _OF_ENVIRONMENTS & changed.keys():
        if not foreign:
            reporter.note("  Portfolios begin new episodes.")
        environments = fresh_environments(setup, learner.policy.initial_state(setup.n_envs))
    else:
        environments = restored_environments(setup, content)
    state = TrainState(
        learner,
        **environments,
        run=_run_that_goes_on(setup, content, anew=foreign or not changed.keys() <= HARMLESS),
        seen=seen_by_checkpoint(content).merged(fresh.seen),
        progress=Progress(**progress),
        metrics=dict(content["metrics"]),
    )
    reporter.note(
        f"  Resumed from {path}: iteration {state.progress.iteration}, {state.progress.timesteps:,} of "
        f"{setup.total_timesteps:,} steps done."
    )
    return state


def _tell_changes(
    setup: Setup, path: Path, content: Mapping[str, Any], reporter: Reporter
) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """Settings that are not a checkpoint's, and whether the data are not: the user is told of both."""
    changed = changed_keys(content["config"], setup.config)
    for key, (before, now) in changed.items():
        word = "does not matter" if key in HARMLESS else "matters: the run is not the one that would have gone on"
        reporter.note(f"  {key} was {before} and is now {now} ({word}).")
    foreign = content["data_fingerprint"] != setup.environment.market.fingerprint
    if foreign:
        reporter.warn(
            f"{path} was trained on other data ({content['data_fingerprint'][:12]}, now "
            f"{setup.environment.market.fingerprint[:12]}): what was learnt and its normaliser are kept, portfolios begin "
            "new episodes, and the best figure on the validation range is forgotten."
        )
    return changed, foreign


def _run_that_goes_on(setup: Setup, content: Mapping[str, Any], anew: bool) -> str:
    """The checkpoint's run; another one, which begins where the checkpoint is, if what is learnt from now on differs."""
    parent = run_of(content) or ""
    if not anew:
        return parent
    config, done = setup.config.model_dump(mode="json"), content["progress"]["timesteps"]
    return run_name(config, setup.environment.market.fingerprint, f"{parent} after {done}")


def _mismatch(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    if network_of(theirs) != network_of(ours):
        return True
    return any(ours[key] != theirs[key] for key in ("obs_dim", "n_actions", "hidden_dim", "n_gru_layers"))


def _owns_best(progress: Mapping[str, Any], best: Path) -> bool:
    """Whether the folder's best model is the one that a run's progress remembers, and no other run's."""
    try:
        theirs = read_checkpoint(best).get("progress", {})
    except UserError:
        return False
    return all(theirs.get(key) == progress[key] for key in ("best_validation", "best_iteration"))


def changed_keys(before: Mapping[str, Any], config: Config) -> dict[str, tuple[Any, Any]]:
    """Configuration keys that differ from a checkpoint's, with both values."""
    now = config.model_dump(mode="json")
    keys = [key for key in now if key in before and before[key] != now[key]]
    keys += [key for key in now if key not in before and now[key] != _default(key)]
    return {key: (before.get(key, "not known"), now[key]) for key in keys}


def _default(key: str) -> Any:
    return Config.model_fields[key].default


def _load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Moments and step counts come from the checkpoint, rates and kernel from the configuration."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(saved)
    for group, setting in zip(optimiser.param_groups, settings, strict=True):
        group.update(setting)


def _from_legacy(
    setup: Setup, fresh: TrainState, path: Path, content: dict[str, Any], reporter: Reporter
) -> TrainState:
    """Weights and metrics of an old format; the two optimisers start fresh."""
    policy = fresh.learner.policy
    renamed = legacy_weights(policy.state_dict(), content["model_state_dict"])
    if renamed is not None and not all(bool(x.isfinite().all()) for x in renamed.values()):
        reporter.warn(f"{path} holds weights that are not finite: training starts from the beginning.")
        return fresh
    if renamed is None:
        theirs = sum(x.numel() for x in content["model_state_dict"].values() if isinstance(x, Tensor))
        _warn_mismatch(path, f"{theirs:,} parameters", _shape(policy.architecture), reporter)
        return fresh
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
    )
    reporter.warn(
        f"{path} has an old format: weights and metrics are restored, the optimisers of actor and critic start fresh from "
        "them, and portfolios begin new episodes."
    )
    config = setup.config.model_dump(mode="json")
    run = run_name(config, setup.environment.market.fingerprint, f"an old format after {progress.timesteps}")
    return replace(fresh, progress=progress, run=run, seen=seen_by_checkpoint(content).merged(fresh.seen))


def _number(values: Mapping[str, Any], key: str, default: float = 0.0, least: float = 0.0) -> float:
    """A metric of an old file, where anything may stand."""
    try:
        found = float(values[key])
    except (KeyError, TypeError, ValueError, RuntimeError):
        return default
    return max(found, least) if math.isfinite(found) else default


def legacy_weights(ours: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The old format's weights under our names: part by part, in order, where every shape agrees; else None.

    The parts are encoder, GRU, policy head and value head. Prefixes that wrappers leave (``module.``, ``_orig_mod.``) are
    passed over.
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


def _shape(architecture: Mapping[str, Any]) -> str:
    a = architecture
    return f"{a['obs_dim']} entries → {a['n_gru_layers']} GRU layers of {a['hidden_dim']} → {a['n_actions']} actions"


def _warn_mismatch(path: Path, theirs: str, ours: str, reporter: Reporter) -> None:
    reporter.warn(f"{path} holds another network ({theirs}; this run has {ours}): training starts from the beginning.")
