"""The cache of compiled modules: what it gives back is what was put in, or nothing, whoever meddled with the files."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from warren.plugins.artefacts import ArtefactCache, cache_folder

WASM = b"\0asm\1\0\0\0 one"
OTHER = b"\0asm\1\0\0\0 another"
ARTEFACT = bytes(range(256)) * 40
FINGERPRINT = "f" * 64
SEAL_BYTES = 32
NOBODY = 65_534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some" / "cache"


@pytest.fixture
def cache(folder: Path) -> ArtefactCache:
    return ArtefactCache(folder, FINGERPRINT)


def artefacts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.artefact"))


def only(folder: Path) -> Path:
    (path,) = artefacts(folder)
    return path


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_put_is_got_by_every_cache_of_the_folder(cache: ArtefactCache, folder: Path) -> None:
    assert cache.get(WASM) is None
    cache.put(WASM, ARTEFACT)
    assert cache.get(WASM) == ARTEFACT
    assert ArtefactCache(folder, FINGERPRINT).get(WASM) == ARTEFACT
    assert cache.get(OTHER) is None


def test_an_empty_artefact_is_one(cache: ArtefactCache) -> None:
    cache.put(WASM, b"")
    assert cache.get(WASM) == b""


def test_looking_for_an_artefact_creates_nothing(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cache.get(WASM) is None
    assert not folder.parent.exists()
    assert not warnings(caplog)


def test_folder_key_and_artefacts_are_for_their_owner_alone(cache: ArtefactCache, folder: Path) -> None:
    old = os.umask(0)
    try:
        cache.put(WASM, ARTEFACT)
    finally:
        os.umask(old)
    modes = {path.suffix or path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {"cache": 0o700, "key": 0o600, ".artefact": 0o600}


def test_another_fingerprint_knows_nothing_of_it(cache: ArtefactCache, folder: Path) -> None:
    cache.put(WASM, ARTEFACT)
    assert ArtefactCache(folder, "0" * 64).get(WASM) is None


def test_an_artefact_put_twice_is_replaced(cache: ArtefactCache, folder: Path) -> None:
    cache.put(WASM, b"old")
    cache.put(WASM, b"new")
    assert cache.get(WASM) == b"new"
    assert len(list(folder.iterdir())) == 2  # with the key


# Meddling. The attacker can write in the folder, but does not know the key.


def _flip(offset: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[offset] ^= 0x10
        path.write_bytes(content)

    return change


def _cut(length: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, length)


def _extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _put_own(path: Path) -> None:
    path.write_bytes(hashlib.sha256(ARTEFACT).digest() + ARTEFACT)


def _link_to_a_copy(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


def _older_by_another_name(path: Path) -> None:
    """A genuine artefact, under the name of another one."""
    cache = ArtefactCache(path.parent, FINGERPRINT)
    cache.put(OTHER, b"genuine, and not this module's")
    (other,) = set(artefacts(path.parent)) - {path}
    other.replace(path)


def _new_key(path: Path) -> None:
    (path.parent / "key").write_bytes(os.urandom(32))


def _no_key(path: Path) -> None:
    """Somebody deletes the key, and a new one is made for the next artefact."""
    (path.parent / "key").unlink()
    ArtefactCache(path.parent, FINGERPRINT).put(OTHER, b"")


MEDDLING: dict[str, Callable[[Path], None]] = {
    "the first byte of the seal": _flip(0),
    "the last byte of the seal": _flip(SEAL_BYTES - 1),
    "the first byte": _flip(SEAL_BYTES),
    "a byte in the middle": _flip(SEAL_BYTES + len(ARTEFACT) // 2),
    "the last byte": _flip(-1),
    "nothing left": _cut(0),
    "half a seal": _cut(SEAL_BYTES // 2),
    "a seal alone": _cut(SEAL_BYTES),
    "the last byte cut off": _cut(SEAL_BYTES + len(ARTEFACT) - 1),
    "a byte more": _extend,
    "a file of the attacker's": _put_own,
    "a link to the artefact": _link_to_a_copy,
    "a link to nothing": _link_to_nothing,
    "a pipe": _pipe,
    "a terabyte": _huge,
    "swapped names": _older_by_another_name,
    "another key": _new_key,
    "the key deleted": _no_key,
}


@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING.keys())
def test_what_was_meddled_with_is_never_used_and_is_replaced(
    meddle: Callable[[Path], None], cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(WASM, ARTEFACT)
    path = only(folder)
    meddle(path)
    assert cache.get(WASM) is None
    (warning,) = warnings(caplog)
    assert str(path) in warning
    assert "compiled again" in warning
    cache.put(WASM, ARTEFACT)
    assert cache.get(WASM) == ARTEFACT
    assert path.is_file()
    assert not path.is_symlink()
    assert len(warnings(caplog)) == 1


def test_an_artefact_under_the_name_of_another_fingerprint_is_not_used(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(WASM, ARTEFACT)
    path = only(folder)
    other = ArtefactCache(folder, "0" * 64)
    other.put(WASM, b"made by another wasmtime")
    (foreign,) = set(artefacts(folder)) - {path}
    foreign.replace(path)
    assert cache.get(WASM) is None
    assert "its seal does not fit" in warnings(caplog)[0]


def test_a_link_in_the_place_of_an_artefact_is_replaced_and_not_followed(
    cache: ArtefactCache, folder: Path, tmp_path: Path
) -> None:
    cache.put(WASM, ARTEFACT)
    path, victim = only(folder), tmp_path / "victim"
    victim.write_text("precious")
    path.unlink()
    path.symlink_to(victim)
    cache.put(WASM, ARTEFACT)
    assert cache.get(WASM) == ARTEFACT
    assert victim.read_text() == "precious"


# A cache that cannot be used: everything works, and it is said once.


def unusable(cache: ArtefactCache, caplog: pytest.LogCaptureFixture) -> str:
    """Use it anyhow; the one warning."""
    for _ in range(3):
        cache.put(WASM, ARTEFACT)
        cache.put(OTHER, ARTEFACT)
        assert cache.get(WASM) is None
    (warning,) = warnings(caplog)
    assert "WARREN_CACHE_DIR" in warning
    return warning


def test_a_folder_that_others_can_write_to_is_refused(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(WASM, ARTEFACT)
    folder.chmod(0o770)
    assert "mode is 770 (chmod go-w)" in unusable(cache, caplog)
    folder.chmod(0o755)
    assert cache.get(WASM) == ARTEFACT


def test_a_key_that_others_can_read_is_refused(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(WASM, ARTEFACT)
    (folder / "key").chmod(0o640)
    assert "its key is open to others: its mode is 640 (chmod go=)" in unusable(cache, caplog)


def test_a_key_that_is_a_link_is_refused(cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.put(WASM, ARTEFACT)
    key = folder / "key"
    key.rename(folder / "moved")
    key.symlink_to("moved")
    assert "symbolic link" in unusable(cache, caplog)


def test_a_key_of_the_wrong_length_is_refused(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(WASM, ARTEFACT)
    (folder / "key").write_bytes(b"")
    assert "its key is not 32 bytes long" in unusable(cache, caplog)


def test_somebody_elses_folder_is_refused(cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() == 0:
        folder.mkdir(parents=True)
        os.chown(folder, NOBODY, NOBODY)
    else:
        cache = ArtefactCache(Path("/usr"), FINGERPRINT)
    assert "belongs to user" in unusable(cache, caplog)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_key_is_refused(cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.put(WASM, ARTEFACT)
    os.chown(folder / "key", NOBODY, NOBODY)
    assert f"its key belongs to user {NOBODY}" in unusable(cache, caplog)


def test_a_file_in_the_folders_place_is_no_folder(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir()
    folder.write_text("not a folder")
    unusable(cache, caplog)


def test_a_folder_in_an_artefacts_place_is_left_alone(
    cache: ArtefactCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(WASM, ARTEFACT)
    path = only(folder)
    path.unlink()
    path.mkdir()
    cache.put(WASM, ARTEFACT)
    assert cache.get(WASM) is None
    assert len(warnings(caplog)) == 2


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder whose modes bind us: for root, who ignores them, by being nobody for the length of the test."""
    with tempfile.TemporaryDirectory() as name:
        was_root = os.geteuid() == 0
        if was_root:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if was_root:
                os.seteuid(0)


