"""What follows from a run, published with confirms: another try, a dead letter, the guest's messages, the result.

The path of a message ends here: when `answer` returns, all of it is safe with the broker, and the request is acked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from warren.bus import (
    MAX_RECORDING_HEADER_BYTES,
    Header,
    Message,
    MessageTooLarge,
    Names,
    OutcomeKind,
    Request,
    Span,
    TraceContext,
    Transport,
    Unroutable,
    base_topology,
    dead_letter_message,
    event_message,
    failure_body,
    record,
    result_message,
    retry_message,
    retry_topology,
)
from warren.manifests import Retry
from warren.plugins import GuestMessage, Outcome, Plugin, TopicChange

from .mailbox import Sent
from .metrics import WorkerMetrics
from .outcomes import dispose
from .passing import rest_ms
from .spans import RunSpans

_log = logging.getLogger(__name__)

#: A retry queue is declared again this long after it was last; it goes ten minutes after it was (`retry_topology`).
DECLARE_AGAIN_S: Final = 300.0

#: A longer answer might be one that the broker takes no message for.
MAX_PLAIN_BYTES: Final = 64 << 10

#: What a guest answered, whatever it was, is neither tried again nor dead-lettered.
PLAIN_KINDS: Final = frozenset({"ok", "failed"})

OUTCOME_KINDS: Final = {kind.value: kind for kind in OutcomeKind}

_NO_RETRY: Final = Retry()

#: Binds the mailbox of the plugin of that name, and unbinds it. Raises `BusError`, `TooManyTopics`.
ChangeTopics = Callable[[str, Sequence[TopicChange]], Awaitable[None]]


class TooManyTopics(Exception):
    """A plugin would subscribe to more topics at run time than one may."""

    def __init__(self, plugin: str, limit: int) -> None:
        super().__init__(plugin, limit)
        self.plugin = plugin
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.plugin} may subscribe to {self.limit:,} patterns at run time, and no more; it has to unsubscribe"


@record
class Run:
    """A delivery after its run, or after it was refused one: everything its answer is made of."""

    outcome: Outcome
    request: Request | None = None
    plugin: Plugin | None = None

    @property
    def attempt(self) -> int:
        return self.request.attempt if self.request else 1

    @property
    def error(self) -> str:
        return self.outcome.error or self.outcome.kind

    @property
    def is_to_be_recorded(self) -> bool:
        """Its caller asks for a recording."""
        return self.request is not None and self.request.message.headers.get(Header.RECORD) is True


def packed_recording(run: Run) -> bytes | None:
    """The recording of a run, without its request. None where there was no run, or where it has no room."""
    if run.plugin is None or run.request is None or run.outcome.kind == "rejected":
        return None
    try:
        return run.plugin.recording(run.request.body, run.outcome).packed(MAX_RECORDING_HEADER_BYTES)
    except Exception:  # noqa: BLE001 - a defect, which is not to cost anybody the letter or the result
        _log.exception("a run of %s could not be recorded", run.plugin.name)
        return None


@record
class Result:
    """A run's result, and its own place in the trace."""

    message: Message
    context: TraceContext
    run: Run


@record
class SentResult(Sent):
    """A result on its way."""

    confirmed: asyncio.Future[None]
    result: Result
    answers: Answers

    async def complete(self) -> None:
        """Raises `BusError`."""
        try:
            await self.confirmed
        except Unroutable as unroutable:
            await self.answers.bury_result(self.result, unroutable)


