"""The transports that the suite is run against: every test once for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from secrets import token_hex

import pytest

from tests.conformance.inbox import Connect, Post
from warren.bus import Transport, connect


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://{token_hex(6)}"
    found: str = request.getfixturevalue("broker").url
    return found


@pytest.fixture
async def transports(url: str) -> AsyncIterator[Connect]:
    """Opens connections to one broker; they are closed when the test is over."""
    async with AsyncExitStack() as stack:

        async def open_one() -> Transport:
            transport = await connect(url, name="conformance")
            stack.push_async_callback(transport.close)
            return transport

        yield open_one


@pytest.fixture
async def post(transports: Connect, prefix: str) -> Post:
    return Post(await transports(), prefix)
