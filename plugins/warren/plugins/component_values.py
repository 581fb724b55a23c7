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
from .errors import GuestFault

_VALUE_BYTES: Final = ctypes.sizeof(ComponentValue)
_HELD_AT: Final[int] = ComponentValue.of.offset

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


def read_bytes(value: Any) -> bytes:
    """Of a list of u8."""
    items = value.of.list
    return ctypes.string_at(items.data, items.size * _VALUE_BYTES)[_HELD_AT::_VALUE_BYTES]


def read_resource(context: int, value: Any, kind: int) -> int:
    """The number of one of the host's own resources, which is given back. Raises `GuestFault` for any other."""
    host = ctypes.c_void_p()
    error = bindings.component_resource_taken(context, bindings.address(value.of.resource), ctypes.addressof(host))
    if error:
        raise GuestFault("trap", f"the guest gave a resource that is none: {bindings.take_error(error).message}")
    is_of_kind = bindings.component_resource_type(host) == kind
    number = int(bindings.component_resource_number(host))
    bindings.component_resource_delete(host)
    if not is_of_kind:
        raise GuestFault("trap", "the guest gave a resource of another kind")
    return number


def text(data: bytes) -> Fill:
    """A string. What in it is not UTF-8 becomes U+FFFD: for that wasmtime would end the process."""
    valid = data.decode(errors="replace").encode()

    def fill(value: Any) -> None:
        value.kind = bindings.STRING
        bindings.bytes_new(ctypes.addressof(value.of), len(valid), valid)

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
    """A list of u8, each of which is a value of 32 bytes."""

    def fill(value: Any) -> None:
        spread = bytearray(_VALUE_BYTES * len(data))
        spread[::_VALUE_BYTES] = bytes([bindings.U8]) * len(data)
        spread[_HELD_AT::_VALUE_BYTES] = data
        items = (ctypes.c_char * len(spread)).from_buffer(spread)
        value.kind = bindings.LIST
        bindings.component_list_new(ctypes.addressof(value.of), len(data), ctypes.addressof(items))

    return fill


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


def none(value: Any) -> None:
    """An option that there is none of: a `Fill`."""
    value.kind = bindings.OPTION
    value.of.option = None


def done(value: Any) -> None:
    """A result that is ok, and holds nothing: a `Fill`."""
    value.kind = bindings.RESULT
    value.of.result.is_ok = True
    value.of.result.val = None


def resource(context: int, number: int, kind: int) -> Fill:
    """One of the host's own resources, which becomes the guest's."""

    def fill(value: Any) -> None:
        host, given = bindings.component_resource_new(True, number, kind), ctypes.c_void_p()  # noqa: FBT003 - owned
        error = bindings.component_resource_given(context, host, ctypes.addressof(given))
        bindings.component_resource_delete(host)
        if error:
            raise GuestFault("trap", f"the guest has too many resources: {bindings.take_error(error).message}")
        value.kind = bindings.RESOURCE
        value.of.resource = ctypes.cast(given, type(value.of.resource))

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
