"""What a manifest's `[actions]` promise: which actions there are, and the shape of what goes in and comes out.

A plugin that declares no actions decides for itself. The validators are compiled once, at load; references to other
documents are refused, so that a schema never makes the host read a file or open a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs
from pydantic_core import from_json

from warren.manifests import Manifest

from .errors import GuestFault, LoadFailed
from .module import shown

#: The action under which a guest receives events and direct messages; it needs no declaration.
ON_MESSAGE: Final = "on_message"

#: References within one schema. Each may double the work of those before it, and validating is under no time limit: 52
#: made it seconds for each request, and 32 cost at most some milliseconds.
MAX_REFERENCES: Final = 32

#: Characters of a sentence about data that does not fit; it quotes the data, which can be a megabyte.
MAX_PROBLEM_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class _Schemas:
    request: jsonschema_rs.Validator | None
    response: jsonschema_rs.Validator | None


class Actions:
    """The declared actions of one plugin."""

    def __init__(self, manifest: Manifest, source: str) -> None:
        """Raises `LoadFailed` when a schema is not one."""
        self._schemas: Mapping[str, _Schemas] = {
            name: _Schemas(
                _compile(action.request, f"{source}: [actions.{name}] request"),
                _compile(action.response, f"{source}: [actions.{name}] response"),
            )
            for name, action in manifest.actions.items()
        }

    def check_request(self, request: bytes) -> str | None:
        """The action asked for, when it is declared with a schema for its answer. Raises `GuestFault` (`rejected`)."""
        if not self._schemas:
            return None
        value = _parsed(request)
        action = value.get("action")
        if action == ON_MESSAGE:
            return None
        schemas = self._schemas.get(action) if isinstance(action, str) else None
        if schemas is None:
            known = ", ".join(self._schemas)
            raise GuestFault("rejected", f"unknown action {shown(str(action))}; the plugin has: {known}")
        if schemas.request and (problem := _first_problem(schemas.request, value.get("data"))):
            raise GuestFault("rejected", f"the data of {action!r} does not match its schema: {problem}")
        return str(action) if schemas.response else None

    def check_response(self, action: str, response: bytes) -> None:
        """Raises `GuestFault` (`trap`) when a successful answer is not what the plugin promised."""
        validator = self._schemas[action].response
        if validator and (problem := _first_problem(validator, _parsed(response).get("result"))):
            raise GuestFault("trap", f"the guest's answer to {action!r} does not match its schema: {problem}")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise GuestFault("rejected", f"the request is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise GuestFault("rejected", "the request is not a JSON object")
    return value


def _first_problem(validator: jsonschema_rs.Validator, value: Any) -> str | None:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        problem = f"at {place.lstrip('.')}: {error.message}" if place else error.message
        return problem if len(problem) <= MAX_PROBLEM_LENGTH else f"{problem[:MAX_PROBLEM_LENGTH]}…"
    return None


def _compile(schema: Mapping[str, Any] | None, source: str) -> jsonschema_rs.Validator | None:
    if schema is None:
        return None
    if (references := _references(schema)) > MAX_REFERENCES:
        raise LoadFailed(source, f"has {references} references; at most {MAX_REFERENCES} are allowed")
    try:
        # The linear regular expressions: the others can be made to backtrack by whoever writes the data.
        return jsonschema_rs.validator_for(
            dict(schema), retriever=_refuse_reference, pattern_options=jsonschema_rs.RegexOptions()
        )
    except jsonschema_rs.ValidationError as error:
        raise LoadFailed(source, f"not a JSON Schema: {error.message}") from error


def _references(schema: Any) -> int:
    match schema:
        case Mapping():
            here = "$ref" in schema or "$dynamicRef" in schema
            return here + sum(map(_references, schema.values()))
        case list() | tuple():
            return sum(map(_references, schema))
    return 0


def _refuse_reference(uri: str) -> Any:
    message = f"references to other documents are not followed: {uri}"
    raise ValueError(message)
