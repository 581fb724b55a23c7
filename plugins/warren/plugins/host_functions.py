"""Embedders' own host functions: typed Python functions, which guests call by name.

    @host_function(needs="network")
    async def forecast(city: str, days: int = 1, *, run: HostRun) -> list[Weather]: ...

How a call's JSON becomes arguments can be read from the signature:

    def f(city: str, days: int = 1)    an object, each parameter a key of it; what has a default may be left out
    def f(order: Order, /)             the whole value, whatever it is: a parameter without a name has no key
    run: HostRun                       the run that calls; no part of the JSON

Every parameter and the result have types, and pydantic holds both sides to them: strictly, as JSON says it ("5" is no
`int`, but "2026-03-01" is a `date`). A guest that gives something else reads `invalid_arguments`, with where and what.
A result that is not what was promised is the embedder's mistake, which is logged; the guest reads nothing of it.

What a decorator gives back is called as before, so that a function is tested as any other.

Rejected: to find out the capability that a function needs from what it does. Who writes it knows, and says so.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import Parameter
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import to_json

from warren.manifests import Capability

from .errors import GuestFault, HostFunctionError, HostFunctionRefused
from .host import HostFunction, HostSession, changes_nothing
from .module import shown

CAPABILITIES: Final[tuple[Capability, ...]] = get_args(Capability)

#: Calls of functions `in_thread` that are under way at once in a process; more of them wait, on their runs' time.
THREADS: Final = 16

_threads: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="host function")

P = ParamSpec("P")
R = TypeVar("R")


class HostRun:
    """The run that calls a host function. Of no use after the function has returned."""

    __slots__ = ("_function", "_session")

    def __init__(self, session: HostSession, function: str) -> None:
        self._session = session
        self._function = function

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return self._session.grant.plugin

    @property
    def depth(self) -> int:
        """The number of plugins that the request came through to this one."""
        return self._session.depth

    @property
    def remaining_s(self) -> float:
        """What is left of the run's time; a coroutine is cancelled when there is nothing left."""
        return self._session.remaining_s

    def used(self, asked: str) -> None:
        """Note in the audit what the guest got; that it called a function which needs a capability is noted already."""
        self._session.used(self._function, asked)

    def refuse(self, asked: str, reason: str) -> NoReturn:
        """End the run as `denied`, and note it in the audit: the guest asked for what it may not have."""
        self._session.refused(self._function, asked, reason)
        raise GuestFault("denied", f"{self._function}: {reason}")


class EmbedderFunction(Generic[P, R]):
    """What `host_function` makes: calling it calls the Python function, and `host_function` is it as guests call it.

    `needs` are the capabilities that a plugin must have been granted, `signature` is for people.
    """

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        needs: frozenset[Capability],
        *,
        changes_nothing: bool,
        in_thread: bool,
    ) -> None:
        """Raises `HostFunctionRefused`."""
        self.function = function
        self.name = name
        self.needs = needs
        self.changes_nothing = changes_nothing
        self.in_thread = in_thread
        if not name.isidentifier() or not name.isascii():
            raise HostFunctionRefused(name, "its name is not an identifier; give it one with `name=`")
        if unknown := sorted(needs.difference(CAPABILITIES)):
            reason = f"it needs {unknown[0]!r}, which is no capability; there are {', '.join(CAPABILITIES)}"
            raise HostFunctionRefused(name, reason)
        if in_thread and inspect.iscoroutinefunction(function):
            raise HostFunctionRefused(name, "a coroutine function cannot run `in_thread`, and need not")
        hints = _hints(name, function)
        self._parameters = _Parameters(name, function, hints)
        self._result = _adapter(name, hints)
        self.signature = f"{name}{_signature(function, hints)}"
        self.__doc__ = function.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def host_function(self) -> HostFunction:
        """It as guests call it."""

        def called(session: HostSession, arguments: Any) -> Any:
            self._check_granted(session)
            positional, named = self._parameters.read(session, arguments)
            call = partial(self.function, *positional, **named)
            if self.in_thread:
                running = contextvars.copy_context().run
                return self._awaited(asyncio.get_running_loop().run_in_executor(_threads, running, call))
            value: Any = call()
            return self._awaited(value) if isinstance(value, Awaitable) else self._as_json(value)

        return changes_nothing(called) if self.changes_nothing else called

    def _check_granted(self, session: HostSession) -> None:
        missing = self.needs - session.grant.capabilities
        for capability in sorted(missing or self.needs):
            if missing:
                reason = f"the plugin may not call {self.name!r}: it has not been granted the capability {capability!r}"
                session.refused(capability, self.name, reason)
                raise GuestFault("denied", reason)
            session.used(capability, self.name)

    async def _awaited(self, value: Awaitable[Any]) -> Any:
        return self._as_json(await value)

    def _as_json(self, value: Any) -> Any:
        """Raises pydantic's own error for what is not the result that was promised."""
        return self._result.dump_python(self._result.validate_python(value, strict=True), mode="json")


