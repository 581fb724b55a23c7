"""What the benchmark says: each worker's figures, their ratios to a plain aio-pika worker, and what is required.

Throughput and processor time are the median of the rounds, and their ratios the median of the rounds' ratios. The
percentiles are those of the round trips of all rounds together, in which the workers took turns: in one round alone the
99th is a matter of six round trips.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.benchmarks.lineup import CELERY, DRAMATIQ, FASTSTREAM, PLAIN, TASKIQ, WARREN
from tests.benchmarks.load import LEGS, OUTSTANDING, Endurance, Round

Rate = Literal["requests_per_s", "cpu_s_per_1000", "broker_cpu_s_per_1000"]
Figure = Literal[Rate, "p50_ms", "p99_ms"]

#: What each round has a figure of.
RATES: Final[tuple[Rate, ...]] = ("requests_per_s", "cpu_s_per_1000", "broker_cpu_s_per_1000")

HEADINGS: Final[Mapping[Figure, str]] = {
    "requests_per_s": "requests/s",
    "cpu_s_per_1000": "CPU s/1,000",
    "broker_cpu_s_per_1000": "broker CPU s/1,000",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What Warren's figure has to be, as a multiple of another worker's: at least, or at most."""

    figure: Figure
    reference: str
    bound: Literal["≥", "≤"]
    limit: float

    def is_met(self, ratio: float) -> bool:
        """Whether a ratio is within the bound, both to two decimals as they are shown."""
        shown = round(ratio, 2)
        return shown >= self.limit if self.bound == "≥" else shown <= self.limit


