"""WASI preview 1: a guest with a libc finds what it needs, and a hostile one gets no further than any other."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from tests.guests import ALLOCATE, MEMORY_BYTES, OK, OK_AT, PAGES, data
from warren.manifests import Grant
from warren.manifests.policy import Limits
from warren.plugins import guest
from warren.plugins.core_abi import CoreAbi, check_core_abi
from warren.plugins.engine import Engine
from warren.plugins.errors import GuestFault, ModuleRefused
from warren.plugins.guest import Guest, Program
from warren.plugins.host import Caps, HostSession
from warren.plugins.host_imports import IMPORTS
from warren.plugins.module import FuncType, read_module
from warren.plugins.wasi_abi import SIGNATURES, WASI_IMPORTS, WASI_MODULE, Errno
from warren.plugins.wasi_calls import CALLS, MAX_RANDOM_BYTES, MAX_VECTORS, MAX_WRITE_BYTES
from warren.plugins.wasi_poll import MAX_SUBSCRIPTIONS, Poll
from warren.plugins.wasi_process import MAX_LINE_BYTES, Process

LIBC = (Path(__file__).parent / "wasi" / "libc.wasm").read_bytes()
FUEL = 10_000_000

ABI = CoreAbi(
    packed=True,
    has_deallocate=False,
    has_initialize=False,
    has_shutdown=False,
    has_health_check=False,
    has_reactor_init=False,
)


class WasiSession(HostSession):
    """A run of a plugin called `echo`."""

    @property
    def process(self) -> Process:
        if self._process is None:
            self._process = Process(self.log, (b"echo",), (b"LANGUAGE=en",))
        return self._process


@dataclass(frozen=True)
class Ran:
    """How a run ended."""

    answer: bytes
    fault: GuestFault | None
    logs: Sequence[tuple[str, str]]
    fuel: int

    @property
    def kind(self) -> str:
        return "ok" if self.fault is None else self.fault.kind

    @property
    def error(self) -> str:
        return "" if self.fault is None else self.fault.reason


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(autouse=True)
def _no_guest_is_left() -> Iterator[None]:
    yield
    assert not guest.guests


@asynccontextmanager
async def started(engine: Engine, wasm: bytes, *, timeout_s: float = 5, fuel: int = FUEL) -> AsyncIterator[Guest]:
    made = Guest(
        await engine.compile(wasm),
        WasiSession(Grant("echo", frozenset(), Limits()), {}, Caps()),
        fuel=fuel,
        memory_bytes=16 << 20,
        timeout_s=timeout_s,
    )
    try:
        yield made
    finally:
        made.close()


async def run(engine: Engine, wasm: bytes, request: bytes = b"{}", *, timeout_s: float = 5, fuel: int = FUEL) -> Ran:
    abi = check_core_abi(read_module(wasm), {**IMPORTS, **WASI_IMPORTS})
    async with started(engine, wasm, timeout_s=timeout_s, fuel=fuel) as made:
        answer, fault = b"", None
        try:
            await abi.start(made, b"{}")
            answer = await abi.handle_request(made, request, 1 << 20)
        except GuestFault as error:
            fault = error
        assert isinstance(made.host, WasiSession)
        logs = [(line.level, line.text) for line in made.host.finished_logs()]
        return Ran(answer, fault, logs, made.fuel_used)


def wat(body: str = "", *, more: str = "", allocate: str = ALLOCATE) -> bytes:
    """A guest that imports all of preview 1, each function under its name. `$is` aborts unless its two are the same."""
    imports = "".join(
        f'(import "{WASI_MODULE}" "{name}" {str(signature).replace("(func", f"(func ${name}", 1)})\n'
        for name, signature in SIGNATURES.items()
    )
    text = f"""
