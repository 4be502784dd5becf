"""A walk-forward is judged: its test pieces in one path through one ledger, its seeds together and one by one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tactician.bars import picked_with_hindsight
from tactician.environment import normalise
from tactician.evaluation import (
    AGENT,
    EQUAL_WEIGHT,
    Evaluation,
    Judged,
    Path,
    Piece,
    Turn,
    best_constants,
    beyond,
    document,
    judge,
    performance,
    reservations,
)
from tactician.hardware.device import pick_device
from tactician.monitor.wording import count
from tactician.policy import settle_recurrence
from tactician.record.registration import Registration
from tactician.report.files import write_report
from tactician.studies.fold_job import load_model
from tactician.studies.folds import Fold
from tactician.studies.walk_forward import Results, Study
from tactician.training.counting import Counting
from tactician.training.deployed import Deployed, Lived
from tactician.training.markets import make_environment
from tactician.training.provenance import provenance


@dataclass(frozen=True)
class Reported:
    """A judged study with its report."""

    result: Evaluation
    document: dict[str, Any]


def judge_study(study: Study, results: Results, registration: Registration, warn: Callable[[str], None]) -> Reported:
    """Judge all folds as one out-of-sample range, and write the report.

    The agent is the ensemble: the mean of the seeds' action probabilities. The seeds' own paths are its band.

    Args:
        study: what was planned.
        results: of all its trainings.
        registration: written before.
        warn: tells a sentence.

    Raises:
        NotFinite: a growth or an output is not finite.
        UserError: the folder cannot be written.
    """
    turns = [_turn(study, fold, results) for fold in study.folds]
    found = judge(turns, study.config.seed)
    # Every seed was a trial. They look at the range together, under the name of the first.
    for seed, name in zip(study.seeds, found.seeds, strict=bool(found.seeds)):
        _counting(study, registration, seed, warn).trial_of_seed(
            found.path, name, (found.result.first, found.result.last)
        )
    book = _counting(study, registration, study.seeds[0], warn)
    book.look(found.result, registration, together=len(study.seeds) > 1)
    counts = book.counts(found.result)
    hindsight = picked_with_hindsight(study.config, study.market.built_from.get("source", ""))
    result = replace(found.result, notes=reservations(counts.looks or 0, hindsight, found.spread))
    content = document(
        found,
        result,
        kind="walk_forward",
        title=f"Walk-forward {result.first} to {result.last}",
        subtitle=f"{count(len(study.folds), 'fold')} × {count(len(study.seeds), 'seed')}, "
        f"{count(len(study.market.symbols), 'asset')}, {study.market.regimes.n_actions} regimes ({study.market.regimes.kind})",
        trials=(counts.trials, counts.sharpes),
        training=_training(results),
        provenance=provenance(
            study.config,
            study.market,
            registration=registration,
            looks=counts.looks,
            trials=counts.trials,
            hindsight=hindsight,
        ),
        folds=_folds(study, found, results),
    )
    _name_seeds(content, study.seeds)
    write_report(content, study.folder)
    return Reported(result, content)


def count_trials(study: Study, registration: Registration, warn: Callable[[str], None]) -> None:
    """Note in the trial ledger that the study's configuration is trained, with each of its seeds."""
    for seed in study.seeds:
        _counting(study, registration, seed, warn).trial()


def _name_seeds(content: dict[str, Any], seeds: Sequence[int]) -> None:
    """Give the seeds their numbers: the judge counts its policies from 0, and a study begins with the configuration's seed."""
    if content["seeds"] is None:
        return
    strategies = [strategy for strategy in content["strategies"] if strategy["group"] == "seed"]
    for seed, *told in zip(seeds, content["seeds"], content["band"]["seeds"], strict=True):
        for part in told:
            part["seed"] = seed
    for seed, strategy in zip(seeds, strategies, strict=True):
        strategy |= {"name": f"seed:{seed}", "label": f"Seed {seed}"}


def _counting(study: Study, registration: Registration, seed: int, warn: Callable[[str], None]) -> Counting:
    config = study.config.model_copy(update={"seed": seed})
    return Counting(config, f"{registration.sha256[:16]} seed {seed}", study.market.fingerprint, warn, study.ranges)


def _turn(study: Study, fold: Fold, results: Results) -> Turn:
    loaded = [load_model(results[fold.number, seed]["model"]) for seed in study.seeds]
    device = pick_device(study.config.device)
    normaliser = loaded[0][1]  # fitted on the training range, so it is that of all seeds
    env = make_environment(study.config, normalise(study.market, *normaliser).to(device), fold.train)
    policies = tuple(policy.to(device) for policy, _ in loaded)
    for policy in policies:
        settle_recurrence(policy)
    return Turn(Piece(fold.test, fold.validation, fold.train), env, policies)


def _training(results: Results) -> dict[str, Any]:
    """Means over all trainings of what was trained, and of what is judged, on their training ranges."""
    each = [result["training"] for result in results.values()]

    def mean(kind: str) -> Lived:
        growth, turnover = (math.fsum(x[kind][name] for x in each) / len(each) for name in ("growth", "turnover"))
        return Lived(growth, turnover)

    return Deployed(mean("deployed"), mean("sampled")).as_dict()


def _folds(study: Study, found: Judged, results: Results) -> list[dict[str, Any]]:
    constants = best_constants(found.question)
    told, done = [], 0
    for fold, constant in zip(study.folds, constants, strict=True):
        piece = found.path.sessions(range(done, done + len(fold.test)))
        done += len(fold.test)
        gap = beyond(piece, AGENT, EQUAL_WEIGHT)
        told.append(
            {
                "number": fold.number,
                **{name: list(study.market.dates_of(rows)) for name, rows in fold.splits.items()},
                "agent": performance(piece, AGENT).annual_return,
                "equal_weight": performance(piece, EQUAL_WEIGHT).annual_return,
                "difference": gap.value,
                "low": gap.low,
                "high": gap.high,
                "best_constant": study.market.regimes.names[constant],
                "seeds": _seeds(study, fold, piece, found.seeds, results),
            }
        )
    return told


def _seeds(
    study: Study, fold: Fold, piece: Path, strategies: Sequence[str], results: Mapping[tuple[int, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    names = strategies or (AGENT,)
    return [
        {
            "seed": seed,
            "annual_return": performance(piece, name).annual_return,
            "best_iteration": results[fold.number, seed]["best_iteration"],
        }
        for seed, name in zip(study.seeds, names, strict=True)
    ]
