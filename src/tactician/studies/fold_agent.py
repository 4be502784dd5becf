"""Who acts in a fold's test piece: a single model, or an ensemble that is followed as far as its held-out pieces allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tactician.config import Config
from tactician.environment import OBS_DIM, Environment, MarketTensors, normalise
from tactician.evaluation import Found, Piece, Turn, difference, evaluate, hold_equal_weight
from tactician.evaluation.backtest import Path
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT
from tactician.hardware.device import pick_device
from tactician.policy import Ensemble, Network, settle_recurrence
from tactician.studies.fold_job import found_by, load_model
from tactician.studies.folds import Fold
from tactician.studies.walk_forward import Results, Study
from tactician.training.deployed import Deployed, Lived, deployed_gap
from tactician.training.held_out import growth_on_held_out_names, on_trained_names
from tactician.training.markets import make_environment
from tactician.training.memorising import memorising_gap


@dataclass(frozen=True)
class FoldAgent:
    """The models of a fold, and how far they are followed."""

    fold: Fold
    seeds: tuple[Network, ...]
    together: Network
    """The single model, or the ensemble of all seeds."""
    normaliser: tuple[Tensor, Tensor]
    """Mean and standard deviation of each feature; all seeds of a fold share it."""
    found: Found | None
    """What the seeds found on the pieces that they left out; None for a single one, which is followed all the way."""

    @property
    def strength(self) -> float:
        """How far it is followed, in [0, 1]; with 0 it holds equal weight."""
        return 1.0 if self.found is None else self.found.strength

    def environment(
        self, config: Config, market: MarketTensors, train: range, strength: float | None = None
    ) -> Environment:
        """A market as the models see it, and as far as they are followed.

        Args:
            config: costs, length of episodes and device.
            market: not normalised; that of the training, or another of the same regimes.
            train: rows on which episodes lie.
            strength: how far the models are followed; default: as far as they are deployed.
        """
        strength = self.strength if strength is None else strength
        shown = normalise(market.with_strength(strength), *self.normaliser)
        return make_environment(config, shown.to(pick_device(config.device)), train)

    def policy(self, market: MarketTensors, strength: float | None = None) -> Network:
        """Who decides: the models together, or with a strength of 0 one that holds equal weight."""
        if self.strength if strength is None else strength:
            return self.together
        return hold_equal_weight(OBS_DIM, market.regimes.names).to(next(self.together.parameters()).device)

    def turn(self, config: Config, market: MarketTensors) -> Turn:
        """The fold's test piece as the judge takes it."""
        fold = self.fold
        env = self.environment(config, market, fold.train)
        return Turn(Piece(fold.test, fold.validation, fold.train), env, (self.policy(market),), self.seeds)


def fold_agent(study: Study, fold: Fold, results: Results) -> FoldAgent:
    """Who acts in a fold, from its trainings."""
    trained = [results[fold.number, seed] for seed in study.seeds]
    loaded = [load_model(result["model"]) for result in trained]
    device = pick_device(study.config.device)
    seeds = tuple(policy.to(device) for policy, _ in loaded)
    for policy in seeds:
        settle_recurrence(policy)
    together = seeds[0] if len(seeds) == 1 else Ensemble(seeds)
    found = found_by(trained, study.market.sessions_per_year)
    return FoldAgent(fold, seeds, together, loaded[0][1], found)


@dataclass(frozen=True)
class Learnt:
    """What a fold's agent does on its training and validation range."""

    training: Deployed
    """As it is judged, and as it was trained."""
    validation: float
    """Annual log growth beyond equal weight on the validation range."""
    held_out_names: dict[str, float | None]
    """The same on names that training never saw, by place (see `training.held_out`); {} without them."""

    def gap(self, agent: FoldAgent, piece: Path) -> dict[str, float | None]:
        """Annual log growth beyond equal weight, by place (see `training.memorising`); None where there is no figure.

        Args:
            agent: of the fold.
            piece: of the judged path, the fold's test piece.
        """
        test = difference(piece, AGENT, EQUAL_WEIGHT)[0]
        return memorising_gap(self.training, agent.found, self.validation, test, self.held_out_names)


def learnt(study: Study, agent: FoldAgent, turn: Turn, results: Results) -> Learnt:
    """Let an ensemble live through its training and validation range; a single model has done so in its training.

    Both are judged on held-out names here, in all ranges. On the test piece they begin in cash.

    Args:
        study: of the fold.
        agent: of the fold.
        turn: the agent's, in the study's market.
        results: of the study's trainings.

    Raises:
        NotFinite: a growth or an output is not finite.
    """
    (policy,), fold, seed = turn.policies, agent.fold, study.config.seed
    ranges = {"validation": fold.validation, "test": fold.test}
    names = growth_on_held_out_names(turn.environment, policy, ranges, seed)
    if agent.found is None:
        kept = results[fold.number, study.seeds[0]]
        return Learnt(_kept(kept["training"]), kept["metrics"]["validation_beyond_equal_weight"], names)
    training = deployed_gap(on_trained_names(turn.environment), policy, seed)
    judged = evaluate(turn.environment, policy, fold.validation)
    return Learnt(training, judged.growth_beyond_equal_weight, names)


def _kept(training: Mapping[str, Any]) -> Deployed:
    return Deployed(*(Lived(**training[kind]) for kind in ("deployed", "sampled")))


def mean_training(each: list[Learnt]) -> Deployed:
    """Means over the folds of what was trained, and of what is judged, on their training ranges."""

    def mean(kind: str) -> Lived:
        return Lived(*(sum(getattr(getattr(x.training, kind), name) for x in each) / len(each) for name in _LIVED))

    return Deployed(mean("deployed"), mean("sampled"))


_LIVED = ("growth", "turnover", "beyond_equal_weight")
