"""The guest ABI `component`: components against `warren:plugin`, in Warren's sandbox."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime

from tests.guests import data, write_plugin
from tests.plugins.component_guests import HOST, LIBC, component, lifecycle
from tests.plugins.conftest import MIB, MakeSandbox
from warren.manifests import Grant, Limits, Runtime
from warren.plugins import HostFunctionError, Outcome, PluginManager
from warren.plugins.checks import check_module
from warren.plugins.component_abi import ComponentAbi
from warren.plugins.component_binary import LITTLE_PAGES, read_component
from warren.plugins.engine import Engine
from warren.plugins.errors import GuestFault, ModuleRefused
from warren.plugins.host import Caps, HostSession, Surroundings
from warren.plugins.sandbox import Sandbox

ECHO: Final = component()

#: The answer of a host call, or the message of its error, becomes that of the request.
RELAY: Final = component(
    """
    (call $call (i32.const 1024) (i32.const 4) (local.get $data) (local.get $length) (i32.const 64))
    (if (result i32) (i32.load8_u (i32.const 64))
      (then (call $failed (i32.load (i32.const 76)) (i32.load (i32.const 80))))
      (else (call $ok (i32.load (i32.const 68)) (i32.load (i32.const 72)))))""",
    more=data(1024, "name"),
)

OK: Final = "(call $ok (i32.const 1024) (i32.const 4))"
NULL: Final = data(1024, "null")


async def run(make_sandbox: MakeSandbox, wasm: bytes, value: Any = None, *, action: str = "do", **how: Any) -> Outcome:
    sandbox = await make_sandbox(wasm, **how)
    return await sandbox.run(json.dumps({"action": action, "data": value}).encode())


class TestRequestsAndResults:
    @pytest.mark.parametrize("value", [None, 1, "text", {"a": [1, None, "é"]}, "x" * 300_000])
    async def test_data_goes_in_as_json_and_the_result_comes_out_as_json(
        self, value: Any, make_sandbox: MakeSandbox
    ) -> None:
        outcome = await run(make_sandbox, ECHO, value, memory_bytes=4 * MIB)
        assert outcome.kind == "ok", outcome
        assert json.loads(outcome.response)["result"] == value

    async def test_the_action_is_the_guests_to_read(self, make_sandbox: MakeSandbox) -> None:
        action = component("(call $failed (local.get $action) (local.get $action_length))")
        outcome = await run(make_sandbox, action, action="grüße")
        assert (outcome.kind, json.loads(outcome.response)["error"]) == ("failed", "grüße")

    @pytest.mark.parametrize("sent", [b"", b"[]", b'{"action":1}', b'{"data":1}', b"\xff", b'{"action":"\\ud800"}'])
    async def test_what_is_no_request_is_rejected(self, sent: bytes, make_sandbox: MakeSandbox) -> None:
        assert (await (await make_sandbox(ECHO)).run(sent)).kind == "rejected"

    @pytest.mark.parametrize("result", ["", "nul", '1,"error":"x"', "NaN", "1 1"])
    async def test_a_result_that_is_no_json_traps(self, result: str, make_sandbox: MakeSandbox) -> None:
        body = f"(call $ok (i32.const 1024) (i32.const {len(result)}))"
        outcome = await run(make_sandbox, component(body, more=data(1024, result)))
        assert outcome.kind == "trap"
        assert "is not JSON" in (outcome.error or "")

    async def test_an_answer_that_is_too_long_is_not_passed_on(self, make_sandbox: MakeSandbox) -> None:
        outcome = await run(make_sandbox, ECHO, "x" * 2_000, caps=Caps(answer_bytes=1_000))
        assert outcome.kind == "output_too_large"

    async def test_each_request_has_a_guest_of_its_own(self, make_sandbox: MakeSandbox) -> None:
        count = component(
            "(i32.store8 (i32.const 1024) (i32.add (i32.load8_u (i32.const 1024)) (i32.const 1)))"
            "(call $ok (i32.const 1024) (i32.const 1))",
            more=data(1024, "0"),
        )
        sandbox = await make_sandbox(count)
        answers = [(await sandbox.run(b'{"action":"a"}')).response for _ in range(3)]
        assert {json.loads(answer)["result"] for answer in answers} == {1}


class TestTheHost:
    async def test_lines_are_logged_with_their_levels(self, make_sandbox: MakeSandbox) -> None:
        calls = "".join(f"(call $log (i32.const {level}) (i32.const 1024) (i32.const 4))" for level in range(4))
        outcome = await run(make_sandbox, component(calls + OK, more=NULL))
        assert [(line.level, line.text) for line in outcome.logs] == [
            ("debug", "null"), ("info", "null"), ("warn", "null"), ("error", "null"),
        ]  # fmt: skip

    @pytest.mark.parametrize("answers", ["at once", "later"])
    async def test_a_host_function_is_given_json_and_gives_json(self, answers: str, make_sandbox: MakeSandbox) -> None:
        async def later(_session: HostSession, value: Any) -> Any:
            await asyncio.sleep(0)
            return {"got": value}

        def at_once(_session: HostSession, value: Any) -> Any:
            return {"got": value}

        outcome = await run(make_sandbox, RELAY, [1, "é"], functions={"name": later if answers == "later" else at_once})
        assert json.loads(outcome.response)["result"] == {"got": [1, "é"]}
        assert [call.name for call in outcome.host_calls] == ["name"]

    async def test_a_host_function_that_fails_gives_its_error(self, make_sandbox: MakeSandbox) -> None:
        def fails(_session: HostSession, _value: Any) -> Any:
            raise HostFunctionError("no_luck", "not today")

        outcome = await run(make_sandbox, RELAY, functions={"name": fails})
        assert json.loads(outcome.response)["error"] == "not today"

    async def test_a_host_function_can_end_the_run(self, make_sandbox: MakeSandbox) -> None:
        def denies(_session: HostSession, _value: Any) -> Any:
            raise GuestFault("denied", "you may not")

        outcome = await run(make_sandbox, RELAY, functions={"name": denies})
        assert (outcome.kind, outcome.error) == ("denied", "you may not")

    async def test_a_host_function_that_takes_too_long_ends_with_its_guest(self, make_sandbox: MakeSandbox) -> None:
        ended = asyncio.Event()

        async def never(_session: HostSession, _value: Any) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        outcome = await run(make_sandbox, RELAY, functions={"name": never}, timeout_s=0.05)
        assert outcome.kind == "deadline_exceeded"
        await ended.wait()


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "kind", "error"),
        [
            ("(unreachable)", "trap", "unreachable"),
            ("(loop $l (br $l)) (unreachable)", "out_of_fuel", "used up its 1,000,000 units of fuel"),
            ("(call $ok (i32.const -1) (i32.const 4))", "trap", "out of bounds"),
            ("(call $ok (i32.const 0) (i32.const -1))", "trap", ""),
            ("(i32.const -4)", "trap", ""),
            ("(call $deep) (unreachable)", "trap", "stack"),
            ("(i32.const 17)", "trap", "aligned"),
            ("(i32.store8 (i32.const 16) (i32.const 7)) (i32.const 16)", "trap", "discriminant"),
            ("(i32.store8 (i32.const 16) (i32.const 255)) (call $ok (i32.const 16) (i32.const 1))", "trap", ""),
            ("(call $log (i32.const 9) (i32.const 0) (i32.const 0)) (unreachable)", "trap", "discriminant"),
            ("(call $log (i32.const 0) (i32.const 0) (i32.const -1)) (unreachable)", "trap", ""),
        ],
    )  # fmt: skip
    async def test_a_run_without_an_answer_says_why(
        self, body: str, kind: str, error: str, make_sandbox: MakeSandbox
    ) -> None:
        recursion = "(func $deep (call $deep) (call $deep))"
        outcome = await run(make_sandbox, component(body, more=recursion), max_fuel=1_000_000)
        assert outcome.kind == kind, outcome
        assert error in (outcome.error or "").lower()

    async def test_a_busy_guest_lets_the_event_loop_go_on_and_ends_at_its_deadline(
        self, make_sandbox: MakeSandbox
    ) -> None:
        sandbox = await make_sandbox(component("(loop $l (br $l)) (unreachable)"), max_fuel=10**12, timeout_s=0.1)
        running = asyncio.create_task(sandbox.run(b'{"action":"a"}'))
        turns = 0
        while not running.done():
            await asyncio.sleep(0)
            turns += 1
        assert running.result().kind == "deadline_exceeded"
        assert turns > 10

    async def test_a_cancelled_run_leaves_nothing(self, make_sandbox: MakeSandbox) -> None:
        sandbox = await make_sandbox(component("(loop $l (br $l)) (unreachable)"), max_fuel=10**12)
        running = asyncio.create_task(sandbox.run(b'{"action":"a"}'))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def test_the_memory_does_not_grow_beyond_the_limit(self, make_sandbox: MakeSandbox) -> None:
        grow = f"(drop (memory.grow (i32.const 14))) (i32.eq (i32.const -1) (memory.grow (i32.const 2))) {{}} {OK}"
        refused = component(grow.format("(if (then) (else (unreachable)))"), more=NULL)
        assert (await run(make_sandbox, refused, memory_bytes=MIB)).kind == "ok"
        assert (await run(make_sandbox, refused, memory_bytes=2 * MIB)).kind == "trap"

    async def test_lines_are_capped_and_paid_for(self, make_sandbox: MakeSandbox) -> None:
        body = "(loop $l (call $log (i32.const 0) (i32.const 0) (i32.const 60000)) (br $l)) (unreachable)"
        outcome = await run(make_sandbox, component(body), max_fuel=10_000_000)
        assert outcome.kind == "out_of_fuel"
        assert len(outcome.logs) < 200

    async def test_arguments_have_a_limit(self, make_sandbox: MakeSandbox) -> None:
        libc = LIBC.replace('(memory (export "memory") 1)', '(memory (export "memory") 20)')
        body = "(call $log (i32.const 0) (i32.const 0) (i32.const 1048577)) (unreachable)"
        outcome = await run(make_sandbox, component(body, libc=libc), memory_bytes=2 * MIB)
        assert outcome.kind == "output_too_large"

    async def test_many_guests_run_at_once(self, make_sandbox: MakeSandbox) -> None:
        async def later(_session: HostSession, value: Any) -> Any:
            await asyncio.sleep(0.01)
            return value

        sandbox = await make_sandbox(RELAY, functions={"name": later})
        requests = [json.dumps({"action": "a", "data": number}).encode() for number in range(200)]
        outcomes = await asyncio.gather(*map(sandbox.run, requests))
        assert [json.loads(each.response)["result"] for each in outcomes] == list(range(200))


class TestHostileAllocators:
    """The guest's `realloc` runs whenever the host gives it text: the request, and the answers of host functions."""

    @pytest.mark.parametrize(
        ("allocator", "kind"),
        [
            ("(loop $l (br $l)) (unreachable)", "out_of_fuel"),
            ("(unreachable)", "trap"),
            ("(i32.const -1)", "trap"),
            ("(i32.const 65530)", "trap"),
            ("(call 0 (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", "trap"),
        ],
    )
    async def test_it_ends_as_every_guest(self, allocator: str, kind: str, make_sandbox: MakeSandbox) -> None:
        libc = f"""
          (core module $libc-module
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) {allocator}))
          (core instance $libc (instantiate $libc-module))"""
        outcome = await run(make_sandbox, component(libc=libc), "some text", max_fuel=1_000_000)
        assert outcome.kind == kind, outcome