def test_a_read_only_folder_is_read(own_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ArtefactCache(own_folder, FINGERPRINT)
    cache.put(WASM, ARTEFACT)
    own_folder.chmod(0o500)
    for _ in range(2):
        assert cache.get(WASM) == ARTEFACT
        cache.put(OTHER, ARTEFACT)
        assert cache.get(OTHER) is None
    (warning,) = warnings(caplog)
    assert "Permission denied" in warning


def test_a_folder_that_cannot_be_made_is_done_without(own_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    own_folder.chmod(0o500)
    assert "Permission denied" in unusable(ArtefactCache(own_folder / "cache", FINGERPRINT), caplog)


def _use_without_room(folder: Path, room: int) -> tuple[bool, list[str], list[str]]:
    """In a process that can write no file of more than `room` bytes: the only full disk that needs no rights."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("warren.plugins").addHandler(handler)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    cache = ArtefactCache(folder, FINGERPRINT)
    for _ in range(3):
        cache.put(WASM, ARTEFACT)
    return cache.get(WASM) is None, told, [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(("room", "left"), [(0, []), (16, []), (100, ["key"]), (len(ARTEFACT), ["key"])])
def test_a_full_disk_is_said_once_and_leaves_no_pieces(room: int, left: list[str], folder: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        missed, told, found = processes.submit(_use_without_room, folder, room).result()
    assert missed
    assert len(told) == 1
    assert "File too large" in told[0]
    assert found == left


# Size.


def module(number: int) -> bytes:
    return WASM + number.to_bytes(4, "big")


def test_what_was_unused_for_longest_is_evicted_first(folder: Path) -> None:
    size = SEAL_BYTES + len(ARTEFACT)
    cache = ArtefactCache(folder, FINGERPRINT, max_bytes=3 * size)
    for number in range(3):
        cache.put(module(number), ARTEFACT)
        for path in artefacts(folder):  # time passes; the clock of a file system can be coarse
            found = path.stat()
            os.utime(path, ns=(found.st_atime_ns - 10**9, found.st_mtime_ns - 10**9))
    assert cache.get(module(0)) == ARTEFACT
    cache.put(module(3), ARTEFACT)
    assert [number for number in range(4) if cache.get(module(number)) is None] == [1]
    cache.put(module(4), ARTEFACT[1:])
    assert sum(path.stat().st_size for path in artefacts(folder)) <= 3 * size


def test_an_artefact_larger_than_the_cache_is_not_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ArtefactCache(folder, FINGERPRINT, max_bytes=SEAL_BYTES + len(ARTEFACT) - 1)
    cache.put(WASM, ARTEFACT)
    assert cache.get(WASM) is None
    assert not warnings(caplog)


def test_only_what_is_the_caches_is_evicted(folder: Path) -> None:
    size = SEAL_BYTES + len(ARTEFACT)
    cache = ArtefactCache(folder, FINGERPRINT, max_bytes=size)
    cache.put(module(0), ARTEFACT)
    abandoned, precious = folder / f"{'0' * 32}.partial", folder / "thesis.artefact"
    for path in (abandoned, precious):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    cache.put(module(1), ARTEFACT)
    assert precious.exists()
    assert not abandoned.exists()
    assert cache.get(module(1)) == ARTEFACT


# Many at once.


def _content(number: int) -> bytes:
    return hashlib.shake_256(number.to_bytes(4, "big")).digest(1_000 + 37 * number)


def _hammer(folder: Path, seed: int) -> tuple[int, list[str]]:
    """How many hits there were, and what was told. Fails on an artefact that is not what was put."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("warren.plugins").addHandler(handler)
    cache = ArtefactCache(folder, FINGERPRINT, max_bytes=30_000)
    hits = 0
    for byte in hashlib.shake_256(f"seed {seed}".encode()).digest(1_000):
        number = byte % 40
        found = cache.get(module(number))
        if found is None:
            cache.put(module(number), _content(number))
        else:
            hits += 1
            assert found == _content(number)
    return hits, told


def test_four_processes_share_a_folder_that_is_too_small_for_them(folder: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as processes:
        results = list(processes.map(_hammer, [folder] * 4, range(4)))
    assert all(hits for hits, _ in results)
    assert [told for _, told in results] == [[]] * 4
    assert {path.suffix or path.name for path in folder.iterdir()} == {"key", ".artefact"}
    assert sum(path.stat().st_size for path in artefacts(folder)) <= 30_000


# Where the folder is.


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WARREN_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"WARREN_CACHE_DIR": "a"}, Path.cwd() / "a"),
        ({"WARREN_CACHE_DIR": "", "XDG_CACHE_HOME": "/b"}, None),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/warren")),
        ({"XDG_CACHE_HOME": "relative, and so to be ignored"}, Path.home() / ".cache" / "warren"),
        ({"XDG_CACHE_HOME": ""}, Path.home() / ".cache" / "warren"),
        ({}, Path.home() / ".cache" / "warren"),
    ],
)
def test_the_environment_chooses_the_folder(environment: dict[str, str], expected: Path | None) -> None:
    assert cache_folder(environment) == expected
