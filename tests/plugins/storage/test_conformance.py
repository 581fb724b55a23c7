"""What every storage promises: see `Storage`."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plugins.storage.conftest import MEMORY, Open
from tests.plugins.storage.racer import FILL_BYTES, FILL_QUOTA, raced
from warren.plugins.storage import ENTRY_BYTES, NOTHING, Page, QuotaExceeded, Storage, StorageUnavailable, Written

LIMIT_S: Final = 20.0
MIB: Final = 1 << 20


@pytest.fixture(params=["sqlite", MEMORY, pytest.param("redis", marks=pytest.mark.redis)])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def url_of_many(url: str) -> str:
    """Of a storage that several processes can have."""
    if url == MEMORY:
        pytest.skip("a storage in memory is one process's alone")
    return url


class Mine:
    """A plugin's part of a storage."""

    def __init__(self, storage: Storage, plugin: str) -> None:
        self.storage = storage
        self.plugin = plugin

    async def get(self, key: bytes) -> bytes:
        return await self.storage.get(self.plugin, key, timeout_s=LIMIT_S)

    async def write(self, key: bytes, value: bytes = b"1", *, quota_bytes: int = MIB, **options: Any) -> Written:
        return await self.storage.write(self.plugin, key, value, quota_bytes=quota_bytes, timeout_s=LIMIT_S, **options)

    async def page(self, prefix: bytes = b"", after: bytes = b"", limit: int = 1_000) -> Page:
        return await self.storage.list(self.plugin, prefix, after=after, limit=limit, timeout_s=LIMIT_S)

    async def keys(self, prefix: bytes = b"", limit: int = 1_000) -> list[bytes]:
        """All of them, page after page."""
        page = await self.page(prefix, limit=limit)
        keys = [*page.keys]
        while page.after is not None:
            page = await self.page(prefix, page.after, limit)
            keys += page.keys
        return keys


@pytest.fixture
def mine(storage: Storage, plugin: str) -> Mine:
    return Mine(storage, plugin)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_what_was_never_written_is_nothing(mine: Mine) -> None:
    assert await mine.get(b"key") == NOTHING
    assert await mine.page() == Page((), None)
    assert await mine.write(b"key", NOTHING) == Written(done=True, existed=False)


async def test_what_was_written_is_read_by_every_connection_byte_for_byte(
    mine: Mine, open_one: Open, plugin: str
) -> None:
    value = bytes(range(256)) * 2_000
    assert await mine.write(b"key", value) == Written(done=True, existed=False)
    assert await Mine(await open_one(), plugin).get(b"key") == value
    assert await mine.write(b"key", b"2") == Written(done=True, existed=True)
    assert await mine.get(b"key") == b"2"
    assert await mine.write(b"key", NOTHING) == Written(done=True, existed=True)
    assert (await mine.get(b"key"), await mine.keys()) == (NOTHING, [])


KEYS: Final = [
    *(
        "a",
        "A",
        "a/b",
        "a/../b",
        "..",
        "/",
        "//",
        "\\",
        "a:b",
        "a}b",
        "{a}",
        "*",
        "a*",
        "[a]",
        "%",
        "_",
        "'",
        '"',
        ";--",
    ),
    *("\0", "a\0", "a\0b", "\n", " ", "a ", "\x7f", "\uffff", "\U0010ffff", "é", "e\u0301", "K", "\u212a", "ﬁ", "fi"),
    "x" * 1_024,
]


async def test_a_key_is_any_text_and_no_other(mine: Mine) -> None:
    assert len({unicodedata.normalize("NFKC", key) for key in KEYS}) < len(KEYS), "some are the same to a normaliser"
    for number, key in enumerate(KEYS):
        await mine.write(key.encode(), b"%d" % number)
    for number, key in enumerate(KEYS):
        assert await mine.get(key.encode()) == b"%d" % number
    assert await mine.keys(limit=7) == sorted(key.encode() for key in KEYS), "in the order of their bytes"


async def test_no_key_reaches_another_plugin_s_entries(storage: Storage, plugin: str) -> None:
    other = Mine(storage, f"{plugin}x")
    await other.write(b"secret", b"1")
    mine = Mine(storage, plugin)
    attempts = [
        *(b"secret", b"x/secret", b"x:secret", b"x\0secret", f"../{other.plugin}/secret".encode(), b"x"),
        *(f"{other.plugin}{separator}secret".encode() for separator in "/:\0 .}"),
        *(f"}}:values{{{other.plugin}".encode(), f"warren:storage:{{{other.plugin}}}:values".encode()),
        *("\uff53ecret".encode(), "se\u200bcret".encode(), b"' OR 1=1 --", b"%", b"*"),
    ]
    for key in attempts:
        assert await mine.get(key) == NOTHING
        assert await mine.page(key) == Page((), None)
        await mine.write(key, b"2")
        await mine.write(key, NOTHING)
    assert await other.keys() == [b"secret"]
    assert await other.get(b"secret") == b"1"


