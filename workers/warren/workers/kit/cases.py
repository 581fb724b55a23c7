"""Cases: requests to a plugin and what has to come of them, as its author writes them down, without any Python.

    plugin = "hello"                        # may be left out where there is only one

    [[cases]]
    name = "greets by name"
    action = "greet"
    data = { name = "Ada" }
    expect = { result = { greeting = "Hello, Ada!" }, max_fuel = 100_000 }

    [[cases]]
    name = "needs a name"
    action = "greet"
    expect = { outcome = "failed", error = "there is nobody to greet" }

They stand in files `*.case.toml`. What `expect` does not mention may be anything, but for the outcome, which is `ok`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StrictInt, StrictStr
from pydantic_core import from_json

from warren.manifests import ManifestError, Problem
from warren.manifests.document import Document, read_document, values_without_json
from warren.manifests.findings import Finding, place
from warren.manifests.forms import Form
from warren.manifests.manifest import Section
from warren.manifests.parse import validated
from warren.plugins import Outcome, RunKind

from ..differences import differences

PATTERN: Final = "*.case.toml"


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return text


class ExpectedMessage(Section):
    """A message that the plugin sends: to one plugin, or by a topic."""

    to: StrictStr | None = None
    topic: StrictStr | None = None
    payload: Any = None


class Expected(Section):
    """What has to come of a request.

    `result` is the whole answer, and `includes` what it has among other things: of an object its members, of an array
    each item in its place. `logs` are parts of lines, in their order, among others; `messages` and `host_calls` are all
    that there are.
    """

    outcome: RunKind = "ok"
    result: Any = None
    includes: Any = None
    error: StrictStr | None = None
    error_matches: Annotated[StrictStr, AfterValidator(_regular_expression)] | None = None
    logs: tuple[StrictStr, ...] = ()
    messages: tuple[ExpectedMessage, ...] | None = None
    host_calls: tuple[StrictStr, ...] | None = None
    max_fuel: Annotated[StrictInt, Field(ge=1)] | None = None


class Case(Section):
    """One request; without `data` it has none."""

    name: StrictStr
    action: StrictStr
    data: Any = None
    expect: Expected = Expected()


class _CaseFile(Section):
    plugin: StrictStr | None = None
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Cases:
    """A file of them. `plugin` is the name of the plugin they are for, if it says so."""

    path: Path
    plugin: str | None
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What is not as it was expected, for people: `expected` and `actual` are values of JSON."""

    what: str
    expected: Any
    actual: Any


def find_cases(folder: Path) -> tuple[Cases, ...]:
    """Those in the folder, and in the folders right below it. Raises `ManifestError` with all that is wrong."""
    found: list[Cases] = []
    problems: list[Problem] = []
    paths = (path for pattern in (PATTERN, f"*/{PATTERN}") for path in folder.glob(pattern))
    for path in sorted(path for path in paths if not path.parent.name.startswith(".")):
        try:
            found.append(read_cases(path.read_bytes(), path))
        except ManifestError as error:
            problems.extend(error.problems)
    if problems:
        raise ManifestError(problems)
    return tuple(found)


def read_cases(data: bytes, path: Path) -> Cases:
    """The cases that a file says. Raises `ManifestError` with all problems, each with its line."""
    document = read_document(data, str(path))
    file = validated(_CaseFile, Form(document.tables, {}, {}, ()), document, _not_json(document))
    return Cases(path, file.plugin, file.cases)


def _not_json(document: Document) -> Iterator[Finding]:
    for path, reason in values_without_json(document.tables):
        yield Finding(path, f"{place(path)} {reason}")


def judge(expected: Expected, outcome: Outcome) -> list[Mismatch]:
    """All that is not as it was expected; nothing if the case holds."""
    said = from_json(outcome.response) if outcome.response else {}
    error = said.get("error") if outcome.error is None else outcome.error
    return [
        Mismatch(what, wanted, got)
        for what, wanted, got, holds in _comparisons(expected, outcome, said.get("result"), error)
        if not holds
    ]


def _comparisons(
    expected: Expected, outcome: Outcome, result: Any, error: str | None
) -> Iterator[tuple[str, Any, Any, bool]]:
    written = expected.model_fields_set
    if expected.outcome != outcome.kind:
        told = outcome.kind if error is None else f"{outcome.kind}: {error}"
        yield "outcome", expected.outcome, told, False
    if "result" in written:
        yield "result", expected.result, result, not differences(expected.result, result)
    if "includes" in written:
        yield "part of the result", expected.includes, result, _includes(result, expected.includes)
    if expected.error is not None:
        yield "error", expected.error, error, expected.error == error
    if expected.error_matches is not None:
        matches = error is not None and re.search(expected.error_matches, error) is not None
        yield "error that matches", expected.error_matches, error, matches
    lines = [line.text for line in outcome.logs]
    if expected.logs:
        yield "log lines with", list(expected.logs), lines, _in_order(expected.logs, lines)
    if expected.messages is not None:
        wanted, sent = _wanted(expected.messages), _sent(outcome)
        yield "messages", wanted, sent, len(wanted) == len(sent) and _includes(sent, wanted)
    if expected.host_calls is not None:
        called = [call.name for call in outcome.host_calls]
        yield "host calls", list(expected.host_calls), called, list(expected.host_calls) == called
    if expected.max_fuel is not None:
        yield "fuel, at most", expected.max_fuel, outcome.fuel, outcome.fuel <= expected.max_fuel


def _includes(whole: Any, part: Any) -> bool:
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and _includes(whole[name], value) for name, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return len(whole) == len(part) and all(map(_includes, whole, part))
    return not differences(part, whole)


def _in_order(parts: tuple[str, ...], lines: list[str]) -> bool:
    rest = iter(lines)
    return all(any(part in line for line in rest) for part in parts)


def _wanted(messages: tuple[ExpectedMessage, ...]) -> list[dict[str, Any]]:
    return [message.model_dump(exclude_unset=True) for message in messages]


def _sent(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {"to": message.to, "topic": message.topic, "payload": from_json(message.payload)}
        for message in outcome.messages
    ]
