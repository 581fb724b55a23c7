"""The client of an application: call plugins, publish events, listen.

    async with Client("amqp://localhost") as client:
        result = await client.call("text_processor", "process_data", {"input": "hello"})

A call is a request whose result comes back by RabbitMQ's direct reply-to, so it needs no queue and leaves none behind.
Rejected: a reply queue per client, which has to be declared, named and cleaned up, and survives nothing that matters
to a caller who is gone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakSet

from .audit import AuditNote, read_audit
from .connect import connect
from .envelopes import PluginMessage, event_message, read_event, request_message
from .errors import CallTimeout, PublishTimeout, TransportClosed, UnknownPlugin, Unroutable
from .listening import Listener
from .messages import DIRECT_REPLY_TO, Message, new_message_id
from .ports import Delivery, Transport
from .results import Result, read_result
from .routing import check_pattern
from .sending import send
from .topology import DEFAULT_PREFIX, Names, base_topology
from .trace import Span, Trace, TraceContext
from .wire import check_plugin_name, json_bytes

#: Who an event is from, unless its publisher says otherwise.
CLIENT_SENDER: Final = "client"

#: Replies need no acknowledgement, so this bounds nothing; the port asks for a number.
REPLY_PREFETCH: Final = 1

_Item = TypeVar("_Item")


class Client:
    """A client of one installation, known by its `prefix`. An async context manager; every method may run concurrently.

    It opens, and closes, a connection to `url`; or uses `transport`, which stays its owner's. `timeout_s` is the time
    limit for connecting, for a call that names none, and for every confirmation. Whatever it publishes carries a trace
    context: a child of `trace`, else of the caller's current OpenTelemetry span, else of a new trace.
    """

    def __init__(
        self,
        url: str = "memory://",
        *,
        transport: Transport | None = None,
        prefix: str = DEFAULT_PREFIX,
        timeout_s: float = 30.0,
    ) -> None:
        self._url = url
        self._borrowed = transport
        self._transport: Transport | None = None
        self._names = Names(prefix)
        self._timeout_s = timeout_s
        self._waiting: dict[str, asyncio.Future[Message | None]] = {}
        self._listeners: WeakSet[Listener[Any]] = WeakSet()

    async def __aenter__(self) -> Self:
        """Raises BrokerUnreachable, and ValueError for a URL of another scheme."""
        transport = self._borrowed or await connect(self._url, timeout_s=self._timeout_s, name="warren client")
        try:
            await transport.declare(base_topology(self._names))
            self._replies = await transport.consume(DIRECT_REPLY_TO, self._on_reply, prefetch=REPLY_PREFETCH)
        except BaseException:
            if self._borrowed is None:
                await transport.close()
            raise
        self._transport = transport
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        transport, self._transport = self._open_transport, None
        for listener in self._listeners:
            listener.end()
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        with suppress(TransportClosed):
            await self._replies.cancel()
        if self._borrowed is None:
            await transport.close()

    async def call(
        self,
        plugin: str,
        action: str,
        data: Any = None,
        *,
        timeout_s: float | None = None,
        version: str | None = None,
        deadline_ms: int | None = None,
        hops: int = 0,
        trace: TraceContext | None = None,
        record: bool = False,
    ) -> Result:
        """Have `plugin` do `action` with `data` (anything JSON can say) and wait for the result.

        `version` is a requirement such as `^1.2`, `deadline_ms` the longest that the plugin may run, and `hops` the
        number of plugins that the call came through. The trace of the result has the span of sending the request, too.
        With `record` it has a recording of the run, too, where the worker gives them to callers. A plugin that fails is
        a result, not an exception.

        Raises CallTimeout (a request that no worker has taken by then is dead-lettered as expired, not run),
        MalformedMessage for a reply that is no result, ValueError for names and data that cannot be sent.
        """
        transport = self._open_transport
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        message_id = new_message_id()

        def make(context: TraceContext) -> Message:
            return request_message(
                self._names,
                plugin,
                action,
                data,
                message_id=message_id,
                reply_to=DIRECT_REPLY_TO,
                correlation_id=message_id,
                expiration_ms=max(1, math.ceil(limit_s * 1000)),
                version=version,
                deadline_ms=deadline_ms,
                hops=hops,
                trace=context,
                record=record,
            )

        replied = self._waiting[message_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit_s):
                span = await send(make, partial(transport.publish, timeout_s=limit_s), trace)
                reply = await replied
        except (TimeoutError, PublishTimeout):  # whichever ends first: both limits are the call's
            raise CallTimeout(plugin, action, limit_s) from None
        finally:
            del self._waiting[message_id]
        if reply is None:
            raise TransportClosed
        return _with_span(read_result(reply), span)

    async def publish(
        self, topic: str, payload: Any = None, *, sender: str = CLIENT_SENDER, trace: TraceContext | None = None
    ) -> str:
        """Publish an event for whoever subscribes to `topic`; its message id. Nobody need be there to hear it.

        Raises ValueError for a topic that has wildcards and for a payload that JSON cannot say.
        """
        return await self._send_event(topic, payload, to=None, sender=sender, trace=trace)

    async def send(
        self,
        plugin: str,
        topic: str,
        payload: Any = None,
        *,
        sender: str = CLIENT_SENDER,
        trace: TraceContext | None = None,
    ) -> str:
        """Send a message to one plugin; its message id. Raises UnknownPlugin when there is no mailbox of that name."""
        try:
            return await self._send_event(topic, payload, to=plugin, sender=sender, trace=trace)
        except Unroutable as unroutable:
            raise UnknownPlugin(plugin, unroutable.routing_key) from None

    def events(self, pattern: str = "#") -> Listener[PluginMessage]:
        """Events whose topic matches `pattern`: `async with client.events("text.#") as events: async for …`."""
        return self._listen(self._names.events, pattern, read_event)

    def results(self, pattern: str = "#") -> Listener[Result]:
        """Results that were not replies, by `<plugin>.<action>.<outcome>`; `*.*.failed`, say."""
        return self._listen(self._names.results, pattern, read_result)

    def audit(self, pattern: str = "#") -> Listener[AuditNote]:
        """What plugins did with their powers, by `<plugin>.<power>.<severity>`, of workers that publish it."""
        return self._listen(self._names.audit, pattern, read_audit)

    @property
    def _open_transport(self) -> Transport:
        if self._transport is None:
            raise TransportClosed
        return self._transport

    def _listen(self, exchange: str, pattern: str, read: Callable[[Message], _Item]) -> Listener[_Item]:
        check_pattern(pattern)
        listener = Listener(self._open_transport, self._names, exchange, pattern, read)
        self._listeners.add(listener)
        return listener

    async def _send_event(
        self, topic: str, payload: Any, *, to: str | None, sender: str, trace: TraceContext | None
    ) -> str:
        check_plugin_name("the sender of an event", sender)
        payload_json = json_bytes(payload)
        message_id = new_message_id()

        def make(context: TraceContext) -> Message:
            return event_message(
                self._names,
                sender=sender,
                to=to,
                topic=topic,
                payload_json=payload_json,
                trace=context,
                message_id=message_id,
            )

        publish = partial(self._open_transport.publish, mandatory=to is not None, timeout_s=self._timeout_s)
        await send(make, publish, trace)
        return message_id

    def _on_reply(self, delivery: Delivery) -> None:
        reply = delivery.message
        replied = self._waiting.get(reply.correlation_id or "")
        if replied is not None and not replied.done():  # else it is late, or a twin
            replied.set_result(reply)


def _with_span(result: Result, span: Span) -> Result:
    """`result` with the span of the request's sending; a trace that is another's is left as it came."""
    sending = Trace(span.context.trace_id, (span,))
    if result.trace is None:
        return replace(result, trace=sending)
    if result.trace.trace_id != sending.trace_id:
        return result
    return replace(result, trace=Trace.merged(sending, result.trace))
