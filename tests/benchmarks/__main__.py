"""`make bench`: one worker process of Warren on RabbitMQ, beside other libraries' workers, measured in one run.

All get the same text to echo, hold 400 requests at a time, publish persistent results, and ack a request once its
result is out; their terms are printed below the table. What differs most is that Warren runs each request in a sandbox
of its own. The workers take turns, so that whatever else the machine does falls on all of them. Whether a target is met
is printed and is no error: it depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.contenders import Contender
from tests.benchmarks.lineup import PLAIN, WARREN, contenders, missing
from tests.benchmarks.load import REQUESTS_PER_S, Endurance, Load, Round, load
from tests.benchmarks.plot import svg
from tests.benchmarks.report import Measured
from tests.benchmarks.trips import REQUEST_BYTES
from tests.broker import Broker, any_broker
from warren.bus.topology import Names


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    requests: int
    rounds: int
    round_trips: int
    in_a_row: int

    def __str__(self) -> str:
        backlog = f"{self.rounds} rounds of {self.requests:,} requests of {REQUEST_BYTES} bytes"
        return f"{backlog}, and {self.round_trips:,} round trips in each at {REQUESTS_PER_S}/s"


FULL: Final = Scale(10_000, 5, 1_000, 100_000)
QUICK: Final = Scale(3_000, 1, 400, 10_000)

#: What `--only` knows the contenders by: the beginnings of their names.
CHOICES: Final = ("warren", "faststream", "taskiq", "dramatiq", "celery")

#: Columns of the report, whatever it is printed to.
WIDTH: Final = 120


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was measured."""

    workers: Sequence[Measured]
    endurance: Endurance | None


def measure(broker: Broker, scale: Scale, only: Sequence[str], scratch: Path, console: Console) -> Findings:
    """All rounds of the workers in `only` (all, when it is empty), the reference first; then Warren's endurance."""
    names = Names(f"bench-{secrets.token_hex(4)}")
    taking_part = [each for each in contenders(broker.url, names, scratch) if takes_part(each, only)]
    rounds: dict[str, list[Round]] = {each.name: [] for each in taking_part}
    with load(broker.url, names, taking_part, broker.pid) as requests:
        for number in range(scale.rounds):
            tell = partial(_tell, console, f"round {number + 1} of {scale.rounds}")
            of_each = requests.round(taking_part, scale.requests, scale.round_trips, tell)
            for each, one in zip(taking_part, of_each, strict=True):
                rounds[each.name].append(one)
        endurance = _endurance(requests, taking_part, scale, console)
    workers = [Measured(each.name, each.version, each.promise, rounds[each.name]) for each in taking_part]
    return Findings(workers, endurance)


def _tell(console: Console, what: str, whose: str) -> None:
    console.print(f"{what}: {whose} …", style="dim", highlight=False)


def takes_part(contender: Contender, only: Sequence[str]) -> bool:
    """Whether a worker is measured: the reference always is."""
    return not only or contender.name == PLAIN or contender.name.lower().startswith(tuple(only))


def _endurance(requests: Load, workers: Sequence[Contender], scale: Scale, console: Console) -> Endurance | None:
    for each in workers:
        if each.name == WARREN:
            _tell(console, f"{scale.in_a_row:,} requests in a row", each.name)
            return requests.endurance(each, scale.in_a_row)
    return None


def machine() -> dict[str, Any]:
    """Where, with what, and beside what else it was measured."""
    return {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def show(findings: Findings, scale: Scale, console: Console) -> None:
    """The tables."""
    console.print(f"medians of {scale}", highlight=False)
    console.print(report.figures_table(findings.workers))
    console.print(report.terms_table(findings.workers))
    if absent := missing():
        console.print(f"not installed, and so not measured: {', '.join(absent)}", highlight=False)
    console.print(report.targets_table(findings.workers))
    for line in report.endurance_lines(findings.endurance) if findings.endurance else ():
        console.print(line, highlight=False)


def write(findings: Findings, scale: Scale, measured_on: dict[str, Any], json_file: Path, svg_file: Path) -> None:
    """The figures for programs, and the plot."""
    for path in (json_file, svg_file):
        path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"machine": measured_on, "scale": str(scale), **report.data(findings.workers, findings.endurance)}
    json_file.write_text(json.dumps(whole, indent=2) + "\n")
    where = f"Python {measured_on['python']}, {measured_on['cpus']} cores shared with RabbitMQ and the load"
    svg_file.write_text(svg(findings.workers, f"One worker process each; requests of {REQUEST_BYTES} bytes; {where}"))


def options_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less of everything")
    parser.add_argument("--requests", type=int, metavar="N", help=f"requests in a round (default: {FULL.requests})")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each worker (default: {FULL.rounds})")
    parser.add_argument(
        "--round-trips", type=int, metavar="N", help=f"answers to time in a round (default: {FULL.round_trips})"
    )
    parser.add_argument("--only", nargs="+", default=[], choices=CHOICES, help="measure these beside the plain worker")
    for kind, what in (("json", "all figures"), ("svg", "the plot")):
        default = Path("build", f"bench.{kind}")
        parser.add_argument(
            f"--{kind}", type=Path, default=default, metavar="FILE", help=f"{what} (default: {default})"
        )
    return parser


def scale_of(options: argparse.Namespace) -> Scale:
    """The scale asked for."""
    base = QUICK if options.quick else FULL
    return Scale(
        options.requests or base.requests,
        options.rounds or base.rounds,
        options.round_trips or base.round_trips,
        base.in_a_row,
    )


def main() -> None:
    """Measure, print, and write both files."""
    options = options_parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or it would leave workers behind
    scale, console, measured_on = scale_of(options), Console(width=WIDTH), machine()
    console.print(", ".join(f"{name} {value}" for name, value in measured_on.items()), highlight=False)
    with tempfile.TemporaryDirectory() as scratch:
        plugins = Path(scratch, "plugins")
        plugins.mkdir()
        with any_broker(Path(scratch, "broker")) as broker:
            findings = measure(broker, scale, options.only, plugins, console)
    show(findings, scale, console)
    write(findings, scale, measured_on, options.json, options.svg)


if __name__ == "__main__":
    main()
