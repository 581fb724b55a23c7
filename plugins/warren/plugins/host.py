"""The host's side of one run: what its imports did, and the functions that `host_call` reaches by name.

Host functions take and give JSON values. What they do that others would see (messages, subscriptions) is not done here
but recorded, and becomes part of the run's outcome: a run that does not end well has had no effect.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from warren.manifests import Grant, InvalidValue, TopicPattern, is_plugin_name, is_topic

from .errors import GuestFault, HostFunctionError
from .module import shown
from .outcome import (
    AuditEvent,
    AuditSeverity,
    Callee,
    GuestMessage,
    HostCall,
    LogLevel,
    LogLine,
    Outcome,
    TopicChange,
    Trail,
)
from .plugin_folder import PluginFolder
from .recorder import Recorder, Source
from .secrets import NO_SECRETS, Secrets
from .wasi_descriptors import Files
from .wasi_process import Process
from .world import LIVE, Clock, Timer, World

_log = logging.getLogger(__name__)

LEVELS: Final[tuple[LogLevel, ...]] = ("trace", "debug", "info", "warn", "error")


@dataclass(frozen=True, slots=True)
class Caps:
    """How much one run may hand to the host. Beyond `log_*` lines are dropped and counted; beyond the rest it ends."""

    answer_bytes: int = 1 << 20
    log_lines: int = 1_000
    log_bytes: int = 64 << 10
    messages: int = 1_000
    message_bytes: int = 1 << 20
    topic_changes: int = 100


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the runs of one loaded plugin find around them: one for all of its runs.

    `environment` is of `NAME=value`, for WASI; `folder` the plugin's own directory, if it may use files.
    """

    environment: tuple[bytes, ...] = ()
    secrets: Secrets = NO_SECRETS
    folder: PluginFolder | None = None


NO_SURROUNDINGS: Final = Surroundings()

#: What a host function may raise without ending anybody's run but its own: asyncio would let the last two tear down
#: the event loop, and every guest with it.
_FAILURES: Final = (Exception, SystemExit, KeyboardInterrupt)

#: Host calls of a run, and of those it called, that its outcome lists; the others are only counted in their fuel.
RECORDED_HOST_CALLS: Final = 64

#: Audit events of a run, and of those it called, that its outcome lists. The others are only counted.
AUDIT_EVENTS: Final = 64

#: Characters kept of a host call's name, of its error, and of what was asked for; what they quote comes from the guest.
RECORDED_LENGTH: Final = 200


