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
from .module import read_module
from .wasm_binary import PREAMBLE_BYTES, SECTION_IDS, Reader, Section, leb128, sized

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

_FC: Final = 0xFC0000
_FD: Final = 0xFD0000

#: What follows each opcode (with its prefix, where it has one): so many LEB128 numbers, then so many plain bytes.
_IMMEDIATES: Final[dict[int, tuple[int, int]]] = {
    **dict.fromkeys((0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B), (0, 0)),  # unreachable nop else end return drop select
    **dict.fromkeys((0x02, 0x03, 0x04), (1, 0)),  # block, loop, if: a block type
    **dict.fromkeys((0x0C, 0x0D, 0x10, 0x12), (1, 0)),  # br, br_if, call, return_call
    **dict.fromkeys((0x11, 0x13), (2, 0)),  # call_indirect, return_call_indirect: type and table
    **dict.fromkeys(range(0x20, 0x27), (1, 0)),  # local.*, global.*, table.get, table.set
    **dict.fromkeys(range(0x28, 0x3F), (2, 0)),  # loads and stores: alignment and offset
    **dict.fromkeys((0x3F, 0x40, 0x41, 0x42), (1, 0)),  # memory.size, memory.grow, i32.const, i64.const
    0x43: (0, 4),  # f32.const
    0x44: (0, 8),  # f64.const
    **dict.fromkeys(range(0x45, 0xC5), (0, 0)),  # comparisons, arithmetic, conversions, sign extension
    **dict.fromkeys((0xD0, 0xD2), (1, 0)),  # ref.null, ref.func
    0xD1: (0, 0),  # ref.is_null
    **dict.fromkeys(range(_FC, _FC + 8), (0, 0)),  # saturating truncations
    **dict.fromkeys((_FC + 8, _FC + 10, _FC + 12, _FC + 14), (2, 0)),  # memory and table: init, copy
    **dict.fromkeys((_FC + 9, _FC + 11, _FC + 13), (1, 0)),  # data.drop, memory.fill, elem.drop
    **dict.fromkeys((_FC + 15, _FC + 16, _FC + 17), (1, 0)),  # table: grow, size, fill
    **dict.fromkeys(range(_FC + 19, _FC + 23), (0, 0)),  # wide arithmetic
    **dict.fromkeys(range(_FD, _FD + 0x114), (0, 0)),  # SIMD and relaxed SIMD, but for these:
    **dict.fromkeys((*range(_FD, _FD + 12), _FD + 92, _FD + 93), (2, 0)),  # loads and stores
    **dict.fromkeys((_FD + 12, _FD + 13), (0, 16)),  # v128.const, i8x16.shuffle
    **dict.fromkeys(range(_FD + 21, _FD + 35), (0, 1)),  # lanes out and in
    **dict.fromkeys(range(_FD + 84, _FD + 92), (2, 1)),  # loads and stores of one lane
}
#: Opcodes followed by a list of numbers: how many more there are than the length says (br_table has a default).
_LISTS: Final = {0x0E: 1, 0x1C: 0}  # br_table, select with types
_OFF: Final = {
    **dict.fromkeys((0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F), "exceptions"),
    **dict.fromkeys((0x14, 0x15, 0xD4, 0xD5, 0xD6), "typed function references"),
    **dict.fromkeys((0xD3, 0xFB), "garbage collection"),
    0xFE: "threads",
}


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
    contents = {name: _appended(data, known.get(name), entry) for name, entry in appended.items()}
    contents["code"] = bodies.content()
    kept = [section for section in module.sections if not (bodies.moved and _speaks_of_code(section))]
    return _written(data, kept, contents)


class _Bodies:
    """The code section with `memory.grow` replaced by `call`; bodies that do not grow memory are copied as they are."""

    def __init__(self, data: bytes, code: Section, call: bytes) -> None:
        reader = Reader(data, "the code section", code.start, code.end)
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
        _skip_instruction(body)
        if data[place] == _MEMORY_GROW_0[0]:
            if data[place : body.position] != _MEMORY_GROW_0:
                body.refuse("it grows a memory other than the first")
            yield data[start:place]
            start = body.position
    yield data[start:end]


def _skip_instruction(body: Reader) -> None:
    opcode = body.byte()
    if opcode in _LISTS:
        numbers, plain = body.u32() + _LISTS[opcode], 0
    else:
        key = opcode << 16 | body.u32() if opcode in (0xFC, 0xFD) else opcode
        if key not in _IMMEDIATES:
            if opcode in _OFF:
                raise ModuleRefused(f"its code uses the {_OFF[opcode]} proposal, which is off here")
            body.refuse(f"unknown instruction 0x{key:02x}")
        numbers, plain = _IMMEDIATES[key]
    for _ in range(numbers):
        while body.byte() >= 0x80:
            pass
    body.skip(plain)


def _grow_function(witness: bytes) -> bytes:
    """The body of `$grow` above."""
    get_pages, get_witness = b"\x20\x00", b"\x23" + witness
    greater = get_pages + get_witness + b"\x4b"  # i32.gt_u
    keep_largest = get_pages + get_witness + greater + b"\x1b" + b"\x24" + witness  # select, global.set
    failed = b"\x22\x01" + b"\x41\x7f" + b"\x46"  # local.tee $before, i32.const -1, i32.eq
    grow = get_pages + _MEMORY_GROW_0
    return _GROW_LOCALS + grow + failed + b"\x04\x40" + keep_largest + b"\x0b" + b"\x20\x01" + b"\x0b"


def _appended(data: bytes, section: Section | None, entry: bytes) -> bytes:
    """The content of a section that is a list, with one entry more."""
    if section is None:
        return leb128(1) + entry
    reader = Reader(data, f"the {section.name} section", section.start, section.end)
    return leb128(reader.u32() + 1) + data[reader.position : section.end] + entry


def _speaks_of_code(section: Section) -> bool:
    return section.is_custom and section.name.startswith((".debug_", "metadata.code."))


def _written(data: bytes, sections: list[Section], contents: dict[str, bytes]) -> bytes:
    """The module with these contents: in place of a section's own, or as a new section where the order puts it."""
    order = list(SECTION_IDS)
    present = {section.name for section in sections if not section.is_custom}
    missing = [name for name in order if name in contents and name not in present]
    pieces = [data[:PREAMBLE_BYTES]]
    for section in sections:
        if section.is_custom:
            pieces.append(data[section.header : section.end])
            continue
        while missing and order.index(missing[0]) < order.index(section.name):
            name = missing.pop(0)
            pieces.append(_encoded(name, contents[name]))
        content = contents.get(section.name)
        pieces.append(data[section.header : section.end] if content is None else _encoded(section.name, content))
    return b"".join(pieces)


def _encoded(name: str, content: bytes) -> bytes:
    return bytes([SECTION_IDS[name]]) + sized(content)
