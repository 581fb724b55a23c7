"""What an answer has to be, whichever guest gave it."""

from __future__ import annotations

from typing import Final

from pydantic_core import from_json

from .errors import GuestFault
from .outcome import RunKind

ANSWER_KEYS: Final = frozenset({"success", "result", "error"})


def read_answer(answer: bytes) -> RunKind:
    """`ok` or `failed`, as the answer says. Raises `GuestFault` when it is not what an answer has to be.

    An answer is a JSON object of exactly `success` (a boolean), `result` (anything) and `error` (a string or null).
    """
    if not answer:
        raise GuestFault("trap", "the guest answered nothing")
    try:
        value = from_json(answer, allow_inf_nan=False)
    except ValueError as error:
        raise GuestFault("trap", f"the guest's answer is not JSON: {error}") from None
    if isinstance(value, dict) and value.keys() == ANSWER_KEYS:
        success, message = value["success"], value["error"]
        if isinstance(success, bool) and (message is None or isinstance(message, str)):
            return "ok" if success else "failed"
    reason = 'the guest\'s answer is not {"success": true or false, "result": ..., "error": null or "..."}'
    raise GuestFault("trap", reason)


def answer_too_large(length: str, max_answer_bytes: int) -> GuestFault:
    """The end of a run whose answer has `length` bytes, which is said in words."""
    reason = f"the guest's answer has {length} bytes; at most {max_answer_bytes:,} are allowed"
    return GuestFault("output_too_large", reason)