class TestLifecycle:
    async def test_a_plugin_is_initialised_with_each_request(self, make_sandbox: MakeSandbox) -> None:
        assert (await run(make_sandbox, component(parts=lifecycle()))).kind == "ok"

    async def test_a_plugin_that_cannot_be_initialised_does_not_run(self, make_sandbox: MakeSandbox) -> None:
        sandbox = await make_sandbox(component(parts=lifecycle(initialize="(i32.const 1)")))
        outcome = await sandbox.run(b'{"action":"a"}')
        assert (outcome.kind, outcome.error) == ("trap", "the guest's `initialize` failed: 'no'")

    async def test_a_plugin_is_asked_for_its_health(self, make_sandbox: MakeSandbox) -> None:
        sandbox = await make_sandbox(component(parts=lifecycle(health_check="(i32.const 1)")))
        outcome = await sandbox.check()
        assert (outcome.kind, outcome.error) == ("trap", "the guest's `health-check` failed: 'no'")
        assert (await sandbox.shutdown()).kind == "ok"

    async def test_one_without_is_healthy(self, make_sandbox: MakeSandbox) -> None:
        sandbox = await make_sandbox(ECHO)
        assert ((await sandbox.check()).kind, (await sandbox.shutdown()).kind) == ("ok", "ok")


