"""Ten thousand broken modules: real ones, cut short or with bits flipped, refused or run, and the process lives.

Each goes through the checks and, if it passes, is compiled and run. A crash would take pytest with it, so it happens in
processes of their own, which say of each case when they begin it: the last one named is to blame, and is saved. A case
is made from its number alone, so that it can be made again:

    python -m tests.plugins.test_hostile_fuzz 1234 1235        # cases from this number up to the other
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import wasmtime
from pydantic_core import to_json

from tests.guests import ask, wat
from warren.manifests import Grant, Limits
from warren.plugins.backtrace import read_source_lines
from warren.plugins.checks import check_module
from warren.plugins.compiler import Compiler
from warren.plugins.configuration import configuration
from warren.plugins.engine import Engine
from warren.plugins.errors import ModuleRefused
from warren.plugins.extism_abi import ExtismAbi
from warren.plugins.growth import with_growth_witness
from warren.plugins.host import STANDARD_FUNCTIONS
from warren.plugins.sandbox import Sandbox

CASES: Final = 10_000
#: Of all batches, so that a hanging one is found.
BATCH_LIMIT_S: Final = 100.0
BATCHES: Final = 8

ROOT = Path(__file__).parents[2]
COUNT_VOWELS = Path(__file__).parent / "extism" / "count_vowels.wasm"
DATA = b'"data":{"text":"one two two"}}'

TIME, TIME_DATA = ask("get_time")

#: A bit of everything, so that every kind of section is there to be broken.
EVERYTHING = wat(
    f"(drop (memory.grow (i32.const 1))) (call_indirect $table (i32.const 1)) (global.set $g (i64.const 3))"
    f"(memory.init $passive (i32.const 9000) (i32.const 0) (i32.const 2)) (data.drop $passive)"
    f"(table.init $table $more (i32.const 2) (i32.const 0) (i32.const 1)) (elem.drop $more)"
    f"(drop (v128.any_true (v128.load (i32.const 16)))) (drop {TIME}) (call $answer)",
    more=TIME_DATA
    + """(global $g (mut i64) (i64.const 7)) (table $table 4 10 funcref) (func $nop) (func $start) (start $start)
    (elem $table (i32.const 0) func $nop $start) (elem $more func $nop) (data $passive "xy")
    (func (export "initialize") (param i32 i32) (result i32) (local i64 f32 f64) (i32.const 0))
    (func (export "_initialize") (block (loop (br_if 1 (i32.const 1))) (br_table 0 0 (i32.const 0))))""",
)


@cache
def seeds() -> dict[str, tuple[int, bytes]]:
    """The modules that are broken, by name, each with its share of the cases: large ones take long to compile."""
    benchmark_echo = wasmtime.wat2wasm((ROOT / "tests" / "benchmarks" / "echo.wat").read_text(encoding="utf-8"))
    shares = {"text_processor": 2, "word_stats": 15, "digest": 15}
    samples = {path.stem: path for path in sorted((ROOT / "plugins" / "examples").glob("*/*.wasm"))}
    return {
        "everything": (45, EVERYTHING),
        "echo": (23, bytes(benchmark_echo)),
        "count_vowels": (15, COUNT_VOWELS.read_bytes()),
        **{name: (shares[name], path.read_bytes()) for name, path in samples.items()},
    }


def case(number: int) -> tuple[str, bytes]:
    """The name of the seed, and the broken module."""
    chance = random.Random(number)  # noqa: S311 - not a secret
    names, shares = zip(*((name, share) for name, (share, _) in seeds().items()), strict=True)
    (name,) = chance.choices(names, shares)
    module = bytearray(seeds()[name][1])
    if number % 5 == 0:
        del module[chance.randrange(len(module)) :]
        return name, bytes(module)
    # What is declared stands at the beginning, and is a small part of most modules.
    reach = chance.choice((100, 1_000, *[len(module)] * 4))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        module[chance.randrange(8, min(reach, len(module)))] ^= 1 << chance.randrange(8)
    return name, bytes(module)


class CompilerInThisProcess(Compiler):
    """The same code without a child each time, which would take 50 ms."""

    def __init__(self) -> None:
        super().__init__()
        self._engine = wasmtime.Engine(configuration())

    async def compile(self, wasm: bytes) -> bytes:
        try:
            return bytes(wasmtime.Module(self._engine, wasm).serialize())
        except wasmtime.WasmtimeError as error:
            raise ModuleRefused(str(error)) from error


async def end_of(wasm: bytes, engine: Engine) -> str:
    """What becomes of a module: where it was refused, or how it ran."""
    granted = Limits(memory_bytes=4 << 20, max_fuel=3_000_000, timeout_s=5.0)
    with suppress(ModuleRefused):
        with_growth_witness(wasm)  # whether or not it has the right exports
    try:
        abi, checked = check_module(wasm, granted.memory_bytes)
        read_source_lines(wasm, checked)
    except ModuleRefused:
        return "refused by the checks"
    try:
        program = await abi.compile(engine, checked)
    except ModuleRefused:
        return "refused by the compiler"
    sandbox = Sandbox(program, abi, Grant("broken", frozenset(), granted), b"{}", STANDARD_FUNCTIONS)
    # The action of an Extism plugin is an export, whose name may be broken, too.
    action = next(iter(abi.actions)) if isinstance(abi, ExtismAbi) else "analyze_text"
    outcome = await sandbox.run(b'{"action":' + to_json(action) + b"," + DATA)
    assert outcome.kind != "unavailable", f"the host was to blame: {outcome.error}"
    return outcome.kind


async def run_cases(first: int, last: int) -> None:
    engine = Engine()
    engine._compiler = CompilerInThisProcess()
    good = wat()
    for number in range(first, last):
        print(number, flush=True, end=" ")  # noqa: T201 - that is how the test knows
        print(await end_of(case(number)[1], engine), flush=True)  # noqa: T201
        if number % 100 == 0:
            assert await end_of(good, engine) == "ok", "the next request is served"


def in_a_process(first: int, last: int) -> tuple[int | str, list[str], str]:
    """How a process ended that ran these cases, what it said of each, and what it complained of."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.plugins.test_hostile_fuzz", str(first), str(last)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, complaint = process.communicate(timeout=BATCH_LIMIT_S)
        return process.returncode, said.splitlines(), complaint
    except subprocess.TimeoutExpired:
        process.kill()
        said, complaint = process.communicate()
        return "hangs", said.splitlines(), complaint


@pytest.mark.hostile
@pytest.mark.timeout(400)
def test_ten_thousand_broken_modules_are_refused_or_run_and_crash_nothing(tmp_path: Path) -> None:
    size = CASES // BATCHES
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        batches = list(threads.map(lambda n: in_a_process(n * size, (n + 1) * size), range(BATCHES)))
    ends: Counter[str] = Counter()
    for code, said, complaint in batches:
        if code != 0:
            number = int(said[-1].split()[0]) if said else -1
            name, module = case(number)
            saved = tmp_path / f"{name}-{number}.wasm"
            saved.write_bytes(module)
            pytest.fail(f"case {number} (of {name}; saved as {saved}) ends its process: {code}\n{complaint[-3000:]}")
        ends.update(line.partition(" ")[2] for line in said)
    assert ends.total() == CASES
    assert min(ends[how] for how in ("refused by the checks", "refused by the compiler", "ok", "trap")) > 100, ends


def test_the_cases_are_the_same_each_time() -> None:
    assert [case(number) for number in range(50)] == [case(number) for number in range(50)]


if __name__ == "__main__":
    asyncio.run(run_cases(int(sys.argv[1]), int(sys.argv[2])))
