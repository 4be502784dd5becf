"""Recurrent proximal policy optimisation with two optimisers and critic-only epochs.

Joint epochs minimise, over minibatches of whole sequences,

    L = −E[min(ρ·A, clip(ρ, 1 ± ε)·A)] + c_v · ½ E[((V − R)/s)²] − c_e · E[H(π)]      (Schulman et al. 2017, eq. 9)

with ρ the probability ratio, A the normalised advantage, R = A_GAE + V_old the target and s the policy's value scale.
The actor's optimiser owns encoder, GRU and policy head; the critic's owns the value head alone. So the critic epochs that
follow leave the trunk as it is, and its features are computed once for all of them where memory allows.

Several processes learn as one. A minibatch is the same set of sequences however many processes hold parts of it. Each
process computes the gradient of its part of the mean; all clip and apply the sum of these gradients alike.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tactician.learning.advantages import generalised_advantages, leave_one_out
from tactician.learning.collective import Collective
from tactician.learning.guard import Guard
from tactician.learning.learner import Hyperparameters, Learner, recorded_update, set_rates
from tactician.learning.objective import Objective
from tactician.learning.precision import guarded_step
from tactician.learning.rollout import Rollout
from tactician.learning.sequences import Dealer, Sequences, explained_variance, moments, prepare
from tactician.learning.statistics import describe
from tactician.policy import Network

OnBatch = Callable[[str, int, int, int, int], None]
"""Called with phase ('ppo' or 'critic'), batches done, batches in all, epoch (from 1), epochs."""

_SUMS = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
_NORMS = ("actor_grad_norm", "critic_grad_norm")


def update(
    learner: Learner,
    rollout: Rollout,
    hyper: Hyperparameters,
    *,
    seed: int,
    iteration: int,
    valid: Bool[Tensor, "step env"] | None = None,
    first_env: int = 0,
    all_envs: int | None = None,
    keep_features: bool = True,
    dropped_before: int = 0,
    statistics: bool = False,
    on_batch: OnBatch = lambda *_: None,
) -> dict[str, Tensor]:
    """One iteration of learning: joint PPO epochs, then critic epochs.

    Args:
        learner: changed in place.
        rollout: collected with this policy, which has not changed since.
        hyper: see `Hyperparameters`; its learning rates replace the optimisers' own.
        seed: of the minibatches' order.
        iteration: number of the rollout; that order depends on it.
        valid: samples that count; None for all.
        first_env: number of the rollout's first environment, if several processes share them.
        all_envs: environments of all processes; None if the rollout has them all.
        keep_features: hold the trunk's features for all critic epochs. Otherwise they are computed for every minibatch,
            which takes longer and no memory.
        dropped_before: consecutive joint updates that were dropped at the end of the previous iteration.
        statistics: also describe the advantages; other figures stay the same.
        on_batch: told about progress.

    Returns:
        Scalar tensors on the device, the same in every process; none of them is read here.

        * policy_loss, value_loss, entropy, kl, clip_fraction, actor_grad_norm, critic_grad_norm, and critic_loss of the last
          critic epoch: means over the updates that were made, NaN without one;
        * explained_variance: of the values with which the policy acted;
        * ppo_epochs: joint epochs that were run;
        * dropped_updates: joint and critic updates that were dropped;
        * dropped_in_a_row: the longest run of them, of joint or of critic updates;
        * dropped_at_the_end: joint updates in a row that were dropped last, those of ``dropped_before`` included if all were;
        * with ``statistics``: stat_advantage_mean, …_std, …_min and …_max, of the advantages before they are normalised.
    """
    set_rates(learner, hyper)
    objective = _objective(hyper, rollout, valid, learner.collective)
    rewards = objective.rewards(rollout.market, rollout.day, rollout.rewards)
    # Computed once, from the values of the rollout: with new values the targets would move during the epochs.
    advantages = generalised_advantages(
        rewards, rollout.values, rollout.next_values, rollout.continues, hyper.gamma, hyper.gae_lambda
    )
    n_envs = rollout.day.shape[1]
    dealer = Dealer(
        n_chunks=len(rollout.first_hidden),
        first_env=first_env,
        n_envs=n_envs,
        all_envs=all_envs or n_envs,
        length=rollout.sequence_length,
        batch_size=hyper.batch_size,
        shared=rollout.shared,
        seed=seed,
        iteration=iteration,
        collective=learner.collective,
    )
    # The window baseline is only for the policy's gradient. The critic predicts returns with the luck of the days, so its
    # targets come from the advantages before the baseline.
    compared = leave_one_out(advantages, hyper.portfolios_per_window) if hyper.baseline == "window" else advantages
    emphasis = _emphasis(objective, rollout, valid, hyper.portfolios_per_window, learner.collective)
    data = prepare(rollout, compared, advantages + rollout.values, valid, learner.collective, emphasis)
    # Counted separately: otherwise the critic's good updates would end every run of dropped joint updates.
    joint, critic = Guard(advantages.device, dropped_before), Guard(advantages.device)
    metrics = _joint_epochs(learner, data, hyper, dealer, joint, on_batch)
    metrics["critic_loss"] = _critic_epochs(learner, data, hyper, dealer, critic, keep_features, on_batch)
    metrics["explained_variance"] = explained_variance(rollout.values, advantages, valid, learner.collective)
    if statistics:
        metrics |= describe("advantage", compared, valid, learner.collective)
    return metrics | _dropped(joint, critic)


def _dropped(joint: Guard, critic: Guard) -> dict[str, Tensor]:
    return {
        "dropped_updates": joint.dropped + critic.dropped,
        "dropped_in_a_row": torch.maximum(joint.longest, critic.longest),
        "dropped_at_the_end": joint.in_a_row,
    }


def policy_loss(
    log_prob: Float[Tensor, "..."], old_log_prob: Float[Tensor, "..."], advantage: Float[Tensor, "..."], clip: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """The clipped surrogate of each sample, and its probability ratio."""
    # The minimum is a pessimistic bound (Schulman et al. 2017, §3). Beyond 1 ± ε in the direction that the advantage asks for,
    # the gradient is 0. In the other direction it stays, so that a wrong move can be taken back.
    ratio = (log_prob - old_log_prob).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage), ratio


def _objective(hyper: Hyperparameters, rollout: Rollout, valid: Tensor | None, collective: Collective) -> Objective:
    chosen = Objective(hyper.objective, hyper.risk_aversion, hyper.reward == "relative")
    if chosen.kind != "mean_variance":
        return chosen
    return replace(chosen, mean=moments(rollout.rewards, valid, collective)[0])


def _emphasis(
    objective: Objective, rollout: Rollout, valid: Tensor | None, per_window: int, collective: Collective
) -> Float[Tensor, "step env"] | None:
    """Weight of each sample: by the growth of its window's other portfolios in its sequence; None if all weigh alike."""
    if objective.kind != "softmin":
        return None
    weight = torch.ones_like(rollout.rewards) if valid is None else valid.to(rollout.rewards.dtype)
    shape = (len(rollout.first_hidden), rollout.sequence_length, -1, per_window)
    growth = (rollout.rewards * weight).view(shape).sum(1)
    others = (growth.sum(-1, keepdim=True) - growth) / (per_window - 1)
    weights = objective.emphasis(others, weight.view(shape).any(1), collective)
    return weights[:, None].expand(*shape[:2], *weights.shape[1:]).reshape_as(weight)


