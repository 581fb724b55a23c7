"""What is the Redis storage's alone: a server that is away, hangs, comes back, is full, or does not let anybody in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.broker import free_ports
from tests.redis_server import RedisServer
from warren.plugins.storage import NOTHING, Storage, StorageMisconfigured, StorageUnavailable, Written, open_storage
from warren.plugins.storage.redis_scripts import PARTS

pytestmark = pytest.mark.redis

LIMIT_S = 20.0
QUOTA_BYTES = 1 << 30


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as client:
        yield client


async def write(storage: Storage, plugin: str, key: bytes, value: bytes = b"1") -> Written:
    return await storage.write(plugin, key, value, quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S)


async def test_a_server_that_goes_is_unavailable_and_when_it_is_back_so_is_what_was_stored(
    redis_server: RedisServer, storage: Storage, plugin: str
) -> None:
    await write(storage, plugin, b"key")
    redis_server.stop()
    try:
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match=r"the storage redis://127.0.0.1:\d+/0 cannot be had: "):
                await storage.get(plugin, b"key", timeout_s=LIMIT_S)
    finally:
        redis_server.start()
    assert await storage.get(plugin, b"key", timeout_s=LIMIT_S) == b"1"
    assert (await write(storage, plugin, b"key")).existed


async def test_a_server_that_hangs_is_given_up_and_its_late_answer_is_nobody_s(
    redis_server: RedisServer, storage: Storage, plugin: str
) -> None:
    await write(storage, plugin, b"a", b"late")
    await write(storage, plugin, b"b", b"other")
    with redis_server.frozen():
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match=r"did not answer within 0\.2 s"):
            await storage.get(plugin, b"a", timeout_s=0.2)
        assert time.monotonic() - began < 2
    for _ in range(20):
        assert await storage.get(plugin, b"b", timeout_s=LIMIT_S) == b"other"


async def test_a_server_that_has_forgotten_the_scripts_is_given_them_again(
    admin: Redis, storage: Storage, plugin: str
) -> None:
    await write(storage, plugin, b"key")
    await admin.script_flush()
    assert await storage.get(plugin, b"key", timeout_s=LIMIT_S) == b"1"


async def test_what_expires_of_a_plugin_that_never_writes_again_goes_with_the_last_of_it(
    admin: Redis, storage: Storage, plugin: str
) -> None:
    names = [f"warren:storage:{{{plugin}}}:{part}" for part in PARTS]

    async def left_ms() -> set[int]:
        return {await admin.pttl(name) for name in names}

    async def expiring(key: bytes, ttl_ms: int) -> None:
        await storage.write(plugin, key, b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S, ttl_ms=ttl_ms)

    await expiring(b"later", 100_000)
    await expiring(b"soon", 1_000)
    assert all(90_000 < left <= 100_000 for left in await left_ms())
    await write(storage, plugin, b"for good")
    assert await left_ms() == {-1}
    assert await storage.get(plugin, b"later", timeout_s=LIMIT_S) == b"1"
    await write(storage, plugin, b"for good", NOTHING)
    assert all(90_000 < left <= 100_000 for left in await left_ms())
    await write(storage, plugin, b"later", NOTHING)
    await expiring(b"soon", 50)
    async with asyncio.timeout(LIMIT_S):
        while await admin.exists(*names):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    await write(storage, plugin, b"again")
    assert await left_ms() == {-1, -2}, "there is nothing that expires"
    assert await admin.get(names[3]) == b"70", "it is counted from nothing"


async def test_one_that_is_away_when_it_is_opened_is_said_to_be_and_used_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [port] = free_ports(1)
    with caplog.at_level(logging.WARNING):
        storage = await open_storage(f"redis://:secret@127.0.0.1:{port}/1")
    assert f"the storage redis://127.0.0.1:{port}/1 cannot be had" in caplog.text
    with pytest.raises(StorageUnavailable, match="cannot be had") as caught:
        await storage.get("p", b"key", timeout_s=LIMIT_S)
    assert "secret" not in caplog.text + str(caught.value)
    await storage.close()


async def test_a_wrong_password_is_said_to_be_one(url: str, admin: Redis, plugin: str) -> None:
    await admin.acl_setuser(plugin, enabled=True, passwords=["+right"], commands=["+ping"])
    with pytest.raises(StorageMisconfigured, match=r"does not let Warren in: .*invalid username-password") as caught:
        await open_storage(url.replace("redis://", f"redis://{plugin}:wrong@"))
    assert "wrong@" not in str(caught.value)
    await admin.acl_deluser(plugin)


async def test_a_server_that_is_full_is_unavailable_and_what_is_there_can_be_deleted(
    admin: Redis, storage: Storage, plugin: str
) -> None:
    await write(storage, plugin, b"key")
    await admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(StorageUnavailable, match="used memory > 'maxmemory'"):
            await write(storage, plugin, b"other")
        assert await storage.get(plugin, b"key", timeout_s=LIMIT_S) == b"1"
        assert (await write(storage, plugin, b"key", NOTHING)).done
    finally:
        await admin.config_set("maxmemory", 0)


async def test_nothing_is_left_of_a_plugin_that_has_deleted_all(admin: Redis, storage: Storage, plugin: str) -> None:
    for key in (b"a", b"b"):
        await storage.write(plugin, key, b"1", ttl_ms=60_000, quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S)
    names = sorted([name async for name in admin.scan_iter(f"*{plugin}*")])
    assert names == sorted(f"warren:storage:{{{plugin}}}:{part}".encode() for part in PARTS)
    for key in (b"a", b"b"):
        await write(storage, plugin, key, NOTHING)
    assert [name async for name in admin.scan_iter(f"*{plugin}*")] == []


@pytest.mark.hostile
async def test_listing_a_million_keys_holds_the_server_up_for_a_page_s_time(
    admin: Redis, storage: Storage, plugin: str
) -> None:
    fill = """for i = 0, 99999 do
        local key = string.format('%08d', ARGV[1] + i)
        redis.call('HSET', KEYS[1], key, '1')
        redis.call('ZADD', KEYS[2], 0, key)
    end"""
    keys = [f"warren:storage:{{{plugin}}}:{part}" for part in PARTS]
    for first in range(0, 1_000_000, 100_000):
        await admin.eval(fill, 2, *keys[:2], first)
    await admin.config_resetstat()
    for after in (b"", b"00500000", b"00998999"):
        page = await storage.list(plugin, b"00", after=after, limit=1_000, timeout_s=LIMIT_S)
        assert len(page.keys) == 1_000
    stats = await admin.info("commandstats")
    assert stats["cmdstat_hexists"]["calls"] == 3_000, "no entry but the page's was looked at"
    await admin.delete(*keys)
