"""The summary of a run, as text and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from tactician.bars import picked_with_hindsight
from tactician.evaluation import Evaluation, Found, performance_table, reservations
from tactician.monitor.progress import Reporter
from tactician.monitor.tables import as_text, print_table
from tactician.monitor.wording import count, tell
from tactician.report.files import NUMBERS, PAGE, write_numbers
from tactician.training.checkpoint import versions
from tactician.training.lineage import Contamination, Seen
from tactician.training.memorising import sentence
from tactician.training.reporting import run_alone
from tactician.training.score import model_score
from tactician.training.setup import Setup
from tactician.training.state import Progress


@dataclass(frozen=True)
class Summary:
    """A finished run."""

    setup: Setup
    progress: Progress
    metrics: dict[str, float]
    """Of the last iteration."""
    results: dict[str, Evaluation]
    """Results of the best model by range, 'validation' and 'test'. An interrupted run has no 'test', and no result at all
    before its first validation."""
    seen: Seen
    """The data that the model has seen, up to this judgement."""
    contaminated: Contamination | None = None
    """Ranges that are not held out although they should be."""
    found: Found | None = None
    """What the members of an ensemble found on held-out days."""
    gap: dict[str, float | None] | None = None
    """What the model earns beyond equal weight where it has learnt and where not; None if the run was interrupted."""

    def __repr__(self) -> str:
        """The report."""
        return as_text(lambda console: print_summary(self, Reporter(console=console), []))

    @property
    def finished(self) -> bool:
        """Whether all the steps asked for are done."""
        return self.found is not None or self.progress.timesteps >= self.setup.total_timesteps

    @property
    def judged(self) -> Evaluation:
        """The result on the test range, or on the validation range if the run was interrupted."""
        return self.results.get("test") or self.results["validation"]

    @property
    def hindsight(self) -> bool:
        """Whether the universe was picked knowing how it would do."""
        market = self.setup.environment.market
        return picked_with_hindsight(self.setup.config, market.built_from.get("source", ""))

    @property
    def looks(self) -> int:
        """Number of judgements of the model and its ancestors on this test range, this one included."""
        test = self.results.get("test")
        return 0 if test is None else self.seen.looks_at(test.first, test.last)

    def as_dict(self) -> dict[str, Any]:
        """The report's part about the run."""
        progress = self.progress
        return {
            "finished": self.finished,
            "timesteps": progress.timesteps,
            "iterations": progress.iteration,
            "steps_per_second": progress.timesteps / progress.seconds if progress.seconds else None,
            "explained_variance": self.metrics.get("explained_variance"),
            "best_iteration": progress.best_iteration,
            "best_reward": progress.best_reward,
            "total_trades": progress.total_trades,
            "win_rate": progress.win_rate,
            "dropped_updates": progress.dropped_updates,
            "score": self.metrics.get("score"),
            "last_iteration": self.metrics,
            "found": None if self.found is None else self.found.as_dict(),
            "contaminated": None if self.contaminated is None else self.contaminated.as_dict(),
            "test_looks": self.looks,
            "seen": self.seen.as_dict(),
            "hindsight": self.hindsight,
            **{name: result.as_dict() for name, result in self.results.items()},
            "data_fingerprint": self.setup.environment.market.fingerprint,
            "data_findings": list(self.setup.environment.market.findings),
            "config": self.setup.config.model_dump(mode="json"),
            "versions": versions(),
        }

    def write(self) -> None:
        """Write ``report.json`` of a run that is not finished: this part alone."""
        if self.setup.process.leads:
            write_numbers(run_alone(self.as_dict(), finished=False), self.setup.config.checkpoint_dir)


