"""A plugin that is being tested: it is called, and tells what its last run did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from pydantic_core import from_json, to_json

from ..errors import InvalidInput
from ..execution import RAISED
from ..outcome import AuditEvent, LogLine, Outcome
from .fakes import FakeWeb, NotFaked, WebRequest
from .testbed import Testbed
from .virtual import VirtualClock

#: The one function of a plugin that answers requests, whatever its ABI calls it.
HANDLE_REQUEST: Final = "handle_request"


@dataclass(frozen=True, slots=True)
class PluginRequest:
    """What a plugin is asked; `data` is anything that has a form in JSON."""

    action: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class PluginResponse:
    """What it answered, and the whole outcome of that run."""

    success: bool
    result: Any
    error: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A host call. `answer` is what the guest was given; `error` what went wrong instead, be it the run's end."""

    name: str
    arguments: Any
    answer: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that would have been published now that its run has ended well."""

    to: str | None
    topic: str
    payload: Any


class PluginUnderTest:
    """See `PluginTestFramework`. For one event loop, and one call at a time."""

    def __init__(self, bed: Testbed, clock: VirtualClock | None, web: FakeWeb | None) -> None:
        """Without a clock, or a web, it is the real one."""
        self._bed = bed
        self._clock = clock
        self._web = web
        self._outcome: Outcome | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the plugin run its `shutdown`, if it was loaded. Idempotent."""
        await self._bed.close()

    async def initialize_plugin(self, settings: Mapping[str, Any] | None = None) -> None:
        """Load it, with these settings in the place of its manifest's. Again: load it anew.

        Raises `ManifestError` or `LoadFailed`, which is what a failing `initialize` is, too.
        """
        await self._bed.load(settings)

    async def call_plugin_function(self, function: str, request: PluginRequest) -> PluginResponse:
        """Run one request in a sandbox of its own. `function` is `handle_request`: a plugin has no other.

        Without `initialize_plugin` it is loaded first, with its manifest's settings. An answer that says `success:
        false` is an answer; a run without one raises `SecurityViolation`, `ResourceLimit`, `PluginTrapped`,
        `RequestRejected` or `HostUnavailable`, with the outcome in it. Raises `NotFaked` for a URL without an answer.
        """
        if function != HANDLE_REQUEST:
            raise ValueError(f"a plugin answers requests by {HANDLE_REQUEST!r}, and by no {function!r}")
        plugin = self._bed.loaded() or await self._bed.load()
        outcome = await self.run(request)
        if self._web is not None and self._web.not_faked:
            asked = ", ".join(self._web.not_faked)
            raise NotFaked(f"{plugin.name} asked for {asked}: give it an answer by fake_http()")
        if outcome.kind not in {"ok", "failed"}:
            raise RAISED[outcome.kind](plugin.name, plugin.version, request.action, outcome)
        said = from_json(outcome.response)
        return PluginResponse(outcome.kind == "ok", said.get("result"), said.get("error"), outcome)

    async def run(self, request: PluginRequest) -> Outcome:
        """The same, without an exception for what came of it: a URL without an answer ends it as `unavailable`."""
        plugin = self._bed.loaded() or await self._bed.load()
        self._outcome = None
        if self._web is not None:
            self._web.begin()
        try:
            body = to_json({"action": request.action, "data": request.data}, inf_nan_mode="constants")
            from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise InvalidInput(plugin.name, request.action, str(error)) from error
        self._outcome = await plugin.run(body)
        return self._outcome

    @property
    def clock(self) -> VirtualClock:
        """The one that the plugin's time goes by. Raises ValueError if that is the machine's."""
        if self._clock is None:
            raise ValueError("live_world() was said: the clock is the machine's")
        return self._clock

    # What the last run did.

    @property
    def outcome(self) -> Outcome:
        """All of it. Raises ValueError before the first run."""
        if self._outcome is None:
            raise ValueError("the plugin has not been called yet")
        return self._outcome

    @property
    def logs(self) -> tuple[LogLine, ...]:
        return self.outcome.logs

    @property
    def audit(self) -> tuple[AuditEvent, ...]:
        return self.outcome.audit

    @property
    def messages(self) -> tuple[SentMessage, ...]:
        return tuple(SentMessage(one.to, one.topic, from_json(one.payload)) for one in self.outcome.messages)

    @property
    def host_calls(self) -> tuple[RecordedCall, ...]:
        """In their order, up to 1,000 of them and 1 MiB."""
        recorder = self.outcome.recorder
        return tuple(
            _recorded(event.name, event.asked, event.answer, None if event.fault is None else event.fault[1])
            for event in (() if recorder is None else recorder.events)
            if event.source == "host_call"
        )

    @property
    def http_requests(self) -> tuple[WebRequest, ...]:
        """Those that it was allowed to make. Raises ValueError if they were real."""
        if self._web is None:
            raise ValueError("live_http() was said: nobody sees the requests")
        return tuple(self._web.requests)

    @property
    def stored(self) -> dict[str, Any]:
        """What it has in its storage, now. Raises ValueError before it is loaded."""
        return self._bed.stored()


class SyncPluginUnderTest:
    """The same for tests without asyncio: what is a coroutine there is done at once. `plugin` tells what it did."""

    def __init__(self, plugin: PluginUnderTest) -> None:
        self.plugin = plugin
        self._runner = asyncio.Runner()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See `PluginUnderTest`; its event loop is closed, too. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        with self._runner:
            self._runner.run(self.plugin.close())

    def initialize_plugin(self, settings: Mapping[str, Any] | None = None) -> None:
        """See `PluginUnderTest`."""
        self._runner.run(self.plugin.initialize_plugin(settings))

    def call_plugin_function(self, function: str, request: PluginRequest) -> PluginResponse:
        """See `PluginUnderTest`."""
        return self._runner.run(self.plugin.call_plugin_function(function, request))


def _recorded(name: str, asked: bytes, answer: bytes | None, fault: str | None) -> RecordedCall:
    try:
        arguments = from_json(asked) if asked else None
    except ValueError:  # the guest's own mistake, of which `error` tells
        arguments = asked
    told = {} if answer is None else from_json(answer)
    error = told.get("error")
    return RecordedCall(name, arguments, told.get("ok"), fault if error is None else error["message"])
