"""Rewriting a module so that the host hears of every call: when a function begins, and when it has ended.

The host reads the fuel each time, so that a profile is exact, and not a sample. Each function becomes

    (func $f ...
      (call $enter (i32.const F))
      (block (result ...) ...its body, in which each `return` is (call $leave (i32.const F)) (return)...)
      (call $leave (i32.const F)))

where F is its index in the module as it was. A branch out of the body leads to the block's end, since blocks and
functions count as one for it; `return_call` is preceded by the same `$leave`; and around the call of an import stand an
`$enter` and a `$leave` of its own, so that what the host charges for it shows. Nothing below on the stack is touched.
The two calls add two units of fuel each (a constant and a call), which the host gives back there and then; a block and
a `return` cost none. So the guest has at each step just the fuel that it would have, and takes the same way.

`$enter` and `$leave` are imports, appended to those there are, so all other functions move by two: their indices
are written anew in code, exports, `start`, elements and initial values. Custom sections are dropped, but for the names
of functions, which are there for all of them, with the numbers that they had.

Rejected: a wrapper for each function (two frames in place of one, and a tail call would no longer be one); to count
fuel in the guest (a second model of what wasmtime charges, which would be wrong one day); sampling by slices (a slice
is 2 M units, and most runs are over within one).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .backtrace import MAX_NAME_LENGTH, Lines
from .errors import ModuleRefused
from .growth import WITNESS_EXPORT
from .instructions import passing_over, skip_instruction
from .module import ModuleInfo, read_module
from .wasm_binary import Reader, Section, leb128, section_reader, signed_leb128, sized, with_contents, with_entries

#: The module that the two imports are of. No guest may import it: it is not among what an ABI provides.
PROFILE_MODULE: Final = "warren_profile"
ENTER: Final = "enter"
LEAVE: Final = "leave"

#: What the rewriting adds to the fuel of each event: a constant and a call.
EVENT_FUEL: Final = 2

#: By how much the indices of functions move that are not imported.
SHIFT: Final = 2

#: Places at which code is changed. A Go program of 4.4 MB has 11,000.
MAX_CHANGES: Final = 1_000_000

_RETURN: Final = 0x0F
_CALL: Final = 0x10
_RETURN_CALL: Final = 0x12
_RETURN_CALL_INDIRECT: Final = 0x13
_REF_FUNC: Final = 0xD2
_CHANGED: Final = frozenset({_RETURN, _CALL, _RETURN_CALL, _RETURN_CALL_INDIRECT, _REF_FUNC})
_UNCHANGED: Final = passing_over(_CHANGED)

_BLOCK: Final = b"\x02"
_NO_RESULT: Final = b"\x40"
_END: Final = b"\x0b"
_CONST_I32: Final = b"\x41"
_EVENT_TYPE: Final = bytes.fromhex("60 01 7f 00")
_FUNCTION_KIND: Final = 0
_FUNCTION_NAMES: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class ProfiledModule:
    """A module that tells of its calls. `names` are of its functions, by the index that they had."""

    wasm: bytes
    names: tuple[str, ...]
    imported: int
    places: Places


@dataclass(frozen=True, slots=True)
class Places:
    """For each function that has code: where its pieces are now, and where they were, both in its body."""

    imported: int
    now: Sequence[Sequence[int]]
    before: Sequence[Sequence[int]]

    def before_rewriting(self, function: int, offset: int) -> tuple[int, int]:
        """The index of a function, and an offset in its body, as they were."""
        index = function - self.imported - SHIFT
        if not 0 <= index < len(self.now):
            return function, offset
        piece = bisect_right(self.now[index], offset) - 1
        if piece < 0:
            return function - SHIFT, offset
        return function - SHIFT, self.before[index][piece] + offset - self.now[index][piece]


@dataclass(frozen=True, slots=True)
class MovedLines:
    """The lines of a module that has been rewritten."""

    lines: Lines
    places: Places

    def find(self, function: int, offset: int) -> str | None:
        return self.lines.find(*self.places.before_rewriting(function, offset))


def with_events(wasm: bytes) -> ProfiledModule:
    """`wasm` with an event at each begin and end of a function. Raises `ModuleRefused`, and nothing else.

    It has been checked, so that it imports nothing but functions. Costs some 10 ms for each 100 kB.
    """
    module = read_module(wasm)
    sections = {section.name: section for section in module.sections if not section.is_custom}
    if any(item.kind != "func" for item in module.imports):
        raise ModuleRefused("no profile can be taken of a module that imports more than functions")
    imported = len(module.imports)
    rewriting = _Rewriting(wasm, sections, module, imported)
    contents = rewriting.contents()
    names = _names(wasm, module, imported, rewriting.exported)
    # A name section belongs behind all others.
    named = with_contents(wasm, [section for section in module.sections if not section.is_custom], contents)
    places = Places(imported, rewriting.now, rewriting.before)
    return ProfiledModule(named + _name_section(names, imported), names, imported, places)


class _Copy:
    """A stretch of the module that is copied with changes. `now` and `before` are where its pieces are, and were."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start
        self._copied = start
        self._written = bytearray()
        self.now = array("I", [0])
        self.before = array("I", [0])

    def insert(self, at: int, new: bytes, *, in_place_of: int = 0) -> None:
        """Put `new` at that position, which no earlier one may follow, and leave out so many bytes there."""
        self._written += self._data[self._copied : at]
        self._written += new
        self._copied = at + in_place_of

    def note(self, at: int) -> None:
        """A piece begins here: what is at that position comes next."""
        self.now.append(len(self._written))
        self.before.append(at - self._start)

    def finish(self, end: int) -> bytes:
        self._written += self._data[self._copied : end]
        return bytes(self._written)


