"""What one plugin costs in each language: `plugins/samples`, the same text counted by each.

    python -m tests.benchmarks.samples           print the table
    python -m tests.benchmarks.samples --write   write it into plugins/samples/README.md as well

Columns: the module's size; `first load`, of a worker that never saw it, which compiles it; `cold`, of a worker that has
it compiled, from loading it to the first answer; `warm`, the median of the requests after that, each in an instance of
its own; the fuel and the peak memory of each. The text is the first 10,000 characters of the changelog.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from warren.plugins import Outcome, Plugin, PluginManager
from warren.plugins.artefacts import CACHE_VARIABLE

ROOT: Final = Path(__file__).parents[2]
SAMPLES: Final = ROOT / "plugins" / "samples"
TEXT_CHARACTERS: Final = 10_000
WARM_REQUESTS: Final = 100

#: Between these the README holds the table.
BEGIN: Final = "<!-- samples-table -->"
END: Final = "<!-- /samples-table -->"

HEADINGS: Final = ("language", "module", "first load", "cold", "warm", "fuel", "memory")


@dataclass(frozen=True, slots=True)
class Measured:
    """One language; times in seconds."""

    language: str
    module_bytes: int
    first_load_s: float
    cold_s: float
    warm_s: float
    fuel: int
    memory_bytes: int

    def cells(self) -> tuple[str, ...]:
        """As a person reads them, in the order of the headings."""
        return (
            self.language,
            _size(self.module_bytes),
            _time(self.first_load_s),
            _time(self.cold_s),
            _time(self.warm_s),
            f"{self.fuel:,}",
            _size(self.memory_bytes),
        )


def built_samples() -> list[Path]:
    """The modules that are there, by size; `build.sh` makes those that are not committed."""
    return sorted(SAMPLES.glob("*/*.wasm"), key=lambda path: path.stat().st_size)


async def measure(module: Path, module_bytes: int, text: str) -> Measured:
    """Load one twice, first as nobody has seen it before. Raises AssertionError for an answer that is none."""
    request = json.dumps({"action": "count", "data": {"text": text}}).encode()
    with tempfile.TemporaryDirectory() as cache:
        os.environ[CACHE_VARIABLE] = cache
        began_s = time.perf_counter()
        async with PluginManager() as manager:
            await manager.load_plugin(module)
            first_load_s = time.perf_counter() - began_s
        async with PluginManager() as manager:
            began_s = time.perf_counter()
            plugin = await manager.load_plugin(module)
            outcome = await _answered(plugin, request)
            cold_s = time.perf_counter() - began_s
            warm_s = [(await _answered(plugin, request)).duration_us / 1e6 for _ in range(WARM_REQUESTS)]
    return Measured(
        _language(module),
        module_bytes,
        first_load_s,
        cold_s,
        median(warm_s),
        outcome.fuel,
        outcome.memory_bytes,
    )


async def _answered(plugin: Plugin, request: bytes) -> Outcome:
    outcome = await plugin.run(request)
    assert outcome.kind == "ok", outcome.error
    return outcome


def as_markdown(rows: Sequence[Measured]) -> str:
    """The table as the README has it."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(page: str, table: str) -> str:
    """The page with this table between the markers. Raises ValueError where they are not."""
    around = re.compile(f"({re.escape(BEGIN)}\n).*({re.escape(END)})", re.DOTALL)
    if not around.search(page):
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return around.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", page)


def _language(module: Path) -> str:
    """As the manifest's description ends."""
    found = re.search(r'^description = ".*: (.+)"$', module.with_suffix(".toml").read_text(), re.MULTILINE)
    return found[1] if found else module.stem


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024:,.0f} KiB" if size_bytes < 1 << 20 else f"{size_bytes / (1 << 20):,.1f} MiB"


def _time(time_s: float) -> str:
    if time_s >= 1:
        return f"{time_s:.1f} s"
    return f"{time_s * 1e3:.0f} ms" if time_s >= 0.01 else f"{time_s * 1e3:.1f} ms"


def measure_all() -> list[Measured]:
    """Every sample that is built."""
    text = (ROOT / "CHANGELOG.md").read_text()[:TEXT_CHARACTERS]
    return [asyncio.run(measure(module, module.stat().st_size, text)) for module in built_samples()]


def main() -> None:
    """See the module's docstring."""
    table = as_markdown(measure_all())
    print(table, end="")
    if "--write" in sys.argv[1:]:
        page = SAMPLES / "README.md"
        page.write_text(with_table(page.read_text(), table))


if __name__ == "__main__":
    main()
