"""Ctrl+C, SIGTERM and SIGHUP: the first signal asks for a stop after the iteration, the second ends the run at once."""

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tactician.training.summary import Summary

_NAMES = {
    getattr(signal, name): label
    for name, label in (("SIGINT", "Ctrl+C"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"))
    if hasattr(signal, name)  # Windows has no SIGHUP
}
_SHOW_CURSOR = "\x1b[?25h"
_ONE_AND_THE_SAME = 0.3
"""Seconds within which two signals are one request."""
_OVER = b"\0"


class Interrupted(SystemExit):
    """A run was stopped by a signal, and its state is saved."""

    def __init__(self, signal_number: int, path: object, summary: "Summary | None" = None) -> None:
        super().__init__(128 + signal_number)  # its ``code``: who does not catch it exits with it
        self.path = path
        self.summary = summary
        """The results so far."""


class Interruption:
    """A context in which the first signal is remembered and acknowledged, and the second ends the process without saving.

    A thread answers instead of a handler. Python calls handlers only between two operations, and one operation of a large
    network on a CPU takes seconds. The system writes each signal's number into a socket at once, and the thread reads it.
    """

    def __init__(self, seconds_left: Callable[[], float | None] = lambda: None, *, speaks: bool = True) -> None:
        """Prepare.

        Args:
            seconds_left: returns the seconds that the iteration still needs; None if not known. The thread calls it.
            speaks: whether to print; False for all processes but the first.
        """
        self.signal_number: int | None = None
        self.saved: object = None
        """The file that holds all that was learnt, once nothing more is to be saved."""
        self._asked = threading.Event()
        self._seconds_left, self._speaks = seconds_left, speaks
        self._before: dict[int, object] = {}
        self._read: socket.socket | None = None
        self._write: socket.socket | None = None

    @property
    def exit_code(self) -> int:
        """Exit code of a process that a signal has asked to stop; 0 without a signal."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may handle signals; training in another thread leaves them alone
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._thread = threading.Thread(target=self._answer, args=(self._read,), daemon=True)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in _NAMES:
            # nohup wants SIGHUP ignored. A shell's background job ignores SIGINT too, but whoever sends one means it.
            if not (_NAMES[number] == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                self._before[number] = signal.signal(number, lambda *_: None)
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Forgiving(stream, self._asked) for stream in self._streams)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._write is None or self._read is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup_before)
        sys.stdout, sys.stderr = self._streams
        self._write.send(_OVER)
        self._thread.join()
        self._read.close()
        self._write.close()

    def _answer(self, wakeups: socket.socket) -> None:
        asked = -math.inf
        while (received := wakeups.recv(1)) not in (_OVER, b""):
            number, now = received[0], time.monotonic()
            if number not in self._before:
                continue
            if self.signal_number is None:
                self.signal_number, asked = number, now
                self._asked.set()
                self._acknowledge(_NAMES[signal.Signals(number)])
            # A shell that closes sends SIGHUP beside the kernel's, and `timeout` sends its signal to the group as well.
            elif _NAMES[signal.Signals(number)] != "SIGHUP" and now - asked > _ONE_AND_THE_SAME:
                self._leave(number)

    def _acknowledge(self, name: str) -> None:
        left = self._seconds_left()
        about = "" if left is None else f" (about {max(left, 1):.0f} s)"
        work = f"finishing this iteration, then saving{about}"
        again = "Once more to leave at once, without saving."
        if self.saved is not None:
            work, again = f"{self.saved} is saved; finishing its judgement", "Once more to leave at once."
        self._say(f"\n{name}: {work}. {again}\n")

    def _leave(self, number: int) -> None:
        for stream in (1, 2):
            with suppress(OSError):
                if os.isatty(stream):  # a progress bar has hidden the cursor
                    os.write(stream, _SHOW_CURSOR.encode())
                    break
        lost = "what this iteration has learnt is not saved" if self.saved is None else f"{self.saved} is saved"
        self._say(f"\nLeft at once; {lost}.\n")
        os._exit(128 + number)

    def _say(self, text: str) -> None:
        # Written directly, because rich may be in the middle of a line.
        if self._speaks:
            with suppress(OSError):
                os.write(2, text.encode())


class _Forgiving:
    """A stream whose reader may go away once a stop was asked for.

    The signal that stops a run also ends what reads its output: a terminal that was closed, or ``tee`` after Ctrl+C. An error
    of a line that nobody reads must not keep the run from saving.
    """

    def __init__(self, stream: TextIO, asked: threading.Event) -> None:
        self._stream, self._asked = stream, asked

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        # One Ctrl+C reaches the reader and this process. The reader may die of it before the thread here has heard of it.
        if not self._asked.wait(_ONE_AND_THE_SAME):
            raise  # the error that is being handled
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, self._stream.fileno())  # what is still buffered goes there, too
        os.close(sink)
