"""How fast work goes, and how long what is left of it takes. Nothing here is printed."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

Clock = Callable[[], float]
"""Seconds since some moment."""

_REMEMBERED = 5
"""Iterations whose median speed is that of the run: the first is slow, and those with a validation are."""


@dataclass
class Work:
    """A piece of work of known size, or of known duration, or of neither."""

    clock: Clock = time.perf_counter
    expected: float | None = None
    """Seconds that it takes in all, where its progress is not told."""
    closing: bool = False
    """Whether little of an iteration is left once it is done."""
    done: int = 0
    total: int = 0
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the watch."""
        self.begun = self.clock()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self.clock() - self.begun

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far, else by what was expected; None if it is not known."""
        if self.total > 0:
            return self.seconds * (self.total - self.done) / self.done if self.done > 0 else None
        return None if self.expected is None else max(0.0, self.expected - self.seconds)


class Pace:
    """The pace of a run's iterations in this session.

    It only reads and writes plain attributes, so that a signal's handler may ask it.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.work: Work | None = None
        """What is being done at present."""
        self._clock = clock
        self._steps = self._total = 0
        self._begun: float | None = None
        self._last: float | None = None
        self._expected: float | None = None
        self._rates: deque[float] = deque(maxlen=_REMEMBERED)

    def begin_iteration(self, steps: int, total: int) -> None:
        """An iteration begins, and the one before it has ended.

        Args:
            steps: done in the run so far.
            total: of the run.
        """
        now = self._clock()
        if self._begun is not None:
            self._last = now - self._begun
            if steps > self._steps and self._last > 0:
                self._rates.append((steps - self._steps) / self._last)
        self._begun, self._steps, self._total = now, steps, total

    def expect(self, seconds: float | None) -> None:
        """Say how long an iteration takes, if it is known; counts until the first one of this session has ended."""
        self._expected = seconds

    def seconds_left_of_iteration(self) -> float | None:
        """From the iteration before, else from what is expected, else from the work at hand if little follows it.

        At least as long as the work at hand still needs. None if nothing is known.
        """
        if self._begun is None:
            return None
        whole = self._expected if self._last is None else self._last
        work = None if self.work is None else self.work.seconds_left
        if whole is None:
            return work if self.work is not None and self.work.closing else None
        return max(whole - (self._clock() - self._begun), 0.0, work or 0.0)

    def seconds_left_of_run(self) -> float | None:
        """From the median speed of the last iterations; None before the first of this session has ended."""
        if self._begun is None or not self._rates:
            return None
        elapsed = self._clock() - self._begun
        return max(0.0, (self._total - self._steps) / median(self._rates) - elapsed)
