"""How requests, events and dead letters are written into a message and read back. Pure functions.

A body is parsed to decide whether it may go on, and never written anew: what goes on are the bytes that came.

Rejected: a pydantic model for requests. One is made for every message, so it is a dataclass; a model stands where the
shape is others' to break and the bytes go to somebody else anyway (an event's envelope).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from .errors import MalformedMessage
from .messages import EVENT_TYPE, REQUEST_TYPE, Header, Message, OutcomeKind, new_message_id
from .record import record
from .routing import check_topic
from .topology import Names
from .trace import TraceContext, read_trace_context, trace_headers
from .wire import (
    check_action,
    check_plugin_name,
    count_header,
    first_fault,
    headers_size,
    is_action,
    json_bytes,
    json_type,
    parse_json,
    routing_word,
    sayable,
    text_header,
)

DEFAULT_MAX_REQUEST_BYTES: Final = 1 << 20

#: The action under which a plugin gets events and direct messages.
ON_MESSAGE: Final = "on_message"

#: An error travels in a header, beside up to 8 KiB of trace, in one AMQP frame.
MAX_ERROR_BYTES: Final = 1024

#: What the headers of a request may take. They go on into its retries and its dead letter with more beside them, and
#: all headers of a message have to fit into one AMQP frame of 128 KiB.
MAX_HEADERS_BYTES: Final = 64 << 10

#: What a recording may take beside a message: with headers of that size, and those of a dead letter, it fits into one
#: AMQP frame of 128 KiB.
MAX_RECORDING_HEADER_BYTES: Final = 40 << 10

#: RabbitMQ's count, on a delivery from a quorum queue, of the deliveries that came to nothing before.
DELIVERY_COUNT: Final = "x-delivery-count"

#: RabbitMQ routes by these as by the routing key (https://www.rabbitmq.com/docs/sender-selected). Whoever may publish
#: requests must not have a worker, which may do more, publish them to queues of their choice.
MORE_KEYS: Final = frozenset({"CC", "BCC"})

#: What RabbitMQ writes into a message that it dead-letters, or hands over once more.
BROKERS_HEADERS: Final = frozenset(
    {"x-death", DELIVERY_COUNT, "x-acquired-count"}
    | {f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")}
)

#: What a dead letter tells in its own words, or does not need to; and `x-death`, by which the broker's are known.
_NOT_IN_LETTERS: Final = BROKERS_HEADERS | MORE_KEYS | {Header.RESOLVED_VERSION, Header.RECORDING}

#: How the headers begin that tell what the letter displaced. Those of its message are nobody's word.
_ORIGINALS: Final = Header.original("")


@record
class Request:
    """One request to a plugin, read and checked. `body` is for the guest, as it came.

    `attempt` counts from 1, over Warren's own retries and the broker's redeliveries, and `resolved_version` is that of
    the plugin that the last retry's attempt ran. `sender` is the plugin or client that published an event, `hops` the
    number of plugins it came through.
    """

    plugin: str
    action: str
    body: bytes
    message: Message
    version_requirement: str | None
    deadline_ms: int | None
    attempt: int
    hops: int
    sender: str | None
    resolved_version: str | None = None


def request_message(
    names: Names,
    plugin: str,
    action: str,
    data: Any,
    *,
    message_id: str | None = None,
    reply_to: str | None = None,
    correlation_id: str | None = None,
    expiration_ms: int | None = None,
    version: str | None = None,
    deadline_ms: int | None = None,
    hops: int = 0,
    trace: TraceContext | None = None,
    record: bool = False,
) -> Message:
    """A request for `plugin`; from a plugin, if `hops` is not 0: see `Request`. `record` asks for a recording.

    Raises ValueError for names that are none and for data that is not JSON.
    """
    check_plugin_name("the name of a plugin", plugin)
    check_action(action)
    headers: dict[str, Any] = trace_headers(trace) if trace else {}
    if version is not None:
        headers[Header.VERSION] = version
    if deadline_ms is not None:
        headers[Header.DEADLINE] = deadline_ms
    if hops:
        headers[Header.HOPS] = hops
    if record:
        headers[Header.RECORD] = True
    return Message(
        body=_request_body(action, json_bytes(data)),
        exchange=names.requests,
        routing_key=f"{plugin}.{action}",
        type=REQUEST_TYPE,
        message_id=message_id or new_message_id(),
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration_ms=expiration_ms,
        timestamp_s=int(time.time()),
        headers=headers,
    )


def read_request(message: Message, plugin: str, *, max_bytes: int = DEFAULT_MAX_REQUEST_BYTES) -> Request:
    """The request in a message from the mailbox of `plugin`. An event is read as a request for `on_message`.

    Raises MalformedMessage. A request needs nothing but its body: publishers that set no type and no id are served.
    """
    if len(message.body) > max_bytes:
        raise MalformedMessage(f"the message is {len(message.body):,} bytes long; at most {max_bytes:,} are allowed")
    headers = message.headers
    if headers:
        _check_headers(headers)
    if message.type == EVENT_TYPE:
        _read_envelope(message.body)
        action, body = ON_MESSAGE, _request_body(ON_MESSAGE, message.body)
    else:
        action, body = _read_action(message, plugin), message.body
    if not headers:
        return Request(plugin, action, body, message, None, None, 1, 0, None)
    attempt = count_header(headers, Header.ATTEMPT, 1) + count_header(headers, DELIVERY_COUNT, 0)
    return Request(
        plugin,
        action,
        body,
        message,
        text_header(headers, Header.VERSION),
        count_header(headers, Header.DEADLINE, None),
        attempt,
        count_header(headers, Header.HOPS, 0),
        text_header(headers, Header.FROM),
        text_header(headers, Header.RESOLVED_VERSION),
    )


def _check_headers(headers: Mapping[str, Any]) -> None:
    if unreadable := text_header(headers, Header.UNREADABLE):
        raise MalformedMessage(f"properties of the message that cannot be read: {unreadable}")
    if (size := headers_size(headers)) > MAX_HEADERS_BYTES:
        raise MalformedMessage(f"the headers take {size:,} bytes; at most {MAX_HEADERS_BYTES:,} are allowed")


def _request_body(action: str, data: bytes) -> bytes:
    return b'{"action":"%b","data":%b}' % (action.encode(), data)


def _read_action(message: Message, plugin: str) -> str:
    body = parse_json(message.body)
    if not isinstance(body, dict):
        raise MalformedMessage(f'a request must be an object {{"action": …, "data": …}}, not {json_type(body)}')
    action = body.get("action")
    if not isinstance(action, str):
        what = f"{json_type(action)}, not text" if "action" in body else "missing"
        raise MalformedMessage(f'"action" is {what} (an event needs the message type {EVENT_TYPE!r})')
    if not is_action(action):
        raise MalformedMessage(f"{action[:100]!r} cannot be an action: it needs at most 63 of a-z, 0-9, '_' and '-'")
    # Only a key of the requests exchange names an action; a message put straight into the mailbox has another key.
    if message.routing_key.startswith(f"{plugin}.") and message.routing_key != f"{plugin}.{action}":
        raise MalformedMessage(f'"action" is {action!r}, but the routing key is {message.routing_key!r}')
    return action


@record
class PluginMessage:
    """An event (`to` is None) or a direct message, with what its headers tell."""

    from_: str
    to: str | None
    topic: str
    payload: Any
    timestamp: datetime
    message_id: str | None = None
    trace: TraceContext | None = None
    hops: int = 0


class _Envelope(BaseModel):
    """The body of an event, as plugins see it too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    from_: str = Field(alias="from")
    to: str | None
    topic: str
    payload: Any
    timestamp: AwareDatetime


