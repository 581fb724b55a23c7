"""A result's frames, written in one piece.

One result is published for every request. Its properties, and the names and types of its headers, are always the same:
there is one blob for what many results have in common, a fixed layout for the numbers, and four texts that are new each
time. What `amqp_codec` makes of the same message in general takes twice as long (a test holds them together).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from .amqp_fields import MAX_SHORT, short, table
from .amqp_frames import (
    BODY,
    CONTENT_CLASS,
    CONTENT_HEADER,
    FRAME_END,
    FRAME_OVERHEAD,
    HAS_CONTENT_TYPE,
    HAS_CORRELATION_ID,
    HAS_DELIVERY_MODE,
    HAS_HEADERS,
    HAS_MESSAGE_ID,
    HAS_TIMESTAMP,
    HAS_TYPE,
    PERSISTENT,
    PROPERTIES_AT,
    publish_method,
)
from .messages import JSON_TYPE, NO_HEADERS, RESULT_TYPE, Header, Message
from .result_headers import ResultHeaders, ResultKind


def _name(name: str) -> bytes:
    return short("name of a header", name)


_FLAGS: Final = (
    HAS_CONTENT_TYPE | HAS_HEADERS | HAS_DELIVERY_MODE | HAS_CORRELATION_ID | HAS_MESSAGE_ID | HAS_TIMESTAMP | HAS_TYPE
)
_CONTENT_TYPE: Final = short("content type", JSON_TYPE)
_TYPE: Final = short("type", RESULT_TYPE)

#: The frame of a content header: its head, class and weight, the size of the body, the flags, and the first property.
_HEADER: Final = struct.Struct(f">BHI4sQH{len(_CONTENT_TYPE)}sI").pack
#: Its last two properties and its end, and the head of the frame after it.
_REST: Final = struct.Struct(f">Q{len(_TYPE)}sBBHI").pack

_FUEL, _MEMORY, _DURATION, _ATTEMPT = (
    _name(name) + b"l" for name in (Header.FUEL, Header.MEMORY, Header.DURATION, Header.ATTEMPT)
)
_TRACEPARENT: Final = _name(Header.TRACEPARENT) + b"S"
_TRACE: Final = _name(Header.TRACE) + b"S"
#: The numbers among the headers, and the name and size of the text that follows them.
_NUMBERS: Final = struct.Struct(
    f">{len(_FUEL)}sq{len(_MEMORY)}sq{len(_DURATION)}sq{len(_ATTEMPT)}sq{len(_TRACEPARENT)}sI"
).pack
_SIZE: Final = struct.Struct(">I").pack


def result_frames(
    channel: int, message: Message, headers: ResultHeaders, message_id: str, frame_max: int, *, mandatory: bool
) -> bytes | None:
    """All frames of publishing a result with these headers; see `amqp_codec.publish_frames`.

    None where it has anything unusual about it: then the general way is the one.
    """
    body, correlation_id, timestamp_s = message.body, message.correlation_id, message.timestamp_s
    context, trace_json = headers.context, headers.trace_json
    if (
        context is None
        or context.tracestate is not None
        or trace_json is None
        or headers.recording is not None
        or message.type != RESULT_TYPE
        or message.content_type != JSON_TYPE
        or message.reply_to is not None
        or message.expiration_ms is not None
        or message.other is not NO_HEADERS
        or correlation_id is None
        or timestamp_s is None
        or not body
    ):
        return None
    common, parent, trace = _common(headers.kind), context.traceparent.encode(), trace_json.encode()
    correlation, own_id = correlation_id.encode(), message_id.encode()
    if len(correlation) > MAX_SHORT or len(own_id) > MAX_SHORT:
        return None
    try:
        numbers = _NUMBERS(
            _FUEL,
            headers.fuel,
            _MEMORY,
            headers.memory_bytes,
            _DURATION,
            headers.duration_us,
            _ATTEMPT,
            headers.attempt,
            _TRACEPARENT,
            len(parent),
        )
    except struct.error:
        return None
    ids = b"%b%c%b%c%b" % (PERSISTENT, len(correlation), correlation, len(own_id), own_id)
    table_bytes = len(common) + len(numbers) + len(parent) + len(_TRACE) + 4 + len(trace)
    header_bytes = PROPERTIES_AT + len(_CONTENT_TYPE) + 4 + table_bytes + len(ids) + 8 + len(_TYPE)
    if frame_max and max(header_bytes, len(body)) > frame_max - FRAME_OVERHEAD:
        return None
    return b"".join(
        (
            publish_method(channel, message.exchange, message.routing_key, mandatory=mandatory),
            _HEADER(
                CONTENT_HEADER, channel, header_bytes, CONTENT_CLASS, len(body), _FLAGS, _CONTENT_TYPE, table_bytes
            ),
            common,
            numbers,
            parent,
            _TRACE,
            _SIZE(len(trace)),
            trace,
            ids,
            _REST(timestamp_s, _TYPE, FRAME_END, BODY, channel, len(body)),
            body,
            b"\xce",
        )
    )


@lru_cache(maxsize=1024)
def _common(kind: ResultKind) -> bytes:
    return table(kind.headers)[4:]
