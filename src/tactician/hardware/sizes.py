"""Numbers of environments, steps and samples: the user's, the defaults, and the share of each process."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tactician.config import Config
from tactician.errors import UserError

_SEQUENCE = 64
"""Default number of sessions in a training sequence. On a CPU a recurrent layer is fastest with many short sequences in a
minibatch, since each step multiplies more rows. Gradients through 64 sessions are long enough here (docs/performance.md)."""

_SHORT, _GOOD = 16, 32
"""A default sequence shorter than the first is refused: with a prime, or twice a prime, almost no gradient would go through
time. The remedies in messages reach the second."""


@dataclass(frozen=True)
class Sizes:
    """The sizes that determine the memory of a run."""

    n_envs: int
    """Environments of all processes together."""
    n_steps: int
    batch_size: int

    @property
    def samples(self) -> int:
        """Samples per iteration."""
        return self.n_envs * self.n_steps


_DEFAULT = Sizes(16_384, _SEQUENCE, 8_192)
_HIGH_VRAM = Sizes(65_536, _SEQUENCE, 262_144)
_LOW_VRAM = Sizes(8_192, _SEQUENCE, 8_192)
_CPU = Sizes(256, _SEQUENCE, 4_096)
"""Environments for GPUs are the specification's, but not its rollouts of 256 and 512 steps. A policy needs about as many
iterations whatever their length, so long ones cost samples and time. For the same reason the minibatches of the second are four
times the specification's: a GPU is faster with them (docs/gpu.md)."""

_WHOLE_EPISODE = 256
"""Up to this length a whole episode may be the default rollout, if no divisor of it makes a good one."""