def print_summary(summary: Summary, reporter: Reporter, next_commands: list[str]) -> None:
    """Print where the model is, its result on the test range, and the next commands."""
    folder = summary.setup.config.checkpoint_dir
    reporter.say()
    if summary.results:
        _tell_result(summary, reporter)
    else:
        reporter.say(
            f"  No verdict yet: the first validation comes after iteration {summary.setup.config.validate_every}."
        )
    progress = summary.progress
    picked = (
        f"best on validation after iteration {progress.best_iteration}" if progress.best_iteration else "no best model"
    )
    if summary.found is not None:
        picked = count(len(summary.found.pieces), "member")
    reporter.note(
        f"  Trained {count(progress.timesteps, 'step')} in {count(progress.iteration, 'iteration')} at "
        f"{tell(progress.timesteps / max(progress.seconds, 1e-9), ',.0f')} steps/s; explained variance "
        f"{tell(summary.metrics['explained_variance'], '.2f')}; {picked}."
    )
    if reporter.verbosity != "quiet":
        reporter.say_styled(_score_line(summary))
    if summary.finished:
        rest = "last: model_final.pt" if summary.found is None else "the members: member_1, member_2 …"
        reporter.say(f"  Model:   {folder / 'model_best.pt'} ({rest})", whole=[folder])
    elif summary.results:
        reporter.say(f"  Best so far: {folder / 'model_best.pt'}", whole=[folder])
    name = PAGE if summary.finished and summary.setup.config.report else NUMBERS
    reporter.say(f"  Report:  {folder / name}", whole=[folder])
    for line in next_commands:
        reporter.note(f"  Next:    {line}", whole=[line.partition("   ")[0]])  # a remark may follow


def _tell_result(summary: Summary, reporter: Reporter) -> None:
    result = summary.judged
    print_table(reporter.console, performance_table(result.performances, _title(summary)))
    if summary.finished:
        reporter.say(f"  Verdict: the agent is {result.verdict}.", "bold")
    else:
        reporter.say(f"  Verdict so far: the agent is {result.verdict}.", "bold")
        reporter.say(
            "  The model was picked on this range, so the figures flatter it. The test range was not looked at."
        )
    if summary.gap is not None:
        reporter.say(f"  {sentence(summary.gap)}.", "dim")
    _tell_caveats(summary, reporter)
    chosen = sorted(result.regime_use.items(), key=lambda item: -item[1])[:4]
    reporter.note("  Regimes chosen: " + ", ".join(f"{name} {100 * use:.0f} %" for name, use in chosen if use > 0))


def _tell_caveats(summary: Summary, reporter: Reporter) -> None:
    """Print the reasons why the result is worth less than it looks."""
    found, validation = summary.contaminated, summary.results["validation"]
    if found is not None and "validation" in found.ranges:
        reporter.say(
            f"  CONTAMINATED validation range {validation.first} to {validation.last}: the best model was picked on data that "
            "the model was trained on.",
            "bold",
        )
    # Only the test range has looks, and its judge has said what else there is to say.
    notes = summary.judged.notes if "test" in summary.results else reservations(0, summary.hindsight)
    for line in notes:
        reporter.say(f"  {line}", "dim")


def _title(summary: Summary) -> str:
    judged, found = summary.judged, summary.contaminated
    dates = f"{judged.first} to {judged.last}"
    if not summary.finished:
        return f"Validation range {dates}, interrupted after iteration {summary.progress.iteration}"
    if found is not None and found.ranges:
        which = "" if "test" in found.ranges else " (its validation range)"
        return f"CONTAMINATED{which} test range {dates}\n(the model has seen data up to {found.seen_until})"
    if found is not None and not found.known:
        return f"Test range {dates}\n(whether the model has seen it is not known)"
    return f"Held-out test range {dates}"


def _score_line(summary: Summary) -> Text:
    score = model_score(summary.metrics, summary.setup.environment.market.regimes.n_actions)
    line = Text("  Model score: ")
    line.append(tell(score.total, "+.1f"), style=score.style)
    parts = ", ".join(f"{name.replace('_', ' ')} {tell(value, '+.2f')}" for name, value in asdict(score).items())
    return line.append(f" on a scale of -90 to +90, on the training range ({parts})")
