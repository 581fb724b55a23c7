"""Each way a run can end, and what its outcome tells."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.guests import HEAP_AT, MEMORY_BYTES, OK, OK_AT, answering, ask, data, wat
from tests.plugins.conftest import MakeSandbox
from warren.plugins.errors import ModuleRefused
from warren.plugins.host import Caps
from warren.plugins.outcome import RunKind

REQUEST = b'{"action":"echo","data":[1]}'
FAILED = b'{"success":false,"result":null,"error":"no"}'
JUNK = b"}}{{\"'\\\xff\x00 and so on"

#: `allocate`, when the host call's answer is to be written (it is longer than REQUEST), does this.
NESTED = '(func $allocate (export "allocate") (param $length i32) (result i32) (if (i32.gt_u (local.get $length) (i32.const 29)) (then %s)) (i32.const 8192))'  # noqa: E501

TIME, TIME_DATA = ask("get_time")


def initialise(body: str) -> str:
    return f'(func (export "initialize") (param i32 i32) (result i32) {body})'


def start(body: str) -> str:
    return f"(func $start {body}) (start $start)"


def bare(pointer: int, content: bytes = b"") -> bytes:
    """A guest of the old template: it answers a pointer alone."""
    return wat(f"(i32.const {pointer})", result="i32", more=data(pointer, content) if content else "")


def packed(pointer: int, length: int) -> bytes:
    return wat(f"(call $pack (i32.const {pointer}) (i32.const {length}))")


def allocating(body: str, handling: str = "(call $answer)", more: str = "") -> bytes:
    allocate = f'(func $allocate (export "allocate") (param $length i32) (result i32) {body})'
    return wat(handling, allocate=allocate, more=more)


def nested(body: str) -> bytes:
    """A guest whose `allocate` does this in the middle of a host call."""
    return wat(f"(drop {TIME}) (call $answer)", more=TIME_DATA, allocate=NESTED % body)


@dataclass(frozen=True)
class Case:
    kind: RunKind
    error: str | None
    wasm: bytes


ANSWERS = {
    "a packed answer": Case("ok", None, wat()),
    "a packed failure": Case("failed", None, answering(FAILED)),
    "a bare pointer": Case("ok", None, wat(f"(i32.const {OK_AT})", result="i32")),
    "a bare pointer with junk behind": Case("ok", None, bare(8192, OK + JUNK)),
    "a bare pointer to the memory's end": Case("ok", None, bare(MEMORY_BYTES - len(OK), OK)),
    "a packed answer at the memory's end": Case(
        "ok",
        None,
        wat(
            f"(call $pack (i32.const {MEMORY_BYTES - len(OK)}) (i32.const {len(OK)}))",
            more=data(MEMORY_BYTES - len(OK), OK),
        ),
    ),
    "a host call in the start function": Case("ok", None, wat(more=TIME_DATA + start(f"(drop {TIME})"))),
    "memory that grows in `allocate` while the host waits for it": Case(
        "ok", None, nested("(drop (memory.grow (i32.const 3))) (return (i32.const 300000))")
    ),
}

FAULTS = {
    "nothing": Case("trap", "the guest answered nothing", wat("(i64.const 0)")),
    "a null pointer": Case("trap", "the guest answered nothing (a null pointer)", bare(0)),
    "pointer -1": Case("trap", "40 bytes at 4,294,967,295 of 131,072", packed(-1, 40)),
    "a bare pointer -1": Case("trap", "outside its memory", bare(-1)),
    "a bare pointer to the very end": Case("trap", "not a JSON object", bare(MEMORY_BYTES)),
    "one byte past the end": Case("trap", "outside its memory", packed(MEMORY_BYTES - len(OK) + 1, len(OK))),
    "4 GiB": Case("output_too_large", "4,294,967,295 bytes; at most 1,048,576", packed(0, -1)),
    "invalid UTF-8": Case("trap", "not JSON", answering(b'{"success":true,"result":"\xff","error":null}')),
    "no JSON": Case("trap", "not JSON", answering("hello")),
    "NaN": Case("trap", "not JSON", answering('{"success":true,"result":NaN,"error":null}')),
    "a number of 5,000 digits": Case(
        "trap", "not JSON", answering(b'{"success":true,"result":%s,"error":null}' % (b"9" * 5000), at=8192)
    ),
    "nested arrays": Case("trap", "recursion limit", answering(b"[" * 10_000, at=8192)),
    "bare nested objects": Case("trap", "not a JSON object", bare(8192, b'{"a":' * 10_000)),
    "a string without an end": Case("trap", "not a JSON object", bare(8192, b'{"' + b'\\"' * 50_000)),
    "no object": Case("trap", "not {", answering("[1]")),
    "success as a number": Case("trap", "not {", answering('{"success":1,"result":1,"error":null}')),
    "an error that is no string": Case("trap", "not {", answering('{"success":false,"result":1,"error":5}')),
    "a key too many": Case("trap", "not {", answering('{"success":true,"result":1,"error":null,"x":1}')),
    "a key too few": Case("trap", "not {", answering('{"success":true,"result":1}')),
    "unreachable": Case("trap", "the guest aborted (unreachable)", wat("unreachable")),
    "a load out of bounds": Case(
        "trap", "accessed memory out of bounds", wat("(drop (i32.load (i32.const -1))) (call $answer)")
    ),
    "a division by zero": Case(
        "trap", "divided by zero", wat("(drop (i32.div_s (i32.const 1) (i32.const 0))) (call $answer)")
    ),
    "an integer overflow": Case(
        "trap",
        "the guest trapped: integer overflow",
        wat("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1))) (call $answer)"),
    ),
    "a call of nothing": Case(
        "trap", "uninitialized element", wat("(call_indirect (i32.const 0)) (call $answer)", more="(table 1 funcref)")
    ),
    "a stack overflow": Case(
        "trap", "overflowed its call stack", wat("(call $deeper) (call $answer)", more="(func $deeper (call $deeper))")
    ),
    "a trap in the start function": Case("trap", "aborted", wat(more=start("unreachable"))),
    "a trap in the start function after a log line": Case(
        "trap", "aborted", wat(more=start("(call $say (i32.const 0) (i32.const 5)) unreachable"))
    ),
    "a trap in the start function after a host call": Case(
        "trap", "aborted", wat(more=TIME_DATA + start(f"(drop {TIME}) unreachable"))
    ),
    "data outside the memory": Case("trap", "accessed memory out of bounds", wat(more=data(999_999, "x"))),
    "a trap in `allocate`": Case("trap", "aborted", allocating("unreachable")),
    "`allocate` giving -1": Case("trap", "28 bytes at 4,294,967,295 of 131,072", allocating("(i32.const -1)")),
    "`allocate` giving too little room": Case("trap", "outside its memory", allocating("(i32.const 131045)")),
    "a trap in `allocate` in a host call": Case("trap", "aborted", nested("unreachable")),
    "`allocate` giving -1 in a host call": Case("trap", "at 4,294,967,295", nested("(return (i32.const -1))")),
    "a stack overflow in `allocate` in a host call": Case(
        "trap", "overflowed", nested("(return (call $allocate (local.get 0)))")
    ),
    "a host call in `allocate` in a host call": Case("trap", "from within its `allocate`", nested(f"(drop {TIME})")),
    "a bad log line in `allocate` in a host call": Case(
        "trap", "9 bytes at 4,294,967,295", nested("(call $say (i32.const -1) (i32.const 9))")
    ),
    "a log line at -1": Case(
        "trap", "outside its memory", wat("(call $say (i32.const -1) (i32.const 5)) (call $answer)")
    ),
    "a log line of 4 GiB": Case(
        "trap", "outside its memory", wat("(call $say (i32.const 5) (i32.const -1)) (call $answer)")
    ),
    "a host call's name at -1": Case(
        "trap", "outside its memory", wat("(call $ask (i32.const -1) (i32.const 5) (i32.const 0) (i32.const 0))")
    ),
    "a host call's arguments past the end": Case(
        "trap", "outside its memory", wat("(call $ask (i32.const 0) (i32.const 5) (i32.const 131072) (i32.const 1))")
    ),
    "an infinite loop": Case("out_of_fuel", "used up its 10,000,000 units", wat("(loop (br 0)) unreachable")),
    "an infinite loop in the start function": Case("out_of_fuel", "used up", wat(more=start("(loop (br 0))"))),
    "an infinite loop in `allocate`": Case("out_of_fuel", "used up", allocating("(loop (br 0)) unreachable")),
    "an infinite loop in `allocate` in a host call": Case("out_of_fuel", "used up", nested("(loop (br 0))")),
    "a refused growth, and abortion": Case(
        "out_of_memory",
        "refused 65,536,000 more bytes",
        wat("(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable)) (call $answer)"),
    ),
    "a refused growth, and an endless loop": Case(
        "out_of_fuel", "used up", wat("(drop (memory.grow (i32.const 1000))) (loop (br 0)) unreachable")
    ),
    "an answer too large": Case(
        "output_too_large",
        "1,048,577 bytes; at most 1,048,576",
        wat("(drop (memory.grow (i32.const 14))) (call $pack (i32.const 0) (i32.const 1048577))"),
    ),
    "a log line too large": Case(
        "output_too_large",
        "handed over 1,048,577 bytes at once",
        wat("(drop (memory.grow (i32.const 15))) (call $say (i32.const 0) (i32.const 1048577)) (call $answer)"),
    ),
    "a host call too large": Case(
        "output_too_large",
        "handed over 1,048,577 bytes at once",
        wat(
            "(drop (memory.grow (i32.const 15)))"
            "(call $ask (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 1048577))"
        ),
    ),
    "`initialize` giving -1": Case("trap", "`initialize` returned -1, not 0", wat(more=initialise("(i32.const -1)"))),
    "a trap in `initialize`": Case("trap", "aborted", wat(more=initialise("unreachable"))),
    "a trap in `_initialize`": Case("trap", "aborted", wat(more='(func (export "_initialize") unreachable)')),
}


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_is_handed_on_byte_for_byte(case: Case, make_sandbox: MakeSandbox) -> None:
    outcome = await (await make_sandbox(case.wasm, memory_bytes=2 << 20)).run(REQUEST)
    assert (outcome.kind, outcome.error) == (case.kind, None)
    assert outcome.response == (OK if case.kind == "ok" else FAILED)


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
async def test_a_run_without_an_answer_says_why(case: Case, make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(case.wasm, memory_bytes=2 << 20)
    outcome = await sandbox.run(REQUEST)
    assert case.error is not None
    assert outcome.kind == case.kind
    assert case.error in (outcome.error or "")
    assert outcome.response == b""
    assert outcome.messages == ()
    assert (await sandbox.run(REQUEST)).kind == case.kind, "the sandbox is as good as before"


async def test_a_bare_pointer_may_lie_in_a_memory_larger_than_an_answer(make_sandbox: MakeSandbox) -> None:
    body = f"(drop (memory.grow (i32.const 30))) (i32.const {OK_AT})"
    assert (await (await make_sandbox(wat(body, result="i32"), memory_bytes=4 << 20)).run(REQUEST)).response == OK


async def test_a_bare_answer_longer_than_allowed_is_too_large(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(bare(8192, OK), caps=Caps(answer_bytes=len(OK) - 1))
    outcome = await sandbox.run(REQUEST)
    assert (outcome.kind, outcome.error) == (
        "output_too_large",
        "the guest's answer has more than 39 bytes; at most 39 are allowed",
    )


async def test_the_guest_is_given_the_request_as_it_came(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(wat("(call $pack (local.get $at) (local.get $length))"))
    assert (await sandbox.run(FAILED)).response == FAILED


async def test_initialize_is_given_the_configuration(make_sandbox: MakeSandbox) -> None:
    remember = "(global $at (mut i32) (i32.const 0)) (global $length (mut i32) (i32.const 0))" + initialise(
        "(global.set $at (local.get 0)) (global.set $length (local.get 1)) (i32.const 0)"
    )
    sandbox = await make_sandbox(
        wat("(call $pack (global.get $at) (global.get $length))", more=remember), config=FAILED
    )
    assert (await sandbox.run(REQUEST)).response == FAILED


async def test_a_backtrace_names_functions_innermost_first(make_sandbox: MakeSandbox) -> None:
    outcome = await (await make_sandbox(wat("(call $inner) (call $answer)", more="(func $inner unreachable)"))).run(
        REQUEST
    )
    assert [line.split(" at 0x")[0] for line in outcome.backtrace] == ["inner", "handle_request"]


async def test_long_or_odd_function_names_are_cut_and_escaped(make_sandbox: MakeSandbox) -> None:
    name = '$"\\1b[2J' + "f" * 3000 + '"'
    outcome = await (await make_sandbox(wat(f"(call {name}) (call $answer)", more=f"(func {name} unreachable)"))).run(
        REQUEST
    )
    first = outcome.backtrace[0]
    assert first.startswith("'\\x1b[2Jfff")
    assert len(first) < 230


async def test_a_module_that_starts_with_too_much_memory_is_refused_before_it_runs(make_sandbox: MakeSandbox) -> None:
    with pytest.raises(ModuleRefused, match="starts with 131,072 bytes of memory; its limit is 65,536"):
        await make_sandbox(wat(), memory_bytes=65_536)


@pytest.mark.parametrize(
    ("health", "kind"),
    [("(i32.const 1)", "ok"), ("(i32.const 0)", "trap"), ("(i32.const -1)", "trap"), ("unreachable", "trap")],
)
async def test_check_asks_for_the_health(health: str, kind: RunKind, make_sandbox: MakeSandbox) -> None:
    more = f'(func (export "health_check") (result i32) {health})'
    assert (await (await make_sandbox(wat(more=more))).check()).kind == kind


async def test_check_runs_initialize(make_sandbox: MakeSandbox) -> None:
    outcome = await (await make_sandbox(wat(more=initialise("(i32.const 7)")))).check()
    assert (outcome.kind, outcome.error) == ("trap", "the guest's `initialize` returned 7, not 0")


@pytest.mark.parametrize(
    ("body", "kind"), [("(i32.const 0)", "ok"), ("(i32.const 3)", "trap"), ("(loop (br 0)) unreachable", "out_of_fuel")]
)
async def test_shutdown_is_run_under_the_same_limits(body: str, kind: RunKind, make_sandbox: MakeSandbox) -> None:
    more = f'(func (export "shutdown") (result i32) {body})'
    assert (await (await make_sandbox(wat(more=more))).shutdown()).kind == kind


async def test_host_calls_work_in_every_export(make_sandbox: MakeSandbox) -> None:
    call = f"(drop {TIME})"
    more = (
        TIME_DATA
        + initialise(f"{call} (i32.const 0)")
        + f'(func (export "health_check") (result i32) {call} (i32.const 1))'
        + f'(func (export "shutdown") (result i32) {call} (i32.const 0)) (func (export "_initialize") {call})'
    )
    sandbox = await make_sandbox(wat(more=more))
    for outcome in (await sandbox.run(REQUEST), await sandbox.check(), await sandbox.shutdown()):
        assert outcome.kind == "ok"
        assert len(outcome.host_calls) >= 2


async def test_fuel_is_counted_exactly_and_repeatably(make_sandbox: MakeSandbox) -> None:
    work = "(local $n i32) (loop (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $n) (i32.const {}))))"  # noqa: E501
    ten, twenty = [await make_sandbox(wat(work.format(rounds) + "(call $answer)")) for rounds in (10, 20)]
    fuel = [(await sandbox.run(REQUEST)).fuel for sandbox in (ten, ten, twenty)]
    assert fuel[0] == fuel[1]
    assert (fuel[2] - fuel[0]) % 10 == 0
    assert fuel[2] > fuel[0]


async def test_fuel_that_is_used_up_is_all_used(make_sandbox: MakeSandbox) -> None:
    needed = (await (await make_sandbox(wat())).run(REQUEST)).fuel
    assert (await (await make_sandbox(wat(), max_fuel=needed + 1)).run(REQUEST)).kind == "ok"
    outcome = await (await make_sandbox(wat(), max_fuel=needed // 2)).run(REQUEST)
    assert (outcome.kind, outcome.fuel) == ("out_of_fuel", needed // 2)


async def test_the_outcome_tells_the_peak_of_memory_and_the_time(make_sandbox: MakeSandbox) -> None:
    outcome = await (await make_sandbox(wat("(drop (memory.grow (i32.const 5))) (call $answer)"))).run(REQUEST)
    assert outcome.memory_bytes == MEMORY_BYTES + 5 * 65_536
    assert 0 < outcome.duration_us < 5_000_000
    assert outcome.start_ns > 1_700_000_000 * 10**9


async def test_nothing_of_a_run_is_there_in_the_next(make_sandbox: MakeSandbox) -> None:
    """Each run adds one to a global and to memory, on one page and on one that it grows, and answers with them."""
    more = "(global $runs (mut i32) (i32.const 48))" + data(1024, '{"success":true,"result":"000","error":null}')
    body = f"""
      (drop (memory.grow (i32.const 1)))
      (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
      (i32.store8 (i32.const {MEMORY_BYTES}) (i32.add (i32.load8_u (i32.const {MEMORY_BYTES})) (i32.const 1)))
      (i32.store8 (i32.const 1050) (global.get $runs))
      (i32.store8 (i32.const 1051) (i32.add (i32.load8_u (i32.const 1051)) (i32.const 1)))
      (i32.store8 (i32.const 1052) (i32.add (i32.const 48) (i32.load8_u (i32.const {MEMORY_BYTES}))))
      (call $pack (i32.const 1024) (i32.const 44))"""
    sandbox = await make_sandbox(wat(body, more=more))
    for _ in range(3):
        assert (await sandbox.run(REQUEST)).response == b'{"success":true,"result":"111","error":null}'


async def test_the_heap_of_one_run_is_not_that_of_the_next(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(wat(f"(call $pack (i32.const {HEAP_AT}) (i32.const {len(FAILED)}))"))
    assert (await sandbox.run(FAILED)).response == FAILED
    outcome = await sandbox.run(b"{}")
    assert outcome.kind == "trap", "where the first request lay are zeros"
