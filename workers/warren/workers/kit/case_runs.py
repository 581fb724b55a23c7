"""Running cases: each in the real sandbox, by the test framework, with plugins that were loaded for it alone.

What a case does not mention is the real thing: the clock, the web, the variables. It is faked where the case says what
to fake; and then it needs no operator to grant it, who has nothing to fear, unless there is a policy that decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from warren.manifests import Capability, Manifest, Policy
from warren.manifests.policy import MIB
from warren.plugins import EmbedderFunction, Outcome, PluginError, PluginNotFound
from warren.plugins.files import PluginFiles, find_plugins
from warren.plugins.testing import PluginRequest, PluginTestFramework, PluginUnderTest

from .cases import Case, Cases, Step
from .errors import KitError
from .judging import Ended, Mismatch, judge


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What plugins are loaded from, and with. Without a policy each case has what it fakes, and may compute."""

    plugins: Path
    policy: Policy | None = None
    secrets: tuple[Path, ...] = ()
    host_functions: tuple[EmbedderFunction[..., Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A case, and how it went: it holds where there are no mismatches.

    `ended` is its last request, which is the first that went otherwise than expected; `fuel` that of all.
    """

    path: Path
    case: Case
    ended: Ended
    fuel: int
    mismatches: tuple[Mismatch, ...]


async def try_all(files: Iterable[Cases], around: Surroundings) -> AsyncIterator[Tried]:
    """Run one case after the other.

    Raises `PluginNotFound`, `ManifestError` for any manifest that is wrong, and `KitError`.
    """
    for file in files:
        plugin = await asyncio.to_thread(_find, file, around.plugins)
        for case in file.cases:
            async with await _framework(case, around).plugin_path(plugin).build() as under_test:
                yield await _try(file.path, case, under_test)


async def _try(path: Path, case: Case, plugin: PluginUnderTest) -> Tried:
    """Up to the first step that does not hold: those after it would only be told what came of that."""
    asked: list[Ended] = []
    mismatches: list[Mismatch] = []
    for number, step in enumerate(case.requests, 1):
        asked.append(await _ask(path, case, step, plugin))
        mismatches = judge(step.expect, asked[-1])
        if case.steps is not None:
            mismatches = [replace(one, what=f"step {number}, {step.action}: {one.what}") for one in mismatches]
        if mismatches or not asked[-1].is_loaded:
            break
    return Tried(path, case, asked[-1], sum(one.outcome.fuel for one in asked), tuple(mismatches))


async def _ask(path: Path, case: Case, step: Step, plugin: PluginUnderTest) -> Ended:
    try:
        if step.after_seconds is not None:
            plugin.clock.advance(step.after_seconds)
    except ValueError as error:  # it has slept for too long by then
        raise KitError(f"{path}: {case.name}: {error}") from error
    try:
        outcome = await plugin.run(PluginRequest(step.action, step.data))
    except PluginError as error:
        return Ended(Outcome("unavailable", error=str(error)), is_loaded=False)
    return Ended(outcome, plugin.http_requests if _fakes_http(case) else (), plugin.stored)


def _fakes_http(case: Case) -> bool:
    return case.given.http is not None or any(step.expect.http is not None for step in case.requests)


def _fakes_storage(case: Case) -> bool:
    return case.given.storage is not None or any(step.expect.storage is not None for step in case.requests)


def _framework(case: Case, around: Surroundings) -> PluginTestFramework:
    given = case.given
    framework = PluginTestFramework().other_plugins(around.plugins)
    framework.security_policy(around.policy or _granting_what_is_faked(case)).host_functions(*around.host_functions)
    framework.secret_folders(*around.secrets).settings(given.settings).fake_storage(given.storage or {})
    for capability in given.deny:
        framework.deny_capability(capability)
    limits = given.resources
    if limits.memory_mb is not None:
        framework.memory_limit(limits.memory_mb * MIB)
    if limits.max_fuel is not None:
        framework.fuel_limit(limits.max_fuel)
    if limits.timeout_seconds is not None:
        framework.timeout_duration(limits.timeout_seconds)
    if given.environment is not None:
        framework.environment(given.environment)
    if given.time is None:
        framework.live_world()
    else:
        framework.start_time(given.time)
    if not _fakes_http(case):
        return framework.live_http()
    for answer in reversed(given.http or ()):  # the framework takes the last that fits
        body = to_json(answer.json_) if "json_" in answer.model_fields_set else answer.body or ""
        framework.fake_http(answer.method, answer.url, body, status=answer.status, headers=answer.headers)
    return framework


def _granting_what_is_faked(case: Case) -> Policy:
    standard = Policy()
    faked: dict[Capability, bool] = {"network": _fakes_http(case), "storage": _fakes_storage(case)}
    return replace(
        standard,
        capabilities=standard.capabilities.union(name for name, is_faked in faked.items() if is_faked),
        environment_vars=frozenset(case.given.environment or ()),
    )


def _find(file: Cases, plugins: Path) -> Path:
    """The plugin that its cases are for: of several versions the one that requests get."""
    found = [(files.read_manifest(), files) for files in find_plugins(plugins)]
    name = file.plugin or _only({manifest.name for manifest, _ in found}, file)
    versions = [pair for pair in found if pair[0].name == name]
    if not versions:
        raise PluginNotFound(name)
    return max(versions, key=_rank)[1].wasm


def _rank(plugin: tuple[Manifest, PluginFiles]) -> tuple[object, ...]:
    version = plugin[0].version
    return (not version.prerelease, version)


def _only(names: set[str], file: Cases) -> str:
    if len(names) == 1:
        return names.pop()
    there = ", ".join(sorted(names)) or "none"
    raise KitError(f"{file.path}: which plugin are its cases for? there are: {there}", 'write: plugin = "NAME"')
