"""A guest's frames in words: `parse at parser.c:12`, where the module has DWARF; else `parse at 0x3f2`.

The lines are looked up in the module as its author built it, by the number of a function and an offset in it. So they
do not depend on what Warren makes of the module (see `growth`), wasmtime never gets to see its DWARF (see `dwarf` for
why it must not), and what is compiled is the smaller for it: 1.1 MB in place of 4.2 for a C++ program.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from .dwarf import LineTable, read_line_table
from .module import read_module
from .wasm_binary import Section, read_sections, section_reader, with_contents

#: Characters of a function's name in a backtrace. A guest's author can make them as long as the module.
MAX_NAME_LENGTH: Final = 200

#: What wasmtime says of a frame whose place in the module it does not know.
NO_OFFSET: Final = (1 << 64) - 1


class Frame(NamedTuple):
    """One frame as wasmtime tells it. `function` is the function's index, `offset` counts from its body's start."""

    name: str | None
    function: int
    offset: int
    module_offset: int


#: The name of a module of Warren's own, whose frames would tell a plugin's author nothing, and have other lines.
HIDDEN_MODULE: Final = "warren"


class Lines(Protocol):
    """Where the code of a compiled module came from."""

    def find(self, function: int, offset: int) -> str | None:
        """`file:line` of the code at this offset in the body of the function with that index."""
        ...


@dataclass(frozen=True, slots=True)
class SourceLines:
    """The lines of one module. `starts` is where each function's body begins in the code section, 0 for unknown."""

    starts: Sequence[int]
    table: LineTable

    def find(self, function: int, offset: int) -> str | None:
        """`file:line` of the code there."""
        start = self.starts[function] if function < len(self.starts) else 0
        return self.table.find(start + offset) if start else None


def described(frame: Frame, lines: Lines | None) -> str:
    """A frame in words."""
    name = frame.name or f"function {frame.function}"
    shown_name = (name if name.isprintable() else ascii(name))[:MAX_NAME_LENGTH]
    place = lines.find(frame.function, frame.offset) if lines else None
    if place is None and frame.module_offset != NO_OFFSET:
        place = f"0x{frame.module_offset:x}"
    return shown_name if place is None else f"{shown_name} at {place}"


def read_source_lines(original: bytes, compiled: bytes) -> SourceLines | None:
    """The lines of the module `original`, to look up frames of `compiled`, which was made of it; None without DWARF.

    Both must be modules that `read_module` accepts. Functions whose bodies have another size in `compiled` have no
    lines: offsets in them say nothing. Takes about 0.5 s for 1 MB of `.debug_line`, and 0.5 µs for each function.
    """
    debug = {section.name: section for section in read_sections(original) if _is_debug(section)}
    if ".debug_line" not in debug:
        return None
    table = read_line_table({name: original[section.start : section.end] for name, section in debug.items()})
    return SourceLines(_starts(original, compiled), table) if table.addresses else None


def without_debug_sections(module: bytes) -> bytes:
    """`module` as wasmtime should see it: all but its DWARF. Names stay."""
    sections = read_sections(module)
    kept = [section for section in sections if not _is_debug(section)]
    return module if len(kept) == len(sections) else with_contents(module, kept, {})


def _is_debug(section: Section) -> bool:
    return section.is_custom and section.name.startswith(".debug_")


def _starts(original: bytes, compiled: bytes) -> array[int]:
    info = read_module(original)
    imported = sum(each.kind == "func" for each in info.imports)
    starts = array("I", [0] * imported)
    now = [end - start for start, end in _bodies(compiled)]
    for index, (start, end) in enumerate(_bodies(original)):
        starts.append(start if index < len(now) and end - start == now[index] else 0)
    return starts


def _bodies(module: bytes) -> list[tuple[int, int]]:
    """Where the body of each function is, from the start of the code section's content."""
    code = next(
        (section for section in read_sections(module) if section.name == "code" and not section.is_custom), None
    )
    if code is None:
        return []
    reader = section_reader(module, code)
    bodies = []
    for _ in range(reader.u32()):
        start = reader.skip(reader.u32())
        bodies.append((start - code.start, reader.position - code.start))
    return bodies
