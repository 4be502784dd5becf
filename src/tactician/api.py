"""Tactician from Python: the same runs as the command line's, returned instead of printed.

Mistakes raise `UserError`, whose message is one sentence. What is heavy is imported by the function that needs it.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tactician import config as _config
from tactician.config import Config, make_config
from tactician.errors import UserError

if TYPE_CHECKING:
    from tactician.environment import MarketTensors
    from tactician.evaluation import Evaluation
    from tactician.monitor.progress import Reporter
    from tactician.trading.sheet import Sheet
    from tactician.training.summary import Summary

__all__ = [
    "Config",
    "UserError",
    "build_market",
    "evaluate",
    "load_config",
    "load_market",
    "make_gym",
    "signal",
    "train",
]

_REBUILD = "tactician.build_market(config)"


def load_config(source: str | Path = "rl_v2_multi_asset", **settings: Any) -> Config:
    """A configuration: a file's, or a packaged one's, with some keys changed.

    Args:
        source: YAML file, or name of a packaged configuration (``tactician config`` lists them).
        settings: keys of the configuration (docs/configuration.md). As on the command line, a duration (``timesteps``,
            ``episodes``, ``iterations``) replaces all durations of the file.

    Raises:
        UserError: the file cannot be read, a key is unknown or a value cannot be.
    """
    return _config.load_config(source, _config.override({}, settings))


def build_market(config: Config, *, verbose: bool = False) -> "MarketTensors":
    """Read the configuration's bars, validate them, compute features, and write the market cache.

    Args:
        config: names source, universe, dates and cache file.
        verbose: print what was found in the bars; the market's ``findings`` tell it too.

    Returns:
        The market: returns ``[day, asset]``, features ``[day, feature]``, regime weights ``[day, regime, asset + 1]`` and
        more (`tactician.environment.MarketTensors`).

    Raises:
        UserError: the bars cannot be read or do not pass validation, or the cache cannot be written.
    """
    from tactician.commands.build_cache import build_cache
    from tactician.monitor.progress import Reporter

    return build_cache(_checked(config), Reporter(silent=not verbose))


def load_market(config: Config) -> "MarketTensors":
    """Read the configuration's market cache.

    Raises:
        UserError: it is missing, damaged, or was built from other settings.
    """
    from tactician.environment import load_cached_market

    return load_cached_market(_checked(config), _REBUILD)


def train(
    config: Config, *, resume: bool = False, allow_contaminated: bool = False, verbose: bool = False
) -> "Summary":
    """Train an agent on the configuration's market cache, in one process, and judge the best model.

    With ``members`` above 1 it is an ensemble: each member trains in a process of its own, and they are judged together.

    Args:
        config: what to train; ``checkpoint_dir`` gets the files of a run.
        resume: go on from the newest checkpoint of that folder, if there is one; the duration is the total.
        allow_contaminated: go on although the checkpoint has seen the validation or test range; every result is marked.
        verbose: print progress; else only warnings, on standard error.

    Returns:
        The finished run, whose ``repr`` is the report. ``results["test"]`` are figures on the test range.

    Raises:
        UserError: there is no market cache, a setting cannot be, a range is not held out, or the run diverged.
        tactician.training.interruption.Interrupted: Ctrl+C or SIGTERM; the state is saved, and ``resume`` goes on from it.
        KeyboardInterrupt: Ctrl+C, of an ensemble; ``resume`` goes on from what its members have saved.
    """
    from tactician.training import session
    from tactician.training.interruption import Interruption
    from tactician.training.lock import only_run_in
    from tactician.training.resume import find_checkpoint

    config = _checked(config)
    reporter, market = _reporter(verbose), load_market(config)
    # The whole configuration was given, so a command line that goes on with this run keeps all of it.
    flags = Config.model_fields.keys()
    if config.members > 1 and config.member is None:
        from tactician.studies.engine import stopped_by_signals
        from tactician.studies.ensemble import member_engine, prepare_members, train_ensemble

        with only_run_in(config.checkpoint_dir), stopped_by_signals():
            setup = prepare_members(config, market, flags, reporter, resume=resume)
            return train_ensemble(setup, market, member_engine(setup), reporter, resume=resume)
    with only_run_in(config.checkpoint_dir), Interruption() as stop:
        found = find_checkpoint(config, None, reporter) if resume else None
        setup = session.prepare(config, market, found, reporter, flags=flags, allow_contaminated=allow_contaminated)
        return session.run(setup, found, reporter, stop)


def evaluate(
    checkpoint: str | Path,
    config: Config | None = None,
    *,
    split: Literal["validation", "test"] = "test",
    output: str | Path | None = None,
    allow_contaminated: bool = False,
) -> "Evaluation":
    """Judge a saved model on a range that it has not seen, beside equal weight and all other baselines.

    A judgement on the test range is registered before, and counted as a look at it: in the checkpoints of the model's run and
    in the trial ledger beside the market cache.

    Args:
        checkpoint: the model's file.
        config: market cache, universe, dates and costs; default: those that the model was trained with.
        split: the range.
        output: folder for ``report.html``, ``report.json`` and ``returns.csv``; default: `report_folder`.
        allow_contaminated: judge although the model has seen a range that is called held out; the verdict says so.

    Returns:
        Figures and verdict, whose ``repr`` is the report.

    Raises:
        UserError: a file is missing or damaged, the model chooses among other regimes, or a range is not held out.
    """
    from tactician.training.checkpoint import load_policy
    from tactician.training.reporting import judge_and_report, report_folder
    from tactician.training.saved import candidate, judged_settings

    path = Path(checkpoint)
    if split not in ("validation", "test"):
        raise UserError(f"split cannot be {split!r}; give 'validation' or 'test'.")
    loaded = load_policy(path)
    config = judged_settings(loaded.content, path, config and _checked(config))
    judged = candidate(path, loaded, config, load_market(config), allow_contaminated=allow_contaminated)
    folder = report_folder(path, split) if output is None else Path(output)
    return judge_and_report(judged, split, folder, warn=_reporter(False).warn).result


def signal(
    checkpoint: str | Path,
    config: Config | None = None,
    *,
    bars: str | Path | None = None,
    holdings: str | Path | None = None,
    cash: float = 100_000.0,
    regime: str | None = None,
    since: int = 0,
    on: date | None = None,
    store: str | Path = "data/bars",
) -> "Sheet":
    """What a model would hold from the next close on, the orders for it, their cost, why, and how far that is from training.

    Args:
        checkpoint: the model's file.
        config: another universe or other costs; default: those of the model. The regimes must be the model's.
        bars: where prices come from; default: the model's source. Only what is new is downloaded.
        holdings: CSV of what is held, with the columns symbol and shares and a row CASH; default: ``cash`` alone.
        cash: money, if there are no holdings.
        regime: the regime that was traded into last.
        since: sessions since then.
        on: a past session, to decide for its close instead of the next one.
        store: folder in which downloaded bars are kept.

    Returns:
        Decision and plan, whose ``repr`` is the sheet; ``as_dict`` has plain values. ``advice.distance`` is the distance from
        the training days, and ``advice.names`` says whether the model was ever trained on this universe.

    Raises:
        UserError: a file is missing or damaged, the model chooses among other regimes, or an argument cannot be.
        tactician.errors.Refused: the bars do not reach the session before.
    """
    from tactician.commands.signal import SignalArguments, make_sheet

    words = SignalArguments(
        bars=None if bars is None else str(bars),
        holdings=None if holdings is None else Path(holdings),
        cash=cash,
        regime=regime,
        since=since,
        on=on,
        store=Path(store),
    )
    return make_sheet(words, Path(checkpoint), _reporter(False), config and _checked(config))


def make_gym(
    config: Config,
    *,
    kind: Literal["env", "vector", "sb3"] = "env",
    n_envs: int = 1,
    split: Literal["train", "validation", "test"] = "train",
) -> Any:
    """The simulated portfolios of training, for another trainer.

    Same market, ledger, costs, observations and rewards as in `train`. Episodes lie inside the range; each ends with a
    truncation after ``episode_length`` sessions.

    Args:
        config: market cache, dates, costs, ``episode_length``, ``first_holdings``, ``portfolios_per_window`` and seed.
        kind: ``env`` for one portfolio (`gymnasium.Env`), ``vector`` for many (`gymnasium.vector.VectorEnv`), ``sb3`` for
            many as a `VecEnv` of stable-baselines3.
        n_envs: portfolios, a multiple of the configuration's ``portfolios_per_window``; 1 with ``env``.
        split: the range whose days are lived through. Features are normalised on the training range, whichever it is.

    Raises:
        UserError: the cache cannot be read, the range is too short, a number does not fit, or the library is missing.
    """
    from tactician.environment import fit_normaliser, normalise, split_rows
    from tactician.training.markets import make_environment, names_trained_on

    config = _checked(config)
    if kind not in ("env", "vector", "sb3"):
        raise UserError(f"kind cannot be {kind!r}; give 'env', 'vector' or 'sb3'.")
    if split not in ("train", "validation", "test"):
        raise UserError(f"split cannot be {split!r}; give 'train', 'validation' or 'test'.")
    per_window = config.portfolios_per_window
    if kind == "env" and n_envs != 1:
        raise UserError("kind 'env' is one portfolio; give kind='vector' or 'sb3' for more.")
    if kind != "env" and (n_envs < 1 or n_envs % per_window):
        raise UserError(
            f"n_envs ({n_envs}) must be a multiple of portfolios_per_window ({per_window}); change one of them."
        )
    market = load_market(config)
    rows = split_rows(config, market)
    trained, (days, *_) = names_trained_on(market, (rows["train"],))
    shown, part = (trained, days) if split == "train" else (market, rows[split])
    env = make_environment(config, normalise(shown, *fit_normaliser(trained, days)), part)
    try:
        from tactician.environment import gymnasium as made

        if kind == "env":
            return made.PortfolioEnv(env)
        return made.PortfolioVectorEnv(env, n_envs) if kind == "vector" else made.stable_baselines(env, n_envs)
    except ModuleNotFoundError as error:
        extra = "peer" if kind == "sb3" else "gym"
        raise UserError(f"{error.name} is not installed; pip install 'tactician[{extra}]' brings it.") from error


def _checked(config: Config) -> Config:
    """The same settings, validated: a copy with changed values is not."""
    return make_config(config.model_dump(), "the settings")


def _reporter(verbose: bool) -> "Reporter":
    """What is no result goes to standard error unless it was asked for."""
    from rich.console import Console

    from tactician.monitor.progress import Reporter

    return Reporter() if verbose else Reporter("quiet", Console(stderr=True, highlight=False, soft_wrap=True))
