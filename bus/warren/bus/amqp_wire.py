"""The socket under a connection: where bytes become frames, and who each of them is for.

    socket ──► Tap ──┬─ frames of a tapped channel that carry messages, returns and confirms ──► that channel's `Tapped`
                     └─ every other frame ──► aiormq's own reader
    socket ◄── Tap ◄─┬─ frames that a `Tapped` writes, gathered per turn of the event loop
                     └─ aiormq's own writer

aiormq asks a factory of ours for its socket, which is all that has to be known of it here: it gets the stream it would
have made itself, whose protocol the tap stands in front of. Its writer writes whole frames, and so does the tap, so
that both may write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

from .amqp_closing import ConnectionLost
from .amqp_frames import BLOCKED, FRAME_END, HEAD, HEARTBEAT, METHOD, UNBLOCKED, read_short

#: The greeting of a broker that speaks another version of AMQP. It is no frame; aiormq says what is wrong.
_GREETING: Final = b"AMQP"

#: Gathered bytes that are written before the turn of the event loop is over, so that the broker has something to do.
WRITE_BYTES: Final = 16 << 10

#: aiormq takes a connection for dead on which it reads nothing for a while; when all that comes is for tapped
#: channels it is told this often.
KEEPALIVE_S: Final = 1.0


class Tapped(Protocol):
    """Who takes the frames of one channel."""

    def take(self, kind: int, data: bytes, start: int, stop: int) -> int:
        """Take the frame whose payload is `data[start:stop]`, and any whole ones after it that belong to it.

        Where the next frame begins; 0: the frame is aiormq's.
        """
        ...


class Wire(TransportFactory):
    """Makes the socket of a connection; `tap` is the latest one's. `rewrite` changes frames on their way to aiormq."""

    def __init__(self, rewrite: Callable[[bytes], bytes] | None = None) -> None:
        self._rewrite = rewrite
        self.tap: Tap | None = None

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await factory.create(url, **options)
        transport = writer.transport
        self.tap = Tap(transport, cast("asyncio.Protocol", transport.get_protocol()), self._rewrite)
        transport.set_protocol(self.tap)
        return reader, writer

    def abort(self) -> None:
        """Hang up on a broker that reads nothing."""
        if self.tap is not None:
            self.tap.abort()


class Tap(asyncio.Protocol):
    """Stands between a socket and the protocol of a `StreamReader`."""

    def __init__(
        self, transport: asyncio.WriteTransport, inner: asyncio.Protocol, rewrite: Callable[[bytes], bytes] | None
    ) -> None:
        self._transport = transport
        self._inner = inner
        self._rewrite = rewrite
        self._loop = asyncio.get_running_loop()
        self._tapped: dict[int, Tapped] = {}
        self._answers: set[tuple[int, int]] = set()
        self._started = False
        self._rest = b""
        self._fed_at = 0.0
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._before_write: list[Callable[[], None]] = []
        self._full = False
        self._lost = False
        self._room = asyncio.Event()
        self._room.set()
        self.blocked: str | None = None

    def attach(self, channel: int, tapped: Tapped) -> None:
        """Hand over to `tapped` what comes on that channel, until another one takes over its number."""
        self._tapped[channel] = tapped

    # Reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self._started and self._is_greeting(data):
            return
        at, end = 0, len(data)
        head, tapped = HEAD.unpack_from, self._tapped.get
        passed: list[bytes] = []
        while end - at >= HEAD.size:
            kind, channel, size = head(data, at)
            start = at + HEAD.size
            stop = start + size
            if stop >= end:
                break
            taker = tapped(channel)
            if taker is not None and data[stop] == FRAME_END and (after := taker.take(kind, data, start, stop)):
                at = after
                continue
            passed.append(data[at : stop + 1])
            if kind == METHOD:
                self._notice(channel, data, start)
            at = stop + 1
        self._rest = data[at:] if at < end else b""
        self._feed(passed)

    def _is_greeting(self, data: bytes) -> bool:
        self._rest = data
        if data.startswith(_GREETING):
            self._rest = b""
            self._inner.data_received(data)
            return True
        self._started = len(data) >= len(_GREETING)
        return not self._started

    def _feed(self, frames: list[bytes]) -> None:
        now = self._loop.time()
        if frames:
            self._inner.data_received(b"".join(map(self._rewrite, frames) if self._rewrite else frames))
        elif now - self._fed_at > KEEPALIVE_S and self._tapped:
            self._inner.data_received(HEARTBEAT)
        else:
            return
        self._fed_at = now

    def _notice(self, channel: int, data: bytes, start: int) -> None:
        """See what the broker answered aiormq, and when it reads no more from those who publish, and why."""
        method = int.from_bytes(data[start : start + 4])
        if method == BLOCKED:
            self.blocked = read_short(data, start + 4)[0].decode(errors="replace")
            self._check_room()
        elif method == UNBLOCKED:
            self.blocked = None
            self._check_room()
        else:
            self._answers.add((channel, method))

    def has_passed(self, channel: int, method: int) -> bool:
        """Whether a method frame of that kind has come by for aiormq, on that channel."""
        return (channel, method) in self._answers

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._check_room()
        self._inner.connection_lost(exc)

    # Writing ------------------------------------------------------------------------------------------------------

    def write(self, frames: bytes) -> None:
        """Write whole frames, with all that is written in this turn of the event loop."""
        if not self._gathered:
            self._loop.call_soon(self._write_gathered)
        self._gathered.append(frames)
        self._gathered_bytes += len(frames)
        if self._gathered_bytes > WRITE_BYTES:
            self._write_gathered()

    def before_write(self, say: Callable[[], None]) -> None:
        """Have `say` called once, at the end of this turn of the event loop, for what it has to write."""
        if not self._before_write and not self._gathered:
            self._loop.call_soon(self._write_gathered)
        self._before_write.append(say)

    def _write_gathered(self) -> None:
        pending, self._before_write = self._before_write, []
        for say in pending:
            say()
        if self._gathered:
            frames, self._gathered, self._gathered_bytes = b"".join(self._gathered), [], 0
            if not self._lost and not self._transport.is_closing():
                self._transport.write(frames)

    async def room(self) -> None:
        """Return when there is room for more: the broker reads, and so the socket takes. Raises `ConnectionLost`."""
        await self._room.wait()
        if self._lost:
            raise ConnectionLost

    @property
    def has_room(self) -> bool:
        return self._room.is_set()

    def pause_writing(self) -> None:
        self._full = True
        self._check_room()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._full = False
        self._check_room()
        self._inner.resume_writing()

    def _check_room(self) -> None:
        if self._lost or not (self._full or self.blocked is not None):
            self._room.set()
        else:
            self._room.clear()

    def flush(self) -> None:
        """Write what is gathered, and what waits to be said, before aiormq writes anything more."""
        self._write_gathered()

    def abort(self) -> None:
        self._transport.abort()
