"""The guest ABI `wasi`: programs that read stdin, write stdout and exit, as plugins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime

from tests.guests import data, write_plugin
from tests.plugins.conftest import MIB
from warren.manifests import Grant, Limits, Runtime
from warren.plugins import Outcome, PluginManager
from warren.plugins.checks import check_module
from warren.plugins.engine import Engine
from warren.plugins.errors import ModuleRefused
from warren.plugins.host import NO_SURROUNDINGS, Caps, Surroundings
from warren.plugins.outcome import RunKind
from warren.plugins.sandbox import Sandbox
from warren.plugins.wasi_abi import SIGNATURES, WASI_MODULE

#: Imports that a program here may call, under their own names.
USED: Final = (
    "fd_write", "fd_read", "proc_exit", "args_get", "args_sizes_get", "environ_get", "environ_sizes_get",
    "fd_fdstat_get", "fd_close", "fd_prestat_get", "poll_oneoff", "clock_time_get", "random_get",
)  # fmt: skip

#: Where a program has room: for a list of one piece, for a number, and for what it reads.
VECTOR_AT, NUMBER_AT, BUFFER_AT = 16, 32, 4096


def program(body: str, *, more: str = "", start: str = '(export "_start")', memory: str = "2") -> bytes:
    """A command of this body. `$print` (descriptor, pointer, length) writes; `$read` gives how many bytes it read."""
    imports = "\n".join(
        f'(import "{WASI_MODULE}" "{name}" {str(SIGNATURES[name]).replace("(func", f"(func ${name}", 1)})'
        for name in USED
    )
    return bytes(
        wasmtime.wat2wasm(f"""
(module
  {imports}
  (memory (export "memory") {memory})
  (func $print (param i32 i32 i32)
    (i32.store (i32.const {VECTOR_AT}) (local.get 1))
    (i32.store (i32.const {VECTOR_AT + 4}) (local.get 2))
    (drop (call $fd_write (local.get 0) (i32.const {VECTOR_AT}) (i32.const 1) (i32.const {NUMBER_AT}))))
  (func $read (param i32 i32) (result i32)
    (i32.store (i32.const {VECTOR_AT}) (local.get 0))
    (i32.store (i32.const {VECTOR_AT + 4}) (local.get 1))
    (drop (call $fd_read (i32.const 0) (i32.const {VECTOR_AT}) (i32.const 1) (i32.const {NUMBER_AT})))
    (i32.load (i32.const {NUMBER_AT})))
  {more}
  (func $main {start} {body}))
""")
    )


def printing(text: bytes | str, *, then: str = "", fd: int = 1) -> bytes:
    """A program that prints `text`, and then does something else."""
    raw = text.encode() if isinstance(text, str) else text
    return program(
        f"(call $print (i32.const {fd}) (i32.const 1024) (i32.const {len(raw)})) {then}", more=data(1024, raw)
    )


#: Like `cat`, in steps of 700 bytes.
CAT: Final = program(f"""
  (local $got i32)
  (loop $again
    (local.set $got (call $read (i32.const {BUFFER_AT}) (i32.const 700)))
    (if (local.get $got) (then
      (call $print (i32.const 1) (i32.const {BUFFER_AT}) (local.get $got))
      (br $again))))""")

#: Prints the texts of its arguments, or of its environment, each with a zero byte behind it.
STRINGS: Final = """
  (drop (call ${0}_sizes_get (i32.const 40) (i32.const 44)))
  (drop (call ${0}_get (i32.const 2048) (i32.const 4096)))
  (call $print (i32.const 1) (i32.const 4096) (i32.load (i32.const 44)))"""

EXIT_3: Final = "(call $proc_exit (i32.const 3))"


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs programs under a grant."""

    engine: Engine

    async def sandbox(
        self,
        wasm: bytes,
        runtime: Runtime | None = None,
        caps: Caps | None = None,
        surroundings: Surroundings = NO_SURROUNDINGS,
        **limits: Any,
    ) -> Sandbox:
        granted = Limits(**{"memory_bytes": MIB, "timeout_s": 10.0, **limits})
        abi, prepared = check_module(wasm, granted.memory_bytes, runtime or Runtime())
        return Sandbox(
            await self.engine.compile(prepared),
            abi,
            Grant("tested", frozenset(), granted),
            b'{"settings":{"greeting":"hi"}}',
            {},
            caps=caps or Caps(),
            surroundings=surroundings,
        )

    async def run(self, wasm: bytes, value: Any = None, *, action: str = "do", **how: Any) -> Outcome:
        sandbox = await self.sandbox(wasm, **how)
        return await sandbox.run(json.dumps({"action": action, "data": value}).encode())


