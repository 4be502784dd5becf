"""A saved model is judged and reported: registered before the test range is read, counted as a look, written as files.

The end of a run and ``tactician evaluate`` both come here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tactician.bars import picked_with_hindsight
from tactician.config import Config
from tactician.environment import MarketTensors, Names, RangeDistance, TrainingDays
from tactician.evaluation import Evaluation, Found, Piece, Turn, document, evaluate, judge, reservations
from tactician.monitor.wording import count
from tactician.policy import Network
from tactician.record.registration import Registration, register
from tactician.report.files import check_writable, write_numbers, write_report
from tactician.storage import checksum
from tactician.training.checkpoint import record_look
from tactician.training.counting import Counting
from tactician.training.deployed import Deployed, deployed_gap
from tactician.training.held_out import growth_on_held_out_names, on_trained_names
from tactician.training.lineage import Contamination, Ranges, Seen
from tactician.training.memorising import memorising_gap
from tactician.training.provenance import provenance

METRIC = "annual return beyond equal weight, net of costs, with a 95 % confidence interval"


@dataclass(frozen=True)
class Candidate:
    """A model to be judged, and where it comes from."""

    judged: Ranges
    """Its market, environment and ranges."""
    config: Config
    policy: Network
    run: str
    """Name of its run; '' if not known."""
    seen: Seen
    contaminated: Contamination | None
    models: Path
    """The folder of the run's models, which keep the record of looks."""
    checkpoint: Path
    """Its file."""
    names: Names
    """The universe beside that of the training."""
    training_days: TrainingDays | None
    """None in models of before they were kept."""
    found: Found | None = None
    """What the members of an ensemble found on held-out days."""

    def distance(self, split: str) -> RangeDistance:
        """How far a range lies from the training days."""
        return RangeDistance.of(self.judged.environment.market, self.judged.splits[split], self.training_days)

    @property
    def hindsight(self) -> bool:
        """Whether the universe was picked knowing how it would do."""
        return picked_with_hindsight(self.config, self.judged.environment.market.built_from.get("source", ""))


@dataclass(frozen=True)
class Reported:
    """A judged model with its report."""

    result: Evaluation
    seen: Seen
    """The data that the model has seen, this look included."""
    document: dict[str, Any]
    gap: dict[str, float | None]
    """What the model earns beyond equal weight where it has learnt and where not (`memorising_gap`)."""


def report_folder(checkpoint: Path, split: str) -> Path:
    """Where the report of a model goes by default: ``report_test`` beside it. A run's own report is not overwritten."""
    return checkpoint.parent / f"report_{split}"


def judge_and_report(
    candidate: Candidate,
    split: str,
    folder: Path,
    *,
    warn: Callable[[str], None],
    tell: Callable[[Registration], None] = lambda _: None,
    run: Callable[[Evaluation, Seen], Mapping[str, Any]] | None = None,
    whole: bool = True,
    validation: Evaluation | None = None,
) -> Reported:
    """Judge a model on a range and write its report.

    A test range is registered before it is read. The look is recorded in the run's models and in the trial ledger, before
    the report is written, so that an interruption cannot hide it.

    Args:
        candidate: the model.
        split: 'validation' or 'test'.
        folder: gets the report.
        warn: tells a sentence.
        tell: is given the registration.
        run: makes the report's part about the training, from the result and what the model has seen.
        whole: judge beside everything, and write all files. Otherwise ``report.json`` holds the part about the training alone.
        validation: the model's result on the validation range, if the caller has it.

    Raises:
        NotFinite: a growth or an output is not finite; nothing is written but the registration.
        UserError: the folder cannot be written.
    """
    env, rows = candidate.judged.environment, candidate.judged.splits[split]
    book = Counting(candidate.config, candidate.run, env.market.fingerprint, warn)
    check_writable(folder)
    book.check()  # what would end the work is told before the look
    registration = register(folder, _of_one_model(candidate)) if split == "test" else None
    if registration is not None:
        tell(registration)
    found = judge([_turn(candidate, split)], candidate.config.seed) if whole else None
    result, seen = found.result if found else evaluate(env, candidate.policy, rows), candidate.seen
    if registration is not None:
        seen = seen.looked(result.first, result.last)
        record_look(candidate.models, candidate.run, result.first, result.last)
        book.look(result, registration)
    counts = book.counts(result)
    looks = max(seen.looks_at(result.first, result.last), counts.looks or 0) if split == "test" else 0
    names, distance = candidate.names, candidate.distance(split)
    foreign = (_foreign(names), distance.sentence) if names.is_other else ()
    result = replace(
        result,
        caveat=candidate.contaminated.caveat if candidate.contaminated else None,
        universe=names.clause if names.is_other else None,
        notes=(
            *foreign,
            *((names.told_held_out,) if names.told_held_out else ()),
            *(() if candidate.found is None else (candidate.found.told,)),
            *reservations(
                looks,
                candidate.hindsight,
                found.spread if found else None,
                not foreign and any(seen.fingerprints) and env.market.fingerprint not in seen.fingerprints,
            ),
        ),
    )
    told = None if run is None else run(result, seen)
    learnt, gap = _learnt_and_gap(candidate, split, result, validation)
    if found is None:
        content = {**run_alone(told, finished=True), "memorising": gap}
        write_numbers(content, folder)
        return Reported(result, seen, content, gap)
    content = document(
        found,
        result,
        kind="evaluation",
        title=f"{split.capitalize()} range {result.first} to {result.last}",
        subtitle=_subtitle(candidate),
        trials=(counts.trials, counts.sharpes),
        training=learnt.as_dict(),
        provenance=provenance(
            candidate.config,
            env.market,
            registration=registration,
            looks=looks if split == "test" else counts.looks,
            trials=counts.trials,
            hindsight=candidate.hindsight,
            checkpoint=candidate.checkpoint,
        ),
        run=told,
        memorising=gap,
        found=None if candidate.found is None else candidate.found.as_dict(),
        universe=names.as_dict(),
        distance=distance.as_dict(),
    )
    write_report(content, folder)
    return Reported(result, seen, content, gap)


