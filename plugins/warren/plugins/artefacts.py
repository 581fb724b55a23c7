"""The cache of compiled modules: artefacts on disk that are believed only when this folder's key sealed them.

An artefact is machine code. Whoever can have one loaded runs in the worker, so none is handed out whose seal, an
HMAC over its name and its content, was not verified, and on the very bytes handed out: the file may change meanwhile.
The name is a hash of the module and of all that its compilation depended on. So an artefact that was changed, cut
short, renamed or made elsewhere is a miss, with a warning, and the next one written takes its place.

The folder and its key must belong to this user, and nobody else may write there. This is judged anew at each use, on
the opened folder; nothing is held between two uses, so the folder can be deleted at any time. Any number of processes
can share it: files appear whole, by rename, and whoever writes removes what was unused for longest.

A cache that cannot be used is no reason not to run: whatever is wrong is said once, and nothing is cached. For the
same reason nothing is synced to disk. What a power failure leaves half written has no valid seal.

Rejected: `Module.deserialize_file`, which maps the file and would believe what it becomes after it was verified; a
database (it would have to be believed too); wasmtime's own cache (it has no seal).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .user_folders import user_folder

_log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES: Final = 1 << 30

#: Names the folder; when it is set and empty, nothing is cached.
CACHE_VARIABLE: Final = "WARREN_CACHE_DIR"

_KEY_NAME: Final = "key"
_KEY_BYTES: Final = 32
_SEAL_BYTES: Final = 32

#: Hashed into every name; another number makes all that was cached before unknown.
_FORMAT: Final = b"warren artefact 1\0"

#: The names that are ours to remove. A `.partial` file is one that is being written, or whose writer was killed.
_EVICTABLE: Final = re.compile(r"[0-9a-f]{64}\.artefact|[0-9a-f]{32}\.partial")

#: After so long, nobody is still writing it.
_WRITING_S: Final = 3_600

#: A symbolic link is refused, and a pipe does not block.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where artefacts are kept: `WARREN_CACHE_DIR`, else `warren` in the user's cache folder; None for nowhere."""
    chosen = environment.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen).absolute() if chosen else None
    return user_folder("XDG_CACHE_HOME", ".cache", environment)


class ArtefactCache:
    """Artefacts by module, for engines of one fingerprint. Any number of threads may use it; it raises nothing."""

    def __init__(self, folder: Path, fingerprint: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """`fingerprint` stands for everything but the module that an artefact depends on.

        `max_bytes` bounds all artefacts together; the folder is over it for a moment while one is added.
        """
        self.folder = folder
        self._fingerprint = fingerprint.encode()
        self._max_bytes = max_bytes
        self._told: set[str] = set()

    def get(self, wasm: bytes) -> bytes | None:
        """The artefact of this module, verified; None when there is none to be trusted. Creates nothing."""
        name = self._name(wasm)
        try:
            with _own_folder(self.folder) as folder:
                return _read_artefact(folder, name, _read_key(folder), self._max_bytes)
        except FileNotFoundError:
            return None
        except _Tampered as error:
            _log.warning("%s/%s is not used: %s; the module is compiled again", self.folder, name, error)
        except (OSError, _Distrusted) as error:
            self._tell_once(error)
        return None

    def put(self, wasm: bytes, artefact: bytes) -> None:
        """Keep this artefact; those unused for longest make room for it."""
        if _SEAL_BYTES + len(artefact) > self._max_bytes:
            return
        name = self._name(wasm)
        try:
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o700, parents=True)
            with _own_folder(self.folder) as folder:
                _write_artefact(folder, name, _find_or_make_key(folder), artefact)
                _evict(folder, self._max_bytes)
        except (OSError, _Distrusted) as error:
            self._tell_once(error)

    def _name(self, wasm: bytes) -> str:
        digest = hashlib.sha256(_FORMAT + self._fingerprint)
        digest.update(wasm)
        return f"{digest.hexdigest()}.artefact"

    def _tell_once(self, error: OSError | _Distrusted) -> None:
        # Not all of an OSError, which may name a file that is called otherwise each time.
        reason = (error.strerror or repr(error)) if isinstance(error, OSError) else str(error)
        if reason not in self._told:
            self._told.add(reason)
            text = "compiled modules are not cached in %s, so that plugins load slowly: %s; %s can name another folder"
            _log.warning(text, self.folder, reason, CACHE_VARIABLE)


