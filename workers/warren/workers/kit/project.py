"""A project from a language's template: everything that it needs is copied, and nothing of it is written over."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from warren.manifests import is_plugin_name

from .errors import KitError
from .languages import Language
from .toolchain import FILE_NAME

MANIFEST_NAME: Final = "plugin.toml"

#: Where editors find the manifest's schema: the templates' `#:schema` names it.
SCHEMA_PATH: Final = Path(".warren", "plugin.schema.json")

SCHEMA_TEXT: Final = files("warren.manifests") / "plugin.schema.json"


def create_project(name: str, language: Language, folder: Path) -> None:
    """Make `folder` a project of this name. Raises `KitError` for a bad name, or a folder that has something in it.

    It is made beside itself and then moved, so that it is there whole or not at all.
    """
    if not is_plugin_name(name):
        rule = "a plugin's name has 1 to 63 of a-z, 0-9, '_' and '-', a letter first"
        raise KitError(f"{name!r} cannot name a plugin: {rule}")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise KitError(f"{folder} is there already, and nothing is written over", "give another name, or --dir")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".warren-new-", dir=folder.parent) as made:
        project = Path(made) / "project"
        _fill(project, name, language)
        project.rename(folder)


def identifier(name: str) -> str:
    """A plugin's name as programming languages take it."""
    return name.replace("-", "_")


def _fill(project: Path, name: str, language: Language) -> None:
    for source in _files(language.template):
        target = project / _named(str(source.relative_to(language.template)), name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_named(source.read_text(encoding="utf-8"), name), encoding="utf-8")
    if language.sdk.is_dir():
        shutil.copytree(language.sdk, project / "warren", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(language.folder / FILE_NAME, project / FILE_NAME)
    write_schema(project)


def write_schema(project: Path) -> None:
    """Put the manifest's schema where editors look for it."""
    path = project / SCHEMA_PATH
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(SCHEMA_TEXT.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def _named(text: str, name: str) -> str:
    return text.replace("{{name}}", name).replace("{{identifier}}", identifier(name))
