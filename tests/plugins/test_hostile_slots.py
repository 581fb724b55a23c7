"""Slots of the instance pool, used again: nothing of one guest is there for the next, and there are enough of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from tests.guests import OK, ask, wat, write_plugin
from tests.plugins.conftest import MIB, MakeSandbox
from warren.plugins import PluginManager, bindings
from warren.plugins.guest import PAGE_BYTES, SLICE_FUEL, Guest, guests
from warren.plugins.host import HostSession
from warren.plugins.instance_pool import INSTANCE_SLOTS, MAX_TABLE_ELEMENTS, MAX_TABLES
from warren.plugins.sandbox import Sandbox

SECRET = b"\x5a" * 16
BITS = int.from_bytes(SECRET[:8], "little")
MEMORY = 64 * MIB
FUEL = 10**8

#: Below lie a module's own data and its request; nothing above has ever been written by an honest guest.
FREE_AT = 16_384
GLOBALS = 20
#: What a table starts with: what it has more is written when it grows.
ELEMENTS = 1_000

#: What a request says: keep a secret and then end in this way, or look for one.
ENDINGS = {"ok": 0, "trap": 1, "out_of_fuel": 2, "out_of_memory": 3, "deadline_exceeded": 4, "cancelled": 5}
LOOK = 6

HERE, HERE_DATA = ask("here")
GROW = f"(if (i32.eq (memory.grow (i32.const {MEMORY // PAGE_BYTES - 2})) (i32.const -1)) (then unreachable))"


def each(count: int, text: str) -> str:
    return "".join(text.replace("#", str(n)) for n in range(count))


KEEP = f"""
  (func $keep {GROW}
    (memory.fill (i32.const {FREE_AT}) (i32.const 0x5a) (i32.const {MEMORY - FREE_AT}))
    {each(GLOBALS, f"(global.set $g# (i64.const {BITS}))")}
    {
    each(
        MAX_TABLES,
        f'''
      (table.fill $t# (i32.const 0) (ref.func $answer) (i32.const {ELEMENTS}))
      (drop (table.grow $t# (ref.func $answer) (i32.const {MAX_TABLE_ELEMENTS - ELEMENTS})))''',
    )
})
"""

LOOK_EVERYWHERE = f"""
  (func $nothing (param $not_zero i32) (if (local.get $not_zero) (then unreachable)))
  (func $look (local $at i32) (local $seen v128)
    {each(GLOBALS, "(call $nothing (i64.ne (global.get $g#) (i64.const 0)))")}
    (loop $again
      {each(MAX_TABLES, "(call $nothing (i32.eqz (ref.is_null (table.get $t# (local.get $at)))))")}
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $at) (i32.const {ELEMENTS}))))
    {GROW}
    (local.set $at (i32.const {FREE_AT}))
    (loop $again
      {each(8, "(local.set $seen (v128.or (local.get $seen) (v128.load offset=#0 (local.get $at))))")}
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $again (i32.lt_u (local.get $at) (i32.const {MEMORY - 128}))))
    (local.set $seen (v128.or (local.get $seen) (v128.load (i32.const {MEMORY - 16}))))
    (call $nothing (v128.any_true (local.get $seen))))
"""

#: Where it is, a guest asks `here`, after it has kept its secret and before it looks for one. The answer `true` is
#: shorter than `false`, and says that somebody else's secret was here.
BODY = f"""
  (local $what i32)
  (local.set $what (i32.load8_u (local.get $at)))
  (if (i32.ne (local.get $what) (i32.const {LOOK})) (then (call $keep)))
  (if (i32.eq (i32.wrap_i64 {HERE}) (i32.const 11)) (then (call $look)))
  (if (i32.eq (local.get $what) (i32.const {ENDINGS["trap"]})) (then unreachable))
  (if (i32.eq (local.get $what) (i32.const {ENDINGS["out_of_fuel"]})) (then (loop (br 0))))
  (if (i32.eq (local.get $what) (i32.const {ENDINGS["out_of_memory"]})) (then
    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))
  (call $answer)
