"""What has become of the runs of one plugin version: counters, and what the latest runs used.

It belongs to the identity (name and version), not to what was loaded: it goes on when the same version is loaded again,
and ends when that is unloaded. Adding a run is on the path of every request, and is two additions and an append to a
bounded buffer (0.2 µs); percentiles are worked out when somebody asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from .outcome import Outcome

#: Runs that percentiles are taken over. A run in it takes 130 bytes.
RECENT_RUNS: Final = 512

#: `stale`: it serves, but what lies on disk now could not take its place; `last_error` says why. `quarantined`: it is
#: loaded, and run no more. `parked`: it is not loaded before somebody has approved what it would get.
PluginStatus = Literal["loaded", "stale", "quarantined", "parked"]


class Usage:
    """The counters of one version. `last_error` is the last since it was loaded, of a run or of a refused successor."""

    __slots__ = (
        "_recent",
        "execution_count",
        "failure_count",
        "last_error",
        "last_loaded",
        "load_count",
        "status",
    )

    def __init__(self) -> None:
        self.execution_count = 0
        self.failure_count = 0
        self.load_count = 0
        self.last_error: str | None = None
        self.last_loaded = 0.0
        self.status: PluginStatus = "loaded"
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT_RUNS)

    def add(self, outcome: Outcome) -> None:
        """Count a run. A request that was rejected before it ran says nothing of what runs use."""
        self.execution_count += 1
        kind = outcome.kind
        if kind not in ("ok", "failed"):
            self.failure_count += 1
            self.last_error = outcome.error
            if kind == "rejected":
                return
        self._recent.append((outcome.fuel, outcome.memory_bytes))

    def loaded(self) -> None:
        """It was loaded, for the first time or again."""
        self.load_count += 1
        self.last_loaded = time.time()
        self.last_error = None
        self.status = "loaded"

    def accepted(self) -> None:
        """What lies on disk is what is loaded, whatever was refused in between."""
        if self.status == "stale":
            self.last_error = None
            self.status = "loaded"

    def refused(self, reason: str) -> None:
        """What should have taken its place was refused."""
        self.last_error = reason
        self.status = "stale"

    def fuel(self) -> list[int]:
        """What each of the latest runs used, in ascending order."""
        return sorted(fuel for fuel, _ in self._recent)

    def memory_bytes(self) -> list[int]:
        """The peak of linear memory of each of the latest runs, in ascending order."""
        return sorted(memory for _, memory in self._recent)


def percentile(ascending: Sequence[int], percent: int) -> int | None:
    """The nearest rank: the least value that `percent` in a hundred do not exceed. None of nothing."""
    if not ascending:
        return None
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
