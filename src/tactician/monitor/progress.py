"""Progress of a run on the screen: bars on a terminal, plain lines elsewhere, little with --quiet.

Lines are broken only on a terminal. A log or a pipe gets each message as one line, so that it can be searched.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tactician.monitor.layout import print_lines, print_text, row, width_of
from tactician.monitor.pace import Clock, Pace
from tactician.monitor.phase import Phase
from tactician.monitor.wording import count, score_colour, tell, time_left

Verbosity = Literal["quiet", "normal", "verbose"]

_RULE = 60
_FIGURES_INDENT = 5


class Reporter:
    """Prints progress to a console according to a verbosity."""

    def __init__(
        self,
        verbosity: Verbosity = "normal",
        console: Console | None = None,
        *,
        silent: bool = False,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Print to a console; ``silent`` for all processes but the first."""
        self.console = console or Console(highlight=False, quiet=silent)
        self.verbosity = verbosity
        self.pace = Pace(clock)
        self._clock = clock
        self._durations: dict[str, float] = {}

    def say(self, text: str = "", style: str = "", *, whole: Iterable[object] = ()) -> None:
        """Print a line at every verbosity.

        Args:
            text: plain; brackets mean nothing.
            style: of the line.
            whole: parts with blanks that are to be copied, commands and paths: no line ends inside them.
        """
        print_text(self.console, Text(text, style=style), whole)

    def say_styled(self, text: Text) -> None:
        """Print a styled line at every verbosity."""
        print_text(self.console, text)

    def note(self, text: str, style: str = "", *, whole: Iterable[object] = ()) -> None:
        """Print a line unless --quiet."""
        if self.verbosity != "quiet":
            self.say(text, style, whole=whole)

    def debug(self, text: str) -> None:
        """Print a line with --verbose."""
        if self.verbosity == "verbose":
            self.say(f"     {text}", "dim")

    def warn(self, text: str, *, whole: Iterable[object] = ()) -> None:
        """Print a warning at every verbosity."""
        self.say(f"Warning: {text}", "yellow", whole=whole)

    def iteration(self, number: int, steps: int, total: int) -> None:
        """Print the header of an iteration."""
        self.pace.begin_iteration(steps, total)
        parts = [f"  🔄 Iteration {number}", f"Steps: {steps:,}/{total:,} ({100 * steps / total:.1f}%)"]
        parts += [left] if (left := time_left(self.pace.seconds_left_of_run())) else []
        rule = "=" * min(_RULE, width_of(self.console) or _RULE)
        self.note(rule)
        self._note_row([Text(part, style="bold") for part in parts])
        self.note(rule)

    def figures(self, metrics: dict[str, float]) -> None:
        """Print the figures of a finished iteration, in two lines or more; "–" for a figure that is not available."""

        def told(name: str, pattern: str, scale: float = 1.0, unit: str = "") -> str:
            return tell(scale * metrics[name], pattern, unit)

        self._note_row(
            [
                Text(f"  📊 Reward {told('reward', '+.4f', unit=' %/day')}"),
                Text(f"Turnover {told('turnover_daily', '.1f', 100, ' %/day')}"),
                Text(f"Cost {told('cost_annual', '.1f', 100, ' %/yr')}"),
                Text(f"Trades {metrics['trades']:,.0f}"),
                Text(f"Win rate {told('win_rate', '.0f', 100, ' %')}"),
                Text(f"Avg return {told('trade_return', '+.2f', 100, ' %')}"),
            ]
        )
        learning = [
            Text(f"     Explained variance {told('explained_variance', '.2f')}"),
            Text(f"Entropy {told('entropy', '.2f')}"),
            Text(f"KL {told('kl', '.4f')}"),
            Text(f"Clipped {told('clip_fraction', '.0f', 100, ' %')}"),
            Text.assemble("Score ", (told("score", "+.0f"), score_colour(metrics["score"]))),
            Text(f"{metrics['steps_per_second']:,.0f} steps/s"),
        ]
        if "gpu_reserved_gb" in metrics:
            learning.append(Text(f"GPU {metrics['gpu_reserved_gb']:.2f} GB"))
        self._note_row(learning)
        if dropped := int(metrics["dropped_updates"]):
            were = "was" if dropped == 1 else "were"
            self.warn(f"{count(dropped, 'update')} {were} dropped: loss or gradient was not finite.")

    @contextmanager
    def phase(
        self, label: str, unit: str = "", *, expected: float | None = None, closing: bool = False
    ) -> Iterator[Phase]:
        """A context for a piece of work that reports its progress. At the end its duration is printed.

        Args:
            label: what is done.
            unit: of its progress, in the singular.
            expected: seconds that it takes, for work that does not tell its progress; None for what it took last time.
            closing: whether this work is nearly the last of an iteration.
        """
        expected = self._durations.get(label) if expected is None else expected
        phase = Phase(clock=self._clock, expected=expected, closing=closing, label=label, unit=unit)
        self.pace.work = phase
        try:
            if self.verbosity == "quiet":
                yield phase
            elif self.console.is_terminal and not self.console.is_dumb_terminal:
                with Live(phase, console=self.console, refresh_per_second=4, transient=True):
                    yield phase
            else:
                phase.tell = self.note
                yield phase
        finally:
            self.pace.work = None
        self._durations[label] = phase.seconds
        self.note(f"  {phase.label}... done ({phase.seconds:.1f}s)")

    @contextmanager
    def quiet_phase(self, label: str) -> Iterator[None]:
        """A context for work that only --verbose reports."""
        begun = self._clock()
        yield
        self.debug(f"{label}... done ({self._clock() - begun:.2f}s)")

    def _note_row(self, parts: Sequence[Text]) -> None:
        if self.verbosity != "quiet":
            print_lines(self.console, row(parts, width_of(self.console), _FIGURES_INDENT))
