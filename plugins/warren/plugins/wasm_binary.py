"""Reading and writing the outer layer of a core WebAssembly binary: numbers, names, types and sections.

The bytes are untrusted and wasmtime has not seen them yet, so every read is bounded and everything wrong ends in
`ModuleRefused` with its place. What the sections hold is read in `module`; instructions are read in `growth`. The
grammar is that of https://webassembly.github.io/spec/core/binary/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from .errors import ModuleRefused

MAGIC: Final = b"\0asm"
CORE_VERSION: Final = b"\x01\0\0\0"
COMPONENT_VERSION: Final = b"\x0d\0\x01\0"
PREAMBLE_BYTES: Final = len(MAGIC) + len(CORE_VERSION)

#: The ids of sections, in the order in which a module must have them. A custom section (id 0) may stand anywhere.
SECTION_IDS: Final = {
    "type": 1,
    "import": 2,
    "function": 3,
    "table": 4,
    "memory": 5,
    "global": 6,
    "export": 7,
    "start": 8,
    "element": 9,
    "data count": 12,
    "code": 10,
    "data": 11,
}
_NAMES: Final = {section_id: name for name, section_id in SECTION_IDS.items()}
_RANK: Final = {name: rank for rank, name in enumerate(SECTION_IDS)}
_TAG_SECTION: Final = 13
#: Custom sections can be as short as three bytes; real modules have a dozen.
_MAX_SECTIONS: Final = 1_000

VALUE_TYPES: Final = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
#: The bytes by which value types and type definitions of other proposals begin (0x40: a table with an initial value).
_OTHER_TYPES: Final = {
    **dict.fromkeys((0x40, 0x63, 0x64), "typed function references"),
    **dict.fromkeys((0x4E, 0x4F, 0x50, 0x5E, 0x5F), "garbage collection"),
    **dict.fromkeys((0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x71, 0x72, 0x73, 0x77, 0x78), "garbage collection"),
    **dict.fromkeys((0x69, 0x74), "exceptions"),
    **dict.fromkeys((0x5D, 0x68, 0x75), "stack switching"),
}
_LIMITS_FLAGS: Final = {2: "threads (shared memory)", 4: "memory64", 8: "custom page sizes"}


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section is: its id byte at `header`, its content (after the name of a custom section) in [start, end)."""

    id: int
    name: str
    header: int
    start: int
    end: int

    @property
    def is_custom(self) -> bool:
        return self.id == 0


