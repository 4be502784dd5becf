"""How many environments, steps and samples: what the user asked for, defaults, and the share of each process."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tactician.config import Config

_SEQUENCE = 64
"""Sessions in a training sequence. On a CPU a recurrent layer is fastest with many short sequences in a minibatch, since each
step multiplies more rows; gradients through 64 sessions are long enough for what is learnt here (docs/performance.md)."""


@dataclass(frozen=True)
class Sizes:
    """What decides how much memory a run takes."""

    n_envs: int
    """Of all processes together."""
    n_steps: int
    batch_size: int

    @property
    def samples(self) -> int:
        """Samples of an iteration."""
        return self.n_envs * self.n_steps


_DEFAULT = Sizes(16_384, 256, 8_192)
_HIGH_VRAM = Sizes(65_536, 512, 65_536)
_LOW_VRAM = Sizes(8_192, 256, 8_192)
_CPU = Sizes(512, 256, 8_192)
"""The specification's sizes for GPUs; 512 environments are where two CPU cores reach their full rate."""


def choose_sizes(config: Config, device: torch.device, n_processes: int = 1) -> tuple[Sizes, list[str]]:
    """The user's sizes, and defaults where they are left open.

    Returns:
        The sizes, and what the user should be told.
    """
    notes = []
    if device.type == "cuda":
        default = _HIGH_VRAM if config.high_vram else _LOW_VRAM if config.low_vram else _DEFAULT
        default = replace(default, n_envs=default.n_envs * n_processes)
    else:
        default = _CPU
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
        n_steps=config.n_steps or _fitting_steps(default.n_steps, config.episode_length),
        batch_size=config.batch_size or default.batch_size,
    ), notes


def _fitting_steps(wanted: int, episode_length: int) -> int:
    """A default that divides the episode or is a multiple of it."""
    if wanted % episode_length == 0 or episode_length % wanted == 0:
        return wanted
    return (
        episode_length if episode_length < wanted else max(d for d in range(1, wanted + 1) if episode_length % d == 0)
    )


def sequence_length(config: Config, n_steps: int) -> int:
    """The configuration's BPTT length, or the largest divisor of rollout and episode up to 64."""
    longest = min(n_steps, config.episode_length)
    if config.bptt_length is not None:
        return min(config.bptt_length, longest)
    return max(k for k in range(1, min(_SEQUENCE, longest) + 1) if longest % k == 0)


def note_on_learning(sizes: Sizes, total_timesteps: int, ppo_epochs: int) -> str | None:
    """A word where many environments leave little to learn with: a policy is renewed once an iteration."""
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
    """Share windows among processes in proportion to their budgets; each gets at least one.

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
