"""The end of a run: what came out, for the eye and for machines."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tactician.evaluation import AGENT, STATISTICS, Evaluation, label_of
from tactician.monitor.progress import Reporter, tell
from tactician.monitor.tables import print_table
from tactician.storage import json_text, save_text
from tactician.training.checkpoint import versions
from tactician.training.lineage import Contamination, Seen
from tactician.training.score import model_score
from tactician.training.setup import Setup
from tactician.training.state import Progress, TrainState


@dataclass(frozen=True)
class Summary:
    """A finished run."""

    setup: Setup
    progress: Progress
    metrics: dict[str, float]
    """Of the last iteration."""
    results: dict[str, Evaluation]
    """By range: the best model on 'validation' and 'test'."""
    seen: Seen
    """The data that the model was shown, up to this judgement."""
    contaminated: Contamination | None = None
    """Ranges that are not held out although they should be."""

    @property
    def looks(self) -> int:
        """How often the model's line was judged on this test range, this time included."""
        test = self.results["test"]
        return self.seen.looks_at(test.first, test.last)

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        progress = self.progress
        return {
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
            "contaminated": None if self.contaminated is None else self.contaminated.as_dict(),
            "test_looks": self.looks,
            "seen": self.seen.as_dict(),
            "hindsight": self.setup.config.picked_with_hindsight,
            **{name: result.as_dict() for name, result in self.results.items()},
            "data_fingerprint": self.setup.environment.market.fingerprint,
            "data_findings": list(self.setup.environment.market.findings),
            "config": self.setup.config.model_dump(mode="json"),
            "versions": versions(),
        }


def summarise(
    setup: Setup, state: TrainState, results: dict[str, Evaluation], contaminated: Contamination | None = None
) -> Summary:
    """Make the summary and write it beside the models."""
    test = results["test"]
    seen = state.seen.looked(test.first, test.last)
    summary = Summary(setup, state.progress, state.metrics, results, seen, contaminated)
    if setup.process.leads:
        save_text(json_text(summary.as_dict(), indent=2) + "\n", setup.config.checkpoint_dir / "summary.json")
    return summary


def print_summary(summary: Summary, reporter: Reporter, next_commands: list[str]) -> None:
    """Say where the model is, how it did on the test range, and what to run next."""
    folder = summary.setup.config.checkpoint_dir
    test = summary.results["test"]
    reporter.say()
    print_table(reporter.console, _performance_table(summary))
    reporter.say(f"  Verdict: the agent is {test.verdict}.", "bold")
    _tell_caveats(summary, reporter)
    chosen = sorted(test.regime_use.items(), key=lambda item: -item[1])[:4]
    reporter.note("  Regimes chosen: " + ", ".join(f"{name} {100 * use:.0f} %" for name, use in chosen if use > 0))
    progress = summary.progress
    picked = f"best on validation after iteration {progress.best_iteration}"
    reporter.note(
        f"  Trained {progress.timesteps:,} steps in {progress.iteration} iterations at "
        f"{progress.timesteps / max(progress.seconds, 1e-9):,.0f} steps/s; explained variance "
        f"{tell(summary.metrics['explained_variance'], '.2f')}; {picked if progress.best_iteration else 'no best model'}."
    )
    if reporter.verbosity != "quiet":
        reporter.console.print(_score_line(summary))
    reporter.say(f"  Model:   {folder / 'model_best.pt'} (last: model_final.pt)")
    reporter.say(f"  Summary: {folder / 'summary.json'}")
    for line in next_commands:
        reporter.note(f"  Next:    {line}")


def _tell_caveats(summary: Summary, reporter: Reporter) -> None:
    """What makes the result worth less than it looks."""
    found, validation = summary.contaminated, summary.results["validation"]
    if found is not None and "validation" in found.ranges:
        reporter.say(
            f"  CONTAMINATED validation range {validation.first} to {validation.last}: the best model was picked on data that "
            "the model was trained on.",
            "bold",
        )
    if summary.looks > 1:
        reporter.say(
            f"  This test range was looked at {summary.looks} times: what was changed in between may have been fitted to it.",
            "dim",
        )
    if summary.setup.config.picked_with_hindsight:
        reporter.say(
            "  The universe was picked with hindsight: compare with equal weight of the same assets only.", "dim"
        )


def _title(summary: Summary) -> str:
    test, found = summary.results["test"], summary.contaminated
    dates = f"{test.first} to {test.last}"
    if found is not None and found.ranges:
        which = "" if "test" in found.ranges else " (its validation range)"
        return f"CONTAMINATED{which} test range {dates}\n(the model has seen data up to {found.seen_until})"
    if found is not None and not found.known:
        return f"Test range {dates}\n(whether the model has seen it is not known)"
    return f"Held-out test range {dates}"


def _performance_table(summary: Summary) -> Table:
    result = summary.results["test"]
    sessions = result.performances[AGENT].sessions
    table = Table(
        title=f"{_title(summary)}\n{sessions} sessions, per year, net of costs",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # fits 80 columns
    )
    table.add_column("", no_wrap=True)
    columns = {name: statistic.column for name, statistic in STATISTICS.items() if statistic.column is not None}
    for column in columns.values():
        table.add_column(column.label, justify="right", no_wrap=True)
    for strategy, figures in result.performances.items():
        table.add_row(label_of(strategy), *(column.cell(name, figures) for name, column in columns.items()))
    return table


def _score_line(summary: Summary) -> Text:
    score = model_score(summary.metrics, summary.setup.environment.market.regimes.n_actions)
    line = Text("  Model score: ")
    line.append(tell(score.total, "+.1f"), style=score.style)
    parts = ", ".join(f"{name.replace('_', ' ')} {tell(value, '+.2f')}" for name, value in asdict(score).items())
    return line.append(f" on a scale of -90 to +90, on the training range ({parts})")
