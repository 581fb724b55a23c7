"""Audit: whoever has to know what plugins did with their powers, and what they were refused, is told at once.

A run's own events are told when it ends, however it ends: also when it is given up midway, and has no outcome. A plugin
that is called by another tells its own, so that each event is told once, by the name and version of who it was. A run
without events costs one look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .observers import Observers
from .outcome import AuditEvent, Trail


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An event, and whose it is. `trail` is what the run was given of its trace, None where it was given nothing."""

    plugin: str
    version: str
    event: AuditEvent
    trail: Trail | None = None


AuditListener = Callable[[AuditRecord], None]


class Audit:
    """Who is told of runs' events."""

    def __init__(self) -> None:
        self.observers = Observers[AuditRecord]()

    def tell(self, plugin: str, version: str, events: tuple[AuditEvent, ...], trail: Trail | None) -> None:
        """A run's events, of which those that have another plugin's name were told by its own run."""
        if self.observers:
            for event in events:
                if event.plugin is None:
                    self.observers.tell(AuditRecord(plugin, version, event, trail))
