"""A run that trains an ensemble: its members side by side, then one file, then one judgement."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace

from tactician.config import Config
from tactician.environment import MarketTensors, inner_folds
from tactician.errors import UserError
from tactician.evaluation import Evaluation, NotFinite, evaluate
from tactician.monitor.progress import Reporter
from tactician.studies.engine import Engine, make_engine
from tactician.training.checkpoint import load_policy, set_aside
from tactician.training.counting import Counting
from tactician.training.lineage import Seen, run_name
from tactician.training.members import Trained, member_config, metrics_of, progress_of, put_together, train_member
from tactician.training.reporting import judge_and_report
from tactician.training.saved import candidate
from tactician.training.setup import Setup, prepare_run
from tactician.training.summary import Summary


def prepare_members(config: Config, market: MarketTensors, flags: Collection[str], reporter: Reporter) -> Setup:
    """Choose the sizes that all members have, on this machine, and tell the warnings.

    Raises:
        UserError: see `prepare_run`, or the training range is too short for so many members.
    """
    setup = prepare_run(config, market)
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
    folds = inner_folds(setup.splits["train"], config.members, config.episode_length)
    _prepare_folder(config, resume, reporter)
    jobs = [member_config(config, fold.number) for fold in folds]
    # One trial: nothing is picked among the members.
    book = Counting(
        config, run_name(config.model_dump(mode="json"), market.fingerprint), market.fingerprint, reporter.warn
    )
    book.trial()
    trained: list[Trained] = []
    with closing(engine.run(train_member, jobs, (market, setup.normaliser))) as results:
        for _, one in results:
            trained.append(one)
            piece = one.piece
            reporter.say(
                f"  Member {one.number}: {100 * piece.beyond_equal_weight:+.1f} % log growth per year beside equal weight on "
                f"{piece.first} to {piece.last}, which it has not seen ({len(jobs) - len(trained)} to go)"
            )
    path = put_together(setup, trained)
    loaded = load_policy(path)
    assert loaded.found is not None
    reporter.say(f"  All members together: {loaded.found.sentence}.", "bold")
    model = candidate(path, loaded, config, market, allow_contaminated=False)
    try:
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
    except NotFinite as error:
        raise UserError(
            f"The ensemble has no result: {error}. Its members are kept in {config.checkpoint_dir}."
        ) from error
    return replace(summary(reported.result, reported.seen), gap=reported.gap)


def _prepare_folder(config: Config, resume: bool, reporter: Reporter) -> None:
    if resume:
        return
    aside = set_aside(config.checkpoint_dir)
    if aside is not None:
        reporter.warn(
            f"{config.checkpoint_dir} held an earlier run, which is now in {aside}; --resume would have gone on with it, and "
            "--checkpoint-dir takes another folder."
        )
