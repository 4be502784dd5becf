"""The training loop: iterations of rollout and update, with validation and checkpoints, and a judgement at the end."""

import math
import time
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from tactician.environment import EnvState, narrow
from tactician.errors import UserError
from tactician.evaluation import NotFinite
from tactician.hardware.heap import freed_memory_kept, give_back
from tactician.hardware.memory import is_out_of_memory, reserved_gb
from tactician.hardware.probe import Taken
from tactician.learning import Rollout, collect_rollout, sharing, update
from tactician.monitor.progress import Phase, Reporter
from tactician.monitor.trackers import Trackers
from tactician.monitor.wording import count
from tactician.training.checkpoint import FINAL, Keeper
from tactician.training.copies import compare_copies, stop_if_copies_differ
from tactician.training.duration import Share, next_share
from tactician.training.interruption import Interrupted, Interruption
from tactician.training.judging import Diverged, counting, has_best, judge, judge_so_far, validate
from tactician.training.lineage import Contamination, contamination
from tactician.training.metrics import read_once, rollout_metrics
from tactician.training.schedules import annealed, sharpness
from tactician.training.score import model_score
from tactician.training.setup import Setup
from tactician.training.state import Progress, TrainState, put_back, snapshot
from tactician.training.statistics import rollout_statistics, take_statistics, tell_statistics
from tactician.training.summary import Summary

_UPDATE_LABELS = {"ppo": ("📈 PPO Update", "Epoch"), "critic": ("🎯 Critic Update", "Extra Epoch")}
_AUTOSAVE_SECONDS, _AUTOSAVE_SECONDS_OF_A_MEMBER = 120.0, 30.0
"""A member of an ensemble is not asked to stop, but ended with its process. So it saves more often."""


def train(setup: Setup, state: TrainState, reporter: Reporter, stop: Interruption) -> Summary:
    """Train to the requested number of steps, keep the best and the final model, and judge the best on the test range.

    Args:
        setup: of the run.
        state: the initial state; its learner is changed in place.
        reporter: tells the user.
        stop: after every iteration it says whether to stop.

    Returns:
        The summary. The report is written beside the models.

    Raises:
        Interrupted: see `learn`, also for its other exceptions.
    """
    contaminated = contamination(setup, state.seen)
    setup, state = learn(setup, state, reporter, stop)
    keeper = Keeper(setup.config.checkpoint_dir, setup.config.keep_checkpoints)
    return judge(setup, state, keeper, contaminated, reporter)


def learn(setup: Setup, state: TrainState, reporter: Reporter, stop: Interruption) -> tuple[Setup, TrainState]:
    """Train to the requested number of steps, and keep the best and the final model. The test range is not read.

    Args:
        setup: of the run.
        state: the initial state; its learner is changed in place.
        reporter: tells the user.
        stop: after every iteration it says whether to stop.

    Returns:
        The last state, and the setup, whose sizes may have been lowered for want of memory.

    Raises:
        Interrupted: the run was asked to stop. Its state is saved, and the results so far are in ``report.json``.
        Diverged: a reward or a judged return was not finite, or too many consecutive updates were dropped. The last good
            state is saved.
        UserError: the run's folder cannot be written, or the processes' copies of the policy differ.
    """
    begun_at = state.progress.iteration
    # All processes begin with the first one's weights. They stay equal, because all apply the same summed gradients.
    setup.process.collective.share(state.learner.policy)
    keeper = Keeper(setup.config.checkpoint_dir, setup.config.keep_checkpoints)
    contaminated = contamination(setup, state.seen)
    with (
        freed_memory_kept(setup.device),
        Trackers(keeper.folder, state.progress.iteration, writes=setup.process.leads) as trackers,
    ):
        # An ensemble is one trial, which its own run counts: nothing is picked among its members.
        if setup.process.leads and setup.config.member is None:
            counting(setup, state, reporter).trial()
        saved = time.perf_counter()
        taken: Taken | None = Taken(setup.device)
        while state.progress.timesteps < setup.total_timesteps:
            reporter.iteration(state.progress.iteration + 1, state.progress.timesteps, setup.total_timesteps)
            planned, done_before = setup, state.progress.timesteps
            setup, state = _iterate_within_memory(setup, state, keeper, reporter, begun_at)
            if taken is not None:  # only once: later peaks include validation and saving
                _compare_with_plan(planned, state.progress.timesteps - done_before, taken, reporter)
                taken = None
            # The last iteration always has a validation, so that the final model is compared with the best.
            last = state.progress.timesteps >= setup.total_timesteps
            best = False
            if last or state.progress.iteration % setup.config.validate_every == 0:
                state, best = validate(setup, state, keeper, reporter)
            state = _marked(state, contaminated)
            trackers.log(state.progress.timesteps, state.metrics)
            reporter.figures(state.metrics)
            if best:
                keeper.save_best(setup, state)
            # Only now, so that the log holds the figures of the iteration that diverged.
            _stop_if_diverged(setup, state, keeper)
            if not last and setup.process.collective.any(stop.signal_number is not None, setup.device):
                stop.saved = keeper.save_interrupted(setup, state)
                so_far = judge_so_far(setup, state, keeper, contaminated, reporter)
                raise Interrupted(stop.signal_number or 15, stop.saved, so_far)
            if _save_due(setup, state.progress, time.perf_counter() - saved):
                with reporter.quiet_phase("💾 Saving"):
                    keeper.save_periodic(setup, state)
                saved = time.perf_counter()
        state = _marked(_with_a_best_model(setup, state, keeper, reporter), contaminated)
        keeper.save_final(setup, state)
        stop.saved = keeper.folder / FINAL
    return setup, state


