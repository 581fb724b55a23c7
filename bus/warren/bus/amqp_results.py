"""The field table of a result's headers, written in one piece.

Names and types of a result's headers never change: there is one layout for the numbers, one blob for what many results
have in common, and two texts that are new each time. It is the table that `amqp_fields.table` makes of the same
headers (a test holds them together), without a dictionary on the way.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from .amqp_fields import short, table
from .messages import Header
from .result_headers import ResultHeaders, ResultKind


def _name(name: str) -> bytes:
    return short("name of a header", name)


_FUEL, _MEMORY, _DURATION, _ATTEMPT = (
    _name(name) + b"l" for name in (Header.FUEL, Header.MEMORY, Header.DURATION, Header.ATTEMPT)
)
_NUMBERS: Final = struct.Struct(f">{len(_FUEL)}sq{len(_MEMORY)}sq{len(_DURATION)}sq{len(_ATTEMPT)}sq").pack
_TRACE: Final = _name(Header.TRACE) + b"S"
_TRACEPARENT: Final = _name(Header.TRACEPARENT) + b"S"
_TRACESTATE: Final = _name(Header.TRACESTATE) + b"S"
_SIZE: Final = struct.Struct(">I").pack


def result_table(headers: ResultHeaders) -> bytes:
    """What `table` gives. Raises ValueError for a number that has more than 64 bits."""
    if headers.recording is not None:
        return table(headers)
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
        )
    except struct.error:
        return table(headers)
    context, trace_json = headers.context, headers.trace_json
    trace = parent = state = b""
    if trace_json is not None:
        raw = trace_json.encode()
        trace = b"%b%b%b" % (_TRACE, _SIZE(len(raw)), raw)
    if context is not None:
        raw = context.traceparent.encode()
        parent = b"%b%b%b" % (_TRACEPARENT, _SIZE(len(raw)), raw)
        if context.tracestate is not None:
            raw = context.tracestate.encode()
            state = b"%b%b%b" % (_TRACESTATE, _SIZE(len(raw)), raw)
    fields = b"%b%b%b%b%b" % (_common(headers.kind), numbers, parent, state, trace)
    return _SIZE(len(fields)) + fields


@lru_cache(maxsize=1024)
def _common(kind: ResultKind) -> bytes:
    return table(kind.headers)[4:]
