"""Hostile input, item by item: each ends in its named outcome, the process lives, and the next request is served.

Much of it is tested where the part that withstands it is tested. `WITHSTOOD` names, for each item, the tests that show
it; what no other file shows is here, and the many thousands of broken modules are in `test_hostile_fuzz`.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from tests.guests import OK, ask, wat, write_plugin
from tests.plugins.conftest import MIB, MakeSandbox
from warren.plugins import LoadFailed, PluginManager
from warren.plugins.guest import PAGE_BYTES
from warren.plugins.host import HostSession
from warren.plugins.instance_pool import MAX_TABLE_ELEMENTS, MAX_TABLES
from warren.plugins.module import DEFAULT_LIMITS
from warren.plugins.outcome import RunKind

WITHSTOOD = {
    "infinite loop": [
        "test_sandbox::test_a_run_without_an_answer_says_why[an infinite loop]",
        "test_sandbox_concurrency::test_the_deadline_holds_and_not_before_its_time[an infinite loop]",
        "test_sandbox_concurrency::test_the_event_loop_goes_on_beside_a_run[an infinite loop]",
    ],
    "infinite recursion": ["test_sandbox::test_a_run_without_an_answer_says_why[a stack overflow]"],
    "a looping `start` function": [
        "test_sandbox::test_a_run_without_an_answer_says_why[an infinite loop in the start function]",
        "test_manager::test_a_bad_plugin_is_named_and_keeps_no_other_from_loading[an endless start]",
    ],
    "`memory.grow` to the limit and beyond": [
        "test_hostile::test_a_run_ends_as_named[`memory.grow` to the limit]",
        "test_hostile::test_a_run_ends_as_named[`memory.grow` beyond the limit]",
        "test_sandbox::test_a_run_without_an_answer_says_why[a refused growth, and abortion]",
        "test_growth::test_refused_growth_is_witnessed",
    ],
    "initial memory above it": [
        "test_sandbox::test_a_module_that_starts_with_too_much_memory_is_refused_before_it_runs"
    ],
    "50 memories": ["test_hostile::test_a_module_is_refused_and_no_other_with_it[50 memories]"],
    "`table.grow` by 100 M": [
        "test_hostile::test_a_run_ends_as_named[`table.grow` by 100 M]",
        "test_hostile::test_a_module_is_refused_and_no_other_with_it[a table of 100 M]",
    ],
    "WAT text instead of wasm": ["test_module::test_what_is_no_core_module_is_named[this is WebAssembly text]"],
    "a component": ["test_module::test_what_is_no_core_module_is_named[this is a WebAssembly component]"],
    "strings that pass between two components": [
        "test_component::test_only_one_component_has_memory",
        "test_component::test_a_component_cannot_call_itself",
    ],
    "a component of many memories, parts or names": ["test_component::test_a_component_that_does_not_fit_is_refused"],
    "a component's functions of other types": [
        "test_component::test_functions_of_other_types_are_refused_before_they_are_called",
        "test_component::test_a_function_of_wasi_of_another_type_is_refused",
        "test_component::test_types_that_take_long_to_list_are_not_listed",
    ],
    "a component's allocator that lies, loops or traps": ["test_component::test_it_ends_as_every_guest"],
    "names as long as the component": ["test_component::test_what_is_said_of_a_trap_is_bounded"],
    "truncated and bit-flipped components": [
        "test_component::test_a_damaged_component_is_read_or_refused",
        "test_component::test_damaged_components_that_are_not_refused_are_compiled_in_a_child",
    ],
    "threads, memory64, GC types": [
        "test_module::test_other_proposals_are_refused_by_name",
        "test_growth::test_instructions_of_other_proposals_are_refused",
        "test_compiler::test_a_proposal_that_is_off_is_off_in_the_child",
    ],
    "exports with v128 or reference parameters": [
        "test_module::test_an_exported_function_with_vectors_is_refused",
        "test_hostile::test_a_module_is_refused_and_no_other_with_it[an export with an externref parameter]",
        "test_hostile::test_a_run_ends_as_named[an export with a funcref parameter]",
    ],
    "export missing": ["test_module::test_all_that_is_missing_is_said_at_once"],
    "of the wrong kind, of the wrong signature": ["test_module::test_all_that_is_wrong_is_said_at_once"],
    "import not granted": [
        "test_module::test_all_that_is_wrong_is_said_at_once",
        "test_module::test_an_imported_memory_is_refused",
    ],
    "100,000 functions": [
        "test_hostile::test_a_module_is_refused_and_no_other_with_it[100,000 functions]",
        "test_compiler::test_a_compile_bomb_is_refused",
    ],
    "50,000 locals in 1,000 functions": [
        "test_module::test_a_bomb_of_locals_is_refused",
        "test_compiler::test_a_compile_bomb_is_refused",
    ],
    "truncated and bit-flipped modules": [
        "test_hostile_fuzz::test_ten_thousand_broken_modules_are_refused_or_run_and_crash_nothing",
        "test_growth::test_mutated_modules_are_refused_or_stay_as_valid_as_they_were",
        "test_snapshot::test_a_damaged_module_is_rewritten_or_refused",
    ],
    "pointer -1": ["test_sandbox::test_a_run_without_an_answer_says_why[pointer -1]"],
    "length 4 GiB": ["test_sandbox::test_a_run_without_an_answer_says_why[4 GiB]"],
    "one byte past the end": ["test_sandbox::test_a_run_without_an_answer_says_why[one byte past the end]"],
    "answer of 17 MB": ["test_hostile::test_a_run_ends_as_named[an answer of 17 MB]"],
    "600 MB of logs": ["test_hostile::test_a_run_ends_as_named[600 MB of logs]"],
    "a million host calls": [
        "test_hostile::test_a_run_ends_as_named[a million host calls]",
        "test_hostile::test_a_million_host_calls_that_are_paid_for_are_served_and_counted",
    ],
    "a million messages": ["test_hostile::test_a_run_ends_as_named[a million messages]"],
    "a host function that raises, raises SystemExit": [
        "test_host::test_a_host_function_that_breaks_is_an_internal_error_and_tells_the_guest_nothing",
        "test_host::test_a_host_function_that_is_cancelled_or_breaks_badly_ends_the_run_only",
    ],
    "is re-entered by its guest": [
        "test_sandbox::test_a_run_without_an_answer_says_why[a host call in `allocate` in a host call]"
    ],
    "two guests interleaved": [
        "test_sandbox_concurrency::test_interleaved_guests_see_only_their_own_memory_logs_and_answers",
        "test_sandbox_concurrency::test_what_host_functions_answer_reaches_the_guest_that_asked",
        "test_sandbox_concurrency::test_a_fault_of_one_guest_is_not_its_neighbour_s",
    ],
    "secrets are zero for the next request": [
        "test_hostile_slots::test_a_secret_is_gone_for_the_next_guest_of_the_module_in_the_same_slot",
        "test_hostile_slots::test_a_secret_is_gone_for_a_guest_of_another_module_in_the_same_slot",
    ],
    "an attacker's file in the cache folder": [
        "test_artefacts::test_what_was_meddled_with_is_never_used_and_is_replaced",
        "test_artefacts::test_a_link_in_the_place_of_an_artefact_is_replaced_and_not_followed",
        "test_compiler::test_machine_code_that_somebody_changed_in_the_cache_does_not_run",
    ],
    "a program that loops, floods stdout or stderr, exits where it should not": [
        "test_wasi_command::test_each_ends_as_named",
        "test_wasi_command::test_a_flood_on_stderr_is_cut_and_counted",
        "test_wasi_command::test_an_exit_in_a_start_function_ends_the_load",
    ],
    "handles, lengths and free lists of Extism's memory that lie": ["test_extism::test_hostile_plugins_end_as_named"],
    "Extism's memory and variables beyond the limit": [
        "test_extism::test_hostile_plugins_end_as_named",
        "test_extism::test_variables_and_memory_are_one_limit",
    ],
    "an import's name that is code": ["test_extism::test_a_name_in_an_import_is_no_code"],
    "the compile child killed": ["test_compiler::test_a_child_that_is_killed_fails_its_module_alone"],
    "a compile bomb": ["test_compiler::test_a_compile_bomb_is_refused"],
    "the cache folder read-only or full": [
        "test_artefacts::test_a_read_only_folder_is_read",
        "test_artefacts::test_a_full_disk_is_said_once_and_leaves_no_pieces",
        "test_compiler::test_without_a_usable_cache_modules_are_compiled",
    ],
}


@pytest.mark.parametrize("tests", WITHSTOOD.values(), ids=WITHSTOOD.keys())
def test_every_item_of_the_list_has_its_tests(tests: list[str]) -> None:
    for test in tests:
        found = re.fullmatch(r"(\w+)::(\w+)(?:\[(.+)\])?", test)
        assert found is not None, test
        file, function, case = found.groups()
        source = Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
        assert f"def {function}(" in source, test
        assert case is None or f'"{case}' in source, test


def with_memory(wasm: bytes, limits: str) -> bytes:
    """A module of `wat`, its memory section's limits being these, in hex."""
    before, after = bytes.fromhex("05 03 01 00 02"), bytes.fromhex(limits)
    assert wasm.count(before) == 1
    return wasm.replace(before, bytes([5, len(after) + 1, 1]) + after)


