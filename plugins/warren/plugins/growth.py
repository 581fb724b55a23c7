"""A witness for refused memory: modules are rewritten so that a guest's failed `memory.grow` leaves a trace.

The memory limit answers a guest's `memory.grow` with -1 and tells nobody, and the guest then most often aborts: its end
looks like any other `unreachable`. So each `memory.grow` becomes a call of an appended function that does the growing
and keeps the largest delta refused in an appended global, which the host reads when the guest has trapped:

    (global $refused (export "warren:refused_pages") (mut i32) (i32.const 0))
    (func $grow (param $pages i32) (result i32) (local $before i32)
      (if (i32.eq (local.tee $before (memory.grow (local.get $pages))) (i32.const -1)) (then
        (global.set $refused (select (local.get $pages) (global.get $refused)
                                     (i32.gt_u (local.get $pages) (global.get $refused))))))
      (local.get $before))

Everything is appended, so no index changes and names stay right; only bodies that grow memory are written anew. They
are longer by a byte or two once the module has 128 functions, and the code after them moves: custom sections that speak
of places in code (DWARF, branch hints) are dropped then, because a backtrace without lines is better than one with
wrong lines. No encoding avoids that: `memory.grow` takes two bytes, and so does no call but that of one of the first
128 functions. Offsets in a backtrace are the rewritten module's; function names and numbers are the original's.

The maximum that a module sets itself refuses like the host's limit, and is witnessed too. Validation is wasmtime's, and
comes after: an invalid module stays invalid, unless all it did wrong was to use the very indices that are appended
here. Such a guest can lie about itself, and nothing else.

Rejected: to trap in place of the -1 (guests may live with it), a host function (it needs the same rewrite), to guess
from the size of the memory (a refused gigabyte leaves it small).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .errors import ModuleRefused
from .instructions import skip_instruction
from .module import read_module
from .wasm_binary import Reader, Section, leb128, section_reader, sized, with_contents, with_entries

#: The export that holds the largest growth refused so far, in pages, as an i32 to be read unsigned. Modules that never
#: grow their memory do not have it.
WITNESS_EXPORT: Final = "warren:refused_pages"

#: With multiple memories off, wasmtime takes no other encoding of `memory.grow`.
_MEMORY_GROW_0: Final = b"\x40\x00"
_CALL: Final = b"\x10"
_GLOBAL_EXPORT: Final = b"\x03"

#: Decoding that much takes a second or so. It is rarely more than a few kilobytes: an allocator or two.
_MAX_DECODED_BYTES: Final = 2 << 20

_GROW_TYPE: Final = bytes.fromhex("60 01 7f 01 7f")
_WITNESS_GLOBAL: Final = bytes.fromhex("7f 01 41 00 0b")
_GROW_LOCALS: Final = bytes.fromhex("01 01 7f")


def with_growth_witness(data: bytes) -> bytes:
    """`data` with its growth of memory witnessed; the same bytes when it never grows its memory.

    Raises `ModuleRefused`, and nothing else. Costs one more `read_module`, and about 0.5 µs for each instruction of the
    functions that may grow memory.
    """
    module = read_module(data)
    if WITNESS_EXPORT in module.exports:
        raise ModuleRefused(f"it exports {WITNESS_EXPORT!r}, a name which Warren keeps for itself")
    known = {section.name: section for section in module.sections if not section.is_custom}
    if "code" not in known:
        return data
    bodies = _Bodies(data, known["code"], _CALL + leb128(module.function_count))
    if not bodies.grow_memory:
        return data
    witness = leb128(module.global_count)
    bodies.append(_grow_function(witness))
    appended = {
        "type": _GROW_TYPE,
        "function": leb128(module.type_count),
        "global": _WITNESS_GLOBAL,
        "export": sized(WITNESS_EXPORT.encode()) + _GLOBAL_EXPORT + witness,
    }
    contents = {name: with_entries(data, known.get(name), [entry]) for name, entry in appended.items()}
    contents["code"] = bodies.content()
    kept = [section for section in module.sections if not (bodies.moved and _speaks_of_code(section))]
    return with_contents(data, kept, contents)


class _Bodies:
    """The code section with `memory.grow` replaced by `call`; bodies that do not grow memory are copied as they are."""

    def __init__(self, data: bytes, code: Section, call: bytes) -> None:
        reader = section_reader(data, code)
        self._count = reader.u32()
        self._pieces: list[bytes] = []
        self.moved = len(leb128(self._count + 1)) != reader.position - code.start
        decoded = 0
        copied = reader.position
        for _ in range(self._count):
            header = reader.position
            start = reader.skip(reader.u32())
            if data.find(_MEMORY_GROW_0, start, reader.position) < 0:
                continue
            decoded += reader.position - start
            if decoded > _MAX_DECODED_BYTES:
                raise ModuleRefused(f"its functions that grow memory have more than {_MAX_DECODED_BYTES:,} bytes")
            between = list(_between_growths(data, start, reader.position))
            if len(between) > 1:
                body = sized(call.join(between))
                self.moved |= len(body) != reader.position - header
                self._pieces += (data[copied:header], body)
                copied = reader.position
        self.grow_memory = bool(self._pieces)
        self._pieces.append(data[copied : code.end])

    def append(self, body: bytes) -> None:
        self._pieces.append(sized(body))
        self._count += 1

    def content(self) -> bytes:
        return leb128(self._count) + b"".join(self._pieces)


def _between_growths(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """The body at [start, end), split at each `memory.grow`. Bytes alone can be anything: every instruction is read."""
    body = Reader(data, "the code section", start, end)
    for _ in range(body.u32()):
        body.u32()
        body.value_type()
    while body.position < end:
        place = body.position
        skip_instruction(body)
        if data[place] == _MEMORY_GROW_0[0]:
            if data[place : body.position] != _MEMORY_GROW_0:
                body.refuse("it grows a memory other than the first")
            yield data[start:place]
            start = body.position
    yield data[start:end]


def _grow_function(witness: bytes) -> bytes:
    """The body of `$grow` above."""
    get_pages, get_witness = b"\x20\x00", b"\x23" + witness
    greater = get_pages + get_witness + b"\x4b"  # i32.gt_u
    keep_largest = get_pages + get_witness + greater + b"\x1b" + b"\x24" + witness  # select, global.set
    failed = b"\x22\x01" + b"\x41\x7f" + b"\x46"  # local.tee $before, i32.const -1, i32.eq
    grow = get_pages + _MEMORY_GROW_0
    return _GROW_LOCALS + grow + failed + b"\x04\x40" + keep_largest + b"\x0b" + b"\x20\x01" + b"\x0b"


def _speaks_of_code(section: Section) -> bool:
    return section.is_custom and section.name.startswith((".debug_", "metadata.code."))
