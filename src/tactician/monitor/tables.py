"""Tables whose figures are never cut: a number without its last digits reads as another number."""

import io
from collections.abc import Callable

from rich.console import Console
from rich.table import Table


def print_table(console: Console, table: Table) -> None:
    """Print a table; its columns that do not wrap keep the width of their content, if need be beyond the console's.

    Columns that wrap shrink to their ``min_width``.
    """
    boundless = console.options.update(max_width=10_000)
    spare = 0
    for column in table.columns:
        longest = max(console.measure(cell, options=boundless).maximum for cell in (column.header, *column.cells))
        content = min(longest, column.max_width or longest)
        if column.no_wrap:
            column.min_width = content
        else:
            spare += content - min(content, column.min_width or 1)
    needed = console.measure(table, options=boundless).maximum - spare
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False)


def as_text(draw: Callable[[Console], None]) -> str:
    """The output on a console of 80 columns, as plain text."""
    console = Console(file=io.StringIO(), width=80, color_system=None, force_jupyter=False, soft_wrap=True)
    with console.capture() as printed:
        draw(console)
    return printed.get().strip("\n")
