"""PluginTestFramework: what a plugin is tested with, said step by step, as the guide has it.

What a test does not speak of is made up: nobody is asked over HTTP, and the time stands still. `live_http` and
`live_world` take the real thing instead, which is what a case of `warren test` has where it does not speak of it.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

from warren.manifests import Capability, Policy, VersionReq
from warren.manifests.policy import SomeLimits

from ..audit import Audit
from ..calls import CALL_PLUGIN, PluginCalls
from ..errors import LoadFailed
from ..files import PluginFiles
from ..host import STANDARD_FUNCTIONS, HostFunction, HostSession
from ..host_functions import EmbedderFunction, with_embedders
from ..keeper import DEFAULT_MAX_PLUGINS, Keeper
from ..network import HttpRequests
from ..network_request import HTTP_REQUEST
from ..plugin import Plugin
from ..plugin_folder import PluginFolders
from ..storage import Storage, StorageFunctions
from ..storage.memory import MemoryStorage
from ..upgrades import Upgrades
from .fakes import FakeWeb
from .subject import PluginUnderTest, SyncPluginUnderTest
from .testbed import Subject, SubjectLoader, Testbed
from .virtual import DEFAULT_START_S, VirtualClock, VirtualSession, VirtualWorld

#: What is loaded for a test, and is not, its test tells; nobody needs to read it in the log of all else.
_log = logging.getLogger(f"{__package__}.keeper")


class PluginTestFramework:
    """Each step gives the framework itself back; `build` or `build_sync` ends them."""

    def __init__(self) -> None:
        self._wasm: Path | None = None
        self._manifest: Path | None = None
        self._folder: Path | None = None
        self._policy: Policy | None = None
        self._denied: set[Capability] = set()
        self._ceilings: SomeLimits = {}
        self._settings: dict[str, Any] = {}
        self._variables: dict[str, str] | None = None
        self._secrets: tuple[Path, ...] = ()
        self._functions: tuple[EmbedderFunction[..., Any], ...] = ()
        self._web: FakeWeb | None = FakeWeb()
        self._stored: dict[str, Any] = {}
        self._start: datetime | float | None = DEFAULT_START_S
        self._without_asyncio: list[SyncPluginUnderTest] = []

    def plugin_path(self, path: Path | str) -> Self:
        """The `.wasm`. Its manifest is the `.toml` beside it, if `manifest_path` does not say otherwise."""
        self._wasm = Path(path)
        return self

    def manifest_path(self, path: Path | str) -> Self:
        self._manifest = Path(path)
        return self

    def other_plugins(self, folder: Path | str) -> Self:
        """Where those are that it may call: they are loaded with it, by the same clock and on the same web."""
        self._folder = Path(folder)
        return self

    def security_policy(self, policy: Policy) -> Self:
        """The operator's, in the place of one that grants whatever a manifest asks for."""
        self._policy = policy
        return self

    def deny_capability(self, capability: Capability) -> Self:
        """Raises ValueError for what is no capability."""
        if capability not in get_args(Capability):
            raise ValueError(f"{capability!r} is no capability; there are {', '.join(get_args(Capability))}")
        self._denied.add(capability)
        return self

    def memory_limit(self, memory_bytes: int) -> Self:
        """Linear memory, in bytes; like all limits here it only lowers what the plugin would have."""
        self._ceilings["memory_bytes"] = _positive("memory_limit", memory_bytes)
        return self

    def fuel_limit(self, max_fuel: int) -> Self:
        """Of one run."""
        self._ceilings["max_fuel"] = _positive("fuel_limit", max_fuel)
        return self

    def timeout_duration(self, timeout: timedelta | float) -> Self:
        """Of one run, in seconds if it is a number."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        self._ceilings["timeout_s"] = _positive("timeout_duration", seconds)
        return self

    def settings(self, values: Mapping[str, Any]) -> Self:
        """Over those of its manifest, by their names; what `initialize_plugin` is given is in the place of both."""
        self._settings.update(values)
        return self

    def environment(self, variables: Mapping[str, str]) -> Self:
        """The variables that there are to be granted, in the place of this process's."""
        self._variables = {**(self._variables or {}), **variables}
        return self

    def secret_folders(self, *folders: Path) -> Self:
        """Where files may be that settings name as their secrets."""
        self._secrets = folders
        return self

    def host_functions(self, *functions: EmbedderFunction[..., Any]) -> Self:
        """What it can call besides Warren's own; see `host_function`."""
        self._functions = functions
        return self

    def fake_http(
        self, method: str, url: str, body: Any = b"", *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Self:
        """What a request is answered with. `*` in the URL stands for anything, and so does the method `*`.

        `body` is bytes, text, or else sent as JSON. Of several answers that fit, the one said last is given. The URL is
        held against the plugin's own, which has no port that goes without saying.
        """
        self._web = self._web or FakeWeb()
        self._web.answer(method, url, body, status=status, headers=headers or {})
        return self

    def live_http(self) -> Self:
        """Nothing is faked: whom the plugin may ask is asked."""
        self._web = None
        return self

    def fake_storage(self, contents: Mapping[str, Any]) -> Self:
        """What the plugin has stored already: values of JSON by their keys."""
        self._stored.update(contents)
        return self

    def start_time(self, start: datetime | float) -> Self:
        """What time it is in the beginning, in seconds since the epoch if it is a number.

        `clock.advance` moves it on, and so does a plugin that sleeps. Raises ValueError for one before 1970 or after
        2199, or without a time zone.
        """
        VirtualClock(start)
        self._start = start
        return self

    def live_world(self) -> Self:
        """The machine's clocks and random numbers; to sleep takes as long as it says."""
        self._start = None
        return self

    async def build(self) -> PluginUnderTest:
        """The plugin, to be loaded by `initialize_plugin` or its first call. Raises `LoadFailed` without files."""
        return self._built()

    def build_sync(self) -> SyncPluginUnderTest:
        """The same for tests without asyncio."""
        self._without_asyncio.append(built := SyncPluginUnderTest(self._built()))
        return built

    def close(self) -> None:
        """Close what `build_sync` gave, as the fixture does. Idempotent."""
        while self._without_asyncio:
            self._without_asyncio.pop().close()

    def _built(self) -> PluginUnderTest:
        if self._wasm is None:
            raise ValueError("which plugin? say plugin_path() before it is built")
        files = PluginFiles(self._wasm, self._manifest or self._wasm.with_suffix(".toml"))
        for path in (files.wasm, files.manifest):
            if not path.is_file():
                raise LoadFailed(str(path), "there is no such file; plugin_path() and manifest_path() say where")
        subject = Subject(files, frozenset(self._denied), self._ceilings, dict(self._settings), dict(self._stored))
        clock = None if self._start is None else VirtualClock(self._start)
        storage = MemoryStorage(clock.now_ns if clock else time.time_ns)
        functions = _InMemory(storage)
        scratch = Path(tempfile.mkdtemp(prefix="warren-test-"))
        policy = self._policy or Policy(frozenset(get_args(Capability)), frozenset(self._variables or ()))

        def find(name: str, requirement: VersionReq) -> Plugin:
            return keeper.loaded.find(name, requirement)

        standard: dict[str, HostFunction] = {
            CALL_PLUGIN: PluginCalls(find),
            HTTP_REQUEST: self._web.http_request() if self._web else HttpRequests(),
            **functions.by_name(),
            **STANDARD_FUNCTIONS,
        }
        loader = SubjectLoader(
            subject,
            storage,
            policy,
            with_embedders(standard, self._functions),
            audit=Audit(),
            folders=PluginFolders(scratch),
            storage=functions,
            secret_folders=self._secrets,
            variables=os.environ if self._variables is None else dict(self._variables),
            session=partial(VirtualSession, VirtualWorld(clock)) if clock else HostSession,
        )
        keeper = Keeper(loader, Upgrades(policy), max_plugins=DEFAULT_MAX_PLUGINS, grace_s=0, log=_log)
        bed = Testbed(loader, keeper, subject, folder=self._folder, storage=storage)
        built = PluginUnderTest(bed, clock, self._web)
        weakref.finalize(built, shutil.rmtree, scratch, ignore_errors=True)
        return built


class _InMemory(StorageFunctions):
    def __init__(self, storage: MemoryStorage) -> None:
        super().__init__("sqlite:///unused")
        self._memory = storage

    async def open(self) -> Storage:
        return self._memory


def _positive(name: str, value: Any) -> Any:
    if value <= 0:
        raise ValueError(f"{name} has to be more than nothing, and is {value:g}")
    return value
