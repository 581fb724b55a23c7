"""Reading what an untrusted module declares, and checking that against the `core` ABI."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.core_abi import CoreAbi, check_core_abi
from warren.plugins.errors import ModuleRefused
from warren.plugins.module import (
    FuncType,
    Import,
    MemoryType,
    ModuleInfo,
    ModuleLimits,
    read_module,
)
from warren.plugins.wasm_binary import MAGIC, SECTION_IDS, Reader, leb128, sized

PREAMBLE = b"\0asm\x01\0\0\0"
LOG = FuncType(("i32", "i32", "i32"))
HOST_CALL = FuncType(("i32",) * 4, ("i64",))
PROVIDED = {("warren_v1", "log"): LOG, ("warren_v1", "host_call"): HOST_CALL}
SAMPLES = sorted((Path(__file__).parents[2] / "plugins" / "examples").glob("*/*.wasm"))

WHOLE = """
(module
  (type $unused (func (param f32 f64) (result externref)))
  (import "warren_v1" "log" (func $log (param i32 i32 i32)))
  (import "env" "base" (global i32))
  (global $g (mut i64) (i64.const 7))
  (table 3 funcref)
  (memory (export "memory") 2 10)
  (func (export "allocate") (param i32) (result i32) (local i64 i64 f32) local.get 0)
  (func (export "handle_request") (param i32 i32) (result i64) i64.const 0)
  (func $main)
  (export "table" (table 0))
  (export "counter" (global $g))
  (start $main)
  (elem (i32.const 0) $log $main)
  (data (i32.const 8) "hello"))
