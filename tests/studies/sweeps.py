"""Sweeps of the tiny market, and an engine that makes up results."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.studies.engine import attempt
from tactician.studies.sweep import Sweep, declare, plan_sweep, run_sweep
from tactician.studies.sweep_keys import parse_keys
from tactician.studies.sweep_store import FILE, Record, Store

KEYS = ("gamma=0.9..0.99", "actor_lr=1e-4..3e-2@log", "hidden_dim=8,16")
FOLDS = 4


def made_up(job: Any, _: Any) -> dict[str, Any]:
    """Growth that depends on settings, fold and seed alone, as a training's does."""
    config = job.config
    rng = np.random.default_rng([job.fold.number, job.seed])
    luck = rng.normal(0, 0.01, len(job.fold.held_out))
    edge = config.gamma - config.hidden_dim / 1000 + job.fold.number / 100
    return {"figure": edge, "turnover": 2.0 + job.seed, "growth": (luck + edge / 252).tolist()}


class Here:
    """An engine in this process. It keeps as many jobs in flight as it has slots."""

    def __init__(
        self, slots: int = 1, work: Callable[..., Any] | None = None, stop_after: int | None = None, lifo: bool = False
    ) -> None:
        """Ctrl+C comes after so many jobs; with ``lifo`` the job that began last is done first."""
        self.slots, self.asked, self._work, self._stop, self._lifo = slots, [], work, stop_after, lifo
        self.in_flight: list[tuple[str, ...]] = []

    def run(self, work: Any, jobs: Any, shared: Any) -> Iterator[Any]:
        """See `Engine.run`."""
        queue, pending, done = enumerate(jobs), [], 0
        while True:
            while len(pending) < self.slots and (new := next(queue, None)) is not None:
                self.asked.append(new[1].name)
                pending.append(new)
            if not pending:
                return
            self.in_flight.append(tuple(job.name for _, job in pending))
            if done == self._stop:
                raise KeyboardInterrupt
            number, job = pending.pop(-1 if self._lifo else 0)
            done += 1
            yield number, attempt(self._work or work, job, shared).get()


def tiny_sweep(
    config_file: Path, keys: tuple[str, ...] = KEYS, trials: int = 6, seeds: int = 1, **changes: Any
) -> Sweep:
    config = load_config(config_file, changes)
    market = load_cached_market(config, "build-cache")
    parsed = parse_keys(keys, config)
    return plan_sweep(config, market, parsed, n_folds=FOLDS, n_seeds=seeds, n_trials=trials)[0]


def searched(sweep: Sweep, folder: Path, engine: Here, warn: Callable[[str], None] = lambda _: None) -> list[Record]:
    """Run a sweep, or go on with it."""
    store = Store(folder / FILE, sweep.keys, sweep.config.seed)
    declare(sweep, store)
    records = store.records()
    for _ in run_sweep(sweep, engine, store, records, warn):
        pass
    store.close()
    return records


def table(records: list[Record]) -> list[tuple[Any, ...]]:
    """All of the trials but where they are kept."""
    return [(record.number, record.settings, dict(sorted(record.results.items())), record.fault) for record in records]
