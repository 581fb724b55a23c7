"""Who demands what of whom: what a resolution is asked for, and what its errors name."""

from __future__ import annotations

from dataclasses import dataclass

from semver import Version

from .manifest import Manifest, PluginDependency
from .versions import VersionReq


@dataclass(frozen=True, slots=True)
class PluginVersion:
    """One version of one plugin, as a message names it."""

    name: str
    version: Version

    @classmethod
    def of(cls, manifest: Manifest) -> PluginVersion:
        return cls(manifest.name, manifest.version)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Demand:
    """That a version of `name` be there which `requirement` admits.

    `by` has it as a dependency; without one it is the caller's. `held`: that version was chosen before, and stays.
    """

    name: str
    requirement: VersionReq
    by: PluginVersion | None = None
    held: bool = False

    @classmethod
    def of(cls, manifest: Manifest, dependency: PluginDependency) -> Demand:
        return cls(dependency.name, dependency.version_req, PluginVersion.of(manifest))

    def __str__(self) -> str:
        if self.held:
            return f"{self.name} {str(self.requirement).removeprefix('=')} is chosen already"
        if self.by is None:
            return f"{self.name} {self.requirement} is wanted"
        return f"{self.by} needs {self.name} {self.requirement}"
