"""Judging: what came of a request, held against what its case expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from warren.plugins import Outcome
from warren.plugins.testing import WebRequest

from ..differences import differences
from .cases import CaseKind, Expected, ExpectedMessage, ExpectedRequest


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What is not as it was expected, for people: `expected` and `actual` are values of JSON."""

    what: str
    expected: Any
    actual: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a request: its outcome, what it asked over HTTP, and what is stored after it.

    Of a plugin that could not be loaded the outcome has nothing but the reason.
    """

    outcome: Outcome
    requests: Sequence[WebRequest] = ()
    stored: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_loaded: bool = True

    @property
    def kind(self) -> CaseKind:
        return self.outcome.kind if self.is_loaded else "not_loaded"


def judge(expected: Expected, ended: Ended) -> list[Mismatch]:
    """All that is not as it was expected; nothing if it holds."""
    outcome = ended.outcome
    said = from_json(outcome.response) if outcome.response else {}
    error = said.get("error") if outcome.error is None else outcome.error
    return [
        Mismatch(what, wanted, got)
        for what, wanted, got, holds in (
            *_of_the_answer(expected, ended.kind, said.get("result"), error),
            *_of_what_it_did(expected, ended),
        )
        if not holds
    ]


#: What is compared, what was expected, what there is, and whether it holds.
Comparison = tuple[str, Any, Any, bool]


def _of_the_answer(expected: Expected, kind: CaseKind, result: Any, error: str | None) -> Iterator[Comparison]:
    written = expected.model_fields_set
    if expected.outcome != kind:
        told = kind if error is None else f"{kind}: {error}"
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


def _of_what_it_did(expected: Expected, ended: Ended) -> Iterator[Comparison]:
    outcome = ended.outcome
    lines = [line.text for line in outcome.logs]
    if expected.logs:
        yield "log lines with", list(expected.logs), lines, _in_order(expected.logs, lines)
    if expected.messages is not None:
        wanted, sent = _written(expected.messages), _sent(outcome)
        yield "messages", wanted, sent, _includes(sent, wanted)
    if expected.host_calls is not None:
        called = [call.name for call in outcome.host_calls]
        yield "host calls", list(expected.host_calls), called, list(expected.host_calls) == called
    if expected.http is not None:
        asked = _written(expected.http)
        made = _made(ended.requests, {key for one in asked for key in one})
        yield "http requests", asked, made, _includes(made, asked)
    if expected.storage is not None:
        stored = dict(ended.stored)
        yield "storage", expected.storage, stored, not differences(expected.storage, stored)
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


def _written(expected: Sequence[ExpectedMessage | ExpectedRequest]) -> list[dict[str, Any]]:
    """What is said of each, in the words of the file. The names of headers have no case."""
    told = [one.model_dump(exclude_unset=True, by_alias=True) for one in expected]
    return [
        {**one, "headers": {name.lower(): value for name, value in one["headers"].items()}} if "headers" in one else one
        for one in told
    ]


def _sent(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {"to": message.to, "topic": message.topic, "payload": from_json(message.payload)}
        for message in outcome.messages
    ]


def _made(requests: Sequence[WebRequest], keys: set[str]) -> list[dict[str, Any]]:
    """What there is of each request to tell, besides method and URL only what is asked for."""
    return [
        {key: value for key, value in _told(request).items() if key in keys | {"method", "url"}} for request in requests
    ]


def _told(request: WebRequest) -> dict[str, Any]:
    body = request.body.decode(errors="replace")
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "body": body,
        "json": _parsed(body),
    }


def _parsed(body: str) -> Any:
    try:
        return from_json(body)
    except ValueError:
        return None
