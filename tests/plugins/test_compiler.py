"""Compiling in a child: what comes back runs here, and what a hostile module does to the child stays there."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import wasmtime
from wasmtime import _bindings as native

from warren.plugins import compile_child
from warren.plugins.artefacts import ArtefactCache
from warren.plugins.compiler import CompileLimits, Compiler
from warren.plugins.configuration import COMPONENT_SETTINGS, configuration, fingerprint
from warren.plugins.errors import CompilationFailed, ModuleRefused
from warren.plugins.wasm_binary import leb128, sized

EMPTY = b"\0asm\1\0\0\0"
WAIT_S = 20.0

ADD_ONE = bytes(
    wasmtime.wat2wasm("""
    (module (memory 1) (data (i32.const 0) "\\01")
      (func (export "run") (param i32) (result i32) (i32.add (local.get 0) (i32.load8_u (i32.const 0)))))""")
)


def functions(count: int, body: bytes) -> bytes:
    """A module of so many functions with this one body, locals first."""
    kinds = leb128(count) + bytes(count)
    bodies = leb128(count) + sized(body) * count
    return EMPTY + b"\x01" + sized(b"\x01\x60\0\0") + b"\x03" + sized(kinds) + b"\x0a" + sized(bodies)


def many_functions() -> bytes:
    """400 kB that cost 600 MB and 5 s."""
    return functions(100_000, b"\0\x0b")


def many_locals() -> bytes:
    """8 kB that cost 2 s, and the module checks would not pass."""
    return functions(1_000, b"\x01" + leb128(50_000) + b"\x7f\x0b")


def deep_nesting() -> bytes:
    """1.5 MB that cost more than 1 GiB, in one function."""
    depth = 486_000
    return functions(1, b"\0" + b"\x02\x40" * depth + b"\x0b" * (depth + 1))


def pooling_engine() -> wasmtime.Engine:
    """An engine as a worker has it: instance slots, and stacks for asynchronous calls."""
    config = configuration()
    pool = native.wasmtime_pooling_allocation_config_new()
    slots = {"total_core_instances": 10, "total_memories": 10, "total_tables": 10, "total_stacks": 10}
    for name, value in {**slots, "max_memory_size": 256 << 20, "linear_memory_keep_resident": 1 << 20}.items():
        getattr(native, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    native.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    native.wasmtime_pooling_allocation_config_delete(pool)
    return wasmtime.Engine(config)


def call(engine: wasmtime.Engine, artefact: bytes, argument: int) -> Any:
    store = wasmtime.Store(engine)
    store.set_fuel(1_000)
    instance = wasmtime.Instance(store, wasmtime.Module.deserialize(engine, artefact), [])
    run = instance.exports(store)["run"]
    assert isinstance(run, wasmtime.Func)
    return run(store, argument)


async def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once it gives something."""
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} never came true"
        await asyncio.sleep(0.005)
    return found


