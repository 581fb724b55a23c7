"""The storages that the suite is run against: every test once for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import Final

import pytest

from warren.plugins.storage import Storage, open_storage
from warren.plugins.storage.memory import MemoryStorage

#: Opens one more connection to the storage under test; all are closed when the test is over.
Open = Callable[[], Awaitable[Storage]]

#: In the place of a URL: it has none, being no operator's to choose.
MEMORY: Final = "memory"


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if kind == MEMORY:
        return MEMORY
    if kind == "sqlite":
        return f"sqlite://{tmp_path}/storage.db"
    found: str = request.getfixturevalue("redis_server").url
    return found


@pytest.fixture
async def open_one(url: str) -> AsyncIterator[Open]:
    memory = MemoryStorage()
    async with AsyncExitStack() as stack:

        async def open_it() -> Storage:
            storage = memory if url == MEMORY else await open_storage(url)
            stack.push_async_callback(storage.close)
            return storage

        yield open_it


@pytest.fixture
async def storage(open_one: Open) -> Storage:
    return await open_one()


@pytest.fixture
def plugin() -> str:
    """A plugin that nobody else uses."""
    return f"p{token_hex(6)}"