class Reader:
    """A cursor over `data[position:end]`; `place` names that stretch in errors."""

    __slots__ = ("data", "end", "place", "position")

    def __init__(self, data: bytes, place: str, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.place = place
        self.position = position
        self.end = len(data) if end is None else end

    def refuse(self, problem: str) -> NoReturn:
        raise ModuleRefused(f"malformed module: {self.place}, near byte {self.position}: {problem}")

    def byte(self) -> int:
        if self.position >= self.end:
            self.refuse("it ends too early")
        value = self.data[self.position]
        self.position += 1
        return value

    def u32(self) -> int:
        """An unsigned LEB128 number: at most five bytes, and it fits 32 bits. It may be padded, as linkers do."""
        value = self.byte()
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in (7, 14, 21, 28):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            self.refuse("a number is longer than five bytes")
        if value > 0xFFFFFFFF:
            self.refuse("a number does not fit 32 bits")
        return value

    def skip(self, count: int) -> int:
        """Move on by `count` bytes; gives the position before."""
        start = self.position
        if count > self.end - start:
            self.refuse("it ends too early")
        self.position = start + count
        return start

    def name(self) -> str:
        length = self.u32()
        start = self.skip(length)
        try:
            return self.data[start : self.position].decode()
        except UnicodeDecodeError:
            self.refuse("a name is not UTF-8")

    def value_types(self, count: int) -> tuple[str, ...]:
        start = self.skip(count)
        names = tuple(map(VALUE_TYPES.get, self.data[start : self.position]))
        known = tuple([name for name in names if name is not None])
        if len(known) != count:
            self.refuse_type(self.data[start + names.index(None)], "value type")
        return known

    def value_type(self) -> str:
        byte = self.byte()
        name = VALUE_TYPES.get(byte)
        if name is None:
            self.refuse_type(byte, "value type")
        return name

    def refuse_type(self, byte: int, what: str) -> NoReturn:
        proposal = _OTHER_TYPES.get(byte)
        if proposal is None:
            self.refuse(f"unknown {what} 0x{byte:02x}")
        raise ModuleRefused(f"{self.place} has a {what} of the {proposal} proposal, which is off here")

    def limits(self) -> tuple[int, int | None]:
        """The least and the greatest size of a table or a memory."""
        flags = self.byte()
        for bit, proposal in _LIMITS_FLAGS.items():
            if flags & bit:
                raise ModuleRefused(f"{self.place} uses the {proposal} proposal, which is off here")
        if flags > 1:
            self.refuse(f"unknown limits 0x{flags:02x}")
        minimum = self.u32()
        maximum = self.u32() if flags else None
        if maximum is not None and maximum < minimum:
            self.refuse(f"a maximum of {maximum}, below the minimum of {minimum}")
        return minimum, maximum

    def expect_end(self) -> None:
        if self.position != self.end:
            self.refuse(f"{self.end - self.position} bytes too many")


def leb128(value: int) -> bytes:
    """An unsigned number in the fewest bytes."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def signed_leb128(value: int) -> bytes:
    """A signed number in the fewest bytes."""
    encoded = bytearray()
    while not -0x40 <= value < 0x40:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value & 0x7F)
    return bytes(encoded)


def sized(content: bytes) -> bytes:
    """`content` behind its length: how sections, bodies and names are written."""
    return leb128(len(content)) + content


def section_reader(data: bytes, section: Section) -> Reader:
    """A cursor over the content of a section."""
    return Reader(data, f"the {section.name} section", section.start, section.end)


def with_entries(data: bytes, section: Section | None, entries: Iterable[bytes]) -> bytes:
    """The content of a section that is a list, with these entries after its own."""
    added = tuple(entries)
    if section is None:
        return leb128(len(added)) + b"".join(added)
    reader = section_reader(data, section)
    return leb128(reader.u32() + len(added)) + data[reader.position : section.end] + b"".join(added)


def with_contents(data: bytes, sections: Iterable[Section], contents: Mapping[str, bytes]) -> bytes:
    """The module of `sections` with these contents: in place of their own, or as new sections where the order says."""
    kept = tuple(sections)
    present = {section.name for section in kept if not section.is_custom}
    missing = [name for name in SECTION_IDS if name in contents and name not in present]
    pieces = [data[:PREAMBLE_BYTES]]
    for section in kept:
        while missing and not section.is_custom and _RANK[missing[0]] < _RANK[section.name]:
            name = missing.pop(0)
            pieces.append(_encoded(name, contents[name]))
        if section.is_custom or section.name not in contents:
            pieces.append(data[section.header : section.end])
        else:
            pieces.append(_encoded(section.name, contents[section.name]))
    pieces += (_encoded(name, contents[name]) for name in missing)
    return b"".join(pieces)


def _encoded(name: str, content: bytes) -> bytes:
    return bytes([SECTION_IDS[name]]) + sized(content)


def read_sections(data: bytes) -> tuple[Section, ...]:
    """The sections of a core module: known ones, in order, none twice, each within the file."""
    _check_preamble(data)
    sections: list[Section] = []
    rank = -1
    reader = Reader(data, "the list of sections", PREAMBLE_BYTES)
    while reader.position < reader.end:
        section = _read_section(reader)
        if not section.is_custom:
            if _RANK[section.name] <= rank:
                reader.refuse(f"the {section.name} section is repeated or out of order")
            rank = _RANK[section.name]
        sections.append(section)
        if len(sections) > _MAX_SECTIONS:
            raise ModuleRefused(f"the module has more than {_MAX_SECTIONS:,} sections")
    return tuple(sections)


def _read_section(reader: Reader) -> Section:
    header = reader.position
    section_id = reader.byte()
    if section_id == _TAG_SECTION:
        raise ModuleRefused("the module has a tag section, which belongs to the exceptions proposal; it is off here")
    if section_id != 0 and section_id not in _NAMES:
        reader.refuse(f"unknown section id {section_id}")
    start = reader.skip(reader.u32())
    end = reader.position
    if section_id != 0:
        return Section(section_id, _NAMES[section_id], header, start, end)
    content = Reader(reader.data, "a custom section", start, end)
    name = content.name()
    return Section(0, name, header, content.position, end)


def _check_preamble(data: bytes) -> None:
    if not data:
        raise ModuleRefused("the file is empty")
    if data.startswith(MAGIC + CORE_VERSION):
        return
    if data.startswith(MAGIC):
        version = data[4:8]
        if version[2:] == b"\x01\0":
            raise ModuleRefused("this is a WebAssembly component, not a core module; build the plugin as a core module")
        raise ModuleRefused(f"this is WebAssembly of version 0x{version[::-1].hex()}; only version 1 is known")
    if data.lstrip()[:1] == b"(" or data.lstrip()[:2] == b";;":
        raise ModuleRefused("this is WebAssembly text; assemble it first (for example with wat2wasm)")
    raise ModuleRefused(f"this is not WebAssembly: it begins with {data[:4]!r}, not with {MAGIC!r}")
