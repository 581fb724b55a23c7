"""Liveness, readiness and metrics over HTTP, for whoever watches over a worker.

    GET /live       200 while every process is heard, or is being started; the broker is not asked
    GET /ready      200 while requests are served: consuming, and able to publish; else 503 with the reason, in words
    GET /startup    200 once every process has begun to serve
    GET /metrics    for Prometheus

The server runs in a thread of its own, with an event loop of its own, so that a worker whose loop is stuck is answered
for (503) instead of left hanging. A request costs little, whoever sends it: one head of bounded size is read, within
one time limit for all of it, and answered; where there are too many, the one that has been there longest has to go.
(Rejected: `http.server`, which takes a thread for each connection and begins its time limit anew with every byte.)
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from .prometheus import exposition
from .vitals import Vitals

PATHS: Final = ("/live", "/ready", "/startup", "/metrics")

#: Request line and headers; Prometheus and kubelet send some 300 bytes.
MAX_HEAD_BYTES: Final = 8 << 10

#: From the connection to its end.
CONNECTION_LIMIT_S: Final = 5.0

MAX_CONNECTIONS: Final = 32


class CannotListen(Exception):
    """The address for probes cannot be had."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"cannot listen for probes at {self.host} port {self.port}: {self.reason}; "
            "--health-host and --health-port choose another address"
        )


@contextmanager
def answering_probes(vitals: Vitals, host: str, port: int) -> Iterator[int]:
    """Answer from `vitals` until the block ends; gives the port, which is a free one for 0. Raises `CannotListen`."""
    listening = _listen(host, port)
    server = _Server(vitals, listening)
    thread = threading.Thread(target=server.run, name="health", daemon=True)
    bound_port: int = listening.getsockname()[1]
    thread.start()
    try:
        yield bound_port
    finally:
        server.stop()
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise CannotListen(host, port, reason or str(error)) from error


class _Server:
    def __init__(self, vitals: Vitals, listening: socket.socket) -> None:
        self._vitals = vitals
        self._listening = listening
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """May be called from any thread; `run` returns soon after."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._connected, sock=self._listening, limit=MAX_HEAD_BYTES):
            await self._stopping.wait()
            for writer in self._open:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(CONNECTION_LIMIT_S):
                await self._converse(reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            pass  # too slow, or gone: nobody is left to tell
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            head = b""
            answer = _Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAX_HEAD_BYTES} bytes of headers")
        else:
            answer = _answer(self._vitals, head)
        writer.transport.set_write_buffer_limits(high=0)  # `drain` returns when all of it is out
        writer.write(answer.encode(with_body=not head.startswith(b"HEAD ")))
        await writer.drain()
        writer.write_eof()
        while await reader.read(MAX_HEAD_BYTES):  # closing before all is read could cost the client the answer
            pass


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    text: str | bytes
    content_type: str = "text/plain; charset=utf-8"
    more_headers: str = ""

    def encode(self, *, with_body: bool) -> bytes:
        body = self.text if isinstance(self.text, bytes) else f"{self.text}\n".encode()
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\n"
            f"{self.more_headers}"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (body if with_body else b"")


def _answer(vitals: Vitals, head: bytes) -> _Answer:
    request_line, *headers = head.decode("latin-1").split("\r\n")
    match request_line.split(" "):
        case ["GET" | "HEAD", target, "HTTP/1.0" | "HTTP/1.1"]:
            return _answer_path(vitals, target.partition("?")[0], headers)
        case [_, _, "HTTP/1.0" | "HTTP/1.1"]:
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only", more_headers="Allow: GET, HEAD\r\n")
    return _Answer(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")


def _answer_path(vitals: Vitals, path: str, headers: list[str]) -> _Answer:
    match path:
        case "/live":
            return _verdict(vitals.not_live())
        case "/ready":
            return _verdict(vitals.not_ready())
        case "/startup":
            return _verdict(vitals.not_started())
        case "/metrics":
            return _Answer(HTTPStatus.OK, *exposition(vitals, _accept(headers)))
    return _Answer(HTTPStatus.NOT_FOUND, f"there is nothing here; there is {', '.join(PATHS)}")


def _verdict(reason_against: str | None) -> _Answer:
    if reason_against is None:
        return _Answer(HTTPStatus.OK, "ok")
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, reason_against)


def _accept(headers: list[str]) -> str:
    fields = (header.partition(":") for header in headers)
    accept = ",".join(value.strip() for name, _, value in fields if name.lower() == "accept")
    return accept if accept.isprintable() else ""  # of what is taken from it, some goes into the answer's headers
