"""Packs into the wheel what `warren demo` runs and reads, the built sample plugins and the project's own documents, and
what `warren new` copies, the SDKs.

An editable install finds them in the checkout, and copies of them in its site-packages would only grow stale; that is
why this is a hook and not hatchling's `force-include`, which does the same to either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PackingHook(BuildHookInterface[BuilderConfig]):
    """hatchling finds the one hook in this file by its base class."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say which files go where; hatchling fails the build when one of them is missing."""
        if version == "editable":
            return
        packed = {str(path): f"warren/plugins/samples/{path.name}" for path in samples(Path(self.root))}
        for path in sdks(Path(self.root)):
            place = str(path.relative_to(self.root))
            if not self.build_config.path_is_excluded(place):  # what git ignores: compilers leave it there
                packed[str(path)] = f"warren/{place}"
        packed |= {name: f"warren/workers/documents/{name}" for name in ("CHANGELOG.md", "README.md")}
        build_data["force_include"].update(packed)


def samples(root: Path) -> list[Path]:
    """Manifest and module of each sample plugin, which both bear their folder's name."""
    folders = sorted(path for path in (root / "plugins" / "examples").iterdir() if path.is_dir())
    return [folder / f"{folder.name}{suffix}" for folder in folders for suffix in (".toml", ".wasm")]


def sdks(root: Path) -> list[Path]:
    """The SDKs' sources and templates, file by file: hidden ones too, such as a template's `.gitignore`."""
    files = (path for path in (root / "plugins" / "sdk").rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts)