def repeated(times: int, body: str, first: str = "") -> str:
    """The body, so many times, and then the answer."""
    return f"""(local $n i32) {first}
      (loop $again {body}
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {times}))))
      (call $answer)"""


#: An allocator that gives the same place to everybody: for guests that make a million host calls.
ONE_PLACE = '(func $allocate (export "allocate") (param i32) (result i32) (i32.const 8192))'

TIME, TIME_DATA = ask("get_time")
SEND, SEND_DATA = ask("send_message", '{"topic":"ok.x","payload":1}')
LIMIT_PAGES = MIB // PAGE_BYTES
GROW_TO_THE_LIMIT = f"""
  (if (i32.ne (memory.grow (i32.const {LIMIT_PAGES - 2})) (i32.const 2)) (then unreachable))
  (i32.store (i32.const {MIB - 4}) (i32.const 1))
  (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
"""
ALL_TABLES_TO_THE_LIMIT = "".join(
    f"(if (i32.ne (table.grow {n} (ref.null func) (i32.const {MAX_TABLE_ELEMENTS})) (i32.const 0)) (then unreachable))"
    f"(if (i32.ne (table.grow {n} (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))"
    for n in range(MAX_TABLES)
)
MEGABYTES_OF_LOGS = repeated(
    600, "(call $say (i32.const 0) (i32.const 1000000))", first="(drop (memory.grow (i32.const 14)))"
)


