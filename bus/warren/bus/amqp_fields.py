"""AMQP's field tables and short strings, from bytes and to bytes: what the headers of a message are made of.

A field is read as plain data: a time is whole seconds, text in bytes (Go's clients send it so) is text. For the types
of fields RabbitMQ has the last word (https://www.rabbitmq.com/amqp-0-9-1-errata#section_3).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

#: Tables in tables that are read. RabbitMQ's own `x-death` has three levels.
MAX_DEPTH: Final = 16

#: Bytes of a short string at most.
MAX_SHORT: Final = 255

_U32: Final = struct.Struct(">I").unpack_from
_I64: Final = struct.Struct(">q").unpack_from


class Unreadable(ValueError):
    """Bytes that are not what they are said to be."""


def read_table(data: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    """The table in `data[at:end]`, at most `depth` tables deep. Raises ValueError, IndexError, struct.error."""
    if end > len(data) or depth == 0:
        raise Unreadable
    table: dict[str, Any] = {}
    while at < end:
        value_at = at + 1 + data[at]
        name = data[at + 1 : value_at].decode()
        # Text and whole numbers are nearly all there is.
        kind = data[value_at]
        if kind == 0x53:  # S
            at = value_at + 5 + _U32(data, value_at + 1)[0]
            table[name] = _text(data[value_at + 5 : at])
        elif kind == 0x6C:  # l
            (table[name],) = _I64(data, value_at + 1)
            at = value_at + 9
        else:
            table[name], at = _read_field(data, value_at, end, depth)
    if at != end:
        raise Unreadable
    return table


def _read_array(data: bytes, at: int, end: int, depth: int) -> list[Any]:
    if end > len(data) or depth == 0:
        raise Unreadable
    array: list[Any] = []
    while at < end:
        value, at = _read_field(data, at, end, depth)
        array.append(value)
    if at != end:
        raise Unreadable
    return array


#: Fields of a fixed size.
_FIXED: Final = {
    kind: struct.Struct(layout)
    for kind, layout in zip(
        b"tbBsuIilLfdT", (">?", ">b", ">B", ">h", ">H", ">i", ">I", ">q", ">q", ">f", ">d", ">Q"), strict=True
    )
}


def _read_field(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """One field as plain data, and where it ends: a time is whole seconds, text in bytes (Go's clients) is text."""
    kind = data[at]
    at += 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed.unpack_from(data, at)[0], at + fixed.size
    if kind in b"V\0":
        return None, at
    if kind == 0x44:  # D: a power of ten, and the digits
        return struct.unpack_from(">i", data, at + 1)[0] / 10 ** data[at], at + 5
    if kind not in b"SxFA":
        raise Unreadable
    start = at + 4
    stop = start + _U32(data, at)[0]
    if stop > end:
        raise Unreadable
    if kind == 0x46:  # F
        return read_table(data, start, stop, depth - 1), stop
    if kind == 0x41:  # A
        return _read_array(data, start, stop, depth - 1), stop
    return _text(data[start:stop]), stop


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def short(what: str, text: str) -> bytes:
    """A short string; `what` it is, for the ValueError when it is too long for one."""
    raw = text.encode()
    if len(raw) > MAX_SHORT:
        raise ValueError(f"the {what} {text[:40]!r}… is {len(raw)} bytes long; at most {MAX_SHORT} are allowed")
    return b"%c%b" % (len(raw), raw)


#: What is said of a name that is too long.
_NAME: Final = "name of a header"

#: Names that are remembered: many more than there are, unless somebody makes them up.
_MAX_NAMES: Final = 4096


class _Named(dict[str, bytes]):
    """The name of a field and its type, as they stand in a table, by the name. Nearly all messages have the same."""

    def __init__(self, kind: bytes) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, name: str) -> bytes:
        if len(self) >= _MAX_NAMES:
            self.clear()
        self[name] = named = short(_NAME, name) + self._kind
        return named


_TEXT_NAMED: Final = _Named(b"S")
_NUMBER_NAMED: Final = _Named(b"l")
_PACK_U32: Final = struct.Struct(">I").pack
_PACK_I64: Final = struct.Struct(">q").pack


def table(fields: Mapping[str, Any]) -> bytes:
    """A field table. Raises ValueError for what cannot be said in one."""
    parts: list[bytes] = []
    add = parts.append
    for name, value in fields.items():
        kind = type(value)
        if kind is str:
            raw = value.encode()
            add(_TEXT_NAMED[name])
            add(_PACK_U32(len(raw)))
            add(raw)
        elif kind is int and -(1 << 63) <= value < 1 << 63:
            add(_NUMBER_NAMED[name])
            add(_PACK_I64(value))
        else:
            add(short(_NAME, name))
            add(_field(value))
    raw = b"".join(parts)
    return _PACK_U32(len(raw)) + raw


def _signed(value: int) -> bytes:
    try:
        return value.to_bytes(8, signed=True)
    except OverflowError:
        raise ValueError(f"{value} cannot travel in a header: AMQP's numbers have 64 bits") from None


def _field(value: Any) -> bytes:  # noqa: PLR0911 - a table
    match value:
        case None:
            return b"V"
        case bool():
            return b"t%c" % value
        case int():
            return b"l%b" % _signed(value)
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} cannot travel in a header: RabbitMQ closes the connection that sends it")
        case float():
            return b"d%b" % struct.pack(">d", value)
        case str():
            raw = value.encode()
            return b"S%b%b" % (len(raw).to_bytes(4), raw)
        case bytes() | bytearray():
            return b"x%b%b" % (len(value).to_bytes(4), bytes(value))
        case Mapping():
            return b"F%b" % table(value)
        case list() | tuple():
            raw = b"".join(map(_field, value))
            return b"A%b%b" % (len(raw).to_bytes(4), raw)
    raise ValueError(f"{type(value).__name__} cannot travel in a header")