def event_message(
    names: Names,
    *,
    sender: str,
    to: str | None,
    topic: str,
    payload_json: bytes,
    trace: TraceContext | None,
    hops: int = 0,
    causation: str | None = None,
    message_id: str | None = None,
) -> Message:
    """An event on `topic` or, with `to`, a direct message into that plugin's mailbox.

    `payload_json` goes in as it is: its maker vouches that it is JSON. `causation` is the id of the message whose
    handling sent this one. Raises ValueError for a topic that is none.
    """
    check_topic(topic)
    if to is not None:
        check_plugin_name("the name of a plugin", to)
    now = datetime.now(UTC)
    headers: dict[str, Any] = trace_headers(trace) if trace else {}
    headers[Header.FROM] = sender
    headers[Header.HOPS] = hops
    if causation is not None:
        headers[Header.CAUSATION] = causation
    return Message(
        body=b'{"from":%b,"to":%b,"topic":%b,"payload":%b,"timestamp":"%bZ"}'
        % (to_json(sender), to_json(to), to_json(topic), payload_json, now.isoformat()[:-6].encode()),
        exchange=names.direct if to else names.events,
        routing_key=names.mailbox(to) if to else topic,
        type=EVENT_TYPE,
        message_id=message_id or new_message_id(),
        timestamp_s=int(now.timestamp()),
        headers=headers,
    )


def read_event(message: Message) -> PluginMessage:
    """The event or direct message in `message`. Raises MalformedMessage."""
    envelope = _read_envelope(message.body)
    return PluginMessage(
        envelope.from_,
        envelope.to,
        envelope.topic,
        envelope.payload,
        envelope.timestamp.astimezone(UTC),
        message.message_id,
        read_trace_context(message.headers),
        count_header(message.headers, Header.HOPS, 0),
    )


def _read_envelope(body: bytes) -> _Envelope:
    try:
        return _Envelope.model_validate_json(body)
    except ValidationError as invalid:
        raise MalformedMessage(f"not an event: {first_fault(invalid)}") from None


