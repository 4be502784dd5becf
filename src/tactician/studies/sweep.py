"""A sweep: settings are proposed, trained without one piece of the training range, and judged on that piece.

Neither the validation nor the test range takes part: the workers get a market that ends with the training range.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tactician.config import DURATIONS, Config
from tactician.environment import InnerFold, MarketTensors, inner_folds
from tactician.errors import UserError
from tactician.record.registration import fingerprint_of
from tactician.studies.engine import Engine
from tactician.studies.fold_job import SIZES
from tactician.studies.sweep_job import PieceJob, measure, rows_of
from tactician.studies.sweep_keys import Key, changed, refuse_impossible, value_in
from tactician.studies.sweep_store import Place, Record, Store
from tactician.training.counting import Counting
from tactician.training.lineage import HARMLESS
from tactician.training.setup import prepare_run

_PARTS = {
    "keys": "the searched keys",
    "folds": "the number of folds",
    "seeds": "the seeds",
    "settings": "the settings",
    "data": "the market's data",
    "train": "the training range",
}
"""What makes a sweep, in words."""


@dataclass(frozen=True)
class Sweep:
    """A sweep before it is run."""

    asked: Config
    """As the user gave it."""
    config: Config
    """With the sizes and the device that all trainings have."""
    market: MarketTensors
    """Up to the end of the training range."""
    train: range
    keys: tuple[Key, ...]
    n_folds: int
    seeds: tuple[int, ...]
    n_trials: int

    @property
    def folds(self) -> tuple[InnerFold, ...]:
        """The pieces, for the episodes of the configuration as it is."""
        return inner_folds(self.train, self.n_folds, self.config.episode_length)

    @property
    def places(self) -> list[Place]:
        """What each trial trains; every fold has a training before any has two."""
        return [(fold, seed) for seed in self.seeds for fold in range(1, self.n_folds + 1)]

    @property
    def default(self) -> dict[str, Any]:
        """The searched keys as the configuration has them."""
        return {key.name: value_in(self.config, key.name) for key in self.keys}

    @property
    def declared(self) -> dict[str, Any]:
        """All that the trials depend on, as plain values."""
        settings = self.asked.model_dump(mode="json")
        kept = {name: x for name, x in settings.items() if name not in (HARMLESS | {"seed"}) - DURATIONS}
        return {
            "keys": [str(key) for key in self.keys],
            "folds": self.n_folds,
            "seeds": list(self.seeds),
            "settings": kept,
            "data": self.market.fingerprint,
            "train": [self.train.start, self.train.stop],
        }

    def config_of(self, record: Record) -> Config:
        """The configuration that a trial trains.

        Raises:
            UserError: its settings contradict one another.
        """
        # The first trial is the configuration as it is, whose learning rates follow the width.
        return changed(self.config, record.settings) if record.number else self.config


def plan_sweep(
    config: Config,
    market: MarketTensors,
    keys: Sequence[Key],
    *,
    n_folds: int,
    n_seeds: int,
    n_trials: int,
    sizes: Mapping[str, int] | None = None,
) -> tuple[Sweep, tuple[str, ...]]:
    """Cut the market, and choose the sizes that all trainings have.

    Args:
        config: the settings that are not searched.
        market: whole.
        keys: searched.
        n_folds: pieces of the training range.
        n_seeds: trainings per trial and piece.
        n_trials: settings to try, the configuration's own among them.
        sizes: of a sweep that goes on; None to choose them for this machine.

    Returns:
        The sweep, and notes for the user.

    Raises:
        UserError: the training range is too short for so many pieces, a value cannot be, or see `prepare_run`.
    """
    train = market.rows(None, config.train_until)
    longest = max(
        [config.episode_length, *(end for key in keys if key.name == "episode_length" for end in key.ends)],
    )
    try:
        inner_folds(train, n_folds, longest)
    except UserError as error:
        raise UserError(
            f"The training range has {len(train)} sessions: without one of {n_folds} pieces, no episode of {longest} is left; "
            "use more --folds, start earlier or lower --episode-length."
        ) from error
    known = rows_of(market, [range(train.stop)])
    setup = prepare_run(
        config.model_copy(update=dict(sizes or {})), known, fixed_sizes=bool(sizes), splits={"train": train}
    )
    device = setup.device.type if config.device == "auto" else config.device
    chosen = {name: getattr(setup.config, name) for name in SIZES}
    settled = config.model_copy(update={**chosen, "device": device})
    refuse_impossible(keys, settled)
    seeds = tuple(range(config.seed, config.seed + n_seeds))
    return Sweep(config, settled, known, train, tuple(keys), n_folds, seeds, n_trials), setup.notes


def sizes_before(store: Store) -> dict[str, int] | None:
    """The sizes with which a sweep began; None for a new one. Its machine may be busier now than it was."""
    before = store.declared
    return None if before is None else before["sizes"]


def declare(sweep: Sweep, store: Store) -> None:
    """Keep what the sweep is, or see that it is the one that the folder holds.

    Raises:
        UserError: it is another one.
    """
    now = {**sweep.declared, "sizes": {name: getattr(sweep.config, name) for name in SIZES}}
    before = store.declared
    if before is None:
        store.declare(now)
        return
    other = [words for name, words in _PARTS.items() if before[name] != now[name]]
    if other:
        raise UserError(
            f"The folder holds another sweep: {', '.join(other)} differ; give --output another folder, or "
            "the command as it was."
        )


def run_sweep(
    sweep: Sweep, engine: Engine, store: Store, records: list[Record], warn: Callable[[str], None]
) -> Generator[tuple[Record, int], None, None]:
    """Do all trials that are not done. Each is counted in the trial ledger before its first training.

    Args:
        sweep: what was planned.
        engine: where trainings run.
        store: keeps each result when it is there.
        records: the trials so far; new ones are added.
        warn: tells a sentence.

    Yields:
        Each trial that is done, and how many trainings were finished since the one before.

    Raises:
        UserError: a file cannot be written; or see `Engine.run`.
    """
    search = _Search(sweep, store, records, warn)
    done = 0
    with closing(engine.run(measure, search.jobs(), sweep.market)) as results:
        for number, result in results:
            search.take(number, result)
            done += 1
            for record in search.news():
                yield record, done
                done = 0
    for record in search.news():
        yield record, done
        done = 0


class _Search:
    """What is in flight."""

    def __init__(self, sweep: Sweep, store: Store, records: list[Record], warn: Callable[[str], None]) -> None:
        self._sweep, self._store, self._records, self._warn = sweep, store, records, warn
        self._begun: list[tuple[Record, Place]] = []
        self._in_flight: set[int] = set()
        self._closed: list[Record] = []

    def jobs(self) -> Iterator[PieceJob]:
        """The trainings in the order in which they begin. It is asked for the next one when a slot is free."""
        for record in list(self._records):
            if not record.closed:
                yield from self._jobs_of(record)
        while len(self._records) < self._sweep.n_trials:
            new = self._store.propose(self._records) if self._records else self._store.begin_with(self._sweep.default)
            if new is None:
                self._warn("No setting is left that was not tried; the sweep ends here.")
                return
            self._records.append(new)
            yield from self._jobs_of(new)

    def take(self, number: int, result: Mapping[str, Any]) -> None:
        """Keep the result of a training that was begun."""
        record, place = self._begun[number]
        self._in_flight.discard(number)
        self._store.keep(record, place, result)
        self._close_if_done(record)

    def news(self) -> list[Record]:
        """Trials that were closed since the last call."""
        told, self._closed = self._closed, []
        return told

    def _jobs_of(self, record: Record) -> Iterator[PieceJob]:
        try:
            config = self._sweep.config_of(record)
        except UserError as error:
            self._store.refuse(record, str(error))
            self._close_if_done(record)
            return
        count_trial(self._sweep, record, config, self._warn)
        folds = inner_folds(self._sweep.train, self._sweep.n_folds, config.episode_length)
        settings = config.model_dump(mode="json")
        for place in self._sweep.places:
            if record.fault is not None:  # one more figure would not make a mean
                break
            if place in record.results:
                continue
            self._in_flight.add(len(self._begun))
            self._begun.append((record, place))
            yield PieceJob(
                record.number, folds[place[0] - 1], place[1], self._sweep.train, settings, self._sweep.n_folds
            )
        self._close_if_done(record)

    def _close_if_done(self, record: Record) -> None:
        busy = any(self._begun[number][0] is record for number in self._in_flight)
        whole = all(place in record.results for place in self._sweep.places)
        if record.closed or busy or not (whole or record.fault is not None):
            return
        self._store.finish(record, None if record.fault is not None else figure_of(record))
        self._closed.append(record)


def figure_of(record: Record) -> float:
    """A trial's figure: the mean over its held-out pieces and seeds."""
    figures = [result["figure"] for _, result in sorted(record.results.items())]
    return sum(figures) / len(figures)


def count_trial(sweep: Sweep, record: Record, config: Config, warn: Callable[[str], None]) -> None:
    """Note in the trial ledger that a setting is trained, with each of the seeds.

    Raises:
        UserError: the ledger is damaged.
    """
    cut = {"inner_folds": sweep.n_folds, "train": sweep.market.dates_of(sweep.train)}
    name = fingerprint_of(sweep.declared)[:16]
    for seed in sweep.seeds:
        seeded = config.model_copy(update={"seed": seed})
        run = f"sweep {name} trial {record.number} seed {seed}"
        Counting(seeded, run, sweep.market.fingerprint, warn, cut).trial()