def a_memory(pages: int, name: str, maximum: str = "") -> str:
    return f"(core module ${name} (memory {pages} {maximum})) (core instance (instantiate ${name}))"


class TestChecks:
    async def test_the_abi_is_recognised(self) -> None:
        abi, _ = check_module(ECHO, MIB)
        assert isinstance(abi, ComponentAbi)
        assert not abi.has_lifecycle

    @pytest.mark.parametrize(
        ("wasm", "reason"),
        [
            (bytes(wasmtime.wat2wasm("(component)")), "does not export 'warren:plugin/handler@1.0.0', but nothing"),
            (
                component(interface="warren:plugin/handler@2.0.0"),
                "does not export 'warren:plugin/handler@1.0.0', but 'warren:plugin/handler@2.0.0'",
            ),
            (
                component(host=HOST + '(import "other:host/api" (instance))'),
                "imports what is not provided here: 'other:host/api'",
            ),
            (component(host=HOST + '(import "run" (func))'), "imports what is not provided here: 'run'"),
            (component(parts=a_memory(17, "m")), "starts with 2,162,688 bytes of memory"),
            (component(parts="(core module $m) (core instance (instantiate $m)) (core instance (instantiate $m))"),
             "instantiates one of its parts twice"),
            (component(parts="(component $c) (instance (instantiate $c)) (instance (instantiate $c))"),
             "instantiates one of its parts twice"),
            (component(parts='(core module $m) (export "m" (core module $m))'), "hands a core module about"),
            (component(parts='(component $c) (export "c" (component $c))'), "hands a component about"),
            (component(parts="(core module $m) (component (alias outer 1 $m (core module $n)))"),
             "hands a core module about"),
            (component(host=HOST + '(import "m" (core module))'), "imports 'm' as a module or a component"),
            (component(parts="(core module (memory 1) (memory 1))"), "2 memories; at most 1"),
            (component(parts="(component" * 9 + ")" * 9), "more than 8 deep"),
            (component(parts="(core module)" * 201), "more than 200"),
            (component(parts="(component)" * 201), "more than 200"),
            (component(parts=f"(component $c {a_memory(1, 'm')}) (instance (instantiate $c))"),
             "two of the components that it is made of have memory"),
            (component(parts="".join(a_memory(0, f"m{n}") for n in range(8))), "9 memories together; at most 8"),
            (component(parts=f"(core module {'(global i32 (i32.const 7))' * 5_000})" * 3),
             "more than 10,000 globals together"),
            (component(parts=f"(core module (func (local {'i32 ' * 9_000})))" * 60),
             "more than 500,000 locals together"),
            (component(host=HOST + "".join(f'(import "wasi:x/y{n}" (instance))' for n in range(500))),
             "501 imports and 1 exports"),
            (component(host=HOST + f'(import "wasi:x/y@0.2.0+{"0" * 200}" (instance))'), "a name of 215 characters"),
        ],
    )  # fmt: skip
    async def test_a_component_that_does_not_fit_is_refused(self, wasm: bytes, reason: str) -> None:
        with pytest.raises(ModuleRefused) as caught:
            check_module(wasm, MIB)
        assert reason in str(caught.value)

    @pytest.mark.parametrize(
        ("wasm", "reason"),
        [
            (
                component(request='(record (field "action" string) (field "data" (list u8)))'),
                "its export 'handle-request' of warren:plugin/handler@1.0.0 is",
            ),
            (
                component(host=HOST.replace("$level-type (enum ", '$level-type (enum "trace" ')),
                "its import 'log' of warren:plugin/host@1.0.0 is",
            ),
            (
                component(host=HOST.replace('(export "log"', '(export "exit" (func)) (export "log"')),
                "its import 'exit' of warren:plugin/host@1.0.0 is not provided",
            ),
        ],
    )
    async def test_functions_of_other_types_are_refused_before_they_are_called(
        self, wasm: bytes, reason: str, make_sandbox: MakeSandbox
    ) -> None:
        with pytest.raises(ModuleRefused) as caught:
            await make_sandbox(wasm)
        assert reason in str(caught.value)

    @pytest.mark.parametrize(
        ("runtime", "reason"),
        [
            (Runtime(abi="core"), "the manifest has [runtime] abi = 'core', and the module is 'component'"),
            (Runtime(args=("a",)), "args and streams are for the ABI 'wasi' alone"),
            (Runtime(snapshot=True), "snapshot is for the ABI 'core' alone"),
        ],
    )
    async def test_what_is_for_other_abis_is_refused(self, runtime: Runtime, reason: str) -> None:
        with pytest.raises(ModuleRefused) as caught:
            check_module(ECHO, MIB, runtime)
        assert reason in str(caught.value)

    async def test_little_memories_are_bounded_and_taken_off_the_limit(self, make_sandbox: MakeSandbox) -> None:
        little = component(parts=a_memory(0, "a") + a_memory(1, "b", "40"))
        info, _ = read_component(little)
        assert (info.memories, info.min_memory_bytes) == (3, 2 * 65_536)
        assert info.little_bytes == 2 * LITTLE_PAGES * 65_536
        assert (await run(make_sandbox, little, memory_bytes=4 * MIB)).kind == "ok"
        with pytest.raises(ModuleRefused, match="its limit is 2,000,000"):
            check_module(little, 2_000_000)

    async def test_only_one_component_has_memory(self, make_sandbox: MakeSandbox) -> None:
        """Strings that pass between two cost no fuel: to recode them over and over once held the loop for minutes."""
        growth = "(if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))"
        module = f"(core module $m (memory 0) (func $start {growth}) (start $start)) (core instance (instantiate $m))"
        stub = component(parts=f"(component $c {module}) (instance (instantiate $c))")
        assert read_component(stub)[0].little_bytes == 0
        assert (await run(make_sandbox, stub)).kind == "ok"

    async def test_a_component_cannot_call_itself(self, make_sandbox: MakeSandbox) -> None:
        """Or else a string would be recoded for no fuel within one component, too."""
        lifted = """
          (core module $module (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
            (func (export "take") (param i32 i32)))
          (core instance $other (instantiate $module))
          (alias core export $other "memory" (core memory $other-memory))
          (func $take (param "text" string) (canon lift (core func $other "take")
            (memory $other-memory) (realloc (core func $other "realloc"))))
          (core func $it (canon lower (func $take) (memory $memory)))"""
        itself = component(
            f"(call $it (i32.const 0) (i32.const 9)) {OK}",
            lowered=lifted,
            imports='(import "host" "it" (func $it (param i32 i32)))',
            given='(export "it" (func $it))',
            more=NULL,
        )
        outcome = await run(make_sandbox, itself, memory_bytes=4 * MIB)
        assert (outcome.kind, outcome.error) == ("trap", "the guest trapped: cannot enter component instance")

    async def test_types_that_take_long_to_list_are_not_listed(self, make_sandbox: MakeSandbox) -> None:
        random = '(import "wasi:random/random@0.2.3" (instance (export "get-random-u64" (func (result {}))){}))'
        wide = component(host=HOST + random.format(f"(tuple {'u8 ' * 9_000})", ""))
        with pytest.raises(ModuleRefused, match=r"is 'func\(\) -> …', and must be"):
            await make_sandbox(wide)
        many = "".join(f'(export "f{n}" (func))' for n in range(200))
        with pytest.raises(ModuleRefused, match=r"random@0\.2\.3 has more than 200 items"):
            await make_sandbox(component(host=HOST + random.format("u64", many)))

    async def test_a_damaged_component_is_read_or_refused(self) -> None:
        chance = random.Random(7)  # noqa: S311 - not a secret
        for _ in range(3_000):
            damaged = bytearray(ECHO)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(8, len(damaged))] = chance.randrange(256)
            cut = bytes(damaged[: chance.randint(8, len(damaged))] if chance.random() < 0.2 else damaged)
            try:
                read_component(cut)
            except ModuleRefused:
                continue

    async def test_damaged_components_that_are_not_refused_are_compiled_in_a_child(
        self, make_sandbox: MakeSandbox
    ) -> None:
        chance = random.Random(11)  # noqa: S311 - not a secret
        ran = 0
        while ran < 12:
            damaged = bytearray(ECHO)
            damaged[chance.randrange(8, len(damaged))] = chance.randrange(256)
            try:
                check_module(bytes(damaged), MIB)
            except ModuleRefused:
                continue
            ran += 1
            try:
                outcome = await run(make_sandbox, bytes(damaged), 1, max_fuel=1_000_000)
            except ModuleRefused:
                continue
            assert outcome.kind in {"ok", "failed", "trap", "out_of_fuel", "output_too_large"}


