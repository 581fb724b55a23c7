"""The path of a message: consume, run, publish what the guest sent and the result with confirms, ack. In that order.

Delivery is at least once. A request is acked only when everything that follows from it is safe with the broker; if
anything before that fails, the request goes back and is run again. Its result then has the same id as the one before.

Each delivery is a task of its own, at most `prefetch` of them per mailbox, and they share the event loop with the
guests they run. A worker keeps nothing between two messages; scaling out is starting another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from warren.bus import (
    BusError,
    Consumer,
    Delivery,
    DeliveryLost,
    Header,
    MalformedMessage,
    Message,
    OutcomeKind,
    Request,
    Span,
    Topology,
    TraceContext,
    Transport,
    Unroutable,
    base_topology,
    dead_letter_message,
    encode_trace,
    event_message,
    failure_body,
    mailbox_topology,
    read_request,
    read_trace_context,
    result_message,
    retry_message,
    retry_topology,
)
from warren.manifests import InvalidValue, Retry, VersionReq, is_plugin_name
from warren.plugins import GuestMessage, Outcome, Plugin, PluginManager, PluginNotFound

from .guest_logs import log_guest_lines
from .metrics import WorkerMetrics
from .outcomes import dispose
from .settings import WorkerSettings
from .spans import RunSpans

_log = logging.getLogger(__name__)

#: Requests for plugins that nobody serves are rare, and answered one by one.
UNROUTED_PREFETCH: Final = 10

#: How long a delivery that could not be seen to its end waits before it goes back, the first time and from then on.
#: What failed (a queue that is full or was deleted) fails at once again, and the broker would hand it over at once.
GIVE_BACK_PAUSES_S: Final = (0.2, 2.0)

_NO_RETRY: Final = Retry()


@dataclass(frozen=True, slots=True)
class _Run:
    """A delivery after its run, or after it was refused one: everything its answer is made of."""

    outcome: Outcome
    request: Request | None = None
    plugin: Plugin | None = None

    @property
    def kind(self) -> OutcomeKind:
        return OutcomeKind(self.outcome.kind)

    @property
    def error(self) -> str:
        return self.outcome.error or self.outcome.kind


class Worker:
    """Serves the plugins that `manager` has loaded, over `transport`. Both stay their owners' to close."""

    def __init__(
        self,
        transport: Transport,
        manager: PluginManager,
        settings: WorkerSettings,
        *,
        export_spans: Callable[[list[Span]], None] | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._transport = transport
        self._manager = manager
        self._settings = settings
        self._names = settings.names
        self._export_spans = export_spans
        self._metrics = WorkerMetrics()
        self._consumers: list[Consumer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._given_back = 0

    async def start(self) -> None:
        """Declare every mailbox, and consume. Raises `BusError`."""
        plugins = {plugin.name: plugin for plugin in self._manager.plugins()}
        topology = base_topology(self._names)
        for name in plugins:
            topology += self._mailbox(name)
        await self._transport.declare(topology)
        for name in plugins:
            await self._consume(self._names.mailbox(name), partial(self._serve, name), self._settings.prefetch)
        await self._consume(self._names.unrouted, self._answer_unrouted, UNROUTED_PREFETCH)

    def _mailbox(self, name: str) -> Topology:
        patterns = {
            pattern
            for plugin in self._manager.plugins()
            if plugin.name == name
            for pattern in map(str, plugin.grant.subscribe)
        }
        return mailbox_topology(
            self._names, name, tuple(sorted(patterns)), delivery_limit=self._settings.delivery_limit
        )

    async def _consume(self, queue: str, serve: Callable[[Delivery], Any], prefetch: int) -> None:
        def on_delivery(delivery: Delivery) -> None:
            task = asyncio.ensure_future(self._settle(delivery, serve))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._consumers.append(await self._transport.consume(queue, on_delivery, prefetch=prefetch))

    async def drain(self) -> int:
        """Take no more, let runs in flight end within the grace period, give the rest back; how many those were."""
        self._draining.set()
        for consumer in self._consumers:
            await consumer.cancel()
        self._consumers.clear()
        unfinished: set[asyncio.Task[None]] = set()
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=self._settings.grace_s)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
        return self._given_back

    async def _settle(self, delivery: Delivery, serve: Callable[[Delivery], Any]) -> None:
        """See one delivery to its settlement, whatever happens: nothing stays unacked, nothing is acked unserved."""
        try:
            if self._draining.is_set():
                await self._give_back(delivery)
                return
            await serve(delivery)
            await delivery.ack()
        except DeliveryLost:
            _log.info("a delivery was taken back by the broker; it comes again")
        except asyncio.CancelledError:
            await self._give_back(delivery)
            raise
        except BusError as error:
            _log.warning("a delivery goes back: %s", error)
            await self._give_back_later(delivery)
        except Exception:  # noqa: BLE001 - whatever fails, the delivery must not stay unsettled
            _log.exception("a delivery goes back: the worker failed")
            await self._give_back_later(delivery)

    async def _give_back_later(self, delivery: Delivery) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_PAUSES_S[delivery.redelivered]):
                await self._draining.wait()
        except TimeoutError:
            pass
        finally:
            await self._give_back(delivery)

    async def _give_back(self, delivery: Delivery) -> None:
        self._given_back += 1
        try:
            await delivery.requeue()
        except BusError as error:
            _log.info("a delivery could not be given back: %s", error)

    async def _serve(self, plugin_name: str, delivery: Delivery) -> None:
        message = delivery.message
        if self._is_own_broadcast(plugin_name, message):
            return
        spans = RunSpans(message, self._names.mailbox(plugin_name), read_trace_context(message.headers))
        run = await self._run(plugin_name, message, spans)
        attempt = run.request.attempt if run.request else 1
        retry = run.plugin.manifest.retry if run.plugin else _NO_RETRY
        disposition = dispose(run.kind, attempt, retry, jitter=random.random())  # noqa: S311 - jitter, not a secret
        if disposition.retry_delay_ms is not None:
            await self._retry(plugin_name, message, attempt, disposition.retry_delay_ms)
        else:
            await self._answer(plugin_name, message, run, spans, attempt, dead_letter=disposition.dead_letter)
        self._metrics.processed(plugin_name, run.outcome)
        if self._export_spans:
            self._export_spans(spans.spans)

    def _is_own_broadcast(self, plugin_name: str, message: Message) -> bool:
        return message.exchange == self._names.events and message.headers.get(Header.FROM) == plugin_name

    async def _run(self, plugin_name: str, message: Message, spans: RunSpans) -> _Run:
        """Run the request, if it is one. What keeps it from being run is an outcome too."""
        request = plugin = None
        try:
            request = read_request(message, plugin_name, max_bytes=self._settings.max_request_bytes)
            self._check_hops(request)
            plugin = self._manager.find(plugin_name, _requirement(request))
        except (MalformedMessage, PluginNotFound, InvalidValue) as error:
            return _Run(Outcome("rejected", error=str(error)), request, plugin)
        if message.message_id is None:
            _log.warning("a request to %s has no message_id: twins of its result cannot be told apart", plugin_name)
        outcome = await self._run_plugin(plugin, request)
        log_guest_lines(plugin_name, outcome.logs)
        spans.add_run(plugin_name, plugin.version, outcome)
        return _Run(outcome, request, plugin)

    async def _run_plugin(self, plugin: Plugin, request: Request) -> Outcome:
        timeout_s = None if request.deadline_ms is None else request.deadline_ms / 1_000
        try:
            return await plugin.run(request.body, timeout_s=timeout_s)
        except Exception as error:  # noqa: BLE001 - a defect; the request is tried again later, and given up at last
            _log.exception("running %s failed, and not by its fault", plugin.name)
            return Outcome("unavailable", error=f"the worker failed: {type(error).__name__}", start_ns=time.time_ns())

    def _check_hops(self, request: Request) -> None:
        if request.hops > self._settings.hop_limit:
            raise MalformedMessage(
                f"the message came through {request.hops} plugins; more than {self._settings.hop_limit} is a loop"
            )

    async def _retry(self, plugin_name: str, message: Message, attempt: int, delay_ms: int) -> None:
        # Declared anew each time: the queue goes when nobody has declared it for a while.
        await self._transport.declare(retry_topology(self._names, plugin_name, delay_ms))
        again = retry_message(self._names, message, plugin=plugin_name, attempt=attempt + 1, delay_ms=delay_ms)
        await self._transport.publish(again, mandatory=True)

    async def _answer(
        self, plugin_name: str, message: Message, run: _Run, spans: RunSpans, attempt: int, *, dead_letter: bool
    ) -> None:
        """Publish all that follows from a run, each confirmed: its messages, its dead letter, and last its result."""
        if run.outcome.messages and run.request:
            for sent in run.outcome.messages:
                await self._send(plugin_name, run.request, sent, spans)
        if dead_letter:
            await self._bury(message, run, plugin_name, attempt, spans.context)
        trace = spans.finish(None if run.outcome.kind == "ok" else run.error)
        context = spans.context.child()
        result = result_message(
            self._names,
            message,
            plugin=plugin_name,
            action=run.request.action if run.request else None,
            outcome=run.kind,
            body=run.outcome.response or failure_body(run.error),
            version=run.plugin.version if run.plugin else None,
            fuel=run.outcome.fuel,
            memory_bytes=run.outcome.memory_bytes,
            duration_us=run.outcome.duration_us,
            attempt=attempt,
            trace_json=encode_trace(trace),
            context=context,
        )
        start_ns = time.time_ns()
        await self._publish_result(result, run, attempt)
        spans.add_sent(result, context, spans.context, start_ns)

    async def _send(self, plugin_name: str, request: Request, sent: GuestMessage, spans: RunSpans) -> None:
        context = spans.run_context.child()
        message = event_message(
            self._names,
            sender=plugin_name,
            to=sent.to,
            topic=sent.topic,
            payload_json=sent.payload,
            trace=context,
            hops=request.hops + 1,
            causation=request.message.message_id,
        )
        start_ns = time.time_ns()
        error = None
        try:
            await self._transport.publish(message, mandatory=sent.to is not None)
        except Unroutable:
            error = f"no plugin {sent.to!r} has a mailbox"
            unsent = _Run(Outcome("rejected", error=error))
            await self._bury(message, unsent, plugin_name, 1, context)
        spans.add_sent(message, context, spans.run_context, start_ns, error)

    async def _publish_result(self, result: Message, run: _Run, attempt: int) -> None:
        try:
            await self._transport.publish(result, mandatory=result.exchange == "")  # others may have no listener
        except Unroutable as error:
            unwanted = replace(run, outcome=replace(run.outcome, error=f"the result found no one: {error}"))
            await self._bury(result, unwanted, run.plugin.name if run.plugin else None, attempt, None)

    async def _bury(
        self, message: Message, run: _Run, plugin_name: str | None, attempt: int, context: TraceContext | None
    ) -> None:
        """Publish a dead letter: the whole message and why it was given up."""
        letter = dead_letter_message(
            self._names,
            message,
            plugin=plugin_name,
            outcome=run.kind,
            error=run.error,
            attempt=attempt,
            worker=self.name,
            version=run.plugin.version if run.plugin else None,
            context=context,
        )
        try:
            await self._transport.publish(letter, mandatory=True)
        except Unroutable:  # somebody deleted the queue
            await self._transport.declare(base_topology(self._names))
            await self._transport.publish(letter, mandatory=True)

    async def _answer_unrouted(self, delivery: Delivery) -> None:
        """A request that no mailbox took: pass it on if there is one by now, else answer that nobody serves it."""
        message = delivery.message
        plugin_name = message.routing_key.partition(".")[0]
        try:
            await self._pass_on(message, plugin_name)
        except (MalformedMessage, Unroutable) as error:
            reason = str(error) if isinstance(error, MalformedMessage) else f"no plugin {plugin_name!r} is served here"
            spans = RunSpans(message, self._names.unrouted, read_trace_context(message.headers))
            refused = _Run(Outcome("rejected", error=reason))
            await self._answer(plugin_name, message, refused, spans, 1, dead_letter=True)
            self._metrics.processed(None, refused.outcome)

    async def _pass_on(self, message: Message, plugin_name: str) -> None:
        """Publish a request into the mailbox it was for. Raises `Unroutable`, `MalformedMessage`."""
        if not is_plugin_name(plugin_name):
            raise MalformedMessage(f"{plugin_name[:100]!r} cannot be the name of a plugin")
        read_request(message, plugin_name, max_bytes=self._settings.max_request_bytes)
        mailbox = self._names.mailbox(plugin_name)
        await self._transport.publish(replace(message, exchange="", routing_key=mailbox), mandatory=True)


def _requirement(request: Request) -> VersionReq | None:
    return None if request.version_requirement is None else VersionReq.parse(request.version_requirement)
