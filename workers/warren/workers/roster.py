"""Who else there is, as far as it was announced: which workers live, and which versions of which plugins they serve.

Nobody keeps a list; each worker makes its own of what it hears, and forgets who was not heard three times. A worker
hears its own announcements, too: that is how it knows that it would hear others'. Until it has heard itself for a whole
period without a gap (it has just started; the broker was away; the process was frozen), others may be there that it has
not heard of, and the roster is not `complete`.

What is kept is bounded by the bytes in which it was announced.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from semver import Version

from warren.bus import Announcement, WorkerState
from warren.manifests import InvalidValue, VersionReq, parse_version

#: The longest time between two announcements of a worker.
PERIOD_S: Final = 5.0

#: Announcements in a row that may be missed.
MISSED: Final = 3

#: Of all announcements that are remembered; those of a thousand workers with a hundred plugins each take 4 MiB.
MAX_BYTES: Final = 16 << 20


def new_worker_name() -> str:
    """A name for a worker: its host and process, and a bit more, since containers may have both in common."""
    return f"{host()}-{os.getpid()}-{secrets.token_hex(2)}"


def host() -> str:
    """This machine's name, as far as there is room for it."""
    return socket.gethostname()[:200] or "localhost"


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker, as it was last heard, at `heard_s`."""

    announced: Announcement
    size_bytes: int
    heard_s: float


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a plugin is: how many others take requests for it, and how many of them have a version that will do."""

    serving: int
    fitting: int


class Roster:
    """What the worker `name` knows of the others, and whether it hears them."""

    def __init__(self, name: str, *, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._period_s = period_s
        self._clock = clock
        self._peers: dict[str, Peer] = {}
        self._size_bytes = 0
        self._heard_self_s: float | None = None
        self._hearing_since_s = 0.0

    def heard(self, announced: Announcement, size_bytes: int) -> bool:
        """Note an announcement that took so many bytes; False if there is no room for it."""
        now = self._clock()
        if announced.worker == self.name:
            if not self._hears(now):
                self._hearing_since_s = now
            self._heard_self_s = now
            return True
        self._forget(announced.worker)
        if announced.state is WorkerState.GONE:
            return True
        if self._size_bytes + size_bytes > MAX_BYTES:
            self._forget_missed(now)
        if self._size_bytes + size_bytes > MAX_BYTES:
            return False
        self._peers[announced.worker] = Peer(announced, size_bytes, now)
        self._size_bytes += size_bytes
        return True

    @property
    def complete(self) -> bool:
        """Whether everybody who lives has been heard, as far as one can know."""
        now = self._clock()
        return self._hears(now) and now - self._hearing_since_s >= self._period_s

    def peers(self) -> list[Announcement]:
        """The others who live."""
        self._forget_missed(self._clock())
        return [peer.announced for peer in self._peers.values()]

    def whereabouts(self, plugin: str, requirement: VersionReq | None) -> Whereabouts:
        """Where requests for `plugin` that `requirement` (any version, if None) admits could go."""
        serving = [
            peer.plugins[plugin]
            for peer in self.peers()
            if peer.state is WorkerState.SERVING and plugin in peer.plugins
        ]  # fmt: skip
        fitting = [versions for versions in serving if any(_admits(requirement, version) for version in versions)]
        return Whereabouts(len(serving), len(fitting))

    def _hears(self, now: float) -> bool:
        return self._heard_self_s is not None and now - self._heard_self_s <= MISSED * self._period_s

    def _forget_missed(self, now: float) -> None:
        missed = [name for name, peer in self._peers.items() if now - peer.heard_s > MISSED * self._period_s]
        for name in missed:
            self._forget(name)

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is not None:
            self._size_bytes -= peer.size_bytes


def _admits(requirement: VersionReq | None, version: str) -> bool:
    if requirement is None:
        return True
    parsed = _parsed(version)
    return parsed is not None and requirement.matches(parsed)


@lru_cache(maxsize=4_096)
def _parsed(version: str) -> Version | None:
    try:
        return parse_version(version)
    except InvalidValue:
        return None
