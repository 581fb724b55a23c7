"""How the processes of a worker are, as far as they have been heard: what probes and scrapes are answered from.

Each process says once a second, from its event loop, whether it can serve and what it has counted. That it says so
shows that its loop turns; the broker is never asked. Whoever answers a probe only looks at what was said last, so that
an answer takes no time even when a loop is stuck. (Rejected: asking a process when a probe comes. A stuck one would
keep the probe waiting, and the answer would be a time-out instead of a reason.)

A process is known by its place, 1 to N, not by its id: a child that is replaced goes on in its place, and its counters
go on from where its predecessor's were last heard, so that no sum ever goes backwards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from .metrics import Family, Snapshot, add

#: How often a process says how it is.
PERIOD_S: Final = 1.0

#: A process that has said nothing for so long is stuck. The longest that one guest can keep a loop is far below.
STUCK_S: Final = 5.0

#: How long a process may take from its start, or from its predecessor's end, to the first that is heard of it: the
#: longest pause before a restart, and interpreter and libraries loading on a busy machine.
STARTING_S: Final = 90.0

READY: Final = Family("warren_ready", "gauge", "1 when requests are served, 0 when something keeps them from it.")
RESTARTS: Final = Family("warren_process_restarts_total", "counter", "Worker processes that ended and were replaced.")


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says of itself: what keeps it from serving (None: nothing), and what it has counted."""

    impediment: str | None
    started: bool = False
    metrics: Snapshot = field(default_factory=dict)


Tell = Callable[[Report], None]

_NOTHING_YET: Final = Report("starting: the process is being started")


@dataclass(frozen=True, slots=True)
class _Place:
    """One process and its predecessors. Of this one there was a sign at `heard_s`, which does for `patience_s`."""

    heard_s: float
    patience_s: float = STARTING_S
    report: Report = _NOTHING_YET
    restarts: int = 0
    before: Snapshot = field(default_factory=dict)


class Vitals:
    """What was last heard of `processes` processes. Told on one thread; asked on any."""

    def __init__(self, processes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places = [_Place(clock()) for _ in range(processes)]

    def heard(self, place: int, report: Report) -> None:
        """A process, counted from 0, has said how it is."""
        self._places[place] = replace(self._places[place], heard_s=self._clock(), patience_s=STUCK_S, report=report)

    def ended(self, place: int, *, for_good: bool = False) -> None:
        """A process has ended; another one takes its place, unless it is `for_good`."""
        gone = self._places[place]
        counted = add((gone.before, gone.report.metrics))
        if for_good:
            left = Report("ended", gone.report.started)
            self._places[place] = _Place(self._clock(), math.inf, left, gone.restarts, counted)
        else:
            self._places[place] = _Place(self._clock(), restarts=gone.restarts + 1, before=counted)

    def not_live(self) -> str | None:
        """Why all should be started anew from outside, in words; None while each of them is heard, or starts.

        Where the parent's own loop is stuck, none is heard.
        """
        return self._reasons(self._silence)

    def not_started(self) -> str | None:
        """Why not every process has come to serve yet."""
        return self._reasons(lambda place: None if place.report.started else place.report.impediment)

    def not_ready(self) -> str | None:
        """What keeps any of the processes from serving."""
        return self._reasons(lambda place: self._silence(place) or place.report.impediment)

    def _silence(self, place: _Place) -> str | None:
        silent_s = self._clock() - place.heard_s
        return None if silent_s <= place.patience_s else f"stuck: nothing was heard of it for {silent_s:.0f} s"

    def _reasons(self, reason: Callable[[_Place], str | None]) -> str | None:
        given = [(number, reason(place)) for number, place in enumerate(self._places, start=1)]
        if len(given) == 1:
            return given[0][1]
        return "; ".join(f"worker {number}: {why}" for number, why in given if why is not None) or None

    def metrics(self) -> Iterator[tuple[tuple[str, ...], Snapshot]]:
        """What each process has counted, with its number where there are several."""
        several = len(self._places) > 1
        for number, place in enumerate(self._places, start=1):
            own: Snapshot = {READY.name: {(): float(self._is_ready(place))}}
            if several:
                own[RESTARTS.name] = {(): place.restarts}
            totals = add((place.before, place.report.metrics))
            yield ((str(number),) if several else ()), place.report.metrics | totals | own

    def _is_ready(self, place: _Place) -> bool:
        return self._silence(place) is None and place.report.impediment is None