def _joint_epochs(
    learner: Learner, data: Sequences, hyper: Hyperparameters, dealer: Dealer, guard: Guard, on_batch: OnBatch
) -> dict[str, Tensor]:
    sums = torch.zeros(len(_SUMS), device=data.day.device)
    norms = torch.zeros(len(_NORMS), device=data.day.device)
    kept, epoch_kl = torch.zeros((), device=data.day.device), torch.zeros((), device=data.day.device)
    n_batches, epoch = dealer.count(), 0

    def learn(index: Tensor, n_samples: Tensor) -> None:
        figures, lengths, good = _joint_step(learner, data.take(index), n_samples, hyper, guard)
        sums.add_(figures)
        norms.add_(lengths)
        kept.add_(good)
        # The sum stays on the device. The host reads it once per epoch, and only with a target for KL.
        epoch_kl.add_(figures[_SUMS.index("kl")] / n_batches)

    learn_again = recorded_update(learn, learner)
    for epoch in range(1, hyper.ppo_epochs + 1):
        epoch_kl.zero_()
        for done, batch in enumerate(dealer.deal(data, epoch), 1):
            learn_again(batch.index, batch.n_samples)
            on_batch("ppo", done, n_batches, epoch, hyper.ppo_epochs)
        # The sum over processes is the same in all of them, so all stop or none does.
        if hyper.target_kl is not None and bool(learner.collective.add_up(epoch_kl) > hyper.target_kl):
            break
    # Means over the updates that were made. Without any update it is 0/0, which is NaN: not available.
    means = learner.collective.add_up(sums) / kept
    metrics = dict(zip(_SUMS, means.unbind(), strict=True))
    metrics |= zip(_NORMS, (norms / kept).unbind(), strict=True)
    return {**metrics, "ppo_epochs": torch.tensor(float(epoch))}