WASI: Final = (
    HOST
    + """
  (import "wasi:random/random@0.2.3" (instance $random
    (export "get-random-u64" (func (result u64)))
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (export "now" (func (result u64)))
    (export "resolution" (func (result u64)))))
  (import "wasi:clocks/wall-clock@0.2.3" (instance $wall
    (type $t (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $t)))
    (export "now" (func (result $datetime)))))
  (import "wasi:cli/environment@0.2.3" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
"""
)

#: Each function of WASI as the core module imports it: what it is, how it is lowered and its type.
CALLED: Final = {
    "random": ('(func $random "get-random-u64")', "(result i64)"),
    "bytes": ('(func $random "get-random-bytes") (memory $memory) (realloc $realloc)', "(param i64 i32)"),
    "clock": ('(func $clock "now")', "(result i64)"),
    "wall": ('(func $wall "now") (memory $memory)', "(param i32)"),
    "environment": ('(func $environment "get-environment") (memory $memory) (realloc $realloc)', "(param i32)"),
    "exit": ('(func $exit "exit")', "(param i32)"),
}


def calling(name: str, body: str) -> bytes:
    """A component that calls `$it`, a function of WASI."""
    lowered, type_text = CALLED[name]
    return component(
        body,
        host=WASI,
        lowered=f"(core func $it (canon lower {lowered}))",
        imports=f'(import "host" "it" (func $it {type_text}))',
        given='(export "it" (func $it))',
        more=NULL,
    )


