"""Many requests: at once, one after the other for long, and beside one that does not want to end."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil
from wasmtime import wat2wasm

from tests.benchmarks.sandbox_costs import ECHO_REQUEST, FOLDER, POLICY
from tests.benchmarks.sandbox_report import Compared, Row, Section
from tests.guests import ask, wat, write_plugin
from warren.plugins import Plugin, PluginManager, host_function

HOST_CALL_S: Final = 0.1
SUSPENDED_LIMIT_S: Final = 1.0

#: A leak of six bytes a request would be more.
GROWTH_LIMIT_MIB: Final = 1.0

SHORT_CLIENTS: Final = 10
LONG_FUEL: Final = 100_000_000

_MIB: Final = 1 << 20


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


async def suspended(folder: Path, guests: int) -> Section:
    """Guests that all wait in a host call at the same time."""
    waiting = 0
    resident_bytes = [0, 0]

    @host_function()
    async def wait() -> None:
        nonlocal waiting
        waiting += 1
        if waiting == guests:
            resident_bytes[1] = _resident_bytes()
        await asyncio.sleep(HOST_CALL_S)

    call, data = ask("wait")
    wasm = wat(f"(drop {call}) (call $answer)", more=data)
    async with PluginManager(host_functions=[wait]) as manager:
        plugin = await manager.load_plugin(write_plugin(folder, "waiting", wasm))
        resident_bytes[0] = _resident_bytes()
        began = time.perf_counter()
        outcomes = await asyncio.gather(*(plugin.run(ECHO_REQUEST) for _ in range(guests)))
        took_s = time.perf_counter() - began
    failed = [outcome.error for outcome in outcomes if outcome.kind != "ok"]
    notes = (f"{len(failed):,} of them failed, the first with: {failed[0]}",) if failed else ()
    each_kib = (resident_bytes[1] - resident_bytes[0]) / guests / 1024
    rows = (
        Row("all answered", f"{took_s:.2f} s", {"wall_s": took_s}, Compared(took_s, SUSPENDED_LIMIT_S, " s")),
        Row("resident memory for each", f"{each_kib:.1f} KiB", {"resident_kib_each": each_kib}),
    )
    title = f"{guests:,} guests suspended at once in a host call of {HOST_CALL_S * 1000:g} ms"
    return Section(title, "wall time", () if failed else rows, notes)


async def memory(folder: Path, checkpoints: Sequence[int]) -> Section:
    """The process's memory after so many requests, one after the other."""
    async with PluginManager() as manager:
        plugin = await _echo(manager, folder)
        resident_mib: list[float] = []
        done = 0
        for checkpoint in checkpoints:
            for _ in range(checkpoint - done):
                await plugin.run(ECHO_REQUEST)
            done = checkpoint
            resident_mib.append(_resident_bytes() / _MIB)
    first_mib = resident_mib[0]
    rows = [
        Row(
            f"after {checkpoint:,} requests",
            f"{mib:.1f} MiB resident",
            {"resident_mib": mib},
            Compared(mib - first_mib, GROWTH_LIMIT_MIB, " MiB"),
        )
        for checkpoint, mib in zip(checkpoints, resident_mib, strict=True)
    ]
    return Section(f"memory over {done:,} requests", "growth", tuple(rows))


async def fairness(folder: Path, rounds: int) -> Section:
    """One guest that runs until its fuel is gone, and clients whose requests are short."""
    wasm, manifest = wat("(loop (br 0)) unreachable"), f"[resources]\nmax_fuel = {LONG_FUEL}\n"
    pauses_ms: list[float] = []
    short_ms: list[float] = []
    long_ms: list[float] = []
    async with PluginManager(policy=POLICY) as manager:
        endless = await manager.load_plugin(write_plugin(folder, "endless", wasm, manifest))
        short = await _echo(manager, folder)
        for _ in range(rounds):
            long_run = asyncio.create_task(_timed_ms(endless, long_ms))
            clients = [_client(short, long_run, short_ms) for _ in range(SHORT_CLIENTS)]
            await asyncio.gather(_watch(long_run, pauses_ms), *clients)
            await long_run
        alone_ms: list[float] = []
        for _ in range(100):
            await _timed_ms(short, alone_ms)
    rows = (
        _spread("turns of the event loop", pauses_ms),
        _spread("short requests, beside the long one", short_ms),
        _spread("short requests, alone", alone_ms),
        Row("the long request", f"{statistics.median(long_ms):.0f} ms", {"median_ms": statistics.median(long_ms)}),
    )
    title = f"fairness: one guest of {LONG_FUEL:,} units of fuel beside {SHORT_CLIENTS} clients with short requests"
    return Section(title, "", rows)


def _spread(name: str, times_ms: Sequence[float]) -> Row:
    p50, p99 = (statistics.quantiles(times_ms, n=100)[at] for at in (49, 98))
    longest = max(times_ms)
    figures = {"p50_ms": p50, "p99_ms": p99, "longest_ms": longest}
    return Row(name, f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {longest:.2f} ms", figures)


async def _client(plugin: Plugin, until: asyncio.Task[None], times_ms: list[float]) -> None:
    while not until.done():
        await asyncio.create_task(_timed_ms(plugin, times_ms, time.perf_counter()))


async def _timed_ms(plugin: Plugin, times_ms: list[float], asked: float | None = None) -> None:
    """Counted from when it was asked for: to wait for a turn of the loop is part of it."""
    began = time.perf_counter() if asked is None else asked
    await plugin.run(ECHO_REQUEST)
    times_ms.append((time.perf_counter() - began) * 1000)


async def _watch(until: asyncio.Task[None], pauses_ms: list[float]) -> None:
    """How long the loop takes to come round, again and again."""
    last = time.perf_counter()
    while not until.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        pauses_ms.append((now - last) * 1000)
        last = now


async def _echo(manager: PluginManager, folder: Path) -> Plugin:
    wasm = bytes(wat2wasm((FOLDER / "echo.wat").read_text()))
    return await manager.load_plugin(write_plugin(folder, "echo", wasm))
