"""`make bench`: one Warren worker on RabbitMQ beside a plain aio-pika worker, measured in turns in one run.

Both serve a quorum queue of the same kind with the same requests, publish persistent results with confirms before they
ack, and hold 100 requests at a time. What differs is that Warren runs each request in a sandbox of its own. The turns
alternate, so that whatever else the machine does falls on both; the table shows medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import statistics
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.benchmarks.contenders import Contender, plain, warren
from tests.benchmarks.load import REQUEST_BYTES, REQUESTS_PER_S, Throughput, load
from tests.broker import any_broker
from warren.bus.topology import Names


@dataclass(slots=True)
class Measured:
    """What was measured of one worker."""

    rounds: list[Throughput] = field(default_factory=list)
    round_trips_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """The figures of the table."""
        percentiles = statistics.quantiles(self.round_trips_ms, n=100)
        return {
            "requests_per_s": statistics.median(each.requests_per_s for each in self.rounds),
            "cpu_s_per_1000": statistics.median(each.cpu_s_per_1000 for each in self.rounds),
            "p50_ms": percentiles[49],
            "p99_ms": percentiles[98],
        }


async def measure(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Measured]:
    """All rounds of both workers; the plain one first."""
    names = Names(f"bench-{secrets.token_hex(4)}")
    contenders: list[Contender] = [plain(url, names), warren(url, names, folder)]
    measured = {contender.name: Measured() for contender in contenders}
    async with load(url, names, [contender.plugin for contender in contenders]) as requests:
        for _ in range(options.rounds):
            for contender in contenders:
                measured[contender.name].rounds.append(await requests.throughput(contender, options.requests))
        for contender in contenders:
            took_ms = await requests.round_trips_ms(contender, options.round_trips)
            measured[contender.name].round_trips_ms.extend(took_ms)
    return measured


def table(measured: dict[str, Measured]) -> Table:
    """The figures, and how Warren's compare with the plain worker's."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("worker, one process")
    for heading in ("requests/s", "CPU s/1,000", "p50 ms", "p99 ms"):
        shown.add_column(heading, justify="right")
    plain_figures, warren_figures = ([*worker.figures().values()] for worker in measured.values())
    ratios = [ours / reference for ours, reference in zip(warren_figures, plain_figures, strict=True)]
    shown.add_row("plain aio-pika", *map(figure, plain_figures))
    shown.add_row("Warren", *map(figure, warren_figures))
    shown.add_row("ratio", *(f"{ratio:.2f}x" for ratio in ratios))
    return shown


def figure(value: float) -> str:
    """Three digits that count, and all of a large number's."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def report(options: argparse.Namespace, measured: dict[str, Measured]) -> dict[str, object]:
    """The figures for a program to read."""
    workers = {
        name: worker.figures() | {"rounds": [asdict(each) for each in worker.rounds]}
        for name, worker in measured.items()
    }
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    return {"requests": options.requests, "request_bytes": REQUEST_BYTES, "machine": machine, "workers": workers}


def main() -> None:
    """Measure, print, and write the JSON file that was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="requests in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each worker (default: %(default)s)")
    parser.add_argument("--round-trips", type=int, default=1000, help="answers to time (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "plugins").mkdir()
        with any_broker(folder / "broker") as broker:
            measured = asyncio.run(measure(broker.url, folder / "plugins", options))
    rounds = f"medians of {options.rounds} rounds of {options.requests:,} requests ({REQUEST_BYTES} bytes)"
    print(f"{rounds}; round trips at {REQUESTS_PER_S}/s")
    Console().print(table(measured))
    if options.json:
        options.json.write_text(json.dumps(report(options, measured), indent=2) + "\n")


if __name__ == "__main__":
    main()