class _Rewriting:
    """The new contents of the sections that speak of functions."""

    def __init__(self, data: bytes, sections: Mapping[str, Section], module: ModuleInfo, imported: int) -> None:
        self._data = data
        self._sections = sections
        self._module = module
        self._imported = imported
        self._enter, self._leave = leb128(imported), leb128(imported + 1)
        self._new_types: dict[bytes, int] = {_EVENT_TYPE: module.type_count}
        self._change_count = 0
        #: Names under which functions are exported.
        self.exported: dict[int, str] = {}
        #: Of each function with code: see `Places`.
        self.now: list[Sequence[int]] = []
        self.before: list[Sequence[int]] = []

    def contents(self) -> dict[str, bytes]:
        written: dict[str, Callable[[Reader], bytes]] = {
            "global": self._globals,
            "export": self._exports,
            "start": lambda reader: self._moved(reader.u32()),
            "element": self._elements,
            "code": self._code,
        }
        contents = {
            name: write(section_reader(self._data, self._sections[name]))
            for name, write in written.items()
            if name in self._sections
        }
        event = b"\x00" + leb128(self._new_types[_EVENT_TYPE])
        imports = [sized(PROFILE_MODULE.encode()) + sized(name.encode()) + event for name in (ENTER, LEAVE)]
        contents["import"] = with_entries(self._data, self._sections.get("import"), imports)
        contents["type"] = with_entries(self._data, self._sections.get("type"), self._new_types)
        return contents

    def _moved(self, function: int) -> bytes:
        return leb128(function if function < self._imported else function + SHIFT)

    def _event(self, which: bytes, function: int) -> bytes:
        return _CONST_I32 + signed_leb128(function) + bytes([_CALL]) + which

    def _exports(self, reader: Reader) -> bytes:
        copy = _Copy(self._data, reader.position)
        for _ in range(reader.u32()):
            name = reader.name()
            kind, at = reader.byte(), reader.position
            index = reader.u32()
            if kind == _FUNCTION_KIND:
                self.exported.setdefault(index, name)
                copy.insert(at, self._moved(index), in_place_of=reader.position - at)
        return copy.finish(reader.end)

    def _globals(self, reader: Reader) -> bytes:
        copy = _Copy(self._data, reader.position)
        for _ in range(reader.u32()):
            reader.value_type()
            reader.byte()
            self._expression(reader, copy)
        return copy.finish(reader.end)

    def _elements(self, reader: Reader) -> bytes:
        """https://webassembly.github.io/spec/core/binary/modules.html#element-section"""
        copy = _Copy(self._data, reader.position)
        for _ in range(reader.u32()):
            flags = reader.u32()
            if flags > 7:
                reader.refuse(f"unknown element segment 0x{flags:02x}")
            if not flags & 1:
                if flags & 2:
                    reader.u32()  # the table
                self._expression(reader, copy)
            if flags & 3:
                reader.byte()  # what it holds
            for _ in range(reader.u32()):
                if flags & 4:
                    self._expression(reader, copy)
                else:
                    self._index(reader, copy)
        return copy.finish(reader.end)

    def _index(self, reader: Reader, copy: _Copy) -> None:
        at = reader.position
        copy.insert(at, self._moved(reader.u32()), in_place_of=reader.position - at)

    def _expression(self, reader: Reader, copy: _Copy) -> None:
        """A constant expression."""
        while True:
            opcode = reader.data[reader.position : reader.position + 1]
            if opcode == bytes([_REF_FUNC]):
                reader.byte()
                self._index(reader, copy)
                continue
            skip_instruction(reader)
            if opcode == _END:
                return

    def _code(self, reader: Reader) -> bytes:
        blocks = self._block_types()
        pieces = []
        count = reader.u32()
        for number in range(count):
            start = reader.skip(reader.u32())
            body = Reader(self._data, reader.place, start, reader.position)
            pieces.append(sized(self._body(body, self._imported + number, blocks[number])))
        return leb128(count) + b"".join(pieces)

    def _body(self, body: Reader, function: int, block: bytes) -> bytes:
        copy = _Copy(self._data, body.position)
        leave = self._event(self._leave, function)
        for _ in range(body.u32()):
            body.u32()
            body.value_type()
        copy.insert(body.position, self._event(self._enter, function) + _BLOCK + block)
        copy.note(body.position)
        while body.position < body.end:
            unchanged = _UNCHANGED.match(self._data, body.position, body.end)
            if unchanged is not None and unchanged.end() > body.position:
                body.position = unchanged.end()
            elif self._data[body.position] in _CHANGED:
                self._change(body, copy, leave)
            else:
                skip_instruction(body)
        self.now.append(copy.now)
        self.before.append(copy.before)
        self._change_count += len(copy.now)
        if self._change_count > MAX_CHANGES:
            raise ModuleRefused(f"no profile can be taken of code with more than {MAX_CHANGES:,} calls and returns")
        return copy.finish(body.end) + leave + _END

    def _change(self, body: Reader, copy: _Copy, leave: bytes) -> None:
        """The instruction at `body.position`, which is one of `_CHANGED`."""
        at = body.position
        opcode = self._data[at]
        if opcode in (_RETURN, _RETURN_CALL_INDIRECT):
            copy.insert(at, leave)
            copy.note(at)
            skip_instruction(body)
            return
        body.byte()
        called = body.u32()
        instruction, before, after = bytes([opcode]) + self._moved(called), b"", b""
        if called < self._imported and opcode != _REF_FUNC:
            instruction = bytes([_CALL]) + leb128(called)
            before, after = self._event(self._enter, called), self._event(self._leave, called)
            if opcode == _RETURN_CALL:
                after += leave + bytes([_RETURN])
        elif opcode == _RETURN_CALL:
            before = leave
        if before:
            copy.insert(at, before)
            copy.note(at)
        copy.insert(at, instruction + after, in_place_of=body.position - at)
        if after or len(instruction) != body.position - at:
            copy.note(body.position)

    def _block_types(self) -> list[bytes]:
        """For each function with code: the type of a block that gives what it gives."""
        by_type = self._results()
        functions = section_reader(self._data, self._sections["function"]) if "function" in self._sections else None
        return [] if functions is None else [by_type(functions.u32()) for _ in range(functions.u32())]

    def _results(self) -> Callable[[int], bytes]:
        results: list[bytes] = []
        if "type" in self._sections:
            types = section_reader(self._data, self._sections["type"])
            for _ in range(types.u32()):
                types.byte()
                types.skip(types.u32())
                count = types.u32()
                start = types.skip(count)
                results.append(self._data[start : types.position])

        def block_type(index: int) -> bytes:
            given = results[index]
            if len(given) <= 1:
                return given or _NO_RESULT
            entry = b"\x60\x00" + sized(given)
            return signed_leb128(self._new_types.setdefault(entry, self._module.type_count + len(self._new_types)))

        return block_type


