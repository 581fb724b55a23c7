"""The guest ABI `extism`: plugins for Extism's hosts, in Warren's sandbox."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime

from tests.guests import data, wat, write_plugin
from tests.plugins.conftest import MIB, MakeSandbox
from warren.manifests import Policy, Runtime
from warren.plugins import HostFunctionError, Outcome, PluginManager
from warren.plugins.checks import check_module
from warren.plugins.errors import GuestFault, ModuleRefused
from warren.plugins.extism_guest import MAX_VARIABLE_BYTES
from warren.plugins.extism_kernel import ENV_SIGNATURES, EXTISM, EXTISM_0, Dialect
from warren.plugins.host import Caps, HostFunction
from warren.plugins.outcome import RunKind

#: Plugins that were built in C for Extism, and that the benchmarks run in Extism itself.
BUILT: Final = Path(__file__).parents[1] / "benchmarks" / "guests"

TEXT_AT: Final = 1024


def plugin(
    body: str,
    *,
    more: str = "",
    text: str | bytes = "",
    result: str = "(result i32)",
    user: str = "",
    dialect: Dialect = EXTISM,
) -> bytes:
    """A plugin with one action, `do`. `$text` (offset, length) is a block of that much of `text`."""
    imports = "\n".join(
        f'(import "{dialect.env}" "{dialect.prefix}{name}" {str(signature).replace("(func", f"(func ${name}", 1)})'
        for name, signature in ENV_SIGNATURES.items()
    )
    return bytes(
        wasmtime.wat2wasm(f"""
