"""The one configuration object: a YAML file, the command line's flags, their help and the checkpoint's record.

A key of the YAML file is a field below; its flag is the same name with dashes (``hidden_dim`` and ``--hidden-dim``).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from tactician.config_checks import check_consistency
from tactician.config_file import read_settings
from tactician.config_values import (
    CashRate,
    CostFactor,
    CostShare,
    Count,
    Day,
    Named,
    NonNegativeInt,
    Place,
    PositiveInt,
    SubSize,
    Whole,
    explain,
)
from tactician.errors import UserError


@dataclass(frozen=True)
class Section:
    """Marks the first key of a section: a group of flags in the help, a heading in docs/configuration.md."""

    name: str


class FileOnly:
    """Marks a key that has no flag: a command line has no sensible form for it, or only a few studies need it."""


DURATIONS = frozenset({"timesteps", "episodes", "iterations"})
"""Keys that say how long a run is; a flag for one of them replaces all."""


class Config(BaseModel):
    """Everything that decides what a run learns. Frozen; unknown keys are refused."""

    def __init__(self, **values: Any) -> None:
        """Validate settings.

        Raises:
            UserError: a key is unknown, a value cannot be, or two contradict one another.
        """
        source = values.pop("_source", "the settings")
        _refuse_unknown(values, source)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(explain(error, source)) from None
        check_consistency(self, source)

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    bars: Annotated[Place, Section("market")] = "yfinance"
    """Where prices come from: 'embedded' (20 US stocks, offline), 'yfinance', or a CSV/Parquet file or folder."""
    universe: Annotated[dict[str, tuple[str, ...]], FileOnly] = Field(min_length=1)
    """Symbols by group. CASH is always there and need not be named. The groups shape the static regime tables."""
    expanded_universe: Annotated[dict[str, tuple[str, ...]] | None, FileOnly] = None
    """The universe that --expanded takes instead."""
    expanded: bool = False
    """Use the expanded universe."""
    hindsight: Annotated[bool, FileOnly] = False
    """The universe was picked knowing how it would do. Every result says so. The embedded stocks always count as such."""
    expanded_hindsight: Annotated[bool, FileOnly] = False
    """The same of the expanded universe."""
    start: Day | None = None
    """First session to read."""
    end: Day | None = None
    """Last session to read."""
    train_until: Day
    """Last session of the training range. No training reward reaches beyond it."""
    validation_until: Day
    """Last session of the validation range, which picks the best model. The test range follows."""
    cash_rate: CashRate = 0.0
    """What cash earns: a constant annual rate from -0.05 to 0.3 (0.02 is 2 %), or a CSV/Parquet file of daily rates."""
    calendar: Annotated[str, Field(min_length=1)] = "XNYS"
    """Calendar of the exchange: its ISO 10383 code (XNYS, XLON, XBOM), '24/7' for markets that never close, or 'bars' for the
    sessions of the bars."""
    listing_warmup: Annotated[Whole, Field(ge=60)] = 60
    """Sessions of history that an asset needs before it can be held."""
    on_findings: Literal["repair", "strict"] = "repair"
    """What to do about faults of the bars: tell them and repair what needs no invented price (repair), or stop (strict)."""
    closes: Literal["adjusted", "as_traded"] = "adjusted"
    """What the closes of a file are. Adjusted closes know later splits, so only closes as traded give a size score and a
    traded value. Yahoo's closes are turned into closes as traded. The embedded closes are adjusted."""
    delisting_return: Annotated[float, Field(gt=-1, le=1)] = 0.0
    """Simple return from a delisted asset's last close to the cash that its holding becomes (-0.3: a loss of 30 %)."""
    cache_path: Named
    """The market cache that build-cache writes and train reads."""
    expanded_cache_path: Annotated[Named | None, FileOnly] = None
    """The market cache of the expanded universe."""

    regimes: Annotated[str, Field(min_length=1), Section("portfolio")] = "factor"
    """Table of portfolio regimes, the agent's actions: factor, static or expanded (docs/regimes.md)."""
    spread: CostShare = 0.0002
    """Bid-ask spread, as a fraction of the traded value."""
    slippage_max: CostShare = 0.0005
    """Largest slippage, as a fraction of the traded value. Training draws it from 0 to here; evaluation takes the mean."""
    impact: CostShare = 0.01
    """Market impact k in k·√(x/V)·x. x is the traded value of an asset, V the portfolio's value."""
    commission: CostShare = 0.0
    """Commission as a fraction of the traded value."""
    impact_adv: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Market impact b in b·σ·x·√(x/ADV). σ is the daily volatility, ADV the average daily traded value. Needs volumes."""
    impact_linear: Annotated[float, Field(ge=0, le=0.2), FileOnly] = 0.0
    """Market impact k in k·(x/V)·x, a cost quadratic in the trade."""
    portfolio_value: Annotated[float, Field(ge=1, le=1e15)] = 1_000_000.0
    """Value of the portfolio in currency, at least 1. It matters with impact_adv only."""

    n_envs: Annotated[Count | None, Section("environment")] = None
    """Simulated portfolios in parallel. Default: 16384 on a GPU (65536 with high_vram, 8192 with low_vram), 256 on a CPU."""
    portfolios_per_window: PositiveInt = 8
    """Portfolios that live through the same days. n_envs is a multiple of it. With 1, baseline must be 'critic'."""
    episode_length: PositiveInt = 256
    """Sessions per episode. Its end is a truncation, not a loss."""
    first_holdings: Literal["random", "cash"] = "random"
    """Holdings at the start of an episode: cash, equal weight or the weights of a regime, each as often (random), or cash. A
    verdict starts in cash, and its report from every start."""

    sub_universes: NonNegativeInt = 0
    """Further markets to train on: random sub-universes of the universe's names, kept in the market cache
    (docs/many_markets.md). 0: none."""
    sub_universe_size: Annotated[tuple[SubSize, SubSize], FileOnly] = (8, 20)
    """Least and largest number of names of a random sub-universe."""
    sub_universe_seed: Annotated[Whole, Field(ge=0, lt=2**63), FileOnly] = 0
    """Seed of the random sub-universes. They belong to the market cache, so they are the same for all seeds of a run."""
    more_universes: Annotated[dict[str, dict[str, tuple[str, ...]]], FileOnly] = {}
    """Further universes to train on, from the same source: symbols by group, by a name for each. They are kept in the cache."""
    held_out_names: NonNegativeInt = 0
    """Names of the universe that training never trades or sees, at least 3. The memorising gap tells what the model earns on
    them (docs/generalisation.md). 0: none."""
    held_out_seed: Annotated[Whole, Field(ge=0, lt=2**63), FileOnly] = 0
    """Seed of the held-out names. They belong to the market cache, so they are the same for all seeds of a run."""
    bootstrap_markets: NonNegativeInt = 0
    """Further markets to train on: the days of the training range in blocks of about 40, in another order each
    (docs/many_markets.md). 0: none."""
    cost_multipliers: Annotated[tuple[CostFactor, CostFactor], FileOnly] = (1.0, 1.0)
    """Least and largest factor of all costs in training. Each window draws one per episode, and observes the costs times it.
    (0.5, 3) is much; (1, 1) draws none. Validation, test and live use have the costs as they are."""

    network: Annotated[str, FileOnly, Field(min_length=1), Section("policy")] = "recurrent"
    """Kind of network: recurrent, whose memory is of market and portfolio, or market_memory, one memory for all portfolios of a
    window (docs/market_memory.md)."""
    hidden_dim: PositiveInt = 256
    """Width of the encoder and of the GRU."""
    encoder_layers: NonNegativeInt = 0
    """Layers with a ReLU before the GRU. 0 makes the encoder one linear map."""
    n_gru_layers: NonNegativeInt = 2
    """GRU layers. 0 makes a policy without memory."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout after the encoder and between GRU layers. One mask per portfolio and iteration, none in evaluation."""
    hold_prior: Annotated[float, Field(ge=0, lt=1), FileOnly] = 0.8
    """Probability of HOLD in the first policy; the other regimes share the rest. 0 makes all regimes equally likely."""

    objective: Annotated[Literal["growth", "mean_variance", "softmin"], Section("learning")] = "growth"
    """What is maximised (docs/learning.md): log growth, log growth less variance, or log growth of the worst windows."""
    risk_aversion: NonNegativeFloat = 1.0
    """λ of mean_variance, which counts beside the logarithm's own aversion of 1, or τ of softmin, per unit of log growth."""
    reward: Literal["net", "relative"] = "net"
    """What the critic predicts: growth net of costs, or the same less equal weight's growth, which no action changes."""
    n_steps: Count | None = None
    """Sessions per portfolio and iteration. Divides episode_length, or is a multiple of it. Default: 64, or the
    largest divisor of the episode below."""
    batch_size: Count | None = None
    """Samples per minibatch, in whole sequences. Default: 8192 on a GPU (262144 with high_vram), 4096 on a CPU."""
    bptt_length: PositiveInt | None = None
    """Sessions per training sequence. Gradients flow through one sequence, the recurrent state through all. Divides n_steps and
    episode_length, or is at least as long as one of them. Default: the largest divisor of both up to 64."""
    ppo_epochs: PositiveInt = 4
    """Passes over the rollout per iteration in which actor and critic learn together."""
    critic_epochs: NonNegativeInt = 4
    """Further passes in which only the critic learns."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Discount per session. 1/(1 − gamma) is how many sessions a decision looks ahead: 20, a month."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Bias-variance trade-off of the advantages: 0 is TD(0), 1 is Monte Carlo."""
    baseline: Literal["critic", "window"] = "window"
    """Subtracted from the return to make an advantage. 'critic': the critic's value. 'window': also the mean advantage of
    the window's other portfolios on the same day."""
    clip: PositiveFloat = 0.2
    """PPO clips the probability ratio to 1 ± this."""
    entropy_coef: NonNegativeFloat = 0.3
    """Weight of the entropy bonus."""
    value_coef: NonNegativeFloat = 0.5
    """Weight of the value loss in the joint update."""
    max_grad_norm: PositiveFloat = 0.5
    """Gradient norm, of actor and of critic, above which gradients are scaled down."""
    actor_lr: PositiveFloat | None = None
    """Learning rate of encoder, GRU and policy head. Default: 3e-4 · 256 / hidden_dim."""
    critic_lr: PositiveFloat | None = None
    """Learning rate of the value head. Default: 9e-4 · 256 / hidden_dim."""
    anneal_steps: Annotated[NonNegativeInt | None, FileOnly] = None
    """Environment steps over which both learning rates and the entropy bonus fall to a twentieth, in a straight line. 0 keeps
    them as they are. Default: the duration with which the run began, also if it is prolonged."""
    sharpening: Annotated[float, Field(ge=1, le=1000), FileOnly] = 8.0
    """Factor by which the policy's logits grow in the second half of the annealing, beside what they learn. Then the policy
    that was trained, which draws its regimes, does nearly what is judged: the most probable one. 1, or no annealing: none."""
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 10.0
    """Decay of the memory's weights: each update shrinks them by actor_lr times this. It hinders memorising."""
    target_kl: PositiveFloat | None = None
    """Mean KL divergence of an epoch above which the iteration's PPO epochs end. Default: they never end early."""

    timesteps: Annotated[Count | None, Section("training")] = None
    """Duration in environment steps. Goes before --episodes and --iterations."""
    episodes: Count | None = None
    """Duration in episodes: episodes × episode_length steps. Goes before --iterations."""
    iterations: Count | None = None
    """Duration in iterations: iterations × n_envs × n_steps steps."""
    members: PositiveInt = 1
    """Agents that are trained, each without a piece of the training range of its own. They act as one, as far as they earn
    more than equal weight on the pieces that they have not seen. 1: a single agent, without this evidence."""
    member: Annotated[PositiveInt | None, FileOnly] = None
    """Which of the members this run is; set by the run that trains them all."""
    checkpoint_dir: Named
    """Folder for all that a run writes: models, metrics, TensorBoard files, summary."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random in the run."""
    device: str = "auto"
    """Where to train: 'cpu', 'cuda', 'cuda:1' …; 'auto' takes a GPU where there is one."""
    validate_every: PositiveInt = 5
    """Iterations between two passes over the validation range. A run always ends with one."""
    best_by: Literal["growth", "score"] = "growth"
    """What picks the best model on the validation range: log growth net of costs, or the model score (docs/score.md)."""
    report: bool = True
    """End a run with the whole judgement and its page, which takes about half a minute. Otherwise it ends with the figures of
    the table alone, and `tactician evaluate` makes the page later."""
    save_every: PositiveInt | None = None
    """Iterations between two checkpoints. Default: as many as take about two minutes."""
    keep_checkpoints: PositiveInt = 3
    """Number of periodic checkpoints to keep. Best, final and interrupted ones are always kept."""
    max_dropped_updates: PositiveInt = 16
    """Updates in a row without a finite loss and gradient, after which a run saves its state and stops."""

    amp: Annotated[bool, Section("hardware")] = False
    """Mixed precision: forward passes in 16 bits where the hardware has units for them."""
    amp_dtype: Literal["auto", "bf16", "fp16"] = "auto"
    """16-bit format of --amp. 'auto' takes bf16 where the hardware has it, else fp16 with scaled losses."""
    fused: bool = True
    """On an NVIDIA GPU: kernels of our own, and recorded steps (docs/gpu.md). A CPU has no use for it."""
    multi_gpu: bool = False
    """One process per GPU of this machine. Under torchrun: as many as it starts."""
    high_vram: bool = False
    """Sizes for GPUs of 50 GB and more: 65536 environments, minibatches of 262144."""
    low_vram: bool = False
    """Sizes for a GPU of 8 GB: 8192 environments."""
    max_vram_gpu0: PositiveFloat = 45.0
    """GB of the first GPU's memory that a run may take."""
    max_vram_gpu1: PositiveFloat = 20.0
    """GB of every other GPU's memory that a run may take."""

    @field_validator("*", mode="before")
    @classmethod
    def _only_a_switch_is_true_or_false(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take true for 1 and false for 0."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError(
                "boolean",
                "what belongs there is a number, a date or text; YAML reads yes, no, on and off as true and false, so put "
                "text in quotes",
            )
        return value

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The universe in force, by group, without CASH."""
        chosen = self.expanded_universe if self.expanded else self.universe
        if chosen is None:
            raise UserError("--expanded needs a key 'expanded_universe' in the configuration file; add it there.")
        named = {name: tuple(s for s in symbols if s != "CASH") for name, symbols in chosen.items()}
        return {name: symbols for name, symbols in named.items() if symbols}

    @property
    def symbols(self) -> tuple[str, ...]:
        """The risky symbols of the universe in force, in file order, each once."""
        return tuple(dict.fromkeys(s for symbols in self.groups.values() for s in symbols))

    @property
    def picked_with_hindsight(self) -> bool:
        """What the file says of the universe in force; a source may say it too (`tactician.bars.Source`)."""
        return self.expanded_hindsight if self.expanded else self.hindsight

    @property
    def cache(self) -> Path:
        """The cache file of the universe in force."""
        if self.expanded and self.expanded_cache_path is not None:
            return self.expanded_cache_path
        return self.cache_path


def sections() -> dict[str, dict[str, FieldInfo]]:
    """The keys by section, in the order of the fields."""
    by_name: dict[str, dict[str, FieldInfo]] = {}
    name = ""
    for key, field in Config.model_fields.items():
        name = next((mark.name for mark in field.metadata if isinstance(mark, Section)), name)
        by_name.setdefault(name, {})[key] = field
    return by_name


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and validate a YAML file.

    Args:
        path: the file, or the name of a packaged configuration.
        overrides: values by field name that replace the file's.

    Raises:
        UserError: the file is missing or is no YAML mapping, a key is unknown, or a value has the wrong type. The message
            names the nearest known key.
    """
    return make_config({**read_settings(path), **(overrides or {})}, source=str(path))


def make_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate settings that came from ``source`` (a file name or 'the command line').

    Raises:
        UserError: names the first key at fault, what was given and what is expected.
    """
    return Config(**values, _source=source)


def _refuse_unknown(values: Mapping[str, Any], source: str) -> None:
    for key in values:
        if key not in Config.model_fields:
            near = difflib.get_close_matches(str(key), Config.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else "`tactician train --help` lists the known ones."
            raise UserError(f"{source}: unknown key '{key}'; {hint}")


def override(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some replaced.

    A duration replaces all durations, which would otherwise go before it. A cache path counts whatever the universe.
    """
    given = dict(given)
    if any(given.get(name) is not None for name in DURATIONS):
        given = {**dict.fromkeys(DURATIONS), **given}
    if "cache_path" in given:
        given = {"expanded_cache_path": None, **given}
    return {**values, **given}
