"""PluginTestFramework: what a plugin is tested with, said step by step, as the guide has it.

A capability that is denied is taken out of the manifest, also where the plugin requires it: a worker would not load it,
and a test of what it does without could not be.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self, get_args

from pydantic_core import to_json

from warren.manifests import Capability, Limits, Manifest, Policy, grant, runtime_version
from warren.manifests.policy import SomeLimits

from ..audit import Audit
from ..checks import CheckedPlugin
from ..errors import LoadFailed
from ..files import PluginFiles
from ..host import STANDARD_FUNCTIONS
from ..loading import Loader
from ..network_request import HTTP_REQUEST
from ..plugin import Plugin
from ..plugin_folder import PluginFolders
from ..storage import Storage, StorageFunctions
from ..storage.memory import MemoryStorage
from .fakes import DEFAULT_START_S, FakeWeb, VirtualClock
from .subject import PluginUnderTest, SyncPluginUnderTest

#: What its author asks for, the plugin gets, if the test does not say otherwise.
DEFAULT_POLICY: Final = Policy(capabilities=frozenset(get_args(Capability)))


class PluginTestFramework:
    """Each step gives the framework itself back; `build` or `build_sync` ends them."""

    def __init__(self) -> None:
        self._wasm: Path | None = None
        self._manifest: Path | None = None
        self._policy = DEFAULT_POLICY
        self._denied: set[Capability] = set()
        self._ceilings: SomeLimits = {}
        self._web = FakeWeb()
        self._stored: dict[str, Any] = {}
        self._start_s: float = DEFAULT_START_S
        self._without_asyncio: list[SyncPluginUnderTest] = []

    def plugin_path(self, path: Path | str) -> Self:
        """The `.wasm`. Its manifest is the `.toml` beside it, if `manifest_path` does not say otherwise."""
        self._wasm = Path(path)
        return self

    def manifest_path(self, path: Path | str) -> Self:
        self._manifest = Path(path)
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

    def fake_http(
        self, method: str, url: str, body: Any = b"", *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Self:
        """What a request is answered with. `*` in the URL stands for anything, and so does the method `*`.

        `body` is bytes, text, or else sent as JSON. Of several answers that fit, the one said last is given. The URL is
        held against the plugin's own with a path, `/` at the least, and no port that goes without saying.
        """
        self._web.answer(method, url, body, status=status, headers=headers or {})
        return self

    def fake_storage(self, contents: Mapping[str, Any]) -> Self:
        """What the plugin has stored already: values of JSON by their keys."""
        self._stored.update(contents)
        return self

    def start_time(self, start_s: float) -> Self:
        """What time it is in the beginning, in seconds since the epoch; `clock.advance` moves it on."""
        self._start_s = start_s
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
        clock = VirtualClock(self._start_s)
        storage = MemoryStorage(clock.now_ns)
        folder = Path(tempfile.mkdtemp(prefix="warren-test-"))
        functions = _InMemory(storage)
        loader = Loader(
            _lowered(replace(self._policy, capabilities=self._policy.capabilities | self._denied), self._ceilings),
            {
                **STANDARD_FUNCTIONS,
                **functions.by_name(),
                HTTP_REQUEST: self._web.http_request(),
                "get_time": clock.get_time(),
            },
            audit=Audit(),
            folders=PluginFolders(folder),
            storage=functions,
            secret_folders=(),
        )
        policy, denied, stored = _lowered(self._policy, self._ceilings), frozenset(self._denied), dict(self._stored)

        async def load(settings: Mapping[str, Any] | None) -> Plugin:
            checked = _regranted(await loader.check(files), policy, denied, settings)
            if not storage.contents(checked.manifest.name):
                for key, value in stored.items():
                    quota_bytes = checked.grant.limits.storage_bytes
                    await storage.write(
                        checked.manifest.name, key.encode(), to_json(value), quota_bytes=quota_bytes, timeout_s=1
                    )
            return await loader.prepare(files, checked)

        built = PluginUnderTest(load, clock, self._web, storage)
        weakref.finalize(built, shutil.rmtree, folder, ignore_errors=True)
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


def _lowered(policy: Policy, ceilings: SomeLimits) -> Policy:
    """With no limit above the ceilings, whatever a capability or a rule raises it to."""

    def lowered(limits: SomeLimits) -> Any:
        known: Mapping[str, Any] = ceilings
        return {name: min(value, known.get(name, value)) for name, value in limits.items()}

    return replace(
        policy,
        limits=replace(policy.limits, **_below(policy.limits, ceilings)),
        capability_limits={name: lowered(limits) for name, limits in policy.capability_limits.items()},
        rules=policy.rules and tuple(replace(rule, ceilings=lowered(rule.ceilings)) for rule in policy.rules),
    )


def _below(limits: Limits, ceilings: SomeLimits) -> dict[str, Any]:
    return {name: min(getattr(limits, name), value) for name, value in ceilings.items()}


def _regranted(
    checked: CheckedPlugin, policy: Policy, denied: frozenset[Capability], settings: Mapping[str, Any] | None
) -> CheckedPlugin:
    """With what is denied taken out of what it asks for, and these settings."""
    asked = checked.manifest.capabilities
    capabilities = asked.model_copy(
        update={
            "required": tuple(one for one in asked.required if one not in denied),
            "optional": tuple(one for one in asked.optional if one not in denied),
        }
    )
    update: dict[str, Any] = {"capabilities": capabilities}
    if settings is not None:
        update["settings"] = dict(settings)
    manifest: Manifest = checked.manifest.model_copy(update=update)
    return replace(checked, manifest=manifest, grant=grant(manifest, policy, runtime_version()))