@pytest.fixture
def runner(engine: Engine) -> Runner:
    return Runner(engine)


def result(outcome: Outcome) -> Any:
    assert outcome.kind == "ok", outcome
    return json.loads(outcome.response)["result"]


TEXT: Final = Runtime(streams="text")


class TestWhatAProgramIsGiven:
    async def test_the_sentcomes_on_stdin_as_it_was_sent(self, runner: Runner) -> None:
        sandbox = await runner.sandbox(CAT)
        request = b'{ "action": "do",\n "data": ["' + b"x" * 5_000 + b'"] }'
        outcome = await sandbox.run(request)
        assert result(outcome) == json.loads(request)

    @pytest.mark.parametrize(
        ("value", "text"),
        [("a text", "a text"), ("", ""), (None, ""), ({"a": [1]}, '{"a":[1]}'), (42, "42"), ("42", "42")],
    )
    async def test_as_text_the_data_alone_comes(self, value: Any, text: str, runner: Runner) -> None:
        assert result(await runner.run(CAT, value, runtime=TEXT)) == text

    async def test_bytes_that_are_no_text_go_in_and_come_out_as_base64(self, runner: Runner) -> None:
        assert result(await runner.run(CAT, {"base64": "/wA="}, runtime=TEXT)) == {"base64": "/wA="}

    async def test_its_arguments_are_its_name_and_the_action(self, runner: Runner) -> None:
        assert result(await runner.run(program(STRINGS.format("args")), action="shout")) == "tested\0shout\0"

    async def test_its_arguments_are_those_of_the_manifest(self, runner: Runner) -> None:
        runtime = Runtime(args=("--mode={action}", "", "ä"))
        outcome = await runner.run(program(STRINGS.format("args")), action="shout", runtime=runtime)
        assert result(outcome) == "tested\0--mode=shout\0\0ä\0"

    async def test_it_may_have_no_arguments(self, runner: Runner) -> None:
        assert result(await runner.run(program(STRINGS.format("args")), runtime=Runtime(args=()))) == "tested\0"

    async def test_its_settings_are_in_its_environment_with_the_variables_that_it_was_granted(
        self, runner: Runner
    ) -> None:
        outcome = await runner.run(program(STRINGS.format("environ")), surroundings=Surroundings((b"HOME=/plugin",)))
        assert result(outcome) == 'HOME=/plugin\0WARREN_CONFIG={"settings":{"greeting":"hi"}}\0'

    async def test_its_stdin_and_stdout_are_no_terminals(self, runner: Runner) -> None:
        body = """(drop (call $fd_fdstat_get (i32.const 0) (i32.const 64)))
            (drop (call $fd_fdstat_get (i32.const 1) (i32.const 65)))
            (drop (call $fd_fdstat_get (i32.const 2) (i32.const 66)))
            (call $print (i32.const 1) (i32.const 64) (i32.const 3))"""
        assert result(await runner.run(program(body))) == "\0\0\2"


