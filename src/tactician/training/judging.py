"""Judgements of the policy: validation picks the best model, and the end of a run looks at the test range."""

import math
import time
from dataclasses import replace
from pathlib import Path

from tactician.environment import Names, draw_held_out
from tactician.errors import UserError
from tactician.evaluation import AGENT, Evaluation, NotFinite, PolicyNotFinite, evaluate
from tactician.monitor.progress import Reporter
from tactician.policy import Network, use_kernels
from tactician.training.checkpoint import BEST, FINAL, Keeper, load_policy
from tactician.training.counting import Counting
from tactician.training.lineage import Contamination, Seen
from tactician.training.reporting import Candidate, judge_and_report
from tactician.training.schedules import decided
from tactician.training.score import model_score
from tactician.training.setup import Setup
from tactician.training.state import TrainState
from tactician.training.summary import Summary


class Diverged(UserError):
    """The numbers of a run are no longer finite. Its last good state is saved."""


def validate(setup: Setup, state: TrainState, keeper: Keeper, reporter: Reporter) -> tuple[TrainState, bool]:
    """Judge the policy on the validation range; see `validated`.

    Raises:
        Diverged: a return is not finite; the state is saved.
    """
    try:
        return validated(setup, state, reporter)
    except NotFinite as error:
        raise _no_result("validation", error, keeper.save_interrupted(setup, state)) from error


def validated(setup: Setup, state: TrainState, reporter: Reporter) -> tuple[TrainState, bool]:
    """Judge the policy on the validation range, and write nothing.

    Validation does not affect training: it changes neither weights, nor environments, nor random numbers.

    Returns:
        The state with the figures among its metrics, and whether they are the best so far. The best is also in its progress.

    Raises:
        NotFinite: a return is not finite.
    """
    begun = time.perf_counter()
    with reporter.phase("🔎 Validating"):
        result = evaluate(setup.environment, state.learner.policy, setup.splits["validation"])
    growth = float(result.path.growth[:, result.path.column(AGENT)].mean()) * result.path.sessions_per_year
    score = _validation_score(result, state.metrics)
    metrics = {
        "validation_log_growth_annual": growth,
        "validation_beyond_equal_weight": result.growth_beyond_equal_weight,
        "validation_turnover_annual": result.performances[AGENT].annual_turnover,
        "validation_score": score,
        "seconds_validation": time.perf_counter() - begun,
    }
    state = replace(state, metrics={**state.metrics, **metrics})
    figure = growth if setup.config.best_by == "growth" else score
    if math.isnan(figure):
        reporter.note(
            "  The model score on the validation range is not available: this model is not taken for the best."
        )
    # A model from before the policy has decided is not the one that is judged. It gives way to the first one after.
    progress, samples = state.progress, setup.sizes.samples
    best_so_far = progress.best_validation
    if decided(setup, progress.timesteps) and not decided(setup, progress.best_iteration * samples):
        best_so_far = -math.inf
    # Written with "not", so that a figure of NaN is never the best.
    if not figure > best_so_far:
        return state, False
    reporter.note(f"  💾 Best on validation so far: {100 * growth:+.1f} % log growth per year")
    progress = replace(state.progress, best_validation=figure, best_iteration=state.progress.iteration)
    return replace(state, progress=progress), True


def has_best(setup: Setup, state: TrainState, keeper: Keeper) -> bool:
    """Whether the folder holds the best model of this run. Only the first process looks: others may not see its disk."""
    return setup.process.from_leader(
        lambda: (keeper.folder / BEST).exists() and state.progress.best_validation > -math.inf
    )


