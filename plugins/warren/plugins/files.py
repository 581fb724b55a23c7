"""Plugins on disk: `<stem>.wasm` with `<stem>.toml` beside it, anywhere under a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren.manifests import Manifest, parse_manifest

from .errors import LoadFailed
from .module import DEFAULT_LIMITS

#: A manifest that needs more than this is no manifest; it is not read to find out.
_MAX_MANIFEST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PluginFiles:
    """One pair of files."""

    wasm: Path
    manifest: Path

    @classmethod
    def beside(cls, path: Path) -> PluginFiles:
        """The pair that `path`, either half of it, belongs to."""
        return cls(path.with_suffix(".wasm"), path.with_suffix(".toml"))

    def read_manifest(self) -> Manifest:
        """Raises `LoadFailed` when it cannot be read, `ManifestError` when it is wrong."""
        return parse_manifest(_read(self.manifest, _MAX_MANIFEST_BYTES), str(self.manifest))

    def read_module(self) -> bytes:
        """Raises `LoadFailed` when it cannot be read."""
        return _read(self.wasm, DEFAULT_LIMITS.module_bytes)


def find_plugins(directory: Path) -> tuple[PluginFiles, ...]:
    """All pairs under `directory`, by their `.wasm`, in the order of their paths. Raises `LoadFailed` without it."""
    if not directory.is_dir():
        raise LoadFailed(str(directory), "there is no such folder of plugins")
    modules = sorted(path for path in directory.rglob("*.wasm") if path.is_file() and not _is_hidden(path, directory))
    return tuple(PluginFiles.beside(path) for path in modules)


def _is_hidden(path: Path, directory: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(directory).parts)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise LoadFailed(str(path), "is not a regular file")  # to open a pipe would wait for its other end
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise LoadFailed(str(path), "there is no such file; a plugin is a .wasm and a .toml of one stem") from None
    except OSError as error:
        raise LoadFailed(str(path), f"cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise LoadFailed(str(path), f"has more than {max_bytes:,} bytes")
    return data
