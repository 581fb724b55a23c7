"""A fleet for people: the tables of `warren ps` and `warren top`, the page of `warren inspect`, a line for an order.

The tables fit 80 columns; what is wider than that has more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from warren.bus import Answer, Drain, Order, Reload, StepRollout, Unload

from ..text import age, duration, printable, size
from .reports import (
    NONSENSE,
    DrainReport,
    InspectedVersion,
    InspectReport,
    ReloadReport,
    RolloutReport,
    RolloutsReport,
    SideReport,
    UnloadReport,
    WorkerReport,
    read_report,
)
from .survey import PluginLine, Survey

#: From which width on there is room for more.
WIDE: Final = 110

_STATES: Final = {"serving": "green", "draining": "yellow"}

_ROLLOUT_STATES: Final = {"canary": "yellow", "shadow": "yellow", "promoted": "green", "rolled_back": "red"}

#: How a version is in the states of a rollout.
_IN_STATE: Final = {"canary": "tried", "shadow": "shadowed", "promoted": "promoted", "rolled_back": "rolled back"}


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
        facts.append(f"{_rate(sum(rated.workers.values()))} req/s")
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
    _Column("plugins", lambda one: _count(sum(plugin.status != "parked" for plugin in one.report.plugins))),
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
    _Column(
        "memory p99",
        lambda one: "" if one.line.memory_bytes_p99 is None else size(one.line.memory_bytes_p99),
        wide=True,
    ),
)


def _shown(columns: tuple[_Column, ...], width: int, *, rated: bool) -> list[_Column]:
    return [one for one in columns if (width >= WIDE or not one.wide) and (rated or not one.rates)]


def _table(columns: tuple[_Column, ...], width: int, rated: bool) -> Table:  # noqa: FBT001
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, column in enumerate(_shown(columns, width, rated=rated)):
        # The first column, a name, makes room when there is none.
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=place > 0,
            overflow="ellipsis",
            min_width=0 if place else 12,
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
    return Text(printable(line.version)).append("" if line.status == "loaded" else f" {line.status}", "yellow")


def _count(number: int, style: str = "") -> Text:
    return Text(f"{number:,}" if number < 10_000_000 else f"{number / 1e6:,.1f}M", style if number else "dim")


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


# One plugin, and orders --------------------------------------------------------------------------------------------


def inspected(answers: list[Answer], now_s: float) -> Text:
    """What workers told of a plugin: each version, what it may, and how it does on each."""
    versions: dict[str, list[tuple[str, InspectedVersion]]] = {}
    parts: list[Text] = []
    for answer in answers:
        report = read_report(InspectReport, answer)
        if report is None:
            parts.append(Text.assemble((printable(answer.worker), "cyan"), (f"  {NONSENSE}", "red")))
            continue
        for version in report.versions:
            versions.setdefault(version.version, []).append((answer.worker, version))
    return Text("\n\n").join([_inspected_version(told, now_s) for told in versions.values()] + parts)


def _inspected_version(told: list[tuple[str, InspectedVersion]], now_s: float) -> Text:
    _, first = told[0]
    text = Text.assemble((printable(first.name), "bold"), f" {printable(first.version)}")
    if first.description:
        text.append(f"\n  {printable(first.description)}")
    limits = first.grant.limits
    facts = {
        "actions": ", ".join(first.actions),
        "capabilities": ", ".join(first.grant.capabilities),
        "limits": f"{size(limits.memory_bytes)}, {limits.max_fuel:,} fuel, {duration(limits.timeout_s * 1e6)}",
        "subscribes": ", ".join(first.subscribe),
        "publishes": ", ".join(first.publish),
        "needs": ", ".join(f"{one.name} {one.version_req}" for one in first.dependencies),
        "settings": ", ".join(first.settings),
    }
    text.append(_lines(facts))
    for worker, one in told:
        text.append(f"\n{printable(worker)}", "cyan").append(_lines(_figures(one, now_s)))
    return text


def _figures(told: InspectedVersion, now_s: float) -> dict[str, str]:
    loads = "once" if told.load_count == 1 else f"{told.load_count} times"
    if told.status == "parked":
        return {"status": "parked: it has not been run", "last error": told.last_error or ""}
    return {
        "status": f"{told.status}, {loads}, {age(now_s - told.last_loaded)} ago",
        "requests": f"{told.execution_count:,}, {told.failure_count:,} without an answer, {told.in_flight:,} under way",
        "fuel": _percentiles(told.fuel_p50, told.fuel_p99, "{:,}".format),
        "memory": _percentiles(told.memory_bytes_p50, told.memory_bytes_p99, size),
        "last error": told.last_error or "",
    }


def _lines(facts: Mapping[str, str]) -> Text:
    """A line for each; what is empty is left out."""
    text = Text()
    for name, value in facts.items():
        if value:
            text.append(f"\n  {name:<14}", "dim").append(printable(value), "red" if name == "last error" else "")
    return text


def _percentiles(half: int | None, nearly_all: int | None, shown: Callable[[int], str]) -> str:
    return "" if half is None or nearly_all is None else f"p50 {shown(half)}, p99 {shown(nearly_all)}"


def rollouts_view(answers: list[Answer]) -> Text:
    """What workers told of their rollouts."""
    text = Text()
    for answer in answers:
        text.append(printable(answer.worker), "cyan")
        report = read_report(RolloutsReport, answer)
        if report is None:
            text.append(f"  {NONSENSE}\n", "red")
            continue
        if not report.rollouts:
            text.append("  nothing is rolled out\n", "dim")
            continue
        for one in report.rollouts:
            text.append(_rollout(one))
        text.append("\n")
    text.rstrip()
    return text


def _rollout(one: RolloutReport) -> Text:
    state = one.state.replace("_", " ")
    text = Text.assemble(("\n  ", ""), (printable(one.plugin), "bold"), f" {printable(one.new.version)}: ")
    text.append(printable(state), _ROLLOUT_STATES.get(one.state, ""))
    if one.state in ("canary", "shadow"):
        text.append(f", {one.policy.percent:g} % for {age(one.elapsed_s)}")
    facts = {side.version: _side(side) for side in (one.new, one.old)}
    if one.shadow_runs:
        facts["answers"] = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in one.shadow_runs.items())
    facts["reason"] = one.reason
    return text.append(_lines(facts))


def _side(side: SideReport) -> str:
    fuel = "" if side.mean_fuel is None else f", {side.mean_fuel:,.0f} fuel each"
    return f"{side.requests:,} requests, {side.failures:,} failed{fuel}"


def answer_line(order: Order, answer: Answer) -> Text:
    """What one worker did."""
    return Text.assemble((printable(answer.worker), "cyan"), f"  {printable(_done(order, answer) or NONSENSE)}")


def _done(order: Order, answer: Answer) -> str | None:
    if isinstance(order, Reload) and (reloaded := read_report(ReloadReport, answer)):
        return f"reloaded {reloaded.plugin} {reloaded.version}"
    if isinstance(order, Unload) and (unloaded := read_report(UnloadReport, answer)):
        return f"unloaded {', '.join(f'{one.plugin} {one.version}' for one in unloaded.unloaded)}"
    if isinstance(order, StepRollout) and (rolled := read_report(RolloutsReport, answer)) and rolled.rollouts:
        one = rolled.rollouts[0]
        return f"{one.plugin} {one.new.version} is {_IN_STATE.get(one.state, one.state)}, beside {one.old.version}"
    if isinstance(order, Drain) and (draining := read_report(DrainReport, answer)):
        return f"drains; {draining.in_flight:,} under way"
    return None
