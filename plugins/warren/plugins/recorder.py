"""What the outside told one run, in order, while the run lasts: what a recording is made of, should anybody want one.

A guest is deterministic but for what it is told: the answers of host functions, the clocks, random numbers, and which
of the things that it slept for came first. Each is an event here: who was asked, what, and the answer. What is kept are
references to the bytes that the guest is given anyway, so an event costs a fraction of a microsecond beside the 20 µs
of its host call, and a run that asks for nothing has no recorder at all. Nothing is written down before somebody wants
it (`recording`).

Rejected: a seed that a run's random numbers are derived from. It would make every run's randomness as good as the
derivation, so that a few could be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .outcome import RunKind

#: Who can be asked: a host function by its name, a clock, the random numbers, and a sleep that waits for several.
Source = Literal["host_call", "clock", "random", "sleep"]

#: What is kept of one run, so that a guest which asks for much does not hold much. A request may have as much.
MAX_RECORDED_BYTES: Final = 1 << 20
MAX_EVENTS: Final = 1_000


@dataclass(slots=True, eq=False)
class Event:
    """One thing that was asked for. `answer` is None while there is none, and then `fault` may say how the run ended.

    `name` is that of the host function, or of the clock; `asked` its arguments, or how much was wanted, in decimal.
    """

    source: Source
    name: str
    asked: bytes
    answer: bytes | None = None
    fault: tuple[RunKind, str] | None = None


class Recorder:
    """The events of one run: the first that have room. `is_cut` once there were others."""

    __slots__ = ("_bytes_left", "_open", "events", "is_cut")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_cut = False
        self._bytes_left = MAX_RECORDED_BYTES
        self._open: Event | None = None

    def begin(self, source: Source, name: str, asked: bytes) -> None:
        """Somebody is asked. A run asks one at a time."""
        self._open = None
        if self.is_cut:
            return
        self._bytes_left -= len(name) + len(asked)
        if self._bytes_left < 0 or len(self.events) >= MAX_EVENTS:
            self.is_cut = True
            return
        self._open = Event(source, name, asked)
        self.events.append(self._open)

    def answer(self, answer: bytes) -> None:
        """What the guest is given for what it asked last."""
        event, self._open = self._open, None
        if event is None:
            return
        self._bytes_left -= len(answer)
        if self._bytes_left < 0:  # an event without its answer is of no use
            self.events.pop()
            self.is_cut = True
        else:
            event.answer = answer

    def fault(self, kind: RunKind, reason: str) -> None:
        """What the guest asked last ends its run."""
        event, self._open = self._open, None
        if event is not None:
            event.fault = (kind, reason)
