"""The duration of an iteration on a CPU, measured on a small one, and the number of environments that it allows."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tactician.hardware.heap import give_back
from tactician.hardware.probe import ALONE_IN_WINDOWS, Trial
from tactician.hardware.sizes import Sizes
from tactician.learning import make_learner, update
from tactician.monitor.wording import about

LIMIT = 120.0
"""An iteration should take at most these seconds: a policy is renewed once per iteration, and Ctrl+C waits for its end."""

MARGIN = 2.0
"""Sizes change only if a prediction exceeds the limit by this factor. The clock is noisy, above all beside other programs, and
two starts of the same run should take the same sizes."""

_ENVIRONMENTS = 512
"""Environments of the timed rollout. With more, the time of a step grows in proportion to their number."""
_ROLLOUT_STEPS = 8
_BATCH_STEPS = 32
_BATCH = 8_192
"""Samples of the largest timed minibatch. More rows do not make a matrix product faster."""


@dataclass(frozen=True)
class Pace:
    """Seconds per sample of a whole iteration: rollout, joint epochs and critic epochs."""

    keeping_features: float
    """If the critic's features are held for all critic epochs."""
    without_features: float
    """If the features are computed for every minibatch."""

    def seconds(self, samples: int, keep_features: bool = True) -> float:
        """Seconds for an iteration of this many samples."""
        return samples * (self.keeping_features if keep_features else self.without_features)

    def times(self, share: float) -> "Pace":
        """The pace of a process that has only a share of the samples."""
        return Pace(share * self.keeping_features, share * self.without_features)


def slowest(paces: Sequence[Pace]) -> Pace:
    """The pace of several processes that wait for one another."""
    return Pace(max(p.keeping_features for p in paces), max(p.without_features for p in paces))


def fastest(paces: Sequence[Pace]) -> Pace:
    """The pace from several measurements. A disturbance can only have slowed one down, so the fastest is the best."""
    return Pace(min(p.keeping_features for p in paces), min(p.without_features for p in paces))


def measure_pace(trial: Trial, n_envs: int, clock: Callable[[], float] = time.perf_counter) -> Pace:
    """Time each part of an iteration once, and add the parts up by how often an iteration has them.

    The policy is copied, and nothing of the run is changed. The memory probe should come first, because the first call of
    an operation takes longer than all others.

    Args:
        trial: the run's parts, on a CPU.
        n_envs: environments of the run.
        clock: gives seconds.
    """
    rollout = _time_rollout(trial, min(n_envs, _ENVIRONMENTS), clock)
    joint, once, critic = _time_updates(trial, clock)
    give_back(trial.environment.market.device)
    acting = rollout + trial.hyper.ppo_epochs * joint
    return Pace(acting + critic, acting + trial.hyper.critic_epochs * once)


def _time_rollout(trial: Trial, n_envs: int, clock: Callable[[], float]) -> float:
    """Seconds per sample of a rollout, from a few steps of many environments, which share the overhead of a step."""
    short = trial.short(min(_ROLLOUT_STEPS, trial.sequence_length))
    n_envs = _whole_windows(n_envs, trial)
    begun = clock()
    short.collect(n_envs, short.sequence_length)
    return (clock() - begun) / (n_envs * short.sequence_length)


def _time_updates(trial: Trial, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds per sample of a joint epoch, of one critic epoch with its features, and of all critic epochs with theirs.

    The timed minibatch has as many rows as the run's, since the speed of recurrent layers depends on the rows. Its sequences
    are shorter to save time. The time per sample is the same.
    """
    short = trial.short(min(_BATCH_STEPS, trial.sequence_length))
    rows = _whole_windows(min(trial.hyper.batch_size, _BATCH) // trial.sequence_length, trial)
    rollout = short.collect(rows, short.sequence_length)
    samples = rows * short.sequence_length
    hyper = replace(trial.hyper, batch_size=samples, target_kl=None, **ALONE_IN_WINDOWS)
    learner = make_learner(copy.deepcopy(trial.policy), hyper, trial.precision)

    def learn(ppo_epochs: int, critic_epochs: int) -> float:
        epochs = replace(hyper, ppo_epochs=ppo_epochs, critic_epochs=critic_epochs)
        begun = clock()
        update(learner, rollout, epochs, seed=0, iteration=0)
        return (clock() - begun) / samples

    joint = learn(1, 0)
    if hyper.critic_epochs == 0:
        return joint, 0.0, 0.0
    once = learn(0, 1)
    return joint, once, max(once, learn(0, hyper.critic_epochs)) if hyper.critic_epochs > 1 else once


def _whole_windows(n_envs: int, trial: Trial) -> int:
    return max(n_envs // trial.together, 1) * trial.together


def is_far_beyond(seconds: float) -> bool:
    """Whether an iteration would take so long that its sizes must change."""
    return seconds > MARGIN * LIMIT


def fit_to_time(
    sizes: Sizes, pace: Pace, per_window: int, *, total: int, n_processes: int = 1
) -> tuple[Sizes, str | None]:
    """The requested number of environments, or a smaller one if an iteration would take far too long.

    The number of windows is rounded down to a power of two. So two starts with slightly different clocks nearly always take
    the same sizes.

    Args:
        sizes: the requested ones.
        pace: of the slowest process, for the samples of all.
        per_window: portfolios per window, which stay together.
        total: steps of the whole run; an iteration cannot have more.
        n_processes: processes of the run; each of them needs a window.

    Returns:
        The sizes, and a warning if there are fewer environments.
    """

    def seconds(n_envs: int) -> float:
        return pace.seconds(min(n_envs * sizes.n_steps, total))

    if not is_far_beyond(seconds(sizes.n_envs)):
        return sizes, None
    fitting = max(int(LIMIT / pace.seconds(per_window * sizes.n_steps)), 1)
    n_envs = max(2 ** (fitting.bit_length() - 1), n_processes) * per_window
    if n_envs >= sizes.n_envs:
        return sizes, None
    asked = f"{sizes.n_envs:,} environments × {sizes.n_steps:,} steps"
    each = " per iteration"
    if sizes.samples > total:
        each = ""
        asked += f" put all {total:,} steps of the run into one iteration, which"
    return replace(sizes, n_envs=n_envs), (
        f"{asked} would take {about(seconds(sizes.n_envs))}{each} on this CPU; {n_envs:,} are taken instead, "
        f"{about(seconds(n_envs))}; a GPU is made for more. --n-envs {n_envs} takes as many in every start."
    )