TARGETS: Final = (
    Target("requests_per_s", PLAIN, "≥", 3.0),
    Target("requests_per_s", FASTSTREAM, "≥", 3.5),
    Target("requests_per_s", TASKIQ, "≥", 3.5),
    Target("requests_per_s", DRAMATIQ, "≥", 3.0),
    Target("requests_per_s", CELERY, "≥", 7.0),
    Target("cpu_s_per_1000", PLAIN, "≤", 0.35),
    Target("p50_ms", PLAIN, "≤", 1.0),
    Target("p99_ms", PLAIN, "≤", 1.0),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One worker, and its rounds."""

    name: str
    version: str
    promise: str
    rounds: Sequence[Round]

    def figures(self) -> dict[Figure, float | None]:
        """The figures of the table; no broker's where it could not be looked at."""
        rates: dict[Figure, float | None] = {rate: _median(getattr(one, rate) for one in self.rounds) for rate in RATES}
        return {**rates, **self.round_trips()}

    def round_trips(self) -> dict[Figure, float]:
        """The percentiles of all of them."""
        p50_ms, p99_ms = percentiles([took_ms for one in self.rounds for took_ms in one.round_trips_ms])
        return {"p50_ms": p50_ms, "p99_ms": p99_ms}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def ratio(value: float | None, reference: float | None) -> float | None:
    """How many times the reference a value is; None where either is unknown, or the reference too small to measure."""
    return value / reference if value is not None and reference else None


def ratios(worker: Measured, reference: Measured) -> dict[Figure, float | None]:
    """A worker's figures as multiples of another's.

    What is measured within a minute or two is compared, since a machine that is shared can be half as fast in the next:
    rates round by round.
    """
    pairs = list(zip(worker.rounds, reference.rounds, strict=True))
    rates: dict[Figure, float | None] = {
        rate: _median(ratio(getattr(one, rate), getattr(other, rate)) for one, other in pairs) for rate in RATES
    }
    theirs = reference.round_trips()
    return {**rates, **{figure: ratio(value, theirs[figure]) for figure, value in worker.round_trips().items()}}


def judged(workers: Sequence[Measured]) -> list[tuple[Target, float]]:
    """Each target whose reference took part, and Warren's ratio to that."""
    by_name = {worker.name: worker for worker in workers}
    found: list[tuple[Target, float]] = []
    for target in TARGETS:
        if target.reference in by_name and WARREN in by_name:
            of_reference = ratios(by_name[WARREN], by_name[target.reference])[target.figure]
            if of_reference is not None:
                found.append((target, of_reference))
    return found


def figures_table(workers: Sequence[Measured]) -> Table:
    """Each worker's figures, with their ratios to the first one's in brackets."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("worker, one process")
    for heading in HEADINGS.values():
        shown.add_column(heading, justify="right", no_wrap=True)
    for worker in workers:
        compared = ratios(worker, workers[0])
        shown.add_row(worker.name, *(_cell(value, compared[figure]) for figure, value in worker.figures().items()))
    return shown


def terms_table(workers: Sequence[Measured]) -> Table:
    """What each worker is, and what it does for a message."""
    shown = Table(box=None, show_header=False, padding=(0, 2))
    for worker in workers:
        shown.add_row(f"{worker.name} {worker.version}", worker.promise)
    return shown


def targets_table(workers: Sequence[Measured]) -> Table:
    """What is required of Warren, and whether it is so."""
    shown = Table(box=SIMPLE_HEAD)
    for heading in ("Warren's", "beside", "ratio", "required", ""):
        shown.add_column(heading, justify="right" if heading in {"ratio", "required"} else "left", no_wrap=True)
    for target, found in judged(workers):
        required = f"{target.bound} {target.limit:.2f}x"
        verdict = "met" if target.is_met(found) else "not met"
        shown.add_row(HEADINGS[target.figure], target.reference, f"{found:.2f}x", required, verdict)
    return shown


def endurance_lines(endurance: Endurance) -> list[str]:
    """What became of the burst, and of the many requests in a row."""
    burst, row = endurance.burst_ms, endurance.round_trips_ms
    memory = ", ".join(f"{rss / 2**20:.1f}" for rss in endurance.rss_bytes)
    return [
        f"burst of {len(burst):,} onto idle Warren: all answered in {max(burst):,.0f} ms; {_percentile_text(burst)}",
        f"{len(row):,} in a row to Warren, {OUTSTANDING} unanswered at a time: round trips {_percentile_text(row)}",
        f"its memory at the start and after each of {LEGS} parts, MiB: {memory}",
    ]


def _percentile_text(took_ms: Sequence[float]) -> str:
    return "p50 {:,.1f} ms, p99 {:,.1f} ms".format(*percentiles(took_ms))


def data(workers: Sequence[Measured], endurance: Endurance | None) -> dict[str, Any]:
    """All of it for a program to read."""
    return {
        "workers": {
            worker.name: {
                "version": worker.version,
                "promise": worker.promise,
                "figures": worker.figures(),
                "ratios": ratios(worker, workers[0]),
                "rounds": [_round_data(each) for each in worker.rounds],
            }
            for worker in workers
        },
        "targets": [
            {**asdict(target), "ratio": found, "met": target.is_met(found)} for target, found in judged(workers)
        ],
        "endurance": _endurance_data(endurance) if endurance else None,
    }


def _round_data(measured: Round) -> dict[str, Any]:
    figures = asdict(measured)
    return {**figures, "round_trips_ms": _times_data(measured.round_trips_ms)}


def _endurance_data(endurance: Endurance) -> dict[str, Any]:
    return {
        "burst_ms": _times_data(endurance.burst_ms),
        "in_a_row_ms": _times_data(endurance.round_trips_ms),
        "rss_bytes": endurance.rss_bytes,
    }


def _times_data(took_ms: Sequence[float]) -> dict[str, float]:
    p50, p99 = percentiles(took_ms)
    return {"count": len(took_ms), "p50": p50, "p99": p99, "max": max(took_ms)}


def _cell(value: float | None, compared: float | None) -> str:
    if value is None:
        return "-"
    return shown_figure(value) + ("" if compared is None else f" ({compared:.2f}x)")


def shown_figure(value: float) -> str:
    """Three digits that count, and all of a large number's."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
