"""A rollout as whole sequences, and the minibatches cut from them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from tactician.environment import MarketTensors, Stream, assemble, permutation
from tactician.learning.collective import ALONE, Collective
from tactician.learning.rollout import Rollout


@dataclass(frozen=True)
class Sequences:
    """S sequences of L steps, with targets. In a run of several processes: this process's share of them."""

    market: MarketTensors
    day: Int32[Tensor, "step seq"]
    portfolio: Float[Tensor, "step seq 20"]
    actions: Int32[Tensor, "step seq"]
    log_probs: Float[Tensor, "step seq"]
    advantages: Float[Tensor, "step seq"]
    targets: Float[Tensor, "step seq"]
    weight: Float[Tensor, "step seq"] | None
    """1 for samples that count and 0 for the others; None if all count."""
    first_hidden: Float[Tensor, "layer memory hidden"]
    """Recurrent state at the beginning of each sequence, as in the rollout."""
    masks: Float[Tensor, "mask memory hidden"] | None

    def __len__(self) -> int:
        return self.day.shape[1]

    @property
    def shared(self) -> int:
        """Sequences in a row that have the same days and the same memory; 1 if each has its own memory."""
        return len(self) // self.first_hidden.shape[1]

    @property
    def obs(self) -> Float[Tensor, "step seq obs"]:
        """The observations, put together from their parts."""
        # They are not stored, because all portfolios of a day share its market features. A look-up costs less than memory.
        return assemble(self.market, self.day, self.portfolio)

    def take(self, index: Tensor) -> "Sequences":
        """The sequences of a minibatch: all of those that share a memory, or none."""
        memories = self.memories(index)
        parts: dict[str, Any] = {
            name: x[:, memories if name in _PER_MEMORY else index]
            for name, x in vars(self).items()
            if isinstance(x, Tensor)
        }
        return replace(self, **parts)

    def memories(self, index: Int64[Tensor, " seq"]) -> Int64[Tensor, " memory"]:
        """Numbers of the memories that these sequences have."""
        return index[:: self.shared] // self.shared


_PER_MEMORY = ("first_hidden", "masks")


@dataclass(frozen=True)
class Batch:
    """A minibatch: those of its sequences that this process holds, and how many samples it has in all processes."""

    index: Int64[Tensor, " seq"]
    n_samples: Float[Tensor, ""]


def prepare(
    rollout: Rollout,
    advantages: Float[Tensor, "step env"],
    targets: Float[Tensor, "step env"],
    valid: Bool[Tensor, "step env"] | None = None,
    collective: Collective = ALONE,
    emphasis: Float[Tensor, "step env"] | None = None,
) -> Sequences:
    """Cut the rollout into sequences, with advantages normalised over all of it, in all processes.

    Args:
        rollout: T steps of N environments.
        advantages: of the policy's gradient, not yet normalised.
        targets: of the critic.
        valid: samples that count; None for all.
        collective: the processes of the run.
        emphasis: weights of the normalised advantages; None if all count alike.
    """
    # With unit variance, clip range, entropy bonus and learning rate mean the same in calm and in wild markets. Mean and
    # variance are of the whole rollout. A minibatch has few sequences, so its own mean would be the luck of their days. The
    # baseline is subtracted before: portfolios are first compared within their window, and then scaled with all others.
    mean, variance = moments(advantages, valid, collective)
    # The 1e-8 avoids 0/0 in a rollout with equal advantages, as in a market where no action matters.
    normal = (advantages - mean) / (variance.sqrt() + 1e-8)
    # Sequences stay whole, since the GRU needs every step in order. A single step would lack the memory of the rollout.
    # Step t of environment n lies in sequence (t // length)·N + n, chunk by chunk.
    chunks, envs = len(rollout.first_hidden), rollout.day.shape[1]
    length = rollout.sequence_length

    def cut(x: Tensor) -> Tensor:
        return x.view(chunks, length, *x.shape[1:]).transpose(0, 1).reshape(length, chunks * envs, *x.shape[2:])

    return Sequences(
        market=rollout.market,
        day=cut(rollout.day),
        portfolio=cut(rollout.portfolio),
        actions=cut(rollout.actions),
        log_probs=cut(rollout.log_probs),
        advantages=cut(normal if emphasis is None else normal * emphasis),
        targets=cut(targets),
        weight=None if valid is None else cut(valid.to(advantages.dtype)),
        first_hidden=rollout.first_hidden.transpose(0, 1).flatten(1, 2),
        # A memory has one mask for the whole rollout, so each of its sequences repeats it.
        masks=None if rollout.masks is None else rollout.masks.repeat(1, chunks, 1),
    )


