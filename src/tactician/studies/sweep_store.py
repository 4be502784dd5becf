"""The trials of a sweep in a database file, and the sampler that proposes their settings.

The sampler is Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
optimization"). A trial is kept with each of its results, so a sweep that was stopped goes on where it was.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tactician.errors import UserError
from tactician.record.registration import fingerprint_of
from tactician.studies.sweep_keys import Key, Range

FILE = "sweep.db"
_STUDY = "tactician sweep"
_DECLARED, _PLAN, _RESULT = "declared", "plan", "result"
_TRIES = 100
"""Proposals that were tried before, after which the sweep ends: there is nothing new in the space."""

Place = tuple[int, int]
"""Number of the fold, and seed."""


@dataclass
class Record:
    """A trial: its settings, and what is known of it."""

    number: int
    """From 0, the configuration as it is."""
    settings: dict[str, Any]
    """Values of the searched keys."""
    row: int
    """Its number in the database, where proposals that were tried before have numbers, too."""
    results: dict[Place, dict[str, Any]] = field(default_factory=dict)
    fault: str | None = None
    """Why it has no figure."""
    closed: bool = False
    """Nothing of it is left to do."""


class Store:
    """A sweep's database. Only one process writes to it, which holds the folder's lock."""

    def __init__(self, path: Path, keys: Sequence[Key], seed: int) -> None:
        """Open or make the file.

        Args:
            path: of the file.
            keys: what is searched.
            seed: of the sampler.

        Raises:
            UserError: Optuna is not installed, or the file is damaged or cannot be written.
        """
        self._optuna = import_optuna()
        self._path, self._keys, self._seed = path, keys, seed
        self._space = {key.name: self._distribution(key) for key in keys}
        with self._told():
            self._storage = self._optuna.storages.RDBStorage(f"sqlite:///{path}")
            self._study = self._optuna.create_study(
                storage=self._storage, study_name=_STUDY, direction="maximize", load_if_exists=True
            )
            self._id = self._storage.get_study_id_from_name(_STUDY)

    def close(self) -> None:
        """Let the file go."""
        self._storage.engine.dispose()

    @property
    def declared(self) -> dict[str, Any] | None:
        """What the sweep was declared to be; None for a new one."""
        with self._told():
            return self._study.user_attrs.get(_DECLARED)

    def declare(self, content: Mapping[str, Any]) -> None:
        """Keep what the sweep is, before its first trial."""
        with self._told():
            self._study.set_user_attr(_DECLARED, dict(content))

    def records(self) -> list[Record]:
        """All trials, in the order in which they were proposed."""
        with self._told():
            found = []
            for trial in self._study.get_trials(deepcopy=False):
                if (plan := trial.user_attrs.get(_PLAN)) is None:
                    if not trial.state.is_finished():  # its program was killed while it was being proposed
                        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                    continue
                if "same_as" in plan:
                    continue
                record = Record(plan["number"], plan["settings"], trial.number, fault=plan.get("fault"))
                for name, result in trial.user_attrs.items():
                    if name.startswith(_RESULT):
                        _, fold, seed = name.split()
                        record.results[int(fold), int(seed)] = result
                        record.fault = record.fault or result.get("fault")
                record.closed = trial.state.is_finished()
                found.append(record)
        return found

    def begin_with(self, settings: Mapping[str, Any]) -> Record:
        """The first trial, whose settings are given. The sampler learns from it if the searched space holds it."""
        inside = all(key.holds(settings[key.name]) for key in self._keys)
        plan = {"number": 0, "settings": dict(settings)}
        with self._told():
            trial = self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                params=dict(settings) if inside else {},
                distributions=self._space if inside else {},
                user_attrs={_PLAN: plan},
            )
            self._study.add_trial(trial)
        return Record(0, dict(settings), 0)

    def propose(self, before: Sequence[Record]) -> Record | None:
        """The next trial, a function of what the file holds and of the seed; None if nothing new is found.

        Args:
            before: all trials so far.
        """
        number = len(before)
        known = {_canonical(record.settings): record.number for record in before}
        for attempt in range(_TRIES):
            with self._told():
                # A new sampler each time: the draws of one that goes on would depend on when the program was started.
                self._study.sampler = self._sampler(number, attempt)
                trial = self._study.ask(self._space)
                settings = {key.name: key.setting(trial.params[key.name]) for key in self._keys}
                same = known.get(_canonical(settings))
                plan = {"number": number, "settings": settings}
                trial.set_user_attr(_PLAN, plan if same is None else {"same_as": same})
                if same is None:
                    return Record(number, settings, trial.number)
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def refuse(self, record: Record, fault: str) -> None:
        """Keep that a trial's settings contradict one another."""
        record.fault = fault
        plan = {"number": record.number, "settings": record.settings, "fault": fault}
        with self._told():
            self._storage.set_trial_user_attr(self._trial_id(record), _PLAN, plan)

    def keep(self, record: Record, place: Place, result: Mapping[str, Any]) -> None:
        """Keep the result of one training."""
        record.results[place] = dict(result)
        record.fault = record.fault or result.get("fault")
        with self._told():
            self._storage.set_trial_user_attr(self._trial_id(record), f"{_RESULT} {place[0]} {place[1]}", dict(result))

    def finish(self, record: Record, figure: float | None) -> None:
        """Tell the sampler what came out; None if there is no figure."""
        record.closed = True
        failed = figure is None or not math.isfinite(figure) or not self._known_to_sampler(record)
        with self._told():
            if failed:
                self._study.tell(record.row, state=self._optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(record.row, figure)

    def _known_to_sampler(self, record: Record) -> bool:
        return all(key.holds(record.settings[key.name]) for key in self._keys)

    def _trial_id(self, record: Record) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._id, record.row))

    def _sampler(self, number: int, attempt: int) -> Any:
        seed = int(fingerprint_of([self._seed, number, attempt])[:8], 16)
        if attempt:  # what TPE likes best is known: any new setting will do
            return self._optuna.samplers.RandomSampler(seed=seed)
        # With a constant liar, trials that are not finished count as bad, so no two that run at once are alike.
        return self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _distribution(self, key: Key) -> Any:
        distributions = self._optuna.distributions
        if not isinstance(key, Range):
            return distributions.CategoricalDistribution(key.values)
        kind = distributions.IntDistribution if key.whole else distributions.FloatDistribution
        return kind(key.low, key.high, log=key.log)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell a user what is wrong with the file, and nobody what Optuna would like to say."""
        from sqlalchemy.exc import DatabaseError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (DatabaseError, self._optuna.exceptions.StorageInternalError) as error:
            raise UserError(
                f"{self._path} is damaged or cannot be written; move it away to begin anew, or give --output another folder."
            ) from error


def import_optuna() -> Any:
    """Optuna, without its messages.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("tactician sweep needs Optuna; install it with: pip install 'tactician[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna


def _canonical(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
