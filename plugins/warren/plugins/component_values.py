"""Values of the component model: what a guest gave is read, and what it is given is made.

Only the kinds that occur in `warren:plugin` and in what there is of WASI. To take a value for another kind than it is
reads memory that is none of it, so types are checked when a plugin is loaded (see `component_types`), not here. What is
made here is wasmtime's to free, once it has it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

from . import bindings
from .bindings import ComponentField, ComponentValue

#: Writes one value to where it is told.
Fill = Callable[[Any], None]


def read_text(value: Any) -> bytes:
    """Of a string."""
    return ctypes.string_at(value.of.string.data, value.of.string.size)


def read_case(value: Any) -> str:
    """Of an enum."""
    return ctypes.string_at(value.of.enumeration.data, value.of.enumeration.size).decode()


def read_result(value: Any) -> tuple[bool, bytes]:
    """Of a result whose two sides are strings, or nothing."""
    held = value.of.result.val
    return bool(value.of.result.is_ok), read_text(held[0]) if held else b""


def text(data: bytes) -> Fill:
    """A string. `data` has to be UTF-8."""

    def fill(value: Any) -> None:
        value.kind = bindings.STRING
        bindings.bytes_new(ctypes.addressof(value.of), len(data), data)

    return fill


def u32(number: int) -> Fill:
    """A number of 32 bits."""

    def fill(value: Any) -> None:
        value.kind = bindings.U32
        value.of.u32 = number

    return fill


def u64(number: int) -> Fill:
    """A number of 64 bits."""

    def fill(value: Any) -> None:
        value.kind = bindings.U64
        value.of.u64 = number

    return fill


def byte_list(data: bytes) -> Fill:
    """A list of u8: 32 bytes for each."""

    def fill(value: Any) -> None:
        items = b"".join([_BYTES[byte] for byte in data])
        value.kind = bindings.LIST
        bindings.component_list_new(ctypes.addressof(value.of), len(data), items)

    return fill


def _u8(number: int) -> bytes:
    value = ComponentValue()
    value.kind = bindings.U8
    value.of.u8 = number
    return bytes(value)


#: Each u8 as it lies in memory. To set 64 Ki of them one by one takes 30 ms.
_BYTES: Final = tuple(map(_u8, range(256)))


def listed(items: Sequence[Fill]) -> Fill:
    """A list."""
    return _several(bindings.LIST, bindings.component_list_new, items)


def tupled(items: Sequence[Fill]) -> Fill:
    """A tuple."""
    return _several(bindings.TUPLE, bindings.component_tuple_new, items)


def _several(kind: int, make: Callable[..., Any], items: Sequence[Fill]) -> Fill:
    def fill(value: Any) -> None:
        values = (ComponentValue * len(items))()
        for item, fill_one in zip(values, items, strict=True):
            fill_one(item)
        value.kind = kind
        make(ctypes.addressof(value.of), len(items), ctypes.addressof(values))

    return fill


def record(**fields: Fill) -> Fill:
    """A record of these fields, in the order of its type."""

    def fill(value: Any) -> None:
        entries = (ComponentField * len(fields))()
        for entry, (name, fill_one) in zip(entries, fields.items(), strict=True):
            encoded = name.encode()
            bindings.bytes_new(ctypes.addressof(entry.name), len(encoded), encoded)
            fill_one(entry.val)
        value.kind = bindings.RECORD
        bindings.component_record_new(ctypes.addressof(value.of), len(fields), ctypes.addressof(entries))

    return fill


def result(held: Fill, *, is_ok: bool) -> Fill:
    """A result that holds this."""

    def fill(value: Any) -> None:
        inner = ComponentValue()
        held(inner)
        value.kind = bindings.RESULT
        value.of.result.is_ok = is_ok
        value.of.result.val = ctypes.cast(
            bindings.component_value_new(ctypes.addressof(inner)), ctypes.POINTER(ComponentValue)
        )

    return fill
