"""One connection to a broker that comes back by itself, and channels on it.

aio-pika's robust connection does the connecting, again and again; nothing else of its robustness is used. Its robust
channels have come back without their consumers (https://github.com/mosquito/aio-pika/issues/231 and 563), and settle
deliveries of a channel that is gone on the one that replaced it. Here each channel lives once: whoever opened it sees
it end, and opens another. So channels are aiormq's own, and a delivery belongs to one of them for good.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from aio_pika import RobustConnection
from aio_pika.abc import AbstractConnection as AnyConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import InvalidFrameError, ProbableAuthenticationError
from yarl import URL

from .amqp_channel import MessageChannel
from .amqp_closing import ConnectionLost, lost_when_closed, unless_silent
from .amqp_fast import FastChannel, why_not
from .amqp_plain import PlainChannel
from .amqp_readable import readable
from .amqp_wire import Wire
from .connect import safe_url
from .errors import BrokerUnreachable, TransportClosed

log = logging.getLogger(__name__)

#: Between attempts to connect again; drawn once per connection, so that a thousand workers do not return as one.
RECONNECT_INTERVAL_S: Final = (0.5, 1.5)

#: After which a connection is given up that does not close politely: the broker may have stopped reading from it.
CLOSE_LIMIT_S: Final = 3.0

#: An operator's way out: `plain` leaves every frame to aiormq, should the fast path ever be suspected of anything.
PATH_VARIABLE: Final = "WARREN_AMQP_PATH"


class Outages:
    """Says once that the broker went away, and once that it is back, for all connections that one transport has."""

    def __init__(self, url: str) -> None:
        self._url = safe_url(url)
        self._away: set[Link] = set()

    def lost(self, link: Link, reason: BaseException | None) -> None:
        if not self._away:
            log.warning(
                "lost the broker at %s, connecting again until it is back: %s", self._url, reason or "no reason"
            )
        self._away.add(link)

    def back(self, link: Link) -> None:
        self._away.discard(link)
        if not self._away:
            log.warning("the broker at %s is back", self._url)


class Link:
    """A connection that is open, or will be again. Whoever made it closes it."""

    def __init__(self, robust: RobustConnection, wire: Wire, outages: Outages, *, fast: bool) -> None:
        self._robust = robust
        self._wire = wire
        self._fast = fast
        self._outages = outages
        self._closing = asyncio.Event()
        robust.close_callbacks.add(_release_senders)
        robust.close_callbacks.add(self._on_lost)
        robust.reconnect_callbacks.add(self._on_back)

    def _on_lost(self, _: AnyConnection | None, reason: BaseException | None) -> None:
        if not self._closing.is_set():
            self._outages.lost(self, reason)

    def _on_back(self, _: AnyConnection | None) -> None:
        self._outages.back(self)

    @classmethod
    async def connect(cls, url: str, outages: Outages, *, name: str, heartbeat_s: int, timeout_s: float) -> Link:
        """Each attempt to connect, the first and those after an outage, is given up after `timeout_s`.

        What the URL's own query says comes first. Raises whatever aio-pika does when the broker cannot be reached; see
        `unreachable`.
        """
        interval_s = random.uniform(*RECONNECT_INTERVAL_S)  # noqa: S311 - not a secret
        address = URL(url)
        defaults = {"heartbeat": heartbeat_s, "reconnect_interval": interval_s}
        robust = RobustConnection(
            address.with_query({**defaults, **address.query}), client_properties={"connection_name": name}
        )
        fast = os.environ.get(PATH_VARIABLE) != "plain"
        wire = robust.kwargs["transport_factory"] = Wire(None if fast else readable)
        try:
            await robust.connect(timeout=timeout_s)
        except BaseException:
            await robust.close()
            raise
        return cls(robust, wire, outages, fast=fast)

    async def open_channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel, once the broker is there. Raises `ConnectionLost`, `TransportClosed`."""
        if not self._robust.connected.is_set():
            await first_of(self._robust.connected.wait(), self._closing.wait())
        if self._closing.is_set():
            raise TransportClosed
        transport = self._robust.transport
        if transport is None:
            raise ConnectionLost
        with lost_when_closed(transport.connection):
            return await transport.connection.channel(
                publisher_confirms=confirms,
                on_return_raises=True,
                # Bounded, a channel that is closing while deliveries arrive would keep its connection from reading.
                # The prefetch count bounds what can be in it.
                frame_buffer_size=0,
            )

    async def open_message_channel(self, *, confirms: bool = False) -> MessageChannel:
        """A new channel for messages, by the fast path where it can be taken. Raises what `open_channel` does."""
        raw = await self.open_channel(confirms=confirms)
        tap = self._wire.tap
        if self._fast and tap is not None:
            reason = why_not(raw, tap, confirms=confirms)
            if reason is None:
                return FastChannel(raw, tap)
            self._fast = False
            log.warning("messages take the plain path, which is several times slower: %s", reason)
        return PlainChannel(raw)

    @property
    def impediment(self) -> str | None:
        """What keeps this connection from being written to, in words."""
        if not self._robust.connected.is_set():
            return "the broker is away"
        if self._wire.tap is not None and self._wire.tap.blocked is not None:
            return f"the broker takes no more messages just now: {self._wire.tap.blocked}"
        return None

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel for a while: for what the broker may answer by closing the channel."""
        channel = await self.open_channel()
        try:
            with lost_when_closed(channel):
                yield channel
        finally:
            await unless_silent(channel.close())

    async def close(self) -> None:
        """Disconnect; what is unsettled on the link's channels goes back to its queues. Idempotent."""
        self._closing.set()
        closing = asyncio.ensure_future(self._robust.close())
        try:
            await asyncio.wait([closing], timeout=CLOSE_LIMIT_S)
        finally:
            if not closing.done():
                self._wire.abort()
            await closing


async def ended(channel: AbstractChannel) -> None:
    """Return when the channel is closed, by whomever."""
    await asyncio.wait([channel.closing])


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them has; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def unreachable(url: str, error: BaseException, timeout_s: float) -> BrokerUnreachable:
    """Why no connection could be made, in words for a person; the password stays out of it."""
    return BrokerUnreachable(safe_url(url), _reason(error, timeout_s))


def _reason(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, ProbableAuthenticationError):
        return "it refused the user name or the password"
    if isinstance(error, InvalidFrameError) and "Connection.Close" in str(error):
        # The broker answers connection.open with its reason not to; aiormq takes that for the wrong frame.
        return "it refused the virtual host: there is none of that name, or the user may not use it"
    if isinstance(error, TimeoutError) and not error.args:
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "nothing listens there (connection refused)"
    return (isinstance(error, OSError) and error.strerror) or str(error)


async def _release_senders(robust: AnyConnection | None, _: BaseException | None) -> None:
    """Let those go who wait for room in the write queue of a connection that is gone.

    aiormq's writer has ended then, and nobody else would ever make room. They find their channel closed.
    """
    if robust is None or robust.transport is None:
        return
    queue = robust.transport.connection.write_queue
    while not queue.empty():
        queue.get_nowait()
        await asyncio.sleep(0)
