"""How long each instruction is: code can be read without being understood.

All that wasmtime may be given here is known, and nothing else; what belongs to a proposal that is off is refused by
the name of that proposal. Whether the instructions make sense is for wasmtime to check.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from .errors import ModuleRefused
from .wasm_binary import Reader

#: Opcodes with a prefix count from here.
FC: Final = 0xFC0000
FD: Final = 0xFD0000

#: What follows each opcode (with its prefix, where it has one): so many LEB128 numbers, then so many plain bytes.
IMMEDIATES: Final[dict[int, tuple[int, int]]] = {
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
    **dict.fromkeys(range(FC, FC + 8), (0, 0)),  # saturating truncations
    **dict.fromkeys((FC + 8, FC + 10, FC + 12, FC + 14), (2, 0)),  # memory and table: init, copy
    **dict.fromkeys((FC + 9, FC + 11, FC + 13), (1, 0)),  # data.drop, memory.fill, elem.drop
    **dict.fromkeys((FC + 15, FC + 16, FC + 17), (1, 0)),  # table: grow, size, fill
    **dict.fromkeys(range(FC + 19, FC + 23), (0, 0)),  # wide arithmetic
    **dict.fromkeys(range(FD, FD + 0x114), (0, 0)),  # SIMD and relaxed SIMD, but for these:
    **dict.fromkeys((*range(FD, FD + 12), FD + 92, FD + 93), (2, 0)),  # loads and stores
    **dict.fromkeys((FD + 12, FD + 13), (0, 16)),  # v128.const, i8x16.shuffle
    **dict.fromkeys(range(FD + 21, FD + 35), (0, 1)),  # lanes out and in
    **dict.fromkeys(range(FD + 84, FD + 92), (2, 1)),  # loads and stores of one lane
}
#: Opcodes followed by a list of numbers: how many more there are than the length says (br_table has a default).
LISTS: Final = {0x0E: 1, 0x1C: 0}  # br_table, select with types
_OFF: Final = {
    **dict.fromkeys((0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F), "exceptions"),
    **dict.fromkeys((0x14, 0x15, 0xD4, 0xD5, 0xD6), "typed function references"),
    **dict.fromkeys((0xD3, 0xFB), "garbage collection"),
    0xFE: "threads",
}


def skip_instruction(body: Reader) -> None:
    """Move on by one instruction, whatever it is."""
    opcode = body.byte()
    if opcode in LISTS:
        numbers, plain = body.u32() + LISTS[opcode], 0
    else:
        key = opcode << 16 | body.u32() if opcode in (0xFC, 0xFD) else opcode
        if key not in IMMEDIATES:
            if opcode in _OFF:
                raise ModuleRefused(f"its code uses the {_OFF[opcode]} proposal, which is off here")
            body.refuse(f"unknown instruction 0x{key:02x}")
        numbers, plain = IMMEDIATES[key]
    for _ in range(numbers):
        while body.byte() >= 0x80:
            pass
    body.skip(plain)


def passing_over(stops: Container[int]) -> re.Pattern[bytes]:
    """Matches as many whole instructions as it can, none of them with an opcode in `stops`, at 30 MB a second.

    The rarer encodings are left to be read one by one.
    """
    opcodes: dict[tuple[int, int, int], list[int]] = {}
    for key, (numbers, plain) in IMMEDIATES.items():
        prefix, opcode = divmod(key, 1 << 16)
        is_one_byte = opcode < 0x80 or not prefix
        if is_one_byte and key not in stops:
            opcodes.setdefault((prefix, numbers, plain), []).append(opcode)
    alternatives = []
    for (prefix, numbers, plain), group in opcodes.items():
        lead = re.escape(bytes([prefix])) if prefix else b""
        one_of = b"".join(re.escape(bytes([opcode])) for opcode in group)
        alternatives.append(lead + b"[" + one_of + b"]" + _NUMBER * numbers + b"." * plain)
    return re.compile(b"(?:" + b"|".join(alternatives) + b"){0,%d}" % _AT_ONCE, re.DOTALL)


#: Instructions in one match: `re` keeps a record of each until the match ends. Possessive quantifiers keep none, but
#: give wrong matches before Python 3.11.5 (https://github.com/python/cpython/issues/106052).
_AT_ONCE: Final = 10_000
_NUMBER: Final = rb"[\x80-\xff]*[\x00-\x7f]"
