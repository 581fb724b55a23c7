"""The growth witness: a rewritten module does what it did before, and tells how much memory it was refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import wasmtime
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from warren.plugins.errors import ModuleRefused
from warren.plugins.growth import WITNESS_EXPORT, with_growth_witness
from warren.plugins.instructions import IMMEDIATES, LISTS
from warren.plugins.module import read_module
from warren.plugins.wasm_binary import PREAMBLE_BYTES, SECTION_IDS, leb128, sized

PAGE_BYTES = 65_536
LIMIT_PAGES = 4
SAMPLES = sorted((Path(__file__).parents[2] / "plugins" / "examples").glob("*/*.wasm"))

#: `memory.grow` as bytes, and as what it is not.
DISGUISES = {
    "a block that aborts": "(if (i32.const 0) (then block unreachable end))",
    "a loop that aborts": "(if (i32.const 0) (then loop unreachable end))",
    "an if that aborts": "(if (i32.const 0) (then i32.const 0 if unreachable end))",
    "a load at offset 64 before an abort": "(if (i32.const 0) (then i32.const 0 i32.load offset=64 unreachable))",
    "a call of function 64, then an abort": "(if (i32.const 0) (then call 64 unreachable))",
    "a vector": "(drop (v128.const i8x16 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0))",
    "a shuffle": """(drop (i8x16.shuffle 16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 0
                   (v128.const i64x2 0x4000400040004000 0) (v128.const i64x2 0 0x0040)))""",
    "a lane at offset 64": "(drop (v128.load8_lane offset=64 0 (i32.const 0) (v128.const i64x2 0 0)))",
    "a relaxed vector": "(drop (i8x16.relaxed_swizzle (v128.const i64x2 0x40 0) (v128.const i64x2 0x40 0)))",
    "a float": "(drop (f32.const 3.0013427734375))(drop (f64.const 0x1.0004000400040p+1))",
    "an integer": "(drop (i32.const 64))(drop (i64.const 0x4000_4000_4000))",
    "a long jump": "(block (block (block (br_table 0 1 2 0 1 2 (i32.const 64)))))",
    "many small jumps": f"(block (br_table {'0 ' * 64} (i32.const 0)))",
    "a typed choice": "(drop (select (result funcref) (ref.null func) (ref.func 0) (i32.const 64)))",
    "an indirect call": "(drop (call_indirect (type $unary) (i32.const 7) (i32.const 0)))",
    "bulk memory": """(memory.fill (i32.const 64) (i32.const 0) (i32.const 64)) (memory.copy (i32.const 0)
                   (i32.const 64) (i32.const 8)) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 2))
                   (data.drop $d)""",
    "tables": """(drop (table.grow $t (ref.null func) (i32.const 64))) (table.fill $t (i32.const 0) (ref.null func)
                   (i32.const 1)) (table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 1)) (drop (table.size $t))
                   (table.set $t (i32.const 0) (ref.func $plus)) (drop (table.get $t (i32.const 0)))
                   (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)""",
    "references": "(drop (ref.is_null (ref.null extern)))",
    "saturation": "(drop (i32.trunc_sat_f64_u (f64.const 64)))(drop (i64.extend8_s (i64.const 64)))",
    "blocks with types": """i32.const 64 i32.const 0 block (type $binary) i32.add end loop (type $unary) end
                   if (result i64) i64.const 64 else i64.const 0 end drop""",
}

FRAME = """
(module
  (type $unary (func (param i32) (result i32)))
  (type $binary (func (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $t 4 funcref)
  (global $kept (export "kept") (mut i32) (i32.const 5))
  (func $plus (export "plus") (type $unary) (i32.add (local.get 0) (i32.const 64)))
  (func (export "run") (param i32) (result i32) (local i32 i32)
    {body}
  )
  (func (export "last") (result i32) i32.const 42)
  {extra}
  (elem (table $t) (i32.const 0) func $plus $plus)
  (elem $e func $plus)
  (data (i32.const 16) "\\40\\00\\40\\00")
  (data $d "\\40\\00"))
"""
GROW_ARGUMENT = "(memory.grow (local.get 0))"


@dataclass(frozen=True)
class Ending:
    """All that can be seen of a call."""

    result: int | wasmtime.TrapCode | None
    memory: bytes
    kept: int


def new_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True
    for proposal in ("threads", "gc", "function_references", "exceptions", "memory64", "multi_memory"):
        setattr(config, f"wasm_{proposal}", False)
    return wasmtime.Engine(config)


def assemble(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def framed(body: str, functions: int = 0) -> bytes:
    return assemble(FRAME.format(body=body, extra="(func)" * functions))


def is_valid(data: bytes) -> bool:
    try:
        wasmtime.Module.validate(new_engine(), data)
    except wasmtime.WasmtimeError:
        return False
    return True


def call(data: bytes, argument: int = 0, name: str = "run") -> tuple[Ending, int | None]:
    """How the call ends under a limit of four pages, and what the witness says, if there is one."""
    engine = new_engine()
    store = wasmtime.Store(engine)
    store.set_fuel(1_000_000)
    store.set_limits(memory_size=LIMIT_PAGES * PAGE_BYTES)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, data), []).exports(store)
    function, memory, kept = exports[name], exports["memory"], exports["kept"]
    assert isinstance(function, wasmtime.Func)
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(kept, wasmtime.Global)
    try:
        result = function(store, argument) if name == "run" else function(store)
    except wasmtime.Trap as trap:
        result = trap.trap_code
    ending = Ending(result, bytes(memory.read(store)), kept.value(store))
    witness = exports.get(WITNESS_EXPORT)
    return ending, witness.value(store) & 0xFFFFFFFF if isinstance(witness, wasmtime.Global) else None


def custom(name: str, content: bytes = b"x") -> bytes:
    return b"\0" + sized(sized(name.encode()) + content)


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_growth_within_the_limit_leaves_no_witness(pages: int) -> None:
    before, _ = call(framed(GROW_ARGUMENT), pages)
    after, refused = call(with_growth_witness(framed(GROW_ARGUMENT)), pages)
    assert after == before
    assert after.result == 1
    assert len(after.memory) == (1 + pages) * PAGE_BYTES
    assert refused == 0


@pytest.mark.parametrize("pages", [4, 5, 65_536, 0x7FFFFFFF, -1])
def test_refused_growth_is_witnessed(pages: int) -> None:
    before, _ = call(framed(GROW_ARGUMENT), pages)
    after, refused = call(with_growth_witness(framed(GROW_ARGUMENT)), pages)
    assert after == before
    assert after.result == -1
    assert refused == pages & 0xFFFFFFFF


def test_the_largest_refusal_is_kept_and_later_success_does_not_hide_it() -> None:
    grow = "(drop (memory.grow (i32.const {})))"
    body = "".join(grow.format(pages) for pages in (10, -5, 20, 1, 0)) + "(local.get 0)"
    ending, refused = call(with_growth_witness(framed(body)), 7)
    assert ending.result == 7
    assert len(ending.memory) == 2 * PAGE_BYTES
    assert refused == 0x1_0000_0000 - 5


def test_a_guest_that_aborts_after_a_refusal_leaves_the_witness() -> None:
    body = f"(if (i32.eq {GROW_ARGUMENT} (i32.const -1)) (then unreachable)) (i32.const 0)"
    ending, refused = call(with_growth_witness(framed(body)), 100)
    assert ending.result == wasmtime.TrapCode.UNREACHABLE
    assert refused == 100


def test_a_refusal_by_the_modules_own_maximum_is_witnessed_too() -> None:
    text = FRAME.format(body=GROW_ARGUMENT, extra="").replace(
        '(memory (export "memory") 1)', '(memory (export "memory") 1 2)'
    )
    assert call(with_growth_witness(assemble(text)), 2)[1] == 2


def test_a_module_that_never_grows_is_returned_as_it_is() -> None:
    data = framed("".join(DISGUISES.values()) + "(local.get 0)", functions=70)
    assert b"\x40\x00" in data
    assert with_growth_witness(data) is data
    assert with_growth_witness(data[:PREAMBLE_BYTES]) == data[:PREAMBLE_BYTES]


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES.keys())
def test_bytes_that_only_look_like_growth_are_left_alone(disguise: str) -> None:
    data = framed(f"{disguise} {GROW_ARGUMENT} drop {disguise} {GROW_ARGUMENT}", functions=130)
    rewritten = with_growth_witness(data)
    assert is_valid(rewritten)
    for pages in (1, 9):
        before, _ = call(data, pages)
        after, refused = call(rewritten, pages)
        assert after == before
        assert refused == (9 if pages == 9 else 0)


@pytest.mark.parametrize("functions", [0, 124, 125, 126, 200])
def test_every_width_of_the_function_index_is_written(functions: int) -> None:
    data = framed(GROW_ARGUMENT, functions)
    rewritten = with_growth_witness(data)
    assert call(rewritten, 9)[1] == 9
    assert call(rewritten, name="last")[0].result == 42


def test_a_function_index_of_three_bytes_is_written() -> None:
    assert is_valid(with_growth_witness(framed(GROW_ARGUMENT, functions=16_385)))


def test_imports_are_counted_among_the_indices() -> None:
    data = assemble("""(module (import "a" "f" (func)) (import "a" "g" (global i32)) (import "a" "m" (memory 1))
                       (func (export "run") (param i32) (result i32) (memory.grow (local.get 0))))""")
    rewritten = with_growth_witness(data)
    engine = new_engine()
    store = wasmtime.Store(engine)
    store.set_fuel(1_000)
    imports: list[wasmtime.Func | wasmtime.Global | wasmtime.Memory] = [
        wasmtime.Func(store, wasmtime.FuncType([], []), lambda: None),
        wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.i32(), mutable=False), wasmtime.Val.i32(1)),
        wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, 2))),
    ]
    exports = wasmtime.Instance(store, wasmtime.Module(engine, rewritten), imports).exports(store)
    run, witness = exports["run"], exports[WITNESS_EXPORT]
    assert isinstance(run, wasmtime.Func)
    assert isinstance(witness, wasmtime.Global)
    assert run(store, 3) == -1
    assert witness.value(store) == 3


def test_sections_that_are_missing_are_inserted_in_order() -> None:
    data = assemble("(module (memory 1) (func $grow (drop (memory.grow (i32.const 1)))) (start $grow))")
    names = [section.name for section in read_module(with_growth_witness(data)).sections if not section.is_custom]
    assert names == [name for name in SECTION_IDS if name in names]
    assert {"global", "export", "start"} <= set(names)


def test_names_stay_right() -> None:
    data = assemble("""(module (memory 1) (func $grower (param i32) (result i32) (memory.grow (local.get 0)))
                       (func $culprit unreachable)
                       (func (export "run") (drop (call $grower (i32.const 1))) call $culprit))""")
    engine = new_engine()
    store = wasmtime.Store(engine)
    store.set_fuel(1_000)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, with_growth_witness(data)), [])
    run = instance.exports(store)["run"]
    assert isinstance(run, wasmtime.Func)
    with pytest.raises(wasmtime.Trap) as caught:
        run(store)
    assert caught.value.frames[0].func_name == "culprit"


@pytest.mark.parametrize(("functions", "kept"), [(0, True), (130, False)])
def test_debugging_information_is_dropped_only_when_code_moves(functions: int, kept: bool) -> None:  # noqa: FBT001
    data = framed(GROW_ARGUMENT, functions)
    speaking = [".debug_line", ".debug_info", "metadata.code.branch_hint"]
    data += b"".join(map(custom, [*speaking, "producers"]))
    rewritten = [section.name for section in read_module(with_growth_witness(data)).custom_sections]
    assert "producers" in rewritten
    assert [name for name in rewritten if name in speaking] == (speaking if kept else [])


def test_the_witnesss_name_is_reserved() -> None:
    data = assemble(f'(module (global (export "{WITNESS_EXPORT}") i32 i32.const 0))')
    with pytest.raises(ModuleRefused, match="a name which Warren keeps for itself"):
        with_growth_witness(data)


def test_a_rewritten_module_is_not_rewritten_again() -> None:
    with pytest.raises(ModuleRefused, match=WITNESS_EXPORT):
        with_growth_witness(with_growth_witness(framed(GROW_ARGUMENT)))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("(memory 1 1 shared) (func (drop (memory.grow (i32.const 1))) atomic.fence)", "threads"),
        ("(memory 1) (func (drop (memory.grow (i32.const 1))) (drop (ref.i31 (i32.const 1))))", "garbage collection"),
        ("(memory 1) (func (drop (memory.grow (i32.const 1))) (try_table))", "exceptions"),
        ("(memory 1) (memory 1) (func (drop (memory.grow 1 (i32.const 1))))", "memories"),
    ],
)
def test_instructions_of_other_proposals_are_refused(module: str, reason: str) -> None:
    with pytest.raises(ModuleRefused, match=reason):
        with_growth_witness(assemble(f"(module {module})"))


def _immediate_bytes(opcode: bytes) -> int | None:
    """How many zero bytes wasmtime needs behind an opcode; None when it takes none of it.

    The v128.const behind it, of bytes that each end a function, is read as such only when nothing of it was swallowed.
    """
    abort, vector, drop, end = b"\0", b"\xfd\x0c" + b"\x0b" * 16, b"\x1a", b"\x0b"
    before, after = SURROUNDINGS.split(b"BODY")
    for count in range(17):
        body = b"\x01\x01\x7f" + abort + opcode + bytes(count) + vector + drop + abort + end
        if is_valid(before + b"\x0a" + sized(b"\x01" + sized(body)) + after):
            return count
    return None


#: One of everything that an instruction can refer to: type, function, table, memory, global, element and data segment.
SURROUNDINGS = (
    b"\0asm\1\0\0\0"
    + b"".join(
        bytes.fromhex(section)
        for section in (
            "01 04 01 60 00 00",
            "03 02 01 00",
            "04 04 01 70 00 01",
            "05 03 01 00 01",
            "06 06 01 7f 01 41 00 0b",
            "09 05 01 01 00 01 00",
            "0c 01 01",
        )
    )
    + b"BODY"
    + bytes.fromhex("0b 03 01 01 00")
)

#: Read in another way than zeros can show: else and end, blocks, lists, and null references of a type.
NOT_COMPARED = {0x02, 0x03, 0x04, 0x05, 0x0B, *LISTS, 0xD0}


@pytest.mark.parametrize(("prefix", "opcodes"), [(None, 0x100), (0xFC, 0x40), (0xFD, 0x200)])
def test_every_instruction_has_the_immediates_that_wasmtime_reads(prefix: int | None, opcodes: int) -> None:
    differing = {}
    for opcode in range(opcodes):
        if prefix is None and opcode in {*NOT_COMPARED, 0xFC, 0xFD}:
            continue
        key = opcode if prefix is None else prefix << 16 | opcode
        encoded = bytes([opcode]) if prefix is None else bytes([prefix]) + leb128(opcode)
        ours = sum(IMMEDIATES[key]) if key in IMMEDIATES else None
        theirs = _immediate_bytes(encoded)
        if theirs is not None and theirs != ours:
            differing[hex(key)] = (ours, theirs)
    assert not differing


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_plugins_are_rewritten_and_valid(path: Path) -> None:
    data = path.read_bytes()
    rewritten = with_growth_witness(data)
    assert is_valid(rewritten)
    assert {*read_module(rewritten).exports} - {*read_module(data).exports} == {WITNESS_EXPORT}


# Random programs. `GROW` stands for growth: the instruction itself, or for comparison a function written in the text
# format that does what the witness should.

ORACLE = """
(global $refused (export "oracle") (mut i32) (i32.const 0))
(func $grow (param i32) (result i32) (local i32)
  (local.set 1 (memory.grow (local.get 0)))
  (if (i32.eq (local.get 1) (i32.const -1)) (then
    (if (i32.gt_u (local.get 0) (global.get $refused)) (then (global.set $refused (local.get 0))))))
  (local.get 1))
"""

numbers = st.sampled_from([0, 1, 2, 3, 5, 64, 0x4000, 0x400040, 65_535, 65_536, -1, -64]) | st.integers(
    -(2**31), 2**31 - 1
)
operators = st.sampled_from(["add", "sub", "and", "xor", "shl", "shr_u", "eq", "lt_s", "gt_u", "div_u", "rem_s"])
local = st.integers(0, 2)


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    shape: Callable[..., st.SearchStrategy[str]] = st.builds
    return st.one_of(
        shape("(GROW {})".format, inner),
        shape("(i32.{} {} {})".format, operators, inner, inner),
        shape("(local.tee {} {})".format, local, inner),
        shape("(block (result i32) {})".format, inner),
        shape("(loop (result i32) {})".format, inner),
        shape("(if (result i32) {} (then {}) (else {}))".format, inner, inner, inner),
        shape("(if (result i32) {} (then unreachable) (else {}))".format, inner, inner),
        shape("(block (result i32) (br_table 0 0 0 {} {}))".format, inner, inner),
        shape("(block (result i32) (drop (br_if 0 {} {})) {})".format, inner, inner, inner),
        shape("(select {} {} {})".format, inner, inner, inner),
        shape("(select (result i32) {} {} {})".format, inner, inner, inner),
        shape("(i32.load offset=64 {})".format, inner),
        shape("(block (result i32) (i32.store8 offset=16384 {} {}) (memory.size))".format, inner, inner),
        shape("(block (result i32) (global.set $kept {}) (global.get $kept))".format, inner),
        shape("(call $plus {})".format, inner),
        shape("(call_indirect (type $unary) {} {})".format, inner, inner),
        shape("(i32x4.extract_lane 1 (i32x4.replace_lane 1 (v128.const i64x2 64 0x40004000) {}))".format, inner),
        shape("(i32.trunc_sat_f64_s (f64.convert_i32_s {}))".format, inner),
        shape("(block (result i32) (block (block (drop {}))) {})".format, inner, inner),
    )


expressions = st.recursive(
    st.builds("(i32.const {})".format, numbers) | st.builds("(local.get {})".format, local), _deeper, max_leaves=25
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("(GROW (i32.const 64))", 0, 0)
@given(expressions, numbers, st.sampled_from([0, 60, 130]))
def test_random_programs_do_the_same_and_their_refusals_are_witnessed(
    program: str, argument: int, functions: int
) -> None:
    plain = framed(program.replace("GROW", "memory.grow"), functions)
    rewritten = with_growth_witness(plain)
    assert is_valid(rewritten)
    before, _ = call(plain, argument)
    after, refused = call(rewritten, argument)
    assert after == before
    oracle = FRAME.format(body=program.replace("GROW", "call $grow"), extra=ORACLE).replace("oracle", WITNESS_EXPORT)
    expected, expected_refusal = call(assemble(oracle), argument)
    assert after == expected
    assert refused == (expected_refusal if "GROW" in program else None)


@cache
def seeds() -> tuple[bytes, ...]:
    everything = "".join(DISGUISES.values()) + GROW_ARGUMENT
    return framed(GROW_ARGUMENT), framed(everything, functions=70), *(path.read_bytes() for path in SAMPLES)


mutations = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 4), mutations)
def test_mutated_modules_are_refused_or_stay_as_valid_as_they_were(
    seed: int, changes: list[tuple[float, bytes, int]]
) -> None:
    data = seeds()[seed % len(seeds())]
    for place, inserted, removed in changes:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    try:
        read_module(data)
        rewritten = with_growth_witness(data)
    except ModuleRefused:
        assert not is_valid(data)
    else:
        assert not is_valid(data) or is_valid(rewritten)