def _names(data: bytes, module: ModuleInfo, imported: int, exported: Mapping[int, str]) -> tuple[str, ...]:
    """A name for each function: its own, or that of its export, or its number.

    What a guest's author has written there is cut, and otherwise left as it is.
    """
    names = [item.name for item in module.imports]
    names += [f"func[{index}]" for index in range(imported, module.function_count)]
    if WITNESS_EXPORT in module.exports:
        names[-1] = "memory.grow"  # see `growth`
    for index, name in {**exported, **_own_names(data, module)}.items():
        if imported <= index < len(names) and name:
            names[index] = name[:MAX_NAME_LENGTH]
    return tuple(names)


def _own_names(data: bytes, module: ModuleInfo) -> dict[int, str]:
    """What of the name section can be read."""
    names: dict[int, str] = {}
    section = next((section for section in module.sections if section.is_custom and section.name == "name"), None)
    if section is None:
        return names
    reader = section_reader(data, section)
    try:
        while reader.position < reader.end:
            kind = reader.byte()
            start = reader.skip(reader.u32())
            if kind == _FUNCTION_NAMES[0]:
                listed = Reader(data, reader.place, start, reader.position)
                for _ in range(listed.u32()):
                    index = listed.u32()
                    names[index] = listed.name()
    except ModuleRefused:
        pass  # names are for people, and wasmtime does not insist on them either
    return names


def _name_section(names: tuple[str, ...], imported: int) -> bytes:
    entries = [
        leb128(index if index < imported else index + SHIFT) + sized(name.encode()) for index, name in enumerate(names)
    ]
    functions = _FUNCTION_NAMES + sized(leb128(len(entries)) + b"".join(entries))
    return b"\x00" + sized(sized(b"name") + functions)
