"""Remembering what came lately, to know the second copy of a message that was published twice."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable


class RecentIds:
    """The last `limit` ids, those that are no more than `window_s` seconds old."""

    def __init__(self, limit: int, window_s: float = math.inf) -> None:
        self._limit = limit
        self._window_s = window_s
        self._came: dict[Hashable, float] = {}  # the oldest first

    def add(self, identity: Hashable) -> None:
        """It has just come."""
        now = time.monotonic()
        self._came.pop(identity, None)
        self._came[identity] = now
        while len(self._came) > self._limit or self._came[next(iter(self._came))] < now - self._window_s:
            del self._came[next(iter(self._came))]

    def __contains__(self, identity: Hashable) -> bool:
        came = self._came.get(identity)
        return came is not None and came >= time.monotonic() - self._window_s