def _joint_step(
    learner: Learner, batch: Sequences, n_samples: Tensor, hyper: Hyperparameters, guard: Guard
) -> tuple[Float[Tensor, "5"], Float[Tensor, "2"], Float[Tensor, ""]]:
    """One step of both optimisers.

    Returns:
        This process's part of the means, the gradient norms of all, and 1; zeros if the step was dropped.
    """
    actor, critic, scaler = learner.actor_optimiser, learner.critic_optimiser, learner.precision.actor_scaler
    actor.zero_grad(set_to_none=True)
    critic.zero_grad(set_to_none=True)
    loss, figures = _joint_loss(learner, batch, n_samples, hyper)
    # One backward pass for both optimisers: the value loss reaches the trunk too, which the actor's optimiser moves.
    if len(batch):
        scaler.scale(loss).backward()
    parameters = (learner.policy.actor_parameters(), learner.policy.critic_parameters())
    learner.collective.add_up_gradients(p for part in parameters for p in part)
    # The bound on the norm is for unscaled gradients, so the loss scale is removed first.
    if scaler.is_enabled():
        scaler.unscale_(actor)
        scaler.unscale_(critic)
    # Clipped separately: with one norm a large gradient of the value head would shrink the policy's step.
    norms = torch.stack([clip_grad_norm_(part, hyper.max_grad_norm) for part in parameters])
    # Both optimisers step or neither does: an update moves actor and critic together. Any NaN makes a norm NaN.
    bad = guard.judge(norms.sum())
    guarded_step(actor, bad)
    guarded_step(critic, bad)
    _decay(learner.policy, hyper, bad)
    scaler.update()
    return torch.where(bad > 0, 0.0, figures), torch.where(bad > 0, 0.0, norms), 1 - bad


@torch.no_grad()
def _decay(policy: Network, hyper: Hyperparameters, bad: Tensor) -> None:
    """Shrink the memory's matrices by rate × decay, decoupled from the gradient (Loshchilov and Hutter 2019, AdamW).

    Only these: a day is told from others by what was seen before it, so they are what memorises. Encoder and heads lose
    faint signals when they shrink (docs/generalisation.md).
    """
    if hyper.weight_decay:
        factor = 1 - hyper.actor_lr * hyper.weight_decay * (1 - bad)  # a tensor: a dropped update shrinks nothing
        for weight in policy.memory_weights():
            weight.mul_(factor)


def _joint_loss(
    learner: Learner, batch: Sequences, n_samples: Tensor, hyper: Hyperparameters
) -> tuple[Tensor, Float[Tensor, "5"]]:
    if len(batch) == 0:  # another process holds all of this minibatch
        return n_samples.new_zeros(()), n_samples.new_zeros(len(_SUMS))
    with learner.precision.autocast():
        logits, values, _ = learner.policy(batch.obs, batch.first_hidden, batch.masks)
    # At the first minibatch these are the rollout's numbers up to rounding: same weights, dropout masks, first states
    # and precision. So every ratio begins at 1, and what moves it is learning alone (tests/learning/test_ratio_is_one.py).
    # In later minibatches the first states are stale, since former weights made them (Kapturowski et al. 2019, R2D2, §3).
    # But the rollout acted on them, so both log-probabilities of a ratio share them.
    log_all = torch.log_softmax(logits.float(), -1)
    log_prob = log_all.gather(-1, batch.actions[..., None].long())[..., 0]
    surrogate, ratio = policy_loss(log_prob, batch.log_probs, batch.advantages, hyper.clip)

    def mean(x: Tensor) -> Tensor:
        # Over the samples of all processes: parts of this mean, and their gradients, add up to the whole minibatch's.
        return (x if batch.weight is None else x * batch.weight).sum() / n_samples

    actor_loss = mean(surrogate)
    value_loss = mean(_value_losses(learner.policy, values, batch.targets))
    entropy = mean(-(log_all.exp() * log_all).sum(-1))
    loss = actor_loss + hyper.value_coef * value_loss - hyper.entropy_coef * entropy
    with torch.no_grad():
        # Schulman (2020), "Approximating KL divergence": E[(ρ − 1) − ln ρ] is unbiased, positive, of low variance.
        kl = mean(ratio - 1 - (log_prob - batch.log_probs))
        clipped = mean(((ratio - 1).abs() > hyper.clip).float())
        return loss, torch.stack([actor_loss, value_loss, entropy, kl, clipped])


