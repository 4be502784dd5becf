"""The trainings of the learnability study: markets × variants × seeds, each with its settings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tactician.config import Config
from tactician.errors import UserError
from tactician.synthetic import PROBLEMS, Problem, observable_regime
from tactician.training.lineage import HARMLESS
from tactician.training.resume import OF_DATA

SMALL: dict[str, Any] = {
    "hidden_dim": 64,
    "n_gru_layers": 1,
    "dropout": 0.0,
    "n_envs": 128,
    "n_steps": 64,
    "episode_length": 256,
    "batch_size": 2048,
    "portfolios_per_window": 8,
    "baseline": "window",
}
"""The small network, and sizes that suit two CPU cores."""

VARIANTS: dict[str, dict[str, Any]] = {
    "window": {},
    "critic": {"portfolios_per_window": 1, "baseline": "critic"},
    "no memory": {"n_gru_layers": 0},
    "no critic epochs": {"critic_epochs": 0},
    "one learning rate": {"critic_lr": "=actor_lr"},
    "lambda 0": {"gae_lambda": 0.0},
    "lambda 1": {"gae_lambda": 1.0},
    "no cost warm-up": {"cost_warmup": 0},
}
"""What each changes of the first. 'critic' is the specification's arrangement, the others are ablations; '=' takes another
key's value."""

_LAWS = 1
"""Must be raised when a market's law changes. Then trainings on the former law no longer count."""

UNLESS_SAID: dict[str, Any] = {"anneal_steps": 0, "decide_coef": 0.0}
"""Where a training of the study differs from the defaults: its markets anneal only if their settings say so."""

_DEFAULTS = {name: field.default for name, field in Config.model_fields.items()} | UNLESS_SAID
_ELSEWHERE = HARMLESS | OF_DATA
"""Keys that no training of the study depends on. Its markets are made, not read."""
_SINCE = {"network": "recurrent", "decide_coef": 0.0}
"""Keys that came after the first trainings were stored, with the value that these had: it does not tell a training apart."""

MARKETS: dict[str, dict[str, Any]] = {
    "oracle": {"timesteps": 400_000},
    "observable": {"timesteps": 200_000},
    "hidden": {"timesteps": 400_000},
    "regimes": {
        "n_envs": 256,
        "batch_size": 4096,
        "timesteps": 1_500_000,
        "anneal_steps": 1_500_000,
        "hold_prior": 0.8,
        "cost_warmup": 300_000,
        "entropy_coef": 0.02,
        "actor_lr": 1.5e-3,
        "critic_lr": 3e-3,
    },
    "null": {"timesteps": 200_000},
    "predictable": {
        "n_envs": 512,
        "batch_size": 8192,
        "timesteps": 4_000_000,
        "anneal_steps": 4_000_000,
        "entropy_coef": 0.15,
        "gamma": 0.9,
        "actor_lr": 2e-3,
        "critic_lr": 3e-3,
    },
}
"""The settings of each market's trainings, beside `SMALL`."""

COST_SHARES = (0.5, 0.75, 0.9, 1.1, 1.5)
"""One-way costs of the sweep, as shares of the cost at which trading must stop."""

_SWEEP: dict[str, Any] = {"timesteps": 400_000, "hold_prior": 0.8, "cost_warmup": 150_000}
"""Settings of the sweep. A policy that begins at random stops trading before it knows what trading earns."""

SWEPT = "observable@"
"""Begins the name of a market of the sweep; the cost's share follows."""


@dataclass(frozen=True)
class Job:
    """One training of the study."""

    market: str
    """Its name; 'observable@0.75' is one of the cost sweep."""
    variant: str
    seed: int
    settings: tuple[tuple[str, Any], ...]
    """Changes of the market's settings."""

    @property
    def config(self) -> dict[str, Any]:
        """The training's configuration keys."""
        name, _, swept = self.market.partition("@")
        own = {**SMALL, **MARKETS[name], **(_SWEEP if swept else {}), **dict(self.settings)}
        return {**own, **_changes(self.variant, own), "seed": self.seed}

    @property
    def key(self) -> str:
        """Names the training by the market's law and by every setting that it depends on."""
        every = {**_DEFAULTS, **self.config}
        kept = {name: value for name, value in every.items() if name not in _ELSEWHERE or name in self.config}
        kept = {name: value for name, value in kept.items() if (name, value) not in _SINCE.items()}
        whole = json.dumps([_LAWS, self.market, kept], sort_keys=True, default=str)
        return f"{self.market} {self.seed} {hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def plan_study(
    markets: Sequence[str], variants: Sequence[str], seeds: int, sweep: bool, settings: Mapping[str, Any]
) -> list[Job]:
    """The trainings of a study, those that matter most first.

    Raises:
        UserError: there is no such market or variant.
    """
    for kind, names, known in (("market", markets, MARKETS), ("variant", variants, VARIANTS)):
        for name in names:
            if name not in known:
                raise UserError(f"There is no {kind} '{name}'; choose among: {', '.join(known)}.")
    changed, markets = tuple(sorted(settings.items())), tuple(dict.fromkeys(markets))
    jobs = [
        Job(m, v, seed, changed)
        for v in dict.fromkeys(variants)
        for seed in range(seeds)
        for m in markets
        if _changes_something(m, v)
    ]
    if sweep:
        jobs += [Job(f"{SWEPT}{share}", "window", seed, changed) for share in COST_SHARES for seed in range(seeds)]
    if not jobs:
        raise UserError(
            f"{', '.join(variants)} changes nothing on {', '.join(markets)}; name other markets or variants."
        )
    return jobs


def _changes(variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    known = {**_DEFAULTS, **settings}
    changes = VARIANTS[variant].items()
    return {key: known[x[1:]] if isinstance(x, str) and x.startswith("=") else x for key, x in changes}


def _changes_something(market: str, variant: str) -> bool:
    """Whether a variant differs from the first on a market. Most markets have no cost warm-up to leave out."""
    own = {**_DEFAULTS, **SMALL, **MARKETS[market]}
    return variant == next(iter(VARIANTS)) or any(own[key] != value for key, value in _changes(variant, own).items())


def make_problem(market: str, seed: int) -> Problem:
    """A market by its name in a study."""
    name, _, share = market.partition("@")
    return observable_regime(seed, float(share)) if share else PROBLEMS[name](seed)
