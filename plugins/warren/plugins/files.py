"""Plugins on disk: `<stem>.wasm` with `<stem>.toml` beside it, anywhere under a folder."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from warren.manifests import Manifest, ManifestError, parse_manifest

from .errors import LoadFailed
from .module import DEFAULT_LIMITS

#: A manifest that needs more than this is no manifest; it is not read to find out.
_MAX_MANIFEST_BYTES: Final = 1 << 20

#: Device, inode, size, time of the last change to the content (ns), and to anything (ns): a file that was changed has
#: another. None where there is none.
FileStamp = tuple[int, int, int, int, int]
Stamp = tuple[FileStamp | None, FileStamp | None]


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
        return parse_manifest(self.read_manifest_text(), str(self.manifest))

    def read_manifest_text(self) -> bytes:
        """Raises `LoadFailed` when it cannot be read."""
        return _read(self.manifest, _MAX_MANIFEST_BYTES)

    def read_module(self) -> bytes:
        """Raises `LoadFailed` when it cannot be read."""
        return _read(self.wasm, DEFAULT_LIMITS.module_bytes)

    def stamp(self) -> Stamp:
        """What the file system says of both. Raises OSError when it does not say."""
        return (_stamp(self.wasm), _stamp(self.manifest))


def digest_of(manifest: bytes, module: bytes) -> bytes:
    """What tells the content of one pair from any other's."""
    digest = hashlib.blake2b(len(manifest).to_bytes(8), digest_size=32)
    digest.update(manifest)
    digest.update(module)
    return digest.digest()


def _stamp(path: Path) -> FileStamp | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Identity(NamedTuple):
    """Which plugin, and which version of it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A pair as it was when it was read. `identity` is None when its manifest does not tell."""

    files: PluginFiles
    digest: bytes
    identity: Identity | None


def read_pair(files: PluginFiles) -> OnDisk:
    """What the pair holds. One that cannot be read has the digest of the reason."""
    try:
        text = files.read_manifest_text()
        digest = digest_of(text, files.read_module())
    except LoadFailed as error:
        return OnDisk(files, digest_of(b"", str(error).encode()), None)
    try:
        manifest = parse_manifest(text, str(files.manifest))
    except ManifestError:
        return OnDisk(files, digest, None)
    return OnDisk(files, digest, Identity(manifest.name, str(manifest.version)))


@dataclass(frozen=True, slots=True)
class Listing:
    """The pairs under a folder, by their `.wasm`, in the order of their paths; and folders that could not be read."""

    pairs: tuple[PluginFiles, ...]
    unreadable: tuple[Path, ...]


def find_plugins(directory: Path) -> tuple[PluginFiles, ...]:
    """All pairs under `directory`, in the order of their paths. Raises `LoadFailed` without it."""
    return list_plugins(directory).pairs


def list_plugins(directory: Path) -> Listing:
    """Look through `directory`. Links to folders are followed, each folder once. Raises `LoadFailed` without it.

    Hidden files and folders are passed over: version control, and what editors and copying leave for a while.
    """
    if not directory.is_dir():
        raise LoadFailed(str(directory), "there is no such folder of plugins")
    modules: list[Path] = []
    unreadable: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def is_new(folder: Path) -> bool:
        try:
            status = folder.stat()
        except OSError:
            unreadable.append(folder)
            return False
        known = (status.st_dev, status.st_ino) in seen
        seen.add((status.st_dev, status.st_ino))
        return not known

    is_new(directory)
    for root, folders, names in os.walk(
        directory, onerror=lambda error: unreadable.append(Path(error.filename)), followlinks=True
    ):
        folder = Path(root)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and is_new(folder / name)]
        modules += [
            folder / name
            for name in names
            if name.endswith(".wasm") and not name.startswith(".") and os.path.isfile(folder / name)  # noqa: PTH113 - never raises
        ]
    return Listing(tuple(map(PluginFiles.beside, sorted(modules))), tuple(unreadable))


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
