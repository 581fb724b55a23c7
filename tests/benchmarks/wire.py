"""A thin AMQP 0-9-1 client on a blocking socket, for the side of the benchmark that is not measured.

On a small machine a client shares the processor with the worker and the broker, and every microsecond of it dilutes
what they are compared by. This one sends frames that were built beforehand and hands over what it receives as raw
bytes. It knows one channel, no TLS, no heartbeat and no confirms: whether requests have arrived shows in the queue.
(Rejected: aio-pika, 0.2 ms for each message and as much again for its answer.)
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader

CHANNEL: Final = 1
FRAME_BYTES: Final = 131_072
TIMEOUT_S: Final = 120.0

#: Type, channel and size: what every frame begins with. One octet ends it.
FRAME_START: Final = struct.Struct(">BHI")

_Answer = TypeVar("_Answer", bound=Frame)


class Refused(Exception):
    """The broker closed the connection or the channel."""


def publication(exchange: str, routing_key: str, body: bytes, properties: Mapping[str, Any]) -> bytes:
    """The frames that publish a persistent message."""
    header = ContentHeader(body_size=len(body), properties=commands.Basic.Properties(delivery_mode=2, **properties))
    parts = (commands.Basic.Publish(exchange=exchange, routing_key=routing_key), header, ContentBody(body))
    return b"".join(frame.marshal(part, CHANNEL) for part in parts)


class Link:
    """A connection with one channel."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL of another kind than `amqp://`, OSError when nobody answers there."""
        address = urlsplit(url)
        if address.scheme != "amqp":
            raise ValueError(
                f"{address.scheme}://{address.hostname}: the benchmark speaks plain AMQP only; use amqp://"
            )
        self._socket = socket.create_connection((address.hostname or "localhost", address.port or 5672), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open(
            unquote(address.username or "guest"), unquote(address.password or "guest"), unquote(address.path[1:]) or "/"
        )

    def _open(self, user: str, password: str, virtual_host: str) -> None:
        self.send(frame.marshal(ProtocolHeader(), 0))
        self._expect(commands.Connection.Start)
        self._send_method(commands.Connection.StartOk(mechanism="PLAIN", response=f"\0{user}\0{password}"), 0)
        self._expect(commands.Connection.Tune)
        self._send_method(commands.Connection.TuneOk(CHANNEL, FRAME_BYTES, 0), 0)
        self._send_method(commands.Connection.Open(virtual_host), 0)
        self._expect(commands.Connection.OpenOk)
        self.call(commands.Channel.Open(), commands.Channel.OpenOk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, method: Frame, answer: type[_Answer]) -> _Answer:
        """Ask, and wait for the answer. Not to be used while the channel consumes."""
        self._send_method(method, CHANNEL)
        return self._expect(answer)

    def send(self, frames: bytes) -> None:
        """Send what was built beforehand; waits while the broker takes no more."""
        self._socket.settimeout(TIMEOUT_S)
        self._socket.sendall(frames)

    def receive(self, timeout_s: float) -> bytes:
        """What has arrived, as it is; empty when nothing does within that time."""
        self._socket.settimeout(max(timeout_s, 0.0))
        try:
            received = self._socket.recv(FRAME_BYTES)
        except (BlockingIOError, TimeoutError):
            return b""
        if not received:
            raise Refused("the broker closed the connection")
        return received

    def _send_method(self, method: Frame, channel: int) -> None:
        self.send(frame.marshal(method, channel))

    def _expect(self, answer: type[_Answer]) -> _Answer:
        start = self._read(FRAME_START.size)
        _, _, received = frame.unmarshal(start + self._read(FRAME_START.unpack(start)[2] + 1))
        if isinstance(received, answer):
            return received
        if isinstance(received, commands.Connection.Close | commands.Channel.Close):
            raise Refused(f"{received.reply_code} {received.reply_text}")
        raise Refused(f"the broker sent {received.name}, and {answer.__name__} was expected")

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            part = self._socket.recv(size - len(read))
            if not part:
                raise Refused("the broker closed the connection; are user, password and virtual host right?")
            read += part
        return read
