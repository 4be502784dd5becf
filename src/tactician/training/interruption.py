"""Ctrl+C and SIGTERM: the first asks for a stop after the iteration, the second leaves at once."""

import os
import signal
from types import FrameType, TracebackType

_MESSAGES = {signal.SIGINT: "Ctrl+C", signal.SIGTERM: "SIGTERM"}


class Interrupted(Exception):
    """A run was stopped by a signal, and its state is saved."""

    def __init__(self, signal_number: int, path: object) -> None:
        super().__init__(f"stopped by {_MESSAGES[signal.Signals(signal_number)]}; saved {path}")
        self.exit_code = 128 + signal_number
        self.path = path


class Interruption:
    """While it is entered, the first SIGINT or SIGTERM is remembered and the second one ends the process, unsaved."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in _MESSAGES:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number
        name = _MESSAGES[signal.Signals(number)]
        # Not through rich: a handler may interrupt it in the middle of a line.
        text = f"\n{name}: finishing this iteration, then saving. Once more to leave at once, without saving.\n"
        os.write(2, text.encode())
