"""What every envelope is made of: JSON bodies, typed headers, names that fit a routing key.

Bodies are JSON (RFC 8259, UTF-8, no NaN). Reading refuses lone surrogates, nesting deeper than 200 and integers of
more than 4,300 digits; of a key that comes twice the last one counts; a number too large for a float is infinite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from .errors import MalformedMessage

#: What stands in a routing key for a plugin or an action that the message does not tell.
UNKNOWN: Final = "unknown"

_Default = TypeVar("_Default", int, None)

_PLUGIN = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ACTION = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


def is_action(action: str) -> bool:
    """True if `action` can name an action: one word of a routing key, spelt as functions are in any language."""
    return _ACTION.fullmatch(action) is not None


def check_plugin_name(what: str, name: str) -> None:
    """Raises ValueError unless `name` can name a plugin."""
    if not _PLUGIN.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be {what}: it must begin with a-z and have at most 63 of a-z, 0-9, '_' and '-'"
        )


def check_action(action: str) -> None:
    """Raises ValueError unless `action` can name an action."""
    if not is_action(action):
        raise ValueError(f"{action[:100]!r} cannot be an action: it needs at most 63 of A-Z, a-z, 0-9, '_' and '-'")


def json_bytes(data: Any) -> bytes:
    """`data` as JSON. Raises ValueError for what JSON cannot say: NaN, infinities, unknown types, lone surrogates."""
    body = to_json(data)
    if b"NaN" in body or b"Infinity" in body:  # inside text, most likely: the parser knows
        try:
            from_json(body, allow_inf_nan=False)
        except ValueError:
            raise ValueError("NaN and infinities cannot be said in JSON") from None
    return body


def parse_json(body: bytes) -> Any:
    """Raises MalformedMessage, with the parser's words."""
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as invalid:
        raise MalformedMessage(f"the body is not JSON: {invalid}") from None


def first_fault(invalid: ValidationError) -> str:
    """What a model found wrong first, and where."""
    fault = invalid.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))
    what = "there is no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
    return f"{where[:100]}: {what}" if where else what


def json_type(value: Any) -> str:
    """What kind of JSON `value` is, for a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def text_header(headers: Mapping[str, Any], name: str) -> str | None:
    """A header that is text where it is there. Raises MalformedMessage."""
    value = headers.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MalformedMessage(f"the header {name!r} must be text, not {type(value).__name__}")


def count_header(headers: Mapping[str, Any], name: str, default: _Default) -> int | _Default:
    """A header that is a whole number, not negative, where it is there. Raises MalformedMessage."""
    value = headers.get(name)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise MalformedMessage(f"the header {name!r} must be a whole number, not {value!r:.100}")


def headers_size(headers: Mapping[str, Any]) -> int:
    """About as many bytes as `headers` take in AMQP."""
    return sum(1 + len(name) + _size(value) for name, value in headers.items())


def _size(value: Any) -> int:
    match value:
        case str():
            return 8 + (len(value) if value.isascii() else len(value.encode(errors="replace")))
        case bytes():
            return 8 + len(value)
        case dict():
            return 8 + headers_size(cast("dict[str, Any]", value))
        case list() | tuple():
            return 8 + sum(map(_size, cast("list[Any]", value)))
        case _:
            return 8


def routing_word(name: str | None) -> str:
    """`name`, or `unknown` where it is none. Every name of a plugin could name an action."""
    return name if name is not None and is_action(name) else UNKNOWN


def sayable(sentence: str) -> str:
    """Without the lone surrogates that a sentence made of broken bytes can have."""
    return sentence.encode(errors="replace").decode()
