"""Collecting experience: T steps of N environments, time-major, cut into whole sequences."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from tactician.environment import (
    Environment,
    EnvState,
    MarketTensors,
    Outcome,
    Stream,
    assemble,
    fused_on,
    observe_portfolio,
    observed_day,
    portfolio_index,
    random_bits,
    restart_finished,
    step,
    uniform_after,
)
from tactician.learning.memory import renew_memory, sharing
from tactician.learning.precision import FULL, Precision
from tactician.learning.recorded import Recorded
from tactician.policy import Network


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments. A sequence is ``sequence_length`` steps of one environment; C = T / sequence_length."""

    market: MarketTensors
    """Whose features the observations show."""
    day: Int32[Tensor, "step env"]
    """Row of the market that was observed."""
    portfolio: Float[Tensor, "step env 20"]
    """The portfolio's part of the observation."""
    actions: Int32[Tensor, "step env"]
    log_probs: Float[Tensor, "step env"]
    values: Float[Tensor, "step env"]
    next_values: Float[Tensor, "step env"]
    """V of the state reached, read before any restart."""
    rewards: Float[Tensor, "step env"]
    continues: Bool[Tensor, "step env"]
    """Whether the episode goes on after the step."""
    first_hidden: Float[Tensor, "chunk layer memory hidden"]
    """Recurrent state in which each sequence begins."""
    masks: Float[Tensor, "mask memory hidden"] | None
    """Dropout masks with which the policy acted; the update replays them."""
    costs: Float[Tensor, "step env component"]
    turnover: Float[Tensor, "step env"]
    trade_closed: Bool[Tensor, "step env"]
    trade_return: Float[Tensor, "step env"]

    @property
    def shared(self) -> int:
        """Environments in a row that have the same days and the same memory; 1 if each has its own memory."""
        return self.day.shape[1] // self.first_hidden.shape[2]

    @property
    def sequence_length(self) -> int:
        """Steps in a sequence."""
        return len(self.day) // len(self.first_hidden)

    @property
    def bytes_per_sample(self) -> float:
        """Bytes of the tensors held, over samples."""
        held = sum(x.numel() * x.element_size() for x in vars(self).values() if isinstance(x, Tensor))
        return held / self.day.numel()


@torch.no_grad()
def collect_rollout(
    env: Environment,
    policy: Network,
    state: EnvState,
    hidden: Float[Tensor, "layer memory hidden"],
    *,
    n_steps: int,
    sequence_length: int | None = None,
    seed: int,
    iteration: int,
    precision: Precision = FULL,
    recorded: bool = False,
    on_step: Callable[[int], None] = lambda _: None,
) -> tuple[Rollout, EnvState, Float[Tensor, "layer memory hidden"]]:
    """Let the policy act for ``n_steps``, restarting finished episodes between sequences.

    Args:
        env: the environment.
        policy: acts stochastically, with one dropout mask per memory for the whole rollout.
        state: of N environments.
        hidden: the policy's recurrent state.
        n_steps: T; divides or is a multiple of the episode's length.
        sequence_length: divides both; None for the shorter of them.
        seed: of the action and dropout noise.
        iteration: number of this rollout in the run; its noise depends on it.
        precision: of the forward passes.
        recorded: let a GPU repeat its steps from a recording.
        on_step: called with the steps done.

    Returns:
        The rollout, the state and the recurrent state in which the next one begins.
    """
    length = sequence_length or min(n_steps, env.episode_length)
    # Global numbers, so that an environment draws the same noise whichever process holds it.
    index = portfolio_index(env, state)
    masks = policy.masks(index[:: sharing(env, policy)], seed, iteration)
    store = _Store(n_steps, len(index), env.market.device)
    first_hidden = []

    see = partial(_see, env, policy, masks, precision)
    # What a step reads and replaces lies in the same place in all steps, so that a GPU can repeat a recorded step.
    now, memory = _Kept(state), hidden.clone()
    done = torch.zeros(1, dtype=torch.int64, device=env.market.device)
    numbers = random_bits(seed, Stream.ACTION, iteration, torch.arange(n_steps, device=env.market.device))

    def act() -> None:
        state = now.state
        day, portfolio, logits, value, after = see(state, memory)
        action, log_prob = sample_action(logits, numbers[done], index, fused=env.fused)
        # The portfolio was observed before the step: what is stored at t is what the action at t was chosen on.
        state, outcome = step(env, state, action)
        store.put(done, day=day.int(), portfolio=portfolio, actions=action.int(), log_probs=log_prob, values=value)
        store.put_outcome(done, outcome)
        now.replace(state)
        memory.copy_(after)
        done.add_(1)

    act_again = Recorded(act, enabled=recorded and env.market.device.type == "cuda")
    for begin in range(0, n_steps, length):
        # The update starts each sequence from the recurrent state of the rollout ("stored state", Kapturowski et al. 2019,
        # R2D2). From zeros it would replay another policy than the one that acted.
        first_hidden.append(memory.clone())
        for t in range(begin, begin + length):
            act_again()
            on_step(t + 1)
        # V(s_T) of the state reached, for the bootstrap at a time limit (Pardo et al. 2018). It is read before the restart,
        # because afterwards the observation belongs to a new episode. The returned recurrent state is dropped, because the
        # next sequence sees this observation again.
        bootstrap = see(now.state, memory)[3]
        state, restarted = restart_finished(env, now.state)
        store.end_sequence(begin, length, bootstrap, restarted)
        now.replace(state)
        memory.copy_(renew_memory(env, policy, state, memory, restarted, masks))
    begun = torch.stack(first_hidden)
    return Rollout(env.market, **store.tensors, first_hidden=begun, masks=masks), now.state, memory