class TestWhatBecomesOfWhatItPrints:
    @pytest.mark.parametrize(
        ("printed", "made"),
        [
            ('{"success":true,"result":[1],"error":null}\n', [1]),
            ('{"a": 1}\n', {"a": 1}),
            ('{"success": true}', {"success": True}),
            (" 12345678901234567890123 ", 12345678901234567890123),
            ("hello\n", "hello\n"),
            ("NaN", "NaN"),
            ("1 2", "1 2"),
            ("", None),
            ("\n", None),
            (b"\xff\0", {"base64": "/wA="}),
        ],
    )
    async def test_it_is_the_answer_or_a_value_or_text(self, printed: bytes | str, made: Any, runner: Runner) -> None:
        assert result(await runner.run(printing(printed))) == made

    async def test_an_answer_is_passed_on_byte_for_byte(self, runner: Runner) -> None:
        answer = b' {"error": "no",  "success": false, "result": 1e2}\n'
        outcome = await runner.run(printing(answer))
        assert (outcome.kind, outcome.response) == ("failed", answer)

    @pytest.mark.parametrize("printed", ["42", '{"success":true,"result":1,"error":null}', "null", ""])
    async def test_as_text_it_is_text_whatever_it_looks_like(self, printed: str, runner: Runner) -> None:
        assert result(await runner.run(printing(printed), runtime=TEXT)) == printed

    async def test_stderr_is_logged(self, runner: Runner) -> None:
        outcome = await runner.run(printing("one\ntwo", fd=2))
        assert [(line.level, line.text) for line in outcome.logs] == [("warn", "one"), ("warn", "two")]
        assert result(outcome) is None

    async def test_exit_code_0_is_success(self, runner: Runner) -> None:
        assert result(await runner.run(printing("1", then="(call $proc_exit (i32.const 0))"))) == 1

    @pytest.mark.parametrize(
        ("wasm", "error"),
        [
            (printing("first\nit broke\n\n", then=EXIT_3, fd=2), "it broke"),
            (printing("it broke, unfinished", then=EXIT_3, fd=2), "it broke, unfinished"),
            (printing("only stdout", then=EXIT_3), "the program exited with code 3"),
            (printing('{"success":true,"result":1,"error":null}', then=EXIT_3), "the program exited with code 3"),
        ],
    )
    async def test_any_other_exit_code_is_a_failure_that_the_last_line_on_stderr_explains(
        self, wasm: bytes, error: str, runner: Runner
    ) -> None:
        outcome = await runner.run(wasm)
        assert outcome.kind == "failed"
        assert json.loads(outcome.response) == {"success": False, "result": None, "error": error}

    async def test_two_runs_know_nothing_of_each_other(self, runner: Runner) -> None:
        sandbox = await runner.sandbox(CAT, TEXT)
        for text in ("one", "two"):
            assert result(await sandbox.run(json.dumps({"action": "do", "data": text}).encode())) == text


