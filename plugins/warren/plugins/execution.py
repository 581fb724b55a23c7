"""`execute_plugin`: one action with values instead of bytes, and exceptions instead of outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from .errors import (
    HostUnavailable,
    InvalidInput,
    PluginFailed,
    PluginTrapped,
    RequestRejected,
    ResourceLimit,
    RunFailed,
    SecurityViolation,
    UnexpectedAnswer,
)
from .outcome import RunKind
from .plugin import Plugin

T = TypeVar("T")

#: Every outcome without a result, and what it is raised as.
RAISED: Final[Mapping[RunKind, type[RunFailed]]] = MappingProxyType(
    {
        "failed": PluginFailed,
        "trap": PluginTrapped,
        "out_of_fuel": ResourceLimit,
        "out_of_memory": ResourceLimit,
        "deadline_exceeded": ResourceLimit,
        "output_too_large": ResourceLimit,
        "denied": SecurityViolation,
        "rejected": RequestRejected,
        "unavailable": HostUnavailable,
    }
)


class _Answer(BaseModel, Generic[T]):
    result: T


async def execute(plugin: Plugin, action: str, value: Any, output: Any, *, timeout_s: float | None = None) -> Any:
    """See `PluginManager.execute_plugin`."""
    outcome = await plugin.run(_request(plugin.name, action, value), timeout_s=timeout_s)
    if outcome.kind != "ok":
        reason = from_json(outcome.response)["error"] if outcome.kind == "failed" else None
        raise RAISED[outcome.kind](plugin.name, plugin.version, action, outcome, reason)
    if output is None:
        return from_json(outcome.response)["result"]
    try:
        return _answer_of(output).model_validate_json(outcome.response).result
    except ValidationError as error:
        reason = f"the answer is not what was asked for: {_first_problem(error)}"
        raise UnexpectedAnswer(plugin.name, plugin.version, action, outcome, reason) from error


def _request(plugin: str, action: str, value: Any) -> bytes:
    try:
        request = to_json({"action": action, "data": value})
        if b"NaN" in request or b"Infinity" in request:  # inside text, most likely: the parser knows
            from_json(request, allow_inf_nan=False)
    except ValueError as error:  # `PydanticSerializationError` is one
        raise InvalidInput(plugin, action, str(error)) from error
    return request


@lru_cache(maxsize=256)
def _answer_of(output: Any) -> type[_Answer[Any]]:
    return _Answer[output]


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"at {place}: {problem['msg']}"
