"""A look at the fleet: what every worker told of itself, who was silent, and what waits on the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from warren.bus import Answer, Fleet, Heard, ListPlugins, Names, Problem, QueueNotFound, Transport

from .reports import NONSENSE, PluginReport, WorkerReport, read_report


@dataclass(frozen=True, slots=True)
class PluginLine:
    """One version of a plugin, on all workers together; the percentiles are of the worker where they are highest."""

    name: str
    version: str
    workers: int
    requests: int
    failures: int
    status: str
    fuel_p99: int | None
    memory_bytes_p99: int | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What was seen, at `taken_s` of the monotonic clock. A depth is None where there is no such queue."""

    workers: Mapping[str, WorkerReport]
    heard: Heard
    depths: Mapping[str, int | None] = field(default_factory=dict)
    dead_letters: int | None = None
    unrouted: int | None = None
    taken_s: float = field(default_factory=time.monotonic)

    def plugins(self) -> list[PluginLine]:
        """Every version that is served anywhere, by name."""
        found: dict[tuple[str, str], list[PluginReport]] = {}
        for worker in self.workers.values():
            for plugin in worker.plugins:
                found.setdefault((plugin.name, plugin.version), []).append(plugin)
        return [_line(name, version, reports) for (name, version), reports in sorted(found.items())]


#: What a line shows of a version that is not well everywhere.
_WORST_FIRST: Final = ("quarantined", "parked", "stale")


def _line(name: str, version: str, reports: list[PluginReport]) -> PluginLine:
    return PluginLine(
        name,
        version,
        len(reports),
        sum(report.execution_count for report in reports),
        sum(report.failure_count for report in reports),
        next((status for status in _WORST_FIRST if any(one.status == status for one in reports)), "loaded"),
        max((report.fuel_p99 for report in reports if report.fuel_p99 is not None), default=None),
        max((report.memory_bytes_p99 for report in reports if report.memory_bytes_p99 is not None), default=None),
    )


async def survey(transport: Transport, names: Names, fleet: Fleet, *, timeout_s: float) -> Survey:
    """Ask all workers, and the broker for its queues. Raises `BusError`."""
    heard = await fleet.ask(ListPlugins(), timeout_s=timeout_s)
    workers = {
        name: report for name, answer in sorted(heard.answers.items()) if (report := read_report(WorkerReport, answer))
    }
    for name in heard.answers.keys() - workers.keys():
        if heard.answers[name].problem is None:
            heard.answers[name] = Answer(worker=name, problem=Problem.MALFORMED, error=NONSENSE)
    plugins = sorted({plugin.name for worker in workers.values() for plugin in worker.plugins})
    queues = [*map(names.mailbox, plugins), names.dead, names.unrouted]
    *mailboxes, dead, unrouted = await asyncio.gather(*(_depth(transport, queue) for queue in queues))
    return Survey(workers, heard, dict(zip(plugins, mailboxes, strict=True)), dead, unrouted)


async def _depth(transport: Transport, queue: str) -> int | None:
    try:
        return await transport.depth(queue)
    except QueueNotFound:
        return None


def survey_data(seen: Survey) -> dict[str, Any]:
    """All of it, for `--json`."""
    return {
        "workers": [{"worker": name, **report.model_dump(mode="json")} for name, report in seen.workers.items()],
        "queues": dict(seen.depths),
        "dead_letters": seen.dead_letters,
        "unrouted": seen.unrouted,
        **shortfalls(seen.heard),
    }


def shortfalls(heard: Heard) -> dict[str, Any]:
    """Who could not do what was asked, and who did not answer; for `--json`."""
    return {
        "problems": [
            {"worker": answer.worker, "problem": answer.problem, "error": answer.error} for answer in problems(heard)
        ],
        "silent": heard.silent,
    }


def problems(heard: Heard) -> list[Answer]:
    return [answer for answer in by_worker(heard.answers.values()) if answer.problem is not None]


def by_worker(answers: Iterable[Answer]) -> list[Answer]:
    return sorted(answers, key=lambda answer: answer.worker)