"""
MORE = (
    each(GLOBALS, "(global $g# (mut i64) (i64.const 0))")
    + each(MAX_TABLES, f"(table $t# {ELEMENTS} funcref)")
    + "(elem declare func $answer)"
    + (HERE_DATA + KEEP + LOOK_EVERYWHERE)
)
MODULE = wat(BODY, more=MORE)
OTHER_MODULE = wat(BODY, more=MORE + "(func $other)")


def keeping(ending: str) -> bytes:
    return bytes([ENDINGS[ending]])


LOOKING = bytes([LOOK])


def guest_of(session: HostSession) -> Guest:
    return next(guest for guest in guests.values() if guest.host is session)


def slot_of(guest: Guest) -> int:
    """The address of the guest's memory, which in a pool is that of its slot."""
    memory = guest.slots.at_memory_item
    return int(bindings.memory_data(guest.context, memory))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a bounded wait for what has no event
            await asyncio.sleep(0)


class Slots:
    """The host's view of who is where: `here`, as guests call it."""

    def __init__(self) -> None:
        self.with_secret: set[int] = set()
        self.looked_at: list[int] = []
        self.waiting = 0
        self.go_on = asyncio.Event()

    async def here(self, session: HostSession, _arguments: Any) -> bool:
        guest = guest_of(session)
        slot, content = slot_of(guest), guest.read(0, guest.memory_bytes)
        keeps = len(content) == MEMORY
        assert keeps == content.endswith(SECRET) == (SECRET in content)
        if keeps:
            self.with_secret.add(slot)
        else:
            self.looked_at.append(slot)
        self.waiting += 1
        await self.go_on.wait()
        return not keeps and slot in self.with_secret

    async def keep_a_secret(self, sandbox: Sandbox, ending: str) -> None:
        """Fill a slot with a secret and end in this way."""
        run = asyncio.create_task(
            sandbox.run(keeping(ending), timeout_s=1.0 if ending == "deadline_exceeded" else None)
        )
        await until(lambda: self.waiting == 1)
        if ending == "cancelled":
            run.cancel()
            await asyncio.wait([run])
            assert run.cancelled()
        else:
            if ending != "deadline_exceeded":
                self.go_on.set()
            assert (await run).kind == ending
        self.go_on.clear()
        self.waiting = 0


async def test_who_looks_where_a_secret_is_finds_it(make_sandbox: MakeSandbox) -> None:
    sandbox = await make_sandbox(MODULE, {"here": lambda *_: True}, memory_bytes=MEMORY, max_fuel=FUEL)
    assert (await sandbox.run(keeping("ok"))).kind == "trap"


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_secret_is_gone_for_the_next_guest_of_the_module_in_the_same_slot(
    ending: str, make_sandbox: MakeSandbox
) -> None:
    slots = Slots()
    sandbox = await make_sandbox(MODULE, {"here": slots.here}, memory_bytes=MEMORY, max_fuel=FUEL)
    for _ in range(2):
        await slots.keep_a_secret(sandbox, ending)
        slots.go_on.set()
        assert (await sandbox.run(LOOKING)).kind == "ok"
        slots.go_on.clear()
        slots.waiting = 0
    assert set(slots.looked_at) == slots.with_secret, "it is the same slot"


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_secret_is_gone_for_a_guest_of_another_module_in_the_same_slot(
    ending: str, make_sandbox: MakeSandbox
) -> None:
    """As many guests at once as there are slots are in every slot, memories and tables."""
    slots = Slots()
    keeper, other = [
        await make_sandbox(wasm, {"here": slots.here}, memory_bytes=MEMORY, max_fuel=FUEL)
        for wasm in (MODULE, OTHER_MODULE)
    ]
    await slots.keep_a_secret(keeper, ending)
    runs = [asyncio.create_task(other.run(LOOKING)) for _ in range(INSTANCE_SLOTS)]
    await until(lambda: slots.waiting == INSTANCE_SLOTS)
    slots.go_on.set()
    assert {(await run).kind for run in runs} == {"ok"}
    assert slots.with_secret <= set(slots.looked_at)
    assert len(set(slots.looked_at)) == INSTANCE_SLOTS


WAIT, WAIT_DATA = ask("wait")


