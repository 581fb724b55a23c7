"""What one request costs in processor time: small guests, a guest that is slow to start, and one that computes.

Contenders take turns, round after round, so that whatever else the machine does falls on all of them. A round's figure
is the thread's processor time by request; ratios are those of the least, which other work disturbs least.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from wasmtime import wat2wasm

from tests.benchmarks.sandbox_contenders import (
    BARE,
    EXTISM_FRESH,
    PUBLIC_WARM,
    WARREN,
    Serve,
    bare,
    extism,
    public_api,
    warren,
)
from tests.benchmarks.sandbox_report import Compared, Row, Section
from tests.guests import wat, write_plugin
from warren.manifests import Limits, Policy
from warren.plugins import LoadFailed, PluginManager

FOLDER: Final = Path(__file__).parent
GUESTS: Final = FOLDER / "guests"

#: No guest here is to be stopped for want of fuel; a manifest asks, and the policy grants.
AMPLE_FUEL: Final = "[resources]\nmax_fuel = 1_000_000_000\n"
POLICY: Final = Policy(limits=Limits(max_fuel=1_000_000_000))

ECHO_REQUEST: Final = json.dumps({"action": "echo", "data": "x" * 83}).encode()

TEXT: Final = (
    "A sandbox is made for one request and thrown away with it. Nothing that a guest writes is there for the next "
    "guest: memory, globals and tables are new each time. What a request may use is counted in fuel, and the guest is "
    "stopped when the fuel is gone; what it may wait for is counted in time."
)
WORDS_REQUEST: Final = json.dumps({"action": "analyse", "data": TEXT}).encode()

#: The most that Warren's cost may be of theirs.
REQUIRED: Final = {BARE: 2.0, PUBLIC_WARM: 1.0, EXTISM_FRESH: 1 / 3}

SNAPSHOT_LIMIT: Final = 1.5
NATIVE_LIMIT: Final = 1.6

#: How often the slow guest goes round, for a division each time: 20 ms or so.
SLOW_LOOPS: Final = 6_000_000

MEGABYTE: Final = b"x" * (1 << 20)


@dataclass(frozen=True, slots=True)
class Turns:
    """How often each contender has its turn, and how many requests a turn has."""

    rounds: int
    requests: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time for one request, in µs: the least of all rounds, and their median."""

    least_us: float
    median_us: float

    def row(self, name: str, compared: Compared | None = None) -> Row:
        shown = f"{_shown(self.least_us)} (median {_shown(self.median_us)})"
        return Row(name, shown, asdict(self), compared)


def _shown(us: float) -> str:
    return f"{us:.1f} µs" if us < 1000 else f"{us / 1000:.2f} ms"


