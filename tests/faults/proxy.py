"""TCP between clients and their broker, with the faults that a test chooses.

    client ──► Proxy.url ──► Wire ──► broker       a wire for each connection; each has two ways

Clients connect to `url` instead of the broker's own. What passes can be held back without a word (a black hole),
delayed, tampered with, or cut with a reset: at once, or right after certain bytes, so that a reset falls into the
middle of a frame. It listens on one port throughout, so that clients who come back find it. (Rejected: rules of the
kernel's packet filter, which need root, and cannot tell one frame from another.)
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Final, TypeAlias
from urllib.parse import urlsplit

#: Of all tasks here, for tests that look for tasks of others.
TASK_NAME: Final = "a wire"

#: SO_LINGER with a time of zero: closing is a reset, and drops what was not sent yet.
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

#: Bytes that are remembered, to find a pattern that comes in pieces.
REMEMBERED: Final = 512


class Way(Enum):
    TO_BROKER = "to the broker"
    TO_CLIENT = "to the client"


#: Sees the bytes that pass in a way, in pieces of any size, and says what is passed on instead.
Tamper: TypeAlias = Callable[[Way, bytes], bytes]


class Proxy:
    """All wires between its clients and one broker. What is set here holds for those there are and those to come."""

    def __init__(self, broker_url: str) -> None:
        self._broker = urlsplit(broker_url)
        self._gates = {way: Gate() for way in Way}
        self._traps: dict[Way, Trap] = {}
        self._wires: set[Wire] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self.tamper: Tamper = lambda _, data: data
        #: How much longer bytes are under way, in each way.
        self.delay_s = 0.0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            self.url = self._broker._replace(netloc=f"guest:guest@127.0.0.1:{port}").geturl()
            try:
                yield self
            finally:
                server.close()
                while self._carrying:
                    self.cut()
                    await asyncio.wait(self._carrying, return_when=asyncio.FIRST_COMPLETED)

    def hold(self, *ways: Way) -> None:
        """Pass nothing on, in these ways (in both, if none is named), and tell no end that the other one was closed."""
        for way in ways or Way:
            self._gates[way].close()

    async def held(self, way: Way) -> None:
        """Return once something is held back."""
        await self._gates[way].somebody_waits.wait()

    def release(self) -> None:
        """Pass on what is held back, and all that follows."""
        for gate in self._gates.values():
            gate.open()

    def abandon(self) -> None:
        """Leave the connections there are as they are, held back for good; new ones are let through."""
        self._gates = {way: Gate() for way in Way}

    def cut(self, *, broker_notices: bool = True) -> None:
        """Reset all connections; new ones are let through. The broker's ends stay open if it is not to notice."""
        for wire in self._wires:
            wire.cut(broker_notices=broker_notices)
        self.release()

    def cut_after(self, way: Way, pattern: bytes) -> asyncio.Event:
        """Reset the first connection on which these bytes pass, right after them, once; set when that has happened."""
        trap = self._traps[way] = Trap(pattern)
        return trap.sprung

    def pass_on(self, way: Way, passed: bytes, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on of `data`, which follows on `passed`, and whether a reset follows on that."""
        data = self.tamper(way, data)
        trap = self._traps.get(way)
        end = None if trap is None else trap.end_in(passed, data)
        if trap is None or end is None:
            return data, False
        del self._traps[way]
        trap.sprung.set()
        return data[:end], True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying = asyncio.create_task(self._connect(End(reader, writer)), name=TASK_NAME)
        self._carrying.add(carrying)
        carrying.add_done_callback(self._carrying.discard)

    async def _connect(self, client: End) -> None:
        try:
            broker = End(*await asyncio.open_connection(self._broker.hostname, self._broker.port))
        except OSError:  # the broker is away
            client.reset()
            await client.closed()
            return
        wire = Wire(self, self._gates, client, broker)
        self._wires.add(wire)
        await wire.carry()
        self._wires.discard(wire)


class Gate:
    """What passes through it, or waits."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.somebody_waits = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()
        self.somebody_waits.clear()

    async def pass_through(self) -> None:
        if not self._open.is_set():
            self.somebody_waits.set()
        await self._open.wait()


class Trap:
    """A pattern of bytes, and whether it has passed."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self.sprung = asyncio.Event()

    def end_in(self, passed: bytes, data: bytes) -> int | None:
        """Where in `data` the pattern ends that may have begun in what passed before."""
        before = passed[-(len(self._pattern) - 1) :]
        at = (before + data).find(self._pattern)
        return None if at < 0 else at + len(self._pattern) - len(before)


class End:
    """One end of a wire: the socket that leads to a client, or to the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        writer.transport.set_write_buffer_limits(0)  # what is drained has been given to the kernel

    def reset(self) -> None:
        with suppress(OSError):  # it is closed already
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.writer.transport.abort()

    async def closed(self) -> None:
        with suppress(OSError):
            await self.writer.wait_closed()


class Wire:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, gates: dict[Way, Gate], client: End, broker: End) -> None:
        self._proxy = proxy
        self._gates = gates
        self._client = client
        self._broker = broker
        self._is_cut = False
        self._broker_notices = asyncio.Event()

    async def carry(self) -> None:
        """Pass bytes on until both ends are closed."""
        await asyncio.gather(
            asyncio.create_task(self._flow(Way.TO_BROKER, self._client, self._broker), name=TASK_NAME),
            asyncio.create_task(self._flow(Way.TO_CLIENT, self._broker, self._client), name=TASK_NAME),
        )
        await self._client.closed()
        await self._broker.closed()

    def cut(self, *, broker_notices: bool = True) -> None:
        self._is_cut = True
        self._client.reset()
        if broker_notices:
            self._broker.reset()
            self._broker_notices.set()
        for gate in self._gates.values():
            gate.open()

    async def _flow(self, way: Way, source: End, sink: End) -> None:
        passed = b""
        with suppress(OSError):
            while data := await source.reader.read(1 << 16):
                await self._gates[way].pass_through()
                if self._proxy.delay_s:
                    await asyncio.sleep(self._proxy.delay_s)
                data, reset_follows = self._proxy.pass_on(way, passed, data)
                sink.writer.write(data)
                await sink.writer.drain()
                if reset_follows:
                    self.cut()
                passed = (passed + data)[-REMEMBERED:]
        if not self._is_cut:
            await self._gates[way].pass_through()
            sink.writer.close()
        elif sink is self._broker:
            await self._broker_notices.wait()
