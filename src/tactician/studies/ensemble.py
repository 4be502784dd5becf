"""A run that trains an ensemble: its members side by side, then one file, then one judgement."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tactician.config import Config
from tactician.environment import MarketTensors, inner_folds
from tactician.errors import UserError
from tactician.evaluation import Evaluation, NotFinite, evaluate
from tactician.monitor.progress import Reporter
from tactician.monitor.wording import count
from tactician.studies.engine import Engine, make_engine
from tactician.training.checkpoint import load_policy, newest_checkpoint, remove_leftovers, set_aside
from tactician.training.counting import Counting
from tactician.training.lineage import Seen, run_name
from tactician.training.members import (
    Shared,
    Trained,
    member_config,
    metrics_of,
    progress_of,
    put_together,
    saved_members,
    train_member,
)
from tactician.training.reporting import judge_and_report
from tactician.training.resume import FILLED_IN, refuse_other_names
from tactician.training.saved import candidate
from tactician.training.setup import Setup, prepare_run
from tactician.training.summary import Summary


def members_to_go_on_with(config: Config) -> tuple[Path, dict[str, Any]] | None:
    """A checkpoint with the settings of the ensemble that the run's folder holds; None if it holds none.

    Raises:
        UserError: an ensemble is asked for, and the folder holds a model without members.
    """
    there = saved_members(config.checkpoint_dir)
    if there is None and config.members > 1:
        path, _, _ = newest_checkpoint(config.checkpoint_dir)
        if path is not None:
            raise UserError(
                f"{config.checkpoint_dir} holds a model and no members to go on with; add --members 1 to go on with it, or "
                "leave out --resume, which sets it aside."
            )
    return there


def prepare_members(
    config: Config, market: MarketTensors, flags: Collection[str], reporter: Reporter, *, resume: bool
) -> Setup:
    """Choose the sizes that all members have, on this machine, and tell the warnings.

    Args:
        config: of the whole run.
        market: its market.
        flags: keys of the configuration that did not come from a file.
        reporter: tells the warnings.
        resume: go on with the members of the run's folder. They keep the sizes with which they began.

    Raises:
        UserError: see `prepare_run` and `members_to_go_on_with`; the folder holds another number of members, or the training
            range is too short for so many.
    """
    there = members_to_go_on_with(config) if resume else None
    if there is not None:
        saved = there[1]["config"]
        if saved["members"] != config.members:
            raise UserError(
                f"{config.checkpoint_dir} holds {saved['members']} members, not {config.members}; leave out --resume, which "
                "sets them aside, or ask for as many."
            )
        refuse_other_names(config, *there)
        chosen = {key: saved[key] for key in FILLED_IN if getattr(config, key) is None and key in saved}
        config = config.model_copy(update=chosen)
    elif resume:
        reporter.warn(f"{config.checkpoint_dir} has no member to resume: training starts from the beginning.")
    setup = prepare_run(config, market, fixed_sizes=there is not None)
    inner_folds(setup.splits["train"], config.members, config.episode_length)
    for note in setup.notes:
        reporter.warn(note)
    return replace(setup, flags=tuple(flags))


def member_engine(setup: Setup) -> Engine:
    """Processes on this machine: one per core, or one on a GPU."""
    return make_engine("local", gpu=setup.device.type == "cuda")


def train_ensemble(setup: Setup, market: MarketTensors, engine: Engine, reporter: Reporter, *, resume: bool) -> Summary:
    """Train all members, put them together, and judge the ensemble once.

    Args:
        setup: of the whole run, with the sizes that all members have.
        market: its market, not normalised.
        engine: where members are trained; on this machine, since they write into the run's folder.
        reporter: tells the user.
        resume: go on with members that the folder holds. Otherwise they are set aside.

    Raises:
        UserError: a member has no result, or the folder cannot be written.
        KeyboardInterrupt: what members have saved is kept.
    """
    config = setup.config
    _prepare_folder(config, resume, reporter)
    # One trial: nothing is picked among the members.
    run = run_name(config.model_dump(mode="json"), market.fingerprint)
    book = Counting(config, run, market.fingerprint, reporter.warn)
    book.trial()
    trained = _train_all(setup, market, engine, reporter)
    path, found = put_together(setup, trained)
    reporter.say(f"  All members together: {found.sentence}.", "bold")
    try:
        return _judge(setup, market, path, trained, book, reporter)
    except NotFinite as error:
        raise UserError(
            f"The ensemble has no result: {error}. Its members are kept in {config.checkpoint_dir}; lower --actor-lr and "
            "--critic-lr."
        ) from error


def _train_all(setup: Setup, market: MarketTensors, engine: Engine, reporter: Reporter) -> list[Trained]:
    """The members, in the order in which they were finished."""
    n, trained = setup.config.members, list[Trained]()
    jobs = [member_config(setup.config, number) for number in range(1, n + 1)]
    with (
        reporter.phase(f"👥 Training {count(n, 'member')}", "member") as phase,
        closing(engine.run(train_member, jobs, Shared(market, setup.normaliser, setup.flags))) as results,
    ):
        for _, one in results:
            trained.append(one)
            phase.advance(len(trained), n)
            if one.aside is not None:
                reporter.warn(f"Member {one.number} is of other settings or data: it is now in {one.aside}.")
            piece = one.piece
            reporter.say(
                f"  Member {one.number}: {100 * piece.beyond_equal_weight:+.1f} % log growth per year beside equal weight on "
                f"{piece.first} to {piece.last}, which it has not seen"
            )
    return trained


def _judge(
    setup: Setup, market: MarketTensors, path: Path, trained: list[Trained], book: Counting, reporter: Reporter
) -> Summary:
    """Judge the ensemble on the validation and the test range, and write the report.

    Raises:
        NotFinite: a growth or an output is not finite.
    """
    config, loaded = setup.config, load_policy(path)
    model = candidate(path, loaded, config, market, allow_contaminated=False)
    with reporter.phase("⚖️  Judging the ensemble on the validation range"):
        validation = evaluate(model.judged.environment, model.policy, model.judged.splits["validation"])
    book.trial(validation)

    def summary(result: Evaluation, seen: Seen) -> Summary:
        results = {"validation": validation, "test": result}
        return Summary(setup, progress_of(trained), metrics_of(trained), results, seen, found=loaded.found)

    with reporter.phase("⚖️  Judging the ensemble on the test range"):
        reported = judge_and_report(
            model,
            "test",
            config.checkpoint_dir,
            warn=reporter.warn,
            tell=lambda registration: reporter.note(
                f"  Registered before the test range is read: {registration.sha256[:16]}"
            ),
            run=lambda result, seen: summary(result, seen).as_dict(),
            whole=config.report,
            validation=validation,
        )
    return replace(summary(reported.result, reported.seen), gap=reported.gap)


def _prepare_folder(config: Config, resume: bool, reporter: Reporter) -> None:
    """Remove the temporary files of a killed run, and set aside what this run does not go on with."""
    folder = config.checkpoint_dir
    remove_leftovers(folder)
    aside = None if resume else set_aside(folder)
    if aside is not None:
        reporter.warn(
            f"{folder} held an earlier run, which is now in {aside}; --resume would have gone on with it, and "
            "--checkpoint-dir takes another folder."
        )
