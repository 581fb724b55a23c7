"""The world of a plugin that is tested: a clock that the test moves, and random numbers that are the same each time.

All that a guest can ask goes by the one clock, be it `get_time`, WASI's clocks, or when what it has stored expires. A
guest that sleeps waits for nothing: the clock goes on to where it wakes. What it slept counts toward the time limit of
its run as it would anywhere, so that an hour of it ends as `deadline_exceeded`, at once.

What a guest computes takes no time by this clock, and real time all the same: the limit holds for that, too. What a
snapshot was told when it was made is the machine's, and so are the times of files.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..guest import past_deadline
from ..host import HostSession
from ..world import Clock, Timer, due_times

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: When tests begin, if they do not say: 2026-01-01T00:00:00Z, in seconds since the epoch.
DEFAULT_START_S: Final = 1_767_225_600

#: 2200-01-01T00:00:00Z. What guests count nanoseconds in ends in 2262, and they may sleep for a while.
END_NS: Final = 7_258_118_400 * 10**9

#: What the monotonic clock begins with: a second, for some take nothing to mean that there is no clock.
FIRST_NS: Final = 10**9

#: What random numbers begin with.
SEED: Final = 0


class VirtualClock:
    """It stands still until it is moved, by the test or by a guest that sleeps."""

    def __init__(self, start: datetime | float = DEFAULT_START_S) -> None:
        """`start` is in seconds since the epoch if it is a number. Raises ValueError for a time that no clock shows."""
        self._start_ns = _since_epoch_ns(start) if isinstance(start, datetime) else round(start * 1e9)
        if not 0 <= self._start_ns < END_NS:
            raise ValueError(f"a clock begins between 1970 and 2200, and not at {start}")
        self._now_ns = self._start_ns

    def now_ns(self) -> int:
        """Since the epoch."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """The time by the monotonic clock."""
        return self._now_ns - self._start_ns + FIRST_NS

    def advance(self, seconds: float) -> None:
        """Raises ValueError for less than nothing, for clocks do not go back; and for the year 2200."""
        if seconds < 0:
            raise ValueError(f"a clock goes forward, and not by {seconds:g} s")
        self.advance_ns(round(seconds * 1e9))
        if self._now_ns >= END_NS:
            raise ValueError(f"a clock ends with the year 2199, and {seconds:g} s more are beyond that")

    def advance_ns(self, nanoseconds: int) -> None:
        self._now_ns += nanoseconds


def _since_epoch_ns(time: datetime) -> int:
    if time.tzinfo is None:
        raise ValueError(f"{time} is in no time zone: it has to say its offset")
    return (time - EPOCH) // timedelta(microseconds=1) * 1_000


class VirtualWorld:
    """A `World` by one clock, for all the runs of a test, one after the other."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._random = random.Random(SEED)  # noqa: S311 - they are to be the same each time

    def clock_ns(self, clock: Clock) -> int:
        return self.clock.now_ns() if clock == "realtime" else self.clock.monotonic_ns()

    def random_bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def begin_sleep(self, timers: Sequence[Timer | None]) -> list[int]:
        return due_times(timers, self.clock_ns)

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:
        now_ns = self.clock.monotonic_ns()
        return [place for place, due in enumerate(due_ns) if due <= now_ns] or None


class VirtualSession(HostSession):
    """A run in that world: it has gone on by the time that it asks whether a sleep is over."""

    __slots__ = ("_clock", "_ends_ns", "outside")

    def __init__(self, world: VirtualWorld, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.outside = world
        self._clock = world.clock
        self._ends_ns = world.clock.monotonic_ns() + round(self._timeout_s * 1e9)

    def begin_sleep(self, timers: Sequence[Timer | None]) -> list[int]:
        due_ns = super().begin_sleep(timers)
        first_ns = min(due_ns)
        self._clock.advance_ns(max(0, min(first_ns, self._ends_ns) - self._clock.monotonic_ns()))
        if first_ns > self._ends_ns:
            raise past_deadline(self._timeout_s)
        return due_ns
