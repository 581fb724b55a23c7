"""Snapshots: requests of a baked module begin where the initialisation ended, and what cannot be baked is refused."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.guests import MEMORY_BYTES, ask, data, wat
from tests.plugins.conftest import MIB
from tests.plugins.guest_builds import ROOT
from tests.plugins.test_examples_build import CASES, Case
from warren.manifests import Grant, Limits
from warren.plugins.checks import check_module
from warren.plugins.core_abi import check_core_abi
from warren.plugins.engine import Engine
from warren.plugins.errors import ModuleRefused
from warren.plugins.growth import WITNESS_EXPORT
from warren.plugins.guest import PAGE_BYTES, Guest
from warren.plugins.host import STANDARD_FUNCTIONS, Caps, HostSession
from warren.plugins.host_imports import IMPORTS
from warren.plugins.instructions import IMMEDIATES
from warren.plugins.module import read_module
from warren.plugins.sandbox import Sandbox
from warren.plugins.snapshot import Snapshot, _state, take_snapshot
from warren.plugins.snapshot_code import _HARMLESS, _STATEFUL, check_code
from warren.plugins.snapshot_module import (
    BLOCK_BYTES,
    State,
    _constant,
    nonzero_runs,
    with_exported_state,
    with_state,
)
from warren.plugins.wasm_binary import Section, leb128, read_sections, sized

REQUEST: Final = b'{"action":"count","data":null}'
ANSWER: Final = b'{"success":true,"result":0,"error":null}'
ANSWER_AT: Final = 1024
ASK, ASK_DATA = ask("get_time")
CONFIG: Final = b'{"settings":{},"resources":{},"capabilities":[],"environment":{}}'

#: hypothesis runs its examples in one event loop, on which fixtures of the test live too.
WITHIN_ONE_LOOP: Final = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def initialize(body: str) -> str:
    return f'(func (export "initialize") (param i32 i32) (result i32) (local i32) {body} (i32.const 0))'


def answering(digit: str, more: str) -> bytes:
    """A guest whose result is a digit, the value of this expression."""
    store = f"(i32.store8 (i32.const {ANSWER_AT + ANSWER.index(b'0')}) (i32.add (i32.const 48) {digit}))"
    answer = f"(call $pack (i32.const {ANSWER_AT}) (i32.const {len(ANSWER)}))"
    return wat(f"{store} {answer}", more=data(ANSWER_AT, ANSWER) + more)


def answer(digit: int) -> bytes:
    return ANSWER.replace(b"0", str(digit).encode())


def granting(**limits: Any) -> Grant:
    return Grant("tested", frozenset(), Limits(**{"memory_bytes": MIB, "timeout_s": 10.0, **limits}), publish=())


async def snapshot(engine: Engine, wasm: bytes, **limits: Any) -> Snapshot:
    grant = granting(**limits)
    abi, witnessed = check_module(wasm, grant.limits.memory_bytes)
    return await take_snapshot(witnessed, abi, grant, CONFIG, engine.compile)


@dataclass(frozen=True)
class Pair:
    """One plugin without a snapshot and with one."""

    plain: Sandbox
    baked: Sandbox
    snapshot: Snapshot


async def pair(engine: Engine, wasm: bytes, **limits: Any) -> Pair:
    grant = granting(**limits)
    abi, witnessed = check_module(wasm, grant.limits.memory_bytes)
    taken = await take_snapshot(witnessed, abi, grant, CONFIG, engine.compile)
    plain = Sandbox(await engine.compile(witnessed), abi, grant, CONFIG, STANDARD_FUNCTIONS)
    baked = Sandbox(await engine.compile(taken.wasm), taken.abi, grant, CONFIG, STANDARD_FUNCTIONS)
    return Pair(plain, baked, taken)


async def state_after_start(engine: Engine, wasm: bytes) -> State:
    """All that a guest of this module has once it has started."""
    instrumented, indices = with_exported_state(wasm)
    session = HostSession(granting(), {}, Caps())
    program = await engine.compile(instrumented)
    guest = Guest(program, session, fuel=10_000_000, memory_bytes=MIB, timeout_s=10)
    try:
        await check_core_abi(read_module(wasm), IMPORTS).start(guest, CONFIG)
        return _state(guest, indices)
    finally:
        guest.close()


COUNTING: Final = """
  (global $count (mut i32) (i32.const 0))
  (func $next (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1)))
    (i32.add (global.get $count) (i32.load (i32.const 2048))))
