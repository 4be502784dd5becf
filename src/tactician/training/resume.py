"""Resuming from a checkpoint: what is restored, what begins anew, and what the user is told."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tactician.config import DURATIONS, Config, FileOnly, make_config
from tactician.environment import draw_held_out
from tactician.errors import UserError
from tactician.monitor.progress import Reporter
from tactician.policy import network_of
from tactician.training.checkpoint import BEFORE, BEST, is_legacy, newest_checkpoint, read_checkpoint, saved_settings
from tactician.training.legacy import from_legacy, shape_of, warn_mismatch
from tactician.training.lineage import HARMLESS, run_name, run_of, seen_by_checkpoint
from tactician.training.setup import Setup, architecture
from tactician.training.state import (
    Progress,
    TrainState,
    first_train_state,
    fresh_environments,
    load_optimiser,
    restored_environments,
)

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
"""Keys that determine the market."""

_OF_ENVIRONMENTS = OF_DATA | {
    "n_envs",
    "n_steps",
    "episode_length",
    "portfolios_per_window",
    "first_holdings",
    "bootstrap_markets",
    "sub_universes",
    "sub_universe_size",
    "sub_universe_seed",
    "more_universes",
    "held_out_names",
    "held_out_seed",
    "seed",
}
"""If one of these keys changes, the simulated portfolios cannot continue and begin new episodes."""

_OF_NETWORK = frozenset({"network", "hidden_dim", "encoder_layers", "n_gru_layers"})
_SIZES = ("n_envs", "n_steps", "batch_size")
FILLED_IN = (*_SIZES, "anneal_steps", "actor_lr", "critic_lr")
"""Keys whose value a run chooses at its start if the configuration leaves it open."""
_FILE_ONLY = frozenset(name for name, key in Config.model_fields.items() if FileOnly in key.metadata)

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
"""If one of these keys changes, figures on the validation range cannot be compared with earlier ones."""


def find_checkpoint(config: Config, checkpoint: Path | None, reporter: Reporter) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to resume from: the one named, or the newest loadable one of the run's folder.

    Returns:
        Path and content; None if the folder has none.

    Raises:
        UserError: the named one is missing or damaged, or it is an ensemble.
    """
    if checkpoint is not None:
        return checkpoint, _of_one_agent(checkpoint, read_checkpoint(checkpoint))
    path, content, complaints = newest_checkpoint(config.checkpoint_dir)
    for complaint in complaints:
        reporter.warn(complaint)
    if path is None or content is None:
        reporter.warn(f"{config.checkpoint_dir} has no checkpoint to resume from: training starts from the beginning.")
        return None
    return path, _of_one_agent(path, content)


