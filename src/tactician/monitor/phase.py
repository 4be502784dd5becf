"""The progress of one piece of work as a moving line, with the time that is left."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from tactician.monitor.layout import cut
from tactician.monitor.pace import Work
from tactician.monitor.wording import plural, time_left

LIFE_SIGN = 30.0
"""Seconds between two plain lines about the same work, where lines cannot move."""

_BAR, _SHORTEST_BAR = 20, 4
_SHORT = 5.0
"""Work that takes at most these seconds needs no forecast."""


@dataclass
class Phase(Work):
    """The progress of a piece of work, which renders itself within any width."""

    label: str = ""
    unit: str = ""
    """Unit of ``done`` and ``total``, in the singular."""
    detail: str = ""
    tell: Callable[[str], None] | None = None
    """Where lines cannot move, it prints a plain line now and then."""
    due: float = LIFE_SIGN
    """Seconds after which the next plain line is due."""

    def advance(self, done: int, total: int, detail: str = "") -> None:
        """Set the state; drawn at the next refresh, so calling it often costs nothing."""
        self.done, self.total, self.detail = done, total, detail
        if self.tell is not None and self.seconds >= self.due and done < total:
            self.due = self.seconds + LIFE_SIGN
            self.tell(self.line())

    def line(self, width: int | None = None) -> str:
        """The progress as text of at most ``width`` cells. Without a width it is complete, but has no bar.

        What is short of room loses the bar first, then the detail, then the time left, then the numbers. The percentage
        stays, whatever the width.
        """
        lines = self._measured(width) if self.total else self._unmeasured()
        if width is None:
            return next(iter(lines))
        end = f": {self._percentage}" if self.total else ""
        fitting = (line for line in lines if cell_len(line) <= width)
        return next(fitting, f"{cut(f'  {self.label}', width - len(end))}{end}")

    def _measured(self, width: int | None) -> Iterator[str]:
        head, left = f"  {self.label}: ", self._left()
        unit = self.unit if self.total == 1 else plural(self.unit) if self.unit else ""
        numbers = f"{f'{self.done}/{self.total} {unit}'.rstrip()} ({self._percentage})"
        detail = f" | {self.detail}" if self.detail else ""
        in_full = f"{numbers}{detail}{left}"
        if width is not None:
            # Room for the digits to come, so that the bar keeps its length while they grow.
            to_come = len(str(self.total)) - len(str(self.done)) + len("100%") - len(self._percentage)
            room = width - cell_len(f"{head} {in_full}") - to_come
            if room >= _SHORTEST_BAR:
                yield f"{head}{self._bar(min(_BAR, room))} {in_full}"
        yield head + in_full
        yield f"{head}{numbers}{left}"
        yield head + numbers

    def _unmeasured(self) -> Iterator[str]:
        head = f"  {self.label}..."
        yield f"{head} {self.seconds:.0f} s{self._left()}"
        yield f"{head} {self.seconds:.0f} s"

    @property
    def _percentage(self) -> str:
        return f"{100 * self.done // self.total}%"

    def _bar(self, cells: int) -> str:
        full = round(cells * self.done / self.total)
        return "━" * full + "╌" * (cells - full)

    def _left(self) -> str:
        left = self.seconds_left
        if left is None or self.seconds < 1 or self.seconds + left < _SHORT:
            return ""
        return f" | {time_left(left)}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text(self.line(options.max_width), no_wrap=True, overflow="crop")