"""
COUNT: Final = "(drop (call $next))"
INITIALIZATIONS: Final = {
    "initialize": initialize(COUNT),
    "_initialize": f'(func (export "_initialize") {COUNT})',
    "a start function": f"(func $begin {COUNT}) (start $begin)",
}


@pytest.mark.parametrize("more", INITIALIZATIONS.values(), ids=INITIALIZATIONS)
async def test_every_request_begins_where_the_initialisation_ended(more: str, engine: Engine) -> None:
    both = await pair(engine, answering("(call $next)", COUNTING + more))
    outcomes = [await both.baked.run(REQUEST) for _ in range(3)]
    assert [outcome.response for outcome in outcomes] == [answer(4)] * 3
    assert (await both.plain.run(REQUEST)).response == answer(4)


async def test_requests_under_way_together_do_not_see_each_other(engine: Engine) -> None:
    spin = """(func $spin (result i32) (local $i i32)
      (loop $again
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 300000))))
      (call $next))"""
    both = await pair(engine, answering("(call $spin)", COUNTING + spin + initialize(COUNT)))
    outcomes = await asyncio.gather(*[both.baked.run(REQUEST) for _ in range(10)])
    assert [outcome.response for outcome in outcomes] == [answer(4)] * 10


async def test_a_module_without_initialisation_stays_what_it_is(engine: Engine) -> None:
    both = await pair(engine, answering("(call $next)", COUNTING))
    assert (await both.baked.run(REQUEST)).response == (await both.plain.run(REQUEST)).response == answer(2)


async def test_a_request_pays_no_fuel_for_the_initialisation(engine: Engine) -> None:
    burn = "(loop $l (br_if $l (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1))) (i32.const 10000))))"
    empty = await pair(engine, wat(more=initialize("")))
    burning = await pair(engine, wat(more=initialize(burn)))
    assert (await burning.plain.run(REQUEST)).fuel > 50_000
    assert (await burning.baked.run(REQUEST)).fuel == (await empty.baked.run(REQUEST)).fuel < 100


async def test_what_initialisation_logs_is_logged_once(engine: Engine) -> None:
    say = initialize("(call $say (i32.const 1024) (i32.const 5))") + data(1024, "ready")
    both = await pair(engine, wat(more=say))
    assert [line.text for line in both.snapshot.logs] == ["ready"]
    assert [line.text for line in (await both.plain.run(REQUEST)).logs] == ["ready"]
    assert (await both.baked.run(REQUEST)).logs == ()


async def test_initialize_is_given_the_configuration(engine: Engine) -> None:
    keep = initialize("(i32.store8 (i32.const 2048) (i32.load8_u (local.get 0)))")
    digit = f"(i32.sub (i32.load8_u (i32.const 2048)) (i32.const {CONFIG[0] - 7}))"
    both = await pair(engine, answering(digit, keep))
    assert (await both.baked.run(REQUEST)).response == answer(7)


# Samples.


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    """Those taken so far; compiling the samples takes a while."""
    return {}


async def sample(engine: Engine, pairs: dict[str, Pair], plugin: str) -> Pair:
    if plugin not in pairs:
        pairs[plugin] = await pair(engine, (ROOT / f"{plugin}.wasm").read_bytes(), memory_bytes=64 * MIB)
    return pairs[plugin]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_sample_answers_as_promised(case: Case, engine: Engine, pairs: dict[str, Pair]) -> None:
    both = await sample(engine, pairs, case.plugin)
    request = json.dumps(case.request).encode()
    plain, baked = await both.plain.run(request), await both.baked.run(request)
    assert (baked.kind, baked.response, baked.error) == (plain.kind, plain.response, plain.error)
    assert (baked.messages, baked.memory_bytes) == (plain.messages, plain.memory_bytes)
    assert baked.fuel <= plain.fuel


@settings(WITHIN_ONE_LOOP, max_examples=50)
@given(text=st.text(), document=st.text(max_size=8))
async def test_any_request_is_answered_as_without_a_snapshot(
    text: str, document: str, engine: Engine, pairs: dict[str, Pair]
) -> None:
    both = await sample(engine, pairs, "plugins/examples/text_processor/text_processor")
    request = json.dumps({"action": "process_data", "data": {"text": text, "document": document}}).encode()
    plain, baked = await both.plain.run(request), await both.baked.run(request)
    assert (baked.kind, baked.response, baked.memory_bytes) == (plain.kind, plain.response, plain.memory_bytes)


# The state.


GLOBALS: Final = """
  (global $i (mut i32) (i32.const 1)) (global $l (mut i64) (i64.const 1)) (global $fixed i32 (i32.const 9))
  (global $f (mut f32) (f32.const 1)) (global $d (mut f64) (f64.const 1))
  (global $sum i32 (i32.add (i32.const 8) (i32.const 11)))
  (global $v (mut v128) (v128.const i64x2 1 1)) (global $kept (export "kept") (mut i32) (i32.const 3))