async def costs(contenders: Mapping[str, Serve], turns: Turns) -> dict[str, Cost]:
    """What each contender's request costs."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for serve in contenders.values():
        await serve()
    for _ in range(turns.rounds):
        for name, serve in contenders.items():
            gc.collect()  # nobody pays for another's garbage
            began_ns = time.thread_time_ns()
            for _ in range(turns.requests):
                await serve()
            measured[name].append((time.thread_time_ns() - began_ns) / turns.requests / 1000)
    return {name: Cost(min(taken), statistics.median(taken)) for name, taken in measured.items()}


async def echo(folder: Path, turns: Turns) -> Section:
    """The smallest guest: what is left is the sandbox."""
    wasm = bytes(wat2wasm((FOLDER / "echo.wat").read_text()))
    return await _small_guest("echo", wasm, ECHO_REQUEST, folder, turns)


async def words(folder: Path, turns: Turns) -> Section:
    """A guest in C that reads JSON, counts words, and writes JSON."""
    wasm = (GUESTS / "words.wasm").read_bytes()
    return await _small_guest("words", wasm, WORDS_REQUEST, folder, turns)


async def _small_guest(name: str, wasm: bytes, request: bytes, folder: Path, turns: Turns) -> Section:
    async with PluginManager(policy=POLICY) as manager:
        plugin = await manager.load_plugin(write_plugin(folder, name, wasm, AMPLE_FUEL))
        others = {
            **bare(wasm, request),
            **public_api(wasm, request),
            **extism((GUESTS / f"{name}_extism.wasm").read_bytes(), request),
        }
        contenders = {**others, WARREN: warren(plugin, request)}
        answers = {await serve() for serve in contenders.values()}
        if len(answers) > 1:
            raise RuntimeError(f"the contenders' answers differ: {answers}")
        measured = await costs(contenders, turns)
    ours = measured[WARREN]
    rows = [
        cost.row(name, Compared(ours.least_us / cost.least_us, REQUIRED.get(name))) for name, cost in measured.items()
    ]
    notes = () if EXTISM_FRESH in measured else ("Extism's rows are left out: it is not installed",)
    title = f"{name}: processor time of a request of {len(request)} bytes"
    return Section(title, "Warren / this", tuple(rows), notes)


async def slow_start(folder: Path, turns: Turns) -> Section:
    """A guest whose `initialize` takes 20 ms, with a snapshot of it, beside the same guest with nothing to do there."""
    slow, idle = _initializing(SLOW_LOOPS), _initializing(1)
    names = "an empty `initialize`", "20 ms of `initialize`, snapshot", "20 ms of `initialize`, no snapshot"
    async with PluginManager(policy=POLICY) as manager:
        idle_plugin = await manager.load_plugin(write_plugin(folder, "idle", idle, AMPLE_FUEL))
        slow_plugin = await manager.load_plugin(write_plugin(folder, "slow", slow, AMPLE_FUEL))
        contenders = {names[0]: warren(idle_plugin, ECHO_REQUEST)}
        notes: tuple[str, ...] = ()
        try:
            manifest = f"{AMPLE_FUEL}[runtime]\nsnapshot = true\n"
            snapshot_plugin = await manager.load_plugin(write_plugin(folder, "snapshot", slow, manifest))
            contenders[names[1]] = warren(snapshot_plugin, ECHO_REQUEST)
        except LoadFailed as error:
            notes = (f"snapshots are not available: {error.reason}",)
        measured = await costs(contenders, turns)
        measured |= await costs({names[2]: warren(slow_plugin, ECHO_REQUEST)}, Turns(turns.rounds, 1))
    base_us = measured[names[0]].least_us
    limits = {names[1]: SNAPSHOT_LIMIT}
    rows = [cost.row(name, Compared(cost.least_us / base_us, limits.get(name))) for name, cost in measured.items()]
    return Section("snapshots: processor time of a request", "this / empty", tuple(rows), notes)


def _initializing(loops: int) -> bytes:
    body = f"""
      (local $left i32) (local $x i64)
      (local.set $left (i32.const {loops})) (local.set $x (i64.const 1))
      (loop $again
        (local.set $x (i64.div_u (i64.const 0x7fff_ffff_ffff) (local.get $x)))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.eqz (i64.eqz (i64.shr_u (local.get $x) (i64.const 47))))"""
    return wat(more=f'(func (export "initialize") (param i32 i32) (result i32) {body})')


async def computing(folder: Path, turns: Turns) -> Section:
    """SHA-256 over 1 MiB: the same C in a guest and natively, and the one that CPython brings."""
    native = _native_sha256(folder)
    guest, gcc, cpython = "Warren", "gcc -O2, same source", "CPython's hashlib"

    async def serve_cpython() -> bytes:
        return _answer(hashlib.sha256(MEGABYTE).digest())

    async with PluginManager(policy=POLICY) as manager:
        wasm = (GUESTS / "digest.wasm").read_bytes()
        plugin = await manager.load_plugin(write_plugin(folder, "digest", wasm, AMPLE_FUEL))
        contenders: dict[str, Serve] = {guest: warren(plugin, MEGABYTE), cpython: serve_cpython}
        if native is not None:
            contenders[gcc] = native
        if len({await serve() for serve in contenders.values()}) > 1:
            raise RuntimeError("the digests differ")
        measured = await costs(contenders, turns)
    ours = measured[guest].least_us
    limits = {gcc: NATIVE_LIMIT}
    rows = [cost.row(name, Compared(ours / cost.least_us, limits.get(name))) for name, cost in measured.items()]
    notes = () if native else ("the native row is left out: there is no gcc",)
    return Section("compute: processor time of SHA-256 over 1 MiB", "Warren / this", tuple(rows), notes)


def _answer(digest: bytes) -> bytes:
    return b'{"success":true,"result":"%b","error":null}' % digest.hex().encode()


def _native_sha256(folder: Path) -> Serve | None:
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    library = folder / "sha256.so"
    source = str(GUESTS / "sha256.c")
    subprocess.run([gcc, "-std=c11", "-O2", "-shared", "-fPIC", "-o", str(library), source], check=True)
    function = ctypes.CDLL(str(library)).sha256
    function.restype, function.argtypes = None, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    digest = ctypes.create_string_buffer(32)

    async def serve() -> bytes:
        function(MEGABYTE, len(MEGABYTE), digest)
        return _answer(digest.raw)

    return serve
