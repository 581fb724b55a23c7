"""A storage in one Redis or Valkey, for workers on several machines. `redis_scripts` has how it lies there.

Nothing is tried twice here: a write whose answer was lost may have been done, and a compare-and-set that is done again
would be told that somebody else was first. What does not answer is unavailable; the request is then tried again, after
a while. So is a Redis that is away when it is opened: workers start before it, and serve once it is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from .errors import QuotaExceeded, StorageMisconfigured, StorageUnavailable
from .port import ABOVE, NOTHING, Page, Written
from .redis_scripts import GET, LIST, PARTS, WRITE

_log = logging.getLogger(__name__)

#: Connections of one process. Redis does one thing at a time; more would wait there instead of here.
CONNECTIONS: Final = 16

#: How long opening waits for a word, and anything for one packet.
SOCKET_LIMIT_S: Final = 5.0


class RedisStorage:
    """A `Storage` in the Redis behind `client`, which it closes. Use `open`."""

    def __init__(self, client: Redis, place: str) -> None:
        """`place` is what messages call it: its URL without a password."""
        self._client = client
        self._place = place
        self._get, self._list, self._write = (client.register_script(script) for script in (GET, LIST, WRITE))

    @classmethod
    async def open(cls, url: str) -> Self:
        """Raises `StorageMisconfigured` when there is a server, or a URL, that it can do nothing with."""
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=None,
                protocol=2,  # what comes unasked for by protocol 3 would hide an answer that is not ours
                retry=Retry(NoBackoff(), 0),
                socket_timeout=SOCKET_LIMIT_S,
                socket_connect_timeout=SOCKET_LIMIT_S,
            )
            storage = cls(Redis.from_pool(pool), place)
            await storage._greet()
        except (TypeError, ValueError) as error:  # an option after the `?` that is none
            raise StorageMisconfigured(f"the storage {place} cannot be opened: {error}") from error
        return storage

    async def _greet(self) -> None:
        try:
            async with asyncio.timeout(SOCKET_LIMIT_S):
                await self._client.ping()
        except (AuthenticationError, AuthorizationError) as error:
            await self.close()
            raise StorageMisconfigured(f"the storage {self._place} does not let Warren in: {error}") from error
        except (RedisError, OSError) as error:  # of which TimeoutError is one
            _log.warning("%s; runs that need it are tried again later", self._why(error))

    def _why(self, error: BaseException) -> str:
        return f"the storage {self._place} cannot be had: {str(error) or type(error).__name__}"

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, plugin: str, key: bytes, *, timeout_s: float) -> bytes:
        value = await self._do(self._get, plugin, (key,), timeout_s)
        return NOTHING if value is None else bytes(value)

    async def list(self, plugin: str, prefix: bytes, *, after: bytes, limit: int, timeout_s: float) -> Page:
        first = max(prefix, after + b"\0") if after else prefix
        keys, last = await self._do(self._list, plugin, (first, prefix + ABOVE, limit), timeout_s)
        return Page(tuple(keys), last)

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
        ttl = b"" if ttl_ms is None else ttl_ms
        condition = (0, NOTHING) if expected is None else (1, expected)
        arguments = (key, value, quota_bytes, ttl, *condition)
        outcome, existed, more = await self._do(self._write, plugin, arguments, timeout_s)
        if outcome == b"too much":
            raise QuotaExceeded(more, quota_bytes)
        return Written(outcome == b"done", existed == 1, more)

    async def _do(self, script: Any, plugin: str, arguments: Sequence[bytes | int], timeout_s: float) -> Any:
        keys = [f"warren:storage:{{{plugin}}}:{part}" for part in PARTS]
        if timeout_s <= 0:
            raise self._too_late(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await script(keys=keys, args=arguments)
        except TimeoutError as error:
            raise self._too_late(timeout_s) from error
        except (RedisError, OSError) as error:
            raise StorageUnavailable(self._why(error)) from error

    def _too_late(self, timeout_s: float) -> StorageUnavailable:
        return StorageUnavailable(f"the storage {self._place} did not answer within {timeout_s:.3g} s")
