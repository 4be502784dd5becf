"""The length of a run in steps, and the part of it that each iteration takes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from tactician.config import Config

DEFAULT_TIMESTEPS = 10_000_000


def total_timesteps(config: Config, n_envs: int, n_steps: int) -> int:
    """Environment steps of the whole run: ``timesteps``, else ``episodes``, else ``iterations``, else 10 million."""
    if config.timesteps is not None:
        return config.timesteps
    if config.episodes is not None:
        return config.episodes * config.episode_length
    if config.iterations is not None:
        return config.iterations * n_envs * n_steps
    return DEFAULT_TIMESTEPS


@dataclass(frozen=True)
class Share:
    """The part of the remaining steps that one iteration takes."""

    n_windows: int
    n_steps: int
    samples: int
    """Steps that count."""

    def valid(self, n_envs: int, device: torch.device, first_env: int = 0) -> Bool[Tensor, "step env"] | None:
        """Which samples of a process's environments count; None if all do.

        The requested duration is met to the step. An environment that goes beyond it is cut off within a sequence. Its later
        samples neither count nor enter the update.
        """
        if self.samples >= (first_env + n_envs) * self.n_steps:
            return None
        before = torch.arange(first_env, first_env + n_envs, device=device) * self.n_steps
        return torch.arange(self.n_steps, device=device)[:, None] < (self.samples - before)[None, :]


def next_share(remaining: int, n_envs: int, n_steps: int, portfolios_per_window: int) -> Share:
    """The next iteration: a whole one if enough steps remain, else the fewest windows that hold the remaining steps."""
    samples = min(remaining, n_envs * n_steps)
    per_window = portfolios_per_window * n_steps
    return Share(n_windows=-(-samples // per_window), n_steps=n_steps, samples=samples)


def n_iterations(total: int, n_envs: int, n_steps: int) -> int:
    """Number of iterations in a run of ``total`` steps."""
    return -(-total // (n_envs * n_steps))
