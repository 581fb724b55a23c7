"""`warren run`: one request to a plugin in the real sandbox, right here, for its author: no bus, and nothing is sent.

What the plugin has logged, sent and asked of the host is shown rather than passed on; where it broke, and where its
fuel went, if that is wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic_core import to_json
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from warren.bus import OutcomeKind, Result
from warren.plugins import (
    Capture,
    Debugging,
    FuelProfile,
    Outcome,
    Plugin,
    PluginManager,
    enabled_functions,
    flame_graph,
    folded,
    write_dump,
)
from warren.plugins.files import PluginFiles

from ..text import duration, printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import json_text, print_json, read_data
from .logs import configure_logging
from .output import print_error, print_note, stderr, stdout
from .policy import chosen_policy
from .result_view import exit_code, figures, result_data

#: The dearest functions are shown, of all that a profile has.
FUNCTIONS_SHOWN: Final = 10

_SUFFIXES: Final = (".wasm", ".toml")
_LEVELS: Final = {"trace": "dim", "debug": "dim", "info": "green", "warn": "yellow", "error": "red"}


@dataclass(frozen=True, slots=True)
class Run:
    """What the command line asked for. `plugin` is a name, of the folder `plugins`, or one of a plugin's two files."""

    plugin: str
    action: str
    data: str | None
    plugins: Path | None = None
    version: str | None = None
    policy: Path | None = None
    secrets: tuple[Path, ...] = ()
    host_functions: tuple[str, ...] = ()
    debug: bool = False
    profile: Path | None = None
    flame: Path | None = None
    dump: Path | None = None

    @property
    def file(self) -> Path | None:
        return Path(self.plugin) if self.plugin.endswith(_SUFFIXES) else None

    @property
    def wants_profile(self) -> bool:
        return self.profile is not None or self.flame is not None


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the run ended; the capture is there if there was a run, and more was to be kept of it."""

    plugin: Plugin
    outcome: Outcome
    capture: Capture | None

    @property
    def result(self) -> Result:
        """As a caller would get it."""
        outcome = self.outcome
        body = outcome.response or to_json({"success": False, "result": None, "error": outcome.error})
        used = (outcome.fuel, outcome.memory_bytes, outcome.duration_us)
        kind = OutcomeKind(outcome.kind)
        return Result(self.plugin.name, "", self.plugin.version, kind, body, *used, 1, None, None, None)

    @property
    def profile(self) -> FuelProfile | None:
        return None if self.capture is None else self.capture.profile


def run(asked: Run, log_level: str, *, as_json: bool) -> ExitCode:
    """Run, show what came of it, write what was to be written; the exit code that the outcome has."""
    if asked.file is None and asked.plugins is None:
        hint = "--plugins DIR says where it is; or give its file: warren run my_plugin.wasm ACTION"
        raise WrongUsage(f"where is the plugin {printable(asked.plugin)!r}?", hint)
    data = read_data(asked.data)
    configure_logging(log_level, as_json=as_json)
    ended = asyncio.run(_run(asked, to_json({"action": asked.action, "data": data})))
    written = dict(_write(asked, ended))
    if as_json:
        print_json(_data(ended, written))
    else:
        _print(asked, ended, written)
    return exit_code(OutcomeKind(ended.outcome.kind))


async def _run(asked: Run, request: bytes) -> _Ended:
    name = asked.plugin if asked.file is None else PluginFiles.beside(asked.file).read_manifest().name
    debugging = Debugging(name, profile=asked.wants_profile, memory=asked.dump is not None)
    manager = PluginManager(
        asked.plugins,
        policy=chosen_policy(asked.policy),
        host_functions=enabled_functions(asked.host_functions),
        secrets=asked.secrets,
        debugging=debugging,
    )
    async with manager:
        try:
            plugin = manager.find(name, asked.version) if asked.file is None else await manager.load_plugin(asked.file)
        except ValueError as error:
            raise WrongUsage(str(error)) from error
        outcome = await plugin.run(request)
        return _Ended(plugin, outcome, debugging.last)


def _write(asked: Run, ended: _Ended) -> Iterator[tuple[str, Path]]:
    """What was written, and where. Raises OSError."""
    if ended.capture is None:
        return
    if ended.profile is not None:
        if asked.profile is not None:
            _write_lines(asked.profile, folded(ended.profile))
            yield "profile", asked.profile
        if asked.flame is not None:
            outcome = ended.outcome
            title = f"{ended.plugin.name} {ended.plugin.version}, {asked.action}: {outcome.kind}, {outcome.fuel:,} fuel"
            _write_lines(asked.flame, flame_graph(ended.profile, title))
            yield "flame", asked.flame
    if asked.dump is not None and ended.outcome.error is not None:
        plugin, version = ended.plugin.name, ended.plugin.version
        beside = write_dump(asked.dump, ended.capture, ended.outcome, plugin=plugin, version=version)
        yield "dump", asked.dump
        yield "dump_json", beside


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{line}\n" for line in lines)


def _data(ended: _Ended, written: dict[str, Path]) -> dict[str, Any]:
    """What `warren call` tells, as far as there is no bus in it, and the rest."""
    outcome, profile = ended.outcome, ended.profile
    shown = {key: value for key, value in result_data(ended.result).items() if key not in ("attempt", "trace")}
    return shown | {
        "logs": [{"level": line.level, "text": line.text, "plugin": line.plugin} for line in outcome.logs],
        "host_calls": [
            {"name": call.name, "duration_us": call.duration_ns // 1_000, "error": call.error}
            for call in outcome.host_calls
        ],
        "messages": [
            {"to": message.to, "topic": message.topic, "payload": message.payload.decode(errors="replace")}
            for message in outcome.messages
        ],
        "backtrace": outcome.backtrace,
        "functions": None
        if profile is None
        else [{"name": name, "fuel": fuel, "calls": calls} for name, fuel, calls in profile.by_function()],
        "written": {what: printable(str(path)) for what, path in written.items()},
    }


def _print(asked: Run, ended: _Ended, written: dict[str, Path]) -> None:
    outcome, console = ended.outcome, stdout()
    for line in outcome.logs:
        text = Text.assemble((f"{line.level:<5} ", _LEVELS[line.level]), printable(line.text))
        stderr().print(text, soft_wrap=True)
    result = ended.result
    if result.result is not None:
        console.print(JSONHighlighter()(json_text(result.result, indent=2)), soft_wrap=True)
    console.print(figures(result), soft_wrap=True)
    if asked.debug:
        _print_details(outcome)
    if ended.profile is not None:
        _print_functions(ended.profile)
    if result.error is not None:
        print_error(result.error)
    for what, path in written.items():
        print_note(f"{_WRITTEN[what]}: {path}")
    if (asked.wants_profile or asked.dump) and ended.capture is None:
        print_note("it was not run, so there is nothing to write")
    elif asked.dump is not None and "dump" not in written:
        print_note("the plugin answered, so no memory was written")


_WRITTEN: Final = {
    "profile": "fuel by stacks",
    "flame": "flame graph",
    "dump": "the guest's memory, with whatever secrets it had",
    "dump_json": "what that is",
}


def _print_details(outcome: Outcome) -> None:
    console = stdout()
    for number, frame in enumerate(outcome.backtrace):
        console.print(Text(f"  {number:>3}  {printable(frame)}"), soft_wrap=True)
    for call in outcome.host_calls:
        error = "" if call.error is None else f": {printable(call.error)}"
        line = f"  host call {printable(call.name)}, {duration(call.duration_ns / 1_000)}{error}"
        console.print(Text(line, "dim" if call.error is None else "yellow"), soft_wrap=True)
    for message in outcome.messages:
        to = printable(message.topic) if message.to is None else f"{printable(message.to)}, {printable(message.topic)}"
        payload = printable(message.payload.decode(errors="replace"))
        console.print(Text(f"  would send to {to}: {payload}", "dim"), soft_wrap=True)


def _print_functions(profile: FuelProfile) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("Fuel", "Share", "Calls"):
        table.add_column(heading, justify="right")
    table.add_column("Function, without what it calls", overflow="fold")
    functions = profile.by_function()
    for name, fuel, calls in functions[:FUNCTIONS_SHOWN]:
        table.add_row(f"{fuel:,}", f"{fuel / max(1, profile.fuel):.1%}", f"{calls:,}", Text(printable(name)))
    stdout().print(table)
    if len(functions) > FUNCTIONS_SHOWN:
        stdout().print(Text(f"and {len(functions) - FUNCTIONS_SHOWN:,} more functions", "dim"))
    if profile.is_cut:
        print_note("some calls were too deep, or of too many kinds, and count as their callers' own")
