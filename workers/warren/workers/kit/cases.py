"""Cases: requests to a plugin and what has to come of them, as its author writes them down, without any Python.

    plugin = "hello"                        # may be left out where there is only one

    [given]                                 # what the plugin finds, in all cases of the file
    settings = { unit = "C" }

    [[cases]]
    name = "greets by name"
    action = "greet"
    data = { name = "Ada" }
    given = { time = 2026-01-01T00:00:00Z } # and in this one
    expect = { result = { greeting = "Hello, Ada!" }, max_fuel = 100_000 }

    [[cases]]
    name = "greets once"

    [[cases.steps]]                         # several requests, one after the other
    action = "greet"
    data = { name = "Ada" }

    [[cases.steps]]
    action = "greet"
    data = { name = "Ada" }
    expect = { outcome = "failed", error = "you again" }

They stand in files `*.case.toml`. What `expect` does not mention may be anything, but for the outcome, which is `ok`;
what `given` does not mention is as it is anywhere. How an outcome is held against it is in `judging`.

Rejected: fixtures by name that cases refer to. Whoever reads a case would have to look in two places, and there is one
word that is shared already: what all cases of the file are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, StrictFloat, StrictInt, StrictStr

from warren.manifests import Capability, ManifestError, Problem
from warren.manifests.document import Document, read_document, values_without_json
from warren.manifests.findings import Finding, place
from warren.manifests.forms import Form
from warren.manifests.lines import Path as Place
from warren.manifests.manifest import Seconds, Section, Variable
from warren.manifests.parse import validated
from warren.plugins import RunKind
from warren.plugins.testing import VirtualClock

PATTERN: Final = "*.case.toml"

#: How a request can end; with what its case gives it, a plugin may not even be loaded.
CaseKind = RunKind | Literal["not_loaded"]

Item = TypeVar("Item")


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return text


def _some(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Not by `min_length`, which counts the items that are right, and is told beside what is wrong with the others."""
    if not items:
        raise ValueError("there has to be one at least")
    return items


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("a time has a date and an offset, and no quotes: 2026-01-01T00:00:00Z")
    VirtualClock(value)
    return value


class FakedAnswer(Section):
    """What a request over HTTP is answered with; in `url` and `method` a `*` stands for anything."""

    method: StrictStr = "GET"
    url: StrictStr
    status: Annotated[StrictInt, Field(ge=100, le=599)] = 200
    headers: Mapping[StrictStr, StrictStr] = {}
    body: StrictStr | None = None
    json_: Annotated[Any, Field(alias="json")] = None


class Ceilings(Section):
    """What lowers the plugin's limits, in the words of a manifest's `[resources]`."""

    memory_mb: Annotated[StrictInt, Field(ge=1)] | None = None
    max_fuel: Annotated[StrictInt, Field(ge=1)] | None = None
    timeout_seconds: Seconds | None = None


class Given(Section):
    """What the plugin finds. What is None is not mentioned, and as it is anywhere."""

    settings: Mapping[StrictStr, Any] = {}
    environment: Mapping[Variable, StrictStr] | None = None
    deny: tuple[Capability, ...] = ()
    resources: Ceilings = Ceilings()
    time: Annotated[datetime, PlainValidator(_moment)] | None = None
    http: tuple[FakedAnswer, ...] | None = None
    storage: Mapping[StrictStr, Any] | None = None

    def over(self, shared: Given) -> Given:
        """Both: tables key by key, and lists one after the other, with this one's word first."""
        both = {
            "settings": {**shared.settings, **self.settings},
            "environment": _both(shared.environment, self.environment),
            "deny": self.deny + shared.deny,
            "resources": shared.resources.model_copy(update=self.resources.model_dump(exclude_unset=True)),
            "time": self.time or shared.time,
            "http": None if self.http is shared.http is None else (self.http or ()) + (shared.http or ()),
            "storage": _both(shared.storage, self.storage),
        }
        return self.model_copy(update=both)