(module
  {imports}
  {user}
  (memory (export "memory") 1)
  {data(TEXT_AT, text)}
  (func $text (param $at i32) (param $length i32) (result i64) (local $block i64) (local $i i32)
    (local.set $block (call $alloc (i64.extend_i32_u (local.get $length))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $length)))
      (call $store_u8 (i64.add (local.get $block) (i64.extend_i32_u (local.get $i)))
        (i32.load8_u (i32.add (i32.const {TEXT_AT}) (i32.add (local.get $at) (local.get $i)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (local.get $block))
  (func $out (param $block i64) (call $output_set (local.get $block) (call $length (local.get $block))))
  {more}
  (func $do (export "do") {result} {body}))
""")
    )


OK: Final = "(i32.const 0)"

#: A block of eight bytes.
A_KEY: Final = "(call $text (i32.const 0) (i32.const 8))"

#: Eight bytes at a time, and then one at a time, as PDKs do.
ECHO: Final = plugin(f"""
  (local $block i64) (local $i i64)
  (local.set $block (call $alloc (call $input_length)))
  (block $tail (loop $next
    (br_if $tail (i64.gt_u (i64.add (local.get $i) (i64.const 8)) (call $input_length)))
    (call $store_u64 (i64.add (local.get $block) (local.get $i)) (call $input_load_u64 (local.get $i)))
    (local.set $i (i64.add (local.get $i) (i64.const 8)))
    (br $next)))
  (block $done (loop $next
    (br_if $done (i64.ge_u (local.get $i) (call $input_length)))
    (call $store_u8 (i64.add (local.get $block) (local.get $i)) (call $input_load_u8 (local.get $i)))
    (local.set $i (i64.add (local.get $i) (i64.const 1)))
    (br $next)))
  (call $output_set (local.get $block) (call $input_length)) {OK}""")


async def run(make_sandbox: MakeSandbox, wasm: bytes, value: Any = None, *, action: str = "do", **how: Any) -> Outcome:
    sandbox = await make_sandbox(wasm, **how)
    return await sandbox.run(json.dumps({"action": action, "data": value}).encode())


def result(outcome: Outcome) -> Any:
    assert outcome.kind == "ok", outcome
    return json.loads(outcome.response)["result"]


def saying(call: str) -> str:
    """A body that outputs the block that a call gives."""
    return f"(call $out {call}) {OK}"


CONFIG: Final = b'{"settings":{"name":"Warren","limits":{"a":[1]},"empty":""}}'


class TestInputAndOutput:
    @pytest.mark.parametrize(
        ("value", "made"),
        [
            ("some text", "some text"),
            ("", None),
            (None, None),
            ({"a": [1, None]}, {"a": [1, None]}),
            ("42", 42),
            ('{"a":1}', {"a": 1}),
            ("ä" * 1_001, "ä" * 1_001),
            ({"base64": "/wA="}, {"base64": "/wA="}),
            ({"base64": "aGk="}, "hi"),
            ("x" * 300_000, "x" * 300_000),
        ],
    )
    async def test_text_goes_in_as_it_is_and_all_else_as_json(
        self, value: Any, made: Any, make_sandbox: MakeSandbox
    ) -> None:
        assert result(await run(make_sandbox, ECHO, value, memory_bytes=8 * MIB)) == made

    @pytest.mark.parametrize("name", ["echo", "words"])
    async def test_plugins_in_c_run(self, name: str, make_sandbox: MakeSandbox) -> None:
        wasm = (BUILT / f"{name}_extism.wasm").read_bytes()
        request = {"action": "analyse", "data": "one two. three"}
        answered = result(await run(make_sandbox, wasm, request, action="handle_request"))
        told = request if name == "echo" else {"words": 3, "sentences": 1, "keywords": ["three"]}
        assert answered["result"] == told

    @pytest.mark.parametrize(
        ("body", "result_type", "kind", "error"),
        [
            (
                "(call $error_set (call $text (i32.const 0) (i32.const 8))) (i32.const 1)",
                "(result i32)",
                "failed",
                "it broke",
            ),
            ("(i32.const -7)", "(result i32)", "failed", "do returned -7"),
            ("(call $error_set (i64.const 77)) (i32.const 1)", "(result i32)", "failed", "do returned 1"),
            ("(call $error_set (i64.const -1)) (i32.const 1)", "(result i32)", "failed", "do returned 1"),
            ("nop", "", "ok", None),
        ],
    )
    async def test_a_result_that_is_not_0_is_a_failure_and_its_error_the_reason(
        self, body: str, result_type: str, kind: str, error: str | None, make_sandbox: MakeSandbox
    ) -> None:
        outcome = await run(make_sandbox, plugin(body, text="it broke", result=result_type))
        assert outcome.kind == kind
        assert json.loads(outcome.response)["error"] == error

    async def test_an_action_is_an_export_and_others_are_rejected(self, make_sandbox: MakeSandbox) -> None:
        outcome = await run(make_sandbox, ECHO, action="undo")
        assert (outcome.kind, outcome.error) == ("rejected", "unknown action 'undo'; the plugin exports: 'do'")

    @pytest.mark.parametrize("sent", [b"", b"[]", b'{"action":1}', b'{"data":1}', b"\xff"])
    async def test_what_is_no_request_is_rejected(self, sent: bytes, make_sandbox: MakeSandbox) -> None:
        assert (await (await make_sandbox(ECHO)).run(sent)).kind == "rejected"

    async def test_past_the_end_of_the_input_there_are_zeros(self, make_sandbox: MakeSandbox) -> None:
        loads = ("(call $input_load_u64 (i64.const 1))", "(call $input_load_u64 (i64.const -1))")
        bytes_ = ("(call $input_load_u8 (i64.const 8))", "(call $input_load_u8 (i64.const -1))")
        summed = "".join(f"(i64.ne (i64.const 0) {load}) " for load in loads) + " ".join(bytes_)
        assert result(await run(make_sandbox, plugin(f"{summed} i32.or i32.or i32.or"), "12345678")) is None


class TestTheRestOfTheKernel:
    @pytest.mark.parametrize(
        ("key", "value"), [("name", "Warren"), ("limits", {"a": [1]}), ("empty", None), ("nothing", None)]
    )
    async def test_config_is_the_settings(self, key: str, value: Any, make_sandbox: MakeSandbox) -> None:
        body = saying(f"(call $config_get (call $text (i32.const 0) (i32.const {len(key)})))")
        assert result(await run(make_sandbox, plugin(body, text=key), config=CONFIG)) == value

    async def test_variables_live_for_one_run(self, make_sandbox: MakeSandbox) -> None:
        key = "(call $text (i32.const 0) (i32.const 1))"
        body = f"""
          (if (i64.ne (call $var_get {key}) (i64.const 0)) (then unreachable))
          (call $var_set {key} (call $text (i32.const 1) (i32.const 3)))
          (call $var_set {key} (call $text (i32.const 4) (i32.const 5)))
          (call $out (call $var_get {key}))
          (call $var_set {key} (i64.const 0))
          (call $var_get {key}) (i64.ne (i64.const 0))"""
        sandbox = await make_sandbox(plugin(body, text="konetwice"))
        for _ in range(2):
            assert result(await sandbox.run(b'{"action":"do"}')) == "twice"

    async def test_what_it_logs_is_logged(self, make_sandbox: MakeSandbox) -> None:
        levels = ("trace", "debug", "info", "warn", "error")
        body = "".join(f"(call $log_{level} (call $text (i32.const 0) (i32.const 2)))" for level in levels)
        outcome = await run(make_sandbox, plugin(f"{body} (call $get_log_level)", text="hi"))
        assert [(line.level, line.text) for line in outcome.logs] == [(level, "hi") for level in levels]

    async def test_freed_blocks_are_used_again(self, make_sandbox: MakeSandbox) -> None:
        body = f"""(local $i i32) (local $block i64)
          (loop $next
            (local.set $block (call $alloc (i64.const 50000)))
            (call $free (call $alloc (i64.const 1000)))
            (call $free (local.get $block))
            (call $free (local.get $block))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.const 1000))))
          {OK}"""
        assert (await run(make_sandbox, plugin(body))).kind == "ok"

    async def test_blocks_do_not_overlap(self, make_sandbox: MakeSandbox) -> None:
        """Three blocks in place of one freed: each keeps what was written to its ends."""
        body = """(local $a i64) (local $b i64) (local $c i64)
          (call $free (call $alloc (i64.const 1000)))
          (local.set $a (call $alloc (i64.const 100)))
          (local.set $b (call $alloc (i64.const 101)))
          (local.set $c (call $alloc (i64.const 799)))
          (call $store_u64 (local.get $a) (i64.const 1))
          (call $store_u8 (i64.add (local.get $a) (i64.const 99)) (i32.const 11))
          (call $store_u64 (local.get $b) (i64.const 2))
          (call $store_u8 (i64.add (local.get $b) (i64.const 100)) (i32.const 12))
          (call $store_u64 (local.get $c) (i64.const 3))
          (call $store_u8 (i64.add (local.get $c) (i64.const 798)) (i32.const 13))
          (i64.ne (call $load_u64 (local.get $a)) (i64.const 1))
          (i32.ne (call $load_u8 (i64.add (local.get $a) (i64.const 99))) (i32.const 11)) i32.or
          (i64.ne (call $load_u64 (local.get $b)) (i64.const 2)) i32.or
          (i32.ne (call $load_u8 (i64.add (local.get $b) (i64.const 100))) (i32.const 12)) i32.or
          (i64.ne (call $load_u64 (local.get $c)) (i64.const 3)) i32.or
          (i64.ne (call $length (local.get $c)) (i64.const 799)) i32.or
          (i64.ne (call $length_unsafe (local.get $b)) (i64.const 101)) i32.or"""
        assert (await run(make_sandbox, plugin(body))).kind == "ok"

    async def test_its_memory_is_told_with_the_plugins_own(self, make_sandbox: MakeSandbox) -> None:
        outcome = await run(make_sandbox, plugin(f"(drop (call $alloc (i64.const 100000))) {OK}"))
        assert outcome.memory_bytes == 3 * 65_536

    @pytest.mark.parametrize("name", ["_initialize", "__wasm_call_ctors", "hs_init"])
    async def test_a_language_begins_before_it_is_asked(self, name: str, make_sandbox: MakeSandbox) -> None:
        params = "(param i32 i32)" if name == "hs_init" else ""
        more = f'(global $n (mut i32) (i32.const 7)) (func (export "{name}") {params} (global.set $n (i32.const 0)))'
        assert (await run(make_sandbox, plugin("(global.get $n)", more=more))).kind == "ok"

    async def test_a_kernel_has_nothing_of_the_one_before_it(self, make_sandbox: MakeSandbox) -> None:
        body = """(local $block i64)
          (local.set $block (call $alloc (i64.const 200000)))
          (if (i64.ne (i64.const 0) (i64.or (call $load_u64 (local.get $block))
              (call $load_u64 (i64.add (local.get $block) (i64.const 199992))))) (then unreachable))
          (call $store_u64 (local.get $block) (i64.const -1))
          (call $store_u64 (i64.add (local.get $block) (i64.const 199992)) (i64.const -1)) (i32.const 0)"""
        sandbox = await make_sandbox(plugin(body))
        assert [(await sandbox.run(b'{"action":"do"}')).kind for _ in range(20)] == ["ok"] * 20

    async def test_many_run_at_once(self, make_sandbox: MakeSandbox) -> None:
        sandbox = await make_sandbox(ECHO)
        requests = [json.dumps({"action": "do", "data": f"text {number}"}).encode() for number in range(1_100)]
        outcomes = await asyncio.gather(*map(sandbox.run, requests))
        assert [result(outcome) for outcome in outcomes] == [f"text {number}" for number in range(1_100)]


#: `host_function(answer, asked)`: notes what it is asked, and gives the answer or raises it.
MakeFunction = Callable[[Any, list[Any]], HostFunction]


@pytest.fixture(params=[False, True], ids=["at once", "later"])
def host_function(request: pytest.FixtureRequest) -> MakeFunction:
    """In place of `http_request`, which `test_network_guest` tests, and of what an embedder has."""
    return partial(_host_function, waits=request.param)


def _host_function(answer: Any, asked: list[Any], *, waits: bool) -> HostFunction:

    def respond(_session: Any, arguments: Any) -> Any:
        asked.append(arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def respond_later(session: Any, arguments: Any) -> Any:
        await asyncio.sleep(0)
        return respond(session, arguments)

    return respond_later if waits else respond


RESPONSE: Final = {"status": 201, "url": "", "headers": {"a": ["b", "c"]}, "body": "made", "body_base64": None}
ASK: Final = '{"url":"http://here","method":"POST","headers":{"x":"y"}}body'


class TestHttp:
    async def test_a_request_goes_by_the_host_function(
        self, host_function: MakeFunction, make_sandbox: MakeSandbox
    ) -> None:
        asked: list[Any] = []
        head = len(ASK) - 4
        request = f"(call $text (i32.const 0) (i32.const {head})) (call $text (i32.const {head}) (i32.const 4))"
        body = f"""(call $out (call $http_request {request}))
          (call $log_info (call $http_headers))
          (i32.ne (call $http_status_code) (i32.const 201))"""
        functions = {"http_request": host_function(RESPONSE, asked)}
        outcome = await run(make_sandbox, plugin(body, text=ASK), functions=functions)
        assert result(outcome) == "made"
        assert [line.text for line in outcome.logs] == ['{"a":"b, c"}']
        assert asked == [{"url": "http://here", "method": "POST", "headers": {"x": "y"}, "body_base64": "Ym9keQ=="}]

    @pytest.mark.parametrize(
        ("error", "kind"),
        [(HostFunctionError("timeout", "too slow"), "trap"), (GuestFault("denied", "it may not"), "denied")],
    )
    async def test_one_that_fails_ends_the_run(
        self, error: Exception, kind: str, host_function: MakeFunction, make_sandbox: MakeSandbox
    ) -> None:
        request = '{"url":"http://here"}'
        body = saying(f"(call $http_request (call $text (i32.const 0) (i32.const {len(request)})) (i64.const 0))")
        functions = {"http_request": host_function(error, [])}
        outcome = await run(make_sandbox, plugin(body, text=request), functions=functions)
        assert (outcome.kind, "slow" in (outcome.error or "") or kind == "denied") == (kind, True)

    async def test_a_function_of_the_host_can_be_imported(
        self, host_function: MakeFunction, make_sandbox: MakeSandbox
    ) -> None:
        asked: list[Any] = []
        user = f'(import "{EXTISM.user}" "shout" (func $shout (param i64) (result i64)))'
        wasm = plugin(saying("(call $shout (call $text (i32.const 0) (i32.const 3)))"), text="[1]", user=user)
        functions = {"shout": host_function({"a": 1}, asked)}
        assert result(await run(make_sandbox, wasm, functions=functions)) == {"ok": {"a": 1}}
        assert asked == [[1]]

    async def test_every_function_of_the_host_can_be_called_by_name(
        self, host_function: MakeFunction, make_sandbox: MakeSandbox
    ) -> None:
        asked: list[Any] = []
        call = '{"function":"shout","arguments":{"a":1}}'
        user = f'(import "{EXTISM.user}" "warren_host_call" (func $host_call (param i64) (result i64)))'
        body = saying(f"(call $host_call (call $text (i32.const 0) (i32.const {len(call)})))")
        functions = {"shout": host_function({"b": 2}, asked)}
        assert result(await run(make_sandbox, plugin(body, text=call, user=user), functions=functions)) == {
            "ok": {"b": 2}
        }
        assert asked == [{"a": 1}]


@pytest.mark.parametrize(
    ("given", "code"),
    [("{}", "invalid_arguments"), ("x", "invalid_arguments"), ('{"function":"f"}', "unknown_function")],
)
async def test_a_wrong_call_by_name_is_answered(given: str, code: str, make_sandbox: MakeSandbox) -> None:
    user = f'(import "{EXTISM.user}" "warren_host_call" (func $host_call (param i64) (result i64)))'
    body = saying(f"(call $host_call (call $text (i32.const 0) (i32.const {len(given)})))")
    assert result(await run(make_sandbox, plugin(body, text=given, user=user)))["error"]["code"] == code


async def test_a_backtrace_has_the_plugins_frames_alone(make_sandbox: MakeSandbox) -> None:
    outcome = await run(make_sandbox, plugin("(call $load_u8 (i64.const -1))"))
    assert [frame.split()[0] for frame in outcome.backtrace] == ["do"]


def looping(body: str) -> str:
    return f"(loop $again {body} (br $again)) {OK}"


def lying(header: int, then: str, *, at: int = 8, freed: bool = False) -> bytes:
    """A plugin that has written so into the header of the block `$b`, `at` bytes before it, and then does that."""
    free = "(call $free (local.get $b))" if freed else ""
    return plugin(f"""(local $b i64) (local.set $b {A_KEY}) {free}
      (call $store_u64 (i64.sub (local.get $b) (i64.const {at})) (i64.const {header})) {then}""")


HOSTILE: Final[Mapping[str, tuple[bytes, RunKind, str]]] = {
    "an endless loop": (plugin(looping("")), "out_of_fuel", "used up its"),
    "recursion": (plugin("(call $do)"), "trap", "call stack"),
    "a load past the end": (plugin("(call $load_u8 (i64.const 65536))"), "trap", "out of bounds"),
    "a load at 2^32": (plugin("(call $load_u8 (i64.const 0x100000040))"), "trap", "out of bounds"),
    "a load at -1": (plugin("(i32.wrap_i64 (call $load_u64 (i64.const -1)))"), "trap", "out of bounds"),
    "a store past the end": (
        plugin(f"(call $store_u64 (i64.const 65529) (i64.const 1)) {OK}"),
        "trap",
        "out of bounds",
    ),
    "a store at 2^63": (
        plugin(f"(call $store_u8 (i64.const 0x8000000000000000) (i32.const 1)) {OK}"),
        "trap",
        "out of bounds",
    ),
    "an output that is too long": (
        plugin(f"(call $output_set (i64.const 0) (i64.const -1)) {OK}"),
        "output_too_large",
        "18,446,744,073,709,551,615 bytes",
    ),
    "an output past the end": (
        plugin(f"(call $output_set (i64.const 65530) (i64.const 10)) {OK}"),
        "trap",
        "outside its memory: 10 bytes at 65,530 of Extism's 65,536",
    ),
    "an output that wraps around": (
        plugin(f"(call $output_set (i64.const -8) (i64.const 16)) {OK}"),
        "trap",
        "outside its memory",
    ),
    "an output of what is freed": (
        plugin(f"(local $b i64) (local.set $b {A_KEY}) (call $free (local.get $b)) (call $out (local.get $b)) {OK}"),
        "ok",
        "",
    ),
    "an answer that is too long once it is JSON": (
        plugin(f"(call $output_set (i64.const 1024) (i64.const 60000)) {OK}"),
        "output_too_large",
        "at most 65,536",
    ),
    "a key that is no block": (plugin(saying("(call $config_get (i64.const 12345))")), "trap", "a handle that is none"),
    "a key at -1": (plugin(saying("(call $var_get (i64.const -1))")), "trap", "memory: 18,446,744,073,709,551,615"),
    "a key that was freed": (
        plugin(
            f"""(local $b i64) (local.set $b {A_KEY}) (call $free (local.get $b))
            (call $log_info (local.get $b)) {OK}"""
        ),
        "trap",
        "a handle that is none",
    ),
    "a block whose length lies": (
        lying(100_000, f"(call $log_info (local.get $b)) {OK}"),
        "trap",
        "outside its memory: 100,000 bytes",
    ),
    "a block of a megabyte and more": (
        lying(0x7FFF_FFFF, f"(call $log_info (local.get $b)) {OK}"),
        "output_too_large",
        "2,147,483,647 bytes at once",
    ),
    "free blocks in a ring": (
        plugin(
            f"""(local $b i64) (local.set $b {A_KEY}) (call $free (local.get $b))
            (call $store_u64 (i64.sub (local.get $b) (i64.const 8)) (i64.shl (local.get $b) (i64.const 32)))
            (drop (call $alloc (i64.const 5000))) {OK}"""
        ),
        "out_of_fuel",
        "used up its",
    ),
    "a free block in front of the memory": (
        lying(8 << 32, f"(drop (call $alloc (i64.const 5000))) {OK}", freed=True),
        "trap",
        "out of bounds",
    ),
    "a free block that says it is huge": (
        lying(
            0xFFFF_FFF0 << 32, f"(call $store_u64 (call $alloc (i64.const 16)) (i64.const 1)) {OK}", at=16, freed=True
        ),
        "ok",  # it has written over its own blocks
        "",
    ),
    "a bomb of Extism's memory": (
        plugin(looping("(drop (call $alloc (i64.const 10000)))")),
        "out_of_memory",
        "more for Extism's memory",
    ),
    "one huge block": (plugin(f"(drop (call $alloc (i64.const 0x7fff0000))) {OK}"), "out_of_memory", "more for Extism"),
    "one block of 2^64 - 1": (plugin(f"(drop (call $alloc (i64.const -1))) {OK}"), "out_of_memory", "more for Extism"),
    "both memories together": (
        plugin(
            f"""(drop (call $alloc (i64.const 450000)))
            (if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then unreachable)) {OK}"""
        ),
        "out_of_memory",
        "was refused 589,824 more bytes",
    ),
    "its own memory first": (
        plugin(
            f"""(if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then unreachable))
            (drop (call $alloc (i64.const 450000))) {OK}"""
        ),
        "out_of_memory",
        "more for Extism's memory",
    ),
    "a flood of variables": (
        plugin(
            f"""(local $b i64) (local.set $b {A_KEY})
            (loop $again
              (call $store_u64 (local.get $b) (i64.add (call $load_u64 (local.get $b)) (i64.const 1)))
              (call $var_set (local.get $b) (local.get $b))
              (br $again)) {OK}"""
        ),
        "out_of_memory",
        "variables",
    ),
    "a flood of log lines": (plugin(looping(f"(call $log_info {A_KEY})")), "out_of_fuel", "used up its"),
    "an HTTP request of rubbish": (
        plugin(saying(f"(call $http_request {A_KEY} (i64.const 0))")),
        "trap",
        "HTTP request is not",
    ),
    "an HTTP body that is no block": (
        plugin(saying(f"(call $http_request {A_KEY} (i64.const 99))")),
        "trap",
        "a handle that is none",
    ),
    "an error of rubbish": (
        plugin(
            """(local $b i64) (local.set $b (call $alloc (i64.const 3)))
            (call $store_u8 (local.get $b) (i32.const 255)) (call $error_set (local.get $b)) (i32.const 1)"""
        ),
        "failed",
        "",
    ),
    "an error whose length lies": (
        lying(0xFFFF_FFFF, "(call $error_set (local.get $b)) (i32.const 1)"),
        "output_too_large",
        "the guest's answer has",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_plugins_end_as_named(name: str, make_sandbox: MakeSandbox) -> None:
    wasm, kind, reason = HOSTILE[name]
    outcome = await run(make_sandbox, wasm, max_fuel=30_000_000, caps=Caps(answer_bytes=65_536, log_lines=10))
    assert (outcome.kind, reason in (outcome.error or "")) == (kind, True), outcome
    assert outcome.memory_bytes <= MIB


async def test_variables_and_memory_are_one_limit(make_sandbox: MakeSandbox) -> None:
    body = f"""(local $b i64) (local.set $b {A_KEY})
      (if (i32.eq (memory.grow (i32.const 13)) (i32.const -1)) (then unreachable))
      (call $var_set (local.get $b) (call $alloc (i64.const 60000)))
      (call $store_u8 (local.get $b) (i32.const 1))
      (call $var_set (local.get $b) (call $alloc (i64.const 60000))) {OK}"""
    outcome = await run(make_sandbox, plugin(body))
    assert (outcome.kind, "limit of memory" in (outcome.error or "")) == ("out_of_memory", True)
    assert MAX_VARIABLE_BYTES >= MIB


async def test_its_pointers_end_where_its_own_memory_does(make_sandbox: MakeSandbox) -> None:
    user = '(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))'
    body = f"(drop (call $alloc (i64.const 300000))) (drop (call $random (i32.const 65530) (i32.const 7))) {OK}"
    outcome = await run(make_sandbox, plugin(body, user=user))
    assert (outcome.kind, outcome.error) == (
        "trap",
        "the guest gave a range outside its memory: 7 bytes at 65,530 of 65,536",
    )


@pytest.mark.parametrize("code", [0, 5])
async def test_an_exit_ends_the_call_with_its_code(code: int, make_sandbox: MakeSandbox) -> None:
    user = '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
    outcome = await run(make_sandbox, plugin(f"(call $exit (i32.const {code})) unreachable", user=user))
    assert outcome.kind == ("failed" if code else "ok")


async def test_a_start_function_that_calls_the_kernel_does_so(make_sandbox: MakeSandbox) -> None:
    more = "(func $early (call $log_info (call $text (i32.const 0) (i32.const 2)))) (start $early)"
    outcome = await run(make_sandbox, plugin(OK, text="hi", more=more))
    assert [line.text for line in outcome.logs] == ["hi"]


async def test_a_run_that_is_cancelled_in_a_host_call_leaves_nothing(make_sandbox: MakeSandbox) -> None:
    begun, forever = asyncio.Event(), asyncio.Event()

    async def wait(_session: Any, _arguments: Any) -> None:
        begun.set()
        await forever.wait()

    user = f'(import "{EXTISM.user}" "wait" (func $wait (param i64) (result i64)))'
    wasm = plugin(saying(f"(call $wait {A_KEY})"), text="12345678", user=user)
    task = asyncio.create_task((await make_sandbox(wasm, functions={"wait": wait})).run(b'{"action":"do"}'))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_deadline_ends_a_host_call(make_sandbox: MakeSandbox) -> None:
    async def wait(_session: Any, _arguments: Any) -> None:
        await asyncio.Event().wait()

    user = f'(import "{EXTISM.user}" "wait" (func $wait (param i64) (result i64)))'
    wasm = plugin(saying(f"(call $wait {A_KEY})"), text="12345678", user=user)
    assert (await run(make_sandbox, wasm, functions={"wait": wait}, timeout_s=0.05)).kind == "deadline_exceeded"


def refusing(imports: str = "", exports: str = '(func (export "do"))', memory: int = 1) -> bytes:
    signed = f'(import "{EXTISM.env}" "input_length" (func (result i64)))'
    return bytes(wasmtime.wat2wasm(f'(module {signed} {imports} (memory (export "memory") {memory}) {exports})'))


@pytest.mark.parametrize(
    ("wasm", "runtime", "reason"),
    [
        (
            refusing(f'(import "{EXTISM.env}" "alloc" (func (param i32) (result i32)))'),
            Runtime(),
            "is provided as (func (param i64)",
        ),
        (refusing(f'(import "{EXTISM.env}" "fly" (func))'), Runtime(), "it imports what is not provided here"),
        (refusing(f'(import "{EXTISM.env}" "kernel" (global i32))'), Runtime(), "it imports what is not provided here"),
        (
            refusing(f'(import "{EXTISM.user}" "f" (func (param i32)))'),
            Runtime(),
            "is provided as (func (param i64) (result i64))",
        ),
        (refusing('(import "warren:extism" "take" (func (param i32)))'), Runtime(), "not provided here"),
        (refusing('(import "warren_v1" "log" (func (param i32 i32 i32)))'), Runtime(), "not provided here"),
        (refusing(exports='(func (export "do") (param i32))'), Runtime(), "exports no function that can be an action"),
        (refusing(exports='(func (export "_initialize"))'), Runtime(), "exports no function that can be an action"),
        (refusing(exports='(func (export "hs_init"))'), Runtime(), "its export 'hs_init' is"),
        (
            refusing("".join(f'(import "{EXTISM.user}" "f{n}" (func (param i64) (result i64)))' for n in range(101))),
            Runtime(),
            "it imports 101 functions of 'extism:host/user'; at most 100 are provided",
        ),
        (refusing(memory=16), Runtime(), "starts with 1,114,112 bytes of memory; its limit is 1,048,576"),
        (ECHO, Runtime(abi="wasi"), "[runtime] abi = 'wasi', and the module is 'extism': it imports 'extism:host/env'"),
        (ECHO, Runtime(snapshot=True), "snapshot is for the ABI 'core' alone"),
        (ECHO, Runtime(streams="text"), "args and streams are for the ABI 'wasi'"),
        (wat(), Runtime(variables="storage"), "variables is for the ABI 'extism' alone, and the module is 'core'"),
    ],
)
def test_what_does_not_fit_is_refused(wasm: bytes, runtime: Runtime, reason: str) -> None:
    with pytest.raises(ModuleRefused) as caught:
        check_module(wasm, MIB, runtime)
    assert reason in str(caught.value)


async def test_plugins_of_before_extism_1_import_the_same_from_env(
    host_function: MakeFunction, make_sandbox: MakeSandbox
) -> None:
    asked: list[Any] = []
    user = '(import "env" "shout" (func $shout (param i64) (result i64)))'
    body = saying("(call $shout (call $text (i32.const 0) (i32.const 3)))")
    wasm = plugin(body, text="[1]", user=user, dialect=EXTISM_0)
    assert check_module(wasm, MIB)[0].name == "extism"
    functions = {"shout": host_function({"a": 1}, asked)}
    assert result(await run(make_sandbox, wasm, functions=functions)) == {"ok": {"a": 1}}
    assert asked == [[1]]


@pytest.mark.parametrize(
    ("name", "ending"), [("kernel", "could not link"), ("user 0", "could not link"), ("extism_fly", "unknown_function")]
)
async def test_a_function_of_the_host_cannot_take_the_place_of_extisms_own(
    name: str, ending: str, make_sandbox: MakeSandbox
) -> None:
    user = f'(import "env" "{name}" (func $odd (param i64) (result i64)))'
    wasm = plugin(saying(f"(call $odd {A_KEY})"), text="12345678", user=user, dialect=EXTISM_0)
    outcome = await run(make_sandbox, wasm)
    assert ending in (outcome.error or outcome.response.decode())


async def test_a_name_in_an_import_is_no_code(make_sandbox: MakeSandbox) -> None:
    name = '\\") (func (export \\"x'
    user = f'(import "{EXTISM.user}" "{name}" (func $odd (param i64) (result i64)))'
    outcome = await run(make_sandbox, plugin(saying(f"(call $odd {A_KEY})"), text="12345678", user=user))
    assert result(outcome)["error"]["code"] == "unknown_function"


async def test_a_folder_may_hold_an_extism_plugin(tmp_path: Path) -> None:
    body = saying("(call $config_get (call $text (i32.const 0) (i32.const 8)))")
    write_plugin(tmp_path, "greeter", plugin(body, text="greeting"), '[settings]\ngreeting = "hello"\n')
    async with PluginManager(tmp_path) as manager:
        assert not manager.failures
        [loaded] = manager.plugins()
        assert (loaded.abi, (await loaded.health()).healthy) == ("extism", True)
        assert await manager.execute_plugin("greeter", "do", None) == "hello"


async def test_without_the_capability_an_extism_plugin_reaches_nothing(tmp_path: Path) -> None:
    request = '{"url":"http://example.com"}'
    body = saying(f"(call $http_request (call $text (i32.const 0) (i32.const {len(request)})) (i64.const 0))")
    write_plugin(tmp_path, "caller", plugin(body, text=request))
    async with PluginManager(tmp_path) as manager:
        [loaded] = manager.plugins()
        outcome = await loaded.run(b'{"action":"do"}')
    assert (outcome.kind, outcome.error) == (
        "denied",
        "the plugin may not reach http://example.com:80: the plugin does not have the capability 'network'",
    )


#: The manifest of a plugin whose variables are kept.
KEPT: Final = '[capabilities]\nrequired = ["storage"]\n[runtime]\nvariables = "storage"\n'

#: It tells what the variable was, and changes it to the request's data.
REMEMBERING: Final = f"""
  (local $was i64)
  (local.set $was (call $var_get {A_KEY}))
  (call $var_set {A_KEY} (call $input_offset))
  (call $output_set (local.get $was) (call $length (local.get $was)))"""


def keeping(folder: Path) -> PluginManager:
    policy = Policy(capabilities=frozenset({"storage"}))
    return PluginManager(folder, policy=policy, storage=f"sqlite:///{folder}/kept.db", secrets=[folder])


async def test_variables_are_kept_from_one_run_to_the_next_where_the_manifest_says_so(tmp_path: Path) -> None:
    write_plugin(tmp_path, "parrot", plugin(f"{REMEMBERING} {OK}", text="12345678"), KEPT)
    async with keeping(tmp_path) as manager:
        assert not manager.failures
        said = [await manager.execute_plugin("parrot", "do", word) for word in ("a", "b\u00fc", "c")]
    async with keeping(tmp_path) as manager:
        said.append(await manager.execute_plugin("parrot", "do", "d"))
    assert said == [None, "a", "b\u00fc", "c"]


async def test_variables_of_a_run_that_did_not_end_well_are_not_kept(tmp_path: Path) -> None:
    code = '(i32.eq (call $input_load_u8 (i64.const 0)) (i32.const 98)) (; "b" ;)'
    write_plugin(tmp_path, "parrot", plugin(f"{REMEMBERING} {code}", text="12345678"), KEPT)
    async with keeping(tmp_path) as manager:
        [loaded] = manager.plugins()
        ends = [await loaded.run(json.dumps({"action": "do", "data": word}).encode()) for word in ("a", "b", "c")]
    assert [(end.kind, json.loads(end.response)["result"]) for end in ends] == [
        ("ok", None),
        ("failed", None),
        ("ok", "a"),
    ]


async def test_variables_of_a_run_whose_answer_was_too_large_are_not_kept(make_sandbox: MakeSandbox) -> None:
    asked: list[Any] = []
    functions = {
        "storage_get": _host_function(None, [], waits=False),
        "storage_set": _host_function(None, asked, waits=False),
    }
    body = f"(call $var_set {A_KEY} (call $input_offset)) (call $output_set (call $input_offset) (call $input_length))"
    wasm = plugin(f"{body} {OK}", text="12345678")
    sandbox = await make_sandbox(
        wasm, functions=functions, caps=Caps(answer_bytes=200), runtime=Runtime(variables="storage")
    )
    data = {"base64": base64.b64encode(b"\xff" * 180).decode()}
    outcome = await sandbox.run(json.dumps({"action": "do", "data": data}).encode())
    assert (outcome.kind, asked) == ("output_too_large", [])


@pytest.mark.parametrize("value", ["1", "5", "null", '"a"', '{"a": "b"}', "[[1]]", '[["a", {"base64": "*"}]]'])
async def test_what_a_plugin_stored_in_place_of_its_variables_ends_its_run(
    value: str, make_sandbox: MakeSandbox
) -> None:
    functions = {"storage_get": _host_function({"value": json.loads(value)}, [], waits=False)}
    wasm, runtime = plugin(f"{REMEMBERING} {OK}", text="12345678"), Runtime(variables="storage")
    outcome = await run(make_sandbox, wasm, runtime=runtime, functions=functions)
    assert (outcome.kind, outcome.error) == (
        "trap",
        "what the plugin has stored as 'extism.variables' are no variables",
    )


async def test_variables_are_not_kept_without_the_capability(tmp_path: Path) -> None:
    write_plugin(
        tmp_path, "parrot", plugin(f"{REMEMBERING} {OK}", text="12345678"), '[runtime]\nvariables = "storage"\n'
    )
    async with PluginManager(tmp_path) as manager:
        [failure] = manager.failures
    assert "needs the capability 'storage'" in str(failure)


async def test_a_secret_among_the_variables_is_masked_in_a_recording(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2hunter2")
    settings = f'[settings]\nkey = "file:{tmp_path}/token"\n'
    write_plugin(tmp_path, "parrot", plugin(f"{REMEMBERING} {OK}", text="12345678"), KEPT + settings)
    request = json.dumps({"action": "do", "data": "hunter2hunter2"}).encode()
    async with keeping(tmp_path) as manager:
        [loaded] = manager.plugins()
        first, second = [await loaded.run(request) for _ in range(2)]
    assert json.loads(second.response)["result"] == "hunter2hunter2"
    for outcome in (first, second):
        told = loaded.recording(request, outcome).model_dump_json()
        assert "extism.variables" in told
        assert "hunter2" not in told
        assert base64.b64encode(b"hunter2").decode()[:8] not in told


async def test_variables_that_are_too_much_for_the_storage_end_the_run(tmp_path: Path) -> None:
    write_plugin(tmp_path, "parrot", plugin(f"{REMEMBERING} {OK}", text="12345678"), KEPT)
    async with keeping(tmp_path) as manager:
        [loaded] = manager.plugins()
        end = await loaded.run(json.dumps({"action": "do", "data": "x" * 600_000}).encode())
    assert (end.kind, "a value has at most" in (end.error or "")) == ("trap", True)


async def test_a_run_is_over_at_its_deadline_while_it_waits_for_its_variables(make_sandbox: MakeSandbox) -> None:
    async def never(_session: Any, _arguments: Any) -> Any:
        await asyncio.Event().wait()

    wasm, runtime = plugin(f"{REMEMBERING} {OK}", text="12345678"), Runtime(variables="storage")
    outcome = await run(make_sandbox, wasm, runtime=runtime, functions={"storage_get": never}, timeout_s=0.2)
    assert outcome.kind == "deadline_exceeded"
