"""The setup of a run: everything that it needs, made from a configuration and a market before it starts."""

import platform
from dataclasses import asdict, dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.config import Config
from tactician.environment import (
    HOLD,
    OBS_DIM,
    Environment,
    MarketTensors,
    TrainingDays,
    normalise,
    split_rows,
    stretches_of,
)
from tactician.errors import UserError
from tactician.hardware.available import memory_budget
from tactician.hardware.device import pick_autocast, pick_device
from tactician.hardware.memory import MemoryPlan, enough_memory, fit_to_memory, make_plan
from tactician.hardware.pace import Pace, fastest, fit_to_time, is_far_beyond, measure_pace, slowest
from tactician.hardware.probe import Trial, probe_iteration
from tactician.hardware.processes import SINGLE, Process
from tactician.hardware.sizes import Sizes, choose_sizes, note_on_learning, sequence_length, split_windows
from tactician.learning import Hyperparameters, Precision
from tactician.learning.settled import settle_environment
from tactician.market import LEVEL_LEAK
from tactician.policy import Architecture, Kernels, Network, make_network, settle_recurrence, use_kernels
from tactician.training.duration import n_iterations, total_timesteps
from tactician.training.markets import (
    TrainedOn,
    check_market,
    make_environment,
    markets_to_train_on,
    names_trained_on,
    value_scale,
)


