"""From a configuration and a market to everything a run needs, and the plan that says so before it starts."""

from dataclasses import asdict, dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.config import Config
from tactician.environment import (
    HOLD,
    MAX_REGIMES,
    OBS_DIM,
    Environment,
    MarketTensors,
    fit_normaliser,
    normalise,
    split_rows,
)
from tactician.errors import UserError
from tactician.hardware.device import pick_autocast, pick_device
from tactician.hardware.memory import (
    MemoryPlan,
    Sizes,
    choose_sizes,
    enough_memory,
    fit_to_memory,
    make_plan,
    memory_budget,
    note_on_learning,
    split_windows,
)
from tactician.hardware.probe import probe_iteration
from tactician.hardware.processes import SINGLE, Process
from tactician.learning import Hyperparameters, Precision
from tactician.market import LEVEL_LEAK
from tactician.policy import DEFAULT_NETWORK, Architecture, Network, make_network, settle_recurrence, use_native
from tactician.portfolio.frictions import Frictions
from tactician.training.duration import n_iterations, total_timesteps

_SEQUENCE = 64


@dataclass(frozen=True)
class Setup:
    """All that stays the same during a run."""

    config: Config
    """With the sizes filled in."""
    environment: Environment
    """Market features normalised on the training range; episodes inside it."""
    normaliser: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]
    splits: dict[str, range]
    hyper: Hyperparameters
    sizes: Sizes
    memory: MemoryPlan
    total_timesteps: int
    device: torch.device
    value_scale: float
    windows: range
    """Windows of days of this process, each with ``portfolios_per_window`` portfolios."""
    autocast_dtype: torch.dtype | None = None
    native_recurrence: bool = True
    """Whether a GPU's own recurrent kernels may be used: they were compared with the definition."""
    process: Process = SINGLE
    notes: tuple[str, ...] = ()
    """What the user should be told before the run begins."""

    @property
    def n_envs(self) -> int:
        """Environments of this process."""
        return len(self.windows) * self.config.portfolios_per_window

    @property
    def sequence_length(self) -> int:
        """Sessions in a training sequence: a divisor of a rollout and of an episode."""
        return sequence_length(self.config, self.sizes.n_steps)

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return n_iterations(self.total_timesteps, self.sizes.n_envs, self.sizes.n_steps)

    def make_policy(self) -> Network:
        """A fresh policy, the same for the same seed."""
        policy = make_policy(self.config, self.environment, self.value_scale)
        use_native(policy, self.native_recurrence)
        return policy

    def with_sizes(self, sizes: Sizes) -> "Setup":
        """The setup of a run of one process with other sizes."""
        return replace(
            self,
            sizes=sizes,
            config=self.config.model_copy(update=asdict(sizes)),
            hyper=replace(self.hyper, batch_size=sizes.batch_size),
            windows=range(sizes.n_envs // self.config.portfolios_per_window),
        )


def make_policy(config: Config, environment: Environment, value_scale: float) -> Network:
    """A policy for an environment, with initial weights that follow from the seed alone."""
    policy = make_network(
        architecture(config, environment.market.regimes.n_actions),
        value_scale,
        torch.Generator().manual_seed(config.seed),
    )
    if config.hold_prior:
        policy.lean_towards(HOLD, config.hold_prior)
    return policy.to(environment.market.device)


def architecture(config: Config, n_actions: int) -> Architecture:
    """What fixes the network of a configuration."""
    return Architecture(
        network=DEFAULT_NETWORK,
        obs_dim=OBS_DIM,
        n_actions=n_actions,
        hidden_dim=config.hidden_dim,
        n_gru_layers=config.n_gru_layers,
        dropout=config.dropout,
    )


def sequence_length(config: Config, n_steps: int) -> int:
    """The configuration's BPTT length, or the largest divisor of rollout and episode up to 64.

    On a CPU a recurrent layer is fastest with many short sequences in a minibatch: each step multiplies more rows.
    """
    longest = min(n_steps, config.episode_length)
    if config.bptt_length is not None:
        return min(config.bptt_length, longest)
    return max(k for k in range(1, min(_SEQUENCE, longest) + 1) if longest % k == 0)


def prepare_run(
    config: Config,
    market: MarketTensors,
    *,
    normaliser: tuple[Tensor, Tensor] | None = None,
    process: Process = SINGLE,
) -> Setup:
    """Split, normalise, choose sizes that fit, and check.

    Args:
        config: the run's.
        market: its market.
        normaliser: of a checkpoint; None to fit one on the training range.
        process: which of the run's processes this is.

    Raises:
        UserError: a range is too short, the device is not there, or the regime table is too large.
    """
    device = pick_device(config.device, process.local_rank)
    if len(set(process.gather_each(market.fingerprint))) > 1:
        raise UserError(
            f"The processes have different market caches; copy {config.cache} of one machine to the others."
        )
    if market.regimes.n_actions > MAX_REGIMES:
        raise UserError(f"The regime table '{config.regimes}' has more than {MAX_REGIMES} regimes; use fewer groups.")
    splits = split_rows(config, market)
    sizes, notes = choose_sizes(config, device, process.collective.size)
    mean, std = normaliser or fit_normaliser(market, splits["train"])
    environment = Environment(
        market=normalise(market, mean, std).to(device),
        frictions=Frictions.of(config),
        rows=splits["train"],
        episode_length=config.episode_length,
        portfolios_per_window=config.portfolios_per_window,
        portfolio_value=config.portfolio_value,
        first_holdings=config.first_holdings,
        seed=config.seed,
    )
    dtype, said = pick_autocast(config, device)
    value_scale = _value_scale(market, splits["train"], config.gamma)
    budgets = process.gather_each(memory_budget(config, device, process.local_rank))
    with enough_memory():
        policy = make_policy(config, environment, value_scale)
    wrong_kernels = settle_recurrence(policy, dtype)
    hyper = Hyperparameters(
        **{f.name: getattr(config, f.name) for f in fields(Hyperparameters)} | {"batch_size": sizes.batch_size}
    )
    with enough_memory():
        memory = make_plan(
            probe_iteration(
                environment,
                policy,
                hyper,
                Precision(dtype, device.type),
                n_steps=sizes.n_steps,
                sequence_length=sequence_length(config, sizes.n_steps),
            ),
            policy,
            market.regimes.n_actions,
            critic_epochs=config.critic_epochs,
            budget=budgets[process.collective.rank],
            share=budgets[process.collective.rank] / sum(budgets),
        )
    sizes, memory, warning = fit_to_memory(sizes, memory, config.portfolios_per_window)
    n_envs, batch_size = zip(*process.gather_each((sizes.n_envs, sizes.batch_size)), strict=True)
    sizes = replace(sizes, n_envs=min(n_envs), batch_size=min(batch_size))
    n_windows = sizes.n_envs // config.portfolios_per_window
    if n_windows < len(budgets):
        raise UserError(f"n_envs ({sizes.n_envs}) gives {len(budgets)} processes fewer than one window each; raise it.")
    total = total_timesteps(config, sizes.n_envs, sizes.n_steps)
    return Setup(
        config=config.model_copy(update=asdict(sizes)),
        environment=environment,
        normaliser=(mean, std),
        splits=splits,
        hyper=replace(hyper, batch_size=sizes.batch_size),
        sizes=sizes,
        memory=memory,
        total_timesteps=total,
        device=device,
        value_scale=value_scale,
        windows=split_windows(n_windows, budgets)[process.collective.rank],
        autocast_dtype=dtype,
        native_recurrence=wrong_kernels is None,
        process=process,
        notes=tuple(
            x
            for x in (
                process.note,
                *(finding for finding in market.findings if finding.startswith(LEVEL_LEAK)),
                *notes,
                said,
                wrong_kernels,
                warning,
                note_on_learning(sizes, total, config.ppo_epochs),
            )
            if x
        ),
    )


def _value_scale(market: MarketTensors, rows: range, gamma: float) -> float:
    """Standard deviation of the discounted rewards of equal weight if its days were independent: 100·σ/√(1 − γ²).

    The scale on which the value head works, so that value errors and learning rates mean the same in every market.
    """
    tradable = market.tradable[rows.start : rows.stop]
    returns = market.returns[rows.start : rows.stop]
    daily = torch.where(tradable, returns, 0.0).sum(-1) / tradable.sum(-1).clamp(min=1)
    return max(100 * float(daily.double().std()) / (1 - gamma**2) ** 0.5, 1e-3)
