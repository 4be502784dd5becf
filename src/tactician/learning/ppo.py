"""Recurrent proximal policy optimisation with two optimisers and critic-only epochs.

Joint epochs minimise, over minibatches of whole sequences,

    L = −E[min(ρ·A, clip(ρ, 1 ± ε)·A)] + c_v · ½ E[((V − R)/s)²] − c_e · E[H(π)]      (Schulman et al. 2017, eq. 9)

with ρ the probability ratio, A the normalised advantage, R = A_raw + V_old the target and s the policy's value scale.
The actor's optimiser owns encoder, GRU and policy head; the critic's owns the value head alone. So the critic epochs that
follow leave the trunk as it is, and its features are computed once for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tactician.environment import Stream, permutation
from tactician.learning.advantages import explained_variance, generalised_advantages
from tactician.learning.rollout import Rollout
from tactician.policy import ActorCritic

OnBatch = Callable[[str, int, int, int, int], None]
"""Called with phase ('ppo' or 'critic'), batches done, batches in all, epoch (from 1), epochs."""


@dataclass(frozen=True)
class Hyperparameters:
    """What shapes the update; `tactician.config.Config` documents each and holds the defaults."""

    batch_size: int
    ppo_epochs: int
    critic_epochs: int
    gamma: float
    gae_lambda: float
    clip: float
    entropy_coef: float
    value_coef: float
    max_grad_norm: float
    actor_lr: float
    critic_lr: float
    target_kl: float | None


@dataclass(frozen=True)
class Learner:
    """A policy and its two optimisers; the update changes them in place."""

    policy: ActorCritic
    actor_optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer


@dataclass(frozen=True)
class Sequences:
    """A rollout as S sequences of L steps, with targets: what minibatches are cut from."""

    obs: Float[Tensor, "step seq obs"]
    actions: Tensor
    log_probs: Float[Tensor, "step seq"]
    advantages: Float[Tensor, "step seq"]
    targets: Float[Tensor, "step seq"]
    weight: Float[Tensor, "step seq"] | None
    """1 for samples that count and 0 for the others; None if all count."""
    first_hidden: Float[Tensor, "layer seq hidden"]
    masks: Float[Tensor, "mask seq hidden"] | None

    def __len__(self) -> int:
        return self.obs.shape[1]

    def take(self, index: Tensor) -> "Sequences":
        """The sequences of a minibatch."""
        return replace(self, **{name: x[:, index] for name, x in vars(self).items() if x is not None})


def make_learner(policy: ActorCritic, hyper: Hyperparameters) -> Learner:
    """Adam for the actor and Adam for the critic, ε = 1e-5 as is usual for PPO."""
    return Learner(
        policy,
        torch.optim.Adam(policy.actor_parameters(), lr=hyper.actor_lr, eps=1e-5),
        torch.optim.Adam(policy.critic_parameters(), lr=hyper.critic_lr, eps=1e-5),
    )


def prepare(
    rollout: Rollout, advantages: Float[Tensor, "step env"], valid: Bool[Tensor, "step env"] | None = None
) -> Sequences:
    """Normalise the advantages over the whole rollout and cut it into sequences.

    Args:
        rollout: T steps of N environments.
        advantages: raw; with the values they make the targets.
        valid: samples that count; None for all.
    """
    targets = advantages + rollout.values
    counted = advantages if valid is None else advantages[valid]
    normal = (advantages - counted.mean()) / (counted.std(correction=0) + 1e-8)
    chunks, layers, envs, width = rollout.first_hidden.shape
    length = rollout.sequence_length

    def cut(x: Tensor) -> Tensor:
        return x.view(chunks, length, *x.shape[1:]).transpose(0, 1).reshape(length, chunks * envs, *x.shape[2:])

    return Sequences(
        obs=cut(rollout.obs),
        actions=cut(rollout.actions),
        log_probs=cut(rollout.log_probs),
        advantages=cut(normal),
        targets=cut(targets),
        weight=None if valid is None else cut(valid.to(targets.dtype)),
        first_hidden=rollout.first_hidden.transpose(0, 1).reshape(layers, chunks * envs, width),
        masks=None if rollout.masks is None else rollout.masks.repeat(1, chunks, 1),
    )


def update(
    learner: Learner,
    rollout: Rollout,
    hyper: Hyperparameters,
    *,
    seed: int,
    iteration: int,
    valid: Bool[Tensor, "step env"] | None = None,
    on_batch: OnBatch = lambda *_: None,
) -> dict[str, Tensor]:
    """One iteration of learning: joint PPO epochs, then critic epochs.

    Args:
        learner: changed in place.
        rollout: what the policy did, as it was when it did it.
        hyper: see `Hyperparameters`.
        seed: of the minibatches' order.
        iteration: number of the rollout; names that order.
        valid: samples that count; None for all.
        on_batch: told about progress.

    Returns:
        Scalar tensors on the device, none of them read here: policy_loss, value_loss, entropy, kl, clip_fraction,
        critic_loss (last critic epoch), explained_variance (of the values with which the policy acted),
        actor_grad_norm, critic_grad_norm, ppo_epochs.
    """
    advantages = generalised_advantages(
        rollout.rewards, rollout.values, rollout.next_values, rollout.continues, hyper.gamma, hyper.gae_lambda
    )
    counted = slice(None) if valid is None else valid
    fit = explained_variance(rollout.values[counted], (advantages + rollout.values)[counted])
    data = prepare(rollout, advantages, valid)
    metrics = _joint_epochs(learner, data, hyper, seed, iteration, on_batch)
    metrics["critic_loss"] = _critic_epochs(learner, data, hyper, seed, iteration, on_batch)
    metrics["explained_variance"] = fit
    return metrics


def policy_loss(
    log_prob: Float[Tensor, "..."], old_log_prob: Float[Tensor, "..."], advantage: Float[Tensor, "..."], clip: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """The clipped surrogate of each sample, and its probability ratio."""
    ratio = (log_prob - old_log_prob).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage), ratio


def minibatches(n_sequences: int, length: int, batch_size: int, order: Tensor) -> tuple[Tensor, ...]:
    """Split sequences, in the given order, into minibatches of nearly equal size, as many as make ``batch_size`` samples."""
    wanted = max(1, round(n_sequences * length / batch_size))
    return torch.tensor_split(order, min(wanted, n_sequences))


def _joint_epochs(
    learner: Learner, data: Sequences, hyper: Hyperparameters, seed: int, iteration: int, on_batch: OnBatch
) -> dict[str, Tensor]:
    names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "actor_grad_norm", "critic_grad_norm")
    totals = torch.zeros(len(names), device=data.obs.device)
    n_batches = 0
    epoch = 0
    for epoch in range(1, hyper.ppo_epochs + 1):
        order = permutation(len(data), seed, Stream.MINIBATCH, iteration, epoch, device=data.obs.device)
        batches = minibatches(len(data), len(data.obs), hyper.batch_size, order)
        epoch_kl = torch.zeros((), device=data.obs.device)
        for done, index in enumerate(batches, 1):
            row = _joint_step(learner, data.take(index), hyper)
            totals += row
            epoch_kl += row[3] / len(batches)
            n_batches += 1
            on_batch("ppo", done, len(batches), epoch, hyper.ppo_epochs)
        if hyper.target_kl is not None and bool(epoch_kl > hyper.target_kl):
            break
    means = totals / n_batches
    return {**dict(zip(names, means.unbind(), strict=True)), "ppo_epochs": torch.tensor(float(epoch))}


def _joint_step(learner: Learner, batch: Sequences, hyper: Hyperparameters) -> Float[Tensor, "7"]:
    policy = learner.policy
    logits, values, _ = policy(batch.obs, batch.first_hidden, batch.masks)
    log_all = torch.log_softmax(logits.float(), -1)
    log_prob = log_all.gather(-1, batch.actions[..., None])[..., 0]
    surrogate, ratio = policy_loss(log_prob, batch.log_probs, batch.advantages, hyper.clip)
    actor_loss = _mean(surrogate, batch.weight)
    value_loss = _value_loss(policy, values, batch)
    entropy = _mean(-(log_all.exp() * log_all).sum(-1), batch.weight)
    loss = actor_loss + hyper.value_coef * value_loss - hyper.entropy_coef * entropy
    learner.actor_optimiser.zero_grad(set_to_none=True)
    learner.critic_optimiser.zero_grad(set_to_none=True)
    loss.backward()
    actor_norm = clip_grad_norm_(policy.actor_parameters(), hyper.max_grad_norm)
    critic_norm = clip_grad_norm_(policy.critic_parameters(), hyper.max_grad_norm)
    learner.actor_optimiser.step()
    learner.critic_optimiser.step()
    with torch.no_grad():
        # Schulman (2020), "Approximating KL divergence": E[(ρ − 1) − ln ρ] is unbiased, positive, of low variance.
        kl = _mean(ratio - 1 - (log_prob - batch.log_probs), batch.weight)
        clipped = _mean(((ratio - 1).abs() > hyper.clip).float(), batch.weight)
        return torch.stack([actor_loss, value_loss, entropy, kl, clipped, actor_norm, critic_norm]).detach()


def _critic_epochs(
    learner: Learner, data: Sequences, hyper: Hyperparameters, seed: int, iteration: int, on_batch: OnBatch
) -> Tensor:
    loss = torch.zeros((), device=data.obs.device)
    if hyper.critic_epochs == 0:
        return loss
    policy = learner.policy
    everything = torch.arange(len(data), device=data.obs.device)
    slices = minibatches(len(data), len(data.obs), hyper.batch_size, everything)
    with torch.no_grad():
        parts = [policy.trunk(part.obs, part.first_hidden, part.masks)[0] for part in map(data.take, slices)]
        features = torch.cat(parts, dim=1)
    for epoch in range(1, hyper.critic_epochs + 1):
        order = permutation(len(data), seed, Stream.MINIBATCH, iteration, -epoch, device=data.obs.device)
        batches = minibatches(len(data), len(data.obs), hyper.batch_size, order)
        total = torch.zeros_like(loss)
        for done, index in enumerate(batches, 1):
            batch = data.take(index)
            value_loss = _value_loss(policy, policy.values(features[:, index]), batch)
            learner.critic_optimiser.zero_grad(set_to_none=True)
            value_loss.backward()
            clip_grad_norm_(policy.critic_parameters(), hyper.max_grad_norm)
            learner.critic_optimiser.step()
            total += value_loss.detach()
            on_batch("critic", done, len(batches), epoch, hyper.critic_epochs)
        loss = total / len(batches)
    return loss


def _value_loss(policy: ActorCritic, values: Tensor, batch: Sequences) -> Tensor:
    error = (values.float() - batch.targets) / policy.value_scale
    return 0.5 * _mean(error.square(), batch.weight)


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    return x.mean() if weight is None else (x * weight).sum() / weight.sum().clamp(min=1)