@dataclass(frozen=True)
class Setup:
    """The constant part of a run. Everything that changes is in `TrainState`."""

    config: Config
    """With the sizes and the length of the annealing filled in."""
    environment: Environment
    """Of the judged market. Its features are normalised on the training range, and its episodes lie inside that range."""
    training_environment: Environment
    """Of the rollouts: the same, or one of many markets and costs."""
    normaliser: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]
    feature_range: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]
    """Lowest and highest value of each market feature on the training range, in its own unit."""
    splits: dict[str, range]
    sizes: Sizes
    sequence_length: int
    """Sessions in a training sequence. It divides the length of a rollout and of an episode."""
    memory: MemoryPlan
    pace: Pace | None
    """Duration of an iteration; None on a GPU, where it is not measured."""
    total_timesteps: int
    device: torch.device
    value_scale: float
    windows: range
    """Windows of days of this process, each with ``portfolios_per_window`` portfolios."""
    autocast_dtype: torch.dtype | None = None
    recurrent_kernels: Kernels = "library"
    """Those of the recurrent layers that agree with the definition on this GPU."""
    process: Process = SINGLE
    notes: tuple[str, ...] = ()
    """Notes for the user before the run begins."""
    flags: tuple[str, ...] = ()
    """Keys of the configuration that did not come from its file. A resumed run keeps them."""

    @property
    def n_envs(self) -> int:
        """Environments of this process."""
        return len(self.windows) * self.config.portfolios_per_window

    @property
    def training_days(self) -> TrainingDays:
        """Distances of the days of training, of the names that are trained on."""
        market, (days, *_) = names_trained_on(self.environment.market, (self.splits["train"],))
        return TrainingDays.of(market, days)

    @property
    def hyper(self) -> Hyperparameters:
        """The hyperparameters of the update."""
        return hyperparameters(self.config)

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return n_iterations(self.total_timesteps, self.sizes.n_envs, self.sizes.n_steps)

    @property
    def seconds_per_iteration(self) -> float | None:
        """Predicted duration of an iteration; None if not known."""
        if self.pace is None:
            return None
        return self.pace.seconds(min(self.sizes.samples, self.total_timesteps), self.memory.keep_features)

    def make_policy(self) -> Network:
        """A fresh policy, the same for the same seed."""
        policy = make_policy(self.config, self.environment, self.value_scale)
        use_kernels(policy, self.recurrent_kernels)
        return policy

    def with_sizes(self, sizes: Sizes) -> "Setup":
        """The same setup with other sizes, for a run of one process."""
        return replace(
            self,
            sizes=sizes,
            config=self.config.model_copy(update=asdict(sizes)),
            windows=range(sizes.n_envs // self.config.portfolios_per_window),
        )


def make_policy(config: Config, environment: Environment, value_scale: float) -> Network:
    """A policy for an environment. Its initial weights depend on the seed alone."""
    policy = make_network(
        architecture(config, environment.market.regimes.n_actions),
        value_scale,
        torch.Generator().manual_seed(config.seed),
    )
    if config.hold_prior:
        policy.lean_towards(HOLD, config.hold_prior)
    return policy.to(environment.market.device)


def architecture(config: Config, n_actions: int) -> Architecture:
    """The architecture of a configuration's network."""
    return Architecture(
        network=config.network,
        obs_dim=OBS_DIM,
        n_actions=n_actions,
        hidden_dim=config.hidden_dim,
        n_gru_layers=config.n_gru_layers,
        dropout=config.dropout,
        encoder_layers=config.encoder_layers,
    )


def hyperparameters(config: Config) -> Hyperparameters:
    """The hyperparameters of the update, from a configuration whose sizes are filled in."""
    chosen = {f.name: getattr(config, f.name) for f in fields(Hyperparameters)}
    return Hyperparameters(**{**chosen, **learning_rates(config)})


_RATES = {"actor_lr": 3e-4, "critic_lr": 9e-4}
"""The specification's learning rates, of a network 256 units wide."""


def learning_rates(config: Config) -> dict[str, float]:
    """The learning rates of actor and critic: the configuration's, else the specification's times 256 / hidden_dim.

    Adam moves every weight by about its rate. A unit adds up as many weights as the layer before it is wide. So its output
    moves by about rate times width, whatever the width (Yang et al. 2022, "Tensor Programs V", table 3: 1/width for Adam).
    """
    return {key: getattr(config, key) or rate * 256 / config.hidden_dim for key, rate in _RATES.items()}


def prepare_run(
    config: Config,
    market: MarketTensors,
    *,
    normaliser: tuple[Tensor, Tensor] | None = None,
    process: Process = SINGLE,
    fixed_sizes: bool = False,
    splits: dict[str, range] | None = None,
) -> Setup:
    """Choose sizes, probe their memory and pace, fit them to the machine, and share them among the processes.

    Args:
        config: the run's.
        market: its market.
        normaliser: of a checkpoint; None to fit one on the training range.
        process: which of the run's processes this is.
        fixed_sizes: the sizes are a checkpoint's, so a lack of memory may change them, but not a slow pace.
        splits: rows of the market by range, 'train', 'validation' and 'test'; default: by the configuration's dates.

    Raises:
        UserError: a range is too short, the device is not available, or the regime table is too large.
    """
    request = _choose(config, market, splits or split_rows(config, market), normaliser, process)
    budgets = _budgets(request, process)
    plan, pace, kernels, wrong_kernels = _probe(request, budgets, process)
    sizes, plan, warnings = _fit(request, plan, None if fixed_sizes else pace, process)
    total = total_timesteps(config, sizes.n_envs, sizes.n_steps)
    notes = (*request.notes, wrong_kernels, *warnings, note_on_learning(sizes, total, config.ppo_epochs))
    annealing = total if config.anneal_steps is None else config.anneal_steps
    return Setup(
        config=config.model_copy(update={**asdict(sizes), **learning_rates(config), "anneal_steps": annealing}),
        environment=request.environment,
        training_environment=request.training_environment,
        normaliser=request.normaliser,
        feature_range=request.trained_on.feature_range(),
        splits=request.splits,
        sizes=sizes,
        sequence_length=request.sequence_length,
        memory=plan,
        pace=pace,
        total_timesteps=total,
        device=request.device,
        value_scale=request.value_scale,
        windows=_share(sizes, config.portfolios_per_window, budgets, process),
        autocast_dtype=request.autocast_dtype,
        recurrent_kernels=kernels,
        process=process,
        notes=tuple(x for x in notes if x),
    )


@dataclass(frozen=True)
class Judgement:
    """What it takes to judge a saved model: no sizes, and nothing is tried."""

    environment: Environment
    splits: dict[str, range]
    device: torch.device


def prepare_judgement(
    config: Config, market: MarketTensors, normaliser: tuple[Tensor, Tensor], strength: float = 1.0
) -> Judgement:
    """The ranges and the environment in which a saved model sees what it saw in training.

    Args:
        config: dates and costs.
        market: of the model's regimes.
        normaliser: the model's.
        strength: how far it is followed.

    Raises:
        UserError: a range is too short, or the device is not there.
    """
    device, splits = pick_device(config.device), split_rows(config, market)
    shown = normalise(market.with_strength(strength), *normaliser).to(device)
    environment = make_environment(config, shown, splits["train"])
    return Judgement(environment, splits, device)


@dataclass(frozen=True)
class _Request:
    """The requested run, before it is known what fits. The fields are those of `Setup`."""

    config: Config
    sizes: Sizes
    sequence_length: int
    device: torch.device
    splits: dict[str, range]
    normaliser: tuple[Tensor, Tensor]
    environment: Environment
    training_environment: Environment
    trained_on: TrainedOn
    value_scale: float
    autocast_dtype: torch.dtype | None
    notes: tuple[str | None, ...]

    @property
    def total_timesteps(self) -> int:
        """Environment steps of the whole run with the sizes asked for."""
        return total_timesteps(self.config, self.sizes.n_envs, self.sizes.n_steps)


def _choose(
    config: Config,
    market: MarketTensors,
    splits: dict[str, range],
    normaliser: tuple[Tensor, Tensor] | None,
    process: Process,
) -> _Request:
    """Choose the device and the sizes, and make the environment from them.

    Raises:
        UserError: see `prepare_run`.
    """
    device = pick_device(config.device, process.local_rank)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # kernels and recordings go to the current one
    check_market(market, config, process)
    sizes, notes = choose_sizes(config, device, process.collective.size)
    stretches = stretches_of(config, splits["train"])
    trained_on = markets_to_train_on(config, market, splits["train"], stretches)
    moments = normaliser or trained_on.normaliser()
    environment = make_environment(config, normalise(market, *moments).to(device), splits["train"])
    trains_in = trained_on.environment(environment, moments, config.cost_multipliers)
    training_environment, slow = settle_environment(replace(trains_in, fused=config.fused))
    if trains_in is environment:
        environment = training_environment
    else:  # other assets or costs are other kernels
        environment, _ = settle_environment(replace(environment, fused=training_environment.fused))
    dtype, no_amp = pick_autocast(config, device)
    leaks = (finding for finding in market.findings if finding.startswith(LEVEL_LEAK))
    return _Request(
        config=config.model_copy(update=asdict(sizes)),
        sizes=sizes,
        sequence_length=sequence_length(config, sizes, device),
        device=device,
        splits=splits,
        normaliser=moments,
        environment=environment,
        training_environment=training_environment,
        trained_on=trained_on,
        value_scale=value_scale(*names_trained_on(market, stretches or (splits["train"],)), config.gamma),
        autocast_dtype=dtype,
        notes=(process.note, *leaks, *notes, no_amp, slow),
    )


def _budgets(request: _Request, process: Process) -> list[float]:
    """Bytes that each process may take beside its markets. Processes on one machine share its main memory."""
    machine = platform.node()
    n_here = process.gather_each(machine).count(machine)
    return process.gather_each(memory_budget(request.config, request.device, n_here))


def _probe(
    request: _Request, budgets: list[float], process: Process
) -> tuple[MemoryPlan, Pace | None, Kernels, str | None]:
    """Try small iterations with a policy of the run's own kind.

    Returns:
        The memory plan of this process, the pace, the recurrent kernels, and a note for the user on them, or None.
    """
    config, dtype = request.config, request.autocast_dtype
    with enough_memory():
        policy = make_policy(config, request.environment, request.value_scale)
    kernels, wrong_kernels = settle_recurrence(policy, dtype, fused=config.fused)
    trial = Trial(
        environment=request.training_environment,
        policy=policy,
        hyper=hyperparameters(config),
        precision=Precision(dtype, request.device.type),
        n_steps=request.sizes.n_steps,
        sequence_length=request.sequence_length,
    )
    budget = budgets[process.collective.rank]
    share = budget / sum(budgets)
    n_actions = request.environment.market.regimes.n_actions
    with enough_memory():
        probe = probe_iteration(trial)
        pace = _measure_pace(trial, request, share, process) if request.device.type == "cpu" else None
    plan = make_plan(probe, policy, n_actions, critic_epochs=config.critic_epochs, budget=budget, share=share)
    return plan, pace, kernels, wrong_kernels


def _measure_pace(trial: Trial, request: _Request, share: float, process: Process) -> Pace:
    """The pace of the run, which is that of its slowest process. All processes get the same one.

    Raises:
        UserError: memory runs out.
    """
    n_envs = max(int(share * request.sizes.n_envs), 1)

    def measure() -> Pace:
        return slowest(process.gather_each(measure_pace(trial, n_envs).times(share)))

    pace = measure()
    if is_far_beyond(pace.seconds(min(request.sizes.samples, request.total_timesteps))):
        pace = fastest([pace, measure()])  # a single disturbance must not change a run's sizes
    return pace


def _fit(
    request: _Request, plan: MemoryPlan, pace: Pace | None, process: Process
) -> tuple[Sizes, MemoryPlan, tuple[str | None, str | None]]:
    """The sizes that fit into two minutes (if a pace is given) and into the memory of every process.

    Time comes first, because fewer environments may make the sacrifices for memory unnecessary.

    Returns:
        The sizes, the same in all processes; this process's plan for them; and the warnings on time and memory.
    """
    sizes, too_slow, per_window = request.sizes, None, request.config.portfolios_per_window
    if pace is not None:
        n_processes = process.collective.size
        sizes, too_slow = fit_to_time(sizes, pace, per_window, total=request.total_timesteps, n_processes=n_processes)
    sizes, plan, too_large = fit_to_memory(sizes, plan, per_window)
    # Each process sees its own memory, and all must take the same sizes, so the smallest ones count, with their warning.
    everyone = process.gather_each((sizes.n_envs, sizes.batch_size, too_large or ""))
    too_large = min(everyone, key=lambda outcome: (outcome[0], outcome[1], not outcome[2]))[2]
    n_envs, batch_size, _ = zip(*everyone, strict=True)
    return replace(sizes, n_envs=min(n_envs), batch_size=min(batch_size)), plan, (too_slow, too_large)


def _share(sizes: Sizes, per_window: int, budgets: list[float], process: Process) -> range:
    """The windows of this process.

    Raises:
        UserError: there are fewer windows than processes.
    """
    n_windows = sizes.n_envs // per_window
    if n_windows < len(budgets):
        raise UserError(f"n_envs ({sizes.n_envs}) gives {len(budgets)} processes fewer than one window each; raise it.")
    return split_windows(n_windows, budgets)[process.collective.rank]
