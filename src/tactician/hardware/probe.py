"""Memory that an iteration allocates, measured on two small ones, and memory that a process has taken."""

import copy
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tactician.environment import Environment, first_state
from tactician.hardware.heap import give_back
from tactician.learning import (
    Hyperparameters,
    Precision,
    Rollout,
    begin_memory,
    collect_rollout,
    make_learner,
    sharing,
    update,
)
from tactician.policy import Network

_SAMPLES = 6_144
"""Samples of the larger probe; the smaller one has two thirds of them. A recurrent layer's backward pass fills a buffer of at
most 4,096 rows. Both probes must have as many, so that their difference is what a larger minibatch adds."""

ALONE_IN_WINDOWS: dict[str, Any] = {"baseline": "critic", "objective": "growth"}
"""Hyperparameters that do not compare the portfolios of a window or the windows: a trial may have fewer of them."""


@dataclass(frozen=True)
class Probe:
    """Bytes that the parts of an iteration allocate.

    bytes = (per_sample + features_per_sample) · samples + per_batch_sample · minibatch + fixed. Without critic epochs there
    are no features.
    """

    per_sample: float
    """The rollout, and the sequences and targets that the update makes from it."""
    per_batch_sample: float
    """Peak of a minibatch's update, per sample of the minibatch."""
    features_per_sample: float
    """The critic epochs' features; half as much in 16 bits, and a part of it where portfolios share a memory."""
    fixed: float
    """Gradients, and buffers that do not grow with the minibatch. Parameters are not included: they exist before."""


@dataclass(frozen=True)
class Trial:
    """The run's own parts, with which small iterations are tried. None of them is changed."""

    environment: Environment
    policy: Network
    hyper: Hyperparameters
    """No probe needs a larger minibatch than these have."""
    precision: Precision
    """Of the forward passes."""
    n_steps: int
    """Steps of the run's rollouts."""
    sequence_length: int
    """Sessions in a training sequence of the run."""

    def short(self, steps: int) -> "Trial":
        """The same trial with episodes of a few steps, one sequence each, and `together` portfolios per window.

        Memory and time per environment are the same.
        """
        environment = replace(self.environment, episode_length=steps, portfolios_per_window=self.together)
        return replace(self, environment=environment, sequence_length=steps)

    @property
    def together(self) -> int:
        """Environments that a trial cannot separate, since they share a memory; 1 if the number is free."""
        return sharing(self.environment, self.policy)

    def collect(self, n_envs: int, n_steps: int) -> Rollout:
        """Collect a rollout that begins with new episodes, of a multiple of the environments that stay together."""
        windows = torch.arange(n_envs // self.together, device=self.environment.market.device)
        state = first_state(self.environment, windows)
        rollout, _, _ = collect_rollout(
            self.environment,
            self.policy,
            state,
            begin_memory(self.environment, self.policy, state.day),
            n_steps=n_steps,
            seed=0,
            iteration=0,
            precision=self.precision,
        )
        return rollout


def probe_iteration(trial: Trial) -> Probe:
    """Run two small iterations on a copy of the policy and compare what they allocate.

    Nothing of the run is changed: environments, policy and random numbers are untouched.
    """
    # One sequence per environment is stored differently from several. So the probe has two if the run has several.
    steps = min(trial.n_steps // trial.sequence_length, 2) * trial.sequence_length
    together = trial.together
    few = max(min(_SAMPLES, trial.hyper.batch_size) * 2 // 3 // steps // together, 1) * together
    many = max(min(_SAMPLES, trial.hyper.batch_size) // steps // together * together, few + together)
    short, device = trial.short(trial.sequence_length), trial.environment.market.device
    if device.type == "cuda":
        # The first call allocates workspaces of the libraries, which would count in only one of the two probes.
        _iterate(short, together, steps)
    (held_few, peak_few), (held_many, peak_many) = _iterate(short, few, steps), _iterate(short, many, steps)
    give_back(device)
    # Two equations for two unknowns: each iteration has one minibatch with all its samples.
    added = steps * (many - few)
    per_sample = (held_many - held_few) / added
    per_batch_sample = (peak_many - peak_few) / added - per_sample
    return Probe(
        per_sample=per_sample,
        per_batch_sample=per_batch_sample,
        features_per_sample=_feature_bytes(trial.policy, trial.precision) / together,
        fixed=peak_few - steps * few * (per_sample + per_batch_sample),
    )


@torch.no_grad()
def _feature_bytes(policy: Network, precision: Precision) -> int:
    hidden = policy.initial_state(1)
    with precision.autocast():
        features, _ = policy.trunk(hidden.new_zeros(1, 1, policy.obs_dim), hidden)
    return features.nbytes


def _iterate(trial: Trial, n_envs: int, n_steps: int) -> tuple[float, float]:
    """Bytes allocated before the single minibatch, and at its peak."""
    hyper = replace(trial.hyper, batch_size=n_envs * n_steps, ppo_epochs=1, critic_epochs=0, **ALONE_IN_WINDOWS)
    learner = make_learner(copy.deepcopy(trial.policy), hyper, trial.precision)
    rollout = trial.collect(n_envs, n_steps)
    stored = rollout.bytes_per_sample * rollout.day.numel()
    with peak_allocated(trial.environment.market.device) as peak:
        # Without a joint epoch an update only makes the sequences, which it holds until its end.
        update(learner, rollout, replace(hyper, ppo_epochs=0), seed=0, iteration=0)
        held = peak()
        update(learner, rollout, hyper, seed=0, iteration=0)
        return stored + held, stored + peak()


@contextmanager
def peak_allocated(device: torch.device) -> Iterator[Callable[[], int]]:
    """Count the bytes of the tensors allocated inside. It yields a function that reads the peak.

    On a GPU torch counts them itself. On a CPU the resident memory does not show so small an iteration, because it fits into
    memory that was freed before. So this counts the tensors that each operation returns.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
    else:
        with _Allocations() as seen:
            yield lambda: seen.peak


class _Allocations(TorchDispatchMode):
    """Follows the storages of all tensors that operations return, from their creation to their release."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: dict[int, torch.UntypedStorage | weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._known.setdefault(storage._cdata, storage)  # it existed before, so it is not counted
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in self._known:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def forget(_: Any) -> None:
            self.held -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.held += size
        self.peak = max(self.peak, self.held)


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, Tensor)]


class Taken:
    """Peak memory of this process since this object was made, beyond what it had then."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before: int | None = torch.cuda.memory_reserved(device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the high-water mark so far
            self._before = _resident("VmRSS")

    def peak(self) -> int | None:
        """Bytes of the GPU, or of main memory; None if the system does not report them."""
        gpu = self._device.type == "cuda"
        most = torch.cuda.max_memory_reserved(self._device) if gpu else _resident("VmHWM")
        return None if most is None or self._before is None else most - self._before


def _resident(mark: str) -> int | None:
    """Bytes of main memory of this process: VmRSS is the present value, VmHWM the peak; None if not on Linux."""
    try:
        found = re.search(rf"{mark}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
