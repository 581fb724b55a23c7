"""The functions of a plugin, by what they are for."""

import json
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, TypedDict, TypeVar, overload

from .failure import Failure
from .world import as_json

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: What the action `on_message` is given: an event of a topic that the manifest subscribes to, where `to` is None, or
#: what another plugin sent to this one. `timestamp` is such as 2026-03-01T12:00:00.000Z.
Message = TypedDict("Message", {"from": str, "to": str | None, "topic": str, "payload": Any, "timestamp": str})


class Config(TypedDict):
    """What `initialize` is given: [settings] of the manifest, limits, the names of what was granted, and variables."""

    settings: dict[str, Any]
    resources: dict[str, Any]
    capabilities: list[str]
    environment: dict[str, str]


_actions: dict[str, Callable[[Any], Any]] = {}
_hooks: dict[str, Callable[..., Any]] = {}


@overload
def action(name: str, /) -> Callable[[_Function], _Function]: ...
@overload
def action(function: _Function, /) -> _Function: ...
def action(of: Any, /) -> Any:
    """Have the function answer the action of its name, or of another: `@action("some-name")`.

    It takes the request's data and gives back the result. Raises `ValueError`, and so fails the build, where the action
    has a function already, and `TypeError` for an async one: the host's functions answer at once.
    """
    if not isinstance(of, str):
        return action(of.__name__)(of)

    def decorate(function: _Function) -> _Function:
        if of in _actions:
            raise ValueError(f"there are two functions for the action {of!r}")
        if iscoroutinefunction(function):
            raise TypeError(f"the function for the action {of!r} is async, and nothing here waits")
        _actions[of] = function
        return function

    return decorate


def initialize(function: _Function) -> _Function:
    """Have the function take the `Config` before each request; what it raises fails the load."""
    return _hook("initialize", function)


def health_check(function: _Function) -> _Function:
    """Have the function say, when the plugin is loaded, that all is well; it raises where it is not."""
    return _hook("health_check", function)


def shutdown(function: _Function) -> _Function:
    """Have the function called when the plugin is unloaded."""
    return _hook("shutdown", function)


def _hook(name: str, function: _Function) -> _Function:
    if name in _hooks:
        raise ValueError(f"there are two functions to {name}")
    _hooks[name] = function
    return function


def hooks() -> list[str]:
    """Those that the plugin has."""
    return list(_hooks)


def answer(name: str, data: str) -> str:
    """What the action's function makes of the data; both are JSON. Raises what it raises."""
    if (function := _actions.get(name)) is None:
        raise Failure(f"unknown action: {name}")
    return as_json(function(json.loads(data)))


def call_hook(name: str, *arguments: str) -> None:
    """Call it with what the JSON says; nothing, where the plugin has none."""
    if (function := _hooks.get(name)) is not None:
        function(*map(json.loads, arguments))
