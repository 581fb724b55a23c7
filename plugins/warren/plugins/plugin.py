"""One loaded version of a plugin: its manifest, its grant, its sandbox, and what has become of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace

from warren.manifests import Grant, Manifest, Quarantine

from .actions import Actions
from .errors import GuestFault, UpgradeParked
from .files import Identity, PluginFiles
from .outcome import Outcome, Trail
from .quarantine import Closed, RefusedRuns
from .recording import Recording
from .sandbox import Sandbox
from .usage import PluginStatus, Usage, percentile

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What `list_plugins` tells of one version of a plugin.

    The counters are of this version since it was first loaded, and go on when it is loaded again. `failure_count`
    counts runs that gave no answer, `load_count` the times it was loaded, and `last_loaded` is in seconds since the
    epoch. `last_error` is the last since then, of a run or of what should have taken its place (then it is `stale`).
    The percentiles are over the latest 512 runs; None before the first.
    """

    name: str
    version: str
    description: str
    status: PluginStatus
    execution_count: int
    failure_count: int
    load_count: int
    last_loaded: float
    last_error: str | None
    fuel_p50: int | None
    fuel_p99: int | None
    memory_bytes_p50: int | None
    memory_bytes_p99: int | None


def parked_info(parked: UpgradeParked) -> PluginInfo:
    """The same of an upgrade that waits to be approved: it has not been run."""
    name, version = parked.manifest.name, str(parked.manifest.version)
    nothing: tuple[None, None, None, None] = (None, None, None, None)
    return PluginInfo(name, version, parked.manifest.description, "parked", 0, 0, 0, 0.0, parked.reason, *nothing)


@dataclass(frozen=True, slots=True)
class PluginHealth:
    """What a fresh guest said of itself; `reason` is a sentence when it is not well."""

    healthy: bool
    reason: str | None = None


class Plugin:
    """One loaded version of a plugin. `digest` is that of the files it was loaded from."""

    def __init__(
        self,
        manifest: Manifest,
        granted: Grant,
        files: PluginFiles,
        sandbox: Sandbox,
        actions: Actions,
        *,
        digest: bytes,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self.version = str(manifest.version)
        self.identity = Identity(self.name, self.version)
        self.grant = granted
        self.files = files
        self.digest = digest
        self.usage = Usage()
        self.abi = sandbox.abi.name
        self._sandbox = sandbox
        self._actions: Actions | Closed = actions
        self._refused_runs = None if quarantine is None else RefusedRuns(quarantine)
        self._quarantined: str | None = None
        self._in_flight = 0
        self._idle: asyncio.Event | None = None

    async def run(
        self,
        request: bytes,
        *,
        timeout_s: float | None = None,
        depth: int = 0,
        trail: Trail | None = None,
        shadow: bool = False,
    ) -> Outcome:
        """Run one request in a sandbox of its own; see `Sandbox.run`. `rejected` when the manifest's actions say so.

        As a `shadow` it has no effect outside: raises `NotForShadows` when it would have, and changes nothing then.
        """
        try:
            typed_action = self._actions.check_request(request)
        except GuestFault as fault:
            return self._counted(Outcome(fault.kind, error=fault.reason, start_ns=time.time_ns()))
        self._in_flight += 1
        try:
            if shadow:
                outcome = await self._sandbox.run_shadow(request, timeout_s=timeout_s)
            else:
                outcome = await self._sandbox.run(request, timeout_s=timeout_s, depth=depth, trail=trail)
        finally:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()
        if typed_action is not None and outcome.kind == "ok":
            try:
                self._actions.check_response(typed_action, outcome.response)
            except GuestFault as fault:
                error = self._sandbox.masked(fault.reason)  # it quotes the answer
                outcome = replace(outcome, kind=fault.kind, error=error, response=b"", messages=(), topic_changes=())
        return self._counted(outcome)

    def recording(self, request: bytes, outcome: Outcome) -> Recording:
        """The run of `request` that ended so, as `replay` can run it again. No secret is in it."""
        return self._sandbox.recording(self.identity, self.digest, request, outcome)

    @property
    def in_flight(self) -> int:
        """Runs under way."""
        return self._in_flight

    def _counted(self, outcome: Outcome) -> Outcome:
        self.usage.add(outcome)
        if outcome.audit and self._refused_runs is not None and self._refused_runs.are_too_many_with(outcome):
            self.quarantine(self._refused_runs.sentence(self.identity))
        return outcome

    @property
    def quarantined(self) -> str | None:
        """Why it is run no more, in a sentence; None while it is."""
        return self._quarantined

    def quarantine(self, reason: str) -> None:
        """Run it no more: what it is asked for is `rejected`. Runs under way end as they would."""
        if isinstance(self._actions, Closed):
            return
        _log.error("%s", reason)
        self._quarantined = reason
        self._actions = Closed(self._actions, reason)

    async def health(self) -> PluginHealth:
        """Ask a fresh guest whether it is healthy. One that cannot start, or cannot say, is not."""
        if self._quarantined is not None:
            return PluginHealth(healthy=False, reason=self._quarantined)
        outcome = await self._sandbox.check()
        return PluginHealth(outcome.kind == "ok", outcome.error)

    async def retire(self, grace_s: float) -> Outcome:
        """Let a guest run the plugin's `shutdown`, once no run is under way or `grace_s` has gone by. For once only.

        One in quarantine is not run for that, either.
        """
        if self._in_flight:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace_s)
        return await self._sandbox.shutdown() if self._quarantined is None else Outcome("ok")

    def info(self) -> PluginInfo:
        usage = self.usage
        fuel, memory_bytes = usage.fuel(), usage.memory_bytes()
        return PluginInfo(
            name=self.name,
            version=self.version,
            description=self.manifest.description,
            status=usage.status if self._quarantined is None else "quarantined",
            execution_count=usage.execution_count,
            failure_count=usage.failure_count,
            load_count=usage.load_count,
            last_loaded=usage.last_loaded,
            last_error=self._quarantined or usage.last_error,
            fuel_p50=percentile(fuel, 50),
            fuel_p99=percentile(fuel, 99),
            memory_bytes_p50=percentile(memory_bytes, 50),
            memory_bytes_p99=percentile(memory_bytes, 99),
        )