"""
ADDRESSES = st.integers(0, MEMORY_BYTES - 256)
LENGTHS = st.integers(0, 256)
STEPS = st.one_of(
    st.builds("(i32.store (i32.const {}) (i32.const {}))".format, ADDRESSES, st.integers(-1, 1)),
    st.builds("(memory.fill (i32.const {}) (i32.const {}) (i32.const {}))".format, ADDRESSES, LENGTHS, LENGTHS),
    st.builds("(memory.copy (i32.const {}) (i32.const {}) (i32.const {}))".format, ADDRESSES, ADDRESSES, LENGTHS),
    st.builds("(memory.init $passive (i32.const {}) (i32.const 1) (i32.const 2))".format, ADDRESSES),
    st.builds("(drop (memory.grow (i32.const {})))".format, st.integers(0, 1)),
    st.builds("(global.set $i (i32.const {}))".format, st.integers(-(2**31), 2**31 - 1)),
    st.builds("(global.set $l (i64.const {}))".format, st.integers(-(2**63), 2**63 - 1)),
    st.builds("(global.set $f (f32.reinterpret_i32 (i32.const {})))".format, st.integers(0, 2**32 - 1)),
    st.builds("(global.set $d (f64.reinterpret_i64 (i64.const {})))".format, st.integers(0, 2**64 - 1)),
    st.builds("(global.set $v (v128.const i64x2 {} 5))".format, st.integers(0, 2**64 - 1)),
)


@settings(WITHIN_ONE_LOOP, max_examples=60)
@given(steps=st.lists(STEPS, max_size=8))
@example(steps=["(global.set $f (f32.reinterpret_i32 (i32.const 0x7fa00001)))"])  # a signalling NaN
@example(steps=["(global.set $d (f64.reinterpret_i64 (i64.const 0xfff4000000000001)))"])
@example(steps=["(global.set $i (i32.const 0x80000000))", "(global.set $l (i64.const 0x8000000000000000))"])
async def test_a_baked_module_starts_with_the_state_that_initialisation_left(steps: list[str], engine: Engine) -> None:
    segments = data(4, "over") + data(6, "lapping") + '(data $passive "abcd")' + data(MEMORY_BYTES - 1, "x")
    wasm = wat(more=GLOBALS + segments + initialize(" ".join(steps)))
    taken = await snapshot(engine, wasm)
    expected = await state_after_start(engine, check_module(wasm, MIB)[1])
    assert await state_after_start(engine, taken.wasm) == expected


async def test_a_snapshot_of_a_snapshot_is_the_same(engine: Engine) -> None:
    taken = await snapshot(engine, wat(more=COUNTING + initialize(COUNT)))
    again = await take_snapshot(taken.wasm, taken.abi, granting(), CONFIG, engine.compile)
    assert again.wasm == taken.wasm


@given(runs=st.lists(st.tuples(st.integers(0, 4 * BLOCK_BYTES), st.binary(max_size=64)), max_size=6))
def test_the_runs_are_all_that_is_not_zero(runs: list[tuple[int, bytes]]) -> None:
    memory = bytearray(2 * PAGE_BYTES)
    for address, content in runs:
        memory[address : address + len(content)] = content
    rebuilt = bytearray(len(memory))
    found = list(nonzero_runs(bytes(memory)))
    for address, content in found:
        assert content.strip(b"\0") == content != b""
        rebuilt[address : address + len(content)] = content
    assert rebuilt == memory
    assert found == sorted(found)


@pytest.mark.parametrize("bits", [0, 1, 0x7F, 0x80, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFBF, 0xFFFF_FFFF])
def test_a_constant_is_encoded_as_the_assembler_does(bits: int) -> None:
    assembled = bytes(wasmtime.wat2wasm(f"(module (global i32 (i32.const {bits})))"))
    assert assembled.endswith(sized(b"\x01\x7f\x00" + _constant("i32", struct.pack("<I", bits))))


# The baked module.


async def test_a_baked_module_has_nothing_to_initialise_and_all_else_it_had(engine: Engine) -> None:
    more = GLOBALS + '(func $begin) (start $begin) (func (export "_initialize")) (table (export "table") 1 funcref)'
    wasm = wat(more=more + initialize("") + '(func (export "health_check") (result i32) (i32.const 1))')
    taken = await snapshot(engine, wasm)
    before, after = read_module(wasm), read_module(taken.wasm)
    kept = [item for item in before.exports.items() if item[0] not in ("_initialize", "initialize")]
    assert list(after.exports.items()) == kept
    assert len(kept) == len(before.exports) - 2
    assert (before.has_start, after.has_start) == (True, False)
    assert taken.abi == check_core_abi(after, IMPORTS)
    assert taken.abi.has_health_check


def sections(wasm: bytes) -> dict[str, bytes]:
    return {section.name: wasm[section.start : section.end] for section in read_sections(wasm)}


async def test_code_names_and_other_custom_sections_are_not_touched(engine: Engine) -> None:
    wasm = wat(more=COUNTING + initialize(COUNT) + '(@custom "producers" "us")')
    taken = await snapshot(engine, wasm)
    before, after = sections(wasm), sections(taken.wasm)
    for name in ("type", "import", "function", "code", "name", "producers"):
        assert after[name] == before[name]


async def test_passive_segments_keep_their_places(engine: Engine) -> None:
    more = """(data $first "1") (data (i32.const 3000) "active") (data $second "2") (func $second (result i32)
      (memory.init $second (i32.const 2048) (i32.const 0) (i32.const 1)) (i32.load8_u (i32.const 2048)))"""
    use = initialize("(memory.init $first (i32.const 2049) (i32.const 0) (i32.const 1))")
    both = await pair(engine, answering("(i32.sub (call $second) (i32.const 48))", more + use))
    assert (await both.baked.run(REQUEST)).response == (await both.plain.run(REQUEST)).response == answer(2)


async def test_an_active_segment_counts_as_dropped(engine: Engine) -> None:
    more = '(data $active (i32.const 3000) "active") (func $use (memory.init $active (i32.const 0) (i32.const 0) (i32.const 1)))'  # noqa: E501
    both = await pair(engine, wat("(call $use) (call $answer)", more=more + initialize("")))
    plain, baked = await both.plain.run(REQUEST), await both.baked.run(REQUEST)
    assert (baked.kind, baked.error) == (plain.kind, plain.error) == ("trap", "the guest accessed memory out of bounds")


BARE: Final = """(module (memory (export "memory") 1 4) {}
  (func (export "allocate") (param i32) (result i32) (i32.const 0))
  (func (export "handle_request") (param i32 i32) (result i32) (i32.const 0))
  (func (export "initialize") (param i32 i32) (result i32) {} (i32.const 0)))"""


PASSIVE: Final = '(data $d "x") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0)))'


@pytest.mark.parametrize("head", ["", PASSIVE])
@pytest.mark.parametrize("body", ["", "(i32.store (i32.const 60000) (i32.const -1))"])
async def test_sections_that_are_not_there_are_made(head: str, body: str, engine: Engine) -> None:
    clear = "(i64.store (i32.const 0) (i64.const 0))"
    wasm = bytes(wasmtime.wat2wasm(BARE.format(head, body + clear)))
    taken = await snapshot(engine, wasm)
    assert await state_after_start(engine, taken.wasm) == await state_after_start(engine, wasm)


async def test_memory_grown_by_the_initialisation_is_there_from_the_start(engine: Engine) -> None:
    grow = initialize("(drop (memory.grow (i32.const 3))) (i32.store8 (i32.const 300000) (i32.const 7))")
    both = await pair(engine, answering("(i32.load8_u (i32.const 300000))", grow))
    outcome = await both.baked.run(REQUEST)
    assert (outcome.response, outcome.memory_bytes) == (answer(7), 5 * PAGE_BYTES)
    memory = read_module(both.snapshot.wasm).memory
    assert memory is not None
    assert (memory.min_pages, memory.max_pages) == (5, None)


async def test_a_memorys_own_maximum_is_kept(engine: Engine) -> None:
    wasm = bytes(wasmtime.wat2wasm(BARE.format("", "(drop (memory.grow (i32.const 2)))")))
    memory = read_module((await snapshot(engine, wasm)).wasm).memory
    assert memory is not None
    assert (memory.min_pages, memory.max_pages) == (3, 4)


async def test_growth_refused_in_a_request_is_still_told(engine: Engine) -> None:
    greedy = "(if (i32.eq (memory.grow (i32.const 99)) (i32.const -1)) (then unreachable)) (call $answer)"
    both = await pair(engine, wat(greedy, more=initialize("(drop (memory.grow (i32.const 1)))")))
    assert WITNESS_EXPORT in read_module(both.snapshot.wasm).exports
    assert (await both.baked.run(REQUEST)).kind == (await both.plain.run(REQUEST)).kind == "out_of_memory"


async def test_a_large_memory_with_little_in_it_makes_a_small_module(engine: Engine) -> None:
    ends = "(i32.store (i32.const 8192) (i32.const 1)) (i32.store (i32.const 16777212) (i32.const 2))"
    wasm = answering("(i32.load (i32.const 16777212))", initialize(f"(drop (memory.grow (i32.const 254))) {ends}"))
    both = await pair(engine, wasm, memory_bytes=16 * MIB)
    assert len(both.snapshot.wasm) < 4 * BLOCK_BYTES
    outcome = await both.baked.run(REQUEST)
    assert (outcome.response, outcome.memory_bytes) == (answer(2), 16 * MIB)


# Refusals.


def refusing(body: str, more: str = "") -> bytes:
    return wat(more=initialize(body) + more)


TABLE: Final = """(table $t 4 funcref) (func $f) (elem $e func $f) (data $d "x")
  (table $x 4 externref) (func $unused {})"""
CHANGES: Final = {
    "table.set": "(table.set $t (i32.const 0) (ref.func $f))",
    "table.grow": "(drop (table.grow $x (ref.null extern) (i32.const 1)))",
    "table.fill": "(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))",
    "table.copy": "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))",
    "table.init": "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
    "elem.drop": "(elem.drop $e)",
    "data.drop": "(data.drop $d)",
}
REFUSED: Final = {
    "a host call": (refusing(f"(drop {ASK})", ASK_DATA), "calls the host function 'get_time', which a snapshot"),
    "a host call of a start function": (
        wat(more=f"{ASK_DATA} (func $begin (drop {ASK})) (start $begin)"),
        "calls the host function 'get_time'",
    ),
    "a host call of _initialize": (
        wat(more=f'{ASK_DATA} (func (export "_initialize") (drop {ASK}))'),
        "calls the host function 'get_time'",
    ),
    "memory beyond the limit": (
        refusing("(drop (memory.grow (i32.const 100)))"),
        "was refused 6,553,600 more bytes of memory than its limit allows",
    ),
    "failure": (
        wat(more='(func (export "initialize") (param i32 i32) (result i32) (i32.const -3))'),
        "the guest's `initialize` returned -3, not 0",
    ),
    "a trap": (refusing("unreachable"), "the guest aborted"),
    "a trap of a start function": (wat(more="(func $begin unreachable) (start $begin)"), "the guest aborted"),
    "an endless loop": (refusing("(loop $l (br $l))"), "used up its"),
    "a mutable reference": (
        refusing("", "(global (mut funcref) (ref.null func))"),
        "cannot hold references, and it has a mutable global of type funcref",
    ),
    "a name of ours": (
        refusing("", '(global (export "warren:global:0") i32 (i32.const 0))'),
        "exports 'warren:global:0', a name which Warren keeps for itself",
    ),
    **{
        name: (refusing("", TABLE.format(use)), f"uses {name}, which changes tables or segments")
        for name, use in CHANGES.items()
    },
}


@pytest.mark.parametrize(("wasm", "reason"), REFUSED.values(), ids=REFUSED)
async def test_what_no_snapshot_can_hold_is_refused(wasm: bytes, reason: str, engine: Engine) -> None:
    with pytest.raises(ModuleRefused, match=re.escape(reason)):
        await snapshot(engine, wasm)


async def test_an_initialisation_that_takes_too_long_is_refused(engine: Engine) -> None:
    with pytest.raises(ModuleRefused, match=r"longer than its limit of 0\.05 s"):
        await snapshot(engine, refusing("(loop $l (br $l))"), timeout_s=0.05, max_fuel=1 << 40)


async def test_a_memory_too_full_for_a_module_is_refused(engine: Engine) -> None:
    fill = "(drop (memory.grow (i32.const 600))) (memory.fill (i32.const 8192) (i32.const 1) (i32.const 34000000))"
    with pytest.raises(ModuleRefused, match=r"makes a module of 34,0.* bytes; at most 33,554,432 are accepted"):
        await snapshot(engine, refusing(fill), memory_bytes=64 * MIB, max_fuel=100_000_000)


def test_an_import_that_nobody_has_thought_about_is_refused() -> None:
    wasm = bytes(wasmtime.wat2wasm('(module (import "warren_v1" "draw" (func)))'))
    with pytest.raises(ModuleRefused, match="imports 'warren_v1' 'draw'"):
        with_exported_state(wasm)


# Reading code.


READS: Final = {
    "indirect calls": "(call_indirect (type $nothing) (i32.const 0))",
    "bulk memory": "(memory.copy (i32.const 0) (i32.const 0) (i32.const 0)) (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))",  # noqa: E501
    "tables read": "(drop (table.get $t (i32.const 38))) (drop (table.size $t)) (drop (ref.func $f))",
    "the number of table.set": "(drop (i32.const 38)) (drop (i64.const 0x1313)) (drop (f64.const 38.38))",
    "jumps to there": f"(block (br_table {'0 ' * 38} (i32.const 38)))",
    "vectors": "(drop (i8x16.add (v128.const i64x2 0x2626262626262626 0x26) (v128.const i64x2 0xfc0dfc0d 0)))",
    "a choice with types": "(drop (select (result funcref) (ref.null func) (ref.func $f) (i32.const 38)))",
}


@pytest.mark.parametrize("body", READS.values(), ids=READS)
def test_code_that_changes_neither_tables_nor_segments_passes(body: str) -> None:
    text = f"(type $nothing (func)) (table $t 100 funcref) (func $f) (func {body}) (elem declare func $f)"
    with_exported_state(wat(more=text))


def code_section(instructions: bytes) -> tuple[bytes, Section]:
    content = leb128(1) + sized(b"\x01\x02\x7f" + instructions)
    return content, Section(10, "code", 0, 0, len(content))


def encoded(key: int) -> bytes:
    """An instruction whose immediates look like the beginnings of others."""
    prefix, opcode = divmod(key, 1 << 16)
    numbers, plain = IMMEDIATES[key]
    name = bytes([prefix]) + leb128(opcode) if prefix else bytes([opcode])
    return name + b"\xfc\x0d" * numbers + b"\x26" * plain


def test_each_instruction_is_read_whole() -> None:
    for key in IMMEDIATES:
        instruction = encoded(key)
        harmless = _HARMLESS.match(instruction)
        assert harmless is not None
        assert harmless.end() in ((0,) if key in _STATEFUL else (0, len(instruction)))


def test_each_instruction_is_judged() -> None:
    for key in IMMEDIATES:
        code = code_section(b"\x01" + encoded(key) + b"\x01\x0b")
        if key in _STATEFUL:
            with pytest.raises(ModuleRefused, match=f"uses {_STATEFUL[key]},"):
                check_code(*code)
        else:
            check_code(*code)


@pytest.mark.parametrize("padded", [b"\xfc\x8d\x00\x00", b"\xfc\x8d\x80\x80\x80\x00\x00"])
def test_an_opcode_written_with_more_bytes_than_it_needs_is_known(padded: bytes) -> None:
    with pytest.raises(ModuleRefused, match=r"uses elem\.drop"):
        check_code(*code_section(padded + b"\x0b"))


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "examples").glob("*/*.wasm")), ids=lambda path: path.stem)
@given(change=st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)))
@settings(max_examples=60, deadline=None)
def test_a_damaged_module_is_rewritten_or_refused(path: Path, change: tuple[float, int]) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[int(change[0] * len(damaged))] = change[1]
    try:
        instrumented, indices = with_exported_state(bytes(damaged))
        with_state(bytes(damaged), State(bytes(PAGE_BYTES), {index: bytes(4) for index in indices}))
    except ModuleRefused:
        return
    assert len(instrumented) >= len(damaged)