class _Kept:
    """A state of the environments whose tensors stay where they are."""

    def __init__(self, state: EnvState) -> None:
        self.state = EnvState(**{name: x.clone() for name, x in state.state_dict().items()})

    def replace(self, state: EnvState) -> None:
        for name, x in self.state.state_dict().items():
            x.copy_(getattr(state, name))


def _see(
    env: Environment,
    policy: Network,
    masks: Tensor | None,
    precision: Precision,
    state: EnvState,
    hidden: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Day, portfolio's part of the observation, logits, value, and the recurrent state after it."""
    day = observed_day(env, state)
    portfolio = observe_portfolio(env, state, day)
    # The same autocast as in the update, because logits of another precision would be another policy.
    with precision.autocast():
        observation = assemble(env.market, day, portfolio)[None]
        logits, value, after = policy(observation, hidden, masks)
    # Everything is stored as float32: the ratio is a difference of log-probabilities, where 16 bits would be noise.
    return day, portfolio, logits[0].float(), value[0].float(), after.float()


def sample_action(
    logits: Float[Tensor, "env action"],
    number: int | Int64[Tensor, "1"],
    index: Int64[Tensor, " env"],
    *,
    fused: bool = False,
) -> tuple[Int64[Tensor, " env"], Float[Tensor, " env"]]:
    """Draw actions and return them with their log-probabilities, without gradients on a GPU.

    Args:
        logits: of every action.
        number: `mixed` of the seed, `Stream.ACTION` and the counters of the step, or the same as a tensor (`random_bits`). A
            recording can read another number from a tensor each time.
        index: global numbers of the environments.
        fused: draw in one kernel where that can be.
    """
    if fused and fused_on(logits.device):
        from tactician.learning.fused_sampling import fused_sample_action

        return fused_sample_action(logits, number, index)
    return sample_action_eager(logits, uniform_after(number, index))


def sample_action_eager(
    logits: Float[Tensor, "env action"], noise: Float[Tensor, " env"]
) -> tuple[Int64[Tensor, " env"], Float[Tensor, " env"]]:
    """Draw from the categorical distribution by inverting its cumulative distribution at the given uniform numbers."""
    # Not torch.multinomial: its generator differs between devices, and its state depends on what was drawn before.
    log_probs = torch.log_softmax(logits.float(), -1)
    edges = log_probs.exp().cumsum(-1)
    # The last edge may round to below 1. A number above it would give an action that does not exist.
    action = (noise[:, None] >= edges).sum(-1).clamp(max=logits.shape[-1] - 1)
    return action, log_probs.gather(-1, action[:, None])[:, 0]


class _Store:
    """Preallocated [T, N, …] tensors, with shapes and types from the first step."""

    # Stacking lists at the end would hold every tensor twice, at the rollout's peak of memory.

    def __init__(self, n_steps: int, n_envs: int, device: torch.device) -> None:
        shape = (n_steps, n_envs)
        self.tensors: dict[str, Tensor] = {
            "next_values": torch.empty(shape, device=device),
            "continues": torch.ones(shape, dtype=torch.bool, device=device),
        }
        self._shape = shape

    def put(self, t: Int64[Tensor, "1"], **rows: Tensor) -> None:
        for name, row in rows.items():
            if name not in self.tensors:
                self.tensors[name] = torch.empty(*self._shape, *row.shape[1:], dtype=row.dtype, device=row.device)
            self.tensors[name].index_copy_(0, t, row[None])

    def put_outcome(self, t: Int64[Tensor, "1"], outcome: Outcome) -> None:
        self.put(t, rewards=outcome.reward, costs=outcome.costs, turnover=outcome.turnover)
        self.put(t, trade_closed=outcome.trade_closed, trade_return=outcome.trade_return)

    def end_sequence(self, begin: int, length: int, bootstrap: Tensor, restarted: Tensor) -> None:
        # Inside a sequence the state reached is the next one observed, so its value is known already.
        last = begin + length - 1
        self.tensors["next_values"][begin:last] = self.tensors["values"][begin + 1 : last + 1]
        self.tensors["next_values"][last] = bootstrap
        self.tensors["continues"][last] = ~restarted