def _critic_epochs(
    learner: Learner,
    data: Sequences,
    hyper: Hyperparameters,
    dealer: Dealer,
    guard: Guard,
    keep_features: bool,
    on_batch: OnBatch,
) -> Tensor:
    # The targets are those of the joint epochs: the value head is fitted to them more closely. The trunk stands still. Moved
    # by a value loss alone it would change the policy, unless a further loss held that (as in Cobbe et al. 2021, PPG).
    loss = torch.full((), torch.nan, device=data.day.device)  # without an epoch it is not available
    if hyper.critic_epochs == 0:
        return loss
    kept = _all_features(learner, data, dealer) if keep_features else None
    made = torch.zeros_like(loss)

    def learn(index: Tensor, n_samples: Tensor) -> None:
        seen = None
        if len(index):
            features = _features(learner, data.take(index)) if kept is None else kept[:, data.memories(index)]
            seen = features, data.portfolio[:, index]
        weight = None if data.weight is None else data.weight[:, index]
        step_loss, good = _critic_step(learner, seen, data.targets[:, index], weight, n_samples, hyper, guard)
        loss.add_(step_loss)
        made.add_(good)

    learn_again = recorded_update(learn, learner)
    for epoch in range(1, hyper.critic_epochs + 1):
        loss.zero_()
        made.zero_()
        # Negative numbers name orders of their own: no critic epoch repeats the minibatches of a joint one.
        for done, batch in enumerate(dealer.deal(data, -epoch), 1):
            learn_again(batch.index, batch.n_samples)
            on_batch("critic", done, dealer.count(), epoch, hyper.critic_epochs)
    return learner.collective.add_up(loss) / made


def _critic_step(
    learner: Learner,
    seen: tuple[Float[Tensor, "step memory feature"], Float[Tensor, "step seq entry"]] | None,
    targets: Float[Tensor, "step seq"],
    weight: Float[Tensor, "step seq"] | None,
    n_samples: Tensor,
    hyper: Hyperparameters,
    guard: Guard,
) -> tuple[Tensor, Float[Tensor, ""]]:
    """One step of the critic, on what its head reads; None if another process holds all of the sequences.

    Returns:
        This process's part of the mean loss, and 1; zeros if the step was dropped.
    """
    policy, critic, scaler = learner.policy, learner.critic_optimiser, learner.precision.critic_scaler
    critic.zero_grad(set_to_none=True)
    loss = n_samples.new_zeros(())
    if seen is not None:
        with learner.precision.autocast():
            values = policy.values(*seen)
        losses = _value_losses(policy, values, targets)
        loss = (losses if weight is None else losses * weight).sum() / n_samples
        scaler.scale(loss).backward()
    parameters = policy.critic_parameters()
    learner.collective.add_up_gradients(parameters)
    if scaler.is_enabled():
        scaler.unscale_(critic)
    bad = guard.judge(clip_grad_norm_(parameters, hyper.max_grad_norm))
    guarded_step(critic, bad)
    scaler.update()
    return torch.where(bad > 0, 0.0, loss.detach()), 1 - bad


@torch.no_grad()
def _features(learner: Learner, batch: Sequences) -> Float[Tensor, "step memory feature"]:
    # Computed with the dropout masks of the rollout, so that the head sees the features on which the policy acted.
    with learner.precision.autocast():
        return learner.policy.trunk(batch.obs, batch.first_hidden, batch.masks)[0]


def _all_features(learner: Learner, data: Sequences, dealer: Dealer) -> Float[Tensor, "step memory feature"]:
    everything = torch.arange(len(data), device=data.day.device)
    features: Tensor | None = None
    groups = max(1, dealer.batch_size // dealer.length // dealer.shared)
    for index in everything.split(groups * dealer.shared):
        found = _features(learner, data.take(index))
        if features is None:  # filled part by part, since joining the parts at the end would hold them twice
            features = found.new_empty(len(found), data.first_hidden.shape[1], found.shape[-1])
        features[:, data.memories(index)] = found
    assert features is not None  # every process holds some sequences
    return features


def _value_losses(policy: Network, values: Tensor, targets: Tensor) -> Float[Tensor, "step seq"]:
    # Rewards are in percent and γ sums up many of them, so errors of some units are usual and their squares large. In units
    # of s the value's gradient is of the size of the policy's, and value_coef means the same in every market.
    return 0.5 * ((values.float() - targets) / policy.value_scale).square()
