"""Profiles: every unit of fuel belongs to a call, and a run that is profiled goes the way that it would have gone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from tests.guests import ask, wat, write_plugin
from warren.plugins import Debugging, FuelProfile, Outcome, PluginManager, flame_graph, folded
from warren.plugins.errors import LoadFailed, ModuleRefused
from warren.plugins.fuel_profile import MAX_DEPTH, MAX_TOTAL_DEPTH, walk
from warren.plugins.growth import with_growth_witness
from warren.plugins.outcome import RunKind
from warren.plugins.profile_module import PROFILE_MODULE, with_events
from warren.plugins.wasm_binary import read_sections, with_contents

EXAMPLES: Final = Path(__file__).parents[2] / "plugins" / "examples"
REQUEST: Final = b'{"action":"go","data":null}'

#: Told in WAT: what `handle_request` does, what else is in the module, how that ends, and a stack that used fuel.
FIBONACCI: Final = """
  (func $fib (param $n i32) (result i32)
    (if (i32.lt_u (local.get $n) (i32.const 2)) (then (return (local.get $n))))
    (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 2)))))
"""
INDIRECT: Final = """
  (type $op (func (param i32) (result i32)))
  (table 3 funcref) (elem (i32.const 0) func $double $square)
  (elem declare func $half) (elem $more funcref (ref.func $half) (ref.null func))
  (global $kept funcref (ref.func $square))
  (func $double (type $op) (i32.shl (local.get 0) (i32.const 1)))
  (func $square (type $op) (br 0 (i32.mul (local.get 0) (local.get 0))))
  (func $half (type $op) (return (i32.shr_u (local.get 0) (i32.const 1))))
"""
MULTI: Final = """
  (func $pair (param i32) (result i64 i32)
    (if (i32.eqz (local.get 0)) (then (i64.const 3) (i32.const 4) (return)))
    (br_if 0 (i64.const 8) (i32.const 9) (i32.eq (local.get 0) (i32.const 1))) (drop) (drop)
    (i64.const 5) (i32.const 6))
"""
TAIL: Final = """
  (func $count (param $n i32) (result i32)
    (if (result i32) (local.get $n) (then (return_call $again (i32.sub (local.get $n) (i32.const 1))))
      (else (i32.const 7))))
  (func $again (param $n i32) (result i32)
    (return_call_indirect (type $t) (local.get $n) (i32.const 0)))
  (type $t (func (param i32) (result i32)))
  (table 1 funcref) (elem (i32.const 0) func $count)
