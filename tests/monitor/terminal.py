"""A terminal of a given width that keeps what is printed on it."""

import io
import re

from rich.cells import cell_len
from rich.console import Console

from tactician.monitor.progress import Reporter, Verbosity

WIDTHS = (40, 60, 80, 120)


class Clock:
    """Shows the seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reporter(width: int, verbosity: Verbosity = "normal", *, terminal: bool = True, clock=None) -> Reporter:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system="standard" if terminal else None
    )
    return Reporter(verbosity, console, **({"clock": clock} if clock else {}))


def plain(reporter: Reporter) -> list[str]:
    """All lines that were ever seen, those written over included, without colours and blank lines."""
    return [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", coloured(reporter)).splitlines() if line]


def coloured(reporter: Reporter) -> str:
    return reporter.console.file.getvalue()


def fits(lines: list[str], width: int) -> bool:
    return max(map(cell_len, lines)) <= width
