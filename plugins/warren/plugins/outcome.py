"""What a run gives back: everything that happened in one sandbox, as data. Publishing it is somebody else's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from .recorder import Recorder

#: How a run can end. `ok` and `failed`: the guest answered. `unavailable`: the host's fault. The rest: the guest's.
RunKind = Literal[
    "ok",
    "failed",
    "trap",
    "out_of_fuel",
    "out_of_memory",
    "deadline_exceeded",
    "output_too_large",
    "denied",
    "rejected",
    "unavailable",
]

LogLevel = Literal["trace", "debug", "info", "warn", "error"]

#: How much an operator has to care: a granted power was used, a refusal, a refusal that no honest guest gets.
AuditSeverity = Literal["debug", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line a guest logged; `time_ns` is since the epoch. `plugin`: who, if not the plugin whose run it was."""

    level: LogLevel
    text: str
    time_ns: int
    plugin: str | None = None


@dataclass(frozen=True, slots=True)
class GuestMessage:
    """A message a guest asked to be sent, held back until its run has ended well.

    `to` names a plugin (a direct message), or is None (an event for whoever subscribes to `topic`). `payload` is JSON.
    `sender`: who, if not the plugin whose run it was.
    """

    to: str | None
    topic: str
    payload: bytes
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class TopicChange:
    """A pattern of topics that a guest asked to be sent from now on, or no more; done once its run has ended well.

    `plugin`: whose mailbox it is, if not that of the plugin whose run it was.
    """

    topic: str
    subscribed: bool
    plugin: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One use of a granted power, or one that was refused: then `refusal` says why.

    `power` is the permission or the host function it is about, `asked` what was asked for, as the guest put it and cut
    short; `time_ns` is since the epoch. `plugin`: who, if not the plugin whose run it was.
    """

    severity: AuditSeverity
    power: str
    asked: str
    refusal: str | None
    time_ns: int
    plugin: str | None = None


class Trail(Protocol):
    """A run's place in a trace, of which nothing is known here: it is passed on to what the run calls."""

    def step(self) -> Trail:
        """The place of a run that this one calls."""
        ...


@dataclass(frozen=True, slots=True)
class HostCall:
    """One use of a host function: when it began (ns since the epoch), how long it took, and how it failed if it did.

    `callee` is the plugin that it called, where it did.
    """

    name: str
    start_ns: int
    duration_ns: int
    error: str | None = None
    callee: Callee | None = None


@dataclass(frozen=True, slots=True)
class Callee:
    """A plugin that was called: its run's `outcome`, but for what its caller took over; its `version`, if it ran here.

    What it answered, logged and sent is the caller's; and so are its host calls, where there were too many to list.
    """

    plugin: str
    version: str | None
    outcome: Outcome
    trail: Trail | None


@dataclass(slots=True)  # one for each request: not frozen, which would cost 50 ns a field
class Outcome:
    """How one run ended, and what it used. Nobody changes it.

    `response` is the guest's own answer, byte for byte, when it gave one (`ok`, `failed`), else empty; `error` is a
    sentence when it did not. `messages` and `topic_changes` are empty unless the run ended `ok`. `memory_bytes` is the
    peak size of the guest's linear memory, `duration_us` wall time from instantiation to answer, and `host_us` what of
    it went by in host functions, of which `host_calls` lists the first. `audit` is what it did that an operator may
    want to know of.
    `recorder` has what the run was told from outside, if it asked for anything: `Plugin.recording` makes use of it.
    """

    kind: RunKind
    response: bytes = b""
    error: str | None = None
    fuel: int = 0
    memory_bytes: int = 0
    start_ns: int = 0
    duration_us: int = 0
    host_us: int = 0
    logs: tuple[LogLine, ...] = ()
    messages: tuple[GuestMessage, ...] = ()
    host_calls: tuple[HostCall, ...] = ()
    backtrace: tuple[str, ...] = ()
    audit: tuple[AuditEvent, ...] = ()
    topic_changes: tuple[TopicChange, ...] = ()
    recorder: Recorder | None = None
