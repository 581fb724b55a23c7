"""`warren replay`: a recorded run once more, and the first thing in which it differs."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json
from rich.text import Text

from warren.manifests import ManifestError
from warren.plugins import (
    MAX_RECORDING_BYTES,
    Asked,
    Ended,
    PluginError,
    RecordedEvent,
    Recording,
    RecordingUnreadable,
    Replayed,
    read_recording,
    replay,
)

from ..differences import differences
from ..text import printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import print_json
from .logs import configure_logging
from .output import print_note, stdout

#: Characters of a question or an answer that are shown; below it stands where two of them differ.
MAX_SHOWN: Final = 400

#: What the plugin was told last, of which the line is cut here.
MAX_TOLD: Final = 20
MAX_TOLD_LENGTH: Final = 140

_CODES: Final = {"reproduced": ExitCode.OK, "differs": ExitCode.FAILED, "cut short": ExitCode.BAD_OUTCOME}


def run(
    path: Path,
    plugins: Path,
    version: str | None,
    variables: list[str],
    data: Path | None,
    *,
    as_json: bool,
) -> ExitCode:
    """Replay the recording in that file, and say whether it went as it did. Raises `WrongUsage`."""
    configure_logging("warning", as_json=as_json)
    given = _variables(variables)
    try:
        recording = read_recording(_content(path))
    except RecordingUnreadable as error:
        raise WrongUsage(f"{path} {error}") from error
    try:
        replayed = asyncio.run(replay(recording, plugins, version, variables=given, data=data))
    except (PluginError, ManifestError) as error:
        raise WrongUsage(str(error)) from error
    if as_json:
        print_json(_data(replayed))
    else:
        _print(replayed)
    return _CODES[_verdict(replayed)]


def save(recording: Recording, path: Path) -> None:
    """Write it where `warren replay` reads it. Raises OSError."""
    path.write_bytes(recording.to_json())
    print_note(f"recorded in {path}; to see it happen again: warren replay {path} --plugins DIR")


def _variables(settings: list[str]) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in settings]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise WrongUsage(f"--env {wrong} has no value", "write --env NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _content(path: Path) -> bytes:
    """Of a file that may be anything: no more of it than a recording can have."""
    with path.open("rb") as file:
        return file.read(MAX_RECORDING_BYTES + 1)


def _verdict(replayed: Replayed) -> str:
    if replayed.difference is not None:
        return "differs"
    return "reproduced" if replayed.cut_short is None else "cut short"


def _print(replayed: Replayed) -> None:
    recording, outcome = replayed.recording, replayed.outcome
    console = stdout()
    when = f"{recording.recorded:%Y-%m-%d %H:%M:%S} UTC"
    was = f"{recording.plugin} {recording.version} ended as {recording.outcome.kind}, recorded {when}"
    console.print(Text(printable(was), "bold"), soft_wrap=True)
    for note in _notes(replayed):
        console.print(Text(printable(f"note: {note}"), "dim"), soft_wrap=True)
    for told in _told(replayed):
        console.print(Text(printable(told), "dim"), soft_wrap=True)
    for line in outcome.logs:
        console.print(Text.assemble((f"{line.level:<5} ", "dim"), printable(line.text)), soft_wrap=True)
    for frame in outcome.backtrace if replayed.difference is None else ():
        console.print(Text(printable(f"  {frame}"), "dim"), soft_wrap=True)
    for text, style in _ending(replayed):
        console.print(Text(printable(text), style), soft_wrap=True)


def _told(replayed: Replayed) -> list[str]:
    """What the plugin asked for and was told in this replay, the last of it."""
    first = max(0, replayed.told - MAX_TOLD)
    lines = [f"  …  {first:,} before these"] if first else []
    for number, event in enumerate(replayed.recording.events[first : replayed.told], first + 1):
        asked = Asked(event.source, event.name, event.asked.data)
        lines.append(f"{number:>3}  {_short(f'{_question(asked)} → {_reply(event)}', MAX_TOLD_LENGTH)}")
    return lines


def _reply(event: RecordedEvent) -> str:
    if event.fault is not None:
        return f"{event.fault.kind}: {event.fault.reason}"
    if event.answer is None:
        return "nothing any more"
    answer = event.answer.data[:MAX_SHOWN]
    match event.source:
        case "random":
            return answer.hex()
        case "sleep":
            return f"woken by {', '.join(str(place + 1) for place in answer)}"
        case _:
            return _text(answer)


def _notes(replayed: Replayed) -> list[str]:
    """What keeps this replay from being the run itself, as far as one can know."""
    recording = replayed.recording
    here = {"wasmtime": importlib.metadata.version("wasmtime"), "machine": platform.machine()}
    there = {"wasmtime": recording.wasmtime, "machine": recording.machine}
    notes = [
        f"recorded with {what} {there[what]}, replayed with {here[what]}: fuel may be counted otherwise"
        for what in there
        if there[what] != here[what]
    ]
    if replayed.version != recording.version:
        notes.append(f"replayed in {replayed.version}, under the limits that were recorded")
    elif not replayed.same_files:
        notes.append(f"these are not the files that were recorded, though they are {replayed.version}, too")
    if recording.used_files:
        notes.append("the run used files, which no recording holds: --data names a folder to find them in")
    if recording.is_masked:
        notes.append("secrets and variables are masked, and the plugin is given ***; --env NAME=VALUE gives a variable")
    return notes


def _ending(replayed: Replayed) -> list[tuple[str, str]]:
    """The verdict, line by line, each with its style."""
    told = f"{replayed.told:,} {'answer' if replayed.told == 1 else 'answers'} from outside"
    fuel = f"{replayed.outcome.fuel:,} fuel"
    if replayed.cut_short is not None:
        return [(f"as recorded for {told} ({fuel}); the recording ends there: {replayed.cut_short}", "yellow")]
    difference = replayed.difference
    if difference is None:
        return [(f"reproduced, with {told} and {fuel}: {_end_of(replayed)}", "green")]
    lines = [
        (f"it differs after {difference.alike:,} of {len(replayed.recording.events):,} answers from outside", "red"),
        (f"  recorded  {_shown(difference.recorded)}", ""),
        (f"  now       {_shown(difference.now)}", ""),
    ]
    return lines + [(f"    {one}", "cyan") for one in _inside(difference.recorded, difference.now)]


def _end_of(replayed: Replayed) -> str:
    was, now = replayed.recording.outcome, replayed.outcome
    if was.kind == "deadline_exceeded" and replayed.same_files:
        how = "this is where it was when its time was over"
        return f"{how}, with {was.fuel:,} fuel used" if now.kind == "out_of_fuel" else f"{how}: {now.error}"
    return now.kind if now.error is None else f"{now.kind}: {now.error}"


def _shown(one: Asked | Ended) -> str:
    if isinstance(one, Asked):
        return _short(_question(one))
    said = one.error if one.error is not None else _text(one.answer)
    return _short(f"the end: {one.kind}: {said}" if said else f"the end: {one.kind}")


def _question(asked: Asked) -> str:
    wanted = _text(asked.asked)
    match asked.source:
        case "host_call":
            return f"{asked.name} {wanted}".rstrip()
        case "clock":
            return f"the {asked.name} clock"
        case "random":
            return f"{wanted} random bytes"
        case "sleep":
            return f"a sleep until the first of {wanted}"


def _inside(recorded: Asked | Ended, now: Asked | Ended) -> tuple[str, ...]:
    """Where two questions, or two answers, say different things."""
    match recorded, now:
        case Asked(), Asked() if (recorded.source, recorded.name) == (now.source, now.name):
            was, become = recorded.asked, now.asked
        case Ended(), Ended() if recorded.answer and now.answer:
            was, become = recorded.answer, now.answer
        case _:
            return ()
    try:
        return differences(from_json(was), from_json(become))
    except ValueError:  # it speaks another language than JSON
        return ()


def _text(data: bytes) -> str:
    return data[:MAX_SHOWN].decode(errors="backslashreplace")


def _short(text: str, length: int = MAX_SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _data(replayed: Replayed) -> dict[str, Any]:
    recording, outcome, difference = replayed.recording, replayed.outcome, replayed.difference
    return {
        "verdict": _verdict(replayed).replace(" ", "_"),
        "plugin": recording.plugin,
        "recorded_version": recording.version,
        "version": replayed.version,
        "same_files": replayed.same_files,
        "notes": _notes(replayed),
        "told": replayed.told,
        "recorded": {"outcome": recording.outcome.kind, "fuel": recording.outcome.fuel},
        "now": {"outcome": outcome.kind, "fuel": outcome.fuel, "error": outcome.error},
        "cut_short": replayed.cut_short,
        "difference": None
        if difference is None
        else {
            "after": difference.alike,
            "recorded": _side(difference.recorded),
            "now": _side(difference.now),
            "where": _inside(difference.recorded, difference.now),
        },
        "logs": [{"level": line.level, "text": line.text} for line in outcome.logs],
        "backtrace": outcome.backtrace,
    }


def _side(one: Asked | Ended) -> dict[str, Any]:
    if isinstance(one, Asked):
        return {"asked": one.source, "name": one.name, "with": one.asked.decode(errors="backslashreplace")}
    return {"ended": one.kind, "answer": one.answer.decode(errors="backslashreplace"), "error": one.error}
