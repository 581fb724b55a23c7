"""What the host functions ask of a storage: one way to read, one to list, and one to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

#: What an entry counts besides its key and value. It is some of what both back-ends take for one, and bounds how many
#: entries a quota holds: 1.6 million in 100 MiB.
ENTRY_BYTES: Final = 64

#: Stands for no entry, where a value would be. JSON text is never empty.
NOTHING: Final = b""

#: Above every key that begins with a prefix, where it stands behind that: no UTF-8 has it.
ABOVE: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys, in the order of their bytes. There may be more after the key `after`, unless that is None."""

    keys: tuple[bytes, ...]
    after: bytes | None


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a write. `existed`: there was an entry before. If not `done`, `current` is what there is."""

    done: bool
    existed: bool
    current: bytes = NOTHING


class Storage(Protocol):
    """Entries by plugin and key. Keys are UTF-8 and values are bytes, `NOTHING` being none.

    All may be called concurrently, but `close`. They wait `timeout_s` at most, and raise `StorageUnavailable` then, and
    when the storage cannot be had; a write that did may have been done all the same. What has expired is not there, and
    does not count.
    """

    async def get(self, plugin: str, key: bytes, *, timeout_s: float) -> bytes:
        """The value; `NOTHING` where there is none."""
        ...

    async def list(self, plugin: str, prefix: bytes, *, after: bytes, limit: int, timeout_s: float) -> Page:
        """The keys with that prefix that come after the key `after`. No more than `limit` entries are looked at."""
        ...

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
        """Have the key hold that value from now on, for `ttl_ms` if that is not None; `NOTHING` deletes it.

        It is done at once or not at all, for every process that looks: not if `expected` is not what is there. Raises
        `QuotaExceeded` when the plugin would come to have more than `quota_bytes`: the bytes of keys and values, and
        `ENTRY_BYTES` for each entry. A write that takes no more room than before is always done.
        """
        ...

    async def close(self) -> None:
        """Let go of it, once nothing is under way. Idempotent."""
        ...