"""

MINIMAL = """
(memory (export "memory") 1)
(func (export "allocate") (param i32) (result i32) i32.const 0)
"""
PACKED = '(func (export "handle_request") (param i32 i32) (result i64) i64.const 0)'


def assemble(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text if text.lstrip().startswith("(module") else f"(module {text})"))


def binary(**sections: str) -> bytes:
    """A module of these sections, each content given in hex."""
    contents = {name.replace("_", " "): bytes.fromhex(content) for name, content in sections.items()}
    return PREAMBLE + b"".join(bytes([SECTION_IDS[name]]) + sized(content) for name, content in contents.items())


def custom(name: str, content: bytes) -> bytes:
    return b"\0" + sized(sized(name.encode()) + content)


def refusal(data: bytes, limits: ModuleLimits | None = None) -> str:
    with pytest.raises(ModuleRefused) as caught:
        read_module(data) if limits is None else read_module(data, limits)
    return caught.value.reason


def abi_of(text: str) -> CoreAbi:
    return check_core_abi(read_module(assemble(text)), PROVIDED)


def abi_refusal(text: str) -> str:
    with pytest.raises(ModuleRefused) as caught:
        abi_of(text)
    return caught.value.reason


def test_a_module_is_read_as_it_declares_itself() -> None:
    info = read_module(assemble(WHOLE))
    assert info.imports == (Import("warren_v1", "log", "func", LOG), Import("env", "base", "global"))
    assert {name: (export.kind, export.signature) for name, export in info.exports.items()} == {
        "memory": ("memory", None),
        "allocate": ("func", FuncType(("i32",), ("i32",))),
        "handle_request": ("func", FuncType(("i32", "i32"), ("i64",))),
        "table": ("table", None),
        "counter": ("global", None),
    }
    assert info.memory == MemoryType(2, 10)
    assert info.has_start
    assert info.function_count == 4  # one of them imported
    assert info.global_count == 2


def test_the_empty_module_declares_nothing() -> None:
    assert read_module(PREAMBLE) == ModuleInfo(
        imports=(),
        exports={},
        memory=None,
        has_start=False,
        type_count=0,
        function_count=0,
        global_count=0,
        local_count=0,
        sections=(),
    )


def test_custom_sections_are_listed_with_their_places() -> None:
    data = PREAMBLE + custom("greeting", b"hello") + custom("code", b"")
    greeting, code = read_module(data).custom_sections
    assert (greeting.name, data[greeting.start : greeting.end]) == ("greeting", b"hello")
    assert (code.name, code.start) == ("code", code.end)


def test_the_name_section_is_noticed() -> None:
    assert read_module(assemble("(func $named)")).has_name_section
    assert not read_module(PREAMBLE).has_name_section


def test_signatures_read_like_the_text_format() -> None:
    assert str(FuncType(("i32", "i64"), ("f32",))) == "(func (param i32 i64) (result f32))"
    assert str(FuncType()) == "(func)"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b"  (module)", "this is WebAssembly text; assemble it first"),
        (b";; a comment\n(module)", "this is WebAssembly text; assemble it first"),
        (MAGIC + b"\x0d\0\x01\0", "this is a WebAssembly component, not a core module"),
        (MAGIC + b"\x02\0\0\0", "version 0x00000002; only version 1 is known"),
        (MAGIC, "only version 1 is known"),
        (b"\x7fELF\x02\x01", r"this is not WebAssembly: it begins with b'\\x7fELF'"),
    ],
)
def test_what_is_no_core_module_is_named(data: bytes, sentence: str) -> None:
    assert re.search(sentence, refusal(data))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (binary(type="01 5f 00"), "the type section has a type definition of the garbage collection proposal"),
        (binary(type="01 60 01 69 00"), "the type section has a value type of the exceptions proposal"),
        (binary(type="01 60 01 64 00 00"), "a value type of the typed function references proposal"),
        (binary(type="01 60 02 7f 6e 00"), "a value type of the garbage collection proposal"),
        (binary(type="01 60 01 01 00"), "unknown value type 0x01"),
        (binary(table="01 40 00 70 00 01 d0 70 0b"), "typed function references proposal"),
        (binary(table="01 7f 00 01"), "a table can hold funcref or externref only"),
        (binary(memory="01 03 01 02"), "the memory section uses the threads"),
        (binary(memory="01 04 01"), "the memory section uses the memory64 proposal"),
        (binary(memory="01 08 01 00"), "the memory section uses the custom page sizes proposal"),
        (binary(memory="01 10 01"), "unknown limits 0x10"),
        (binary(memory="02 00 01 00 01"), "the module has 2 memories; at most 1"),
        (PREAMBLE + b"\x0d\x03\x01\0\0", "tag section, which belongs to the exceptions proposal"),
        (binary(**{"import": "01 01 61 01 62 04 00 00"}), "the import section names a tag"),
    ],
)
def test_other_proposals_are_refused_by_name(data: bytes, sentence: str) -> None:
    assert sentence in refusal(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (PREAMBLE + b"\x0e\0", "unknown section id 14"),
        (PREAMBLE + b"\x01\x05\0", "it ends too early"),
        (PREAMBLE + b"\x01\x80\x80\x80\x80\x80\x00", "longer than five bytes"),
        (PREAMBLE + b"\x01\xff\xff\xff\xff\x1f", "does not fit 32 bits"),
        (PREAMBLE + b"\0\x02\x01\xff", "a name is not UTF-8"),
        (binary(memory="00", type="00"), "the type section is repeated or out of order"),
        (binary(type="00") + binary(type="00")[8:], "the type section is repeated or out of order"),
        (binary(type="00 00"), "the type section, near byte 11: 1 bytes too many"),
        (binary(type="05"), "it ends too early"),
        (binary(type="01 60 01"), "it ends too early"),
        (binary(function="01 00"), "there is no type 0"),
        (binary(type="01 60 00 00", function="01 00"), "1 functions are declared and 0 have code"),
        (binary(type="01 60 00 00", function="01 00", code="00"), "1 functions are declared and 0 have code"),
        (binary(type="01 60 00 00", function="01 00", code="01 05 00 0b"), "it ends too early"),
        (binary(type="01 60 00 00", function="01 00", code="01 02 01 0b"), "it ends too early"),
        (binary(export="01 01 61 00 00"), "'a' is func 0, which does not exist"),
        (binary(export="01 01 61 05 00"), "unknown kind 0x05"),
        (binary(memory="01 00 01", export="02 01 61 02 00 01 61 02 00"), "'a' is exported twice"),
        (binary(memory="01 01 02 01"), "a maximum of 1, below the minimum of 2"),
        (binary(memory="01 00 81 80 04"), "a memory of more than 65536 pages"),
        (binary(start="00"), "there is no function 0"),
        (
            binary(type="01 60 01 7f 00", function="01 00", start="00", code="01 02 00 0b"),
            "the start function is (func (param i32))",
        ),
    ],
)
def test_a_malformed_module_is_refused_with_the_place(data: bytes, sentence: str) -> None:
    reason = refusal(data)
    assert "malformed module" in reason
    assert sentence in reason


@pytest.mark.parametrize(
    ("text", "limits", "sentence"),
    [
        ("(func)", ModuleLimits(module_bytes=10), "bytes; at most 10 are accepted"),
        ("(type (func)) (type (func (param i32)))", ModuleLimits(types=1), "2 types; at most 1"),
        ("(type (func (param i32 i32)))", ModuleLimits(values=1), "2 parameters of one function; at most 1"),
        ('(import "a" "b" (func)) (import "a" "c" (func))', ModuleLimits(imports=1), "2 imports; at most 1"),
        ("(func) (func)", ModuleLimits(functions=1), "2 functions; at most 1"),
        ("(table 1 funcref) (table 1 externref)", ModuleLimits(tables=1), "2 tables; at most 1"),
        ('(import "a" "b" (memory 1))', ModuleLimits(memories=0), "1 memories; at most 0"),
        ("(global i32 i32.const 0)", ModuleLimits(globals=0), "1 globals; at most 0"),
        ('(func (export "a") (export "b"))', ModuleLimits(exports=1), "2 exports; at most 1"),
        ("(func $f) (elem func $f)", ModuleLimits(element_segments=0), "1 element segments; at most 0"),
        ('(memory 1) (data "x")', ModuleLimits(data_segments=0), "1 data segments; at most 0"),
        ("(func nop nop nop)", ModuleLimits(body_bytes=4), "5 bytes in one function; at most 4"),
        ("(func (local i32 i32 i64))", ModuleLimits(locals=2), "3 locals in one function; at most 2"),
        (
            "(func (local i32)) (func (local i32))",
            ModuleLimits(total_locals=1),
            "2 locals in all functions; at most 1",
        ),
    ],
)
def test_what_a_module_declares_is_counted(text: str, limits: ModuleLimits, sentence: str) -> None:
    data = assemble(text)
    read_module(data)
    assert sentence in refusal(data, limits)


def test_a_bomb_of_locals_is_refused() -> None:
    body = sized(b"\x01" + leb128(50_000) + b"\x7f\x0b")
    data = binary(type="01 60 00 00") + b"\x03" + sized(leb128(1000) + bytes(1000))
    data += b"\x0a" + sized(leb128(1000) + body * 1000)
    assert len(data) < 10_000
    assert "50,000 locals in one function" in refusal(data)


def test_a_bomb_of_empty_functions_is_refused() -> None:
    count = 130_000
    data = binary(type="01 60 00 00") + b"\x03" + sized(leb128(count) + bytes(count))
    data += b"\x0a" + sized(leb128(count) + b"\x02\0\x0b" * count)
    assert "130,000 functions; at most 50,000" in refusal(data)


def test_a_bomb_of_empty_sections_is_refused() -> None:
    assert "more than 1,000 sections" in refusal(PREAMBLE + custom("", b"") * 1_001)


def test_a_name_as_long_as_the_module_is_shortened_in_the_error() -> None:
    name = "x" * 100_000
    reason = abi_refusal(f'(import "env" "{name}" (func)) {MINIMAL} {PACKED}')
    assert len(reason) < 400


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_plugins_fit_the_abi(path: Path) -> None:
    assert check_core_abi(read_module(path.read_bytes()), PROVIDED).packed


def test_the_least_plugin_fits_the_abi() -> None:
    assert abi_of(MINIMAL + PACKED) == CoreAbi(
        packed=True,
        has_deallocate=False,
        has_initialize=False,
        has_shutdown=False,
        has_health_check=False,
        has_reactor_init=False,
    )


def test_a_plugin_may_have_everything_and_return_a_bare_pointer() -> None:
    abi = abi_of(
        """
        (import "warren_v1" "log" (func (param i32 i32 i32)))
        (import "warren_v1" "host_call" (func (param i32 i32 i32 i32) (result i64)))
        (func (export "handle_request") (param i32 i32) (result i32) i32.const 0)
        (func (export "deallocate") (param i32 i32))
        (func (export "initialize") (param i32 i32) (result i32) i32.const 0)
        (func (export "shutdown") (result i32) i32.const 0)
        (func (export "health_check") (result i32) i32.const 1)
        (func (export "_initialize"))
        """
        + MINIMAL
    )
    assert abi == CoreAbi(
        packed=False,
        has_deallocate=True,
        has_initialize=True,
        has_shutdown=True,
        has_health_check=True,
        has_reactor_init=True,
    )


def test_all_that_is_missing_is_said_at_once() -> None:
    assert abi_refusal("(func)") == "it does not export 'memory', 'allocate', 'handle_request'"


def test_all_that_is_wrong_is_said_at_once() -> None:
    wanted = "(func (param i32 i32) (result i64)) or (func (param i32 i32) (result i32))"
    reason = abi_refusal(
        """
        (import "env" "now" (func (result f64)))
        (import "warren_v1" "log" (func (param i32)))
        (global (export "memory") i32 i32.const 0)
        (func (export "allocate") (param i64) (result i32) i32.const 0)
        (func (export "handle_request") (result i64) i64.const 0)
        (global (export "shutdown") i32 i32.const 0)
        """
    )
    assert reason.split("; ") == [
        "its export 'memory' is a global, and must be its memory",
        "its export 'allocate' is (func (param i64) (result i32)), and must be (func (param i32) (result i32))",
        f"its export 'handle_request' is (func (result i64)), and must be {wanted}",
        "its export 'shutdown' is a global, and must be (func (result i32))",
        "its import 'warren_v1' 'log' is (func (param i32)), and is provided as (func (param i32 i32 i32))",
        "it imports what is not provided here: 'env' 'now'",
    ]


def test_an_import_that_is_no_function_is_refused() -> None:
    text = f'(import "warren_v1" "log" (global i32)) {MINIMAL} {PACKED}'
    assert "its import 'warren_v1' 'log' is a global" in abi_refusal(text)


def test_an_imported_memory_is_refused() -> None:
    reason = abi_refusal('(import "env" "memory" (memory 1)) (export "memory" (memory 0))')
    assert "it imports what is not provided here: 'env' 'memory'" in reason


@pytest.mark.parametrize("signature", ["(param v128)", "(result v128) v128.const i64x2 0 0"])
def test_an_exported_function_with_vectors_is_refused(signature: str) -> None:
    reason = abi_refusal(f'(func (export "fast") {signature}) {MINIMAL} {PACKED}')
    assert reason == "no exported function may take or give a v128, and these do: 'fast'"


def test_a_long_list_of_names_is_cut() -> None:
    imports = "".join(f'(import "env" "f{n}" (func))' for n in range(40))
    assert abi_refusal(f"{imports} {MINIMAL} {PACKED}").endswith("'env' 'f11' and 28 more")


@given(st.integers(min_value=0, max_value=0xFFFFFFFF))
def test_numbers_survive_the_round_trip(number: int) -> None:
    encoded = leb128(number)
    reader = Reader(encoded, "a number")
    assert reader.u32() == number
    reader.expect_end()


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_preamble_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, PREAMBLE + data):
        with contextlib.suppress(ModuleRefused):
            read_module(candidate)
