"""Running cases: each in the real sandbox, with plugins that were loaded for it alone, and a storage of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import to_json

from warren.manifests import Policy
from warren.plugins import Outcome, PluginManager

from .cases import Case, Cases, Mismatch, judge
from .errors import KitError


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What plugins are loaded from, and with."""

    plugins: Path
    policy: Policy
    secrets: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A case, and how it went: it holds where there are no mismatches."""

    path: Path
    case: Case
    outcome: Outcome
    mismatches: tuple[Mismatch, ...]


async def try_all(files: Iterable[Cases], around: Surroundings) -> AsyncIterator[Tried]:
    """Run one case after the other. Raises `PluginError` for plugins that cannot be loaded, and `KitError`."""
    for file in files:
        for case in file.cases:
            outcome = await _run(case, file, around)
            yield Tried(file.path, case, outcome, tuple(judge(case.expect, outcome)))


async def _run(case: Case, file: Cases, around: Surroundings) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="warren-test-") as scratch:
        manager = PluginManager(
            around.plugins,
            policy=around.policy,
            secrets=around.secrets,
            data=Path(scratch, "files"),
            storage=f"sqlite:///{scratch}/storage.db",
        )
        async with manager:
            for failure in manager.failures:
                raise failure
            plugin = manager.find(file.plugin or _only(manager, file))
            return await plugin.run(to_json({"action": case.action, "data": case.data}))


def _only(manager: PluginManager, file: Cases) -> str:
    names = {plugin.name for plugin in manager.plugins()}
    if len(names) == 1:
        return names.pop()
    there = ", ".join(sorted(names)) or "none"
    raise KitError(f"{file.path}: which plugin are its cases for? there are: {there}", 'write: plugin = "NAME"')
