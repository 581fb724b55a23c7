"""The line tables that compilers leave in a module: which line of which file made the code at an address.

Read here, within bounds, because wasmtime reads DWARF without any: when the environment asks it for lines, a module of
78 kB makes one trap take 4 s and 880 MB of the host, past fuel, memory limit and deadline. Only lines are read, of
versions 2 to 5 of 32-bit DWARF; the rest of DWARF (functions inlined, variables) is of no use to a backtrace of frames.
Every byte is read once at most, and what is malformed ends the reading: the lines found so far stay good.

Rejected: to let wasmtime look the lines up (`WASMTIME_BACKTRACE_DETAILS=1`, then in a trap's message), for the above.

The grammar is chapter 6.2 of https://dwarfstd.org/doc/DWARF5.pdf. Addresses count from the start of the code section.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .errors import ModuleRefused
from .wasm_binary import Reader

#: What is read at most. A C++ program of 230 kB of code has 730 kB, 29,000 rows and 1,500 files, read in 0.3 s.
MAX_LINE_BYTES: Final = 1 << 20
MAX_ROWS: Final = 200_000
MAX_FILES: Final = 20_000

#: Of a file's name, as of a directory's.
MAX_PATH_BYTES: Final = 200

#: What a row of the table holds.
_MAX: Final = 0xFFFF_FFFF

_VERSIONS: Final = range(2, 6)
_64_BIT_DWARF: Final = 0xFFFF_FFFF

_TOO_MANY_FILES: Final = "it lists too many files"
_TOO_MANY_ROWS: Final = "it has too many rows"

# Extended opcodes, which follow a zero byte and their length.
_END_SEQUENCE: Final = b"\x01"
_SET_ADDRESS: Final = b"\x02"

# Of version 5: what an entry of a file or directory holds.
_PATH: Final = 1
_DIRECTORY: Final = 2
#: Forms of fixed length, in bytes.
_FIXED_FORMS: Final = {0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x1E: 16}
_FORM_STRING: Final = 0x08
_FORM_BLOCK: Final = 0x09
_FORM_UDATA: Final = 0x0F
#: Forms that say where in another section the text is.
_STRING_SECTIONS: Final = {0x0E: ".debug_str", 0x1F: ".debug_line_str"}


@dataclass(frozen=True, slots=True)
class LineTable:
    """Rows in the order of their addresses; each holds up to the next, and a line of 0 means that nothing is known."""

    addresses: array[int] = field(default_factory=lambda: array("I"))
    lines: array[int] = field(default_factory=lambda: array("I"))
    files: array[int] = field(default_factory=lambda: array("I"))
    paths: tuple[str, ...] = ()

    def find(self, address: int) -> str | None:
        """`file:line` of the code at that address."""
        row = bisect_right(self.addresses, address) - 1
        if row < 0 or not self.lines[row] or self.files[row] >= len(self.paths):
            return None
        return f"{self.paths[self.files[row]]}:{self.lines[row]}"


#: Address, index of the file in all paths, line.
_Row = tuple[int, int, int]


def read_line_table(sections: Mapping[str, bytes]) -> LineTable:
    """The lines of `.debug_line`, with the sections of strings that it may refer to; what is too much is left out."""
    reader = Reader(sections.get(".debug_line", b"")[:MAX_LINE_BYTES], ".debug_line")
    lines = _Lines(sections)
    try:
        while reader.position < reader.end:
            lines.read_unit(reader)
    except ModuleRefused:
        pass  # a unit that cannot be read hides where the next one begins
    return lines.table()


class _Lines:
    """The lines read so far. A sequence is a stretch of code with rows of its own: most often one function."""

    def __init__(self, strings: Mapping[str, bytes]) -> None:
        self._strings = strings
        self._sequences: list[list[_Row]] = []
        self._paths: list[str] = []
        self._row_count = 0

    def table(self) -> LineTable:
        table = LineTable(paths=tuple(self._paths))
        for sequence in sorted(self._sequences, key=lambda rows: rows[0]):
            for address, file, line in sequence:
                table.addresses.append(address)
                table.files.append(file)
                table.lines.append(line)
        return table

    def read_unit(self, reader: Reader) -> None:
        length = _fixed(reader, 4)
        if length == _64_BIT_DWARF:
            reader.refuse("it is 64-bit DWARF")
        start = reader.skip(length)
        unit = Reader(reader.data, reader.place, start, reader.position)
        version = _fixed(unit, 2)
        if version not in _VERSIONS:
            return
        if version >= 5:
            unit.skip(2)  # the sizes of an address and of a segment selector
        header_length = _fixed(unit, 4)
        header = Reader(unit.data, unit.place, unit.skip(header_length), unit.position)
        step = header.byte()
        header.skip(2 if version >= 4 else 1)  # operations in one instruction; whether rows are statements at first
        line_base, line_range, opcode_base = _signed(header.byte(), 8), header.byte(), header.byte()
        if not line_range or not opcode_base:
            header.refuse("it has no line range or no opcodes")
        operands = (0, *(header.byte() for _ in range(opcode_base - 1)))
        first_path = len(self._paths)
        if first_path > MAX_FILES:
            header.refuse(_TOO_MANY_FILES)
        self._paths += _paths_5(header, self._strings) if version >= 5 else _paths_4(header)
        program = _Program(unit, operands, first_path=first_path, step=step, line_base=line_base, line_range=line_range)
        for sequence in program.sequences():
            self._sequences.append(sequence)
            self._row_count += len(sequence)
            if self._row_count > MAX_ROWS:
                unit.refuse(_TOO_MANY_ROWS)


class _Program:
    """A unit's program and the state of the machine that it drives."""

    def __init__(
        self,
        reader: Reader,
        operands: tuple[int, ...],
        *,
        first_path: int,
        step: int,
        line_base: int,
        line_range: int,
    ) -> None:
        """`operands`: how many numbers follow each opcode that is not special."""
        self._reader = reader
        self._operands = operands
        self._first_path = first_path
        self._step = step
        self._line_base = line_base
        self._line_range = line_range
        self._begin_sequence()

    def _begin_sequence(self) -> None:
        self._address, self._file, self._line = 0, 1, 1
        self._rows: list[_Row] = []

    def sequences(self) -> Iterator[list[_Row]]:
        """Run the program; the sequences of rows that it makes."""
        reader, special = self._reader, len(self._operands)
        while reader.position < reader.end:
            opcode = reader.byte()
            if opcode >= special:
                advance, change = divmod(opcode - special, self._line_range)
                self._address += advance * self._step
                self._line += self._line_base + change
                self._add_row(self._line)
            elif opcode:
                self._standard(opcode)
            else:
                yield from self._extended()

    def _standard(self, opcode: int) -> None:
        reader = self._reader
        match opcode:
            case 1:  # copy
                self._add_row(self._line)
            case 2:  # advance pc
                self._address += reader.u32() * self._step
            case 3:  # advance line
                self._line += _signed_number(reader)
            case 4:  # set file
                self._file = reader.u32()
            case 8:  # const add pc: what the greatest special opcode adds
                self._address += (255 - len(self._operands)) // self._line_range * self._step
            case 9:  # fixed advance pc
                self._address += _fixed(reader, 2)
            case _:
                for _ in range(self._operands[opcode]):
                    reader.u32()

    def _extended(self) -> Iterator[list[_Row]]:
        start = self._reader.skip(self._reader.u32())
        operation = self._reader.data[start : self._reader.position]
        if operation[:1] == _SET_ADDRESS:
            self._address = int.from_bytes(operation[1:9], "little")
        elif operation[:1] == _END_SEQUENCE:
            self._add_row(0)
            # A linker leaves the lines of what it has thrown away at 0, or at the end of all addresses.
            if 0 < self._rows[0][0] <= self._rows[-1][0]:
                yield self._rows
            self._begin_sequence()

    def _add_row(self, line: int) -> None:
        rows = self._rows
        row = (self._address & _MAX, (self._first_path + self._file) & _MAX, line & _MAX)
        if not rows or rows[-1][1:] != row[1:]:
            rows.append(row)
        if len(rows) > MAX_ROWS:
            self._reader.refuse(_TOO_MANY_ROWS)


