"""Backtraces: a guest's frames have the lines that its DWARF gives them, and hostile DWARF costs next to nothing."""

from __future__ import annotations

import re
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.backtrace import (
    MAX_NAME_LENGTH,
    NO_OFFSET,
    Frame,
    described,
    read_source_lines,
    without_debug_sections,
)
from warren.plugins.dwarf import MAX_FILES, MAX_LINE_BYTES, LineTable, read_line_table
from warren.plugins.growth import WITNESS_EXPORT, with_growth_witness
from warren.plugins.wasm_binary import leb128, read_sections, section_reader, sized, with_contents

GUESTS = Path(__file__).parent / "wasi"
DWARF_4, DWARF_5 = ((GUESTS / f"broken-{version}.wasm").read_bytes() for version in (4, 5))


def trap(module: bytes) -> wasmtime.Trap:
    """How `handle_request` of this module ends."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, module), [])
    function = instance.exports(store)["handle_request"]
    assert isinstance(function, wasmtime.Func)
    with pytest.raises(wasmtime.Trap) as caught:
        function(store, 0, 0)
    return caught.value


def frames(module: bytes) -> list[Frame]:
    return [
        Frame(each.func_name, each.func_index, each.func_offset, each.module_offset) for each in trap(module).frames
    ]


def debug_sections(module: bytes) -> dict[str, bytes]:
    sections = read_sections(module)
    return {each.name: module[each.start : each.end] for each in sections if each.name.startswith(".debug_")}


@pytest.mark.parametrize("module", [DWARF_4, DWARF_5], ids=["DWARF 4", "DWARF 5"])
class TestLines:
    def test_they_are_those_that_wasmtime_finds(self, module: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        ours = [described(frame, read_source_lines(module, module)) for frame in frames(module)]
        monkeypatch.setenv("WASMTIME_BACKTRACE_DETAILS", "1")
        theirs = re.findall(r"- (\w+)\n +at \./(broken\.c:\d+):\d+", trap(module).message)
        assert ours == [f"{name} at {place}" for name, place in theirs]
        assert ours == ["first_digit at broken.c:8", "parse at broken.c:15", "handle_request at broken.c:25"]

    def test_they_are_found_for_the_module_that_warren_makes_of_it(self, module: bytes) -> None:
        compiled = without_debug_sections(with_growth_witness(module))
        assert WITNESS_EXPORT.encode() in compiled
        lines = read_source_lines(module, compiled)
        assert described(frames(compiled)[1], lines) == "parse at broken.c:15"

    def test_a_function_of_another_size_has_none(self, module: bytes) -> None:
        lines = read_source_lines(module, _with_longer_first_function(module))
        assert lines is not None
        assert lines.find(0, 5) is None
        assert lines.find(1, 5) is not None

    def test_any_damage_is_survived(self, module: bytes) -> None:
        sections = debug_sections(module)

        @given(st.data())
        def check(draw: st.DataObject) -> None:
            line = bytearray(sections[".debug_line"])
            for _ in range(draw.draw(st.integers(1, 4))):
                line[draw.draw(st.integers(0, len(line) - 1))] = draw.draw(st.integers(0, 255))
            table = read_line_table({**sections, ".debug_line": bytes(line[: draw.draw(st.integers(0, len(line)))])})
            for address in range(0, 400, 7):
                table.find(address)

        check()

    def test_without_debug_sections_is_the_same_module_without(self, module: bytes) -> None:
        stripped = without_debug_sections(module)
        assert not debug_sections(stripped)
        assert [frame.name for frame in frames(stripped)] == ["first_digit", "parse", "handle_request"]
        assert read_source_lines(stripped, stripped) is None
        assert without_debug_sections(stripped) is stripped


def _with_longer_first_function(module: bytes) -> bytes:
    code = next(section for section in read_sections(module) if section.name == "code")
    reader = section_reader(module, code)
    count = reader.u32()
    start = reader.skip(reader.u32())
    longer = leb128(count) + sized(module[start : reader.position] + b"\x0b") + module[reader.position : code.end]
    return with_contents(module, read_sections(module), {"code": longer})


class TestWords:
    def test_without_a_line_there_is_the_offset(self) -> None:
        assert described(Frame("parse", 3, 7, 0x3F2), None) == "parse at 0x3f2"

    def test_without_a_name_there_is_the_number(self) -> None:
        assert described(Frame(None, 3, 7, NO_OFFSET), None) == "function 3"

    def test_a_name_cannot_be_long_or_control_the_terminal(self) -> None:
        shown = described(Frame("\x1b[2J" + "x" * 10_000, 3, 7, NO_OFFSET), None)
        assert shown.isprintable()
        assert len(shown) == MAX_NAME_LENGTH

    def test_a_path_cannot_either(self) -> None:
        program = _extended(b"\x02" + struct.pack("<I", 16)) + b"\x01" + b"\x02\x20" + _extended(b"\x01")
        table = read_line_table({".debug_line": _unit_4(program, name=b"\x1b[2J" + b"y" * 10_000)})
        place = table.find(20)
        assert place is not None
        assert place.isprintable()
        assert len(place) < 500


class TestHostile:
    """What is not a line table, and what is one too many."""

    def test_no_section_is_no_table(self) -> None:
        assert read_line_table({}) == LineTable()

    def test_code_before_the_first_line_and_after_the_last_has_none(self) -> None:
        program = _extended(b"\x02" + struct.pack("<I", 16)) + b"\x01" + b"\x02\x20" + _extended(b"\x01")
        table = read_line_table({".debug_line": _unit_4(program)})
        assert [table.find(address) for address in (15, 16, 47, 48)] == [None, "a.c:1", "a.c:1", None]

    @pytest.mark.parametrize("address", [0, 0xFFFF_FFFF], ids=["zero", "the end"])
    def test_what_a_linker_threw_away_hides_nothing(self, address: int) -> None:
        program = _extended(b"\x02" + struct.pack("<I", address)) + b"\x01" + b"\x02\x20" + _extended(b"\x01")
        assert read_line_table({".debug_line": _unit_4(program)}).find(16) is None

    def test_a_bad_unit_hides_only_what_follows(self) -> None:
        program = _extended(b"\x02" + struct.pack("<I", 16)) + b"\x01" + b"\x02\x20" + _extended(b"\x01")
        table = read_line_table({".debug_line": _unit_4(program) + b"\xff" * 40})
        assert table.find(16) == "a.c:1"

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"\xff" * MAX_LINE_BYTES, id="noise"),
            pytest.param(b"\0" * MAX_LINE_BYTES, id="empty units"),
        ],
    )
    def test_nonsense_is_read_in_bounds(self, line: bytes) -> None:
        with _bounded():
            read_line_table({".debug_line": line})

    def test_a_million_rows_are_read_in_bounds(self) -> None:
        with _bounded():
            read_line_table({".debug_line": _unit_4(b"\xff" * (MAX_LINE_BYTES - 100))})

    def test_a_line_number_without_end_is_read_in_bounds(self) -> None:
        with _bounded():
            read_line_table({".debug_line": _unit_4(b"\x03" + b"\xff" * (MAX_LINE_BYTES - 100))})

    def test_four_billion_files_of_no_bytes_are_read_in_bounds(self) -> None:
        with _bounded():
            read_line_table({".debug_line": _unit_5(b"\0" + leb128(0xFFFF_FFFF))})

    def test_files_that_share_one_long_name_are_read_in_bounds(self) -> None:
        lists = b"\x01\x01\x0e" + leb128(MAX_FILES) + bytes(4 * MAX_FILES)
        with _bounded():
            read_line_table({".debug_line": _unit_5(lists + lists), ".debug_str": b"x" * 100_000})

    def test_dwarf_that_would_keep_wasmtime_for_seconds_never_reaches_it(self) -> None:
        bomb = _bomb(6_000)
        assert b".debug_line" in bomb
        assert b".debug_" not in without_debug_sections(bomb)


@contextmanager
def _bounded() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def _extended(content: bytes) -> bytes:
    return b"\0" + sized(content)


def _header(version: int, lists: bytes) -> bytes:
    """A unit's header from its version on: no special opcode moves the line by more than 10."""
    head = bytes([1, 1, 1, 0xFB, 14, 13, *(0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)]) + lists
    sizes = b"\x04\0" if version == 5 else b""
    return struct.pack("<H", version) + sizes + struct.pack("<I", len(head)) + head


