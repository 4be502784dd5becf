"""A walk-forward is judged: its test pieces in one path through one ledger, its seeds together and one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tactician.bars import picked_with_hindsight
from tactician.evaluation import (
    AGENT,
    EQUAL_WEIGHT,
    Evaluation,
    Judged,
    Path,
    best_constants,
    beyond,
    document,
    judge,
    performance,
    reservations,
    return_difference,
)
from tactician.monitor.wording import count
from tactician.record.registration import Registration
from tactician.report.files import write_report
from tactician.studies.fold_agent import FoldAgent, Learnt, fold_agent, learnt, mean_training
from tactician.studies.folds import Fold
from tactician.studies.walk_forward import Results, Study
from tactician.training.counting import Counting
from tactician.training.memorising import mean_gap
from tactician.training.provenance import provenance


@dataclass(frozen=True)
class Reported:
    """A judged study with its report."""

    result: Evaluation
    document: dict[str, Any]
    agents: tuple[FoldAgent, ...]
    """Who acted in each fold."""


def judge_study(study: Study, results: Results, registration: Registration, warn: Callable[[str], None]) -> Reported:
    """Judge all folds as one out-of-sample range, and write the report.

    The agent of a fold is the ensemble of its seeds, followed as far as their held-out pieces allow. The seeds' own paths are
    its band. They are followed all the way: alone none of them has evidence that could say how far.

    Args:
        study: what was planned.
        results: of all its trainings.
        registration: written before.
        warn: tells a sentence.

    Raises:
        NotFinite: a growth or an output is not finite.
        UserError: the folder cannot be written.
    """
    agents = tuple(fold_agent(study, fold, results) for fold in study.folds)
    turns = [agent.turn(study.config, study.market) for agent in agents]
    each = [learnt(study, agent, turn, results) for agent, turn in zip(agents, turns, strict=True)]
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
    notes = (*told_abstentions(agents), *reservations(counts.looks or 0, hindsight, found.spread))
    result = replace(found.result, notes=notes)
    folds = _folds(study, found, agents, each, results)
    content = document(
        found,
        result,
        kind="walk_forward",
        title=f"Walk-forward {result.first} to {result.last}",
        subtitle=f"{count(len(study.folds), 'fold')} × {count(len(study.seeds), 'seed')}, "
        f"{count(len(study.market.symbols), 'asset')}, {study.market.regimes.n_actions} regimes ({study.market.regimes.kind})",
        trials=(counts.trials, counts.sharpes),
        training=mean_training(each).as_dict(),
        provenance=provenance(
            study.config,
            study.market,
            registration=registration,
            looks=counts.looks,
            trials=counts.trials,
            hindsight=hindsight,
        ),
        folds=folds,
        memorising=mean_gap([fold["memorising"] for fold in folds]),
        abstained=abstained(agents),
    )
    _name_seeds(content, study.seeds)
    write_report(content, study.folder)
    return Reported(result, content, agents)


def abstained(agents: Sequence[FoldAgent]) -> dict[str, int] | None:
    """In how many folds equal weight is held, because nothing was found; None without held-out pieces."""
    if agents[0].found is None:
        return None
    return {"folds": len(agents), "held_equal_weight": sum(agent.strength == 0 for agent in agents)}


def told_abstentions(agents: Sequence[FoldAgent]) -> tuple[str, ...]:
    """The same as a sentence, and how far the other folds are followed; none without held-out pieces."""
    told = abstained(agents)
    if told is None:
        return ()
    others = ", ".join(f"{100 * agent.strength:.0f} %" for agent in agents if agent.strength)
    rest = f"; in the others the ensemble is followed for {others}" if others else ""
    return (f"Hold equal weight, nothing found: in {told['held_equal_weight']} of {count(len(agents), 'fold')}{rest}.",)


def count_trials(study: Study, registration: Registration, warn: Callable[[str], None]) -> None:
    """Note in the trial ledger that the study's configuration is trained, with each of its seeds."""
    for seed in study.seeds:
        _counting(study, registration, seed, warn).trial()


def _name_seeds(content: dict[str, Any], seeds: Sequence[int]) -> None:
    """Give the seeds their numbers: the judge counts its policies from 0, and a study begins with the configuration's seed."""
    if content["seeds"] is None:
        return
    content["band"]["label"] = f"{len(seeds)} seeds, each followed all the way, lowest to highest"
    strategies = [strategy for strategy in content["strategies"] if strategy["group"] == "seed"]
    for seed, *told in zip(seeds, content["seeds"], content["band"]["seeds"], strict=True):
        for part in told:
            part["seed"] = seed
    for seed, strategy in zip(seeds, strategies, strict=True):
        strategy |= {"name": f"seed:{seed}", "label": f"Seed {seed}"}


def _counting(study: Study, registration: Registration, seed: int, warn: Callable[[str], None]) -> Counting:
    config = study.config.model_copy(update={"seed": seed})
    return Counting(config, f"{registration.sha256[:16]} seed {seed}", study.market.fingerprint, warn, study.ranges)


def _folds(
    study: Study, found: Judged, agents: Sequence[FoldAgent], each: Sequence[Learnt], results: Results
) -> list[dict[str, Any]]:
    constants = best_constants(found.question)
    told, done = [], 0
    for fold, constant, agent, own in zip(study.folds, constants, agents, each, strict=True):
        piece = found.path.sessions(range(done, done + len(fold.test)))
        done += len(fold.test)
        gap = beyond(piece, AGENT, EQUAL_WEIGHT)
        told.append(
            {
                "number": fold.number,
                **{name: list(study.market.dates_of(rows)) for name, rows in fold.splits.items()},
                "agent": performance(piece, AGENT).annual_return,
                "equal_weight": performance(piece, EQUAL_WEIGHT).annual_return,
                # A fold that takes over other holdings, and then holds equal weight, differs in one session. No interval can
                # come from that, but a figure.
                "difference": return_difference(piece, AGENT, EQUAL_WEIGHT)[0],
                "low": gap.low,
                "high": gap.high,
                "found": None if agent.found is None else agent.found.as_dict(),
                "memorising": own.gap(agent, piece),
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
