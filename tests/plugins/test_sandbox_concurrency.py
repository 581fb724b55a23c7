"""Many guests on one event loop: deadlines, cancellation, and that none disturbs another, the loop, or itself later."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.guests import OK, ask, data, log_answer, wat
from tests.plugins.conftest import MakeSandbox
from warren.plugins.guest import guests
from warren.plugins.host import HostSession
from warren.plugins.sandbox import Sandbox

ENDLESS_FUEL = 10**14
SPIN = "(loop (br 0)) unreachable"
WAIT, WAIT_DATA = ask("wait")
WAITING = wat(f"(drop {WAIT}) (call $answer)", more=WAIT_DATA)

#: Answers to `wait` are longer than the request, so `allocate` can tell them apart, and goes on for ever.
SPIN_NESTED = wat(
    f"(drop {WAIT}) (call $answer)",
    more=WAIT_DATA,
    allocate="""(func (export "allocate") (param i32) (result i32)
                  (if (i32.gt_u (local.get 0) (i32.const 2)) (then (loop (br 0)))) (i32.const 8192))""",
)
SPIN_LOGGING = wat("(loop (call $say (i32.const 0) (i32.const 5)) (br 0)) unreachable")
SPIN_CALLING = wat(f"(loop (drop {WAIT}) (br 0)) unreachable", more=WAIT_DATA)


async def forever(_session: HostSession, _arguments: Any) -> None:
    await asyncio.Event().wait()


def at_once(_session: HostSession, _arguments: Any) -> int:
    return 1


async def briefly(_session: HostSession, _arguments: Any) -> int:
    await asyncio.sleep(0)
    return 1


STATES = {
    "an infinite loop": (wat(SPIN), at_once),
    "an infinite loop in the start function": (wat(more=f"(func $s {SPIN}) (start $s)"), at_once),
    "an infinite loop in `allocate` in a host call": (SPIN_NESTED, at_once),
    "an infinite loop in `allocate` after a wait": (SPIN_NESTED, briefly),
    "an infinite loop of log lines": (SPIN_LOGGING, at_once),
    "an infinite loop of host calls": (SPIN_CALLING, at_once),
    "an infinite loop of host calls that wait": (SPIN_CALLING, briefly),
    "a host function that never returns": (WAITING, forever),
    "a host function that never returns, in the start function": (
        wat(more=WAIT_DATA + f"(func $s (drop {WAIT})) (start $s)"),
        forever,
    ),
}
every_state = pytest.mark.parametrize(("wasm", "wait"), STATES.values(), ids=STATES.keys())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a bounded wait for what has no event
            await asyncio.sleep(0)


@every_state
async def test_the_deadline_holds_and_not_before_its_time(
    wasm: bytes, wait: Callable[..., Any], make_sandbox: MakeSandbox
) -> None:
    sandbox = await make_sandbox(wasm, {"wait": wait}, max_fuel=ENDLESS_FUEL, timeout_s=0.3)
    began = time.monotonic()
    outcome = await sandbox.run(b"{}")
    assert (outcome.kind, outcome.error) == ("deadline_exceeded", "the run took longer than its limit of 0.3 s")
    assert time.monotonic() - began >= 0.3


@every_state
async def test_the_event_loop_goes_on_beside_a_run(
    wasm: bytes, wait: Callable[..., Any], make_sandbox: MakeSandbox
) -> None:
    sandbox = await make_sandbox(wasm, {"wait": wait}, max_fuel=ENDLESS_FUEL, timeout_s=600)
    run = asyncio.create_task(sandbox.run(b"{}"))
    for _ in range(20):
        await asyncio.sleep(0)
        assert not run.done()
    run.cancel()
    await asyncio.wait([run])


@every_state
async def test_a_cancelled_run_leaves_nothing_behind(
    wasm: bytes, wait: Callable[..., Any], make_sandbox: MakeSandbox
) -> None:
    sandbox = await make_sandbox(wasm, {"wait": wait}, max_fuel=ENDLESS_FUEL, timeout_s=600)
    tasks_before = asyncio.all_tasks()
    for turns in range(12):
        runs = [asyncio.create_task(sandbox.run(b"{}")) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for run in runs:
            run.cancel()
        ends = await asyncio.gather(*runs, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        assert not guests
    await until(lambda: asyncio.all_tasks() == tasks_before)


async def test_a_host_function_is_cancelled_with_its_run(make_sandbox: MakeSandbox) -> None:
    waiting, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_session: HostSession, _arguments: Any) -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    run = asyncio.create_task((await make_sandbox(WAITING, {"wait": wait})).run(b"{}"))
    await waiting.wait()
    run.cancel()
    await asyncio.wait_for(cancelled.wait(), 5)
    assert run.done() or await asyncio.wait([run])


async def test_a_run_cancelled_just_as_its_host_function_ends_is_cancelled(make_sandbox: MakeSandbox) -> None:
    async def wait(_session: HostSession, _arguments: Any) -> int:
        await asyncio.sleep(0)
        run.cancel()
        return 1

    run = asyncio.create_task((await make_sandbox(WAITING, {"wait": wait})).run(b"{}"))
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_a_request_can_have_less_time_than_the_grant_but_not_more(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(WAITING, {"wait": forever}, timeout_s=0.2)
    shorter, longer = await asyncio.gather(sandbox.run(b"{}", timeout_s=0.05), sandbox.run(b"{}", timeout_s=60))
    assert shorter.error == "the run took longer than its limit of 0.05 s"
    assert longer.error == "the run took longer than its limit of 0.2 s"


async def test_a_request_without_any_time_left_is_stopped_at_once(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(wat(SPIN), max_fuel=ENDLESS_FUEL)
    assert (await sandbox.run(b"{}", timeout_s=-1)).kind == "deadline_exceeded"


async def test_two_hundred_guests_wait_at_once(make_sandbox: MakeSandbox) -> None:
    waiting, go_on = 0, asyncio.Event()

    async def wait(_session: HostSession, _arguments: Any) -> None:
        nonlocal waiting
        waiting += 1
        await go_on.wait()

    sandbox = await make_sandbox(WAITING, {"wait": wait})
    runs = [asyncio.create_task(sandbox.run(b"{}")) for _ in range(200)]
    await until(lambda: waiting == 200)
    assert len(guests) == 200
    go_on.set()
    assert {(await run).response for run in runs} == {OK}


async def test_interleaved_guests_see_only_their_own_memory_logs_and_answers(make_sandbox: MakeSandbox) -> None:
    """Each logs its request, waits for a turn of everybody else, and answers with the request it still has."""
    request = "(local.get $at) (local.get $length)"
    body = f"(call $say {request}) (drop {WAIT}) (call $pack {request})"
    sandbox = await make_sandbox(wat(body, more=WAIT_DATA), {"wait": briefly})
    requests = [b'{"success":true,"result":%d,"error":null}' % n for n in range(50)]
    outcomes = await asyncio.gather(*map(sandbox.run, requests))
    assert [outcome.response for outcome in outcomes] == requests
    assert [[line.text.encode() for line in outcome.logs] for outcome in outcomes] == [[one] for one in requests]


async def test_what_host_functions_answer_reaches_the_guest_that_asked(make_sandbox: MakeSandbox) -> None:
    """The request is the argument; it comes back from a host function that lets others go first, and is logged."""

    async def wait(_session: HostSession, arguments: Any) -> Any:
        for _ in range(arguments % 7):
            await asyncio.sleep(0)
        return arguments

    call = "(call $ask (i32.const 1024) (i32.const 4) (local.get $at) (local.get $length))"
    sandbox = await make_sandbox(wat(log_answer(call), more=data(1024, "wait")), {"wait": wait})
    outcomes = await asyncio.gather(*(sandbox.run(b"%d" % n) for n in range(50)))
    assert [outcome.logs[0].text for outcome in outcomes] == [f'{{"ok":{n}}}' for n in range(50)]


async def test_a_fault_of_one_guest_is_not_its_neighbour_s(make_sandbox: MakeSandbox) -> None:
    good = await make_sandbox(WAITING, {"wait": briefly})
    bad = [
        await make_sandbox(wasm, {"wait": briefly}, max_fuel=3_000_000)
        for wasm in (
            wat("unreachable"),
            wat(SPIN),
            SPIN_NESTED,
            SPIN_LOGGING,
            wat("(call $say (i32.const -1) (i32.const 1)) (call $answer)"),
        )
    ]
    runs: list[Awaitable[Any]] = [sandbox.run(b"{}") for _ in range(10) for sandbox in (good, *bad)]
    outcomes = await asyncio.gather(*runs)
    assert [outcome.kind for outcome in outcomes] == [
        "ok",
        "trap",
        "out_of_fuel",
        "out_of_fuel",
        "out_of_fuel",
        "trap",
    ] * 10


async def test_garbage_is_collected_in_the_middle_of_host_calls(make_sandbox: MakeSandbox) -> None:
    def collect(_session: HostSession, _arguments: Any) -> int:
        return gc.collect()

    sandbox = await make_sandbox(WAITING, {"wait": collect})
    spinning = await make_sandbox(SPIN_NESTED, {"wait": collect}, max_fuel=ENDLESS_FUEL)
    runs = [asyncio.create_task(spinning.run(b"{}")) for _ in range(3)]
    for _ in range(5):
        assert (await sandbox.run(b"{}")).kind == "ok"
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)


def test_event_loops_in_several_threads_share_an_engine(make_sandbox: MakeSandbox) -> None:
    kinds: list[str] = []

    async def make() -> tuple[Sandbox, Sandbox]:
        return await make_sandbox(WAITING, {"wait": briefly}), await make_sandbox(wat("unreachable"))

    good, bad = asyncio.run(make())

    async def work() -> None:
        for _ in range(100):
            kinds.append((await good.run(b"{}")).kind)
            kinds.append((await bad.run(b"{}")).kind)

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kinds) == ["ok"] * 300 + ["trap"] * 300


async def test_thousands_of_runs_leave_no_objects_behind(make_sandbox: MakeSandbox) -> None:
    sandboxes = [
        await make_sandbox(wasm, {"wait": at_once})
        for wasm in (WAITING, wat("unreachable"), wat("(call $say (i32.const -1) (i32.const 1)) (call $answer)"))
    ]

    async def run_all(times: int) -> int:
        for _ in range(times):
            for sandbox in sandboxes:
                await sandbox.run(b"{}")
        gc.collect()
        return len(gc.get_objects())

    before = await run_all(20)
    assert await run_all(400) < before + 200