def judge(
    setup: Setup, state: TrainState, keeper: Keeper, contaminated: Contamination | None, reporter: Reporter
) -> Summary:
    """Judge the best model of a finished run on the validation and the test range, and write the report.

    Only the end of a run looks at the test range. Every look makes the next one worth less, so it is recorded. The record
    goes into all checkpoints of the run, because a run can be prolonged from any of them.

    Raises:
        Diverged: a return is not finite; the models are saved, and there is no report.
    """
    best = _best_policy(setup, keeper.folder)
    validation = _validated(setup, best, keeper.folder, contaminated, reporter)
    if not setup.process.leads:  # one process reads the test range
        return Summary(setup, state.progress, state.metrics, {"validation": validation}, state.seen, contaminated)
    counting(setup, state, reporter).trial(validation)

    def summary(result: Evaluation, seen: Seen) -> Summary:
        results = {"validation": validation, "test": result}
        return Summary(setup, state.progress, state.metrics, results, seen, contaminated)

    market = setup.environment.market
    candidate = Candidate(
        judged=setup,
        config=setup.config,
        policy=best,
        run=state.run,
        seen=state.seen,
        contaminated=contaminated,
        models=keeper.folder,
        checkpoint=keeper.folder / BEST,
        names=Names(market.symbols, market.symbols, held_out=draw_held_out(setup.config)),
        training_days=setup.training_days,
    )
    try:
        with reporter.phase("⚖️  Judging the best model on the test range"):
            reported = judge_and_report(
                candidate,
                "test",
                keeper.folder,
                warn=reporter.warn,
                tell=lambda registration: reporter.note(
                    f"  Registered before the test range is read: {registration.sha256[:16]}"
                ),
                run=lambda result, seen: summary(result, seen).as_dict(),
                whole=setup.config.report,
                validation=validation,
            )
    except NotFinite as error:
        raise _no_result("test", error, keeper.folder / FINAL) from error
    return replace(summary(reported.result, reported.seen), gap=reported.gap)


def judge_so_far(
    setup: Setup, state: TrainState, keeper: Keeper, contaminated: Contamination | None, reporter: Reporter
) -> Summary:
    """Write what an interrupted run has found, then add the best model's figures on the validation range, if it has one.

    The first file is there whatever happens to the judgement: who has interrupted a run may do so again.

    Raises:
        Diverged: see `judge`.
    """
    so_far = Summary(setup, state.progress, state.metrics, {}, state.seen, contaminated)
    so_far.write()
    if not has_best(setup, state, keeper):
        return so_far
    best = _best_policy(setup, keeper.folder)
    so_far = replace(so_far, results={"validation": _validated(setup, best, keeper.folder, contaminated, reporter)})
    so_far.write()
    return so_far


def counting(setup: Setup, state: TrainState, reporter: Reporter) -> Counting:
    """The trial ledger's account of a run."""
    return Counting(setup.config, state.run, setup.environment.market.fingerprint, reporter.warn)


def _validated(
    setup: Setup, policy: Network, folder: Path, contaminated: Contamination | None, reporter: Reporter
) -> Evaluation:
    """The best model's figures on the validation range."""
    with reporter.phase("⚖️  Judging the best model on the validation range"):
        try:
            result = evaluate(setup.environment, policy, setup.splits["validation"])
        except NotFinite as error:
            raise _no_result("validation", error, folder / FINAL) from error
    return replace(result, caveat=contaminated.caveat if contaminated else None)


def _best_policy(setup: Setup, folder: Path) -> Network:
    """The best model, on the run's device."""
    saved: Network = setup.process.from_leader(lambda: load_policy(folder / BEST).policy.cpu())
    policy = saved.to(setup.device)
    use_kernels(policy, setup.recurrent_kernels)
    return policy


def _no_result(name: str, error: NotFinite, saved: Path) -> Diverged:
    remedy = "Lower the costs, or build the market cache again and look at its findings"
    if isinstance(error, PolicyNotFinite):
        remedy = "Lower --actor-lr and --critic-lr"
    return Diverged(
        f"The {name} range has no result: {error}; saved {saved}. {remedy}, and go on from an earlier checkpoint with "
        "--checkpoint FILE."
    )


def _validation_score(result: Evaluation, metrics: dict[str, float]) -> float:
    """The model score, with trading figures of the validation range and learning figures of the last iteration."""
    trading = {
        "trade_return": result.trade_return,
        "win_rate": result.win_rate,
        "reward": 100 * float(result.path.growth[:, result.path.column(AGENT)].mean()),
    }
    return model_score({**metrics, **trading}, len(result.regime_use)).total
