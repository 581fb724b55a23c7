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

from .messages import Message

#: AMQP's delivery mode of a message that outlives its broker's process.
PERSISTENT: Final = 2


def to_properties(message: Message, message_id: str) -> Basic.Properties:
    """The AMQP properties of an outgoing message."""
    return Basic.Properties(
        content_type=message.content_type,
        headers={name: _to_field(value) for name, value in message.headers.items()} or None,
        delivery_mode=PERSISTENT,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expiration_ms is None else str(message.expiration_ms),
        message_id=message_id,
        timestamp=None if message.timestamp_s is None else datetime.fromtimestamp(message.timestamp_s, UTC),
        message_type=message.type,
    )


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
        headers={name: _from_field(value) for name, value in (properties.headers or {}).items()},
    )


def _to_field(value: Any) -> Any:
    """pamqp writes a byte array for a `bytearray` only, and an array for a `list` only."""
    match value:
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} cannot travel in a header: RabbitMQ closes the connection that sends it")
        case bytes():
            return bytearray(value)
        case dict():
            return {name: _to_field(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_to_field(inner) for inner in value]
    return value


def _from_field(value: Any) -> Any:
    """A field as plain data. Text that its publisher sent as bytes (Go's client does) becomes text."""
    match value:
        case bytes() | bytearray():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return bytes(value)
        case datetime():
            return int(value.timestamp())
        case dict():
            return {name: _from_field(inner) for name, inner in value.items()}
        case list():
            return [_from_field(inner) for inner in value]
    return value
