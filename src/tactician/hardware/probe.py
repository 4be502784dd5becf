"""What an iteration allocates, measured on two small ones; and what a process has really taken."""

import copy
import ctypes
import re
import sys
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
from tactician.learning import Hyperparameters, Precision, Rollout, collect_rollout, make_learner, update
from tactician.policy import Network

_SAMPLES = 6_144
"""Samples of the larger probe; the smaller one has two thirds of them. A recurrent layer's backward pass fills a buffer of up
to 4,096 rows, which grows no more beyond them: both probes must reach them to see what a larger minibatch adds."""


@dataclass(frozen=True)
class Probe:
    """What the parts of an iteration allocate.

    bytes = (per_sample + features_per_sample) · samples + per_batch_sample · minibatch + fixed, without critic epochs
    without the features.
    """

    per_sample: float
    """The rollout, and the sequences with their targets that the update makes of it."""
    per_batch_sample: float
    """What the update of a minibatch takes at its peak, per sample of the minibatch."""
    features_per_sample: float
    """The critic epochs' features; half as much in 16 bits."""
    fixed: float
    """Gradients, and buffers that do not grow with the minibatch. Parameters are there before."""


@dataclass(frozen=True)
class Trial:
    """What small iterations are tried with: the run's own parts, of which none is changed."""

    environment: Environment
    policy: Network
    hyper: Hyperparameters
    """Its minibatch is one beyond which no probe needs to go."""
    precision: Precision
    """What the forward passes compute in."""
    n_steps: int
    """Steps of the run's rollouts."""
    sequence_length: int
    """Sessions in a training sequence of the run."""

    def short(self, steps: int) -> "Trial":
        """The same with episodes of a few steps, one sequence each, and one portfolio per window.

        Any number of portfolios will do then, and they take the same memory and time.
        """
        environment = replace(self.environment, episode_length=steps, portfolios_per_window=1)
        return replace(self, environment=environment, sequence_length=steps)

    def collect(self, n_envs: int, n_steps: int) -> Rollout:
        """A rollout that begins with fresh episodes."""
        windows = torch.arange(n_envs, device=self.environment.market.device)
        rollout, _, _ = collect_rollout(
            self.environment,
            self.policy,
            first_state(self.environment, windows),
            self.policy.initial_state(n_envs),
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
    # One sequence per environment is stored differently from several, so the probe has two where the run has several.
    steps = min(trial.n_steps // trial.sequence_length, 2) * trial.sequence_length
    few = max(min(_SAMPLES, trial.hyper.batch_size) * 2 // 3 // steps, 1)
    many = max(min(_SAMPLES, trial.hyper.batch_size) // steps, few + 1)
    short, device = trial.short(trial.sequence_length), trial.environment.market.device
    if device.type == "cuda":
        # The first call leaves workspaces of the libraries behind, which would count in one of the two only.
        _iterate(short, 1, steps)
    (held_few, peak_few), (held_many, peak_many) = _iterate(short, few, steps), _iterate(short, many, steps)
    give_back(device)
    # Two equations for two unknowns: both iterations have one minibatch, which holds all their samples.
    added = steps * (many - few)
    per_sample = (held_many - held_few) / added
    per_batch_sample = (peak_many - peak_few) / added - per_sample
    return Probe(
        per_sample=per_sample,
        per_batch_sample=per_batch_sample,
        features_per_sample=_feature_bytes(trial.policy, trial.precision),
        fixed=peak_few - steps * few * (per_sample + per_batch_sample),
    )


@torch.no_grad()
def _feature_bytes(policy: Network, precision: Precision) -> int:
    hidden = policy.initial_state(1)
    with precision.autocast():
        features, _ = policy.trunk(hidden.new_zeros(1, 1, policy.obs_dim), hidden)
    return features.nbytes


def _iterate(trial: Trial, n_envs: int, n_steps: int) -> tuple[float, float]:
    """Bytes allocated before the one minibatch, and at its peak."""
    hyper = replace(trial.hyper, batch_size=n_envs * n_steps, ppo_epochs=1, critic_epochs=0, baseline="critic")
    learner = make_learner(copy.deepcopy(trial.policy), hyper, trial.precision)
    rollout = trial.collect(n_envs, n_steps)
    stored = rollout.bytes_per_sample * rollout.day.numel()
    with peak_allocated(trial.environment.market.device) as peak:
        # Without a joint epoch an update only cuts its sequences, which stay for all of it.
        update(learner, rollout, replace(hyper, ppo_epochs=0), seed=0, iteration=0)
        held = peak()
        update(learner, rollout, hyper, seed=0, iteration=0)
        return stored + held, stored + peak()


@contextmanager
def peak_allocated(device: torch.device) -> Iterator[Callable[[], int]]:
    """Count the bytes of the tensors allocated inside; gives a function that reads the most there were at once.

    On a GPU torch counts them itself. On a CPU the resident memory of so small an iteration says nothing, since it fits
    into what was freed before, so the tensors are counted that each operation returns.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
    else:
        with _Allocations() as seen:
            yield lambda: seen.peak


class _Allocations(TorchDispatchMode):
    """Follows the storages of all tensors that operations return, from the first sight of each to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: dict[int, torch.UntypedStorage | weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._known.setdefault(storage._cdata, storage)  # it was there before, and is not counted
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
    """The most memory that this process has taken since this object was made, beyond what it had then."""

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
        """Bytes: of the GPU, or of main memory. None where the system does not tell."""
        gpu = self._device.type == "cuda"
        most = torch.cuda.max_memory_reserved(self._device) if gpu else _resident("VmHWM")
        return None if most is None or self._before is None else most - self._before


def _resident(mark: str) -> int | None:
    """Bytes of main memory of this process: VmRSS is what it has now, VmHWM the most it had; None but on Linux."""
    try:
        found = re.search(rf"{mark}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def give_back(device: torch.device) -> None:
    """Return freed memory to the system, so that what a run takes can be told from what the probe has left."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
        libc.malloc_trim(0)
