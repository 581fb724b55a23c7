"""The world of a plugin that is tested, as guests find it by WASI: a program, and a libc that was compiled from C."""

from __future__ import annotations

import base64
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.guests import asking, data, write_plugin
from tests.plugins.conftest import MIB
from tests.plugins.test_component import OK as ANSWER
from tests.plugins.test_component import calling
from tests.plugins.test_wasi import LIBC, clock_subscription, fd_subscription
from tests.plugins.test_wasi_command import program
from warren.manifests import Grant, Limits
from warren.plugins import ResourceLimit
from warren.plugins.checks import check_module
from warren.plugins.engine import Engine
from warren.plugins.sandbox import Sandbox
from warren.plugins.testing import (
    DEFAULT_START_S,
    PluginRequest,
    PluginTestFramework,
    SyncPluginUnderTest,
    VirtualClock,
)
from warren.plugins.testing.virtual import FIRST_NS, VirtualSession, VirtualWorld
from warren.plugins.wasi_abi import EventType

WHILE_NS: Final = 20 * 10**9
START_NS: Final = DEFAULT_START_S * 10**9
GO: Final = PluginRequest("go")

#: Of clocks, by the numbers that WASI has for them, and the flag of an absolute time.
REALTIME, ABSOLUTE = 0, 1

BYTES: Final = '[runtime]\nstreams = "text"\n'


def sleeping(*subscriptions: bytes) -> bytes:
    """A program that prints both clocks, waits for these, and prints them again and 8 random bytes."""

    def clocks(at: int) -> str:
        return f"""(drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const {at})))
                   (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const {at + 8})))"""

    count = f"(i32.const {len(subscriptions)})"
    wait = f"(drop (call $poll_oneoff (i32.const 1024) (i32.const 8192) {count} (i32.const 40)))"
    draw = "(drop (call $random_get (i32.const 4128) (i32.const 8)))"
    no_text = "(i32.store8 (i32.const 4095) (i32.const 255))"  # so that what follows comes as bytes
    show = "(call $print (i32.const 1) (i32.const 4095) (i32.const 41))"
    body = no_text + clocks(4096) + wait + clocks(4112) + draw + show
    return program(body, more=data(1024, b"".join(subscriptions)))


@dataclass(frozen=True)
class Told:
    """What such a program was told: by the wall clock before and after its sleep, and by the monotonic one."""

    before_ns: int
    before_monotonic_ns: int
    after_ns: int
    after_monotonic_ns: int
    drawn: bytes

    @classmethod
    def by(cls, plugin: SyncPluginUnderTest) -> Told:
        printed = base64.b64decode(plugin.call_plugin_function("handle_request", GO).result["base64"])
        before, before_monotonic, after, after_monotonic = struct.unpack_from("<4Q", printed, 1)
        return cls(before, before_monotonic, after, after_monotonic, printed[33:])

    @property
    def slept_ns(self) -> int:
        assert self.after_ns - self.before_ns == self.after_monotonic_ns - self.before_monotonic_ns
        return self.after_ns - self.before_ns


def drawn(length: int) -> bytes:
    """The first random bytes that there are."""
    return VirtualWorld(VirtualClock()).random_bytes(length)


def framework(folder: Path, wasm: bytes, manifest: str = BYTES) -> PluginTestFramework:
    return PluginTestFramework().plugin_path(write_plugin(folder, "tested", wasm, manifest))


@pytest.mark.parametrize(
    ("subscriptions", "slept_ns"),
    [
        ([clock_subscription(WHILE_NS)], WHILE_NS),
        ([clock_subscription(WHILE_NS, clock=REALTIME)], WHILE_NS),
        ([clock_subscription(START_NS + WHILE_NS, clock=REALTIME, flags=ABSOLUTE)], WHILE_NS),
        ([clock_subscription(START_NS - WHILE_NS, clock=REALTIME, flags=ABSOLUTE)], 0),
        ([clock_subscription(WHILE_NS), clock_subscription(5)], 5),
        ([clock_subscription(WHILE_NS), fd_subscription(1, EventType.FD_WRITE)], 0),
    ],
    ids=["relative", "by the wall clock", "absolute", "long past", "the first of two", "a stream that is ready"],
)
def test_a_program_that_sleeps_waits_for_nothing_and_finds_that_time_has_gone_by(
    tmp_path: Path, subscriptions: list[bytes], slept_ns: int
) -> None:
    with framework(tmp_path, sleeping(*subscriptions)).build_sync() as plugin:
        began = time.monotonic()
        told = Told.by(plugin)
        assert time.monotonic() - began < 10
        assert (told.before_ns, told.slept_ns) == (START_NS, slept_ns)
        assert told.before_monotonic_ns > 0
        assert plugin.plugin.clock.now_ns() == START_NS + slept_ns
        assert Told.by(plugin).before_ns == told.after_ns


