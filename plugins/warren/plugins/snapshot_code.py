"""Whether a module's code can change what a snapshot cannot hold: its tables, and which of its segments are dropped.

The rule is about the code, not about what an initialisation does: a module that has such an instruction anywhere is
refused. That is sound and says the same of every configuration. It costs nothing that people build: compilers from C,
C++, Rust, Zig, Go and AssemblyScript fill their table by element segments, keep their data in active ones, and only
ever read both (`call_indirect`; `memory.copy` and `memory.fill` know no segments). What has such instructions is code
for threads, for dynamic linking or for references to JavaScript's objects, and none of these runs here.

Rejected: comparing tables before and after (dropped segments cannot be seen from outside), and rewriting the code so
that each such instruction leaves a trace (exact, but all code would move for modules that nobody has).

Every instruction has to be read, since any byte may be part of a number. One regular expression, made of the table of
immediates in `instructions`, passes over what is harmless at 30 MB a second; what it stops at is read one by one.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import ModuleRefused
from .instructions import FC, IMMEDIATES, skip_instruction
from .wasm_binary import Reader, Section, section_reader

#: By opcode.
_STATEFUL: Final = {
    0x26: "table.set",
    FC + 9: "data.drop",
    FC + 12: "table.init",
    FC + 13: "elem.drop",
    FC + 14: "table.copy",
    FC + 15: "table.grow",
    FC + 17: "table.fill",
}


def check_code(data: bytes, code: Section) -> None:
    """Raises `ModuleRefused` when the code has an instruction that changes a table or drops a segment."""
    reader = section_reader(data, code)
    for number in range(reader.u32()):
        start = reader.skip(reader.u32())
        body = Reader(data, reader.place, start, reader.position)
        instruction = _first_stateful(body)
        if instruction is not None:
            raise ModuleRefused(
                f"a snapshot holds memory and globals only, and function {number} of its code (not counting imports) "
                f"uses {instruction}, which changes tables or segments; set [runtime] snapshot = false"
            )


def _first_stateful(body: Reader) -> str | None:
    for _ in range(body.u32()):
        body.u32()
        body.value_type()
    while body.position < body.end:
        harmless = _HARMLESS.match(body.data, body.position, body.end)
        if harmless is not None and harmless.end() > body.position:
            body.position = harmless.end()
            continue
        instruction = _STATEFUL.get(_opcode(body))
        if instruction is not None:
            return instruction
        skip_instruction(body)
    return None


def _opcode(body: Reader) -> int:
    opcode = body.data[body.position]
    if opcode != FC >> 16:
        return opcode
    return FC + Reader(body.data, body.place, body.position + 1, body.end).u32()


def _harmless_instructions() -> re.Pattern[bytes]:
    """Matches as many whole instructions as it can. The rarer encodings are left to be read one by one."""
    opcodes: dict[tuple[int, int, int], list[int]] = {}
    for key, (numbers, plain) in IMMEDIATES.items():
        prefix, opcode = divmod(key, 1 << 16)
        is_one_byte = opcode < 0x80 or not prefix
        if is_one_byte and key not in _STATEFUL:
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
_HARMLESS: Final = _harmless_instructions()
