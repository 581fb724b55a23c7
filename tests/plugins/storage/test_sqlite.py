"""What is the SQLite storage's alone: the file, who has it locked, and what is done with one that is damaged."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.plugins.storage.conftest import Open
from tests.plugins.storage.racer import raced
from warren.plugins.storage import ENTRY_BYTES, NOTHING, Page, StorageMisconfigured, StorageUnavailable, open_storage
from warren.plugins.storage.sqlite import PURGED_FOR_ROOM, SqliteStorage

LIMIT_S = 20.0
QUOTA_BYTES = 1 << 20

#: Has the file to itself, until its input ends.
LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some where" / "storage.db"


@pytest.fixture
def url(path: Path) -> str:
    return path.as_uri().replace("file:", "sqlite:")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """By another process."""
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        yield
        locker.communicate()


async def test_the_file_and_its_folder_are_for_its_user_alone(path: Path, open_one: Open) -> None:
    storage = await open_one()
    await storage.write("p", b"key", b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["storage.db", "storage.db-shm", "storage.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_what_was_written_outlives_the_process(path: Path, open_one: Open, url: str) -> None:
    storage = await open_one()
    await storage.write("p", b"key", b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S)
    await storage.close()
    assert [file.name for file in path.parent.iterdir()] == ["storage.db"]
    assert await (await open_one()).get("p", b"key", timeout_s=LIMIT_S) == b"1"


async def test_each_commit_is_synced(open_one: Open) -> None:
    storage = await open_one()
    assert isinstance(storage, SqliteStorage)
    modes = await storage._do(
        lambda db, _: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")], LIMIT_S
    )
    assert modes == ["wal", 2]


async def test_a_file_that_is_locked_is_waited_for_and_then_unavailable(path: Path, open_one: Open) -> None:
    storage = await open_one()
    with locked(path):
        with pytest.raises(StorageUnavailable, match=r"is locked by another process|was not free within 0\.2 s"):
            await storage.write("p", b"key", b"1", quota_bytes=QUOTA_BYTES, timeout_s=0.2)
        waiting = asyncio.create_task(storage.write("p", b"other", b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S))
        await asyncio.sleep(0)
    assert (await waiting).done
    assert await storage.get("p", b"key", timeout_s=LIMIT_S) == NOTHING


async def test_the_event_loop_turns_while_the_file_is_locked(path: Path, open_one: Open) -> None:
    storage = await open_one()
    with locked(path):
        writing = asyncio.create_task(storage.write("p", b"key", b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S))
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert not writing.done()
    await writing


async def test_processes_that_make_the_file_at_once_all_can_use_it(open_one: Open, url: str) -> None:
    assert await raced(url, "p", "count", 1) == [1, 1, 1]
    assert await (await open_one()).get("p", b"n", timeout_s=LIMIT_S) == b"3"


async def test_a_call_that_nobody_waits_for_any_more_is_not_begun(path: Path, open_one: Open) -> None:
    storage = await open_one()
    with locked(path):
        first = asyncio.create_task(storage.write("p", b"first", b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S))
        given_up = asyncio.create_task(storage.write("p", b"second", b"1", quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
    await first
    assert await storage.list("p", b"", after=b"", limit=10, timeout_s=LIMIT_S) == Page((b"first",), None)


async def test_a_storage_that_is_closed_is_unavailable(path: Path) -> None:
    storage = await SqliteStorage.open(path)
    await storage.close()
    with pytest.raises(StorageUnavailable, match="is closed"):
        await storage.get("p", b"key", timeout_s=LIMIT_S)


async def test_a_file_of_rubbish_is_refused(path: Path, url: str) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(b"This is no database at all. " * 1_000)
    with pytest.raises(StorageMisconfigured) as caught:
        await open_storage(url)
    assert str(caught.value) == (
        f"the storage {path} is damaged (file is not a database): put a copy in its place, or move it away"
    )


async def test_a_file_that_is_damaged_while_it_is_used_is_unavailable(path: Path, open_one: Open, url: str) -> None:
    storage = await open_one()
    for number in range(200):
        await storage.write("p", b"%d" % number, b"1" * 3_000, quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S)
    await storage.close()
    with path.open("r+b") as file:
        file.seek(10 * 4_096)
        file.write(b"\xff" * 400_000)
    storage = await open_one()
    with pytest.raises(StorageUnavailable, match=r"storage\.db is damaged \(.*\): put a copy in its place"):  # noqa: PT012
        for number in range(200):
            await storage.get("p", b"%d" % number, timeout_s=LIMIT_S)


async def test_a_database_of_another_program_is_left_alone(path: Path, url: str) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StorageMisconfigured, match="is an SQLite file of another program's: name another one"):
        await open_storage(url)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_a_file_of_a_newer_warren_is_refused(path: Path, open_one: Open, url: str) -> None:
    await (await open_one()).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageMisconfigured, match="made by a newer Warren: it has version 2, and this Warren knows 1"):
        await open_storage(url)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_may_not_be_written_to_is_named(path: Path, url: str) -> None:
    path.parent.mkdir(mode=0o500)
    with pytest.raises(StorageMisconfigured, match=r"storage\.db cannot be opened: Permission denied"):
        await open_storage(url)


async def test_a_path_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "file" / "storage.db", "Not a directory|File exists"), (tmp_path, "cannot be")):
        with pytest.raises(StorageMisconfigured, match=reason) as caught:
            await open_storage(f"sqlite://{path}")
        assert str(path) in str(caught.value)


async def test_what_expired_while_nobody_looked_is_deleted_when_it_is_opened(path: Path, open_one: Open) -> None:
    storage = await open_one()
    for number in range(10):
        await storage.write("p", b"%d" % number, b"1", ttl_ms=1, quota_bytes=QUOTA_BYTES, timeout_s=LIMIT_S)
    while (await storage.list("p", b"", after=b"", limit=10, timeout_s=LIMIT_S)).keys:
        pass
    await storage.close()
    await open_one()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (0,)
        assert db.execute("SELECT bytes FROM usage").fetchone() == (0,)


def test_what_one_write_purges_is_more_than_it_needs() -> None:
    assert PURGED_FOR_ROOM * ENTRY_BYTES > (512 << 10) + 1_024 + ENTRY_BYTES


@pytest.mark.hostile
async def test_listing_a_million_keys_takes_no_more_steps_than_a_page_has(path: Path, open_one: Open) -> None:
    storage = await open_one()
    assert isinstance(storage, SqliteStorage)
    await storage._do(
        lambda db, _: db.execute(
            """WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
            INSERT INTO entries (plugin, key, value) SELECT 'p', CAST(printf('%08d', i) AS BLOB), x'31' FROM n"""
        ),
        100.0,
    )
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    await storage._do(lambda db, _: db.set_progress_handler(count, 1), LIMIT_S)
    for prefix, after in ((b"", b""), (b"", b"00500000"), (b"009", b"00999000"), (b"0", b"00999998")):
        steps = 0
        page = await storage.list("p", prefix, after=after, limit=1_000, timeout_s=LIMIT_S)
        assert len(page.keys) in (1, 999, 1_000)
        assert 0 < steps < 20_000
    steps = 0
    await storage.write("p", b"00500000", b"2", quota_bytes=1 << 30, timeout_s=LIMIT_S)
    assert 0 < steps < 1_000
