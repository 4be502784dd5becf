"""A saved model as its user takes it: what decides, what it was trained for, and a name for exactly this model."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from tactician.config import Config
from tactician.environment import FEATURE_VERSION, MarketTensors, Names, TrainingDays, feature_range, normalise
from tactician.errors import UserError
from tactician.evaluation import Found
from tactician.policy import Network, settle_recurrence
from tactician.portfolio.regimes import names_shown, regime_table
from tactician.storage import checksum
from tactician.trading.advice import Advisor
from tactician.training.checkpoint import load_policy
from tactician.training.markets import make_environment
from tactician.training.saved import check_meaning, judged_settings, names_beside


@dataclass(frozen=True)
class ModelInUse:
    """See the module."""

    path: Path
    config: Config
    """Of its training, on the CPU; a file may have changed source, universe, costs and dates."""
    policy: Network
    normaliser: tuple[Tensor, Tensor]
    feature_range: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]] | None
    """Lowest and highest value of each market feature in training; None in models of before it was kept."""
    training_days: TrainingDays | None
    """None in models of before they were kept."""
    names: Names
    """The universe of ``config`` beside that of the training."""
    regime_names: tuple[str, ...]
    observation_names: tuple[str, ...]
    found: Found | None = None
    """What the members of an ensemble found on held-out days."""

    @property
    def strength(self) -> float:
        """How far targets go from equal weight to the model's own."""
        return 1.0 if self.found is None else self.found.strength

    @property
    def regimes_shown(self) -> tuple[str, ...]:
        """The regimes' names as its advice has them."""
        return names_shown(self.regime_names, self.strength)

    @property
    def identity(self) -> str:
        """sha256 of weights, normaliser, universe, regimes and features: another one decides otherwise."""
        return checksum(
            {
                "weights": self.policy.state_dict(),
                "normaliser": self.normaliser,
                "symbols": self.config.symbols,
                "regimes": self.regime_names,
                "observations": self.observation_names,
                "features": FEATURE_VERSION,
                **({} if self.found is None else {"strength": self.strength}),
            }
        )

    def advisor(self, market: MarketTensors) -> Advisor:
        """What decides on a market.

        Raises:
            UserError: the model chooses among other regimes there, or observes something else.
        """
        content = {"regime_names": list(self.regime_names), "observation_names": list(self.observation_names)}
        check_meaning(self.path, content, market.regimes.names)
        if tuple(market.symbols) != self.config.symbols:
            raise UserError(
                f"These bars hold another universe than {self.path} was trained on; name theirs with --config FILE."
            )
        # Episodes are never drawn, so the range only has to be long enough.
        shown = normalise(market.with_strength(self.strength), *self.normaliser)
        environment = make_environment(self.config, shown, range(1, market.n_days))
        known = self.feature_range
        if known is None and not self.names.is_other:
            known = _range_in_training(self.config, market)
        return Advisor(
            environment,
            (self.policy,),
            market,
            known,
            self.identity,
            training=self.training_days,
            names=self.names,
            found=self.found,
        )


def model_in_use(path: Path, file: Config | None = None, bars: str | None = None) -> ModelInUse:
    """Read a saved model.

    Args:
        path: its file.
        file: another market, such as another universe, or other costs; None for the model's own.
        bars: another source; None for the model's own.

    Raises:
        UserError: the file is no model of this version, or chooses among other regimes on the market of ``file``.
    """
    loaded = load_policy(path)
    content = loaded.content
    for key in ("regime_names", "observation_names"):
        if key not in content:
            raise UserError(f"{path} does not name its {key.split('_')[0]}s; resume training from it once.")
    if content.get("feature_version", FEATURE_VERSION) != FEATURE_VERSION:
        raise UserError(f"{path} was trained with another version of the features; train the model anew.")
    config = judged_settings(content, path, file)
    # Told before any bar is downloaded.
    check_meaning(path, content, regime_table(config.regimes, config.symbols, config.groups).names)
    changed = {"device": "cpu", **({} if bars is None else {"bars": bars})}
    config = config.model_copy(update=changed)
    settle_recurrence(loaded.policy)
    kept = content.get("feature_range")
    return ModelInUse(
        path=path,
        config=config,
        policy=loaded.policy,
        normaliser=(content["normaliser"]["mean"], content["normaliser"]["std"]),
        feature_range=None if kept is None else (kept["low"], kept["high"]),
        training_days=TrainingDays.kept_in(content),
        names=names_beside(content, path, config.symbols),
        regime_names=tuple(content["regime_names"]),
        observation_names=tuple(content["observation_names"]),
        found=loaded.found,
    )


def _range_in_training(config: Config, market: MarketTensors) -> tuple[Tensor, Tensor] | None:
    """Of a model that did not keep it: from the sessions of its training that these bars hold; None if they hold none."""
    rows = market.rows(None, config.train_until)
    return feature_range(market, rows) if len(rows) else None
