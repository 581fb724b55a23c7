"""Making a plugin of two files: manifest, grant, module, compilation, `initialize`, health; all of it or nothing.

What comes out has met every condition, and is not yet found by anybody. Only a plugin that is being debugged may fail
to start: its runs are to tell why.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from warren.manifests import Policy

from .artefacts import cache_folder
from .audit import Audit
from .checks import CheckedPlugin, check_plugin, plugin_config
from .debugging import Debugging
from .engine import Engine
from .errors import CompilationFailed, LoadFailed, ModuleRefused
from .files import PluginFiles
from .host import HostFunction, HostSession, Surroundings
from .plugin import Plugin
from .plugin_folder import PluginFolder, PluginFolders
from .sandbox import Sandbox
from .secrets import SecretUnavailable, give
from .snapshot import take_snapshot
from .storage import StorageFunctions, StorageMisconfigured

_log = logging.getLogger(__name__)


class Loader:
    """Prepares plugins under one policy, with one set of host functions. Any number at once."""

    def __init__(
        self,
        policy: Policy,
        host_functions: Mapping[str, HostFunction],
        *,
        audit: Audit,
        folders: PluginFolders,
        storage: StorageFunctions,
        secret_folders: tuple[Path, ...],
        debugging: Debugging | None = None,
        variables: Mapping[str, str] = os.environ,
        session: Callable[..., HostSession] = HostSession,
    ) -> None:
        """`session` makes what the host knows of each run; `variables` are those that plugins may be granted."""
        self._policy = policy
        self._host_functions = host_functions
        self._audit = audit
        self._folders = folders
        self._storage = storage
        self._secret_folders = secret_folders
        self._debugging = debugging
        self._variables = variables
        self._session = session
        self._engine = Engine(cache_folder())

    async def check(self, files: PluginFiles) -> CheckedPlugin:
        """What can be found out without running it. Raises `ManifestError` or `LoadFailed`, each naming the file."""
        return await asyncio.to_thread(check_plugin, files, self._policy)

    async def prepare(self, files: PluginFiles, checked: CheckedPlugin) -> Plugin:
        """Raises `LoadFailed`, naming the file."""
        folder = await asyncio.to_thread(self._folders.folder, checked.grant, files)
        if "storage" in checked.grant.capabilities:
            await self._open_storage(files)
        try:
            sandbox = await self._sandbox(checked, folder)
        except ModuleRefused as error:
            raise LoadFailed(str(files.wasm), str(error)) from error
        except SecretUnavailable as error:
            raise LoadFailed(str(files.manifest), str(error), may_pass=True) from error
        except CompilationFailed as error:
            raise LoadFailed(str(files.wasm), str(error), may_pass=True) from error
        outcome = await sandbox.check()
        if outcome.kind != "ok":
            reason = outcome.error or outcome.kind
            if not self._is_debugged(checked):
                raise LoadFailed(str(files.wasm), reason)
            _log.warning("%s would be refused: %s", files.wasm, reason)
        return Plugin(
            checked.manifest,
            checked.grant,
            files,
            sandbox,
            checked.actions,
            digest=checked.digest,
            quarantine=self._policy.quarantine,
        )

    def _is_debugged(self, checked: CheckedPlugin) -> bool:
        return self._debugging is not None and self._debugging.plugin == checked.manifest.name

    async def _open_storage(self, files: PluginFiles) -> None:
        try:
            await self._storage.open()
        except StorageMisconfigured as error:
            raise LoadFailed(str(files.manifest), str(error), may_pass=True) from error

    async def _sandbox(self, checked: CheckedPlugin, folder: PluginFolder | None) -> Sandbox:
        given = await asyncio.to_thread(give, checked.manifest, checked.grant, self._secret_folders, self._variables)
        tell = partial(self._audit.tell, checked.manifest.name, str(checked.manifest.version))
        return await make_sandbox(
            self._engine,
            checked,
            plugin_config(checked.grant, given),
            self._host_functions,
            tell_audit=tell,
            debugging=self._debugging if self._is_debugged(checked) else None,
            surroundings=Surroundings(given.variables, given.secrets, folder),
            session=self._session,
        )


async def make_sandbox(
    engine: Engine,
    checked: CheckedPlugin,
    config: bytes,
    functions: Mapping[str, HostFunction],
    *,
    debugging: Debugging | None = None,
    **options: Any,
) -> Sandbox:
    """Compile a plugin, of its snapshot where it has one, and give it a sandbox with these `options`.

    Raises `ModuleRefused` and `CompilationFailed`.
    """
    abi, wasm = checked.abi, checked.wasm
    if checked.manifest.runtime.snapshot:
        snapshot = await take_snapshot(wasm, abi, checked.grant, config, engine.compile)
        abi, wasm = snapshot.abi, snapshot.wasm
    grant, debugged = checked.grant, None
    if debugging is not None:
        debugged = await asyncio.to_thread(debugging.prepare, wasm)
        grant, wasm = debugged.grant(grant), debugged.wasm
    program = replace(await abi.compile(engine, wasm), lines=checked.lines)
    if debugged is not None:
        program = debugged.program(program)
    return Sandbox(program, abi, grant, config, functions, debugged=debugged, **options)
