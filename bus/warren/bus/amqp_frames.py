"""The frames of AMQP 0-9-1 that messages are made of: their kinds, methods and flags, and those written most often.

Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf (2.3 and 4.2).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from .amqp_fields import short

#: Kinds of frames.
METHOD: Final = 1
CONTENT_HEADER: Final = 2
BODY: Final = 3

FRAME_END: Final = 0xCE
#: Kind, channel and size of a frame come before its payload, and `FRAME_END` after it.
HEAD: Final = struct.Struct(">BHI")
FRAME_OVERHEAD: Final = HEAD.size + 1
HEARTBEAT: Final = bytes((8, 0, 0, 0, 0, 0, 0, FRAME_END))

#: Class and method, as the first four bytes of a method frame say them.
OPEN_OK: Final = 20 << 16 | 11
CLOSE: Final = 20 << 16 | 40
PUBLISH: Final = 60 << 16 | 40
RETURN: Final = 60 << 16 | 50
DELIVER: Final = 60 << 16 | 60
ACK: Final = 60 << 16 | 80
REJECT: Final = 60 << 16 | 90
NACK: Final = 60 << 16 | 120
CONFIRM_OK: Final = 85 << 16 | 11
BLOCKED: Final = 10 << 16 | 60
UNBLOCKED: Final = 10 << 16 | 61

#: The flags of a message's properties, which stand in this order.
HAS_CONTENT_TYPE: Final = 0x8000
HAS_CONTENT_ENCODING: Final = 0x4000
HAS_HEADERS: Final = 0x2000
HAS_DELIVERY_MODE: Final = 0x1000
HAS_PRIORITY: Final = 0x0800
HAS_CORRELATION_ID: Final = 0x0400
HAS_REPLY_TO: Final = 0x0200
HAS_EXPIRATION: Final = 0x0100
HAS_MESSAGE_ID: Final = 0x0080
HAS_TIMESTAMP: Final = 0x0040
HAS_TYPE: Final = 0x0020

#: Where the properties begin in a content header: after class, weight, size of the body, and their flags.
PROPERTIES_AT: Final = 14

#: The delivery mode of what is to outlive the broker's process.
PERSISTENT: Final = b"\2"

#: The class `basic`, and a weight that is always nought.
CONTENT_CLASS: Final = struct.pack(">HH", 60, 0)


def read_short(data: bytes, at: int) -> tuple[bytes, int]:
    """The short string at `at`, and where it ends."""
    end = at + 1 + data[at]
    return data[at + 1 : end], end


def method_frame(channel: int, method: int, arguments: bytes) -> bytes:
    """A method frame; `method` is one of the constants above."""
    return b"%b%b%b\xce" % (HEAD.pack(METHOD, channel, 4 + len(arguments)), method.to_bytes(4), arguments)


@lru_cache(maxsize=4096)
def publish_method(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """The frame of a basic.publish. Raises ValueError for names that are too long."""
    arguments = b"\0\0%b%b%c" % (short("exchange", exchange), short("routing key", routing_key), mandatory)
    return method_frame(channel, PUBLISH, arguments)