def choose_sizes(config: Config, device: torch.device, n_processes: int = 1) -> tuple[Sizes, list[str]]:
    """The user's sizes, and defaults for those that the user did not set.

    Returns:
        The sizes, and notes for the user.
    """
    notes, default = [], _default_sizes(config, device)
    if device.type == "cuda":
        default = replace(default, n_envs=default.n_envs * n_processes)
    else:
        for flag in ("high_vram", "low_vram"):
            if getattr(config, flag):
                name = "--" + flag.replace("_", "-")
                notes.append(f"{name} sizes a run for a GPU, and there is none here: the CPU's sizes are used instead.")
        for cap in ("max_vram_gpu0", "max_vram_gpu1"):
            if getattr(config, cap) != Config.model_fields[cap].default:
                name = "--" + cap.replace("_", "-")
                notes.append(f"{name} caps the memory of a GPU, and there is none here: free main memory is the limit.")
    per_window = config.portfolios_per_window
    return Sizes(
        n_envs=config.n_envs or max(default.n_envs // per_window, 1) * per_window,
        # Whoever asks for long sequences means rollouts that are as long.
        n_steps=config.n_steps or _fitting_steps(max(default.n_steps, config.bptt_length or 0), config.episode_length),
        batch_size=config.batch_size or default.batch_size,
    ), notes


def _default_sizes(config: Config, device: torch.device) -> Sizes:
    if device.type != "cuda":
        return _CPU
    return _HIGH_VRAM if config.high_vram else _LOW_VRAM if config.low_vram else _DEFAULT


def _fitting_steps(wanted: int, episode_length: int) -> int:
    """A default number of steps that divides the episode or is a multiple of it."""
    if wanted % episode_length == 0 or episode_length % wanted == 0:
        return wanted
    steps = _divisor(episode_length, wanted) if wanted < episode_length else episode_length
    return episode_length if steps < _SHORT and episode_length <= _WHOLE_EPISODE else steps


def _divisor(episode_length: int, most: int) -> int:
    """The largest divisor of an episode up to a bound. Divisors with long training sequences are preferred."""
    divisors = (k for k in range(1, most + 1) if episode_length % k == 0)
    return max(divisors, key=lambda steps: (_longest_sequence(steps) >= _SHORT, steps))


def _longest_sequence(steps: int) -> int:
    """The largest divisor of a rollout or episode up to 64."""
    return max(k for k in range(1, min(_SEQUENCE, steps) + 1) if steps % k == 0)


def sequence_length(config: Config, sizes: Sizes, device: torch.device) -> int:
    """The configuration's BPTT length, or the largest divisor of rollout and episode up to 64.

    Args:
        config: as the user wrote it; None means that the user did not ask for a value.
        sizes: chosen for the configuration.
        device: for which the sizes were chosen.

    Raises:
        UserError: the BPTT length does not divide both, or the default would be very short.
    """
    longest = min(sizes.n_steps, config.episode_length)
    if config.bptt_length is None:
        length = _longest_sequence(longest)
    else:
        length = min(config.bptt_length, longest)
        _check_bptt_length(length, longest, config.episode_length, sizes.n_steps)
    # Short episodes, rollouts and sequences are allowed if the user asked for them.
    if length < min(_SHORT, config.episode_length, config.n_steps or _SHORT, config.bptt_length or _SHORT):
        raise UserError(
            f"episode_length {config.episode_length} with n_steps {sizes.n_steps} gives training sequences of {length}, too "
            f"short to learn from: no longer one up to {_SEQUENCE} divides both; use "
            f"{_remedy(config, device)}, or set bptt_length {length} if you mean it."
        )
    return length


def _check_bptt_length(asked: int, longest: int, episode_length: int, n_steps: int) -> None:
    if longest % asked == 0:
        return
    divisors = [k for k in range(min(_SHORT, asked), longest + 1) if longest % k == 0]
    nearest = min(divisors, key=lambda k: (abs(k - asked), -k))
    raise UserError(
        f"bptt_length ({asked}) must divide {longest}, the shorter of n_steps ({n_steps}) and episode_length "
        f"({episode_length}), so that a sequence ends where they do; use {nearest}."
    )


def _remedy(config: Config, device: torch.device) -> str:
    """Lengths with good training sequences that are nearest to the user's."""
    episode, steps = config.episode_length, config.n_steps
    if steps and _longest_sequence(better := _divisor(episode, min(steps, episode))) >= _SHORT:
        return f"n_steps {better} (sequences of {_longest_sequence(better)})"
    default = _default_sizes(config, device).n_steps

    def found(length: int) -> int:
        rollout = length if steps else _fitting_steps(default, length)
        return _longest_sequence(min(rollout, length))

    below = next((k for k in range(episode - 1, _GOOD - 1, -1) if found(k) >= _GOOD), None)
    above = next(k for k in itertools.count(episode + 1) if found(k) >= _GOOD)
    choices = " or ".join(f"{k} (sequences of {found(k)})" for k in (below, above) if k)
    return f"{'episode_length and n_steps' if steps else 'episode_length'} {choices}"


def note_on_learning(sizes: Sizes, total_timesteps: int, ppo_epochs: int) -> str | None:
    """A note if many environments leave few iterations, since the policy is renewed once per iteration."""
    iterations = -(-total_timesteps // sizes.samples)
    if iterations >= 10 or sizes.n_envs <= 64:
        return None
    updates = max(1, round(min(sizes.samples, total_timesteps) / sizes.batch_size)) * ppo_epochs
    renewed = "once" if iterations == 1 else f"{iterations} times"
    return (
        f"With {sizes.n_envs:,} environments the policy is renewed {renewed} in the whole run, by {updates:,} updates each "
        "time. Fewer environments, or more timesteps, renew it more often."
    )


def split_windows(n_windows: int, budgets: Sequence[float]) -> list[range]:
    """Share windows among processes in proportion to their budgets. Each gets at least one.

    Raises:
        ValueError: there are fewer windows than processes.
    """
    if n_windows < len(budgets):
        raise ValueError(f"{n_windows} windows cannot be shared among {len(budgets)} processes")
    edges = [0]
    for k in range(1, len(budgets) + 1):
        edge = round(n_windows * sum(budgets[:k]) / sum(budgets))
        edges.append(min(max(edge, edges[-1] + 1), n_windows - (len(budgets) - k)))
    return [range(a, b) for a, b in itertools.pairwise(edges)]
