"""Saying the same thing in the log once a minute, however often it happens."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Final

#: Between two lines of one kind.
AGAIN_S: Final = 60.0


class Seldom:
    """Lets one of each kind through, and counts the others. Kinds are few: nobody else may make them up."""

    def __init__(self) -> None:
        self._said_s: dict[object, float] = {}
        self._unsaid = Counter[object]()

    def may_say(self, kind: object) -> str | None:
        """What to add to the line: how many were left out before it. None if this one is to be left out, too."""
        now = time.monotonic()
        if now - self._said_s.get(kind, -math.inf) < AGAIN_S:
            self._unsaid[kind] += 1
            return None
        self._said_s[kind] = now
        unsaid = self._unsaid.pop(kind, 0)
        return f" (and {unsaid} before it)" if unsaid else ""
