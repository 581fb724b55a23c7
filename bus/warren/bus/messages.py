"""What travels: the message, and how requests, results and events are written into one and read back.

Pure data and pure functions; no transport is known here. The AMQP properties and `warren-*` headers are Warren's public
contract: a publisher in any language can write them by hand (see the README, "The wire").

Bodies stay bytes as long as they can. A request's body reaches the guest exactly as it was published and a guest's
answer reaches the caller exactly as the guest wrote it; only the parts that decide something are parsed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from .record import record

NO_HEADERS: Final[Mapping[str, Any]] = MappingProxyType({})

#: RabbitMQ's pseudo-queue for replies that need no queue (https://www.rabbitmq.com/docs/direct-reply-to).
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"

#: What the address begins with that RabbitMQ makes of it for each request.
_REPLY_ADDRESS: Final = f"{DIRECT_REPLY_TO}."

JSON_TYPE: Final = "application/json"
REQUEST_TYPE: Final = "warren.request"
RESULT_TYPE: Final = "warren.result"
EVENT_TYPE: Final = "warren.event"
ORDER_TYPE: Final = "warren.order"
ANSWER_TYPE: Final = "warren.answer"
ANNOUNCEMENT_TYPE: Final = "warren.announcement"
AUDIT_TYPE: Final = "warren.audit"


class Header:
    """The names of Warren's own headers; `traceparent` and `tracestate` are W3C Trace Context's."""

    TRACEPARENT: Final = "traceparent"
    TRACESTATE: Final = "tracestate"
    OUTCOME: Final = "warren-outcome"
    PLUGIN: Final = "warren-plugin"
    ACTION: Final = "warren-action"
    VERSION: Final = "warren-version"
    FUEL: Final = "warren-fuel"
    MEMORY: Final = "warren-memory"
    DURATION: Final = "warren-duration-us"
    ATTEMPT: Final = "warren-attempt"
    #: Of a retry: the version that the attempt before it ran, which is preferred as long as it is loaded.
    RESOLVED_VERSION: Final = "warren-resolved-version"
    TRACE: Final = "warren-trace"
    DEADLINE: Final = "warren-deadline"
    FROM: Final = "warren-from"
    HOPS: Final = "warren-hops"
    PASSED_ON: Final = "warren-passed-on"
    CAUSATION: Final = "warren-causation"
    ERROR: Final = "warren-error"
    WORKER: Final = "warren-worker"
    DIED: Final = "warren-died-ms"
    #: Of a request: its caller wants the recording of its run, if the worker gives it to callers.
    RECORD: Final = "warren-record"
    #: Of a dead letter, and of a result whose caller wants it: the recording of the run, as `warren.plugins` packs it.
    RECORDING: Final = "warren-recording"
    ORIGINAL_EXCHANGE: Final = "warren-original-exchange"
    ORIGINAL_KEY: Final = "warren-original-key"
    ORIGINAL_REPLY_TO: Final = "warren-original-reply-to"
    ORIGINAL_EXPIRATION: Final = "warren-original-expiration"
    ORIGINAL_VERSION: Final = "warren-original-version"
    #: Of a delivered message: the properties that could not be read, by their names in AMQP.
    UNREADABLE: Final = "warren-unreadable"

    @staticmethod
    def original(name: str) -> str:
        """Where a dead letter has the header `name` of its message, if one of its own displaced it."""
        return f"warren-original-{name.removeprefix('warren-')}"


class OutcomeKind(StrEnum):
    """How a request ended: the value of the `warren-outcome` header and the last word of a result's routing key."""

    OK = "ok"
    FAILED = "failed"
    TRAP = "trap"
    OUT_OF_FUEL = "out_of_fuel"
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OUTPUT_TOO_LARGE = "output_too_large"
    DENIED = "denied"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


@record
class Message:
    """One message, outgoing or delivered. All messages are persistent.

    `expiration_ms` is the broker's per-message time to live; `timestamp_s` is the publisher's clock in whole seconds,
    as AMQP has it. On a delivered message `exchange` and `routing_key` say where it came from. `other` holds properties
    that mean nothing here and travel on with it, where there are any: `content_encoding`, `priority`, `app_id`.
    """

    body: bytes
    exchange: str = ""
    routing_key: str = ""
    type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str | None = JSON_TYPE
    expiration_ms: int | None = None
    timestamp_s: int | None = None
    headers: Mapping[str, Any] = field(default_factory=lambda: NO_HEADERS)
    other: Mapping[str, Any] = field(default_factory=lambda: NO_HEADERS)


def is_reply_address(message: Message) -> bool:
    """Whether `message` is a reply to somebody who uses direct reply-to: its address names a caller, not a queue."""
    return message.exchange == "" and message.routing_key.startswith(_REPLY_ADDRESS)


def new_message_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and sortable by the millisecond it was made in."""
    unix_ms = time.time_ns() // 1_000_000
    random = int.from_bytes(uuid.uuid4().bytes) & ((1 << 74) - 1)
    high = (unix_ms & ((1 << 48) - 1)) << 80
    return str(uuid.UUID(int=high | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)))
