"""From a configuration and a market to everything a run needs, and the plan that says so before it starts."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.config import Config
from tactician.environment import (
    MAX_REGIMES,
    OBS_DIM,
    Environment,
    MarketTensors,
    fit_normaliser,
    load_market,
    normalise,
)
from tactician.errors import UserError
from tactician.learning import Hyperparameters
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tactician.training.duration import n_iterations, total_timesteps

_GPU_ENVS, _CPU_ENVS = 16_384, 512
"""Default environments: the specification's conservative setting, and where two cores reach their full rate."""

_MEMORY_OVERHEAD = 1.5


@dataclass(frozen=True)
class Setup:
    """All that stays the same during a run."""

    config: Config
    environment: Environment
    """Market features normalised on the training range; episodes inside it."""
    normaliser: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]
    splits: dict[str, range]
    hyper: Hyperparameters
    n_envs: int
    total_timesteps: int
    device: torch.device
    value_scale: float

    @property
    def n_windows(self) -> int:
        """Windows of days, each with ``portfolios_per_window`` portfolios."""
        return self.n_envs // self.config.portfolios_per_window

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return n_iterations(self.total_timesteps, self.n_envs, self.config.n_steps)

    def make_policy(self) -> ActorCritic:
        """A fresh policy, the same for the same seed."""
        generator = torch.Generator().manual_seed(self.config.seed)
        policy = ActorCritic(
            OBS_DIM,
            self.environment.market.regimes.n_actions,
            hidden_dim=self.config.hidden_dim,
            n_gru_layers=self.config.n_gru_layers,
            dropout=self.config.dropout,
            value_scale=self.value_scale,
            generator=generator,
        )
        return policy.to(self.device)


def load_cached_market(config: Config, rebuild: str) -> MarketTensors:
    """Read the configuration's market cache, with the configuration's regime table.

    Args:
        config: the run's.
        rebuild: the command that makes the cache.

    Raises:
        UserError: missing, damaged, or built from other settings.
    """
    market = load_market(config.cache, cache_key(config), rebuild)
    return market.with_regimes(config.regimes, config.groups)


def cache_key(config: Config) -> dict[str, str]:
    """The settings that shape a market cache; one built with others is refused."""
    return {
        "universe": " ".join(config.symbols),
        "start": str(config.start),
        "end": str(config.end),
        "cash_rate": str(config.cash_rate),
        "calendar": config.calendar,
        "listing_warmup": str(config.listing_warmup),
    }


def prepare_run(config: Config, market: MarketTensors) -> Setup:
    """Split, normalise and check.

    Raises:
        UserError: a range is too short, the device is not there, or the regime table is too large.
    """
    device = pick_device(config.device)
    if market.regimes.n_actions > MAX_REGIMES:
        raise UserError(f"The regime table '{config.regimes}' has more than {MAX_REGIMES} regimes; use fewer groups.")
    splits = split_rows(config, market)
    mean, std = fit_normaliser(market, splits["train"])
    environment = Environment(
        market=normalise(market, mean, std).to(device),
        frictions=frictions(config),
        rows=splits["train"],
        episode_length=config.episode_length,
        portfolios_per_window=config.portfolios_per_window,
        portfolio_value=config.portfolio_value,
        first_holdings=config.first_holdings,
        seed=config.seed,
    )
    n_envs = config.n_envs or (_GPU_ENVS if device.type == "cuda" else _CPU_ENVS)
    return Setup(
        config=config,
        environment=environment,
        normaliser=(mean, std),
        splits=splits,
        hyper=Hyperparameters(**{f.name: getattr(config, f.name) for f in fields(Hyperparameters)}),
        n_envs=n_envs,
        total_timesteps=total_timesteps(config, n_envs),
        device=device,
        value_scale=_value_scale(market, splits["train"], config.gamma),
    )


def split_rows(config: Config, market: MarketTensors) -> dict[str, range]:
    """Rows of the training, validation and test ranges: no reward crosses from one into the next.

    Raises:
        UserError: the training range has no room for one episode, or another range has fewer than two sessions.
    """
    splits = {
        "train": market.rows(None, config.train_until),
        "validation": market.rows(config.train_until, config.validation_until),
        "test": market.rows(config.validation_until, None),
    }
    if len(splits["train"]) < config.episode_length:
        raise UserError(
            f"The training range up to train_until ({config.train_until}) has {len(splits['train'])} usable sessions, too "
            f"few for one episode of {config.episode_length}; start earlier, move train_until or lower episode_length."
        )
    for name, key in (("validation", "validation_until"), ("test", "end")):
        if len(splits[name]) < 2:
            raise UserError(
                f"The {name} range has {len(splits[name])} sessions, and the bars end on "
                f"{market.date_of(market.n_days - 1)}; move train_until, validation_until or {key}."
            )
    return splits


def frictions(config: Config) -> Frictions:
    """The configuration's trading costs."""
    return Frictions(**{f.name: getattr(config, f.name) for f in fields(Frictions)})


def pick_device(name: str) -> torch.device:
    """The device by name; 'auto' takes a GPU where there is one.

    Raises:
        UserError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name} is not available on this machine; use auto or cpu.") from error
    return device


def bytes_per_sample(obs_dim: int, n_actions: int) -> int:
    """The specification's estimate: observation, action, log-probability, value, reward, done flag and logits."""
    return 4 * obs_dim + 8 + 4 + 4 + 4 + 1 + 4 * n_actions


def plan(setup: Setup) -> dict[str, Any]:
    """What the run would do, as plain values for JSON and for the eye."""
    market, config = setup.environment.market, setup.config
    n_actions = market.regimes.n_actions
    per_sample = bytes_per_sample(OBS_DIM, n_actions)
    samples = setup.n_envs * config.n_steps
    policy = setup.make_policy()
    return {
        "assets": [*market.symbols, "CASH"],
        "regimes": list(market.regimes.names),
        "obs_dim": OBS_DIM,
        "n_actions": n_actions,
        "n_params": sum(p.numel() for p in policy.parameters()),
        "n_envs": setup.n_envs,
        "n_steps": config.n_steps,
        "batch_size": config.batch_size,
        "total_timesteps": setup.total_timesteps,
        "iterations": setup.iterations,
        "bytes_per_sample": per_sample,
        "memory": {
            "samples": samples,
            "overhead": _MEMORY_OVERHEAD,
            "rollout_gb": round(per_sample * samples * _MEMORY_OVERHEAD / 1e9, 3),
        },
        "device": str(setup.device),
        "splits": {
            name: {
                "first": str(market.date_of(rows.start)),
                "last": str(market.date_of(rows.stop - 1)),
                "sessions": len(rows),
            }
            for name, rows in setup.splits.items()
        },
        "data_fingerprint": market.fingerprint,
    }


def _value_scale(market: MarketTensors, rows: range, gamma: float) -> float:
    """Standard deviation of the discounted rewards of equal weight if its days were independent: 100·σ/√(1 − γ²).

    The scale on which the value head works, so that value errors and learning rates mean the same in every market.
    """
    tradable = market.tradable[rows.start : rows.stop]
    returns = market.returns[rows.start : rows.stop]
    daily = torch.where(tradable, returns, 0.0).sum(-1) / tradable.sum(-1).clamp(min=1)
    return max(100 * float(daily.double().std()) / (1 - gamma**2) ** 0.5, 1e-3)