class Answers:
    """Publishes for one worker, known by its `name`."""

    def __init__(
        self,
        transport: Transport,
        names: Names,
        name: str,
        metrics: WorkerMetrics,
        *,
        export_spans: Callable[[list[Span]], None] | None,
        reply_queues: tuple[str, ...],
        change_topics: ChangeTopics,
        record: frozenset[str],
    ) -> None:
        """`reply_queues` is what the names of queues begin with that results may be sent to; for `record` see
        `WorkerSettings`.
        """
        self._transport = transport
        self._names = names
        self._name = name
        self._metrics = metrics
        self._export_spans = export_spans
        self._reply_queues = reply_queues
        self._change_topics = change_topics
        self._records_dead_letters = "dead-letters" in record
        self._records_for_callers = "callers" in record
        self._retry_queues: dict[str, float] = {}

    async def answer(self, plugin_name: str, message: Message, run: Run, spans: RunSpans) -> Outcome:
        """All that the table of outcomes asks for; the outcome that was told. Raises `BusError`.

        An answer that the broker takes no message for would be refused for ever: its request ends as one whose output
        was too large.
        """
        try:
            await self._answer(plugin_name, message, run, spans)
        except MessageTooLarge as error:
            if not run.outcome.response:
                raise
            self._metrics.publish_failed(error)
            return await self._answer_too_large(plugin_name, message, run, spans, f"the answer is too large: {error}")
        except TooManyTopics as error:
            return await self._answer_too_large(plugin_name, message, run, spans, str(error))
        return run.outcome

    async def _answer_too_large(
        self, plugin_name: str, message: Message, run: Run, spans: RunSpans, reason: str
    ) -> Outcome:
        told = replace(run.outcome, kind="output_too_large", error=reason, response=b"", messages=(), topic_changes=())
        await self._answer(plugin_name, message, replace(run, outcome=told), spans)
        return told

    async def _answer(self, plugin_name: str, message: Message, run: Run, spans: RunSpans) -> None:
        kind = OUTCOME_KINDS[run.outcome.kind]
        if kind is not OutcomeKind.OK:
            retry = run.plugin.manifest.retry if run.plugin else _NO_RETRY
            disposition = dispose(kind, run.attempt, retry, jitter=random.random())  # noqa: S311 - not a secret
            if disposition.retry_delay_ms is not None:
                await self._retry(plugin_name, message, run, disposition.retry_delay_ms)
                return
            if disposition.dead_letter:
                recording = packed_recording(run) if self._records_dead_letters else None
                await self._bury(message, run, plugin_name, spans.context, recording)
        else:
            if run.outcome.topic_changes:  # first: what the plugin asks others for may be answered there
                await self._change_topics(plugin_name, run.outcome.topic_changes)
            if run.outcome.messages and run.request:
                await self._send_all(plugin_name, run.request, run.outcome.messages, spans)
        await self._publish_result(plugin_name, message, run, spans)
        if self._export_spans:
            self._export_spans(spans.spans)

    async def _retry(self, plugin_name: str, message: Message, run: Run, delay_ms: int) -> None:
        again = retry_message(
            self._names,
            message,
            plugin=plugin_name,
            attempt=run.attempt + 1,
            delay_ms=delay_ms,
            version=run.plugin.version if run.plugin else None,
        )
        await self._put_off(plugin_name, again, delay_ms)
        self._metrics.retried(plugin_name)

    async def pass_on(self, plugin_name: str, request: Request, passed_on: int) -> None:
        """Leave a request to another worker that has its version, in a while. Raises `BusError`.

        It is still the same attempt, and has been `passed_on` so often before.
        """
        delay_ms = rest_ms(passed_on)
        again = retry_message(
            self._names,
            request.message,
            plugin=plugin_name,
            attempt=request.attempt,
            delay_ms=delay_ms,
            passed_on=passed_on + 1,
        )
        await self._put_off(plugin_name, again, delay_ms)
        self._metrics.passed_on(plugin_name)

    async def _put_off(self, plugin_name: str, again: Message, delay_ms: int) -> None:
        """Have it come back to its mailbox later."""
        queue, now = again.routing_key, time.monotonic()
        if now > self._retry_queues.get(queue, -DECLARE_AGAIN_S) + DECLARE_AGAIN_S:
            await self._transport.declare(retry_topology(self._names, plugin_name, delay_ms))
            self._retry_queues[queue] = now
        try:
            await self._transport.publish(again, mandatory=True)
        except Unroutable:  # somebody deleted the queue
            del self._retry_queues[queue]
            raise

    async def _send_all(
        self, plugin_name: str, request: Request, messages: tuple[GuestMessage, ...], spans: RunSpans
    ) -> None:
        """In the order in which the guest sent them, and none waiting for another's confirm."""
        await asyncio.gather(*(self._send(plugin_name, request, message, spans) for message in messages))
        for sender, count in Counter(sent.sender or plugin_name for sent in messages).items():
            self._metrics.guest_sent(sender, count)

    async def _send(self, plugin_name: str, request: Request, sent: GuestMessage, spans: RunSpans) -> None:
        context = spans.run_context.child()
        sender = sent.sender or plugin_name
        message = event_message(
            self._names,
            sender=sender,
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
        except Unroutable as unroutable:
            self._metrics.publish_failed(unroutable)
            error = f"no plugin {sent.to!r} has a mailbox"
            await self._bury(message, Run(Outcome("rejected", error=error)), sender, context)
        except MessageTooLarge as too_large:  # for the queue of dead letters as well
            self._metrics.publish_failed(too_large)
            error = str(too_large)
            _log.warning("a message of %s was dropped: %s", sender, error)
        spans.add_sent(message, context, spans.run_context, start_ns, error)

    def is_plain(self, run: Run) -> bool:
        """Whether all that follows from a run is its result. It nearly always is; then `result` and `post` will do."""
        outcome = run.outcome
        return (
            outcome.kind in PLAIN_KINDS
            and not outcome.messages
            and not outcome.topic_changes
            and len(outcome.response) <= MAX_PLAIN_BYTES
            and self._export_spans is None
        )

    def result(self, plugin_name: str, message: Message, run: Run, spans: RunSpans) -> Result:
        """The result of a run."""
        outcome, plugin, request = run.outcome, run.plugin, run.request
        if request is None and not (message.reply_to or "").startswith(self._reply_queues):
            message = replace(message, reply_to=None)  # it was rejected, and that may be why
        # A span of its own only where that is exported: else whoever goes on from here would miss it in the trace.
        context = spans.context.child() if self._export_spans else spans.context
        result = result_message(
            self._names,
            message,
            plugin=plugin_name,
            action=request.action if request else None,
            outcome=OUTCOME_KINDS[outcome.kind],
            body=outcome.response or failure_body(run.error),
            version=plugin.version if plugin else None,
            fuel=outcome.fuel,
            memory_bytes=outcome.memory_bytes,
            duration_us=outcome.duration_us,
            attempt=run.attempt,
            trace_json=spans.finish(None if outcome.kind == "ok" else run.error),
            context=context,
            recording=packed_recording(run) if self._records_for_callers and run.is_to_be_recorded else None,
        )
        return Result(result, context, run)

    def post(self, result: Result) -> SentResult:
        """Have a result on its way. Raises `BusError`, and ValueError for what cannot travel."""
        message = result.message
        # On the results exchange nobody need listen.
        return SentResult(self._transport.post(message, mandatory=message.exchange == ""), result, self)

    async def _publish_result(self, plugin_name: str, message: Message, run: Run, spans: RunSpans) -> None:
        start_ns = time.time_ns()
        result = self.result(plugin_name, message, run, spans)
        await self.post(result).complete()
        if self._export_spans:
            spans.add_sent(result.message, result.context, spans.context, start_ns)

    async def bury_result(self, result: Result, unroutable: Unroutable) -> None:
        """A result that found no one is dead-lettered itself."""
        self._metrics.publish_failed(unroutable)
        run = result.run
        unwanted = replace(run, outcome=replace(run.outcome, error=f"the result found no one: {unroutable}"))
        await self._bury(result.message, unwanted, run.plugin.name if run.plugin else None, None)

    async def _bury(
        self,
        message: Message,
        run: Run,
        plugin_name: str | None,
        context: TraceContext | None,
        recording: bytes | None = None,
    ) -> None:
        """Publish a dead letter: the whole message, why it was given up, and what it takes to see that happen again."""
        letter = dead_letter_message(
            self._names,
            message,
            plugin=plugin_name,
            outcome=OUTCOME_KINDS[run.outcome.kind],
            error=run.error,
            attempt=run.attempt,
            worker=self._name,
            version=run.plugin.version if run.plugin else None,
            context=context,
            recording=recording,
        )
        try:
            await self._transport.publish(letter, mandatory=True)
        except Unroutable:  # somebody deleted the queue
            await self._transport.declare(base_topology(self._names))
            await self._transport.publish(letter, mandatory=True)
        self._metrics.dead_lettered(plugin_name)
