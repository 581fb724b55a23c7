"""Who is told of what happens: called at that moment, on the event loop, in the order in which they came."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Observers(Generic[T]):
    """Those of one kind of event. They hand on what takes time; what one raises is logged, and nobody else's matter."""

    def __init__(self) -> None:
        self._observers: list[Callable[[T], None]] = []

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Callable[[T], None]) -> Callable[[], None]:
        """What it gives back ends the observing; calling that twice does no harm."""
        self._observers.append(observer)

        def end() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return end

    def tell(self, event: T) -> None:
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - whatever it is, what happened has happened
                _log.exception("an observer failed at %s", type(event).__name__)