def printing(body: str) -> bytes:
    """A component with `$stdout` and `$stderr`, each for a stream, and `$write` (stream, at, length, 16 bytes)."""
    streams = """
  (import "wasi:io/streams@0.2.3" (instance $streams
    (export "output-stream" (type $stream (sub resource)))
    (type $e (variant (case "closed")))
    (export "stream-error" (type $error (eq $e)))
    (export "[method]output-stream.write"
      (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $error)))))))
  (alias export $streams "output-stream" (type $stream))"""
    for name in ("stdout", "stderr"):
        streams += f"""
  (import "wasi:cli/{name}@0.2.3" (instance ${name}
    (export "output-stream" (type $s (eq $stream)))
    (export "get-{name}" (func (result (own $s))))))"""
    return component(
        body,
        host=HOST + streams,
        libc=LIBC.replace('(memory (export "memory") 1)', '(memory (export "memory") 2)'),
        lowered="""
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory $memory)))""",
        imports="""
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "stderr" (func $stderr (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))""",
        given='(export "stdout" (func $stdout)) (export "stderr" (func $stderr)) (export "write" (func $write))',
        more=NULL + data(2048, "one two\nthr"),
    )


class Still:
    """A world where it is always the same moment, and a die shows one side."""

    def clock_ns(self, clock: str) -> int:
        return {"realtime": 1_700_000_000_000_000_123, "monotonic": 42}[clock]

    def random_bytes(self, length: int) -> bytes:
        return bytes(range(length))


