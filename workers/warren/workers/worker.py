"""The path of a message: consume, run, publish what the guest sent and the result with confirms, ack. In that order.

Delivery is at least once. A request is acked only when everything that follows from it is safe with the broker; if
anything before that fails, the request goes back and is run again. Its result then has the same id as the one before.

    ServedPlugins   has a mailbox for each plugin that is loaded
    Mailbox         takes deliveries, and settles each when it has been served
    Worker          reads the request, runs the plugin
    Answers         publishes what follows

What came in one turn of the event loop goes through these together, stage by stage: all are read, then all are run,
then all results are written, then all are sent. The code of a stage stays in the processor's caches meanwhile, which it
does not when each message is seen to its end before the next (85 µs a message instead of 140, measured). The cost per
message, in microseconds (CPython 3.11, the echo plugin, no broker beside it; the bus takes what is missing to 80):

    read     the request, its trace context, its plugin          6
    run      a store, an instance, the guest, its accounts      38
    write    the spans as JSON, the result                      15
    post     headers, frames, the future of its confirm         10

A worker keeps nothing between two messages (but, where it is asked to, the ids of those it has just served); scaling
out is starting another. All of it shares one event loop with the guests that run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from warren.bus import (
    Delivery,
    Header,
    MalformedMessage,
    Message,
    RecentIds,
    Request,
    Span,
    Transport,
    Unroutable,
    base_topology,
    passed_on_message,
    read_request,
    times_passed_on,
)
from warren.manifests import InvalidValue, VersionReq, is_plugin_name
from warren.plugins import AuditEvent, Outcome, Plugin, PluginManager, PluginNotFound

from .answers import Answers, Result, Run
from .audit import AuditSinks
from .begun import begin
from .elsewhere import BusCalls
from .guest_logs import GuestLogs
from .mailbox import Mailbox, Served
from .metrics import WorkerMetrics
from .passing import why_not
from .rollout_events import publishing
from .rollouts import Rollouts
from .roster import Roster, new_worker_name
from .served import ServedPlugins
from .settings import WorkerSettings
from .spans import RunSpans
from .trial import Trial

_log = logging.getLogger(__name__)

#: Requests for plugins that nobody serves are rare, and answered one by one.
UNROUTED_PREFETCH: Final = 10

#: Ids that are remembered at most, where twins are dropped: some 20 MB.
MAX_REMEMBERED: Final = 100_000


class Worker:
    """Serves the plugins that `manager` has loaded, over `transport`. Both stay their owners' to close.

    With a `roster` it has the name that stands there, and leaves to others what they have and it has not.
    """

    def __init__(
        self,
        transport: Transport,
        manager: PluginManager,
        settings: WorkerSettings,
        *,
        roster: Roster | None = None,
        export_spans: Callable[[list[Span]], None] | None = None,
    ) -> None:
        self.name = roster.name if roster is not None else new_worker_name()
        self._transport = transport
        self._manager = manager
        self._settings = settings
        self._roster = roster
        self._names = settings.names
        self._under_way: set[asyncio.Future[None]] = set()
        self._serving = self._draining = False
        self.metrics = WorkerMetrics(in_flight=self._under_way.__len__)
        self._audit = AuditSinks(self.name, settings.audit, self.metrics, transport, self._names)
        self._end_audit = manager.observe_audit(self._audit)
        self._export_spans = export_spans
        self._elsewhere = BusCalls(transport, self._names)
        self._plugins = ServedPlugins(
            transport, manager, settings, self._serve, metrics=self.metrics, under_way=self._under_way
        )
        self._unrouted = Mailbox(
            transport,
            self._names.unrouted,
            self._serve_unrouted,
            prefetch=UNROUTED_PREFETCH,
            metrics=self.metrics,
            under_way=self._under_way,
        )
        self._reply_queues = ("",) if settings.foreign_replies else self._names.reply_queues
        self._answers = Answers(
            transport,
            self._names,
            self.name,
            self.metrics,
            export_spans=export_spans,
            reply_queues=self._reply_queues,
            change_topics=self._plugins.change_topics,
            record=settings.record,
        )
        self._guest_logs = GuestLogs()
        self.rollouts = Rollouts(manager, self.metrics)
        self.rollouts.on_change = publishing(transport, self._names, self.name)
        self._served = RecentIds(MAX_REMEMBERED, settings.dedup_window_s) if settings.dedup_window_s else None

    @property
    def is_draining(self) -> bool:
        return self._draining

    async def start(self) -> None:
        """Declare every mailbox, and consume; those of plugins that come later, too. Raises `BusError`."""
        await self._transport.declare(base_topology(self._names))
        self._manager.call_elsewhere(self._elsewhere)
        self.rollouts.open()
        await self._plugins.start()
        await self._unrouted.start()
        self._serving = True

    def impediment(self) -> str | None:
        """What keeps requests from being served just now, in words; None while nothing does."""
        if self._draining:
            return "draining: no more requests are taken"
        if not self._serving:
            return "starting: not every mailbox is consumed yet"
        return self._transport.impediment() or self._plugins.impediment()

    async def drain(self) -> int:
        """Take no more, let runs in flight end within the grace period, give the rest back; how many those were."""
        self._draining = True
        await self.rollouts.close()
        until = asyncio.get_running_loop().time() + self._settings.grace_s
        await asyncio.gather(self._plugins.drain(self._settings.grace_s), self._unrouted.drain(self._settings.grace_s))
        while self._under_way and (remaining_s := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._under_way, timeout=remaining_s)
        for unfinished in tuple(self._under_way):
            unfinished.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._manager.call_elsewhere(None)
        self._end_audit()
        await self._elsewhere.close()
        self._guest_logs.close()
        return self.metrics.given_back

    def _serve(self, plugin_name: str, deliveries: Sequence[Delivery]) -> list[Served]:
        """Serve what came in one turn, stage by stage: see the head of this module."""
        jobs = [_Job(plugin_name, delivery.message) for delivery in deliveries]
        for stage in (self._read, self._run, self._write, self._post):
            for job in jobs:
                if job.goes_on:
                    try:
                        stage(job)
                    except Exception as error:  # noqa: BLE001 - it is the mailbox that knows what to do
                        job.end(error)
        return [job.served for job in jobs]

    def _read(self, job: _Job) -> None:
        """Read the request, and find its plugin. What keeps it from being run is an outcome, too."""
        message, plugin_name = job.message, job.plugin_name
        is_event = message.exchange == self._names.events
        if (is_event and _is_from(plugin_name, message)) or self._was_served(plugin_name, message):
            job.end(None)
            return
        job.spans = RunSpans(message, self._names.mailbox(plugin_name), keep=self._export_spans is not None)
        try:
            if message.reply_to is not None and not message.reply_to.startswith(self._reply_queues):
                self._refuse_reply(job, message.reply_to)
            job.request = request = read_request(message, plugin_name, max_bytes=self._settings.max_request_bytes)
            self._check_hops(job, request)
            if is_event:
                self._check_topic(job, message.routing_key)
            try:
                self._choose(job, request)
            except PluginNotFound as missing:
                self._leave_to_others(job, request, missing)
        except (MalformedMessage, InvalidValue) as error:
            job.outcome = Outcome("rejected", error=str(error))

    def _choose(self, job: _Job, request: Request) -> None:
        """Find the version that a request gets. Raises `PluginNotFound`, `InvalidValue`."""
        requirement, prefer = request.version_requirement, request.resolved_version
        if (route := self.rollouts.routes.get(job.plugin_name)) is None:
            job.plugin = self._manager.find(job.plugin_name, requirement, prefer=prefer)
        else:
            job.plugin, job.trial = route.choose(request, _parsed(requirement), prefer=prefer)

    def _leave_to_others(self, job: _Job, request: Request, missing: PluginNotFound) -> None:
        """Have a request go to a worker that has what it asks for. Where there is none, it is rejected."""
        if self._roster is None:
            job.outcome = Outcome("rejected", error=str(missing))
            return
        passed_on = times_passed_on(request.message)
        found = self._roster.whereabouts(job.plugin_name, _parsed(request.version_requirement))
        reason_against = why_not(passed_on, found, complete=self._roster.complete)
        if reason_against is None:
            job.end(self._answers.pass_on(job.plugin_name, request, passed_on))
        else:
            job.outcome = Outcome("rejected", error=f"{missing}; {reason_against}")

    def _run(self, job: _Job) -> None:
        """Run the plugin, as far as its first slice of fuel goes: most runs have ended by then."""
        if job.plugin is None or job.request is None:
            return
        ran = begin(self._run_plugin(job.plugin, job.request, job.spans))
        if isinstance(ran, Outcome):
            job.outcome = ran
        else:
            job.end(self._run_on(job, ran))

    async def _run_on(self, job: _Job, running: Coroutine[Any, Any, Outcome]) -> None:
        job.outcome = await running
        self._tell(job)
        await self._answer(job)

    def _write(self, job: _Job) -> None:
        """Write the result. Whatever else follows from a run, or has to wait, is a coroutine's business."""
        self._tell(job)
        run = job.run
        if self._served is not None or not self._answers.is_plain(run):
            job.end(self._answer(job))
        else:
            job.result = self._answers.result(job.plugin_name, job.message, run, job.spans)
            self.metrics.processed(job.plugin_name, run.outcome)

    def _post(self, job: _Job) -> None:
        job.end(self._answers.post(job.result))

    def _tell(self, job: _Job) -> None:
        """Log what the guest did, and note the run in the trace."""
        plugin, outcome = job.plugin, job.outcome
        if plugin is None:
            return
        if job.message.message_id is None:
            _log.warning("a request to %s has no message_id: twins of its result cannot be told apart", plugin.name)
        if outcome.logs:
            self._guest_logs.log(plugin.name, outcome.logs)
        job.spans.add_run(plugin.name, plugin.version, outcome)
        if job.trial is not None and job.request is not None:
            job.trial.ran(plugin, job.request, outcome)

    async def _answer(self, job: _Job) -> None:
        outcome = await self._answers.answer(job.plugin_name, job.message, job.run, job.spans)
        self.metrics.processed(job.plugin_name, outcome)
        if self._served is not None and outcome.kind in ("ok", "failed"):
            self._served.add(_twin_key(job.plugin_name, job.message))

    def _was_served(self, plugin_name: str, message: Message) -> bool:
        """Whether it is the twin of one whose answer is with the broker. One that died may be replayed at any time."""
        if self._served is None or message.message_id is None or _twin_key(plugin_name, message) not in self._served:
            return False
        self.metrics.dropped_duplicate(plugin_name)
        return True

    async def _run_plugin(self, plugin: Plugin, request: Request, spans: RunSpans) -> Outcome:
        timeout_s = None if request.deadline_ms is None else request.deadline_ms / 1_000
        try:
            return await plugin.run(request.body, timeout_s=timeout_s, depth=request.hops, trail=spans)
        except Exception as error:  # noqa: BLE001 - a defect; the request is tried again later, and given up at last
            _log.exception("running %s failed, and not by its fault", plugin.name)
            return Outcome("unavailable", error=f"the worker failed: {type(error).__name__}", start_ns=time.time_ns())

    def _refuse_reply(self, job: _Job, reply_to: str) -> None:
        """Who asks is not to have the worker write where they may not themselves. Raises `MalformedMessage`."""
        reason = (
            f"'reply_to' names {reply_to[:100]!r}, which is neither a direct reply nor a queue of this installation"
        )
        event = AuditEvent("warning", "reply_to", reply_to, reason, time.time_ns())
        self._audit.note(job.plugin_name, None, event, job.message.message_id, job.spans.trace_id)
        raise MalformedMessage(reason)

    def _check_hops(self, job: _Job, request: Request) -> None:
        """A loop is what plugins make, and a hostile one on purpose: it is audited, against the one it came to."""
        if request.hops > self._settings.hop_limit:
            came = f"the message came through {request.hops} plugins"
            reason = f"{came}; more than {self._settings.hop_limit} is a loop"
            event = AuditEvent("warning", "hops", f"{request.hops} plugins", reason, time.time_ns())
            self._audit.note(job.plugin_name, None, event, job.message.message_id, job.spans.trace_id)
            raise MalformedMessage(reason)

    def _check_topic(self, job: _Job, topic: str) -> None:
        """An event may come by a binding that outlived what the manifest grants; the plugin does not hear it."""
        grants = [plugin.grant for plugin in self._manager.plugins() if plugin.name == job.plugin_name]
        if grants and not any(grant.may_hear(topic) for grant in grants):
            reason = f"no pattern in the [bus] of {job.plugin_name} lets it hear {topic[:100]!r}"
            event = AuditEvent("warning", "subscribe", topic, reason, time.time_ns())
            self._audit.note(job.plugin_name, None, event, job.message.message_id, job.spans.trace_id)
            raise MalformedMessage(f"{reason}; its mailbox is still bound to that: undo the binding")

    def _serve_unrouted(self, deliveries: Sequence[Delivery]) -> list[Served]:
        return [self._answer_unrouted(delivery) for delivery in deliveries]

    async def _answer_unrouted(self, delivery: Delivery) -> None:
        """A request that no mailbox took: pass it on if there is one by now, else answer that nobody serves it."""
        message = delivery.message
        plugin_name = message.routing_key.partition(".")[0]
        try:
            await self._pass_on(message, plugin_name)
        except (MalformedMessage, Unroutable) as error:
            reason = str(error) if isinstance(error, MalformedMessage) else f"no plugin {plugin_name!r} is served here"
            refused = Run(Outcome("rejected", error=reason))
            spans = RunSpans(message, self._names.unrouted, keep=self._export_spans is not None)
            await self._answers.answer(plugin_name, message, refused, spans)
            self.metrics.processed("", refused.outcome)

    async def _pass_on(self, message: Message, plugin_name: str) -> None:
        """Publish a request into the mailbox it was for. Raises `Unroutable`, `MalformedMessage`."""
        if not is_plugin_name(plugin_name):
            raise MalformedMessage(f"{plugin_name[:100]!r} cannot be the name of a plugin")
        read_request(message, plugin_name, max_bytes=self._settings.max_request_bytes)
        await self._transport.publish(passed_on_message(self._names, message, plugin_name), mandatory=True)


class _Job:
    """One delivery on its way through the stages. It goes on until it is told how far it was served."""

    __slots__ = (
        "goes_on", "message", "outcome", "plugin", "plugin_name", "request", "result", "served", "spans",
        "trial",
    )  # fmt: skip

    spans: RunSpans
    outcome: Outcome
    result: Result

    def __init__(self, plugin_name: str, message: Message) -> None:
        self.plugin_name = plugin_name
        self.message = message
        self.request: Request | None = None
        self.plugin: Plugin | None = None
        self.trial: Trial | None = None
        self.goes_on = True
        self.served: Served = None

    @property
    def run(self) -> Run:
        return Run(self.outcome, self.request, self.plugin)

    def end(self, served: Served) -> None:
        self.goes_on = False
        self.served = served


def _is_from(plugin_name: str, message: Message) -> bool:
    return message.headers.get(Header.FROM) == plugin_name


def _parsed(requirement: str | None) -> VersionReq | None:
    return None if requirement is None else VersionReq.parse(requirement)


def _twin_key(plugin_name: str, message: Message) -> tuple[str, str | None, object]:
    """What twins have in common. Another try of a request is none."""
    return plugin_name, message.message_id, message.headers.get(Header.ATTEMPT)
