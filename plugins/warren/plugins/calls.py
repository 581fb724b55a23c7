"""The host function `call_plugin`: a plugin has one of its dependencies do something, and waits for the answer.

    {"plugin": ..., "action": ..., "data": ..., "version_req": optional}  ->  the answer's `result`, or an error

It runs in this process where a fitting version is loaded, in a sandbox, under the grant and within the limits that are
the callee's own; else wherever `Elsewhere` has it run. The caller is suspended meanwhile, on its own time: what it has
left bounds the callee, too. What the callee publishes is the caller's to answer for: held back with its messages,
counted with them, dropped with them. (Elsewhere it is the other worker's business, and done when the call returns.)

Whom a plugin may call, its manifest says. To call anybody else is a breach, not an error. How deep calls of calls go is
counted from the first request, across processes, so that plugins which call each other come to an end; and a callee has
slots that no caller of it can take (`instance_pool.CALL_SLOTS`), so that callers never wait for each other's.

Rejected: to charge the callee's fuel to its caller. A plugin would have to ask for the fuel of all that it may call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from warren.manifests import InvalidValue, VersionReq, is_action_name

from .actions import ON_MESSAGE
from .errors import GuestFault, HostFunctionError, PluginNotFound
from .host import HostSession, as_json, invalid_arguments
from .instance_pool import MAX_CALL_DEPTH
from .module import shown
from .outcome import Outcome, Trail
from .plugin import Plugin

CALL_PLUGIN: Final = "call_plugin"


@dataclass(frozen=True, slots=True)
class PluginCall:
    """A call of a plugin that is not loaded here.

    `requirement` is all that is asked of its version, `depth` the number of plugins that the call comes through,
    `trail` the place of the callee's run in the caller's trace, if there is one.
    """

    plugin: str
    action: str
    data: Any
    requirement: VersionReq
    timeout_s: float
    depth: int
    trail: Trail | None


class Elsewhere(Protocol):
    """Has plugins run that are not loaded in this process. Calls may run concurrently; a cancelled one is given up."""

    async def call(self, call: PluginCall) -> Outcome:
        """How it ended. What keeps it from being run is an outcome, too: nothing is raised."""
        ...


class PluginCalls:
    """The host function. `find` gives the loaded version of a plugin, as `PluginManager.find` does."""

    def __init__(self, find: Callable[[str, VersionReq], Plugin], *, depth: int = MAX_CALL_DEPTH) -> None:
        """Raises ValueError for a depth that there are no slots for."""
        if not 0 <= depth <= MAX_CALL_DEPTH:
            raise ValueError(f"plugins can call each other 0 to {MAX_CALL_DEPTH} deep, not {depth}")
        self.elsewhere: Elsewhere | None = None
        self._find = find
        self._depth = depth

    async def __call__(self, session: HostSession, arguments: Any) -> Any:
        """Raises `GuestFault` for a breach, and `HostFunctionError` for every end that is no result."""
        wanted = _read(arguments)
        requirement = _requirement(session, wanted)
        if session.depth >= self._depth:
            reason = f"the call comes through {session.depth + 1} plugins already"
            session.refused(CALL_PLUGIN, wanted.plugin, reason)
            raise HostFunctionError("too_deep", reason)
        session.used(CALL_PLUGIN, wanted.plugin)
        outcome = await self._run(session, wanted, requirement)
        if outcome.kind == "ok":
            return from_json(outcome.response)["result"]
        ended = f"{wanted.plugin} ended as {outcome.kind}"
        if outcome.kind == "failed":  # what it says then is its own, secrets and all: for its caller, not for the trace
            raise HostFunctionError("failed", from_json(outcome.response)["error"] or ended, told=ended)
        raise HostFunctionError(outcome.kind, outcome.error or ended)

    async def _run(self, session: HostSession, wanted: _Arguments, requirement: VersionReq) -> Outcome:
        trail = session.trail and session.trail.step()
        depth = session.depth + 1
        try:
            plugin = self._find(wanted.plugin, requirement)
        except PluginNotFound as error:
            if self.elsewhere is None:
                return Outcome("rejected", error=str(error))
            call = PluginCall(wanted.plugin, wanted.action, wanted.data, requirement, session.remaining_s, depth, trail)
            outcome = await self.elsewhere.call(call)
            session.adopt(wanted.plugin, None, outcome, trail)
            return outcome
        request = as_json({"action": wanted.action, "data": wanted.data})
        outcome = await plugin.run(request, timeout_s=session.remaining_s, depth=depth, trail=trail)
        session.adopt(plugin.name, plugin.version, outcome, trail)
        return outcome


class _Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    plugin: str
    action: str
    data: Any = None
    version_req: str | None = None


def _read(arguments: Any) -> _Arguments:
    try:
        wanted = _Arguments.model_validate(arguments)
    except ValidationError as error:
        raise invalid_arguments(CALL_PLUGIN, error) from None
    if not is_action_name(wanted.action):
        raise _invalid(f"'action' cannot be an action: {shown(wanted.action)}")
    if wanted.action == ON_MESSAGE:  # whose sender the callee may believe
        raise _invalid(f"{ON_MESSAGE!r} is for messages: use send_message")
    return wanted


def _requirement(session: HostSession, wanted: _Arguments) -> VersionReq:
    """What the manifest says and what the call says, together."""
    declared = session.grant.may_call(wanted.plugin)
    if declared is None:
        reason = f"the plugin may not call {shown(wanted.plugin)}: it is none of its [[plugin.dependencies]]"
        session.refused(CALL_PLUGIN, wanted.plugin, reason)
        raise GuestFault("denied", reason)
    if wanted.version_req is None:
        return declared
    try:
        asked = VersionReq.parse(wanted.version_req)
    except InvalidValue as error:
        raise _invalid(str(error)) from None
    named = {one.numbers for one in declared.comparators if one.pre is not None}
    if any(one.pre is not None and one.numbers not in named for one in asked.comparators):
        # To name a pre-release lets it in, and the call can only leave out what the manifest lets in.
        raise _invalid("'version_req' names a pre-release that the dependency does not")
    return VersionReq((*declared.comparators, *asked.comparators))


def _invalid(reason: str) -> HostFunctionError:
    return HostFunctionError("invalid_arguments", f"call_plugin: {reason}")
