"""What is loaded for a test: the plugin, as the test has it, and those that it may call, as a worker has them.

It is a manager in small, by the same keeper and the same loader. What differs is what the plugin under test is granted
and given, and whom host functions reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from warren.manifests import Capability, Limits, Manifest, Policy, grant, runtime_version
from warren.manifests.policy import SomeLimits

from ..checks import CheckedPlugin, check_plugin
from ..errors import LoadFailed
from ..files import OnDisk, PluginFiles, find_plugins, read_pair
from ..keeper import Keeper
from ..loading import Loader
from ..plugin import Plugin
from ..reconcile import Load, plan
from ..storage.errors import QuotaExceeded
from ..storage.memory import MemoryStorage


@dataclass(frozen=True, slots=True)
class Subject:
    """The plugin under test, and what it does not have as its manifest and the policy say.

    `settings` go over the manifest's, and `ceilings` lower its limits. `denied` is taken out of what it asks for, also
    where it is required: a worker would not load it, and a test of what it does without could not be.
    """

    files: PluginFiles
    denied: frozenset[Capability] = frozenset()
    ceilings: SomeLimits = field(default_factory=SomeLimits)
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stored: Mapping[str, Any] = field(default_factory=dict[str, Any])


class SubjectLoader(Loader):
    """Loads the subject with what the test says of it, and everybody else as ever."""

    def __init__(
        self, subject: Subject, contents: MemoryStorage, policy: Policy, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(policy, *arguments, **options)
        #: In the place of the manifest's, if they are not None.
        self.settings: Mapping[str, Any] | None = None
        self._subject = subject
        self._contents = contents
        self._stored = dict(subject.stored)
        self._lowered = _lowered(policy, subject.ceilings)

    async def check(self, files: PluginFiles) -> CheckedPlugin:
        if files != self._subject.files:
            return await super().check(files)
        # What is denied may be required, and is taken out of that only now.
        undenied = replace(self._lowered, capabilities=self._lowered.capabilities | self._subject.denied)
        return self._regranted(await asyncio.to_thread(check_plugin, files, undenied))

    async def prepare(self, files: PluginFiles, checked: CheckedPlugin) -> Plugin:
        if files == self._subject.files:
            await self._store(checked)
        return await super().prepare(files, checked)

    async def _store(self, checked: CheckedPlugin) -> None:
        """What it has stored already. Once: what becomes of it then is the plugin's affair."""
        stored, self._stored = self._stored, {}
        write = partial(self._contents.write, quota_bytes=checked.grant.limits.storage_bytes, timeout_s=1)
        for key, value in stored.items():
            try:
                await write(checked.manifest.name, key.encode(), to_json(value))
            except QuotaExceeded as error:
                raise LoadFailed(str(self._subject.files.manifest), f"cannot have stored that: {error}") from error

    def _regranted(self, checked: CheckedPlugin) -> CheckedPlugin:
        denied, asked = self._subject.denied, checked.manifest.capabilities
        capabilities = asked.model_copy(
            update={
                "required": tuple(one for one in asked.required if one not in denied),
                "optional": tuple(one for one in asked.optional if one not in denied),
            }
        )
        settings = {**checked.manifest.settings, **self._subject.settings} if self.settings is None else self.settings
        update: dict[str, Any] = {"capabilities": capabilities, "settings": dict(settings)}
        manifest: Manifest = checked.manifest.model_copy(update=update)
        return replace(checked, manifest=manifest, grant=grant(manifest, self._lowered, runtime_version()))


class Testbed:
    """Loads the subject, and with it those in `folder` that it may call. For one event loop."""

    def __init__(
        self,
        loader: SubjectLoader,
        keeper: Keeper,
        subject: Subject,
        *,
        folder: Path | None,
        storage: MemoryStorage,
    ) -> None:
        self._loader = loader
        self._keeper = keeper
        self._files = subject.files
        self._folder = folder
        self._storage = storage

    def loaded(self) -> Plugin | None:
        """The one under test, while it is there."""
        return self._keeper.loaded_from(self._files)

    async def load(self, settings: Mapping[str, Any] | None = None) -> Plugin:
        """Load it, with these settings in the place of its manifest's. Again: load it anew.

        Raises `ManifestError` or `LoadFailed`, also for one that it may call, and for any manifest in the folder; what
        was loaded before is there still.
        """
        self._loader.settings = settings
        if self._folder is not None and self.loaded() is None:
            await self._load_folder(self._folder)
            if (plugin := self.loaded()) is not None:
                return plugin
        return await self._keeper.load(self._files)

    async def _load_folder(self, folder: Path) -> None:
        found = await asyncio.to_thread(self._needed, folder)
        await self._keeper.load_all([step for step in plan(found, self._keeper.standing()) if isinstance(step, Load)])
        for _, refusal in sorted(self._keeper.refusals.items(), key=lambda item: item[0].wasm):
            raise refusal.error

    def _needed(self, folder: Path) -> list[OnDisk]:
        """The pair under test, and those that it may call, and that they may."""
        others = [(files, files.read_manifest()) for files in find_plugins(folder) if not self._is_subject(files)]
        names = _callees(self._files.read_manifest(), [manifest for _, manifest in others])
        return [
            read_pair(files) for files in (self._files, *(one for one, manifest in others if manifest.name in names))
        ]

    def _is_subject(self, files: PluginFiles) -> bool:
        """However the folder's path is written."""
        return files.wasm.absolute() == self._files.wasm.absolute()

    def stored(self) -> dict[str, Any]:
        """What it has in its storage. Raises ValueError before it is loaded."""
        plugin = self.loaded()
        if plugin is None:
            raise ValueError("the plugin has not been loaded yet")
        return {key.decode(): from_json(value) for key, value in self._storage.contents(plugin.name).items()}

    async def close(self) -> None:
        """Let each plugin run its `shutdown`. Idempotent."""
        await self._keeper.close()


def _callees(caller: Manifest, others: Sequence[Manifest]) -> set[str]:
    """The names of all that it depends on, and that those do."""
    names: set[str] = set()
    coming = [caller]
    while coming:
        new = {one.name for one in coming.pop().dependencies} - names
        names |= new
        coming += [manifest for manifest in others if manifest.name in new]
    return names


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