class _Distrusted(Exception):
    """The folder, or its key, could be somebody else's work."""


class _Tampered(Exception):
    """What stands in the place of an artefact, and was not put there under this name by anybody with the key."""


@contextmanager
def _opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _own_folder(path: Path) -> Iterator[int]:
    """The folder as a descriptor: what was judged is what is used, whatever the path comes to mean."""
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as folder:
        _require_own(folder, "it", stat.S_IWGRP | stat.S_IWOTH, "chmod go-w")
        yield folder


def _require_own(descriptor: int, what: str, forbidden: int, remedy: str) -> None:
    found, user = os.fstat(descriptor), os.geteuid()
    if found.st_uid != user:
        raise _Distrusted(f"{what} belongs to user {found.st_uid}, and this is user {user}")
    if found.st_mode & forbidden:
        raise _Distrusted(f"{what} is open to others: its mode is {stat.S_IMODE(found.st_mode):03o} ({remedy})")


def _read_key(folder: int) -> bytes:
    with _opened(_KEY_NAME, _READ, folder) as descriptor:
        _require_own(descriptor, "its key", stat.S_IRWXG | stat.S_IRWXO, "chmod go=")
        key = os.read(descriptor, _KEY_BYTES + 1)
    if len(key) != _KEY_BYTES:
        raise _Distrusted(f"its key is not {_KEY_BYTES} bytes long; without the file {_KEY_NAME!r} a new one is made")
    return key


def _find_or_make_key(folder: int) -> bytes:
    with suppress(FileNotFoundError):
        return _read_key(folder)
    # Unlike a rename, a link leaves alone the key that another process made meanwhile.
    with _partial(folder, secrets.token_bytes(_KEY_BYTES)) as partial, suppress(FileExistsError):
        os.link(partial, _KEY_NAME, src_dir_fd=folder, dst_dir_fd=folder)
    return _read_key(folder)


def _seal(key: bytes, name: str, artefact: bytes) -> bytes:
    seal = hmac.new(key, name.encode(), "sha256")  # names are of one length, so where they end needs no telling
    seal.update(artefact)
    return seal.digest()


def _read_artefact(folder: int, name: str, key: bytes, max_bytes: int) -> bytes:
    """Raises `FileNotFoundError` or `_Tampered`."""
    try:
        with _opened(name, _READ, folder) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
                raise _Tampered("it is not a file that Warren wrote")
            seal, artefact = os.read(descriptor, _SEAL_BYTES), os.read(descriptor, found.st_size)
            if not hmac.compare_digest(seal, _seal(key, name, artefact)):
                raise _Tampered("its seal does not fit")
            with suppress(OSError):  # used just now, for the order of eviction; a folder may be read-only
                os.utime(descriptor)
            return artefact
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _Tampered("it is a symbolic link") from None
        raise


def _write_artefact(folder: int, name: str, key: bytes, artefact: bytes) -> None:
    with _partial(folder, _seal(key, name, artefact), artefact) as partial:
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def _partial(folder: int, *content: bytes) -> Iterator[str]:
    """A whole file under a name that nobody looks for, to be given its own; it is gone in the end."""
    name = f"{secrets.token_hex(16)}.partial"
    try:
        with open(name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600, dir_fd=folder)) as file:
            file.writelines(content)
        yield name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _evict(folder: int, max_bytes: int) -> None:
    """Remove what was unused for longest until the rest fits. Others may do the same at the same time."""
    found = sorted(_evictable(folder))
    excess = sum(size for _, size, _ in found) - max_bytes
    for _, size, name in found:
        if excess <= 0:
            return
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        excess -= size


def _evictable(folder: int) -> Iterator[tuple[float, int, str]]:
    """When each file was last used, its size and its name."""
    written_before = time.time() - _WRITING_S
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _EVICTABLE.fullmatch(entry.name):
                continue
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".artefact") or found.st_mtime < written_before:
                    yield found.st_mtime, found.st_size, entry.name
