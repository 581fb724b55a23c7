"""A fleet for people: the tables of `warren ps` and `warren top`, the page of `warren inspect`, a line for an order.

The tables fit 80 columns; what is wider than that has more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from warren.bus import Answer, Order

from ..text import age, duration, printable, size
from .survey import PluginLine, PluginReport, Survey, WorkerReport

#: From which width on there is room for more.
WIDE: Final = 110

_STATES: Final = {"serving": "green", "draining": "yellow"}


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second since the look before, by worker and by a plugin's name and version."""

    workers: Mapping[str, float] = field(default_factory=dict)
    plugins: Mapping[tuple[str, str], float] = field(default_factory=dict)


def rates(before: Survey, after: Survey) -> Rates:
    """What has been done between two looks. What was started anew in between has done nothing."""
    elapsed_s = max(after.taken_s - before.taken_s, 1e-3)
    lines = {(line.name, line.version): line.requests for line in before.plugins()}
    return Rates(
        {
            name: max(0, worker.requests - before.workers[name].requests) / elapsed_s
            for name, worker in after.workers.items()
            if name in before.workers
        },
        {
            (line.name, line.version): max(0, line.requests - lines[line.name, line.version]) / elapsed_s
            for line in after.plugins()
            if (line.name, line.version) in lines
        },
    )


def survey_view(seen: Survey, width: int, rated: Rates | None = None, *, now: datetime | None = None) -> RenderableType:
    """The workers, then the plugins. With rates those that have the most to do come first."""
    now = now or datetime.now(UTC)
    workers = _table(_WORKER_COLUMNS, width, rated is not None)
    for name, worker in _sorted_workers(seen, rated):
        rate = None if rated is None else rated.workers.get(name, 0.0)
        _add(workers, _WORKER_COLUMNS, _Worker(name, worker, rate, now), width, rated is not None)
    for name in seen.heard.silent:
        workers.add_row(Text(printable(name), "red"), Text("silent", "red"))
    plugins = _table(_PLUGIN_COLUMNS, width, rated is not None)
    told: set[str] = set()
    for line in _sorted_plugins(seen, rated):
        rate = None if rated is None else rated.plugins.get((line.name, line.version), 0.0)
        depth = None if line.name in told else seen.depths.get(line.name)  # all versions have one mailbox
        told.add(line.name)
        _add(plugins, _PLUGIN_COLUMNS, _Plugin(line, rate, depth), width, rated is not None)
    return Group(_headline(seen, rated), Text(), workers, Text(), plugins)


def _headline(seen: Survey, rated: Rates | None) -> Text:
    count = len(seen.workers)
    facts = [f"{count} worker{'' if count == 1 else 's'}"]
    if rated is not None:
        facts.append(f"{_rate(sum(rated.workers.values()))} requests/s")
    facts += [
        f"{sum(worker.in_flight for worker in seen.workers.values()):,} in flight",
        f"{sum(depth or 0 for depth in seen.depths.values()):,} waiting",
    ]
    text = Text("warren", "bold").append(f"  {' · '.join(facts)} · ", "not bold")
    text.append(f"{seen.dead_letters or 0:,} dead letters", "not bold red" if seen.dead_letters else "not bold")
    if seen.unrouted:
        text.append(f" · {seen.unrouted:,} unrouted", "not bold yellow")
    return text


@dataclass(frozen=True, slots=True)
class _Worker:
    name: str
    report: WorkerReport
    rate: float | None
    now: datetime


