"""What a request holds and an answer is made of, for guests that know neither: they take bytes, and give bytes.

Data is handed over as the text it is if it is a string, as nothing if it is null, as the bytes it stands for if it is
`{"base64": ...}` and has no other key, and else as JSON. What a guest gives becomes a result the same way backwards: a
text, or `{"base64": ...}` where it is not UTF-8. Whether JSON is looked for in it first is the ABI's to say.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final, cast

from pydantic_core import from_json, to_json

from .answers import ANSWER_KEYS, answer_too_large
from .errors import GuestFault
from .host import as_json

_BASE64: Final = "base64"


def read_request(request: bytes) -> tuple[str, Any]:
    """The action and the data of a request. Raises `GuestFault` (`rejected`)."""
    try:
        value = from_json(request, allow_inf_nan=False)
    except ValueError as error:
        raise GuestFault("rejected", f"the request is not JSON: {error}") from None
    action = cast("dict[str, Any]", value).get("action") if isinstance(value, dict) else None
    if not isinstance(action, str):
        raise GuestFault("rejected", 'the request is not {"action": "...", "data": ...}')
    return action, value.get("data")


def as_bytes(data: Any) -> bytes:
    """What a guest is given for the data of a request. Raises `GuestFault` (`rejected`) for wrong base64."""
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, dict) and data.keys() == {_BASE64}:
        try:
            return base64.b64decode(data[_BASE64], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise GuestFault("rejected", f"the data of the request is not base64: {error}") from None
    return as_json(data)


def is_json(output: bytes) -> bool:
    try:
        from_json(output, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def is_answer(output: bytes) -> bool:
    """Whether this is an object of just the keys of an answer, be their values what they should or not."""
    if not output.lstrip().startswith(b"{"):
        return False
    try:
        value = from_json(output, allow_inf_nan=False)
    except ValueError:
        return False
    return bool(value.keys() == ANSWER_KEYS)


def as_result(output: bytes) -> bytes:
    """Text, or bytes in base64: the JSON of it."""
    try:
        return to_json(output.decode())
    except UnicodeDecodeError:
        return to_json({_BASE64: base64.b64encode(output).decode()})


def succeeded(result: bytes, max_answer_bytes: int) -> bytes:
    """The answer whose result is this JSON. Raises `GuestFault` (`output_too_large`)."""
    return _bounded(b'{"success":true,"result":' + result + b',"error":null}', max_answer_bytes)


def failed(error: str, max_answer_bytes: int) -> bytes:
    """The answer of a guest that could not do it, in its own words. Raises `GuestFault` (`output_too_large`)."""
    return _bounded(to_json({"success": False, "result": None, "error": error}), max_answer_bytes)


def _bounded(answer: bytes, max_answer_bytes: int) -> bytes:
    if len(answer) > max_answer_bytes:
        raise answer_too_large(f"{len(answer):,}", max_answer_bytes)
    return answer