def _learnt_and_gap(
    candidate: Candidate, split: str, result: Evaluation, validation: Evaluation | None
) -> tuple[Deployed, dict[str, float | None]]:
    """What the model does on days of training, and the memorising gap.

    Args:
        candidate: the model.
        split: 'validation' or 'test'.
        result: on this range.
        validation: on the validation range, if it is known; it is computed if not.

    Raises:
        NotFinite: see `evaluate`.
    """
    env, policy, splits = candidate.judged.environment, candidate.policy, candidate.judged.splits
    read = ("validation",) if split == "validation" else ("validation", "test")
    known = result if split == "validation" else validation or evaluate(env, policy, splits["validation"])
    test = None if split == "validation" else result.growth_beyond_equal_weight
    seed = candidate.config.seed
    learnt = deployed_gap(on_trained_names(env), policy, seed)
    names = growth_on_held_out_names(env, policy, {name: splits[name] for name in read}, seed)
    return learnt, memorising_gap(learnt, candidate.found, known.growth_beyond_equal_weight, test, names)


def _foreign(names: Names) -> str:
    return f"{names.sentence[0].upper()}{names.sentence[1:]}"


def _turn(candidate: Candidate, split: str) -> Turn:
    """The whole range is one turn. A constant regime is chosen on the validation range, if that is another one."""
    splits = candidate.judged.splits
    validation = splits["validation"] if split == "test" else None
    return Turn(Piece(splits[split], validation, splits["train"]), candidate.judged.environment, (candidate.policy,))


def _of_one_model(candidate: Candidate) -> dict[str, Any]:
    config, judged = candidate.config, candidate.judged
    told = to_register(config, judged.environment.market, [judged.splits], [config.seed])
    return {**told, "model": checksum(dict(candidate.policy.state_dict()))}


def to_register(
    config: Config, market: MarketTensors, folds: Sequence[Mapping[str, range]], seeds: Sequence[int]
) -> dict[str, Any]:
    """What is registered before a test range is read.

    Args:
        config: the settings.
        market: the data.
        folds: rows of the ranges by name, for each fold.
        seeds: of the models that are judged together.
    """
    return {
        "configuration": config.model_dump(mode="json"),
        "folds": [{name: market.dates_of(rows) for name, rows in fold.items()} for fold in folds],
        "seeds": list(seeds),
        "data_fingerprint": market.fingerprint,
        "metric": METRIC,
    }


def run_alone(run: Mapping[str, Any] | None, *, finished: bool) -> dict[str, Any]:
    """A report that holds nothing but the part about the training."""
    kind = "run" if finished else "interrupted run"
    return {"format": "tactician report", "version": 1, "kind": kind, "run": run}


def _subtitle(candidate: Candidate) -> str:
    market = candidate.judged.environment.market
    return (
        f"{count(len(market.symbols), 'asset')}, {market.regimes.n_actions} regimes ({market.regimes.kind}), seed "
        f"{candidate.config.seed}"
    )
