"""One run: iterations of rollout and update, validation, checkpoints, and the last judgement."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tactician.environment import EnvState, narrow
from tactician.evaluation import evaluate
from tactician.learning import Rollout, collect_rollout, update
from tactician.training.checkpoint import load_policy, save_checkpoint
from tactician.training.duration import Share, next_share
from tactician.training.metrics import read_once, rollout_metrics
from tactician.training.progress import Phase, Reporter
from tactician.training.setup import Setup
from tactician.training.state import Progress, TrainState, first_train_state
from tactician.training.summary import Summary, summarise
from tactician.training.trackers import Trackers

FINAL, BEST = "model_final.pt", "model_best.pt"
_UPDATE_LABELS = {"ppo": ("📈 PPO Update", "Epoch"), "critic": ("🎯 Critic Update", "Extra Epoch")}


def train(setup: Setup, reporter: Reporter) -> Summary:
    """Train to the requested number of steps, keep the best and the final model, judge the best on the test range.

    Args:
        setup: what to train.
        reporter: tells the user.

    Returns:
        The summary, also written to ``summary.json``.

    Raises:
        UserError: the run's folder cannot be written.
    """
    folder = setup.config.checkpoint_dir
    state = first_train_state(setup)
    metrics: dict[str, float] = {}
    with Trackers(folder) as trackers:
        while state.progress.timesteps < setup.total_timesteps:
            reporter.iteration(state.progress.iteration + 1, state.progress.timesteps, setup.total_timesteps)
            state, metrics = iterate(setup, state, reporter)
            if _validation_due(setup, state.progress):
                state, metrics = _validate(setup, state, metrics, folder, reporter)
            trackers.log(state.progress.timesteps, metrics)
            reporter.figures(metrics)
        save_checkpoint(setup, state, folder / FINAL)
    with reporter.phase("⚖️  Judging the best model on the validation and test ranges"):
        best = load_policy(folder / BEST, setup.device).policy
        results = {name: evaluate(setup.environment, best, setup.splits[name]) for name in ("validation", "test")}
    return summarise(setup, state.progress, metrics, results)


def iterate(setup: Setup, state: TrainState, reporter: Reporter) -> tuple[TrainState, dict[str, float]]:
    """One iteration: collect, learn, measure."""
    config, progress = setup.config, state.progress
    remaining = setup.total_timesteps - progress.timesteps
    share = next_share(remaining, setup.n_envs, config.n_steps, config.portfolios_per_window)
    begun = time.perf_counter()
    rollout, env_state, hidden = _collect(setup, state, share, reporter)
    collected = time.perf_counter()
    valid = share.valid(rollout.rewards.shape[1], setup.device)
    figures = rollout_metrics(rollout, valid, setup.environment.market.regimes.names)
    figures |= _learn(setup, state, rollout, valid, reporter)
    metrics = read_once(figures)
    learnt = time.perf_counter()
    trades, wins = int(metrics["trades"]), int(metrics.pop("winning_trades"))
    metrics |= {
        "iteration": progress.iteration + 1,
        "seconds_rollout": collected - begun,
        "seconds_update": learnt - collected,
        "steps_per_second": share.samples / (learnt - begun),
    }
    new_progress = replace(
        progress,
        iteration=progress.iteration + 1,
        timesteps=progress.timesteps + share.samples,
        total_trades=progress.total_trades + trades,
        winning_trades=progress.winning_trades + wins,
        best_reward=max(progress.best_reward, metrics["reward"]),
        seconds=progress.seconds + learnt - begun,
    )
    reporter.debug(f"rollout {rollout.obs.shape[0]} × {rollout.obs.shape[1]}, {share.samples:,} samples counted")
    reporter.debug(f"mean reward {metrics['reward']:+.4f} %, {trades:,} trades closed, {wins:,} with a gain")
    return replace(state, env_state=env_state, hidden=hidden, progress=new_progress), metrics


def _collect(setup: Setup, state: TrainState, share: Share, reporter: Reporter) -> tuple[Rollout, EnvState, Tensor]:
    n_envs = share.n_windows * setup.config.portfolios_per_window
    with reporter.phase(f"🎲 Collecting rollout ({share.n_steps:,} steps × {n_envs:,} envs)", "steps") as phase:
        return collect_rollout(
            setup.environment,
            state.learner.policy,
            narrow(setup.environment, state.env_state, share.n_windows),
            state.hidden[:, :n_envs],
            n_steps=share.n_steps,
            seed=setup.config.seed,
            iteration=state.progress.iteration,
            on_step=lambda done: phase.advance(done, share.n_steps),
        )


def _learn(
    setup: Setup, state: TrainState, rollout: Rollout, valid: Tensor | None, reporter: Reporter
) -> dict[str, Tensor]:
    with ExitStack() as stack:
        phases: dict[str, Phase] = {}

        def on_batch(kind: str, done: int, total: int, epoch: int, epochs: int) -> None:
            label, word = _UPDATE_LABELS[kind]
            if kind not in phases:
                stack.close()  # the phase before this one is done
                phases[kind] = stack.enter_context(reporter.phase(label, "batches"))
            phases[kind].advance((epoch - 1) * total + done, epochs * total, f"{word} {epoch}/{epochs}")

        return update(
            state.learner,
            rollout,
            setup.hyper,
            seed=setup.config.seed,
            iteration=state.progress.iteration,
            valid=valid,
            on_batch=on_batch,
        )


def _validation_due(setup: Setup, progress: Progress) -> bool:
    last = progress.timesteps >= setup.total_timesteps
    return last or progress.iteration % setup.config.validate_every == 0


def _validate(
    setup: Setup, state: TrainState, metrics: dict[str, float], folder: Path, reporter: Reporter
) -> tuple[TrainState, dict[str, float]]:
    """Judge the policy on the validation range; keep it if it is the best so far."""
    begun = time.perf_counter()
    with reporter.phase("🔎 Validating"):
        result = evaluate(setup.environment, state.learner.policy, setup.splits["validation"])
    growth = float(result.path.growth[:, 0].mean()) * 252
    metrics = {
        **metrics,
        "validation_log_growth_annual": growth,
        "validation_beyond_equal_weight": result.growth_beyond_equal_weight,
        "validation_turnover_annual": result.performances["agent"].annual_turnover,
        "seconds_validation": time.perf_counter() - begun,
    }
    if growth <= state.progress.best_validation:
        return state, metrics
    progress = replace(state.progress, best_validation=growth, best_iteration=state.progress.iteration)
    state = replace(state, progress=progress)
    save_checkpoint(setup, state, folder / BEST)
    reporter.note(f"  💾 Best on validation so far: {100 * growth:+.1f} % log growth a year")
    return state, metrics
