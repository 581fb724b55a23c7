"""One loaded version of a plugin: its manifest, its grant, its sandbox, and what has become of its runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from warren.manifests import Grant, Manifest

from .actions import Actions
from .errors import GuestFault
from .files import PluginFiles
from .outcome import Outcome
from .sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What `list_plugins` tells of one plugin; `last_loaded` is in seconds since the epoch."""

    name: str
    version: str
    description: str
    status: str
    execution_count: int
    failure_count: int
    last_loaded: float
    last_error: str | None


class Plugin:
    """One loaded version of a plugin."""

    def __init__(
        self, manifest: Manifest, granted: Grant, files: PluginFiles, sandbox: Sandbox, actions: Actions
    ) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self.version = str(manifest.version)
        self.grant = granted
        self.files = files
        self._sandbox = sandbox
        self._actions = actions
        self._last_loaded = time.time()
        self._execution_count = 0
        self._failure_count = 0
        self._last_error: str | None = None

    async def run(self, request: bytes, *, timeout_s: float | None = None) -> Outcome:
        """Run one request in a sandbox of its own; see `Sandbox.run`. `rejected` when the manifest's actions say so."""
        try:
            typed_action = self._actions.check_request(request)
        except GuestFault as fault:
            return self._counted(Outcome(fault.kind, error=fault.reason, start_ns=time.time_ns()))
        outcome = await self._sandbox.run(request, timeout_s=timeout_s)
        if typed_action is not None and outcome.kind == "ok":
            try:
                self._actions.check_response(typed_action, outcome.response)
            except GuestFault as fault:
                outcome = replace(outcome, kind=fault.kind, error=fault.reason, response=b"", messages=())
        return self._counted(outcome)

    def _counted(self, outcome: Outcome) -> Outcome:
        self._execution_count += 1
        if outcome.kind not in ("ok", "failed"):
            self._failure_count += 1
            self._last_error = outcome.error
        return outcome

    async def shut_down(self) -> Outcome:
        """Let a guest run the plugin's `shutdown`."""
        return await self._sandbox.shutdown()

    def info(self) -> PluginInfo:
        return PluginInfo(
            self.name,
            self.version,
            self.manifest.description,
            "loaded",
            self._execution_count,
            self._failure_count,
            self._last_loaded,
            self._last_error,
        )
