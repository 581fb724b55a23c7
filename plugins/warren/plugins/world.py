"""The world as a guest finds it, and no two guests alike: what time it is, random numbers, when a sleep is over.

A guest's interface, be it WASI or another, asks a run's `World` and nobody else, so that what a run was told can be
recorded, and told to another once more (`replaying`), or made up (`testing`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

Clock = Literal["realtime", "monotonic"]


class Timer(NamedTuple):
    """What a guest sleeps for: so many nanoseconds from now on, or until that clock shows them if `is_absolute`."""

    clock: Clock
    timeout_ns: int
    is_absolute: bool


class World(Protocol):
    """One run's. Everything here answers at once."""

    def clock_ns(self, clock: Clock) -> int:
        """The time by that clock."""
        ...

    def random_bytes(self, length: int) -> bytes:
        """So many random bytes."""
        ...

    def begin_sleep(self, timers: Sequence[Timer | None]) -> list[int]:
        """The guest sleeps until the first of these: when each is due, by the monotonic clock. None is due at once."""
        ...

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:
        """Which of these times have come, by their places; None while none has. Asked again and again."""
        ...


def due_times(timers: Sequence[Timer | None], clock_ns: Callable[[Clock], int]) -> list[int]:
    """When each is due, by the monotonic one of these clocks."""
    now_ns = clock_ns("monotonic")
    return [
        0 if timer is None else now_ns + timer.timeout_ns - (clock_ns(timer.clock) if timer.is_absolute else 0)
        for timer in timers
    ]


class _Live:
    """The machine's own."""

    def clock_ns(self, clock: Clock) -> int:
        return time.time_ns() if clock == "realtime" else time.monotonic_ns()

    def random_bytes(self, length: int) -> bytes:
        return os.urandom(length)

    def begin_sleep(self, timers: Sequence[Timer | None]) -> list[int]:
        return due_times(timers, self.clock_ns)

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:
        now_ns = time.monotonic_ns()
        return [place for place, due in enumerate(due_ns) if due <= now_ns] or None


LIVE: Final[World] = _Live()