class _Parameters:
    """The parameters of one function, as a model of the JSON that they are read from."""

    def __init__(self, name: str, function: Callable[..., Any], hints: Mapping[str, Any]) -> None:
        parameters = inspect.signature(function).parameters
        self._name = name
        self._positional = [one for one, parameter in parameters.items() if _has_no_name(parameter)]
        self._run = [one for one in parameters if hints.get(one) is HostRun]
        self._read = [one for one in parameters if one not in self._run]
        for one in self._read:
            if parameters[one].kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                raise HostFunctionRefused(name, f"*{one} cannot be read from JSON: name each parameter")
            if one not in hints:
                raise HostFunctionRefused(name, f"the parameter {one!r} has no type")
        self._is_whole = any(one in self._positional for one in self._read)
        if self._is_whole and len(self._read) > 1:
            reason = "a parameter that stands before `/` is the whole of what a guest gives, so there can be no other"
            raise HostFunctionRefused(name, reason)
        self._model = self._make_model(parameters, hints)

    def _make_model(self, parameters: Mapping[str, Parameter], hints: Mapping[str, Any]) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for number, one in enumerate(self._read):
            default = parameters[one].default
            field = Field(alias=one) if default is Parameter.empty else Field(default, alias=one)
            fields[f"p{number}"] = (hints[one], field)  # a parameter may be called what a model's attribute is
        try:
            return create_model(self._name, __config__=ConfigDict(extra="forbid"), **fields)
        except PydanticUserError as error:
            raise HostFunctionRefused(self._name, f"pydantic cannot read its parameters: {error.message}") from None

    def read(self, session: HostSession, arguments: Any) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with. Raises `HostFunctionError` for what does not fit."""
        if self._is_whole:
            arguments = {self._read[0]: arguments}
        elif arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict):
            keys = f"an object of {', '.join(self._read)}" if self._read else "no arguments"
            raise HostFunctionError("invalid_arguments", f"{self._name} takes {keys}")
        try:
            # From JSON once more: strict means something else for Python's own values, of which a date is one.
            read = self._model.model_validate_json(to_json(arguments), strict=True)
        except ValidationError as error:
            raise HostFunctionError("invalid_arguments", self._faults(error)) from None
        values = {one: getattr(read, f"p{number}") for number, one in enumerate(self._read)}
        values |= {one: HostRun(session, self._name) for one in self._run}
        return [values.pop(one) for one in self._positional], values

    def _faults(self, error: ValidationError) -> str:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        first = faults[0]
        place = ".".join(str(part) for part in first["loc"][1 if self._is_whole else 0 :])
        what = "there is no such argument" if first["type"] == "extra_forbidden" else first["msg"]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return f"{self._name}: {f'{shown(place)}: ' if place else ''}{what}{more}"


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """The types, by parameter."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        reason = f"its types cannot be read: {error}; they have to stand in its module"
        raise HostFunctionRefused(name, reason) from None


def _adapter(name: str, hints: Mapping[str, Any]) -> TypeAdapter[Any]:
    if "return" not in hints:
        raise HostFunctionRefused(name, "its result has no type: where it gives none, write `-> None`")
    try:
        return TypeAdapter(hints["return"])
    except PydanticUserError as error:
        raise HostFunctionRefused(name, f"pydantic cannot write its result: {error.message}") from None


class _Verbatim(str):
    """A type, as its source has it."""

    __slots__ = ()
    __repr__ = str.__str__


def _signature(function: Callable[..., Any], hints: Mapping[str, Any]) -> inspect.Signature:
    """What guests can give, and get."""

    def readable(annotation: Any) -> Any:
        return _Verbatim(annotation) if isinstance(annotation, str) else annotation

    whole = inspect.signature(function)
    given = [
        parameter.replace(annotation=readable(parameter.annotation))
        for name, parameter in whole.parameters.items()
        if hints.get(name) is not HostRun
    ]
    return whole.replace(parameters=given, return_annotation=readable(whole.return_annotation))


def _has_no_name(parameter: Parameter) -> bool:
    return parameter.kind is Parameter.POSITIONAL_ONLY


def host_function(
    *,
    name: str | None = None,
    needs: Capability | Collection[Capability] = (),
    changes_nothing: bool = False,
    in_thread: bool = False,
) -> Callable[[Callable[P, R]], EmbedderFunction[P, R]]:
    """Make a Python function one that guests can call, by its own name or by `name`. See the head of this module.

    A plugin has to have been granted each capability that it `needs`: a call without ends the run as `denied`. Shadows
    may call it if it `changes_nothing` outside the run. A coroutine function is cancelled when its run is over.

    A plain function keeps the whole process waiting while it runs: no guest, no message, no deadline. One that may
    block is to run `in_thread`, 16 at once in a process. A thread cannot be stopped: its run ends in time and without
    it, and what it does is done all the same.

    Raises `HostFunctionRefused` for a function whose parameters or result cannot be JSON, or have no types.
    """
    wanted = frozenset[Capability]([needs] if isinstance(needs, str) else needs)

    def decorate(function: Callable[P, R]) -> EmbedderFunction[P, R]:
        known = name or getattr(function, "__name__", "") or type(function).__name__
        return EmbedderFunction(function, known, wanted, changes_nothing=changes_nothing, in_thread=in_thread)

    return decorate


def with_embedders(
    standard: Mapping[str, HostFunction], functions: Iterable[EmbedderFunction[..., Any]]
) -> dict[str, HostFunction]:
    """All functions by name. Raises `HostFunctionRefused` for two of one name: none takes another's place."""
    by_name = dict(standard)
    for one in functions:
        if one.name in by_name:
            whose = "is Warren's own" if one.name in standard else "was given twice"
            raise HostFunctionRefused(one.name, f"a host function of this name {whose}; give it another with `name=`")
        by_name[one.name] = one.host_function
    return by_name
