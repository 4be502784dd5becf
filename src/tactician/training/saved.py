"""A saved model as the judge takes it: with the market, the settings and the lineage that its checkpoint names."""

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tactician.config import Config, make_config, sections
from tactician.environment import OBSERVATION_NAMES, MarketTensors, Names, TrainingDays, draw_held_out
from tactician.errors import UserError
from tactician.policy import settle_recurrence
from tactician.training.checkpoint import LoadedPolicy, saved_settings
from tactician.training.lineage import contamination, refuse_contaminated, run_of, seen_by_checkpoint
from tactician.training.reporting import Candidate
from tactician.training.setup import prepare_judgement


def settings_of(content: Mapping[str, Any], path: Path) -> Config:
    """A checkpoint's settings; keys that this version has no more are passed over."""
    return make_config(saved_settings(content), f"the configuration in {path}")


def judged_settings(content: Mapping[str, Any], path: Path, file: Config | None) -> Config:
    """The settings of a judgement: the model's own, with market, dates, costs and device of a file if there is one."""
    own = settings_of(content, path)
    if file is None:
        return own
    keys = {"device", *sections()["market"], *sections()["portfolio"]}
    settings = {**own.model_dump(), **file.model_dump(include=keys)}
    if set(file.symbols) != set(own.symbols):
        settings["held_out_names"] = 0  # they are names of the model's own universe
    return make_config(settings, "the settings")


def names_beside(content: Mapping[str, Any], path: Path, symbols: tuple[str, ...]) -> Names:
    """The names of a universe beside those that a checkpoint was trained on.

    Raises:
        UserError: the settings in the checkpoint cannot be.
    """
    own = settings_of(content, path)
    return Names(symbols, own.symbols, seen_by_checkpoint(content).symbols, draw_held_out(own))


def candidate(
    path: Path, loaded: LoadedPolicy, config: Config, market: MarketTensors, *, allow_contaminated: bool
) -> Candidate:
    """A model to be judged.

    Args:
        path: its file.
        loaded: its content.
        config: market cache, dates and costs.
        market: of the configuration.
        allow_contaminated: judge although the model has seen a range that is called held out; the verdict says so.

    Raises:
        UserError: the model chooses among other regimes or observes something else, or a range is not held out.
    """
    content, seen = loaded.content, seen_by_checkpoint(loaded.content)
    check_meaning(path, content, market.regimes.names)
    normaliser = (content["normaliser"]["mean"], content["normaliser"]["std"])
    judged = prepare_judgement(config, market, normaliser, loaded.strength)
    if not allow_contaminated:
        refuse_contaminated(judged, seen, path)
    policy = loaded.policy.to(judged.device)
    settle_recurrence(policy)
    return Candidate(
        judged=judged,
        config=config,
        policy=policy,
        run=run_of(content) or "",
        seen=seen,
        contaminated=contamination(judged, seen),
        models=path.parent,
        checkpoint=path,
        names=names_beside(content, path, tuple(market.symbols)),
        training_days=TrainingDays.kept_in(content),
        found=loaded.found,
    )


def check_meaning(path: Path, content: Mapping[str, Any], regime_names: tuple[str, ...]) -> None:
    """Refuse a model whose actions or inputs mean something else here, or that does not say what they mean.

    Args:
        path: its file.
        content: the checkpoint.
        regime_names: the configuration's.

    Raises:
        UserError: names the first difference.
    """
    for key, what in (("regime_names", "regimes"), ("observation_names", "observations")):
        if key not in content:
            raise UserError(f"{path} does not name its {what}; resume training from it once to have it written anew.")
    _check_regimes(path, content, regime_names)
    _check_observation(path, content["observation_names"])


def _check_regimes(path: Path, content: Mapping[str, Any], ours: tuple[str, ...]) -> None:
    """Refuse a model whose actions mean something else.

    Raises:
        UserError: names both tables' first difference.
    """
    theirs, remedy = content["regime_names"], _same_regimes(content)
    for number, (name, other) in enumerate(zip(theirs, ours, strict=False)):
        if name != other:
            raise UserError(f"{path} calls its regime {number} {name}, and the configuration {other}; {remedy}")
    if len(theirs) != len(ours):
        raise UserError(f"{path} chooses among {len(theirs)} regimes, and the configuration has {len(ours)}; {remedy}")


def _same_regimes(content: Mapping[str, Any]) -> str:
    """What makes the regimes of a checkpoint: the table, and the names of the groups where it reads them."""
    config = content.get("config", {})
    if config.get("regimes") == "factor":
        return "set 'regimes' to factor, as it was trained; any universe will do."
    groups = config.get("expanded_universe") if config.get("expanded") else config.get("universe")
    members = {name: [s for s in symbols if s != "CASH"] for name, symbols in (groups or {}).items()}
    # A group of one symbol gives the symbol's name to its regimes.
    told = [f"{name} ({of[0]} alone)" if len(of) == 1 else name for name, of in members.items() if of]
    named = f" ({config['regimes']}; groups: {', '.join(told)})" if told and "regimes" in config else ""
    return f"set 'regimes' and the groups of 'universe' as it was trained{named}."


def _check_observation(path: Path, theirs: list[str]) -> None:
    """Refuse a model that observes something else.

    Raises:
        UserError: names the first difference.
    """
    for name, other in zip_longest(theirs, OBSERVATION_NAMES, fillvalue="nothing"):
        if name != other:
            raise UserError(
                f"{path} observes {name} where this version observes {other}; judge it with the version that trained it."
            )
