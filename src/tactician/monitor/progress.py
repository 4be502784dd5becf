"""What a person sees while a run goes on: bars on a terminal, plain lines elsewhere, little with --quiet."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.text import Text

Verbosity = Literal["quiet", "normal", "verbose"]

_RULE = "=" * 60


def tell(value: float, pattern: str, unit: str = "") -> str:
    """A figure for the eye; "–" if it is not available. What rounds to zero has no minus sign."""
    sign = "+" if pattern.startswith("+") else ""
    return f"{value:{sign}z{pattern.removeprefix('+')}}{unit}" if math.isfinite(value) else "–"


class Reporter:
    """Prints progress to a console according to a verbosity."""

    def __init__(
        self, verbosity: Verbosity = "normal", console: Console | None = None, *, silent: bool = False
    ) -> None:
        """Print to a console; ``silent`` for the processes that leave speaking to the first."""
        self.console = console or Console(highlight=False, soft_wrap=True, quiet=silent)
        self.verbosity = verbosity
        self._live: Live | None = None

    def say(self, text: str = "", style: str = "") -> None:
        """A line that everyone sees, quiet or not."""
        self.console.print(Text(text, style=style))

    def note(self, text: str, style: str = "") -> None:
        """A line that --quiet leaves out."""
        if self.verbosity != "quiet":
            self.say(text, style)

    def debug(self, text: str) -> None:
        """A line for --verbose."""
        if self.verbosity == "verbose":
            self.say(f"     {text}", "dim")

    def warn(self, text: str) -> None:
        """A warning, seen by everyone."""
        self.say(f"Warning: {text}", "yellow")

    def iteration(self, number: int, steps: int, total: int) -> None:
        """The header of an iteration."""
        self.note(_RULE)
        self.note(f"  🔄 Iteration {number} | Steps: {steps:,}/{total:,} ({100 * steps / total:.1f}%)", "bold")
        self.note(_RULE)

    def figures(self, metrics: dict[str, float]) -> None:
        """The figures of a finished iteration, in two lines; "–" for what is not available."""

        def told(name: str, pattern: str, scale: float = 1.0, unit: str = "") -> str:
            return tell(scale * metrics[name], pattern, unit)

        self.note(
            f"  📊 Reward {told('reward', '+.4f', unit=' %/day')} | Turnover {told('turnover_daily', '.1f', 100, ' %/day')} | "
            f"Cost {told('cost_annual', '.1f', 100, ' %/yr')} | Trades {metrics['trades']:,.0f} | "
            f"Win rate {told('win_rate', '.0f', 100, ' %')} | Avg return {told('trade_return', '+.2f', 100, ' %')}"
        )
        self.note(
            f"     Explained variance {told('explained_variance', '.2f')} | Entropy {told('entropy', '.2f')} | "
            f"KL {told('kl', '.4f')} | Clipped {told('clip_fraction', '.0f', 100, ' %')} | "
            f"Score {told('score', '+.0f')} | {metrics['steps_per_second']:,.0f} steps/s"
            + (f" | GPU {metrics['gpu_reserved_gb']:.2f} GB" if "gpu_reserved_gb" in metrics else "")
        )
        if metrics["dropped_updates"]:
            self.warn(f"{metrics['dropped_updates']:.0f} updates were dropped: loss or gradient was not finite.")

    @contextmanager
    def phase(self, label: str, unit: str = "") -> Iterator["Phase"]:
        """A piece of work that reports its progress; ends with its duration."""
        phase = Phase(label, unit, time.perf_counter())
        if self.verbosity == "quiet":
            yield phase
            return
        if self.console.is_terminal:
            with Live(phase, console=self.console, refresh_per_second=4, transient=True):
                yield phase
        else:
            yield phase
        self.note(f"  {phase.label}... done ({phase.seconds:.1f}s)")

    @contextmanager
    def quiet_phase(self, label: str) -> Iterator[None]:
        """Work that only --verbose tells about."""
        begun = time.perf_counter()
        yield
        self.debug(f"{label}... done ({time.perf_counter() - begun:.2f}s)")


@dataclass
class Phase:
    """How far a piece of work is; renders itself."""

    label: str
    unit: str
    begun: float
    done: int = 0
    total: int = 0
    detail: str = ""

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.begun

    def advance(self, done: int, total: int, detail: str = "") -> None:
        """Set the state; drawn at the next refresh, so calling it often costs nothing."""
        self.done, self.total, self.detail = done, total, detail

    def __rich__(self) -> Text:
        share = self.done / self.total if self.total else 0.0
        bar = "━" * round(20 * share) + "╌" * (20 - round(20 * share))
        detail = f" | {self.detail}" if self.detail else ""
        return Text(f"  {self.label} {bar} {self.done}/{self.total} {self.unit} ({100 * share:.0f}%){detail}")
