"""What is tried and looked at is counted in the trial ledger beside the market cache."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tactician.config import Config
from tactician.evaluation import AGENT, Evaluation, Path, Performance, performance
from tactician.record.registration import Registration, fingerprint_of
from tactician.record.trials import Trial, TrialLedger, trials_beside
from tactician.training.lineage import HARMLESS


@dataclass(frozen=True)
class Counts:
    """What the ledger knows; None for what it does not."""

    trials: int | None
    sharpes: tuple[float, ...]
    """Per session, of the trials that have one."""
    looks: int | None
    """At ranges that overlap the judged one, by any configuration."""


def configuration_hash(config: Config) -> str:
    """sha256 of the settings that decide what is learnt. The seed is not among them: the ledger has it beside."""
    settings = config.model_dump(mode="json")
    return fingerprint_of({key: value for key, value in settings.items() if key not in HARMLESS | {"seed"}})


class Counting:
    """Counts a run's trial and looks, and reads the counts."""

    def __init__(
        self, config: Config, run: str, fingerprint: str, warn: Callable[[str], None], folds: Any = None
    ) -> None:
        """Nothing is written yet.

        Args:
            config: of the run.
            run: its name.
            fingerprint: of its market.
            warn: tells a sentence if the ledger cannot be written.
            folds: plain values that say how a study cuts the data. A study that cuts otherwise is another trial.
        """
        self._ledger = TrialLedger(trials_beside(config.cache), warn)
        self._run, self._fingerprint = run, fingerprint
        settings = configuration_hash(config)
        self._configuration = settings if folds is None else fingerprint_of({"settings": settings, "folds": folds})
        self._seed = config.seed

    def trial(self, validated: Evaluation | None = None) -> None:
        """The configuration is trained: when it begins, and again with its figures on the validation range.

        Raises:
            UserError: the ledger is damaged. It is read here first, since the end of a training is too late to be told.
        """
        self.check()
        if validated is None:
            self._trial(None, None)
        else:
            self._trial((validated.first, validated.last), _sharpe(validated.performances[AGENT], validated.path))

    def trial_of_seed(self, judged: Path, strategy: str, dates: tuple[str, str]) -> None:
        """One seed of several that were judged together, with its own figures on the judged range."""
        self._trial(dates, _sharpe(performance(judged, strategy), judged))

    def _trial(self, dates: tuple[str, str] | None, sharpe: float | None) -> None:
        self._ledger.add_trial(
            run=self._run,
            fingerprint=self._fingerprint,
            validated=dates,
            sharpe_per_session=sharpe,
            configuration=self._configuration,
            seed=self._seed,
        )

    def check(self) -> None:
        """Read the ledger before the long work.

        Raises:
            UserError: it is damaged or cannot be read.
        """
        self._ledger.read()

    def look(self, result: Evaluation, registration: Registration, *, together: bool = False) -> None:
        """A test range was read.

        Args:
            result: what came out.
            registration: written before.
            together: by several seeds together. Their mean is none of the trials, so it has no figure among theirs.
        """
        self._ledger.add_look(
            run=self._run,
            fingerprint=self._fingerprint,
            range=(result.first, result.last),
            registration=registration.sha256,
            sharpe_per_session=None if together else _sharpe(result.performances[AGENT], result.path),
            configuration=self._configuration,
            seed=self._seed,
        )

    def counts(self, result: Evaluation) -> Counts:
        """The counts on this data, for a judgement of a range.

        A ledger that does not know the run's trial was not there when it was trained, and knows no count. A look is no
        proof: the judgement itself has just added one.
        """
        trials, run = self._ledger.read(), self._run
        if not any(isinstance(entry, Trial) and entry.run == run for entry in trials.entries):
            return Counts(None, (), None)
        return Counts(
            trials.n_trials(self._fingerprint, run=run),
            trials.sharpes(result.first, result.last, self._fingerprint, run=run) or (),
            trials.looks(result.first, result.last),
        )


def _sharpe(found: Performance, path: Path) -> float | None:
    """Sharpe ratio per session of simple returns in excess of cash; None if it is not available."""
    sharpe = found.sharpe / math.sqrt(path.sessions_per_year)
    return sharpe if math.isfinite(sharpe) else None