"""
TAIL_TO_HOST: Final = "(func $last (return_call $log (i32.const 2) (i32.const 512) (i32.const 9)))"
FOREVER: Final = "(func $outer (call $forever)) (func $forever (loop (br 0)))"
DEEP: Final = "(func $down (param i32) (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))))))"
TIME, TIME_DATA = ask("get_time")


@dataclass(frozen=True)
class Case:
    wasm: bytes
    stack: str
    kind: RunKind = "ok"


CASES: Final = {
    "recursion": Case(
        wat("(drop (call $fib (i32.const 12))) (call $answer)", more=FIBONACCI), "handle_request;fib;fib;fib"
    ),
    "indirect calls": Case(
        wat(
            """(table.init $more (i32.const 2) (i32.const 0) (i32.const 1)) (table.set (i32.const 0) (ref.func $half))
            (drop (call_indirect (type $op) (i32.const 6) (i32.const 0)))
            (drop (call_indirect (type $op) (i32.const 6) (i32.const 1)))
            (drop (call_indirect (type $op) (i32.const 6) (i32.const 2))) (call $answer)""",
            more=INDIRECT,
        ),
        "handle_request;half",
    ),
    "several results": Case(
        wat(
            """(call $pair (i32.const 0)) (drop) (drop) (call $pair (i32.const 1)) (drop) (drop)
             (call $pair (i32.const 2)) (drop) (drop) (call $answer)""",
            more=MULTI,
        ),
        "handle_request;pair",
    ),
    "tail calls": Case(wat("(drop (call $count (i32.const 10000))) (call $answer)", more=TAIL), "handle_request;again"),
    "a tail call of an import": Case(wat("(call $last) (call $answer)", more=TAIL_TO_HOST), "handle_request;last;log"),
    "a host call": Case(wat(f"(drop {TIME}) (call $answer)", more=TIME_DATA), "handle_request;host_call;allocate"),
    "memory": Case(wat("(drop (memory.grow (i32.const 1))) (call $answer)"), "handle_request;memory.grow"),
    "a start function": Case(
        wat(more="(func $begin (call $say (i32.const 0) (i32.const 3))) (start $begin)"), "begin;say;log"
    ),
    "a trap": Case(wat("(call $fall) unreachable", more="(func $fall unreachable)"), "handle_request;fall", "trap"),
    "a trap in the start": Case(wat(more="(func $begin unreachable) (start $begin)"), "begin", "trap"),
    "no fuel": Case(wat("(call $outer) (call $answer)", more=FOREVER), "handle_request;outer;forever", "out_of_fuel"),
    "no fuel for calls": Case(
        wat("(drop (call $fib (i32.const 40))) (call $answer)", more=FIBONACCI), "handle_request;fib", "out_of_fuel"
    ),
    "a stack overflow": Case(
        wat("(call $down (i32.const 9000000)) (call $answer)", more=DEEP), "handle_request;down", "trap"
    ),
}


async def outcome_of(path: Path, debugging: Debugging | None, request: bytes = REQUEST) -> Outcome:
    async with PluginManager(debugging=debugging) as manager:
        plugin = await manager.load_plugin(path)
        return await plugin.run(request)


async def profiled(path: Path, name: str, request: bytes = REQUEST) -> tuple[Outcome, FuelProfile]:
    debugging = Debugging(name, profile=True)
    outcome = await outcome_of(path, debugging, request)
    assert debugging.last is not None
    assert debugging.last.profile is not None
    return outcome, debugging.last.profile


def names(outcome: Outcome) -> list[str]:
    """Of the functions in its backtrace. Offsets are the rewritten module's."""
    return [frame.partition(" at ")[0] for frame in outcome.backtrace]


def total(profile: FuelProfile) -> int:
    return sum(call.fuel for _, call in walk(profile.root))


def stacks(profile: FuelProfile) -> dict[str, int]:
    return {stack: int(fuel) for stack, _, fuel in (line.rpartition(" ") for line in folded(profile))}


def write(folder: Path, wasm: bytes) -> Path:
    return write_plugin(folder, "guest", wasm, "[resources]\nmax_fuel = 400_000\n")


@pytest.mark.parametrize("name", [name for name in CASES if name != "a stack overflow"])
async def test_a_profile_sums_up_to_the_fuel_of_the_run_that_it_does_not_change(name: str, tmp_path: Path) -> None:
    case, path = CASES[name], write(tmp_path, CASES[name].wasm)
    plain = await outcome_of(path, Debugging("guest"))  # which runs what does not start, too
    outcome, profile = await profiled(path, "guest")
    assert (outcome.kind, outcome.fuel) == (plain.kind, plain.fuel)
    assert outcome.kind == case.kind
    assert (outcome.response, outcome.memory_bytes) == (plain.response, plain.memory_bytes)
    assert [line.text for line in outcome.logs] == [line.text for line in plain.logs]
    assert profile.fuel == total(profile) == plain.fuel
    assert stacks(profile)[case.stack] > 0
    assert names(outcome) == names(plain)


async def test_a_stack_that_overflows_does_so_in_a_profile_too_which_has_a_bounded_depth(tmp_path: Path) -> None:
    outcome, profile = await profiled(write(tmp_path, CASES["a stack overflow"].wasm), "guest")
    assert (outcome.kind, outcome.error) == ("trap", "the guest overflowed its call stack")
    assert profile.is_cut
    assert max(len(path) for path, _ in walk(profile.root)) == MAX_DEPTH
    assert total(profile) == outcome.fuel


