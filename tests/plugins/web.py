"""Servers on loopback for tests of the network: they answer as the test says, and keep what they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

#: Writes an answer; the connection is closed after it.
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Web:
    """One server. `requests` are whole, as they came; `connections` counts those that are open now."""

    port: int
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    most_connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def web(answer: Answer, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Web]:
    here = Web(0)
    closing = asyncio.Event()
    handlers: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        handlers.add(handler)
        here.connections += 1
        here.most_connections = max(here.most_connections, here.connections)
        try:
            await _first_of(_serve(here, answer, reader, writer), closing.wait())
        finally:
            here.connections -= 1
            here.left.set()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            handlers.discard(handler)

    server = await asyncio.start_server(handle, host, 0, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        closing.set()
        await asyncio.gather(*handlers)
        await server.wait_closed()


async def _serve(here: Web, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        here.requests.append(await _request(reader))
        here.asked.set()
        await _first_of(answer(writer), reader.read())  # which ends when the other side hangs up


async def _first_of(*doings: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(one) for one in doings]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return (head + (await reader.readexactly(int(length[1])) if length else b"")).decode()


def reply(body: bytes = b"", status: str = "200 OK", **headers: str) -> Answer:
    """An answer with its length; `content_type="x"` is the header `content-type`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", *lines, "", ""))
    return saying(head.encode("latin-1") + body)


def saying(raw: bytes) -> Answer:
    """Exactly these bytes."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return say


def in_turn(*answers: Answer) -> Answer:
    """One for each connection, and the last for all that follow."""
    left = list(answers)

    async def say(writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(writer)

    return say


async def silence(_writer: asyncio.StreamWriter) -> None:
    """No answer, ever."""
    await asyncio.Event().wait()


class Names:
    """A resolver: of each name the answers that it gives in turn, and the last from then on. `asked` is what it was."""

    def __init__(self, known: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._known = {name: list(answers) for name, answers in known.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._known:
            raise OSError(f"no {host}")
        answers = self._known[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]
