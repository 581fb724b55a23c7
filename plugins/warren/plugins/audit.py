"""Audit: whoever has to know what plugins did with their powers, and what they were refused, is told at once.

A run's own events are told when it ends, however it ends: also when it is given up midway, and has no outcome. A plugin
that is called by another tells its own, so that each event is told once, by the name and version of who it was. A run
without events costs one look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from .outcome import AuditEvent, Trail

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An event, and whose it is. `trail` is what the run was given of its trace, None where it was given nothing."""

    plugin: str
    version: str
    event: AuditEvent
    trail: Trail | None = None


AuditListener = Callable[[AuditRecord], None]


class Audit:
    """Who is told. Listeners are called on the event loop and hand on what takes time; what one raises is logged."""

    def __init__(self) -> None:
        self._listeners: list[AuditListener] = []

    def add(self, listener: AuditListener) -> Callable[[], None]:
        """What it gives back ends the listening; calling that twice does no harm."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def tell(self, plugin: str, version: str, events: tuple[AuditEvent, ...], trail: Trail | None) -> None:
        """A run's events, of which those that have another plugin's name were told by its own run."""
        if not self._listeners:
            return
        for event in events:
            if event.plugin is None:
                self._tell(AuditRecord(plugin, version, event, trail))

    def _tell(self, record: AuditRecord) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(record)
            except Exception:  # noqa: BLE001 - whatever it is, the run goes on
                _log.exception("a listener of the audit failed at %s of %s", record.event.power, record.plugin)