@dataclass(frozen=True)
class Run:
    kind: RunKind
    error: str | None
    wasm: bytes
    limits: dict[str, Any] = field(default_factory=dict)
    last_log: str | None = None


RUNS = {
    "`memory.grow` to the limit": Run("ok", None, wat(GROW_TO_THE_LIMIT + "(call $answer)")),
    "`memory.grow` beyond the limit": Run(
        "out_of_memory", "refused 65,536 more bytes", wat(GROW_TO_THE_LIMIT + "unreachable")
    ),
    "a memory that declares more than the limit": Run(
        "ok", None, with_memory(wat(GROW_TO_THE_LIMIT + "(call $answer)"), "01 02 80 80 04")
    ),
    "`table.grow` by 100 M": Run(
        "trap",
        "the guest aborted",
        wat(
            "(if (i32.eq (table.grow $t (ref.null func) (i32.const 100000000)) (i32.const -1)) (then unreachable))"
            "(call $answer)",
            more="(table $t 0 funcref)",
        ),
    ),
    "all tables at their limit": Run(
        "ok", None, wat(ALL_TABLES_TO_THE_LIMIT + "(call $answer)", more="(table 0 4294967295 funcref)" * MAX_TABLES)
    ),
    "all tables at their limit from the start": Run(
        "ok", None, wat(more=f"(table {MAX_TABLE_ELEMENTS} funcref)" * MAX_TABLES)
    ),
    "an export with a funcref parameter": Run("ok", None, wat(more='(func (export "f") (param funcref))')),
    "an answer of 17 MB": Run(
        "output_too_large",
        "17,000,000 bytes; at most 1,048,576",
        wat("(drop (memory.grow (i32.const 300))) (call $pack (i32.const 0) (i32.const 17000000))"),
        {"memory_bytes": 32 * MIB},
    ),
    "600 MB of logs": Run(
        "ok",
        None,
        wat(MEGABYTES_OF_LOGS),
        {"max_fuel": 10**10, "timeout_s": 60.0},
        last_log="600 more lines were dropped: too much was logged",
    ),
    "600 MB of logs, unpaid": Run(
        "out_of_fuel",
        "used up",
        wat(MEGABYTES_OF_LOGS),
    ),
    "100,000 log lines": Run(
        "ok",
        None,
        wat(repeated(100_000, "(call $say (i32.const 0) (i32.const 1))")),
        {"max_fuel": 10**10, "timeout_s": 60.0},
        last_log="99,000 more lines were dropped: too much was logged",
    ),
    "a million host calls": Run(
        "out_of_fuel",
        "used up its 10,000,000 units",
        wat(repeated(1_000_000, f"(drop {TIME})"), more=TIME_DATA, allocate=ONE_PLACE),
    ),
    "a million messages": Run(
        "output_too_large",
        "more than 1,000 messages",
        wat(repeated(1_000_000, f"(drop {SEND})"), more=SEND_DATA, allocate=ONE_PLACE),
        {"max_fuel": 10**12},
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
async def test_a_run_ends_as_named(run: Run, make_sandbox: MakeSandbox) -> None:
    hostile, good = await make_sandbox(run.wasm, **run.limits), await make_sandbox(wat())
    for _ in range(2):
        outcome = await hostile.run(b"{}")
        assert outcome.kind == run.kind, outcome
        assert (run.error or "") in (outcome.error or "")
        assert outcome.response == (OK if run.kind == "ok" else b"")
        assert outcome.messages == ()
        assert run.last_log is None or outcome.logs[-1].text == run.last_log
        assert (await good.run(b"{}")).response == OK


async def test_growth_is_counted_up_to_the_limit(make_sandbox: MakeSandbox) -> None:
    outcome = await (await make_sandbox(wat(GROW_TO_THE_LIMIT + "(call $answer)"))).run(b"{}")
    assert outcome.memory_bytes == MIB


@pytest.mark.hostile
@pytest.mark.timeout(400)
async def test_a_million_host_calls_that_are_paid_for_are_served_and_counted(make_sandbox: MakeSandbox) -> None:
    calls = 0

    def count(_session: HostSession, _arguments: Any) -> None:
        nonlocal calls
        calls += 1

    body, segment = ask("count")
    wasm = wat(repeated(1_000_000, f"(drop {body})"), more=segment, allocate=ONE_PLACE)
    hostile = await make_sandbox(wasm, {"count": count}, max_fuel=10**11, timeout_s=300.0)
    good = await make_sandbox(wat())
    run = asyncio.create_task(hostile.run(b"{}"))
    while not run.done():
        assert (await good.run(b"{}")).kind == "ok", "others are served in between"
        await asyncio.sleep(0)  # a run as short as that does not wait for anything
    assert ((await run).kind, calls) == ("ok", 1_000_000)


# Modules that are refused.


def functions(count: int) -> bytes:
    return wat(more="(func)" * count)


REFUSED = {
    "50 memories": (
        bytes(wasmtime.wat2wasm("(module" + "(memory 1)" * 50 + ")")),
        "the module has 50 memories; at most 1",
    ),
    "a memory above the limit": (
        with_memory(wat(), "00 81 08"),  # 1,025 pages
        "starts with 67,174,400 bytes of memory; its limit is 67,108,864",
    ),
    "a table of 100 M": (
        wat(more="(table 100000000 funcref)"),
        "the module has 100,000,000 elements in one table; at most 100,000",
    ),
    "more tables than a slot has": (wat(more="(table 1 funcref)" * 9), "the module has 9 tables; at most 8"),
    "100,000 functions": (functions(100_000), "functions; at most 50,000"),
    "an export with an externref parameter": (
        wat(more='(func (export "f") (param externref))'),
        "the module does not compile: .* gc types are disallowed",
    ),
    "a global that needs a collector": (
        wat(more="(global (mut externref) (ref.null extern))"),
        "the module does not compile: .* gc types are disallowed",
    ),
    "elements outside the table": (
        wat(more="(table 1 funcref) (elem (i32.const 5) $answer)"),
        "the guest trapped: undefined element: out of bounds table access",
    ),
}


@pytest.mark.parametrize(("wasm", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_module_is_refused_and_no_other_with_it(wasm: bytes, reason: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "bad", wasm)
    write_plugin(tmp_path, "good")
    async with PluginManager(tmp_path) as manager:
        (failure,) = manager.failures
        assert isinstance(failure, LoadFailed)
        assert re.search(reason, failure.reason)
        assert (await manager.find("good").run(b"{}")).response == OK


@pytest.mark.hostile
async def test_a_module_whose_instances_are_too_large_for_a_slot_is_refused(tmp_path: Path) -> None:
    """It passes the checks and compiles; that each function is one to be called by reference makes instances large."""
    count = 33_000
    names = " ".join(f"$f{n}" for n in range(count))
    wasm = wat(more="".join(f"(func $f{n})" for n in range(count)) + f"(elem declare func {names})")
    write_plugin(tmp_path, "bad", wasm)
    write_plugin(tmp_path, "good")
    async with PluginManager(tmp_path) as manager:
        (failure,) = manager.failures
        assert "cannot be instantiated here: module instance size does not fit" in str(failure)
        assert (await manager.find("good").run(b"{}")).response == OK


def test_the_checks_pass_as_many_tables_as_a_slot_has_room_for() -> None:
    assert (DEFAULT_LIMITS.tables, DEFAULT_LIMITS.table_elements) == (MAX_TABLES, MAX_TABLE_ELEMENTS)