def retry_message(
    names: Names,
    message: Message,
    *,
    plugin: str,
    attempt: int,
    delay_ms: int,
    version: str | None = None,
    passed_on: int = 0,
) -> Message:
    """`message` for the retry queue of `delay_ms`, from which it comes back to the mailbox as its `attempt`-th try.

    `version` is that of the plugin it was tried with. `passed_on` is how often it was left to another worker in this
    try, the broker's redeliveries included.

    From then on it does not expire: it comes back by being dead-lettered, for which RabbitMQ takes `expiration` from a
    message, so that what is left of its time could not be told to the mailbox. (Rejected: an `expiration` for the retry
    queue alone, which at its end would bring the request back like any other, only sooner. And a deadline in a header,
    against which workers would hold their clocks: a late answer is what a caller gets that gives up in the middle of a
    run, too.)
    """
    dropped = {DELIVERY_COUNT, Header.PASSED_ON, *MORE_KEYS}
    headers = {name: value for name, value in message.headers.items() if name not in dropped}
    headers[Header.ATTEMPT] = attempt
    if version is not None:
        headers[Header.RESOLVED_VERSION] = version
    if passed_on:
        headers[Header.PASSED_ON] = passed_on
    # It comes back under another key; its dead letter, if there is one, is to tell this one.
    headers |= _origin(names, message)
    retry_queue = names.retry(plugin, delay_ms)
    return replace(message, exchange=names.direct, routing_key=retry_queue, expiration_ms=None, headers=headers)


def times_passed_on(message: Message) -> int:
    """How often a request was left to another worker, or came to nothing with one, in this try.

    The broker's count of the latter begins anew each time that it is left to another. Raises MalformedMessage.
    """
    return count_header(message.headers, Header.PASSED_ON, 0) + count_header(message.headers, DELIVERY_COUNT, 0)


def dead_letter_message(
    names: Names,
    message: Message,
    *,
    plugin: str | None,
    outcome: OutcomeKind,
    error: str,
    attempt: int,
    worker: str,
    version: str | None = None,
    context: TraceContext | None = None,
    recording: bytes | None = None,
) -> Message:
    """The whole of `message`, and why it was given up, for the dead-letter exchange.

    Its `warren-*` headers tell what happened and when, as a result's do; what of the original they displace, and where
    it came from, who waited for it and how long it would have kept, are in `warren-original-*`. The
    `recording` of its last run has at most 40 KiB. Nobody answers a dead letter, and it does not expire. Of headers
    that take more than 64 KiB, those are kept that fit.
    """
    told: dict[str, Any] = {
        Header.OUTCOME: outcome.value,
        Header.ERROR: sayable(error).encode()[:MAX_ERROR_BYTES].decode(errors="ignore"),
        Header.PLUGIN: plugin,
        Header.VERSION: version,
        Header.ATTEMPT: attempt,
        Header.WORKER: worker,
        Header.DIED: time.time_ns() // 1_000_000,
        Header.RECORDING: recording,
    }
    told |= trace_headers(context) if context else {}
    headers = _fitting_headers(message)
    origin = {
        **_origin(names, message),
        Header.ORIGINAL_REPLY_TO: message.reply_to,
        Header.ORIGINAL_EXPIRATION: message.expiration_ms,
    }
    displaced = {Header.original(name): headers.pop(name) for name in told if name in headers}
    headers |= displaced
    headers |= {name: value for name, value in (origin | told).items() if value is not None}
    key = f"{routing_word(plugin)}.{outcome}"
    return replace(message, exchange=names.dead, routing_key=key, reply_to=None, expiration_ms=None, headers=headers)


def _origin(names: Names, message: Message) -> dict[str, Any]:
    """Where it was published first. What came by another exchange says so itself; its headers may lie."""
    told: Mapping[str, Any] = message.headers if message.exchange in ("", names.direct) else {}
    return {
        Header.ORIGINAL_EXCHANGE: told.get(Header.ORIGINAL_EXCHANGE, message.exchange),
        Header.ORIGINAL_KEY: told.get(Header.ORIGINAL_KEY, message.routing_key),
    }


def passed_on_message(names: Names, message: Message, plugin: str) -> Message:
    """`message` for the mailbox of `plugin`, which it did not find itself."""
    headers = {name: value for name, value in message.headers.items() if name not in MORE_KEYS}
    headers |= _origin(names, message)
    return replace(message, exchange=names.direct, routing_key=names.mailbox(plugin), headers=headers)


def _fitting_headers(message: Message) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    room = MAX_HEADERS_BYTES
    for name, value in message.headers.items():
        size = headers_size({name: value})
        if name not in _NOT_IN_LETTERS and not name.startswith(_ORIGINALS) and size <= room:
            headers[name] = value
            room -= size
    return headers