def _with_a_best_model(setup: Setup, state: TrainState, keeper: Keeper, reporter: Reporter) -> TrainState:
    """Save the final model as the best if the folder has no best model of this run.

    That happens if a run is resumed at its end on other data, and if no model has an available score.
    """
    if has_best(setup, state, keeper):
        return state
    if "validation_log_growth_annual" not in state.metrics:
        state, _ = validate(setup, state, keeper, reporter)
    keeper.save_best(setup, state)
    return state


def _marked(state: TrainState, contaminated: Contamination | None) -> TrainState:
    """The state with a metric for contaminated ranges. A clean run has no such metric."""
    metrics = {name: value for name, value in state.metrics.items() if name != "contaminated"}
    return replace(state, metrics=metrics if contaminated is None else {**metrics, "contaminated": contaminated.metric})


def iterate(setup: Setup, state: TrainState, reporter: Reporter, begun_at: int = 0) -> TrainState:
    """One iteration: collect a rollout, update the policy, compute the metrics.

    Args:
        setup: of the run.
        state: before it; its learner is changed in place.
        reporter: tells the user.
        begun_at: iterations that were done when this session began.

    Raises:
        NotFinite: a reward is not finite.
        UserError: the processes' copies of the policy differ.
    """
    progress, process = state.progress, setup.process
    remaining = setup.total_timesteps - progress.timesteps
    sizes, per_window = setup.sizes, setup.config.portfolios_per_window
    share = next_share(remaining, sizes.n_envs, sizes.n_steps, per_window)
    if rate := state.metrics.get("steps_per_second"):  # of the previous iteration, perhaps in an earlier session
        reporter.pace.expect(share.samples / rate)
    begun = time.perf_counter()
    rollout, env_state, hidden = _collect(setup, state, share, reporter)
    collected = time.perf_counter()
    valid = share.valid(rollout.day.shape[1], setup.device, setup.windows.start * per_window)
    names = setup.environment.market.regimes.names
    figures = rollout_metrics(rollout, valid, names, process.collective)
    figures |= _learn(setup, state, rollout, valid, reporter)
    if reporter.verbosity == "verbose":
        figures |= rollout_statistics(setup, rollout, env_state, valid)
    # After the update: the next rollout acts with the sharper policy, and its ratios begin at 1.
    before, now = sharpness(setup, progress.timesteps), sharpness(setup, progress.timesteps + share.samples)
    if now != before:
        state.learner.policy.sharpen(now / before)
    figures |= compare_copies(process, state.learner.policy, progress.iteration + 1, begun_at)
    # All figures are read together, because every read waits for the device.
    metrics = read_once(figures)
    stop_if_copies_differ(process, metrics, progress.iteration + 1, begun_at)
    statistics = take_statistics(metrics)
    # Checked before the progress changes, so that the caller can save the state before this iteration.
    if not math.isfinite(metrics["reward"]):
        raise NotFinite(f"Rewards of iteration {progress.iteration + 1} are not finite numbers")
    learnt = time.perf_counter()
    new_progress = progress.after(
        metrics, share.samples, learnt - begun, dropped_in_a_row=int(metrics.pop("dropped_at_the_end"))
    )
    del metrics["winning_trades"]
    metrics |= {
        "iteration": progress.iteration + 1,
        "score": model_score(metrics, len(names)).total,
        "seconds_rollout": collected - begun,
        "seconds_update": learnt - collected,
        "steps_per_second": share.samples / (learnt - begun),
    }
    if (reserved := reserved_gb(setup.device)) is not None:
        metrics["gpu_reserved_gb"] = reserved
    tell_statistics(reporter, setup, rollout, statistics, metrics, share.samples)
    # A short last iteration steps only some windows. The others stay as they were, in case the run is prolonged.
    env_state = put_back(state.env_state, env_state)
    hidden = torch.cat([hidden, state.hidden[:, hidden.shape[1] :]], 1)
    return replace(state, env_state=env_state, hidden=hidden, progress=new_progress, metrics=metrics)