@dataclass(frozen=True, slots=True)
class _Plugin:
    line: PluginLine
    rate: float | None
    depth: int | None


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: what is in it; `wide` ones are for wide terminals, those of `rates` for whoever looks twice."""

    title: str
    cell: Callable[[Any], Text | str]
    right: bool = True
    wide: bool = False
    rates: bool = False


_WORKER_COLUMNS: Final = (
    _Column("worker", lambda one: Text(printable(one.name), "bold"), right=False),
    _Column("state", lambda one: Text(printable(one.report.state), _STATES.get(one.report.state, "red")), right=False),
    _Column("up", lambda one: age((one.now - one.report.started).total_seconds())),
    _Column("req/s", lambda one: _rate(one.rate), rates=True),
    _Column("in flight", lambda one: _count(one.report.in_flight)),
    _Column("requests", lambda one: _count(one.report.requests)),
    _Column("retries", lambda one: _count(one.report.counters.get("retries", 0)), wide=True),
    _Column("passed on", lambda one: _count(one.report.counters.get("passed_on", 0)), wide=True),
    _Column("dead", lambda one: _count(one.report.counters.get("dead_letters", 0), "red")),
    _Column("plugins", lambda one: _count(len(one.report.plugins))),
    _Column("warren", lambda one: Text(printable(one.report.warren), "dim"), wide=True),
)

_PLUGIN_COLUMNS: Final = (
    _Column("plugin", lambda one: Text(printable(one.line.name), "bold cyan"), right=False),
    _Column("version", lambda one: _version(one.line), right=False),
    _Column("workers", lambda one: _count(one.line.workers)),
    _Column("req/s", lambda one: _rate(one.rate), rates=True),
    _Column("waiting", lambda one: "" if one.depth is None else _count(one.depth, "yellow")),
    _Column("requests", lambda one: _count(one.line.requests)),
    _Column("failures", lambda one: _count(one.line.failures, "red")),
    _Column("fuel p99", lambda one: "" if one.line.fuel_p99 is None else f"{one.line.fuel_p99:,}", wide=True),
    _Column("memory p99", lambda one: "" if one.line.memory_bytes_p99 is None else size(one.line.memory_bytes_p99)),
)


def _shown(columns: tuple[_Column, ...], width: int, *, rated: bool) -> list[_Column]:
    return [one for one in columns if (width >= WIDE or not one.wide) and (rated or not one.rates)]


def _table(columns: tuple[_Column, ...], width: int, rated: bool) -> Table:  # noqa: FBT001
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, column in enumerate(_shown(columns, width, rated=rated)):
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=4 if place else 12,
        )
    return table


def _add(table: Table, columns: tuple[_Column, ...], row: object, width: int, rated: bool) -> None:  # noqa: FBT001
    table.add_row(*(column.cell(row) for column in _shown(columns, width, rated=rated)))


def _sorted_workers(seen: Survey, rated: Rates | None) -> list[tuple[str, WorkerReport]]:
    if rated is None:
        return sorted(seen.workers.items())
    return sorted(seen.workers.items(), key=lambda one: (-one[1].in_flight, -rated.workers.get(one[0], 0.0), one[0]))


def _sorted_plugins(seen: Survey, rated: Rates | None) -> list[PluginLine]:
    lines = seen.plugins()
    if rated is None:
        return lines
    by_name: dict[str, float] = {}
    for line in lines:
        by_name[line.name] = by_name.get(line.name, 0.0) + rated.plugins.get((line.name, line.version), 0.0)
    return sorted(lines, key=lambda one: (-(seen.depths.get(one.name) or 0), -by_name[one.name], one.name))


def _version(line: PluginLine) -> Text:
    return Text(printable(line.version)).append(" stale" if line.stale else "", "yellow")


def _count(number: int, style: str = "") -> Text:
    return Text(f"{number:,}", style if number else "dim")


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


# One plugin, and orders --------------------------------------------------------------------------------------------


def inspected(plugin: str, answers: list[Answer], now_s: float) -> Text:
    """What workers told of a plugin: each version, what it may where that is the same, and how it does on each."""
    versions: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for answer in answers:
        for told in (answer.answer or {}).get("versions", []):
            versions.setdefault(str(told.get("version")), []).append((answer.worker, told))
    parts = [_inspected_version(plugin, version, told, now_s) for version, told in versions.items()]
    return Text("\n\n").join(parts)


def _inspected_version(plugin: str, version: str, told: list[tuple[str, dict[str, Any]]], now_s: float) -> Text:
    _, first = told[0]
    text = Text.assemble((plugin, "bold"), f" {printable(version)}")
    if first.get("description"):
        text.append(f"\n  {printable(str(first['description']))}")
    for name, value in _facts(first).items():
        if value:
            text.append(f"\n  {name:<14}", "dim").append(printable(value))
    for worker, one in told:
        text.append(f"\n{printable(worker)}", "cyan").append(_figures(one, now_s))
    return text


def _facts(told: Mapping[str, Any]) -> dict[str, str]:
    try:
        grant = told["grant"]
        limits = grant["limits"]
        return {
            "actions": ", ".join(told["actions"]),
            "capabilities": ", ".join(grant["capabilities"]),
            "limits": f"{size(limits['memory_bytes'])}, {limits['max_fuel']:,} fuel, "
            f"{duration(limits['timeout_s'] * 1e6)}",
            "subscribes": ", ".join(told["subscribe"]),
            "publishes": ", ".join(told["publish"]),
            "needs": ", ".join(f"{one['name']} {one['version_req']}" for one in told["dependencies"]),
            "settings": ", ".join(told["settings"]),
        }
    except (KeyError, TypeError, ValueError):  # a worker of another version
        return {}


def _figures(told: Mapping[str, Any], now_s: float) -> Text:
    try:
        report = PluginReport.model_validate(told)
    except ValidationError:
        return Text("\n  what it tells makes no sense", "red")
    facts = {
        "status": f"{report.status}, loaded {age(now_s - report.last_loaded)} ago, {_times(report.load_count)}",
        "requests": f"{report.execution_count:,}, {report.failure_count:,} of them without an answer; "
        f"{told.get('in_flight', 0)} under way",
        "fuel": _percentiles(report.fuel_p50, report.fuel_p99, "{:,}".format),
        "memory": _percentiles(report.memory_bytes_p50, report.memory_bytes_p99, size),
        "last error": report.last_error or "",
    }
    text = Text()
    for name, value in facts.items():
        if value:
            text.append(f"\n  {name:<14}", "dim").append(printable(value), "red" if name == "last error" else "")
    return text


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _percentiles(half: int | None, nearly_all: int | None, shown: Callable[[int], str]) -> str:
    return "" if half is None or nearly_all is None else f"p50 {shown(half)}, p99 {shown(nearly_all)}"


def answer_line(order: Order, answer: Answer) -> Text:
    """What one worker did."""
    told = answer.answer or {}
    done = {
        "reload": lambda: f"reloaded {told.get('plugin')} {told.get('version')}",
        "unload": lambda: f"unloaded {', '.join(_named(one) for one in told.get('unloaded', []))}",
        "drain": lambda: f"drains; {told.get('in_flight')} under way",
    }
    return Text.assemble((printable(answer.worker), "cyan"), f"  {printable(done[order.name]())}")


def _named(one: Any) -> str:
    return f"{one.get('plugin')} {one.get('version')}" if isinstance(one, dict) else str(one)