async def test_more_guests_than_there_are_slots_wait_for_one_and_are_served(make_sandbox: MakeSandbox) -> None:
    waiting, go_on, most = 0, asyncio.Event(), 0

    async def wait(_session: HostSession, _arguments: Any) -> None:
        nonlocal waiting, most
        waiting, most = waiting + 1, max(most, len(guests))
        await go_on.wait()

    sandbox = await make_sandbox(wat(f"(drop {WAIT}) (call $answer)", more=WAIT_DATA), {"wait": wait}, timeout_s=60.0)
    runs = [asyncio.create_task(sandbox.run(b"{}")) for _ in range(INSTANCE_SLOTS + 300)]
    await until(lambda: waiting == INSTANCE_SLOTS)
    for run in runs[-100:]:
        run.cancel()  # whoever gives up waiting leaves nothing behind
    go_on.set()
    ends = await asyncio.gather(*runs, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 100
    assert sum(getattr(end, "response", b"") == OK for end in ends) == INSTANCE_SLOTS + 200
    assert (waiting, most) == (INSTANCE_SLOTS + 200, INSTANCE_SLOTS)


async def test_every_guest_can_be_in_a_nested_allocate_at_once(make_sandbox: MakeSandbox) -> None:
    """Each has two stacks then. Its `allocate` goes on for some slices of fuel, and all of them take turns."""
    spin = f"""(loop $again (local.set $n (i32.add (local.get $n) (i32.const 1)))
                 (br_if $again (i32.lt_u (local.get $n) (i32.const {SLICE_FUEL // 4}))))"""
    allocate = f"""(func (export "allocate") (param $length i32) (result i32) (local $n i32)
                     (if (i32.gt_u (local.get $length) (i32.const 2)) (then {spin})) (i32.const 8192))"""
    wasm = wat(f"(drop {WAIT}) (call $answer)", more=WAIT_DATA, allocate=allocate)
    sandbox = await make_sandbox(wasm, {"wait": lambda *_: 1}, timeout_s=60.0)
    runs = [asyncio.create_task(sandbox.run(b"{}")) for _ in range(INSTANCE_SLOTS)]
    await until(lambda: sum(guest.host_call is not None for guest in guests.values()) == INSTANCE_SLOTS)
    assert {(await run).kind for run in runs} == {"ok"}


PROCESS = """
import asyncio, logging, resource, sys, tempfile
from pathlib import Path
import psutil
from tests.guests import wat, write_plugin
from warren.plugins import PluginManager

async def main(folder):
    async with PluginManager() as manager:
STEPS

BEFORE
with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder)))
"""


def in_a_process(steps: str, before: str = "") -> subprocess.CompletedProcess[str]:
    program = PROCESS.replace("STEPS", indent(dedent(steps), " " * 8)).replace("BEFORE", before)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)


def test_without_room_for_a_pool_requests_are_served_and_it_is_said() -> None:
    done = in_a_process(
        """
        plugin = await manager.load_plugin(write_plugin(folder, "a", wat()))
        bad = await manager.load_plugin(write_plugin(folder, "b", wat("unreachable")))
        kinds = [(await plugin.run(b"{}")).kind for plugin in (plugin, bad, plugin)]
        together = await asyncio.gather(*(plugin.run(b"{}") for _ in range(50)))
        print(*kinds, *{outcome.kind for outcome in together})
        """,
        before="resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))",
    )
    assert done.stdout.split() == ["ok", "trap", "ok", "ok"]
    assert "no pool of instances can be had here" in done.stderr


def test_a_process_that_has_served_keeps_little_memory() -> None:
    """Two thousand requests that each dirty a mebibyte, a hundred at once, as many as a worker takes by default."""
    done = in_a_process(
        """
        dirty = "(drop (memory.grow (i32.const 14))) (memory.fill (i32.const 16384) (i32.const 90) (i32.const 1032192))"
        plugin = await manager.load_plugin(write_plugin(folder, "a", wat(dirty + "(call $answer)")))
        for _ in range(20):
            outcomes = await asyncio.gather(*(plugin.run(b"{}") for _ in range(100)))
            assert {outcome.kind for outcome in outcomes} == {"ok"}
        print(psutil.Process().memory_info().rss >> 20)
        """
    )
    assert int(done.stdout) < 250


async def test_a_hundred_plugins_load_from_a_warm_cache_without_any_compiling_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        write_plugin(tmp_path / "plugins", f"p{number}", wat(more=f"(global i32 (i32.const {number}))"))
    started = 0
    start = asyncio.create_subprocess_exec

    async def counted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        nonlocal started
        started += 1
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    for expected in (100, 0):
        started = 0
        async with PluginManager(tmp_path / "plugins") as manager:
            assert (len(manager.plugins()), manager.failures) == (100, ())
            assert (await manager.find("p99").run(b"{}")).response == OK
        assert started == expected
