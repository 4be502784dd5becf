"""Processes that answer signals, whatever the suite was started from."""

import signal


def as_from_a_terminal() -> None:
    """A suite that runs under nohup, or in a shell's background, must not hand on what it ignores."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