class HostSession:
    """What the host knows and records of one run; see `Host` in `guest`, whose two methods these are.

    `depth` is the number of plugins that a call came through to this one, `trail` the run's place in a trace.
    """

    #: What tells the time, and so on, before it is recorded: the machine, but in tests of plugins.
    outside: World = LIVE

    __slots__ = (
        "_audit", "_began_ns", "_callee", "_caps", "_dropped_events", "_dropped_lines", "_functions", "_log_bytes_left",
        "_message_bytes_left", "_not_begun", "_process", "_recorded_calls", "_surroundings", "_timeout_s", "depth",
        "grant", "host_calls", "host_ns", "logs", "messages", "recorder", "topic_changes", "trail",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - for every run: keywords would take as long as all that is done here
        self,
        grant: Grant,
        functions: Mapping[str, HostFunction],
        caps: Caps,
        began_ns: int = 0,
        timeout_s: float = 0.0,
        depth: int = 0,
        trail: Trail | None = None,
        surroundings: Surroundings = NO_SURROUNDINGS,
    ) -> None:
        """`began_ns` is by the monotonic clock."""
        self.grant = grant
        self.depth = depth
        self.trail = trail
        self._began_ns = began_ns
        self._timeout_s = timeout_s
        self.logs: list[LogLine] = []
        self.messages: list[GuestMessage] = []
        self.topic_changes: tuple[TopicChange, ...] = ()
        self.host_calls: list[HostCall] = []
        self.host_ns = 0
        self.recorder: Recorder | None = None
        self._functions = functions
        self._surroundings = surroundings
        self._process: Process | None = None
        self._caps = caps
        self._log_bytes_left = caps.log_bytes
        self._message_bytes_left = caps.message_bytes
        self._dropped_lines = 0
        self._audit: list[AuditEvent] = []
        self._dropped_events = 0
        self._not_begun: Awaitable[Any] | None = None
        self._callee: Callee | None = None
        self._recorded_calls = 0

    @property
    def remaining_s(self) -> float:
        """What is left of the run's time."""
        return self._timeout_s - (time.monotonic_ns() - self._began_ns) / 1e9

    @property
    def process(self) -> Process:
        """What WASI needs of this run; made when it is first asked for."""
        if self._process is None:
            around = self._surroundings
            files = None if around.folder is None else Files(around.folder, self)
            self._process = Process(
                self.log,
                (self.grant.plugin.encode(),),
                around.environment,
                files=files,
                mask=around.secrets.mask,
                world=self,
            )
        return self._process

    # The world as the guest sees it, and `world.World`: what no two runs find alike. It is recorded.

    def clock_ns(self, clock: Clock) -> int:
        """The time by that clock."""
        now_ns = self.outside.clock_ns(clock)
        self._recording("clock", clock, b"").answer(b"%d" % now_ns)
        return now_ns

    def random_bytes(self, length: int) -> bytes:
        """So many random bytes."""
        drawn = self.outside.random_bytes(length)
        self._recording("random", "", b"%d" % length).answer(drawn)
        return drawn

    def begin_sleep(self, timers: Sequence[Timer | None]) -> list[int]:
        """The guest sleeps until the first of these: when each is due, by the monotonic clock."""
        self._recording("sleep", "", b"%d" % len(timers))
        return self.outside.begin_sleep(timers)

    def woken_by(self, due_ns: Sequence[int]) -> list[int] | None:
        """Which of these times have come, by their places; None while none has."""
        due = self.outside.woken_by(due_ns)
        if due is not None and self.recorder is not None:
            self.recorder.answer(bytes(due))
        return due

    def _recording(self, source: Source, name: str, asked: bytes) -> Recorder:
        """The recorder, which now waits for the answer to this."""
        if self.recorder is None:
            self.recorder = Recorder()
        self.recorder.begin(source, name, asked)
        return self.recorder

    def log(self, level: int, text: bytes) -> None:
        """Keep a line, up to the caps; unknown levels count as the nearest known one."""
        if self._has_room_for_line(len(text)):
            name = LEVELS[min(max(level, 0), len(LEVELS) - 1)]
            self.logs.append(LogLine(name, text.decode(errors="replace"), time.time_ns()))

    def _has_room_for_line(self, length: int) -> bool:
        self._log_bytes_left -= length
        if self._log_bytes_left < 0 or len(self.logs) >= self._caps.log_lines:
            self._dropped_lines += 1
            return False
        return True

    def finished_logs(self) -> tuple[LogLine, ...]:
        """All lines kept, and a last one that says how many were not."""
        if self._process is not None:
            self._process.flush()
        if not self._dropped_lines:
            return tuple(self.logs)
        last = LogLine("warn", f"{self._dropped_lines:,} more lines were dropped: too much was logged", time.time_ns())
        return (*self.logs, last)

    def used(self, power: str, asked: str) -> None:
        """The guest has used a power that it was granted."""
        self._note("debug", power, asked, None)

    def refused(self, power: str, asked: str, reason: str, *, severity: AuditSeverity = "warning") -> None:
        """The guest asked for what it may not do, and did not get it."""
        self._note(severity, power, asked, reason)

    def _note(self, severity: AuditSeverity, power: str, asked: str, refusal: str | None) -> None:
        self._keep_event(AuditEvent(severity, power, asked[:RECORDED_LENGTH], refusal, time.time_ns()))

    def _keep_event(self, event: AuditEvent) -> None:
        if len(self._audit) < AUDIT_EVENTS:
            self._audit.append(event)
            return
        self._dropped_events += 1
        if event.refusal is not None:  # a guest must not hide a refusal behind many uses
            for index, kept in enumerate(self._audit):
                if kept.refusal is None:
                    self._audit[index] = event
                    return

    @property
    def has_audit(self) -> bool:
        return bool(self._audit)

    def finished_audit(self) -> tuple[AuditEvent, ...]:
        """All events kept, and a last one that says how many were not."""
        if not self._dropped_events:
            return tuple(self._audit)
        more = f"{self._dropped_events:,} more events"
        return (*self._audit, AuditEvent("warning", "audit", more, "too many for one run", time.time_ns()))

    def send(self, message: GuestMessage) -> None:
        """Keep a message until the run has ended well. Raises `GuestFault` when it may not be, or is too much."""
        if not self.grant.may_publish(message.topic):
            reason = f"the plugin may not publish on {message.topic!r}: no pattern in its [bus] publish"
            self.refused("publish", message.topic, reason)
            raise GuestFault("denied", reason)
        self.used("publish", message.topic)
        self._hold_back(message)

    def _hold_back(self, message: GuestMessage) -> None:
        self._message_bytes_left -= len(message.payload)
        if self._message_bytes_left < 0 or len(self.messages) >= self._caps.messages:
            limits = f"{self._caps.messages:,} messages or {self._caps.message_bytes:,} bytes of them"
            raise GuestFault("output_too_large", f"the guest sent more than {limits} in one run")
        self.messages.append(message)

    def change_topic(self, pattern: TopicPattern, *, subscribed: bool) -> None:
        """Keep a change until the run has ended well; of several to one pattern the last counts.

        Raises `GuestFault` when the plugin may not hear all of `pattern`, or changes too much. To hear less is its own
        affair.
        """
        if subscribed and not self.grant.may_bind(pattern):
            reason = f"the plugin may not subscribe to {pattern.text!r}: no pattern in its [bus] covers that"
            self.refused("subscribe", pattern.text, reason)
            raise GuestFault("denied", reason)
        self.used("subscribe" if subscribed else "unsubscribe", pattern.text)
        self._hold_topic_change(TopicChange(pattern.text, subscribed))

    def _hold_topic_change(self, change: TopicChange) -> None:
        about = (change.topic, change.plugin)
        others = tuple(one for one in self.topic_changes if (one.topic, one.plugin) != about)
        if len(others) >= self._caps.topic_changes:
            reason = f"the guest changed more than {self._caps.topic_changes:,} subscriptions in one run"
            raise GuestFault("output_too_large", reason)
        self.topic_changes = (*others, change)

    def adopt(self, plugin: str, version: str | None, outcome: Outcome, trail: Trail | None) -> None:
        """The host call under way has had `plugin` run: what came of it is this run's, and within its caps.

        Raises `GuestFault` when that is too much.
        """
        calls = _count(outcome.host_calls)
        if self._recorded_calls + calls >= RECORDED_HOST_CALLS:
            calls = 0
        self._recorded_calls += calls
        kept = replace(
            outcome,
            response=b"",
            logs=(),
            messages=(),
            audit=(),
            topic_changes=(),
            host_calls=outcome.host_calls if calls else (),
            recorder=None,
        )
        self._callee = Callee(plugin, version, kept, trail)
        for event in outcome.audit:
            self._keep_event(replace(event, plugin=event.plugin or plugin))
        for line in outcome.logs:
            if self._has_room_for_line(len(line.text)):
                self.logs.append(replace(line, plugin=line.plugin or plugin))
        for message in outcome.messages:
            self._hold_back(replace(message, sender=message.sender or plugin))
        for change in outcome.topic_changes:
            self._hold_topic_change(replace(change, plugin=change.plugin or plugin))

    def call(self, name: bytes, arguments: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """Run the host function of that name; its answer as the guest reads it, at once or after waiting."""
        start_ns, began_ns = time.time_ns(), time.monotonic_ns()
        text = name.decode(errors="replace")
        self._recording("host_call", text, arguments)
        try:
            value = self._invoke(text, arguments)
            if isinstance(value, Awaitable):
                self._not_begun = value
                return self._awaited(text, start_ns, began_ns, value)
            return self._answer(text, start_ns, began_ns, value)
        except _FAILURES as error:
            return self._answer_error(text, start_ns, began_ns, error)

    def close(self) -> None:
        """The run has ended: close its files, and a host function's coroutine that did not live to see begin."""
        if self._process is not None and self._process.files is not None:
            self._process.files.close_all()
        if self._not_begun is not None and isinstance(self._not_begun, Coroutine):  # the second takes 0.2 µs
            self._not_begun.close()

    def _invoke(self, name: str, arguments: bytes) -> Any:
        function = self._functions.get(name)
        if function is None:
            raise HostFunctionError("unknown_function", f"there is no host function {shown(name)}")
        try:
            value = from_json(arguments, allow_inf_nan=False) if arguments else None
        except ValueError as error:
            raise HostFunctionError("invalid_arguments", f"the arguments are not JSON: {error}") from None
        return function(self, value)

    async def _awaited(self, name: str, start_ns: int, began_ns: int, value: Awaitable[Any]) -> bytes:
        self._not_begun = None
        try:
            return self._answer(name, start_ns, began_ns, await value)
        except _FAILURES as error:
            return self._answer_error(name, start_ns, began_ns, error)

    def _answer(self, name: str, start_ns: int, began_ns: int, value: Any) -> bytes:
        answer = as_json({"ok": value})
        self._record(name, start_ns, began_ns, None)
        return self._answered(answer)

    def _answer_error(self, name: str, start_ns: int, began_ns: int, error: BaseException) -> bytes:
        self._record(name, start_ns, began_ns, str(error))
        if isinstance(error, GuestFault):
            if self.recorder is not None:
                self.recorder.fault(error.kind, error.reason)
            raise error
        if not isinstance(error, HostFunctionError):
            self._log_failure(name, error)
            error = HostFunctionError("internal", f"the host function {name!r} failed")
        return self._answered(as_json({"error": {"code": error.code, "message": error.message}}))

    def _answered(self, answer: bytes) -> bytes:
        if self.recorder is not None:
            self.recorder.answer(answer)
        return answer

    def _log_failure(self, name: str, error: BaseException) -> None:
        secrets = self._surroundings.secrets
        if not secrets:
            _log.error("host function %r failed", name, exc_info=error)
            return
        trace = "".join(traceback.format_exception(error))  # which may quote what the guest gave it
        _log.error("host function %r failed\n%s", name, secrets.mask(trace))

    def _record(self, name: str, start_ns: int, began_ns: int, error: str | None) -> None:
        duration_ns = time.monotonic_ns() - began_ns
        self.host_ns += duration_ns
        callee, self._callee = self._callee, None
        if self._recorded_calls < RECORDED_HOST_CALLS:
            self._recorded_calls += 1
            short_error = None if error is None else error[:RECORDED_LENGTH]
            self.host_calls.append(HostCall(name[:RECORDED_LENGTH], start_ns, duration_ns, short_error, callee))


def _count(calls: Iterable[HostCall]) -> int:
    """With those of callees."""
    return sum(1 + (_count(call.callee.outcome.host_calls) if call.callee else 0) for call in calls)


def invalid_arguments(function: str, error: ValidationError) -> HostFunctionError:
    """What a guest reads whose arguments are not what a function takes: the first thing that is wrong, and where."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = "".join(f"{shown(str(key))}: " for key in problem["loc"])
    return HostFunctionError("invalid_arguments", f"{function}: {place}{problem['msg']}")


def as_json(value: Any) -> bytes:
    """A value that came from JSON, as JSON again."""
    # JSON has no infinite numbers, but `1e999` in it becomes one.
    return to_json(value, inf_nan_mode="null")


#: A host function: the run it is called in and the JSON value it is given, to a JSON value. It may be a coroutine
#: function; its guest then waits, and nobody else does.
HostFunction = Callable[[HostSession, Any], Any]

#: Or a method that is one, once it is bound.
AnyHostFunction = TypeVar("AnyHostFunction", bound=Callable[..., Any])

_HARMLESS: Final = "__warren_changes_nothing__"


def changes_nothing(function: AnyHostFunction) -> AnyHostFunction:
    """Marks a host function that changes nothing outside the run, but what its outcome records: shadows may call it."""
    setattr(function, _HARMLESS, True)
    return function


def for_shadows(functions: Mapping[str, HostFunction], called: list[str]) -> Mapping[str, HostFunction]:
    """The same functions; one that may change something ends the run that calls it, and notes its name in `called`."""

    def forbidding(name: str) -> HostFunction:
        def forbid(_session: HostSession, _arguments: Any) -> None:
            called.append(name)
            raise GuestFault("unavailable", f"a shadow may not call {name!r}, which may change something")

        return forbid

    return {name: one if getattr(one, _HARMLESS, False) else forbidding(name) for name, one in functions.items()}


@changes_nothing
def get_time(session: HostSession, _arguments: Any) -> dict[str, int]:
    """The wall clock: `timestamp` in whole seconds and `unix_ms` in milliseconds since the epoch."""
    unix_ms = session.outside.clock_ns("realtime") // 1_000_000
    return {"timestamp": unix_ms // 1_000, "unix_ms": unix_ms}


@changes_nothing
def send_message(session: HostSession, arguments: Any) -> None:
    """Send `{"to": plugin or null, "topic": ..., "payload": any JSON}`, once the run has ended well."""
    if not isinstance(arguments, dict) or not arguments.keys() <= {"to", "topic", "payload"}:
        raise HostFunctionError("invalid_arguments", "send_message takes an object of to, topic and payload")
    values = cast("dict[str, Any]", arguments)
    to, topic = values.get("to"), values.get("topic")
    if to is not None and not (isinstance(to, str) and is_plugin_name(to)):
        raise HostFunctionError("invalid_arguments", f"'to' is not the name of a plugin: {shown(str(to))}")
    if not isinstance(topic, str) or not is_topic(topic):
        raise HostFunctionError("invalid_arguments", f"'topic' is not a topic: {shown(str(topic))}")
    session.send(GuestMessage(to, topic, as_json(values.get("payload"))))


@changes_nothing
def subscribe(session: HostSession, arguments: Any) -> None:
    """Have the plugin sent what matches `{"topic": pattern}`, from the good end of its run until it unsubscribes."""
    session.change_topic(_topic_pattern("subscribe", arguments), subscribed=True)


@changes_nothing
def unsubscribe(session: HostSession, arguments: Any) -> None:
    """End what `subscribe` began, once the run has ended well. Not to be subscribed is no error."""
    pattern = _topic_pattern("unsubscribe", arguments)
    if pattern in session.grant.subscribe:
        reason = f"{shown(pattern.text)} stays: it stands in [bus] subscribe, not in may_subscribe"
        raise HostFunctionError("invalid_arguments", reason)
    session.change_topic(pattern, subscribed=False)


def _topic_pattern(function: str, arguments: Any) -> TopicPattern:
    if not isinstance(arguments, dict) or arguments.keys() != {"topic"}:
        raise HostFunctionError("invalid_arguments", f"{function} takes an object of topic")
    topic = cast("dict[str, Any]", arguments)["topic"]
    if not isinstance(topic, str):
        raise HostFunctionError("invalid_arguments", f"'topic' is not a topic pattern: {shown(str(topic))}")
    try:
        return TopicPattern.parse(topic)
    except InvalidValue as error:
        reason = f"'topic' is not a topic pattern: {shown(topic)}: {error.reason}"
        raise HostFunctionError("invalid_arguments", reason) from None


STANDARD_FUNCTIONS: Final[Mapping[str, HostFunction]] = {
    "get_time": get_time,
    "send_message": send_message,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
}