def test_a_program_asks_the_same_clock_as_the_test(tmp_path: Path) -> None:
    start = datetime(2030, 5, 1, 12, tzinfo=UTC)
    with framework(tmp_path, sleeping(clock_subscription(0))).start_time(start).build_sync() as plugin:
        plugin.plugin.clock.advance(0.5)
        assert Told.by(plugin).before_ns == int(start.timestamp()) * 10**9 + 5 * 10**8


def test_random_numbers_are_the_same_in_each_test_and_not_in_each_run(tmp_path: Path) -> None:
    built = framework(tmp_path, sleeping(clock_subscription(0)))
    with built.build_sync() as one, built.build_sync() as other:
        first, second, again = Told.by(one).drawn, Told.by(one).drawn, Told.by(other).drawn
    assert first == again == drawn(8)
    assert first != second


def test_what_is_slept_counts_toward_the_time_limit(tmp_path: Path) -> None:
    built = framework(tmp_path, sleeping(clock_subscription(WHILE_NS))).timeout_duration(10)
    with built.build_sync() as plugin:
        with pytest.raises(ResourceLimit, match="longer than its limit of 10 s"):
            Told.by(plugin)
        assert plugin.plugin.clock.now_ns() == START_NS + 10 * 10**9


def test_the_world_may_be_the_real_one(tmp_path: Path) -> None:
    built = framework(tmp_path, sleeping(clock_subscription(1_000_000))).live_world()
    with built.build_sync() as plugin:
        told = Told.by(plugin)
        assert abs(told.before_ns - time.time_ns()) < 60 * 10**9
        assert told.after_monotonic_ns - told.before_monotonic_ns >= 1_000_000
        assert Told.by(plugin).drawn != told.drawn
        with pytest.raises(ValueError, match=r"live_world\(\)"):
            _ = plugin.plugin.clock


async def test_a_libc_tells_and_sleeps_by_it(engine: Engine) -> None:
    world = VirtualWorld(VirtualClock(1_000))
    abi, wasm = check_module(LIBC, 16 * MIB)
    granted = Grant("tested", frozenset(), Limits())
    sandbox = Sandbox(await engine.compile(wasm), abi, granted, b"{}", {}, session=partial(VirtualSession, world))
    clocks = await sandbox.run(b"clocks")
    assert [line.text for line in clocks.logs] == ["1000 40000000"]
    chance = await sandbox.run(b"random")
    assert chance.logs[0].text == f"{drawn(16).hex()} 1"
    assert (await sandbox.run(b"clocks")).logs[0].text == "1000 40000000"
    assert world.clock.now_ns() == 1_000_080_000_000


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("wall", f"(call $it (i32.const 64)) (i64.eq (i64.load (i32.const 64)) (i64.const {DEFAULT_START_S}))"),
        ("clock", f"(i64.eq (call $it) (i64.const {FIRST_NS}))"),
        ("random", f"(i64.eq (call $it) (i64.const {int.from_bytes(drawn(8))}))"),
    ],
)
def test_a_component_finds_it_too(tmp_path: Path, name: str, found: str) -> None:
    body = f"{found} (if (then) (else (unreachable))) {ANSWER}"
    with framework(tmp_path, calling(name, body), "").build_sync() as plugin:
        assert plugin.call_plugin_function("handle_request", GO).result is None


def test_a_clock_shows_no_time_that_guests_cannot_count(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between 1970 and 2200"):
        PluginTestFramework().start_time(-1)
    with pytest.raises(ValueError, match="has to say its offset"):
        PluginTestFramework().start_time(datetime(2026, 1, 1))  # noqa: DTZ001 - the point
    clock = VirtualClock(datetime(2199, 12, 31, 23, 59, 59, 123_000, tzinfo=UTC))
    assert clock.now_ns() % 10**9 == 123_000_000
    with pytest.raises(ValueError, match="beyond"):
        clock.advance(1)
    with (
        framework(tmp_path, asking("get_time"), "").start_time(datetime(2026, 1, 1, tzinfo=UTC)).build_sync() as plugin
    ):
        answered = plugin.call_plugin_function("handle_request", GO).result
        assert answered["ok"] == {"timestamp": DEFAULT_START_S, "unix_ms": DEFAULT_START_S * 1_000}