def children(parent: int | None = None) -> list[psutil.Process]:
    """The compiling processes of this process, or of another one, that are alive."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(parent).children():
            with suppress(psutil.NoSuchProcess):
                if compile_child.__file__ in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def is_limited(process: psutil.Process) -> bool:
    """Whether the child has put its limits on itself, and so is about to compile."""
    return process.rlimit(psutil.RLIMIT_NPROC) == (0, 0)


def opened(process: psutil.Process) -> dict[int, str]:
    """Its open descriptors, and what they are."""
    return {
        int(path.name): str(path.readlink()).partition(":")[0] for path in Path(f"/proc/{process.pid}/fd").iterdir()
    }


def cached(folder: Path) -> list[Path]:
    return list(folder.glob("*.artefact"))


@asynccontextmanager
async def compiling(compiler: Compiler, wasm: bytes) -> AsyncIterator[tuple[asyncio.Task[bytes], psutil.Process]]:
    """A compilation in the middle, and its child."""
    task = asyncio.create_task(compiler.compile(wasm))
    try:
        (child,) = await until(children)
        await until(lambda: is_limited(child))
        yield task, child
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("engine", [wasmtime.Engine(configuration()), pooling_engine()], ids=["on demand", "pooling"])
async def test_what_a_child_compiles_runs_in_the_workers_engine(engine: wasmtime.Engine) -> None:
    artefact = await Compiler().compile(ADD_ONE)
    assert call(engine, artefact, 41) == 42
    assert artefact == wasmtime.Module(engine, ADD_ONE).serialize()


def test_the_fingerprint_is_of_the_code_alone() -> None:
    """Pooling and parallel compilation change nothing in an artefact."""
    config = configuration()
    config.parallel_compilation = False
    prints = {fingerprint(engine) for engine in (pooling_engine(), wasmtime.Engine(config))}
    assert prints == {fingerprint(wasmtime.Engine(configuration()))}


@pytest.mark.parametrize(
    "change",
    [
        lambda config: setattr(config, "consume_fuel", False),
        lambda config: setattr(config, "wasm_gc", True),
        lambda config: setattr(config, "cranelift_opt_level", "none"),
        lambda config: setattr(config, "cranelift_nan_canonicalization", True),
        lambda config: setattr(config, "memory_reservation", 1 << 30),
        lambda config: setattr(config, "memory_guard_size", 1 << 16),
        lambda config: setattr(config, "native_unwind_info", False),
        pytest.param(
            lambda config: config.cranelift_flag_set("has_avx2", "false"),
            marks=pytest.mark.skipif(platform.machine() != "x86_64", reason="a feature of x86-64 processors"),
        ),
    ],
)
def test_the_fingerprint_changes_with_whatever_changes_the_code(change: Callable[[wasmtime.Config], None]) -> None:
    config = configuration()
    change(config)
    assert fingerprint(wasmtime.Engine(config)) != fingerprint(wasmtime.Engine(configuration()))


def test_the_fingerprint_changes_with_the_patch_level_of_wasmtime(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = wasmtime.Engine(configuration())
    before = fingerprint(engine)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "50.0.2")
    assert fingerprint(engine) != before


def test_every_setting_is_one_that_wasmtime_has() -> None:
    assert [name for name in COMPONENT_SETTINGS if not hasattr(native, f"wasmtime_config_{name}_set")] == []


async def test_an_invalid_module_is_refused_in_wasmtimes_words() -> None:
    with pytest.raises(ModuleRefused, match=r"does not compile: .*unexpected end") as caught:
        await Compiler().compile(EMPTY + b"\x01")
    assert "\n" not in str(caught.value)


async def test_a_proposal_that_is_off_is_off_in_the_child() -> None:
    with pytest.raises(ModuleRefused, match="multiple memories"):
        await Compiler().compile(bytes(wasmtime.wat2wasm("(module (memory 1) (memory 1))")))


@pytest.mark.parametrize(
    ("bomb", "limits", "reason"),
    [
        (many_functions, {"memory_bytes": 256 << 20}, "more than 268,435,456 bytes of memory"),
        (many_functions, {"cpu_s": 1}, "more than 1 s of processor time"),
        (many_locals, {"cpu_s": 1}, "more than 1 s of processor time"),
        (deep_nesting, {}, "more than 1,073,741,824 bytes of memory"),
    ],
)
async def test_a_compile_bomb_is_refused(bomb: Callable[[], bytes], limits: Mapping[str, int], reason: str) -> None:
    compiler = Compiler(limits=replace(CompileLimits(), **limits))
    with pytest.raises(ModuleRefused, match=reason):
        await compiler.compile(bomb())
    assert await compiler.compile(EMPTY)


async def test_a_module_that_does_not_fit_into_the_childs_memory_is_refused() -> None:
    with pytest.raises(ModuleRefused, match="bytes of memory"):
        await Compiler(limits=CompileLimits(memory_bytes=80 << 20)).compile(EMPTY + bytes(64 << 20))


async def test_a_compilation_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CompilationFailed, match=r"not compiled within 0\.3 s"):
        await Compiler(limits=CompileLimits(timeout_s=0.3)).compile(many_locals())
    assert children() == []


@pytest.mark.parametrize(
    ("number", "error", "reason"),
    [
        (signal.SIGKILL, CompilationFailed, "killed by signal 9"),
        (signal.SIGTERM, CompilationFailed, "killed by signal 15"),
        (signal.SIGABRT, ModuleRefused, r"makes the compiler crash \(SIGABRT\): it said nothing"),
    ],
)
async def test_a_child_that_is_killed_fails_its_module_alone(
    number: signal.Signals, error: type[Exception], reason: str, tmp_path: Path
) -> None:
    compiler = Compiler(ArtefactCache(tmp_path, "fingerprint"))
    async with compiling(compiler, many_locals()) as (task, child):
        other = asyncio.create_task(compiler.compile(EMPTY))
        child.send_signal(number)
        with pytest.raises(error, match=reason):
            await task
        assert await other
    assert len(cached(tmp_path)) == 1


async def test_a_child_that_cannot_be_started_is_not_the_modules_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(CompilationFailed, match="No such file"):
        await Compiler().compile(EMPTY)


async def test_a_child_that_cannot_import_wasmtime_is_not_the_modules_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasmtime, "__path__", ["/nonexistent/wasmtime"])
    with pytest.raises(CompilationFailed, match="No module named 'wasmtime'"):
        await Compiler().compile(EMPTY)


async def test_a_child_has_limits_and_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "tell nobody")
    kept, _ = pipe = os.pipe()
    os.set_inheritable(kept, True)  # noqa: FBT003
    try:
        async with compiling(Compiler(), many_locals()) as (_, child):
            assert "SECRET" not in child.environ()
            assert opened(child) == {0: "pipe", 1: "pipe", 2: "pipe"}
            limits = {name: child.rlimit(getattr(psutil, f"RLIMIT_{name}")) for name in ("CPU", "AS", "CORE", "FSIZE")}
            assert limits == {"CPU": (60, 61), "AS": (1 << 30, 1 << 30), "CORE": (0, 0), "FSIZE": (0, 0)}
            assert child.num_threads() == 1
            assert os.getsid(child.pid) == child.pid
    finally:
        for descriptor in pipe:
            os.close(descriptor)


async def test_a_child_dies_with_its_parent() -> None:
    program = f"""
        import asyncio
        from warren.plugins.compiler import Compiler
        asyncio.run(Compiler().compile(bytes.fromhex({many_locals().hex()!r})))
    """
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    try:
        (child,) = await until(lambda: children(parent.pid))
        await until(lambda: is_limited(child))
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert not child.is_running() or child.cpu_times().user < 1.5  # it did not run to its end


def test_a_child_whose_parent_is_gone_already_does_nothing() -> None:
    order = {"parent": 1 << 22, "wasm_bytes": 8, "settings": {}, "cpu_s": 9, "memory_bytes": 1 << 30}
    packages = str(Path(wasmtime.__path__[0]).parent)
    command = [sys.executable, "-I", "-S", str(compile_child.__file__), packages, json.dumps(order)]
    ended = subprocess.run(command, input=EMPTY, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")


async def test_cancelling_ends_the_child() -> None:
    async with compiling(Compiler(), many_locals()) as (task, child):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not child.is_running()


async def test_cancelling_in_the_middle_of_a_large_module_leaves_nothing_open() -> None:
    task = asyncio.create_task(Compiler().compile(EMPTY + bytes(64 << 20)))
    await until(children)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_the_same_module_asked_for_at_once_compiles_once() -> None:
    compiler = Compiler()
    async with compiling(compiler, many_locals()) as (first, child):
        others = [asyncio.create_task(compiler.compile(many_locals())) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()  # the others keep it alive
        artefacts = await asyncio.gather(*others)
        assert [artefact is artefacts[0] for artefact in artefacts] == [True] * 5
        assert children() == []
        assert not child.is_running()


async def test_a_module_asked_for_again_while_it_is_given_up_is_compiled() -> None:
    compiler = Compiler()
    first = asyncio.create_task(compiler.compile(ADD_ONE))
    await until(children)
    first.cancel()
    await asyncio.sleep(0)
    assert call(wasmtime.Engine(configuration()), await compiler.compile(ADD_ONE), 1) == 2
    assert first.cancelled()


async def test_a_failure_is_told_to_all_who_asked_and_is_not_remembered() -> None:
    compiler = Compiler(limits=CompileLimits(timeout_s=0.2))
    results = await asyncio.gather(*[compiler.compile(many_locals()) for _ in range(3)], return_exceptions=True)
    assert {type(result) for result in results} == {CompilationFailed}
    with pytest.raises(CompilationFailed):
        await compiler.compile(many_locals())


async def test_there_are_no_more_children_than_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    compiler = Compiler()
    modules = [EMPTY + b"\0" + sized(sized(str(number).encode())) for number in range(3 * cores)]
    tasks = [asyncio.create_task(compiler.compile(module)) for module in modules]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, len(children()))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    assert 0 < most <= cores


@pytest.fixture
def engine() -> wasmtime.Engine:
    return wasmtime.Engine(configuration())


async def test_a_cached_module_needs_no_child(
    engine: wasmtime.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArtefactCache(tmp_path, fingerprint(engine))
    first = await Compiler(cache).compile(ADD_ONE)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert await Compiler(cache).compile(ADD_ONE) == first
    assert call(engine, first, 1) == 2


async def test_machine_code_that_somebody_changed_in_the_cache_does_not_run(
    engine: wasmtime.Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = Compiler(ArtefactCache(tmp_path, fingerprint(engine)))
    artefact = await compiler.compile(ADD_ONE)
    (path,) = cached(tmp_path)
    path.write_bytes(path.read_bytes()[:32] + wasmtime.Module(engine, EMPTY).serialize())
    assert await compiler.compile(ADD_ONE) == artefact
    assert "its seal does not fit" in caplog.text
    caplog.clear()
    assert await compiler.compile(ADD_ONE) == artefact
    assert not caplog.records


async def test_without_a_usable_cache_modules_are_compiled(
    engine: wasmtime.Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "taken"
    place.write_text("a file")
    compiler = Compiler(ArtefactCache(place, fingerprint(engine)))
    for _ in range(2):
        assert call(engine, await compiler.compile(ADD_ONE), 1) == 2
    assert len(caplog.records) == 1


async def test_a_hundred_plugins_load_from_a_warm_cache_and_none_is_compiled(
    engine: wasmtime.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Path(__file__).parents[2] / "plugins" / "examples" / "word_stats" / "word_stats.wasm"
    cache = ArtefactCache(tmp_path, fingerprint(engine))
    modules = [sample.read_bytes() + b"\0" + sized(sized(str(number).encode())) for number in range(100)]
    artefact = await Compiler().compile(modules[0])
    for module in modules:
        cache.put(module, artefact)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)
    compiler = Compiler(cache)
    loaded = [wasmtime.Module.deserialize(engine, await compiler.compile(module)) for module in modules]
    assert len(loaded) == 100