def _unit_4(program: bytes, name: bytes = b"a.c") -> bytes:
    unit = _header(4, b"\0" + name + b"\0\0\0\0\0") + program
    return struct.pack("<I", len(unit)) + unit


def _unit_5(lists: bytes) -> bytes:
    unit = _header(5, lists)
    return struct.pack("<I", len(unit)) + unit


def _bomb(size: int) -> bytes:
    """A module that traps, whose DWARF says of each of `size` functions that it has the same `size` pieces."""
    abbreviations = bytes((1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0, 0, 2, 0x2E, 0, 0x55, 0x17, 0, 0, 0))
    entries = b"\x01" + struct.pack("<II", 0, 1000) + (b"\x02" + bytes(4)) * size + b"\0"
    unit = struct.pack("<HIB", 4, 0, 4) + entries
    pieces = b"".join(struct.pack("<II", 1 + index, 2 + index) for index in range(size)) + bytes(8)
    sections = {
        ".debug_abbrev": abbreviations,
        ".debug_info": struct.pack("<I", len(unit)) + unit,
        ".debug_ranges": pieces,
        ".debug_str": b"\0",
        ".debug_line": b"",
    }
    text = '(module (func (export "handle_request") (param i32 i32) unreachable))'
    custom = b"".join(b"\0" + sized(sized(name.encode()) + content) for name, content in sections.items())
    return bytes(wasmtime.wat2wasm(text)) + custom