def moments(
    x: Float[Tensor, "step env"], valid: Bool[Tensor, "step env"] | None, collective: Collective = ALONE
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean and variance of the samples that count, over all processes."""
    # Two passes: E[x²] − E[x]² in one would lose all digits beside a large mean.
    weight = torch.ones_like(x) if valid is None else valid.to(x.dtype)
    count, total = collective.add_up(torch.stack([weight.sum(), (x * weight).sum()]).double())
    mean = total / count
    squares = collective.add_up(((x - mean).square() * weight).sum().double())
    return mean.to(x.dtype), (squares / count).to(x.dtype)


def explained_variance(
    values: Float[Tensor, "step env"],
    advantages: Float[Tensor, "step env"],
    valid: Bool[Tensor, "step env"] | None = None,
    collective: Collective = ALONE,
) -> Float[Tensor, ""]:
    """1 − Var(R − V)/Var(R) with targets R = A + V, over all processes.

    1 is perfect, 0 no better than a constant; NaN (not available) if the targets are constant or not finite.
    """
    # A is the difference between target and value, so it is the error of V.
    _, spread = moments(advantages + values, valid, collective)
    _, unexplained = moments(advantages, valid, collective)
    return torch.where(spread > 0, 1 - unexplained / spread.clamp(min=1e-30), torch.nan)


@dataclass(frozen=True)
class Dealer:
    """Deals the sequences of a rollout into minibatches, the same ones however many processes hold them."""

    n_chunks: int
    """Sequences of each environment."""
    first_env: int
    n_envs: int
    """Environments of this process: ``first_env … first_env + n_envs − 1``."""
    all_envs: int
    """Environments of all processes."""
    length: int
    batch_size: int
    seed: int
    iteration: int
    collective: Collective
    shared: int = 1
    """Environments in a row that share a memory. They stay together, so that a minibatch computes it once for them."""

    def deal(self, data: Sequences, epoch: int) -> Iterator[Batch]:
        """The minibatches of an epoch, in an order named by seed, iteration and epoch."""
        # Every process draws the order of all sequences and keeps its own: the minibatches agree without a message.
        n_groups = self.n_chunks * self.all_envs // self.shared
        order = permutation(n_groups, self.seed, Stream.MINIBATCH, self.iteration, epoch, device=data.day.device)
        dealt = minibatches(n_groups, self.length * self.shared, self.batch_size, order)
        member = torch.arange(self.shared, device=order.device)
        parts = [self._own((part[:, None] * self.shared + member).flatten()) for part in dealt]
        # Sums of a tensor that is already on the device. A copy from the host would wait for the device.
        per_sequence = data.day.new_full((len(data),), self.length) if data.weight is None else data.weight.sum(0)
        counts = torch.stack([per_sequence[part].sum() for part in parts]).float()
        counts = self.collective.add_up(counts).clamp(min=1)
        return (Batch(part, count) for part, count in zip(parts, counts, strict=True))

    def count(self) -> int:
        """Minibatches in an epoch."""
        groups = self.n_chunks * self.all_envs // self.shared
        return n_minibatches(groups, self.length * self.shared, self.batch_size)

    def _own(self, sequences: Tensor) -> Tensor:
        if self.n_envs == self.all_envs:
            return sequences
        # From the global number, chunk·all_envs + env, to this process's.
        chunk, env = sequences // self.all_envs, sequences % self.all_envs - self.first_env
        own = (env >= 0) & (env < self.n_envs)
        return chunk[own] * self.n_envs + env[own]


def n_minibatches(n_sequences: int, length: int, batch_size: int) -> int:
    """As many as make nearly ``batch_size`` samples each; a minibatch has at least one sequence."""
    return min(max(1, round(n_sequences * length / batch_size)), n_sequences)


def minibatches(n_sequences: int, length: int, batch_size: int, order: Tensor) -> tuple[Tensor, ...]:
    """Split sequences, in the given order, into minibatches of nearly equal size."""
    return torch.tensor_split(order, n_minibatches(n_sequences, length, batch_size))