def _of_one_agent(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content, unless it is an ensemble's.

    Raises:
        UserError: it is.
    """
    if "found" in content:
        raise UserError(
            f"{path} is an ensemble, which is not trained further; its members are, with --resume --members "
            f"{content['config']['members']} --checkpoint-dir {path.parent}."
        )
    return content


def saved_since(folder: Path, since: float) -> tuple[Path, dict[str, Any]] | None:
    """The newest loadable checkpoint that was saved after a time, if there is one."""
    path, content, _ = newest_checkpoint(folder, since)
    return None if path is None or content is None else (path, content)


def settings_to_go_on(
    config: Config,
    path: Path,
    content: Mapping[str, Any],
    given: Collection[str],
    *,
    file_named: bool,
    reporter: Reporter,
) -> Config:
    """The settings of a resumed run: present flags, then the run's own, then the configuration file's.

    The flags that began a run belong to the run, so the user need not repeat them. If a configuration file is named now,
    the run's other settings come from it; otherwise they come from the checkpoint. The network always comes from the
    checkpoint, and so do sizes that were chosen for the machine and the length of the annealing.

    Args:
        config: present settings, flags over file.
        path: of the checkpoint, for messages.
        content: the checkpoint.
        given: the keys that present flags set.
        file_named: whether a configuration file is named now.
        reporter: tells what differs from the present file.

    Raises:
        UserError: this version does not know a setting of the checkpoint.
    """
    if is_legacy(content):
        layers = {} if "encoder_layers" in given else {"encoder_layers": BEFORE["encoder_layers"]}
        return config.model_copy(update=layers)
    saved = saved_settings(content)
    # ``kept`` are the keys whose value comes from the checkpoint. All others come from the present settings.
    kept = set(content.get("flags", saved)) if file_named else set(saved)
    kept |= _OF_NETWORK | {key for key in FILLED_IN if getattr(config, key) is None}
    if DURATIONS & set(given):  # a new duration replaces all old ones
        kept -= DURATIONS
    elif DURATIONS & kept:
        kept |= DURATIONS
    if "cache_path" in kept:  # the flag names the cache file for either universe
        kept.add("expanded_cache_path")
    if "cache_path" in given:
        kept.discard("expanded_cache_path")
    kept = (kept & saved.keys()) - set(given) - {"checkpoint_dir"}
    merged = make_config({**config.model_dump(), **{key: saved[key] for key in kept}}, str(path))
    for key in Config.model_fields:
        now, then = getattr(config, key), getattr(merged, key)
        if now != then and key not in FILLED_IN:
            flag = f"; --{key.replace('_', '-')} would change it" if key not in _FILE_ONLY else ""
            reporter.note(f"  {key} stays {then}, as the run has it (the configuration has {now}{flag}).")
    return merged


def refuse_other_names(config: Config, path: Path, content: Mapping[str, Any]) -> None:
    """Refuse to hold out names that a checkpoint was trained on, or to train on names that it holds out.

    Args:
        config: of the run that goes on.
        path: of the checkpoint, for the message.
        content: the checkpoint.

    Raises:
        UserError: names the symbols and the keys.
    """
    remedy = "leave held_out_names, held_out_seed and the universe as they were, or begin a run of its own"
    held_out, seen = set(draw_held_out(config)), seen_by_checkpoint(content)
    known = held_out & set(seen.symbols) if seen.known else held_out
    if known:
        what = "was trained on" if seen.known else "may have been trained on"
        raise UserError(f"{path} {what} {_listed(known)}, and this run would hold that out; {remedy}.")
    if is_legacy(content):
        return
    theirs = make_config(saved_settings(content), f"the configuration in {path}")
    told = set(draw_held_out(theirs)) & set(config.symbols) - held_out
    if told:
        raise UserError(f"{path} holds out {_listed(told)}, and this run would train on that; {remedy}.")


def _listed(symbols: Collection[str]) -> str:
    return ", ".join(sorted(symbols))


def saved_annealing(content: Mapping[str, Any]) -> int | None:
    """The length of the annealing with which a checkpoint's run began. A run that is prolonged does not anneal anew."""
    # A checkpoint from before this key learnt at constant rates; the old formats do not say.
    return None if is_legacy(content) else content["config"].get("anneal_steps", 0)


def saved_normaliser(content: Mapping[str, Any], config: Config, n_actions: int) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation of the features with which a checkpoint's policy was trained.

    None if the run begins anew with another network, and for the old formats, which had no normaliser.
    """
    if is_legacy(content) or not goes_on_from(content, config, n_actions):
        return None
    return content["normaliser"]["mean"], content["normaliser"]["std"]


def goes_on_from(content: Mapping[str, Any], config: Config, n_actions: int) -> bool:
    """Whether a run takes over a checkpoint's weights. With another network it begins anew."""
    return is_legacy(content) or not _mismatch(content["architecture"], architecture(config, n_actions))


def resume(setup: Setup, path: Path, content: dict[str, Any], reporter: Reporter) -> TrainState | None:
    """The state of a checkpoint, as far as it fits the setup. The reporter tells what does not fit.

    With other data or environments it keeps the weights and begins new episodes.

    Returns:
        The state; None, with a warning, if the checkpoint holds another network.
    """
    fresh = first_train_state(setup)
    if is_legacy(content):
        return from_legacy(setup, fresh, path, content, reporter)
    ours, theirs = fresh.learner.policy.architecture, content["architecture"]
    if _mismatch(theirs, ours):
        warn_mismatch(path, shape_of(theirs), shape_of(ours), reporter)
        return None
    changed, foreign = _tell_changes(setup, path, content, reporter)
    # Weights, optimisers and loss scale are always restored; best figures and episodes only if they still mean the same.
    learner = fresh.learner
    learner.policy.load_state_dict(content["model_state_dict"])
    load_optimiser(learner.actor_optimiser, content["actor_optimizer_state_dict"])
    load_optimiser(learner.critic_optimiser, content["critic_optimizer_state_dict"])
    learner.precision.load_state_dict(content["precision"])
    progress, metrics = dict(content["progress"]), dict(content["metrics"])
    best = setup.config.checkpoint_dir / BEST
    if foreign or _OF_VALIDATION & changed.keys() or not setup.process.from_leader(lambda: _owns_best(progress, best)):
        if not foreign and progress["best_iteration"]:
            reporter.note(
                "  The best figure on the validation range is forgotten: it cannot be compared or its model is gone."
            )
        progress |= {"best_validation": float("-inf"), "best_iteration": 0}
        metrics = {name: value for name, value in metrics.items() if not name.startswith("validation_")}
    if foreign or _OF_ENVIRONMENTS & changed.keys():
        if not foreign:
            reporter.note("  Portfolios begin new episodes.")
        environments = fresh_environments(setup, learner.policy)
    else:
        environments = restored_environments(setup, learner.policy, content)
    state = TrainState(
        learner,
        **environments,
        run=_run_that_goes_on(setup, content, anew=foreign or not changed.keys() <= HARMLESS),
        seen=seen_by_checkpoint(content).merged(fresh.seen),
        progress=Progress(**progress),
        metrics=metrics,
    )
    reporter.note(
        f"  Resumed from {path}: iteration {state.progress.iteration}, {state.progress.timesteps:,} of "
        f"{setup.total_timesteps:,} steps done."
    )
    return state


def _tell_changes(
    setup: Setup, path: Path, content: Mapping[str, Any], reporter: Reporter
) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """Tell the user which settings differ from a checkpoint's, and whether the data do; return both."""
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
    """The name of the checkpoint's run, or with ``anew`` of a new run that begins at the checkpoint."""
    parent = run_of(content) or ""
    if not anew:
        return parent
    config, done = setup.config.model_dump(mode="json"), content["progress"]["timesteps"]
    return run_name(config, setup.environment.market.fingerprint, f"{parent} after {done}")


def _mismatch(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    if network_of(theirs) != network_of(ours):
        return True
    shape = ("obs_dim", "n_actions", "hidden_dim", "encoder_layers", "n_gru_layers")
    return any(ours.get(key, BEFORE.get(key)) != theirs.get(key, BEFORE.get(key)) for key in shape)


def _owns_best(progress: Mapping[str, Any], best: Path) -> bool:
    """Whether the folder's best model is the one in a run's progress, and not another run's."""
    try:
        theirs = read_checkpoint(best).get("progress", {})
    except UserError:
        return False
    return all(theirs.get(key) == progress[key] for key in ("best_validation", "best_iteration"))


def changed_keys(before: Mapping[str, Any], config: Config) -> dict[str, tuple[Any, Any]]:
    """Configuration keys that differ from a checkpoint's, with both values."""
    now = config.model_dump(mode="json")
    keys = [key for key in now if key in before and before[key] != now[key]]
    keys += [key for key in now if key not in before and now[key] != _before(key)]
    gone = {key: (before[key], off) for key, off in _GONE.items() if before.get(key, off) != off}
    return {key: (before.get(key, "not known"), now[key]) for key in keys} | gone


_GONE = {"cost_warmup": 0}
"""Keys of earlier versions, with the value that does what is done now."""


def _before(key: str) -> Any:
    """What a checkpoint that lacks a key was trained with: the default, unless that has changed since."""
    default = {**BEFORE, "anneal_steps": 0}.get(key, Config.model_fields[key].default)
    return list(default) if isinstance(default, tuple) else default  # as JSON has it