class TestHostilePrograms:
    @pytest.mark.parametrize(
        ("wasm", "kind", "reason"),
        [
            (program("(loop $l (br $l))"), "out_of_fuel", "used up its"),
            (
                program("(loop $l (call $print (i32.const 1) (i32.const 0) (i32.const 16384)) (br $l))"),
                "output_too_large",
                "more than 65,536 bytes",
            ),
            (printing('"' + "\\u0001" * 10_000 + '"'), "ok", ""),
            (printing("\1" * 12_000), "output_too_large", "72,0"),
            (
                program("(if (i32.eq (memory.grow (i32.const 999)) (i32.const -1)) (then unreachable))"),
                "out_of_memory",
                "was refused",
            ),
            (program("(call $main)"), "trap", "call stack"),
            (program("unreachable"), "trap", "aborted"),
            (program("(call $print (i32.const 1) (i32.const 0xfffffff0) (i32.const 0xffff))"), "trap", "outside its"),
            (program("(drop (call $read (i32.const 0x1fff0) (i32.const 999)))"), "trap", "outside its memory"),
            (
                program("(drop (call $fd_read (i32.const 0) (i32.const -8) (i32.const 9) (i32.const 0)))"),
                "trap",
                "outside its memory",
            ),
            (printing('{"success":1,"result":1,"error":null}'), "trap", "the guest's answer is not"),
            (printing('{"success":true,"result":1,"error":{}}'), "trap", "the guest's answer is not"),
        ],
    )
    async def test_each_ends_as_named(self, wasm: bytes, kind: RunKind, reason: str, runner: Runner) -> None:
        outcome = await runner.run(wasm, "x" * 2_000, caps=Caps(answer_bytes=65_536), max_fuel=20_000_000)
        assert (outcome.kind, reason in (outcome.error or "")) == (kind, True), outcome

    async def test_a_flood_on_stderr_is_cut_and_counted(self, runner: Runner) -> None:
        wasm = printing("x\n" * 1_000, then="", fd=2)
        outcome = await runner.run(wasm, caps=Caps(log_lines=10))
        assert (outcome.kind, len(outcome.logs)) == ("ok", 11)
        assert "more lines were dropped" in outcome.logs[-1].text

    async def test_the_deadline_ends_a_program_that_sleeps(self, runner: Runner) -> None:
        body = """(i64.store (i32.const 88) (i64.const 60000000000))
            (i32.store (i32.const 80) (i32.const 1))
            (drop (call $poll_oneoff (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)))"""
        outcome = await runner.run(program(body), timeout_s=0.05)
        assert outcome.kind == "deadline_exceeded"

    @pytest.mark.parametrize("code", [0, 1, -1])
    async def test_an_exit_in_a_start_function_ends_the_load(self, code: int, runner: Runner) -> None:
        early = f"(func $early (call $proc_exit (i32.const {code}))) (start $early)"
        sandbox = await runner.sandbox(program("", more=early))
        assert (await sandbox.check()).kind == "trap"
        assert (await sandbox.run(b'{"action":"do"}')).kind == "trap"

    async def test_a_closed_stdout_takes_nothing(self, runner: Runner) -> None:
        body = "(drop (call $fd_close (i32.const 1))) (call $print (i32.const 1) (i32.const 0) (i32.const 9))"
        assert result(await runner.run(program(body))) is None

    @pytest.mark.parametrize("sent", [b"", b"[]", b'{"action":1}', b'{"action":"a\\u0000b"}', b'{"data":1}', b"\xff"])
    async def test_what_is_no_sentis_rejected(self, sent: bytes, runner: Runner) -> None:
        sandbox = await runner.sandbox(CAT)
        assert (await sandbox.run(sent)).kind == "rejected"

    async def test_an_action_cannot_make_gigabytes_of_arguments(self, runner: Runner) -> None:
        outcome = await runner.run(CAT, action="x" * 100_000, runtime=Runtime(args=("{action}" * 100_000,)))
        assert (outcome.kind, "the arguments have more than 131,072" in (outcome.error or "")) == ("rejected", True)

    async def test_wrong_base64_is_rejected(self, runner: Runner) -> None:
        values: tuple[Any, ...] = ("?", 1, None, {}, "ä")
        for wrong in values:
            assert (await runner.run(CAT, {"base64": wrong}, runtime=TEXT)).kind == "rejected"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("wasm", "runtime", "reason"),
        [
            (program("(i32.const 1)", start='(export "_start") (result i32)'), Runtime(), "'_start' is (func (result"),
            (CAT, Runtime(abi="core"), "[runtime] abi = 'core', and the module is 'wasi': it exports '_start'"),
            (CAT, Runtime(snapshot=True), "snapshot is for the ABI 'core' alone"),
            (program("", memory="17"), Runtime(), "its limit is"),
            (
                bytes(wasmtime.wat2wasm('(module (import "env" "x" (func)) (func (export "_start")))')),
                Runtime(),
                "it does not export 'memory'; it imports what is not provided here: 'env' 'x'",
            ),
            (
                bytes(wasmtime.wat2wasm('(module (import "warren_v1" "log" (func)) (func (export "_start")))')),
                Runtime(),
                "build it as a reactor (-mexec-model=reactor)",
            ),
            (
                bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "handle_request")))')),
                Runtime(args=("-v",)),
                "[runtime] args and streams are for the ABI 'wasi'",
            ),
        ],
    )
    def test_it_says_why(self, wasm: bytes, runtime: Runtime, reason: str) -> None:
        with pytest.raises(ModuleRefused) as caught:
            check_module(wasm, MIB, runtime)
        assert reason in str(caught.value)


async def test_a_folder_may_hold_a_program(tmp_path: Path) -> None:
    write_plugin(tmp_path, "cat", CAT, '[runtime]\nargs = []\nstreams = "text"\n')
    async with PluginManager(tmp_path) as manager:
        assert not manager.failures
        [plugin] = manager.plugins()
        assert (plugin.abi, (await plugin.health()).healthy) == ("wasi", True)
        assert await manager.execute_plugin("cat", "do", "some text") == "some text"
