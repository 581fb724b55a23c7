"""Whether a module's code can change what a snapshot cannot hold: its tables, and which of its segments are dropped.

The rule is about the code, not about what an initialisation does: a module that has such an instruction anywhere is
refused. That is sound and says the same of every configuration. It costs nothing that people build: compilers from C,
C++, Rust, Zig, Go and AssemblyScript fill their table by element segments, keep their data in active ones, and only
ever read both (`call_indirect`; `memory.copy` and `memory.fill` know no segments). What has such instructions is code
for threads, for dynamic linking or for references to JavaScript's objects, and none of these runs here.

Rejected: comparing tables before and after (dropped segments cannot be seen from outside), and rewriting the code so
that each such instruction leaves a trace (exact, but all code would move for modules that nobody has).

Every instruction has to be read, since any byte may be part of a number. A regular expression passes over what is
harmless (`passing_over` in `instructions`); what it stops at is read one by one.
"""

from __future__ import annotations

from typing import Final

from .errors import ModuleRefused
from .instructions import FC, passing_over, skip_instruction
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


_HARMLESS: Final = passing_over(_STATEFUL)
