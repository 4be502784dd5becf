"""The speed of work, and the time that is left. Nothing here is printed."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

Clock = Callable[[], float]
"""Returns seconds since an arbitrary moment."""

_REMEMBERED = 10
"""Number of last iterations whose mean is the run's speed: a few validations, which take time as well, are among them."""


@dataclass
class Work:
    """A piece of work. Its size or its duration may be known."""

    clock: Clock = time.perf_counter
    expected: float | None = None
    """Expected seconds for the whole work, if it does not report its progress."""
    closing: bool = False
    """Whether this work is nearly the last of an iteration."""
    done: int = 0
    total: int = 0
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the watch."""
        self.begun = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return self.clock() - self.begun

    @property
    def seconds_left(self) -> float | None:
        """Seconds left, from the speed so far, else from the expected duration; None if not known."""
        if self.total > 0:
            return self.seconds * (self.total - self.done) / self.done if self.done > 0 else None
        return None if self.expected is None else max(0.0, self.expected - self.seconds)


class Pace:
    """The pace of a run's iterations in this session.

    It only reads and writes plain attributes, so that a signal's handler may ask it.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.work: Work | None = None
        """The present piece of work."""
        self._clock = clock
        self._steps = self._total = 0
        self._begun: float | None = None
        self._last: float | None = None
        self._expected: float | None = None
        self._seconds_per_step: deque[float] = deque(maxlen=_REMEMBERED)

    def begin_iteration(self, steps: int, total: int) -> None:
        """Note that an iteration begins, and that the previous one has ended.

        Args:
            steps: done in the run so far.
            total: of the run.
        """
        now = self._clock()
        if self._begun is not None:
            self._last = now - self._begun
            if steps > self._steps and self._last > 0:
                self._seconds_per_step.append(self._last / (steps - self._steps))
        self._begun, self._steps, self._total = now, steps, total

    def expect(self, seconds: float | None) -> None:
        """Set the expected duration of an iteration. It counts until the first one of this session has ended."""
        self._expected = seconds

    def seconds_left_of_iteration(self) -> float | None:
        """Seconds left of this iteration; None if nothing is known.

        The estimate comes from the previous iteration, else from the expected duration, else from the present work if it is
        nearly the last. It is at least the time that the present work still needs.
        """
        if self._begun is None:
            return None
        whole = self._expected if self._last is None else self._last
        work = None if self.work is None else self.work.seconds_left
        if whole is None:
            return work if self.work is not None and self.work.closing else None
        return max(whole - (self._clock() - self._begun), 0.0, work or 0.0)

    def seconds_left_of_run(self) -> float | None:
        """Seconds left, from the mean speed of the last iterations; None before the first of this session has ended."""
        if self._begun is None or not self._seconds_per_step:
            return None
        elapsed = self._clock() - self._begun
        return max(0.0, (self._total - self._steps) * fmean(self._seconds_per_step) - elapsed)
