"""Judgements of the policy: validation picks the best model, and the end of a run looks at the test range."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tactician.errors import UserError
from tactician.evaluation import AGENT, Evaluation, NotFinite, PolicyNotFinite, evaluate
from tactician.monitor.progress import Reporter
from tactician.policy import use_native
from tactician.training.checkpoint import BEST, FINAL, Keeper, load_policy, record_look
from tactician.training.lineage import Contamination
from tactician.training.score import model_score
from tactician.training.setup import Setup
from tactician.training.state import TrainState
from tactician.training.summary import Summary, summarise


class Diverged(UserError):
    """The numbers of a run are no longer finite. Its last good state is saved."""


def validate(setup: Setup, state: TrainState, keeper: Keeper, reporter: Reporter) -> tuple[TrainState, bool]:
    """Judge the policy on the validation range.

    Validation does not affect training: it changes neither weights, nor environments, nor random numbers.

    Returns:
        The state with the figures among its metrics, and whether they are the best so far. The best is also in its progress.

    Raises:
        Diverged: a return is not finite; the state is saved.
    """
    begun = time.perf_counter()
    try:
        with reporter.phase("🔎 Validating"):
            result = evaluate(setup.environment, state.learner.policy, setup.splits["validation"])
    except NotFinite as error:
        raise _no_result("validation", error, keeper.save_interrupted(setup, state)) from error
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
    # Written with "not", so that a figure of NaN is never the best.
    if not figure > state.progress.best_validation:
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
    setup: Setup,
    state: TrainState,
    keeper: Keeper,
    contaminated: Contamination | None,
    reporter: Reporter,
    ranges: Sequence[str],
) -> Summary:
    """Judge the best model on the given ranges, and write the summary. ``ranges`` is empty if there is no best model yet.

    Only the end of a run looks at the test range. Every look makes the next one worth less, so it is recorded. The record
    goes into all checkpoints of the run, because a run can be prolonged from any of them.

    Raises:
        Diverged: a return is not finite; the models are saved, and there is no summary.
    """
    results = _judge_best(setup, keeper.folder, contaminated, reporter, ranges) if ranges else {}
    # The look is recorded before the summary is written, so that an interruption cannot hide it.
    if "test" in results and setup.process.leads:
        record_look(keeper.folder, state.run, results["test"].first, results["test"].last)
    return summarise(setup, state, results, contaminated)


def judge_so_far(
    setup: Setup, state: TrainState, keeper: Keeper, contaminated: Contamination | None, reporter: Reporter
) -> Summary:
    """Write the summary of an interrupted run, then add the best model's figures on the validation range, if it has one.

    The first summary is there whatever happens to the judgement: who has interrupted a run may do so again.

    Raises:
        Diverged: see `judge`.
    """
    so_far = judge(setup, state, keeper, contaminated, reporter, ())
    if not has_best(setup, state, keeper):
        return so_far
    return judge(setup, state, keeper, contaminated, reporter, ("validation",))


def _judge_best(
    setup: Setup, folder: Path, contaminated: Contamination | None, reporter: Reporter, ranges: Sequence[str]
) -> dict[str, Evaluation]:
    results = {}
    what = " and ".join(ranges) + (" ranges" if len(ranges) > 1 else " range")
    with reporter.phase(f"⚖️  Judging the best model on the {what}"):
        saved = setup.process.from_leader(lambda: load_policy(folder / BEST).policy.cpu())
        policy = saved.to(setup.device)
        use_native(policy, setup.native_recurrence)
        for name in ranges:
            try:
                result = evaluate(setup.environment, policy, setup.splits[name])
            except NotFinite as error:
                raise _no_result(name, error, folder / FINAL) from error
            results[name] = replace(result, caveat=contaminated.caveat if contaminated else None)
    return results


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