@given(st.lists(st.text(alphabet=st.sampled_from("ab\0\U0010ffff"), min_size=1, max_size=4), max_size=12), st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pages_are_all_keys_with_a_prefix_in_order(mine: Mine, keys: list[str], data: st.DataObject) -> None:
    for old in await mine.keys():
        await mine.write(old, NOTHING)
    for key in keys:
        await mine.write(key.encode())
    prefix = data.draw(st.text(alphabet="ab\0\U0010ffff", max_size=2))
    limit = data.draw(st.integers(1, 5))
    expected = sorted({key.encode() for key in keys if key.startswith(prefix)})
    assert await mine.keys(prefix.encode(), limit) == expected
    first = await mine.page(prefix.encode(), limit=limit)
    assert first.keys == tuple(expected[:limit])
    assert (first.after is None) == (len(expected) <= limit)


async def test_a_page_goes_on_after_a_key_that_is_gone_by_then(mine: Mine) -> None:
    for key in (b"a", b"b", b"c"):
        await mine.write(key)
    page = await mine.page(limit=2)
    await mine.write(b"b", NOTHING)
    assert await mine.page(after=page.after or b"") == Page((b"c",), None)


async def test_what_has_expired_is_gone_and_can_be_written_anew(mine: Mine) -> None:
    await mine.write(b"short", b"1", ttl_ms=1)
    await mine.write(b"long", b"1", ttl_ms=3_600_000)
    await until(lambda: is_gone(mine, b"short"))
    assert await mine.keys() == [b"long"]
    assert await mine.write(b"short", b"2", expected=NOTHING) == Written(done=True, existed=False)
    assert await mine.get(b"short") == b"2"


async def is_gone(mine: Mine, key: bytes) -> bool:
    return await mine.get(key) == NOTHING


async def test_to_write_without_a_ttl_ends_the_one_before(mine: Mine) -> None:
    await mine.write(b"other", b"1", ttl_ms=60)
    await mine.write(b"key", b"1", ttl_ms=60)
    await mine.write(b"key", b"2")
    await until(lambda: is_gone(mine, b"other"))
    assert await mine.get(b"key") == b"2"


async def test_expired_keys_in_a_page_are_looked_at_but_not_shown(mine: Mine) -> None:
    for key in (b"a", b"b", b"c"):
        await mine.write(key, ttl_ms=None if key == b"c" else 30)
    await until(lambda: is_gone(mine, b"b"))
    assert await mine.page(limit=2) == Page((), b"b")
    assert await mine.keys(limit=2) == [b"c"]


async def test_compare_and_set_does_it_only_where_what_is_expected_is_there(mine: Mine) -> None:
    assert await mine.write(b"key", b"1", expected=b"0") == Written(done=False, existed=False)
    assert await mine.write(b"key", b"1", expected=NOTHING) == Written(done=True, existed=False)
    assert await mine.write(b"key", b"2", expected=NOTHING) == Written(done=False, existed=True, current=b"1")
    assert await mine.write(b"key", b"2", expected=b"1") == Written(done=True, existed=True)
    assert await mine.write(b"key", NOTHING, expected=b"1") == Written(done=False, existed=True, current=b"2")
    assert await mine.write(b"key", NOTHING, expected=b"2") == Written(done=True, existed=True)
    assert await mine.keys() == []


async def test_the_quota_s_last_byte_can_be_used_and_not_one_more(mine: Mine) -> None:
    quota_bytes = 10_000
    await mine.write(b"a", b"1" * 99, quota_bytes=quota_bytes)
    room = quota_bytes - (1 + 99 + ENTRY_BYTES) - (len(b"key") + ENTRY_BYTES)
    with pytest.raises(QuotaExceeded, match=r"would hold 10,001 bytes; its quota is 10,000") as caught:
        await mine.write(b"key", b"1" * (room + 1), quota_bytes=quota_bytes)
    assert (caught.value.would_be_bytes, caught.value.quota_bytes) == (10_001, 10_000)
    assert await mine.keys() == [b"a"], "nothing was written"
    await mine.write(b"key", b"1" * room, quota_bytes=quota_bytes)
    with pytest.raises(QuotaExceeded):
        await mine.write(b"b", b"1", quota_bytes=quota_bytes)
    with pytest.raises(QuotaExceeded):
        await mine.write(b"a", b"1" * 100, expected=b"1" * 99, quota_bytes=quota_bytes)
    assert await mine.get(b"a") == b"1" * 99, "what it would have replaced is still there"
    await mine.write(b"a", b"2" * 99, quota_bytes=quota_bytes)
    await mine.write(b"key", NOTHING, quota_bytes=quota_bytes)
    await mine.write(b"b", b"1", quota_bytes=quota_bytes)


async def test_a_plugin_over_its_quota_may_still_delete_and_write_what_is_shorter(mine: Mine) -> None:
    await mine.write(b"key", b"1" * 1_000)
    with pytest.raises(QuotaExceeded):
        await mine.write(b"new", b"1", quota_bytes=100)
    assert (await mine.write(b"key", b"1" * 900, quota_bytes=100)).done
    assert (await mine.write(b"key", NOTHING, quota_bytes=100)).done


async def test_a_quota_of_one_plugin_is_no_matter_of_another_s(storage: Storage, plugin: str) -> None:
    await Mine(storage, f"{plugin}x").write(b"key", b"1" * 5_000)
    await Mine(storage, plugin).write(b"key", b"1" * 500, quota_bytes=1_000)


async def test_what_has_expired_makes_room(mine: Mine) -> None:
    quota_bytes = 300 * (8 + 1 + ENTRY_BYTES)
    for number in range(300):
        await mine.write(b"%08d" % number, ttl_ms=50, quota_bytes=quota_bytes)
    await until(lambda: is_gone(mine, b"%08d" % 299))
    await mine.write(b"key", b"1" * (quota_bytes - 3 - ENTRY_BYTES), quota_bytes=quota_bytes)
    assert await mine.keys() == [b"key"]
    await mine.write(b"key", NOTHING)
    with pytest.raises(QuotaExceeded):
        await mine.write(b"key", b"1" * quota_bytes, quota_bytes=quota_bytes)


async def test_an_expired_entry_can_be_overwritten_at_the_quota_s_edge(mine: Mine) -> None:
    quota_bytes = 1_000
    await mine.write(b"key", b"1" * 900, ttl_ms=1, quota_bytes=quota_bytes)
    await until(lambda: is_gone(mine, b"key"))
    await mine.write(b"key", b"1" * (quota_bytes - 3 - ENTRY_BYTES), quota_bytes=quota_bytes)
    with pytest.raises(QuotaExceeded):
        await mine.write(b"k", b"1", quota_bytes=quota_bytes)


async def test_processes_that_count_by_compare_and_set_lose_no_count(url_of_many: str, mine: Mine, plugin: str) -> None:
    assert await raced(url_of_many, plugin, "count", 40) == [40, 40, 40]
    assert await mine.get(b"n") == b"120"


async def test_processes_that_write_at_once_do_not_exceed_the_quota(url_of_many: str, mine: Mine, plugin: str) -> None:
    done = await raced(url_of_many, plugin, "fill", 100)
    assert sum(done) == len(await mine.keys()) == FILL_QUOTA // FILL_BYTES == 150


async def test_many_calls_at_once_are_all_answered(mine: Mine) -> None:
    await asyncio.gather(*(mine.write(b"%d" % number, b"%d" % number) for number in range(200)))
    values = await asyncio.gather(*(mine.get(b"%d" % number) for number in range(200)))
    assert values == [b"%d" % number for number in range(200)]


async def test_a_call_that_is_given_up_leaves_the_next_its_own_answer(mine: Mine) -> None:
    await mine.write(b"a", b"1" * 100_000)
    await mine.write(b"b", b"2")
    for _ in range(50):
        call = asyncio.create_task(mine.get(b"a"))
        await asyncio.sleep(0)
        call.cancel()
        assert await mine.get(b"b") == b"2"


async def test_a_call_without_time_is_not_done(storage: Storage, plugin: str) -> None:
    with pytest.raises(StorageUnavailable, match="within"):
        await storage.write(plugin, b"key", b"1", quota_bytes=MIB, timeout_s=0.0)
    assert await storage.get(plugin, b"key", timeout_s=LIMIT_S) == NOTHING


async def test_to_close_twice_is_to_close_once(open_one: Open) -> None:
    storage = await open_one()
    await storage.close()
    await storage.close()
