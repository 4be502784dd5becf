"""How many environments fit into memory, by the specification's formula and by measurement."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from tactician.errors import UserError
from tactician.hardware.probe import Probe
from tactician.hardware.sizes import Sizes
from tactician.policy import Network

OVERHEAD = 1.5
"""The specification's ratio between the memory of a run and the formula."""

HEAP = {"cpu": 1.2, "cuda": 1.2}
"""Ratio of memory taken to memory allocated, since allocators keep holes. That of a CPU was fitted with
benchmarks/bench_memory.py (glibc). On a GPU it was 1.05, and recordings hold 12 to 21 % more (docs/gpu.md)."""

GB = 1e9


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a run will take, and its budget."""

    budget: float
    """Bytes that this process may take (`memory_budget`)."""
    formula_bytes_per_sample: int
    stored_bytes_per_sample: float
    """Measured: rollout, sequences and targets."""
    feature_bytes_per_sample: float
    """Measured: the features on which the critic epochs train."""
    batch_bytes_per_sample: float
    """Measured: the update of a minibatch, per sample of the minibatch."""
    fixed_bytes: float
    """Measured: the part that does not depend on sizes, such as gradients, and both moments of Adam."""
    share: float = 1.0
    """Share of the run's environments that this process holds."""
    heap: float = HEAP["cpu"]
    """Ratio of memory taken to memory allocated."""
    keep_features: bool = True
    """Whether the features are held for all critic epochs, or computed for every minibatch."""

    @property
    def held_bytes_per_sample(self) -> float:
        """Bytes per sample that are held during the whole update."""
        return self.stored_bytes_per_sample + (self.feature_bytes_per_sample if self.keep_features else 0)

    def predicted(self, sizes: Sizes) -> float:
        """Bytes that this process takes at the peak of an iteration.

        The critic's features come after the joint epochs, but an allocator keeps most of the memory that those have freed.
        So both count.
        """
        samples = self.share * sizes.samples
        batch = min(self.share * sizes.batch_size, samples) * self.batch_bytes_per_sample
        return self.heap * (samples * self.held_bytes_per_sample + batch + self.fixed_bytes)

    def compare(self, sizes: Sizes, taken: float) -> str:
        """Planned memory beside the memory that an iteration has taken, in words."""
        predicted = self.predicted(sizes)
        return f"{taken / GB:.2f} GB taken, {predicted / GB:.2f} GB planned: plan error {100 * (predicted / taken - 1):+.0f} %"

    def most_samples(self, batch_size: int) -> int:
        """Samples per iteration, of all processes, that fit by the formula and by the measurement."""
        by_formula = self.budget / (self.formula_bytes_per_sample * OVERHEAD)
        left = self.budget / self.heap - self.fixed_bytes - self.share * batch_size * self.batch_bytes_per_sample
        return max(int(min(by_formula, left / self.held_bytes_per_sample) / self.share), 0)

    def most_batch(self) -> int:
        """Samples of a minibatch that takes half of the budget."""
        free = max(self.budget / self.heap / 2 - self.fixed_bytes, 0.0)
        return max(int(free / (self.share * self.batch_bytes_per_sample)), 1)

    def as_dict(self, sizes: Sizes) -> dict[str, Any]:
        """Values for the plan that --dry-run shows; GB are of this process."""
        formula = self.formula_bytes_per_sample * sizes.samples * self.share * OVERHEAD
        return {
            "samples": sizes.samples,
            "overhead": OVERHEAD,
            "rollout_gb": round(formula / GB, 3),
            "held_bytes_per_sample": round(self.held_bytes_per_sample, 1),
            "batch_bytes_per_sample": round(self.batch_bytes_per_sample, 1),
            "keep_features": self.keep_features,
            "predicted_gb": round(self.predicted(sizes) / GB, 3),
            "budget_gb": round(self.budget / GB, 3),
        }


def bytes_per_sample(obs_dim: int, n_actions: int) -> int:
    """The specification's estimate: observation, action, log-probability, value, reward, done flag and logits."""
    return 4 * obs_dim + 8 + 4 + 4 + 4 + 1 + 4 * n_actions


def make_plan(
    probe: Probe, policy: Network, n_actions: int, *, critic_epochs: int, budget: float, share: float = 1.0
) -> MemoryPlan:
    """Plan from the memory that two small iterations took.

    The plan adds two things that come after their peak: the features of the critic epochs, and the moments of Adam.
    """
    return MemoryPlan(
        budget=budget,
        formula_bytes_per_sample=bytes_per_sample(policy.obs_dim, n_actions),
        stored_bytes_per_sample=probe.per_sample,
        feature_bytes_per_sample=probe.features_per_sample if critic_epochs else 0,
        batch_bytes_per_sample=probe.per_batch_sample,
        fixed_bytes=probe.fixed + 2 * sum(p.numel() * p.element_size() for p in policy.parameters()),
        share=share,
        heap=HEAP[next(policy.parameters()).device.type],
    )


def fit_to_memory(sizes: Sizes, plan: MemoryPlan, per_window: int) -> tuple[Sizes, MemoryPlan, str | None]:
    """The requested sizes if they fit, else smaller ones.

    First the critic's features are no longer kept. Then minibatches that take more than half of the budget become smaller.
    Last, the number of environments is lowered.

    Returns:
        The sizes, the plan for them, and a warning if anything had to be lowered.

    Raises:
        UserError: not even one window of portfolios fits.
    """
    if sizes.samples <= plan.most_samples(min(sizes.batch_size, sizes.samples)):
        return sizes, plan, None
    asked = f"{sizes.n_envs:,} environments × {sizes.n_steps:,} steps in minibatches of {sizes.batch_size:,}"
    said = (
        f"{asked} would take about {plan.predicted(sizes) / GB:,.1f} GB, and {plan.budget / GB:,.1f} GB may be used: "
    )
    frugal = replace(plan, keep_features=False)
    given_up = ["the critic's features are not kept, and its epochs take longer"]

    def limit(batch_size: int) -> int:
        samples = frugal.most_samples(min(batch_size, sizes.samples))
        return samples // sizes.n_steps // per_window * per_window

    if sizes.n_envs > limit(sizes.batch_size) and (batch := frugal.most_batch()) < sizes.batch_size:
        given_up.append(f"minibatches have {batch:,} samples")
        sizes = replace(sizes, batch_size=batch)
    if sizes.n_envs > (fitting := limit(sizes.batch_size)):
        if fitting < per_window:
            raise UserError(
                f"{said}not even {per_window:,} environments fit; lower --n-steps, --portfolios-per-window or --hidden-dim."
            )
        given_up = [*given_up[1:], f"{fitting:,} environments are taken instead"]
        sizes = replace(sizes, n_envs=fitting)
    return sizes, frugal, f"{said}{', '.join(given_up)}."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn a lack of memory during the preparation of a run into one sentence.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0][:100]
        raise UserError(
            f"The network does not fit into memory ({reason}); lower --hidden-dim or --n-gru-layers."
        ) from None


def reserved_gb(device: torch.device) -> float | None:
    """GB of GPU memory that torch has reserved; None on a CPU."""
    return torch.cuda.memory_reserved(device) / GB if device.type == "cuda" else None
