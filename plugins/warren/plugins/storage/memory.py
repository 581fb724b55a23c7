"""A storage in the memory of one process, by a clock that is given to it: for the tests of plugins.

It keeps the promises of `Storage` but for those about other processes. Nothing in it waits, so that each call is done
at once; and it keeps what has expired until its plugin writes, which nobody can see.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import QuotaExceeded, StorageUnavailable
from .port import ENTRY_BYTES, NOTHING, Page, Written


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    expires_ns: int | None


class MemoryStorage:
    """See `Storage`. `now_ns` is the time since the epoch, which TTLs go by."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._plugins: dict[str, dict[bytes, _Entry]] = {}

    def contents(self, plugin: str) -> dict[bytes, bytes]:
        """All that the plugin has, in the order of the keys."""
        return {key: entry.value for key, entry in sorted(self._of(plugin).items()) if self._is_there(entry)}

    async def get(self, plugin: str, key: bytes, *, timeout_s: float) -> bytes:
        _in_time(timeout_s)
        return self._value(plugin, key)

    async def list(self, plugin: str, prefix: bytes, *, after: bytes, limit: int, timeout_s: float) -> Page:
        _in_time(timeout_s)
        found = sorted(item for item in self._of(plugin).items() if item[0].startswith(prefix) and item[0] > after)
        keys = tuple(key for key, entry in found[:limit] if self._is_there(entry))
        return Page(keys, found[limit - 1][0] if len(found) > limit else None)

    async def write(
        self,
        plugin: str,
        key: bytes,
        value: bytes,
        *,
        quota_bytes: int,
        timeout_s: float,
        ttl_ms: int | None = None,
        expected: bytes | None = None,
    ) -> Written:
        _in_time(timeout_s)
        current = self._value(plugin, key)
        existed = current != NOTHING
        if expected not in (None, current):
            return Written(done=False, existed=existed, current=current)
        entries = {one: entry for one, entry in self._of(plugin).items() if self._is_there(entry)}
        before_bytes = _used_bytes(entries)
        entries.pop(key, None)
        if value != NOTHING:
            entries[key] = _Entry(value, None if ttl_ms is None else self._now_ns() + ttl_ms * 1_000_000)
        if before_bytes < (used_bytes := _used_bytes(entries)) > quota_bytes:
            raise QuotaExceeded(used_bytes, quota_bytes)
        self._plugins[plugin] = entries
        return Written(done=True, existed=existed)

    async def close(self) -> None:
        """It stays as it is."""

    def _of(self, plugin: str) -> dict[bytes, _Entry]:
        return self._plugins.get(plugin, {})

    def _value(self, plugin: str, key: bytes) -> bytes:
        entry = self._of(plugin).get(key)
        return entry.value if entry is not None and self._is_there(entry) else NOTHING

    def _is_there(self, entry: _Entry) -> bool:
        return entry.expires_ns is None or entry.expires_ns > self._now_ns()


def _in_time(timeout_s: float) -> None:
    if timeout_s <= 0:
        raise StorageUnavailable(f"the storage was not free within {timeout_s:.3g} s")


def _used_bytes(entries: dict[bytes, _Entry]) -> int:
    return sum(ENTRY_BYTES + len(key) + len(entry.value) for key, entry in entries.items())