@pytest.mark.parametrize(
    ("plugin", "action", "value"),
    [
        ("text_processor", "process_data", {"document": "d", "text": "Rabbits dig. Foxes wait."}),
        ("word_stats", "analyse", {"text": "Rabbits dig."}),
        ("digest", "summarise", {"document": "d", "words": 3, "sentences": 1, "keywords": []}),
    ],
)
async def test_the_samples_are_profiled_to_the_unit(plugin: str, action: str, value: object) -> None:
    path = EXAMPLES / plugin / f"{plugin}.wasm"
    request = json.dumps({"action": action, "data": value}).encode()
    plain = await outcome_of(path, None, request)
    outcome, profile = await profiled(path, plugin, request)
    assert outcome.response == plain.response
    assert outcome.fuel == plain.fuel == total(profile) > 0


async def test_what_the_host_charges_is_a_leafs(tmp_path: Path) -> None:
    _, profile = await profiled(write(tmp_path, CASES["a host call"].wasm), "guest")
    charged = stacks(profile)["handle_request;host_call"]
    assert 1_000 < charged < 1_100


async def test_the_fuel_of_each_fibonacci_is_the_same(tmp_path: Path) -> None:
    _, profile = await profiled(write(tmp_path, CASES["recursion"].wasm), "guest")
    [(fuel, times)] = [(fuel, times) for name, fuel, times in profile.by_function() if name == "fib"]
    leaf, inner = 6, 14  # its instructions, and one for the function; a block and a `return` cost nothing
    assert times == 465
    assert fuel == 233 * leaf + 232 * inner


async def test_every_end_of_fuel_is_the_same_end(tmp_path: Path) -> None:
    """Wherever the fuel runs out, between two events or within, the profile says what the plain run used."""
    for fuel in range(1_000, 1_040):
        path = write_plugin(tmp_path, "guest", CASES["recursion"].wasm, f"[resources]\nmax_fuel = {fuel}\n")
        plain = await outcome_of(path, None)
        outcome, profile = await profiled(path, "guest")
        assert (outcome.kind, outcome.fuel) == (plain.kind, plain.fuel) == ("out_of_fuel", fuel)
        assert total(profile) == fuel
        assert names(outcome) == names(plain)


async def test_without_names_the_number_is_the_name(tmp_path: Path) -> None:
    module = CASES["a trap"].wasm
    bare = with_contents(module, [each for each in read_sections(module) if not each.is_custom], {})
    outcome, profile = await profiled(write(tmp_path, bare), "guest")
    fall = next(stack for stack in stacks(profile) if stack.startswith("handle_request;"))
    assert fall == "handle_request;func[6]"
    assert outcome.backtrace[0].startswith("func[6] at ")


async def test_lines_are_those_of_the_source(tmp_path: Path) -> None:
    wasm = (Path(__file__).parent / "wasi" / "broken-5.wasm").read_bytes()
    path = write_plugin(tmp_path, "broken", wasm)
    request = json.dumps({"action": "x", "data": "no digits"}).encode()
    plain = await outcome_of(path, None, request)
    outcome, _ = await profiled(path, "broken", request)
    assert outcome.backtrace == plain.backtrace
    assert all(".c:" in frame for frame in outcome.backtrace)


async def test_a_snapshot_is_profiled_from_where_it_begins(tmp_path: Path) -> None:
    initialize = """(func $busy (export "initialize") (param i32 i32) (result i32) (i32.const 0))"""
    path = write_plugin(tmp_path, "guest", wat(more=initialize), "[runtime]\nsnapshot = true\n")
    plain = await outcome_of(path, None)
    outcome, profile = await profiled(path, "guest")
    assert outcome.fuel == plain.fuel == total(profile)
    assert "busy" not in stacks(profile)