class TestWasi:
    @pytest.mark.parametrize(
        ("name", "condition"),
        [
            ("random", "(i64.eq (call $it) (i64.const 0x0001020304050607))"),
            ("clock", "(i64.eq (call $it) (i64.const 42))"),
            (
                "wall",
                """(call $it (i32.const 64))
                (i32.and (i64.eq (i64.load (i32.const 64)) (i64.const 1700000000))
                  (i32.eq (i32.load (i32.const 72)) (i32.const 123)))""",
            ),
        ],
    )
    async def test_time_and_randomness_are_those_of_the_runs_world(
        self, name: str, condition: str, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(HostSession, "clock_ns", lambda _session, clock: Still().clock_ns(clock))
        monkeypatch.setattr(HostSession, "random_bytes", lambda _session, length: Still().random_bytes(length))
        body = f"{condition} (if (then) (else (unreachable))) {OK}"
        assert (await run(make_sandbox, calling(name, body))).kind == "ok"

    async def test_the_environment_is_what_was_granted(self, make_sandbox: MakeSandbox) -> None:
        body = f"(call $it (i32.const 64)) (if (i32.load (i32.const 68)) (then (unreachable))) {OK}"
        assert (await run(make_sandbox, calling("environment", body))).kind == "ok"

    async def test_what_is_printed_is_logged_line_by_line(self, make_sandbox: MakeSandbox) -> None:
        body = f"""
          (call $write (call $stderr) (i32.const 2048) (i32.const 5) (i32.const 64))
          (call $write (call $stderr) (i32.const 2053) (i32.const 6) (i32.const 64))
          (call $write (call $stdout) (i32.const 2048) (i32.const 3) (i32.const 64)) {OK}"""
        outcome = await run(make_sandbox, printing(body))
        assert outcome.kind == "ok", outcome
        assert [(line.level, line.text) for line in outcome.logs] == [
            ("warn", "one two"), ("info", "one"), ("warn", "thr"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("call", "kind", "error"),
        [
            ("(call $write (call $stdout) (i32.const 0) (i32.const 16385) (i32.const 64))", "trap", "at once"),
            ("(call $write (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 64))", "trap", "handle"),
            (
                "(loop $l (call $write (call $stdout) (i32.const 0) (i32.const 16000) (i32.const 64)) (br $l))",
                "out_of_fuel",
                "",
            ),
            (
                """(memory.fill (i32.const 0) (i32.const 10) (i32.const 16000))
                (loop $l (call $write (call $stdout) (i32.const 0) (i32.const 16000) (i32.const 64))
                  (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 4))))""",
                "out_of_fuel",
                "",
            ),
        ],
    )
    async def test_printing_has_its_limits(self, call: str, kind: str, error: str, make_sandbox: MakeSandbox) -> None:
        outcome = await run(
            make_sandbox, printing(f"(local $n i32) {call} (unreachable)"), memory_bytes=2 * MIB, max_fuel=50_000_000
        )
        assert outcome.kind == kind, outcome
        assert error in (outcome.error or "")

    async def test_what_is_no_unicode_is_replaced_and_ends_nothing(self, engine: Engine) -> None:
        length = len("A\ufffd".encode())
        body = f"""(call $it (i32.const 64)) (if (i32.ne (i32.load offset=12 (i32.load (i32.const 64)))
            (i32.const {length})) (then (unreachable))) {OK}"""
        abi, wasm = check_module(calling("environment", body), MIB)
        grant = Grant("tested", frozenset(), Limits(memory_bytes=MIB, timeout_s=10.0))
        around = Surroundings(environment=(b"NAME=A\xff",))
        sandbox = Sandbox(await abi.compile(engine, wasm), abi, grant, b"{}", {}, surroundings=around)
        assert (await sandbox.run(b'{"action":"a"}')).kind == "ok"

    async def test_a_large_environment_is_paid_for(self, engine: Engine) -> None:
        body = "(loop $again (call $it (i32.const 64)) (br $again)) (unreachable)"
        abi, wasm = check_module(calling("environment", body), 64 * MIB)
        grant = Grant("tested", frozenset(), Limits(memory_bytes=64 * MIB, max_fuel=10_000_000, timeout_s=10.0))
        environment = tuple(f"V{n}={'x' * 1_000}".encode() for n in range(100))
        around = Surroundings(environment=environment)
        sandbox = Sandbox(await abi.compile(engine, wasm), abi, grant, b"{}", {}, surroundings=around)
        outcome = await sandbox.run(b'{"action":"a"}')
        assert outcome.kind == "out_of_fuel"

    @pytest.mark.parametrize(("length", "kind"), [(4, "ok"), (65_536, "ok"), (65_537, "trap")])
    async def test_random_bytes_are_handed_over_as_they_are(
        self, length: int, kind: str, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(HostSession, "random_bytes", lambda _session, length: bytes(n % 256 for n in range(length)))
        body = f"""(call $it (i64.const {length}) (i32.const 64))
          (if (i32.ne (i32.load (i32.load (i32.const 64))) (i32.const 0x03020100)) (then (unreachable))) {OK}"""
        outcome = await run(make_sandbox, calling("bytes", body), memory_bytes=32 * MIB)
        assert outcome.kind == kind, outcome

    async def test_what_there_is_not_traps_and_says_what(self, make_sandbox: MakeSandbox) -> None:
        outcome = await run(make_sandbox, calling("exit", f"(call $it (i32.const 0)) {OK}"))
        assert outcome.kind == "trap"
        assert "wasi:cli/exit@0.2.3#exit" in (outcome.error or "")

    async def test_what_is_said_of_a_trap_is_bounded(self, make_sandbox: MakeSandbox) -> None:
        name = "x" * 90_000
        long = component(
            f"(call $it) {OK}",
            host=HOST + f'(import "wasi:x/y@0.2.3" (instance $long (export "{name}" (func))))',
            lowered=f'(core func $it (canon lower (func $long "{name}")))',
            imports='(import "host" "it" (func $it))',
            given='(export "it" (func $it))',
        )
        outcome = await run(make_sandbox, long)
        assert outcome.kind == "trap"
        assert "wasi:x/y@0.2.3#xxx" in (outcome.error or "")
        assert len(outcome.error or "") < 600

    async def test_a_function_of_wasi_of_another_type_is_refused(self, make_sandbox: MakeSandbox) -> None:
        wrong = WASI.replace('"get-random-u64" (func (result u64))', '"get-random-u64" (func (result string))')
        with pytest.raises(ModuleRefused, match=r"'get-random-u64' of wasi:random/random@0\.2\.3 is"):
            await make_sandbox(component(host=wrong))


async def test_a_component_is_loaded_as_every_plugin_is(tmp_path: Path) -> None:
    write_plugin(tmp_path, "echo", ECHO)
    async with PluginManager(tmp_path) as manager:
        assert manager.failures == ()
        outcome = await manager.find("echo").run(b'{"action":"a","data":[1]}')
        assert json.loads(outcome.response)["result"] == [1]
