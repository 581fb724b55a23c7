"""`make bench-sandbox`: what a request in a sandbox of its own costs, beside others and beside what is required.

Everything runs in one process and one event loop, contenders in turns, so that each ratio compares what was measured
under the same conditions. Warren is measured as the worker calls it: `Plugin.run`, with all its checks and accounts.
A requirement that is not met is printed as such and is no error: whether it is one depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.benchmarks import sandbox_costs, sandbox_crowds
from tests.benchmarks.sandbox_costs import Turns
from tests.benchmarks.sandbox_report import Section


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    small: Turns
    computing: Turns
    suspended: int
    memory_checkpoints: tuple[int, ...]
    fairness_rounds: int


#: Columns of the report, whatever it is printed to.
WIDTH: Final = 110

FULL: Final = Scale(Turns(25, 200), Turns(25, 4), 1_000, (10_000, 50_000, 100_000, 200_000), 5)
QUICK: Final = Scale(Turns(8, 100), Turns(8, 2), 1_000, (2_000, 10_000, 20_000), 2)


async def sections(folder: Path, scale: Scale) -> AsyncIterator[Section]:
    """All of it, each part as soon as it is measured.

    Memory comes first: what the other parts have freed could take up a leak unseen.
    """
    yield await sandbox_crowds.memory(folder, scale.memory_checkpoints)
    yield await sandbox_costs.echo(folder, scale.small)
    yield await sandbox_costs.words(folder, scale.small)
    yield await sandbox_costs.slow_start(folder, scale.small)
    yield await sandbox_costs.computing(folder, scale.computing)
    yield await sandbox_crowds.suspended(folder, scale.suspended)
    yield await sandbox_crowds.fairness(folder, scale.fairness_rounds)


def machine() -> dict[str, Any]:
    """Where, with what, and beside what else it was measured."""
    return {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "wasmtime": version("wasmtime"),
        "extism": _version_or_none("extism"),
    }


def _version_or_none(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


async def measure(scale: Scale, console: Console) -> dict[str, Any]:
    """Measure, print each section as it is done, and give all of them for a program to read."""
    measured_on = machine()
    console.print(", ".join(f"{name} {value}" for name, value in measured_on.items()), highlight=False)
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        async for section in sections(Path(scratch), scale):
            console.print(section.table())
            done.append(section.data())
    return {"machine": measured_on, "sections": done}


def main() -> None:
    """Measure, print, and write the JSON file that was asked for."""
    parser = argparse.ArgumentParser(prog="make bench-sandbox", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less of everything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    os.environ["WARREN_CACHE_DIR"] = ""  # none: nobody needs these guests compiled later
    report = asyncio.run(measure(QUICK if options.quick else FULL, Console(width=WIDTH)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
