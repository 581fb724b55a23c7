"""A message as AMQP has it: properties and a field table, to and fro.

Written against AMQP's own types rather than aio-pika's `Message`, whose expiration is a float of seconds and loses
milliseconds on the way to AMQP's whole ones.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from .amqp_codec import OTHER
from .amqp_fields import MAX_DEPTH
from .messages import NO_HEADERS, Header, Message
from .wire import headers_size

#: AMQP's delivery mode of a message that outlives its broker's process.
PERSISTENT: Final = 2

#: Beyond it pamqp, which writes single precision only, fails.
MAX_FLOAT: Final = 3.4028234663852886e38

#: What fits into one frame beside its own parts. RabbitMQ closes the connection that sends a longer one.
MAX_PROPERTIES_BYTES: Final = (1 << 17) - 64


class _TooDeep(Exception):
    """Tables are nested deeper than `MAX_DEPTH`."""


def to_properties(message: Message, message_id: str) -> Basic.Properties:
    """The AMQP properties of an outgoing message. Raises ValueError for headers that cannot travel."""
    properties = Basic.Properties(
        content_type=message.content_type,
        headers={name: _to_field(value) for name, value in message.headers.items()} or None,
        delivery_mode=PERSISTENT,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expiration_ms is None else str(message.expiration_ms),
        message_id=message_id,
        timestamp=None if message.timestamp_s is None else datetime.fromtimestamp(message.timestamp_s, UTC),
        message_type=message.type,
        **message.other,
    )
    if headers_size(message.headers) > MAX_PROPERTIES_BYTES // 2:  # else there is no need to know it exactly
        size = len(properties.marshal())
        if size > MAX_PROPERTIES_BYTES:
            raise ValueError(f"the message's headers take {size:,} bytes; {MAX_PROPERTIES_BYTES:,} fit into a frame")
    return properties


def to_message(delivered: DeliveredMessage) -> Message:
    """A delivered message, with the exchange and the routing key that it came by."""
    properties = delivered.header.properties
    return Message(
        body=delivered.body,
        exchange=delivered.exchange or "",
        routing_key=delivered.routing_key or "",
        type=properties.message_type,
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        content_type=properties.content_type,
        expiration_ms=None if properties.expiration is None else int(properties.expiration),
        timestamp_s=None if properties.timestamp is None else int(properties.timestamp.timestamp()),
        headers=_from_table(properties.headers or {}),
        other={name: value for name in OTHER if (value := getattr(properties, name)) is not None} or NO_HEADERS,
    )


def _from_table(table: dict[str, Any]) -> dict[str, Any]:
    try:
        return {name: _from_field(value) for name, value in table.items()}
    except _TooDeep:
        return {Header.UNREADABLE: "headers"}


def _to_field(value: Any) -> Any:
    """pamqp writes a byte array for a `bytearray` only, and an array for a `list` only."""
    match value:
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} cannot travel in a header: RabbitMQ closes the connection that sends it")
        case float() if abs(value) > MAX_FLOAT:
            return str(value)
        case bytes():
            return bytearray(value)
        case dict():
            return {name: _to_field(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_to_field(inner) for inner in value]
    return value


def _from_field(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A field as plain data. Text that its publisher sent as bytes (Go's client does) becomes text."""
    match value:
        case bytes() | bytearray():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return bytes(value)
        case datetime():
            return int(value.timestamp())
        case dict() | list() if depth == 0:
            raise _TooDeep
        case dict():
            return {name: _from_field(inner, depth - 1) for name, inner in value.items()}
        case list():
            return [_from_field(inner, depth - 1) for inner in value]
    return value