def _paths_4(header: Reader) -> list[str]:
    """Up to version 4 both lists end with an empty name, and count from 1: 0 is where the compiler was run."""
    directories = [b"", *_until_empty(header)]
    paths = [""]
    while name := _text(header):
        directory = header.u32()
        header.u32()  # when it was changed
        header.u32()  # its length
        paths.append(_path(directories, directory, name))
        if len(paths) > MAX_FILES:
            header.refuse(_TOO_MANY_FILES)
    return paths


def _until_empty(header: Reader) -> Iterator[bytes]:
    while name := _text(header):
        yield name


def _paths_5(header: Reader, strings: Mapping[str, bytes]) -> list[str]:
    """Version 5 says of each list what its entries hold, and in which form. Directory 0 is the compiler's."""
    directories = [name for name, _ in _entries(header, strings)]
    directories[:1] = [b""]
    return [_path(directories, directory, name) for name, directory in _entries(header, strings)]


def _entries(header: Reader, strings: Mapping[str, bytes]) -> Iterator[tuple[bytes, int]]:
    """Of each entry of a list: its name, and the number of its directory."""
    fields = [(header.u32(), header.u32()) for _ in range(header.byte())]
    count = header.u32()
    if count > MAX_FILES or (count and not fields):
        header.refuse(_TOO_MANY_FILES)
    for _ in range(count):
        name, directory = b"", 0
        for content, form in fields:
            value = _form(header, form, strings)
            if content == _PATH and isinstance(value, bytes):
                name = value
            elif content == _DIRECTORY and isinstance(value, int):
                directory = value
        yield name, directory