def _collect(setup: Setup, state: TrainState, share: Share, reporter: Reporter) -> tuple[Rollout, EnvState, Tensor]:
    # With several processes all windows act: a process without environments could not take part in collective operations.
    n_windows = min(share.n_windows, len(setup.windows)) if setup.process.collective.size == 1 else len(setup.windows)
    n_envs = n_windows * setup.config.portfolios_per_window
    n_all = n_envs * setup.process.collective.size
    label = f"🎲 Collecting rollout ({count(share.n_steps, 'step')} × {count(n_all, 'env')})"
    with reporter.phase(label, "step") as phase:
        return collect_rollout(
            setup.training_environment,
            state.learner.policy,
            narrow(setup.training_environment, state.env_state, n_windows),
            state.hidden[:, : n_envs // sharing(setup.training_environment, state.learner.policy)],
            n_steps=share.n_steps,
            sequence_length=setup.sequence_length,
            seed=setup.config.seed,
            iteration=state.progress.iteration,
            precision=state.learner.precision,
            recorded=state.learner.recorded and setup.process.collective.size == 1,
            on_step=lambda done: phase.advance(done, share.n_steps),
        )


def _learn(
    setup: Setup, state: TrainState, rollout: Rollout, valid: Tensor | None, reporter: Reporter
) -> dict[str, Tensor]:
    several = setup.process.collective.size > 1
    with ExitStack() as stack:
        phases: dict[str, Phase] = {}

        def on_batch(kind: str, done: int, total: int, epoch: int, epochs: int) -> None:
            label, word = _UPDATE_LABELS[kind]
            if kind not in phases:
                stack.close()  # ends the previous phase
                phases[kind] = stack.enter_context(reporter.phase(label, "batch", closing=True))
            phases[kind].advance((epoch - 1) * total + done, epochs * total, f"{word} {epoch}/{epochs}")

        return update(
            state.learner,
            rollout,
            annealed(setup, state.progress.timesteps),
            seed=setup.config.seed,
            iteration=state.progress.iteration,
            valid=valid,
            first_env=setup.windows.start * setup.config.portfolios_per_window if several else 0,
            all_envs=setup.sizes.n_envs if several else None,
            keep_features=setup.memory.keep_features,
            dropped_before=state.progress.dropped_in_a_row,
            statistics=reporter.verbosity == "verbose",
            on_batch=on_batch,
        )


def _iterate_within_memory(
    setup: Setup, state: TrainState, keeper: Keeper, reporter: Reporter, begun_at: int
) -> tuple[Setup, TrainState]:
    """Run one iteration. If memory runs out, save the state if anything was learnt, halve the environments, and go on.

    With several processes the run ends instead: they cannot save together once one of them has stopped answering.
    """
    # Updates change the learner in place, so an iteration that fails in the middle must be undone before saving.
    put_learner_back = snapshot(state.learner)
    while True:
        try:
            return setup, iterate(setup, state, reporter, begun_at)
        except NotFinite as error:
            put_learner_back()  # it has learnt from the rewards that are not finite
            path = keeper.save_interrupted(setup, state)
            raise Diverged(
                f"{error}; saved {path} as it was before. Lower the costs (--spread, --impact) "
                "or build the market cache again and look at its findings."
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0][:100]
        n_windows, several = len(setup.windows) // 2, setup.process.collective.size > 1
        put_learner_back()  # part of the iteration's updates may have been made
        if state.progress.iteration and not several:
            reporter.warn(f"Saved {keeper.save_interrupted(setup, state)}.")
        if several or n_windows == 0:
            raise UserError(f"Memory ran out ({reason}); lower --n-envs, --batch-size or the --max-vram caps.")
        setup = setup.with_sizes(replace(setup.sizes, n_envs=n_windows * setup.config.portfolios_per_window))
        reporter.warn(f"Memory ran out ({reason}): going on with {setup.n_envs:,} environments.")
        give_back(setup.device)
        env_state = narrow(setup.training_environment, state.env_state, n_windows)
        kept = setup.n_envs // sharing(setup.training_environment, state.learner.policy)
        state = replace(state, env_state=env_state, hidden=state.hidden[:, :kept].contiguous())


def _compare_with_plan(planned: Setup, samples: int, taken: Taken, reporter: Reporter) -> None:
    """Report the error of the memory plan, unless the iteration had fewer samples than planned."""
    peak = taken.peak()
    if peak and samples == planned.sizes.samples:
        reporter.debug(f"Memory: {planned.memory.compare(planned.sizes, peak)}")


def _stop_if_diverged(setup: Setup, state: TrainState, keeper: Keeper) -> None:
    if state.metrics["dropped_in_a_row"] < setup.config.max_dropped_updates:
        return
    # Dropped updates do not change parameters and optimisers, so this is their last good state.
    path = keeper.save_interrupted(setup, state)
    raise Diverged(
        f"{state.metrics['dropped_in_a_row']:.0f} updates in a row had a loss or gradient that was not finite; saved "
        f"{path}. Lower --actor-lr and --critic-lr, or resume from an earlier checkpoint."
    )


def _save_due(setup: Setup, progress: Progress, seconds: float) -> bool:
    if setup.config.save_every is not None:
        return progress.iteration % setup.config.save_every == 0
    # The processes decide together, because their clocks differ and all must take part in saving.
    longest = _AUTOSAVE_SECONDS if setup.config.member is None else _AUTOSAVE_SECONDS_OF_A_MEMBER
    return setup.process.collective.any(seconds >= longest, setup.device)