def _both(shared: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if shared is own is None else {**(shared or {}), **(own or {})}


class ExpectedMessage(Section):
    """A message that the plugin sends: to one plugin, or by a topic."""

    to: StrictStr | None = None
    topic: StrictStr | None = None
    payload: Any = None


class ExpectedRequest(Section):
    """A request that the plugin makes over HTTP."""

    method: StrictStr | None = None
    url: StrictStr | None = None
    headers: Mapping[StrictStr, StrictStr] | None = None
    body: StrictStr | None = None
    json_: Annotated[Any, Field(alias="json")] = None


class Expected(Section):
    """What has to come of a request.

    `result` is the whole answer, and `includes` what it has among other things: of an object its members, of an array
    each item in its place. `logs` are parts of lines, in their order, among others; `messages`, `host_calls`, `http`
    and `storage` are all that there are.
    """

    outcome: CaseKind = "ok"
    result: Any = None
    includes: Any = None
    error: StrictStr | None = None
    error_matches: Annotated[StrictStr, AfterValidator(_regular_expression)] | None = None
    logs: tuple[StrictStr, ...] = ()
    messages: tuple[ExpectedMessage, ...] | None = None
    host_calls: tuple[StrictStr, ...] | None = None
    http: tuple[ExpectedRequest, ...] | None = None
    storage: Mapping[StrictStr, Any] | None = None
    max_fuel: Annotated[StrictInt, Field(ge=1)] | None = None


class Step(Section):
    """One request; without `data` it has none. The clock goes on by `after_seconds` before it."""

    action: StrictStr
    data: Any = None
    after_seconds: Annotated[StrictFloat, Field(gt=0)] | None = None
    expect: Expected = Expected()


class Case(Section):
    """One request, or several `steps` on the same clock and storage."""

    name: StrictStr
    action: StrictStr | None = None
    data: Any = None
    given: Given = Given()
    expect: Expected = Expected()
    steps: Annotated[tuple[Step, ...], AfterValidator(_some)] | None = None

    @property
    def requests(self) -> tuple[Step, ...]:
        """The steps; a case without any is one itself."""
        return self.steps or (Step(action=self.action or "", data=self.data, expect=self.expect),)


class _CaseFile(Section):
    plugin: StrictStr | None = None
    given: Given = Given()
    cases: Annotated[tuple[Case, ...], AfterValidator(_some)]


@dataclass(frozen=True, slots=True)
class Cases:
    """A file of them. `plugin` is the name of the plugin they are for, if it says so."""

    path: Path
    plugin: str | None
    cases: tuple[Case, ...]


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
    findings = [*_not_json(document), *_misplaced(document)]
    file = validated(_CaseFile, Form(document.tables, {}, {}, ()), document, findings)
    cases = (case.model_copy(update={"given": case.given.over(file.given)}) for case in file.cases)
    return Cases(path, file.plugin, tuple(cases))


def _not_json(document: Document) -> Iterator[Finding]:
    for path, reason in values_without_json(document.tables):
        if path[-2:] != ("given", "time") or len(path) not in {2, 4}:
            yield Finding(path, f"{place(path)} {reason}")


def _misplaced(document: Document) -> Iterator[Finding]:
    """What is wrong with keys that are right in themselves, but not together."""
    shared = document.tables.get("given")
    if isinstance(shared, dict):
        yield from _bodies(("given", "http"), shared.get("http"))
    for index, case in enumerate(_tables(document.tables.get("cases"))):
        given = case.get("given")
        path: Place = ("cases", index)
        if isinstance(given, dict):
            yield from _bodies((*path, "given", "http"), given.get("http"))
        times = [one["time"] for one in (given, shared) if isinstance(one, dict) and "time" in one]
        yield from _of_case(path, case, times[0] if times else None)


def _of_case(path: Place, case: dict[str, Any], time: object) -> Iterator[Finding]:
    if "steps" not in case:
        if "action" not in case:
            yield Finding((*path, "action"), f"missing key {place((*path, 'action'))}", "or several [[cases.steps]]")
        return
    for key in ("action", "data", "expect"):
        if key in case:
            yield Finding(
                (*path, key), f"{place((*path, key))} has no meaning in a case with 'steps'", "give it to a step"
            )
    steps = _tables(case["steps"])
    for index, step in enumerate(steps):
        where = (*path, "steps", index, "after_seconds")
        if "after_seconds" in step and time is None:
            yield Finding(
                where, f"{place(where)} moves a clock that is the machine's", "give the case a time: given.time"
            )
        elif "after_seconds" in step and (reason := _beyond(time, steps[: index + 1])):
            yield Finding(where, f"{place(where)}: {reason}")


def _beyond(time: object, steps: list[dict[str, Any]]) -> str | None:
    """Why the clock cannot go on for so long; None if it can, or if its time is wrong anyway."""
    waits = [step["after_seconds"] for step in steps if isinstance(step.get("after_seconds"), int | float)]
    try:
        clock = VirtualClock(_moment(time))
    except ValueError:
        return None
    try:
        clock.advance(sum(waits))
    except (ValueError, OverflowError) as error:
        return str(error)
    return None


def _bodies(path: Place, answers: object) -> Iterator[Finding]:
    for index, answer in enumerate(_tables(answers)):
        if "body" in answer and "json" in answer:
            where = (*path, index, "json")
            yield Finding(where, f"{place(where)} is a second body beside 'body'", "keep one of them")


def _tables(value: object) -> list[dict[str, Any]]:
    """The items of a list that are tables; what is something else is told elsewhere."""
    return [one if isinstance(one, dict) else {} for one in value] if isinstance(value, list) else []