def _form(header: Reader, form: int, strings: Mapping[str, bytes]) -> int | bytes:
    if form in _FIXED_FORMS:
        return _fixed(header, _FIXED_FORMS[form])
    if form in _STRING_SECTIONS:
        start = _fixed(header, 4)
        return strings.get(_STRING_SECTIONS[form], b"")[start : start + MAX_PATH_BYTES].partition(b"\0")[0]
    if form == _FORM_UDATA:
        return header.u32()
    if form == _FORM_STRING:
        return _text(header)
    if form != _FORM_BLOCK:
        header.refuse(f"unknown form 0x{form:02x}")
    return header.skip(header.u32())


def _path(directories: list[bytes], directory: int, name: bytes) -> str:
    parent = directories[directory] if directory < len(directories) else b""
    path = (parent + b"/" + name if parent and not name.startswith(b"/") else name).decode(errors="replace")
    return path if path.isprintable() else ascii(path)


def _text(reader: Reader) -> bytes:
    """Text up to a zero byte, of which only so much is kept."""
    start = reader.position
    end = reader.data.find(b"\0", start, reader.end)
    if end < 0:
        reader.refuse("a text does not end")
    reader.position = end + 1
    return reader.data[start : min(end, start + MAX_PATH_BYTES)]


def _fixed(reader: Reader, length: int) -> int:
    start = reader.skip(length)
    return int.from_bytes(reader.data[start : reader.position], "little")


def _signed_number(reader: Reader) -> int:
    """A signed LEB128 number."""
    value, bits = 0, 0
    while True:
        byte = reader.byte()
        value |= (byte & 0x7F) << bits
        bits += 7
        if byte < 0x80:
            return _signed(value, bits)
        if bits >= 64:
            reader.refuse("a number is longer than ten bytes")


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
