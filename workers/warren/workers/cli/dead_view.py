"""A dead letter: as the JSON that `--json` prints, as a line of a list, and as a page with all that is in it."""

from __future__ import annotations

import base64
import shlex
import time
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import from_json
from rich.text import Text

from warren.bus import DeadLetter, Header, Message

from ..text import age, printable
from .json_data import json_text

#: Of the columns of a list but the last one, each as wide as what is usual there: an id is mostly a UUID.
_COLUMNS: Final = {"id": 36, "age": 7, "tries": 5, "outcome": 17, "plugin.action": 28}

_HEADING: Final = Text("  ".join([*(f"{name:<{width}}" for name, width in _COLUMNS.items()), "error"]), "bold")


def heading() -> Text:
    """What stands above `line`."""
    return _HEADING


def line(letter: DeadLetter) -> Text:
    """One dead letter of a list; the error is last, as what may be cut off."""
    cells = (
        letter_id(letter),
        _age(letter),
        "?" if letter.attempts is None else str(letter.attempts),
        printable(letter.outcome),
        printable(f"{letter.plugin}.{letter.action}"),
    )
    styles = ("", "dim", "dim", "red", "bold cyan")
    text = Text()
    for cell, width, style in zip(cells, _COLUMNS.values(), styles, strict=True):
        text.append(f"{cell:<{width}}", style).append("  ")
    return text.append(printable(letter.error or ""))


def letter_id(letter: DeadLetter) -> str:
    """Its id, as it is shown and asked for."""
    return printable(letter.id)


def page(letter: DeadLetter) -> Text:
    """Everything there is to know of a dead letter, and how to replay it."""
    text = Text(letter_id(letter), "bold")
    for title, facts in (
        ("what happened", _death(letter)),
        ("the message", _origin(letter) | _properties(letter.message)),
        ("its headers, with those of its death", {name: _field(it) for name, it in _headers(letter).items()}),
    ):
        text.append(f"\n{title}", "cyan")
        for name, value in facts.items():
            if value is not None:
                text.append(f"\n  {printable(name):<16} ", "dim").append(printable(str(value)))
    text.append("\nits body, ", "cyan").append(f"{len(letter.message.body):,} bytes\n", "cyan")
    text.append(_body(letter.message.body)).append("\n")
    one = shlex.quote(letter_id(letter))
    if letter.recording is not None:
        text.append(f"to see it die again: warren dead show {one} --recording FILE; warren replay FILE\n", "dim")
    return text.append(f"to replay it: warren dead replay {one}", "dim")


def letter_data(letter: DeadLetter) -> dict[str, Any]:
    """A line of the list, for `--json`."""
    return {
        "id": letter.id,
        "plugin": letter.plugin,
        "action": letter.action,
        "outcome": letter.outcome,
        "error": letter.error,
        "attempts": letter.attempts,
        "worker": letter.worker,
        "version": letter.version,
        "version_requirement": letter.version_requirement,
        "died": None if letter.died_ms is None else _time(letter.died_ms),
        "trace_id": letter.trace_id,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "reply_to": letter.reply_to,
        "recording_bytes": None if letter.recording is None else len(letter.recording),
    }


def page_data(letter: DeadLetter) -> dict[str, Any]:
    """All of it, for `--json`. `body` is its JSON; where it is none, `body_base64` has the bytes."""
    message = letter.message
    headers = {name: _plain(value) for name, value in _headers(letter).items()}
    data = letter_data(letter) | {"properties": _properties(message), "headers": headers}
    try:
        return data | {"body": from_json(message.body)}
    except ValueError:
        return data | {"body_base64": base64.b64encode(message.body).decode()}


def _headers(letter: DeadLetter) -> dict[str, Any]:
    """Without the recording: that is packed, and has a place of its own."""
    return {name: value for name, value in letter.message.headers.items() if name != Header.RECORDING}


def _death(letter: DeadLetter) -> dict[str, Any]:
    died = None if letter.died_ms is None else f"{_time(letter.died_ms)}, {_age(letter)} ago"
    return {
        "outcome": letter.outcome,
        "error": letter.error,
        "plugin": f"{letter.plugin} {letter.version or ''}".strip(),
        "action": letter.action,
        "attempts": letter.attempts,
        "died": died,
        "worker": letter.worker or "none had a word to say: the broker gave it up",
        "trace id": letter.trace_id,
        "recording": None if letter.recording is None else f"of its run, {len(letter.recording):,} bytes packed",
    }


def _origin(letter: DeadLetter) -> dict[str, Any]:
    gone = " (that caller has stopped waiting; a replay answers nobody)" if letter.answers_nobody else ""
    unknown = "nothing tells where it was published, so it cannot be replayed"
    return {
        "exchange": unknown if letter.exchange is None else letter.exchange or "(the default exchange)",
        "routing key": letter.routing_key,
        "reply to": None if letter.reply_to is None else f"{letter.reply_to}{gone}",
        "version asked for": letter.version_requirement,
    }


def _properties(message: Message) -> dict[str, Any]:
    published = None if message.timestamp_s is None else _safe_time(message.timestamp_s)
    return {
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "type": message.type,
        "content_type": message.content_type,
        "timestamp": published,
        **{name: _plain(value) for name, value in message.other.items()},
    }


def _field(value: Any) -> str:
    return value if isinstance(value, str) else json_text(_plain(value))


def _plain(value: Any) -> Any:
    """A header's value as JSON can say it: bytes that are not text are escaped."""
    match value:
        case bytes():
            return value.decode(errors="backslashreplace")
        case dict():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value


def _body(body: bytes) -> str:
    try:
        return json_text(from_json(body), indent=2)
    except ValueError:
        return "\n".join(map(printable, body.decode(errors="backslashreplace").split("\n")))


def _age(letter: DeadLetter) -> str:
    if letter.died_ms is None:
        return "?"
    return age(int(time.time()) - letter.died_ms // 1_000)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat(timespec="seconds")


def _safe_time(seconds: int) -> str:
    """A publisher's time, which may be any number."""
    try:
        return _time(seconds * 1_000)
    except (ValueError, OverflowError, OSError):
        return str(seconds)
