"""The trainings of the learnability study: markets × variants × seeds, each with its settings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tactician.config import Config
from tactician.errors import UserError
from tactician.synthetic import ALL_PROBLEMS, N_TRAIN, PROBLEMS, Problem, observable_regime
from tactician.training.lineage import HARMLESS
from tactician.training.resume import OF_DATA

SMALL: dict[str, Any] = {"hidden_dim": 64, "n_gru_layers": 1, "timesteps": 3_000_000}
"""Network and duration. Everything else is the configuration's default, the same on all markets."""

STEPS_ON_FEW_ROWS = 1_000_000
"""Duration on few rows. Longer trainings memorise more."""

FIRST_SEED = 30
"""Of a study. Seeds 0 to 14 served former settings, and those from 100 on the choice of the present defaults."""

VARIANTS: dict[str, dict[str, Any]] = {
    "window": {},
    "critic": {"portfolios_per_window": 1, "baseline": "critic"},
    "no memory": {"n_gru_layers": 0},
    "no critic epochs": {"critic_epochs": 0},
    "one learning rate": {"critic_lr": 1.2e-3},
    "lambda 0": {"gae_lambda": 0.0},
    "lambda 1": {"gae_lambda": 1.0},
    "no sharpening": {"sharpening": 1.0},
    "first policy uniform": {"hold_prior": 0.0},
    "market memory": {"network": "market_memory"},
}
"""What each changes of the first. 'critic' is the specification's arrangement, the others are ablations. The one learning
rate is the actor's at this width."""

METHODS: dict[str, dict[str, Any]] = {
    "window": {},
    "former defaults": {"weight_decay": 0.0, "encoder_layers": 2, "entropy_coef": 0.1},
    "no weight decay": {"weight_decay": 0.0},
    "encoder of two layers": {"encoder_layers": 2},
    "entropy 0.1": {"entropy_coef": 0.1},
    "dropout 0.3": {"dropout": 0.3},
    "16 units": {"hidden_dim": 16},
    "32 per window": {"portfolios_per_window": 32},
    "bootstrap": {"bootstrap_markets": 4},
    "drawn costs": {"cost_multipliers": (0.5, 3.0)},
    "softmin": {"objective": "softmin"},
    "no dropout": {"dropout": 0.0},
    "market memory": {"network": "market_memory", "portfolios_per_window": 32},
    "ensemble": {"members": 8},
}
"""Of a study on few rows: methods against memorising, each beside the defaults."""

_FEWEST_ROWS = 1000

_LAWS = 1
"""Must be raised when a market's law changes. Then trainings on the former law no longer count."""

_DEFAULTS = {name: field.default for name, field in Config.model_fields.items()}
_ELSEWHERE = HARMLESS | OF_DATA
"""Keys that no training of the study depends on. Its markets are made, not read."""
_SINCE = {"network": "recurrent", "encoder_layers": 2, "held_out_names": 0, "held_out_seed": 0}
"""Keys that came after the first trainings were stored, with the value that these had: it does not tell a training apart."""

COST_SHARES = (0.5, 0.75, 0.9, 1.1, 1.5)
"""One-way costs of the sweep, as shares of the cost at which trading must stop."""

SWEPT = "observable@"
"""Begins the name of a market of the sweep; the cost's share follows."""

FEW_ROWS = "#"
"""Between the name of a market and the number of its rows that are trained on."""

FIRST_SEED_OF_FEW = 40
"""Of a study on few rows. Its methods were chosen on seeds from 100 on."""


@dataclass(frozen=True)
class Job:
    """One training of the study."""

    market: str
    """Its name; 'observable@0.75' is one of the cost sweep, and 'regimes#4000' has 4,000 rows for training."""
    variant: str
    seed: int
    settings: tuple[tuple[str, Any], ...]
    """Changes of `SMALL` and of the defaults."""

    @property
    def config(self) -> dict[str, Any]:
        """The training's configuration keys."""
        few = FEW_ROWS in self.market
        changes = METHODS if few else VARIANTS
        steps = {"timesteps": STEPS_ON_FEW_ROWS} if few else {}
        return {**SMALL, **steps, **dict(self.settings), **changes[self.variant], "seed": self.seed}

    @property
    def members(self) -> int:
        """Agents that are trained; more than one are an ensemble."""
        return int(self.config.get("members", 1))

    @property
    def key(self) -> str:
        """Names the training by the market's law and by every setting that it depends on."""
        every = {**_DEFAULTS, **self.config}
        kept = {name: value for name, value in every.items() if name not in _ELSEWHERE or name in self.config}
        kept = {name: value for name, value in kept.items() if (name, value) not in _SINCE.items()}
        whole = json.dumps([_LAWS, self.market, kept], sort_keys=True, default=str)
        return f"{self.market} {self.seed} {hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def plan_study(
    markets: Sequence[str],
    variants: Sequence[str],
    seeds: int,
    sweep: bool,
    settings: Mapping[str, Any],
    rows: int | None = None,
    first_seed: int | None = None,
) -> list[Job]:
    """The trainings of a study, those that matter most first.

    Args:
        markets: their names; empty for all, without the harder versions if all rows are trained on.
        variants: their names.
        seeds: trainings per market and variant.
        sweep: also train at costs across the threshold.
        settings: changes of `SMALL` and of the defaults.
        rows: that are trained on; None for all.
        first_seed: of the trainings; None for one that no setting was chosen on.

    Raises:
        UserError: there is no such market or variant, or the markets have fewer rows.
    """
    markets = tuple(markets) or tuple(PROBLEMS if rows is None else ALL_PROBLEMS)
    if rows is not None and not _FEWEST_ROWS <= rows <= N_TRAIN:
        raise UserError(
            f"--rows {rows:,} cannot be: the markets have {N_TRAIN:,} rows for training; give {_FEWEST_ROWS:,} or more."
        )
    for kind, names, known in (
        ("market", markets, ALL_PROBLEMS),
        ("variant", variants, VARIANTS if rows is None else METHODS),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"There is no {kind} '{name}'; choose among: {', '.join(known)}.")
    changed, markets = tuple(sorted(settings.items())), tuple(dict.fromkeys(markets))
    first = first_seed or (FIRST_SEED if rows is None else FIRST_SEED_OF_FEW)
    numbers = range(first, first + seeds)
    if rows is not None:
        markets = tuple(f"{market}{FEW_ROWS}{rows}" for market in markets)
    jobs = [Job(m, v, seed, changed) for v in dict.fromkeys(variants) for seed in numbers for m in markets]
    if sweep:
        jobs += [Job(f"{SWEPT}{share}", "window", seed, changed) for share in COST_SHARES for seed in numbers]
    return jobs


def make_problem(market: str, seed: int) -> Problem:
    """A market by its name in a study."""
    name, _, rows = market.partition(FEW_ROWS)
    name, _, share = name.partition("@")
    problem = observable_regime(seed, float(share)) if share else ALL_PROBLEMS[name](seed)
    return problem.with_training_rows(int(rows)) if rows else problem
