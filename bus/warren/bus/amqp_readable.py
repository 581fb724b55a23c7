"""What is done to frames before pamqp sees them, where it reads deliveries: on the plain path (see `amqp_plain`).

RabbitMQ checks neither that text in a message's properties is UTF-8 nor that a timestamp is one, and pamqp raises on
what it cannot read. The reader of the connection ends with that, and the message comes again to the next connection:
one publisher could keep every consumer of a queue from its work. So a frame that cannot be read is replaced by one
that can: with what could be read, and the header `warren-unreadable` for the rest. Whoever reads the message refuses
it then, like any other that is malformed.

Rejected: other decoders in pamqp's own tables, which would change them for all of the program. The price of this is
that the properties of each delivery are decoded twice (10 µs).
"""

from __future__ import annotations

import struct
from typing import Any, Final

from pamqp import decode, encode
from pamqp.commands import Basic
from pamqp.constants import FRAME_END_CHAR
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from .amqp_fields import MAX_SHORT
from .amqp_frames import CONTENT_HEADER, DELIVER, HEAD, METHOD
from .messages import Header

_DELIVER: Final = DELIVER.to_bytes(4)


def readable(frame: bytes) -> bytes:
    """`frame` as it came where pamqp can read it, else what can be read of it."""
    kind, channel, _ = HEAD.unpack_from(frame)
    if kind == CONTENT_HEADER and not _is_read(frame):
        return marshal(_read_header(frame[HEAD.size : -1]), channel)
    if kind == METHOD and frame.startswith(_DELIVER, HEAD.size):
        payload = _readable_deliver(frame[HEAD.size : -1])
        return HEAD.pack(kind, channel, len(payload)) + payload + FRAME_END_CHAR
    return frame


def _is_read(frame: bytes) -> bool:
    try:
        unmarshal(frame)
    except Exception:  # noqa: BLE001 - bad text, times past the calendar, tables nested too deep, and what else there is
        return False
    return True


def _read_header(payload: bytes) -> ContentHeader:
    """A content header: class, weight, size of the body, flags for the properties there are, and these."""
    body_size, flags = struct.unpack_from(">4xQH", payload)
    rest = payload[14:]
    read: dict[str, Any] = {}
    unreadable: list[str] = []
    for name in Basic.Properties.__slots__:
        if not flags & Basic.Properties.flags[name]:
            continue
        kind = Basic.Properties.amqp_type(name)
        try:
            _, read[name] = decode.by_type(rest, kind)
            encode.by_type(read[name], kind)
        except Exception:  # noqa: BLE001 - as above
            read.pop(name, None)
            unreadable.append(name)
        rest = rest[_size(rest, kind) :]
    read["headers"] = {**(read.get("headers") or {}), Header.UNREADABLE: ", ".join(unreadable)}
    properties = Basic.Properties()
    for name, value in read.items():  # its constructor would check them, as if they were ours to send
        setattr(properties, name, value)
    return ContentHeader(body_size=body_size, properties=properties)


def _size(data: bytes, kind: str) -> int:
    """Bytes of the property of that kind with which `data` begins."""
    match kind:
        case "shortstr":
            return 1 + data[0]
        case "table":
            return 4 + int.from_bytes(data[:4])
        case "timestamp":
            return 8
        case _:
            return 1


def _readable_deliver(payload: bytes) -> bytes:
    """A basic.deliver (tags and a flag, exchange, routing key), with escapes where the last two are not text."""
    exchange_at = len(_DELIVER) + 1 + payload[len(_DELIVER)] + 9
    key_at = exchange_at + 1 + payload[exchange_at]
    return payload[:exchange_at] + _escaped(payload[exchange_at + 1 : key_at]) + _escaped(payload[key_at + 1 :])


def _escaped(text: bytes) -> bytes:
    """`text` as a short string."""
    readable_text = text.decode(errors="backslashreplace").encode()[:MAX_SHORT].decode(errors="ignore").encode()
    return bytes([len(readable_text)]) + readable_text
