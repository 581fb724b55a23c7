"""`warren listen`: events, results or the audit, one after the other as they come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from rich.text import Text

from warren.bus import AuditNote, Client, Listener, PluginMessage, Result

from ..text import printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import json_text, print_json
from .logs import configure_logging
from .output import print_note, stdout
from .result_view import figures, result_data

#: To reach the broker; how long to listen is another matter.
CONNECT_LIMIT_S: Final = 30.0


class Heard(StrEnum):
    """What can be listened to."""

    EVENTS = "events"
    RESULTS = "results"
    AUDIT = "the audit"


@dataclass(frozen=True, slots=True)
class Listening:
    """What the command line asked for, until `count` have come or `timeout_s` is over."""

    pattern: str
    what: Heard
    broker: str
    count: int | None
    timeout_s: float | None
    prefix: str


def run(listening: Listening, *, as_json: bool, background: bool) -> int:
    """Print what is heard. A user who has had enough has lacked nothing; a count not reached is a time-out.

    In the `background` that is another process's business, which listens by the time that this returns.
    """
    configure_logging("warning", as_json=as_json)
    if not background:
        return _listen_to(listening, as_json=as_json, ended_by="Ctrl-C", ready=lambda: None)
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        with os.fdopen(reading, "rb") as child:
            if child.read(1):
                return ExitCode.OK
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return code if code > 0 else ExitCode.FAILED  # it has said why, unless it was killed
    os.close(reading)
    return _listen_to(listening, as_json=as_json, ended_by=f"kill {os.getpid()}", ready=lambda: _tell(writing))


def _tell(parent: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits any more
        os.write(parent, b"1")
    os.close(parent)


def _listen_to(listening: Listening, *, as_json: bool, ended_by: str, ready: Callable[[], None]) -> ExitCode:
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(_listen(listening, _SHOWN[listening.what, as_json], ended_by, ready))
        except TimeoutError:
            return ExitCode.OK if listening.count is None else ExitCode.TIMED_OUT
    return ExitCode.OK


async def _listen(asked: Listening, show: Callable[[Any], None], ended_by: str, ready: Callable[[], None]) -> None:
    """Raises TimeoutError once `timeout_s` is over. `ready` is called once nothing is missed any more."""
    heard = 0
    connected = Client(asked.broker, prefix=asked.prefix, timeout_s=CONNECT_LIMIT_S)
    async with connected as client, asyncio.timeout(asked.timeout_s), _listener(client, asked) as listener:
        print_note(f"listening to {asked.what}, {asked.pattern}; {ended_by} ends it")
        ready()
        async for item in listener:
            show(item)
            heard += 1
            if heard == asked.count:
                return


def _listener(client: Client, asked: Listening) -> Listener[Any]:
    listen: Mapping[Heard, Callable[[str], Listener[Any]]] = {
        Heard.EVENTS: client.events,
        Heard.RESULTS: client.results,
        Heard.AUDIT: client.audit,
    }
    try:
        return listen[asked.what](asked.pattern)
    except ValueError as error:
        raise WrongUsage(str(error)) from error


def _event_as_json(event: PluginMessage) -> None:
    print_json(
        {
            "topic": event.topic,
            "from": event.from_,
            "to": event.to,
            "payload": event.payload,
            "timestamp": event.timestamp,
            "message_id": event.message_id,
            "trace_id": event.trace.trace_id if event.trace else None,
        }
    )


def event_for_people(event: PluginMessage) -> None:
    """Print an event, in one line."""
    line = Text.assemble(
        (f"{event.timestamp.astimezone():%H:%M:%S} ", "dim"),
        (f"{printable(event.topic)} ", "bold cyan"),
        (f"from {printable(event.from_)} ", "dim"),
        json_text(event.payload),
    )
    stdout().print(line, soft_wrap=True)


def _result_as_json(result: Result) -> None:
    ids = {"action": result.action, "message_id": result.message_id, "correlation_id": result.correlation_id}
    print_json(result_data(result) | ids)


def result_for_people(result: Result) -> None:
    """Print a result, in one line."""
    answer = json_text(result.result if result.error is None else result.error)
    line = Text.assemble((f"{printable(result.action)} ", "bold cyan"), figures(result), f" {answer}")
    stdout().print(line, soft_wrap=True)


def _audit_as_json(note: AuditNote) -> None:
    print_json(note.model_dump(mode="json"))


_SEVERITIES: Final = {"debug": "dim", "warning": "yellow", "critical": "bold red"}


def _audit_for_people(note: AuditNote) -> None:
    who = note.plugin if note.version is None else f"{note.plugin} {note.version}"
    line = Text.assemble(
        (f"{note.time.astimezone():%H:%M:%S} ", "dim"),
        (f"{printable(who)} ", "bold cyan"),
        (f"{'used' if note.refusal is None else 'was refused'} {printable(note.power)}: ", _SEVERITIES[note.severity]),
        printable(note.asked),
    )
    if note.refusal is not None:
        line.append(f": {printable(note.refusal)}")
    stdout().print(line, soft_wrap=True)


#: By what it is, and whether it is to be JSON.
_SHOWN: Final[Mapping[tuple[Heard, bool], Callable[[Any], None]]] = {
    (Heard.EVENTS, False): event_for_people,
    (Heard.EVENTS, True): _event_as_json,
    (Heard.RESULTS, False): result_for_people,
    (Heard.RESULTS, True): _result_as_json,
    (Heard.AUDIT, False): _audit_for_people,
    (Heard.AUDIT, True): _audit_as_json,
}