(module
  {imports}
  (import "warren_v1" "host_call" (func $ask (param i32 i32 i32 i32) (result i64)))
  (memory (export "memory") {PAGES})
  (global $heap (mut i32) (i32.const 65536))
  {data(OK_AT, OK)}
  {allocate}
  (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
  {more}
  (func (export "handle_request") (param i32 i32) (result i64)
    {body}
    (i64.const {OK_AT << 32 | len(OK)})))
"""
    return bytes(wasmtime.wat2wasm(text))


def call(name: str, *arguments: int) -> str:
    """A call with these arguments."""
    types = SIGNATURES[name].params
    return f"(call ${name} {' '.join(f'({t}.const {a})' for t, a in zip(types, arguments, strict=True))})"


def answers(errno: Errno, name: str, *arguments: int) -> str:
    """A call that must answer this."""
    return f"(call $is (i32.const {errno}) {call(name, *arguments)})"


def forever(body: str) -> str:
    return f"(loop $again {body} (br $again))"


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def clock_subscription(timeout_ns: int, *, clock: int = 1, flags: int = 0) -> bytes:
    head = (7).to_bytes(8, "little") + words(0, 0) + words(clock, 0)
    return head + timeout_ns.to_bytes(8, "little") + bytes(8) + words(flags, 0)


def fd_subscription(fd: int, kind: int) -> bytes:
    return (9).to_bytes(8, "little") + words(kind, 0) + words(fd) + bytes(28)


class TestSignatures:
    def test_all_functions_are_those_of_wasmtime_s_own_wasi(self) -> None:
        engine = wasmtime.Engine()
        linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
        linker.define_wasi()
        for name, signature in SIGNATURES.items():
            theirs = linker.get(store, WASI_MODULE, name)
            assert isinstance(theirs, wasmtime.Func)
            kind = theirs.type(store)
            found = FuncType(tuple(map(str, kind.params)), tuple(map(str, kind.results)))
            assert (name, found) == (name, signature)

    def test_all_functions_of_preview_1_are_there(self) -> None:
        assert len(SIGNATURES) == 46
        assert CALLS.keys() <= SIGNATURES.keys()

    def test_a_function_that_wasi_does_not_have_is_refused(self) -> None:
        text = f"""(module (import "{WASI_MODULE}" "fd_fly" (func)) (memory (export "memory") 1)
                     (func (export "allocate") (param i32) (result i32) unreachable)
                     (func (export "handle_request") (param i32 i32) (result i64) unreachable))"""
        with pytest.raises(ModuleRefused, match="'fd_fly'"):
            check_core_abi(read_module(bytes(wasmtime.wat2wasm(text))), {**IMPORTS, **WASI_IMPORTS})


class TestALibc:
    async def test_lines_become_log_lines_and_the_last_needs_no_end(self, engine: Engine) -> None:
        ran = await run(engine, LIBC, b"say")
        assert (ran.kind, ran.answer) == ("ok", OK)
        said = [("info", "one line"), ("warn", "to stderr"), ("info", "and a second, and the rest: 42")]
        assert ran.logs == said

    async def test_it_tells_the_time_and_sleeps(self, engine: Engine) -> None:
        ran = await run(engine, LIBC, b"clocks")
        wall_s, slept_ns = map(int, ran.logs[0][1].split())
        assert abs(wall_s - time.time()) < 60
        assert slept_ns >= 40_000_000

    async def test_randomness_differs_from_run_to_run(self, engine: Engine) -> None:
        first, second = [(await run(engine, LIBC, b"random")).logs[0][1] for _ in range(2)]
        assert re.fullmatch(r"[0-9a-f]{32} 1", first)
        assert first != second

    async def test_it_finds_its_granted_environment_and_no_files(self, engine: Engine) -> None:
        ran = await run(engine, LIBC, b"environment")
        assert ran.logs == [("info", "en none"), ("info", "no files"), ("info", "-1")]

    async def test_its_streams_are_ready_at_once(self, engine: Engine) -> None:
        assert (await run(engine, LIBC, b"poll")).logs == [("info", "2")]

    async def test_exit_ends_the_run_without_an_answer(self, engine: Engine) -> None:
        ran = await run(engine, LIBC, b"x")
        assert (ran.kind, ran.error) == ("trap", "the guest exited with code 3")
        assert ran.logs == [("info", "last words")]

    async def test_abort_is_a_trap(self, engine: Engine) -> None:
        assert (await run(engine, LIBC, b"?")).error == "the guest aborted (unreachable)"


class TestAnswers:
    async def test_what_wants_a_file_or_a_socket_is_told_that_it_has_none(self, engine: Engine) -> None:
        names = [name for name in SIGNATURES if name not in CALLS and name != "poll_oneoff"]
        body = "".join(answers(Errno.BADF, name, *[1] * len(SIGNATURES[name].params)) for name in names)
        assert len(names) == 27
        assert (await run(engine, wat(body))).kind == "ok"

    @pytest.mark.parametrize(
        ("errno", "name", "arguments"),
        [
            (Errno.BADF, "fd_write", (0, 0, 0, 0)),
            (Errno.BADF, "fd_write", (3, 0, 0, 0)),
            (Errno.BADF, "fd_read", (1, 0, 0, 0)),
            (Errno.SUCCESS, "fd_read", (0, 0, 0, 0)),
            (Errno.SPIPE, "fd_seek", (1, 0, 0, 0)),
            (Errno.BADF, "fd_seek", (3, 0, 0, 0)),
            (Errno.SPIPE, "fd_tell", (2, 0)),
            (Errno.BADF, "fd_tell", (0xFFFF_FFFF, 0)),
            (Errno.BADF, "fd_close", (3,)),
            (Errno.BADF, "fd_prestat_get", (3, 0)),
            (Errno.SUCCESS, "fd_fdstat_get", (0, 0)),
            (Errno.BADF, "fd_fdstat_get", (3, 0)),
            (Errno.SUCCESS, "fd_fdstat_set_flags", (1, 4)),
            (Errno.BADF, "fd_fdstat_set_flags", (3, 4)),
            (Errno.SUCCESS, "fd_filestat_get", (1, 0)),
            (Errno.BADF, "fd_filestat_get", (3, 0)),
            (Errno.SUCCESS, "clock_res_get", (0, 0)),
            (Errno.INVAL, "clock_res_get", (2, 0)),
            (Errno.SUCCESS, "clock_time_get", (1, 0, 0)),
            (Errno.INVAL, "clock_time_get", (3, 0, 0)),
            (Errno.SUCCESS, "args_sizes_get", (0, 4)),
            (Errno.SUCCESS, "args_get", (0, 4)),
            (Errno.SUCCESS, "sched_yield", ()),
            (Errno.SUCCESS, "random_get", (0, 0)),
        ],
    )
    async def test_each_call_answers(self, engine: Engine, errno: Errno, name: str, arguments: tuple[int, ...]) -> None:
        assert (await run(engine, wat(answers(errno, name, *arguments)))).kind == "ok"

    async def test_arguments_are_the_plugin_s_name(self, engine: Engine) -> None:
        body = f"""{answers(Errno.SUCCESS, "args_sizes_get", 0, 4)}
                   (call $is (i32.const 1) (i32.load (i32.const 0))) (call $is (i32.const 5) (i32.load (i32.const 4)))
                   {answers(Errno.SUCCESS, "args_get", 8, 16)} (call $is (i32.const 16) (i32.load (i32.const 8)))
                   (call $is (i32.const {int.from_bytes(b"echo", "little")}) (i32.load (i32.const 16)))"""
        assert (await run(engine, wat(body))).kind == "ok"

    async def test_a_closed_stream_is_closed(self, engine: Engine) -> None:
        body = answers(Errno.SUCCESS, "fd_close", 1) + answers(Errno.BADF, "fd_write", 1, 0, 0, 0)
        assert (await run(engine, wat(body + answers(Errno.BADF, "fd_close", 1)))).kind == "ok"

    @pytest.mark.parametrize(("body", "error"), [
        (call("proc_exit", 0), "the guest exited with code 0"),
        (call("proc_exit", 0xFFFF_FFFF), "the guest exited with code 4294967295"),
        (f"(drop {call('proc_raise', 6)})", "the guest raised signal 6"),
    ])  # fmt: skip
    async def test_an_exit_is_no_answer_whatever_its_code(self, engine: Engine, body: str, error: str) -> None:
        ran = await run(engine, wat(body))
        assert (ran.kind, ran.error) == ("trap", error)

    @pytest.mark.parametrize("more", [
        f"(func $begin {call('proc_exit', 1)}) (start $begin)",
        f"(func (export \"_initialize\") {call('proc_exit', 1)})",
        f"(func (export \"initialize\") (param i32 i32) (result i32) {call('proc_exit', 1)} (i32.const 0))",
    ], ids=["start", "_initialize", "initialize"])  # fmt: skip
    async def test_an_exit_before_the_request_ends_the_run(self, engine: Engine, more: str) -> None:
        ran = await run(engine, wat(more=more))
        assert (ran.kind, ran.error) == ("trap", "the guest exited with code 1")


class TestOutput:
    @given(st.lists(st.text("ab\n\u00e9", max_size=5)))
    def test_how_a_text_is_cut_into_writes_does_not_show(self, writes: list[str]) -> None:
        lines: list[tuple[int, bytes]] = []
        process = Process(lambda level, line: lines.append((level, line)))
        for each in writes:
            process.write(1, each.encode())
        process.flush()
        *ended, rest = "".join(writes).encode().split(b"\n")
        assert lines == [(2, line) for line in (*ended, *([rest] if rest else []))]

    def test_a_line_without_end_does_not_pile_up(self) -> None:
        lines: list[bytes] = []
        process = Process(lambda _level, line: lines.append(line))
        for _ in range(2 * MAX_LINE_BYTES):
            process.write(1, b"x")
        assert [len(line) for line in lines] == [MAX_LINE_BYTES] * 2

    async def test_pieces_are_gathered(self, engine: Engine) -> None:
        more = data(0, words(100, 3, 103, 0, 103, 4)) + data(100, b"one two")
        ran = await run(engine, wat(answers(Errno.SUCCESS, "fd_write", 2, 0, 3, 64), more=more))
        assert ran.logs == [("warn", "one two")]

    async def test_one_write_takes_so_much_and_says_so(self, engine: Engine) -> None:
        body = answers(Errno.SUCCESS, "fd_write", 1, 0, 2, 64)
        taken = f"(call $is (i32.const {MAX_WRITE_BYTES}) (i32.load (i32.const 64)))"
        assert (await run(engine, wat(body + taken, more=data(0, words(0, 65_536, 0, 1))))).kind == "ok"

    async def test_of_two_billion_pieces_it_takes_the_first(self, engine: Engine) -> None:
        more = data(0, words(1000, 1) * MAX_VECTORS + words(0xFFFF_FFFF, 1)) + data(1000, b"x")
        body = answers(Errno.SUCCESS, "fd_write", 1, 0, 1 << 31, 2000)
        ran = await run(engine, wat(body, more=more))
        assert (ran.kind, ran.logs) == ("ok", [("info", "x" * MAX_VECTORS)])

    @pytest.mark.parametrize("filler", [b"", b"\n" * 4000], ids=["zeros", "line ends"])
    async def test_600_mb_of_it_run_out_of_fuel_and_keep_the_caps(self, engine: Engine, filler: bytes) -> None:
        more = data(0, words(65_536, 65_536)) + data(65_536, filler)
        began = time.process_time()
        ran = await run(engine, wat(forever(f"(drop {call('fd_write', 1, 0, 1, 64)})"), more=more))
        assert ran.kind == "out_of_fuel"
        assert len(ran.logs) <= Caps().log_lines + 1
        assert sum(len(text) for _, text in ran.logs) <= Caps().log_bytes + MAX_LINE_BYTES
        assert time.process_time() - began < 2

    async def test_two_guests_that_take_turns_do_not_mix_their_lines(self, engine: Engine) -> None:
        def speaker(letter: bytes) -> bytes:
            pause = f"(drop {call('poll_oneoff', 200, 300, 1, 400)})"
            say = f"(drop {call('fd_write', 1, 0, 1, 64)})" + pause
            more = data(0, words(100, 1)) + data(100, letter) + data(200, clock_subscription(1_000_000))
            return wat(say * 10, more=more)

        both = await asyncio.gather(*(run(engine, speaker(letter)) for letter in (b"a", b"b")))
        assert [ran.logs for ran in both] == [[("info", "a" * 10)], [("info", "b" * 10)]]


END = MEMORY_BYTES


class TestHostilePointers:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("fd_write", (1, END - 7, 1, 0)),
            ("fd_write", (1, 0xFFFF_FFFF, 1, 0)),
            ("fd_write", (1, 0, 1, END - 3)),
            ("fd_write", (1, 1000, 1, 0)),
            ("fd_write", (1, 1008, 1, 0)),
            ("fd_read", (0, 0, 0, END - 3)),
            ("fd_fdstat_get", (0, END - 23)),
            ("fd_filestat_get", (0, END - 63)),
            ("random_get", (0, 0xFFFF_FFFF)),
            ("random_get", (END, 1)),
            ("random_get", (0xFFFF_FFFF, 0xFFFF_FFFF)),
            ("clock_time_get", (0, 0, END - 7)),
            ("clock_res_get", (0, 0xFFFF_FFFF)),
            ("args_get", (END - 3, 0)),
            ("args_get", (0, END - 4)),
            ("environ_sizes_get", (0, END - 3)),
            ("poll_oneoff", (END - 47, 0, 1, 0)),
            ("poll_oneoff", (0, END - 31, 1, 0)),
            ("poll_oneoff", (0, 0, 1, END - 3)),
        ],
    )
    async def test_a_range_outside_the_memory_ends_the_run(
        self, engine: Engine, name: str, arguments: tuple[int, ...]
    ) -> None:
        more = data(1000, words(END, 1, 0xFFFF_FFFF, 0xFFFF_FFFF))
        ran = await run(engine, wat(f"(drop {call(name, *arguments)})", more=more))
        assert ran.kind == "trap"
        assert ran.error.startswith("the guest gave a range outside its memory")

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("poll_oneoff", (0, 0, 0, 0)),
            ("poll_oneoff", (0, 0, MAX_SUBSCRIPTIONS + 1, 0)),
            ("poll_oneoff", (0, 0, 1_000_000, 0)),
        ],
    )
    async def test_more_than_one_call_may_carry_is_refused(
        self, engine: Engine, name: str, arguments: tuple[int, ...]
    ) -> None:
        assert (await run(engine, wat(answers(Errno.INVAL, name, *arguments)))).kind == "ok"

    async def test_more_randomness_than_one_call_gives_is_refused(self, engine: Engine) -> None:
        grow = "(drop (memory.grow (i32.const 32)))"
        body = grow + answers(Errno.INVAL, "random_get", 65_536, MAX_RANDOM_BYTES + 1)
        assert (
            await run(engine, wat(body + answers(Errno.SUCCESS, "random_get", 65_536, MAX_RANDOM_BYTES)))
        ).kind == "ok"

    async def test_randomness_is_charged(self, engine: Engine) -> None:
        body = "(drop (memory.grow (i32.const 32)))" + forever(f"(drop {call('random_get', 0, MAX_RANDOM_BYTES)})")
        assert (await run(engine, wat(body))).kind == "out_of_fuel"


class TestSleep:
    @staticmethod
    def polling(*subscriptions: bytes, then: str = "") -> bytes:
        """A guest that waits for these, and finds the events at 1024 and their number at 1020."""
        body = answers(Errno.SUCCESS, "poll_oneoff", 0, 1024, len(subscriptions), 1020)
        return wat(body + then, more=data(0, b"".join(subscriptions)))

    async def test_the_deadline_ends_an_hour_of_it(self, engine: Engine) -> None:
        ran = await run(engine, self.polling(clock_subscription(3600 * 10**9)), timeout_s=0.05)
        assert (ran.kind, ran.error) == ("deadline_exceeded", "the run took longer than its limit of 0.05 s")

    async def test_the_deadline_ends_it_in_a_start_function(self, engine: Engine) -> None:
        more = f"(func $begin (drop {call('poll_oneoff', 0, 1024, 1, 1020)})) (start $begin)"
        ran = await run(engine, wat(more=more + data(0, clock_subscription((1 << 64) - 1))), timeout_s=0.05)
        assert ran.kind == "deadline_exceeded"

    async def test_waking_all_the_time_runs_out_of_fuel(self, engine: Engine) -> None:
        body = forever(f"(drop {call('poll_oneoff', 0, 1024, 1, 1020)})")
        ran = await run(engine, wat(body, more=data(0, clock_subscription(0))))
        assert ran.kind == "out_of_fuel"

    async def test_those_who_sleep_do_not_wait_for_one_another(self, engine: Engine) -> None:
        began = time.monotonic()
        sleeper = self.polling(clock_subscription(100_000_000))
        program = await engine.compile(sleeper)
        await asyncio.gather(*(slept(program) for _ in range(100)))
        assert time.monotonic() - began < 10  # as long as it would take one after another

    async def test_a_cancelled_sleep_leaves_nothing(self, engine: Engine) -> None:
        program = await engine.compile(self.polling(clock_subscription(3600 * 10**9)))
        before = self.living()
        await self.cancelled_while_it_sleeps(program)
        assert self.living() == before

    @staticmethod
    async def cancelled_while_it_sleeps(program: Program) -> None:
        sleeping = asyncio.create_task(slept(program))
        await asyncio.wait({sleeping}, timeout=0.02)
        sleeping.cancel()
        await asyncio.wait({sleeping})
        assert sleeping.cancelled()

    @staticmethod
    def living() -> int:
        gc.collect()
        return sum(isinstance(each, (Guest, Poll, WasiSession)) for each in gc.get_objects())

    async def test_in_the_middle_of_a_host_call_there_is_none(self, engine: Engine) -> None:
        allocate = f"""(func (export "allocate") (param i32) (result i32)
            {answers(Errno.SUCCESS, "poll_oneoff", 0, 1024, 1, 1020)} (i32.const 4096))"""
        body = f"(drop (call $ask {'(i32.const 0) ' * 4}))"
        ran = await run(engine, wat(body, more=data(0, clock_subscription(0)), allocate=allocate))
        assert (ran.kind, ran.error) == (
            "trap",
            "the guest made a host call from within its `allocate`",
        )

    async def test_a_time_in_the_past_is_no_sleep(self, engine: Engine) -> None:
        for clock in (0, 1):
            assert (await run(engine, self.polling(clock_subscription(1, clock=clock, flags=1)))).kind == "ok"

    async def test_a_time_to_come_is_waited_for(self, engine: Engine) -> None:
        for clock, now_ns in ((0, time.time_ns), (1, time.monotonic_ns)):
            wake_ns = now_ns() + 20_000_000
            subscription = clock_subscription(wake_ns, clock=clock, flags=1)
            assert (await run(engine, self.polling(subscription))).kind == "ok"
            assert now_ns() >= wake_ns

    async def test_only_what_is_due_is_told(self, engine: Engine) -> None:
        one = "(call $is (i32.const 1) (i32.load (i32.const 1020)))"
        ours = "(call $is (i32.const 9) (i32.load (i32.const 1024)))"
        guest_wasm = self.polling(clock_subscription(3600 * 10**9), fd_subscription(1, 2), then=one + ours)
        assert (await run(engine, guest_wasm)).kind == "ok"

    @pytest.mark.parametrize(
        ("subscription", "errno"),
        [
            (clock_subscription(0, clock=2), Errno.INVAL),
            (fd_subscription(0, 1), Errno.SUCCESS),
            (fd_subscription(1, 1), Errno.BADF),
            (fd_subscription(2, 2), Errno.SUCCESS),
            (fd_subscription(0, 2), Errno.BADF),
            (fd_subscription(77, 2), Errno.BADF),
            (fd_subscription(1, 200), Errno.INVAL),
        ],
    )
    async def test_each_event_tells_how_it_went(self, engine: Engine, subscription: bytes, errno: Errno) -> None:
        then = f"(call $is (i32.const {errno}) (i32.load16_u (i32.const 1032)))"
        assert (await run(engine, self.polling(subscription, then=then))).kind == "ok"


async def slept(program: Program) -> None:
    """A guest of a program that does nothing but sleep, from beginning to end."""
    session = WasiSession(Grant("echo", frozenset(), Limits()), {}, Caps())
    made = Guest(program, session, fuel=FUEL, memory_bytes=16 << 20, timeout_s=5)
    try:
        await made.instantiate()
        assert await ABI.handle_request(made, b"{}", 1 << 20) == OK
    finally:
        made.close()