async def test_a_guest_that_imports_the_profiles_functions_is_not_loaded(tmp_path: Path) -> None:
    forged = bytes(
        wasmtime.wat2wasm(
            f"""(module (import "{PROFILE_MODULE}" "enter" (func (param i32)))
            (memory (export "memory") 1)
            (func (export "allocate") (param i32) (result i32) (i32.const 0))
            (func (export "handle_request") (param i32 i32) (result i64) (i64.const 0)))"""
        )
    )
    with pytest.raises(LoadFailed, match="imports what is not provided here"):
        await outcome_of(write(tmp_path, forged), Debugging("guest", profile=True))


def test_a_component_is_refused_with_the_reason() -> None:
    with pytest.raises(ModuleRefused, match="of a core module only, and this is a component"):
        Debugging("guest", profile=True).prepare(b"\0asm\x0d\0\x01\0")


@given(st.data())
def test_a_damaged_module_is_refused_or_rewritten(draw: st.DataObject) -> None:
    module = bytearray(with_growth_witness(CASES["indirect calls"].wasm))
    for _ in range(draw.draw(st.integers(1, 3))):
        module[draw.draw(st.integers(8, len(module) - 1))] = draw.draw(st.integers(0, 255))
    try:
        rewritten = with_events(bytes(module))
    except ModuleRefused:
        return
    assert rewritten.wasm.startswith(b"\0asm")


@pytest.mark.parametrize("name", CASES)
def test_what_is_rewritten_is_valid(name: str) -> None:
    rewritten = with_events(with_growth_witness(CASES[name].wasm))
    wasmtime.Module.validate(wasmtime.Engine(), rewritten.wasm)


HOSTILE: Final = "</title><script>alert(1)</script>&\"';\n\x1b[31m\u2028"


def hostile_profile() -> FuelProfile:
    profile = FuelProfile((HOSTILE, HOSTILE[::-1]), 0)
    profile.enter(0, 1)
    profile.enter(1, 2)
    profile.finish(100)
    return profile


def test_a_flame_graph_is_xml_whatever_the_names_are() -> None:
    text = "\n".join(flame_graph(hostile_profile(), HOSTILE))
    root = ET.fromstring(text)  # noqa: S314 - our own
    titles = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 3
    assert "<script" not in text
    assert titles[1].startswith("</title><script>alert(1)</script>&")


def test_a_name_breaks_no_line_of_folded_stacks() -> None:
    lines = list(folded(hostile_profile()))
    assert all(line.isprintable() and line.count(";") <= 1 for line in lines)
    assert [line.rpartition(" ")[2] for line in lines] == ["1", "99"]


def test_rectangles_lie_within_what_called_them() -> None:
    profile = FuelProfile(("a", "b", "c"), 0)
    for function, fuel in ((0, 10), (1, 20)):
        profile.enter(function, fuel)
    profile.leave(60)
    profile.enter(2, 60)
    profile.finish(100)
    root = ET.fromstring("\n".join(flame_graph(profile, "t")))  # noqa: S314 - our own
    boxes = [each.attrib for each in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    everything, a, *callees = [(float(box["x"]), float(box["width"])) for box in boxes]
    assert a[1] <= everything[1]
    assert sum(width for _, width in callees) <= a[1]
    assert all(x >= a[0] - 0.01 and x + width <= a[0] + a[1] + 0.02 for x, width in callees)


def test_a_profile_has_bounds_whatever_is_called() -> None:
    profile = FuelProfile(tuple(map(str, range(MAX_TOTAL_DEPTH + 1_000))), 0)
    for function in range(MAX_TOTAL_DEPTH + 1_000):
        profile.enter(function, function)
        profile.leave(function + 1)
    assert profile.is_cut
    assert len(profile.root.calls) == MAX_TOTAL_DEPTH
    assert total(profile) == MAX_TOTAL_DEPTH + 1_000
