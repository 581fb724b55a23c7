"""Where a worker's audit goes: to its counters always, to the log and to the bus where the operator wants it.

What plugins do is neither held up nor undone by that. A guest can be refused a thousand things a second, so the log has
so many lines a second for each plugin, and says how many it left out; and what the broker has not confirmed waits here
up to a bound, beyond which events are dropped, counted, and that is said.

Rejected: to hold a request back until its events are confirmed. A broker that takes no more would stop all work for the
sake of what nobody may be listening to; and the dead letter of a `denied` run is kept in any case.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import Final

from warren.bus import AuditNote, BusError, Names, PublishRefused, Transport, audit_message
from warren.plugins import AuditEvent, AuditRecord

from .metrics import WorkerMetrics
from .seldom import Seldom
from .spans import RunPlace, RunSpans
from .text import printable

LOGGER: Final = logging.getLogger("warren.audit")

#: Where events can go, besides the counters.
LOGS: Final = "logs"
EXCHANGE: Final = "exchange"
SINKS: Final = (LOGS, EXCHANGE)

_LEVELS: Final = {"debug": logging.DEBUG, "warning": logging.WARNING, "critical": logging.CRITICAL}

#: Of one plugin, in the log.
LINES_PER_S: Final = 20

#: Events that the broker has not confirmed yet; each takes some 2 KiB at most.
MAX_UNCONFIRMED: Final = 1_000

#: How long one may be on its way.
PUBLISH_LIMIT_S: Final = 30.0

#: How long none is published after the broker has refused one. Where it is for want of a permission, RabbitMQ closes
#: the channel for it, and everything else that was on its way has to go again.
PAUSE_S: Final = 60.0


class AuditSinks:
    """What a worker does with each `AuditRecord`: it is a `warren.plugins.AuditListener`. It never raises."""

    def __init__(
        self, worker: str, sinks: frozenset[str], metrics: WorkerMetrics, transport: Transport, names: Names
    ) -> None:
        """`sinks` are some of `SINKS`."""
        self._worker = worker
        self._metrics = metrics
        self._logging = _Lines() if LOGS in sinks else None
        self._publishing = _Publishing(transport, names, metrics) if EXCHANGE in sinks else None

    def __call__(self, record: AuditRecord) -> None:
        trail = record.trail if isinstance(record.trail, (RunSpans, RunPlace)) else None
        request_id, trace_id = (None, None) if trail is None else (trail.request_id, trail.trace_id)
        self.note(record.plugin, record.version, record.event, request_id, trace_id)

    def note(
        self, plugin: str, version: str | None, event: AuditEvent, request_id: str | None, trace_id: str | None
    ) -> None:
        """An event that need not be a run's."""
        if event.refusal is not None:
            self._metrics.refused(plugin, event.power)
        if self._publishing is None and not (self._logging and LOGGER.isEnabledFor(_LEVELS[event.severity])):
            return
        note = AuditNote(
            plugin=plugin,
            version=version,
            severity=event.severity,
            power=event.power,
            asked=printable(event.asked),
            refusal=None if event.refusal is None else printable(event.refusal),
            time=datetime.fromtimestamp(event.time_ns / 1e9, UTC),
            request_id=None if request_id is None else printable(request_id),
            trace_id=trace_id,
            worker=self._worker,
        )
        if self._logging is not None:
            self._logging.write(note)
        if self._publishing is not None:
            self._publishing.publish(note)


class _Lines:
    """The log, at a pace that can be read."""

    def __init__(self) -> None:
        self._second: dict[str, int] = {}
        self._lines: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def write(self, note: AuditNote) -> None:
        level = _LEVELS[note.severity]
        if not LOGGER.isEnabledFor(level) or not self._has_room(note.plugin):
            return
        left_out = self._left_out.pop(note.plugin, 0)
        more = f" (and {left_out:,} events before it)" if left_out else ""
        LOGGER.log(level, "%s%s", _sentence(note), more, extra={"audit": note.model_dump(mode="json")})

    def _has_room(self, plugin: str) -> bool:
        second = int(time.monotonic())
        if self._second.get(plugin) != second:
            self._second[plugin], self._lines[plugin] = second, 0
        if self._lines[plugin] >= LINES_PER_S:
            self._left_out[plugin] = self._left_out.get(plugin, 0) + 1
            return False
        self._lines[plugin] += 1
        return True


def _sentence(note: AuditNote) -> str:
    who = note.plugin if note.version is None else f"{note.plugin} {note.version}"
    of = "" if note.request_id is None else f" [request {note.request_id}]"
    if note.refusal is None:
        return f"{who} used {note.power}: {note.asked}{of}"
    return f"{who} was refused {note.power}: {note.asked}: {note.refusal}{of}"


class _Publishing:
    """The bus."""

    def __init__(self, transport: Transport, names: Names, metrics: WorkerMetrics) -> None:
        self._transport = transport
        self._names = names
        self._metrics = metrics
        self._unconfirmed = 0
        self._paused_until = -math.inf
        self._seldom = Seldom()

    def publish(self, note: AuditNote) -> None:
        if self._unconfirmed >= MAX_UNCONFIRMED:
            self._drop(f"{MAX_UNCONFIRMED:,} of them wait for the broker already")
            return
        if time.monotonic() < self._paused_until:
            self._drop("the broker has refused one lately")
            return
        try:
            confirmed = self._transport.post(audit_message(self._names, note), timeout_s=PUBLISH_LIMIT_S)
        except (BusError, ValueError) as error:
            self._drop(str(error))
            return
        self._unconfirmed += 1
        confirmed.add_done_callback(self._see)

    def _see(self, confirmed: asyncio.Future[None]) -> None:
        self._unconfirmed -= 1
        if confirmed.cancelled():
            self._drop("it was not confirmed before the end")
        elif (error := confirmed.exception()) is not None:
            if isinstance(error, PublishRefused):
                self._paused_until = time.monotonic() + PAUSE_S
            self._drop(str(error))

    def _drop(self, reason: str) -> None:
        self._metrics.audit_dropped += 1
        if (more := self._seldom.may_say("dropped")) is not None:
            LOGGER.warning("an audit event was not published%s: %s", more, printable(reason))
