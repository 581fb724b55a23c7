"""Results: how they are written into a message by a worker and read back by a caller. Pure functions.

The answer in the body is the guest's own, byte for byte, and is parsed when somebody asks what it says: those who
count, store or pass results on never pay for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final
from uuid import UUID

from pydantic_core import to_json

from .errors import MalformedMessage
from .messages import RESULT_TYPE, Header, Message, OutcomeKind, new_message_id
from .result_headers import ResultHeaders, result_kind
from .topology import Names
from .trace import Trace, TraceContext, decode_trace
from .wire import UNKNOWN, count_header, json_type, parse_json, sayable, text_header

#: The namespace of result ids. With another one, a result of before and its twin of after would not be known for one.
_RESULT_IDS: Final = UUID("8f2a4c0e-6d6b-4f0e-9b57-0c5a4a1f7e11").bytes

#: A hexadecimal digit, whose two upper bits become RFC 9562's variant.
_VARIANTS: Final = {f"{digit:x}": f"{digit & 0x3 | 0x8:x}" for digit in range(16)}

_OUTCOMES: Final = {kind.value: kind for kind in OutcomeKind}


@dataclass(frozen=True, slots=True)
class Result:
    """How a request ended. `body` is the answer, byte for byte; `success`, `result` and `error` are read from it.

    These three raise MalformedMessage if the body is not an answer, which no worker of Warren's sends. `recording` is
    that of the run, as `warren.plugins` packs it, where the caller asked for one and was given it.
    """

    plugin: str
    action: str
    version: str | None
    outcome: OutcomeKind
    body: bytes
    fuel: int
    memory_bytes: int
    duration_us: int
    attempt: int
    message_id: str | None
    correlation_id: str | None
    trace: Trace | None
    recording: bytes | None = None
    _answer: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """The plugin answered, and with success."""
        return self.outcome is OutcomeKind.OK

    @property
    def success(self) -> bool:
        return self._read().get("success") is True

    @property
    def result(self) -> Any:
        return self._read().get("result")

    @property
    def error(self) -> str | None:
        error = self._read().get("error")
        return error if error is None or isinstance(error, str) else to_json(error).decode()

    def _read(self) -> dict[str, Any]:
        if not self._answer:
            answer = parse_json(self.body)
            if not isinstance(answer, dict):
                raise MalformedMessage(f"an answer must be an object, not {json_type(answer)}")
            self._answer.update(answer)
        return self._answer


def result_message(
    names: Names,
    request: Message,
    *,
    plugin: str,
    action: str | None,
    outcome: OutcomeKind,
    body: bytes,
    version: str | None = None,
    fuel: int = 0,
    memory_bytes: int = 0,
    duration_us: int = 0,
    attempt: int = 1,
    trace_json: str | None = None,
    context: TraceContext | None = None,
    recording: bytes | None = None,
) -> Message:
    """The result of `request`: to its `reply_to`, else to the results exchange. `action` is None if it told none.

    Its id is derived from the request's, so that a result published twice can be known for one.
    """
    request_id = request.message_id
    kind = result_kind(plugin, action, outcome, version)
    return Message(
        body,
        "" if request.reply_to else names.results,
        request.reply_to or kind.routing_key,
        RESULT_TYPE,
        result_id(request_id) if request_id else new_message_id(),
        request.correlation_id or request_id,
        timestamp_s=int(time.time()),
        headers=ResultHeaders(kind, fuel, memory_bytes, duration_us, attempt, context, trace_json, recording),
    )


def result_id(request_id: str) -> str:
    """The UUIDv5 (RFC 9562) of a request's id: what `uuid.uuid5` gives, four times as fast."""
    digits = sha1(_RESULT_IDS + request_id.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def failure_body(error: str) -> bytes:
    """The answer in place of a guest that gave none."""
    return b'{"success":false,"result":null,"error":%b}' % to_json(sayable(error))


def read_result(message: Message) -> Result:
    """The result in `message`. Raises MalformedMessage. An unreadable trace is None: it costs no one a result."""
    headers = message.headers
    outcome, plugin = _read_outcome(headers), text_header(headers, Header.PLUGIN)
    if plugin is None:
        raise MalformedMessage(f"not a result: it lacks the header {Header.PLUGIN!r}")
    return Result(
        plugin,
        text_header(headers, Header.ACTION) or UNKNOWN,
        text_header(headers, Header.VERSION),
        outcome,
        message.body,
        count_header(headers, Header.FUEL, 0),
        count_header(headers, Header.MEMORY, 0),
        count_header(headers, Header.DURATION, 0),
        count_header(headers, Header.ATTEMPT, 1),
        message.message_id,
        message.correlation_id,
        _read_trace(headers),
        _read_recording(headers),
    )


def _read_recording(headers: Mapping[str, Any]) -> bytes | None:
    recording = headers.get(Header.RECORDING)
    return recording if isinstance(recording, bytes) else None


def _read_outcome(headers: Mapping[str, Any]) -> OutcomeKind:
    word = text_header(headers, Header.OUTCOME)
    outcome = _OUTCOMES.get(word or "")
    if outcome is None:
        raise MalformedMessage(f"not a result: the header {Header.OUTCOME!r} is {word!r:.100}, which is no outcome")
    return outcome


def _read_trace(headers: Mapping[str, Any]) -> Trace | None:
    encoded = headers.get(Header.TRACE)
    try:
        return decode_trace(encoded) if isinstance(encoded, str | bytes) else None
    except MalformedMessage:
        return None
