"""The transports that the suite is run against: every test once for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from secrets import token_hex

import pytest

from tests.conformance.inbox import Connect, Post
from warren.bus import Transport, connect
from warren.bus.amqp_link import PATH_VARIABLE


@pytest.fixture(params=["memory", *(pytest.param(path, marks=pytest.mark.broker) for path in ("fast", "plain"))])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the transports; `amqp://` by either of its paths."""
    if request.param == "memory":
        return f"memory://{token_hex(6)}"
    monkeypatch.setenv(PATH_VARIABLE, request.param)
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
