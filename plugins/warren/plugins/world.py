"""The world as a guest finds it, and no two guests alike: what time it is, random numbers, when a sleep is over.

A guest's interface, be it WASI or another, asks a run's `World` and nobody else, so that what a run was told can be
recorded, and told to another once more (`replaying`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final, Literal, Protocol

Clock = Literal["realtime", "monotonic"]


class World(Protocol):
    """One run's. Everything here answers at once."""

    def clock_ns(self, clock: Clock) -> int:
        """The time by that clock."""
        ...

    def random_bytes(self, length: int) -> bytes:
        """So many random bytes."""
        ...

    def begin_sleep(self, due_ns: Sequence[int]) -> None:
        """The guest sleeps until the first of these times, by the monotonic clock."""
        ...

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:
        """Which of these times have come, by their places; None while none has. Asked again and again."""
        ...


class _Live:
    """The machine's own."""

    def clock_ns(self, clock: Clock) -> int:
        return time.time_ns() if clock == "realtime" else time.monotonic_ns()

    def random_bytes(self, length: int) -> bytes:
        return os.urandom(length)

    def begin_sleep(self, due_ns: Sequence[int]) -> None:
        pass

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:
        now_ns = time.monotonic_ns()
        return [place for place, due in enumerate(due_ns) if due <= now_ns] or None


LIVE: Final = _Live()
