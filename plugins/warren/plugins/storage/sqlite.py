"""A storage in one SQLite file: the default, shared by all processes of one machine.

The file is in WAL mode, so that readers and the one writer do not wait for each other, and each commit is synced: a
request is acked after its run's writes, and no power failure may take these back then. SQLite's calls block, so all of
a process's are made by one thread of its own, in turn, each with what is left of its time as SQLite's busy timeout. A
call whose time ran out in the queue, or whose caller has gone, is not begun.

What a plugin uses is counted by triggers, within the transaction that changes it. `expires_ms` stands before `value`,
so that listing does not read through the values. A plugin's writes delete what of it has expired, some at a time.

Rejected: aiosqlite (a thread as well, but with no way to drop a call that nobody waits for); a file for each plugin (a
thousand plugins, a thousand open files); one synced commit for many plugins' writes (it pays only on slow disks, and a
machine with so many writes does better with Redis).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from .errors import QuotaExceeded, StorageMisconfigured, StorageUnavailable
from .port import ABOVE, ENTRY_BYTES, NOTHING, Page, Written

T = TypeVar("T")

#: In the file's head: whose it is ("WRST"), and which version of the schema it has.
APPLICATION_ID: Final = 0x57525354
SCHEMA_VERSION: Final = 1

#: How long opening waits for other processes that have the file locked.
OPEN_LIMIT_S: Final = 10.0

#: Expired entries that one write deletes in passing, and that it deletes at most to make room for itself. The latter
#: is more than it can need, for each makes room of `ENTRY_BYTES`.
PURGED_IN_PASSING: Final = 100
PURGED_FOR_ROOM: Final = 10_000

_SCHEMA: Final = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY, plugin TEXT NOT NULL, key BLOB NOT NULL, expires_ms INTEGER, value BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX entries_by_key ON entries (plugin, key)",
    "CREATE INDEX entries_by_expiry ON entries (plugin, expires_ms) WHERE expires_ms IS NOT NULL",
    "CREATE TABLE usage (plugin TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID",
    f"""CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
        INSERT INTO usage VALUES (NEW.plugin, length(NEW.key) + length(NEW.value) + {ENTRY_BYTES})
        ON CONFLICT (plugin) DO UPDATE SET bytes = bytes + excluded.bytes; END""",  # noqa: S608 - a number of ours
    f"""CREATE TRIGGER entry_gone AFTER DELETE ON entries BEGIN
        UPDATE usage SET bytes = bytes - length(OLD.key) - length(OLD.value) - {ENTRY_BYTES}
        WHERE plugin = OLD.plugin; END""",  # noqa: S608
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _NobodyWaits(Exception):
    """What was to be done is not, since it is too late for whoever wanted it."""


@dataclass(slots=True)
class _Caller:
    """Who waits for a call, until when, and whether still."""

    until: float
    has_gone: bool = False

    def check(self) -> float:
        """The seconds that it still waits. Raises `_NobodyWaits` when there are none."""
        if self.has_gone or (remaining_s := self.until - time.monotonic()) <= 0:
            raise _NobodyWaits
        return remaining_s


class SqliteStorage:
    """A `Storage` in the file at `path`. Use `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "warren-storage")
        self._connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file, or make it. Raises `StorageMisconfigured`."""
        storage = cls(path)
        try:
            await asyncio.get_running_loop().run_in_executor(storage._thread, storage._open)
        except BaseException:
            await storage.close()
            raise
        return storage

    async def close(self) -> None:
        with suppress(RuntimeError):  # closed before
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def get(self, plugin: str, key: bytes, *, timeout_s: float) -> bytes:
        return await self._do(lambda db, _: _value(db, plugin, key), timeout_s)

    async def list(self, plugin: str, prefix: bytes, *, after: bytes, limit: int, timeout_s: float) -> Page:
        return await self._do(lambda db, _: _page(db, plugin, prefix, after, limit), timeout_s)

    async def write(
        self,
        plugin: str,
        key: bytes,
        value: bytes,
        *,
        quota_bytes: int,
        timeout_s: float,
        ttl_ms: int | None = None,
        expected: bytes | None = None,
    ) -> Written:
        def write(db: sqlite3.Connection, caller: _Caller) -> Written:
            with _transaction(db, caller):
                _purge(db, plugin, PURGED_IN_PASSING)
                current = _value(db, plugin, key)
                existed = current != NOTHING
                if expected not in (None, current):
                    return Written(done=False, existed=existed, current=current)
                before_bytes = _used_bytes(db, plugin)
                _replace(db, plugin, key, value, ttl_ms)
                if _used_bytes(db, plugin) > before_bytes:
                    _keep_within(db, plugin, quota_bytes)
                return Written(done=True, existed=existed)

        return await self._do(write, timeout_s)

    async def _do(self, work: Callable[[sqlite3.Connection, _Caller], T], timeout_s: float) -> T:
        caller = _Caller(time.monotonic() + timeout_s)

        def run() -> T:
            if self._connection is None:
                raise self._closed()
            try:
                self._connection.execute(f"PRAGMA busy_timeout = {int(caller.check() * 1_000)}")
                return work(self._connection, caller)
            except _NobodyWaits:
                raise self._too_late(timeout_s) from None
            except sqlite3.Error as error:
                raise StorageUnavailable(self._why(error)) from error

        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except TimeoutError:
            raise self._too_late(timeout_s) from None
        except RuntimeError:  # there is no thread any more
            raise self._closed() from None
        finally:
            caller.has_gone = True

    def _closed(self) -> StorageUnavailable:
        return StorageUnavailable(f"the storage {self.path} is closed")

    def _too_late(self, timeout_s: float) -> StorageUnavailable:
        return StorageUnavailable(f"the storage {self.path} was not free within {timeout_s:.3g} s")

    def _why(self, error: sqlite3.Error) -> str:
        code = _primary_code(error)
        if code in _BUSY:
            return f"the storage {self.path} is locked by another process"
        if code in _DAMAGED:
            return f"the storage {self.path} is damaged ({error}): put a copy in its place, or move it away"
        return f"the storage {self.path} cannot be used: {error}"

    def _open(self) -> None:
        try:
            self._make_file()
            self._connection = db = sqlite3.connect(self.path, isolation_level=None)
            self._prepare(db)
        except OSError as error:
            reason = f"the storage {self.path} cannot be opened: {error.strerror or error}"
            raise StorageMisconfigured(reason) from error
        except sqlite3.Error as error:
            raise StorageMisconfigured(self._why(error)) from error

    def _make_file(self) -> None:
        """A new file is for this user alone, and so are those that SQLite lays beside it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not to be opened and closed when it is there: this would take away the locks of the process's connections.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA busy_timeout = {int(OPEN_LIMIT_S * 1_000)}")
        self._check_schema(db)
        mode = _in_wal_mode(db)
        if mode != "wal":
            raise StorageMisconfigured(
                f"the storage {self.path} cannot be shared by processes (journal mode {mode!r}): "
                "put it on a disk of this machine"
            )
        db.execute("PRAGMA synchronous = FULL")
        with _transaction(db):
            if _pragma(db, "user_version") == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
            for (plugin,) in db.execute("SELECT plugin FROM usage").fetchall():
                _purge(db, plugin, PURGED_FOR_ROOM)

    def _check_schema(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # all three of one moment: another process may be making the tables
        owner, version = _pragma(db, "application_id"), _pragma(db, "user_version")
        is_empty = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        db.execute("COMMIT")
        if owner != APPLICATION_ID and not (is_empty and owner == version == 0):
            raise StorageMisconfigured(f"{self.path} is an SQLite file of another program's: name another one")
        if version > SCHEMA_VERSION:
            raise StorageMisconfigured(
                f"the storage {self.path} was made by a newer Warren: "
                f"it has version {version}, and this Warren knows {SCHEMA_VERSION}"
            )


def _in_wal_mode(db: sqlite3.Connection) -> object:
    """The mode that the file is in, which should be WAL from now on."""
    until = time.monotonic() + OPEN_LIMIT_S
    while True:
        try:
            return db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # SQLite does not wait here by itself, when two processes make the file.
            if _primary_code(error) not in _BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _transaction(db: sqlite3.Connection, caller: _Caller | None = None) -> Iterator[None]:
    """One that writes, unless its caller has gone meanwhile: it was told that nothing was done, or will not be told.

    It has the file to itself from its beginning, so that it never fails for what it has read.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        if caller is not None:
            caller.check()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _value(db: sqlite3.Connection, plugin: str, key: bytes) -> bytes:
    query = "SELECT value FROM entries WHERE plugin = ? AND key = ? AND (expires_ms IS NULL OR expires_ms > ?)"
    row = db.execute(query, (plugin, key, _now_ms())).fetchone()
    return NOTHING if row is None else bytes(row[0])


def _page(db: sqlite3.Connection, plugin: str, prefix: bytes, after: bytes, limit: int) -> Page:
    first = max(prefix, after + b"\0") if after else prefix
    query = "SELECT key, expires_ms FROM entries WHERE plugin = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
    rows = db.execute(query, (plugin, first, prefix + ABOVE, limit + 1)).fetchall()
    now_ms = _now_ms()
    keys = tuple(bytes(key) for key, expires_ms in rows[:limit] if expires_ms is None or expires_ms > now_ms)
    return Page(keys, bytes(rows[limit - 1][0]) if len(rows) > limit else None)


def _replace(db: sqlite3.Connection, plugin: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
    db.execute("DELETE FROM entries WHERE plugin = ? AND key = ?", (plugin, key))
    if value != NOTHING:
        entry = (plugin, key, None if ttl_ms is None else _now_ms() + ttl_ms, value)
        db.execute("INSERT INTO entries (plugin, key, expires_ms, value) VALUES (?, ?, ?, ?)", entry)


def _keep_within(db: sqlite3.Connection, plugin: str, quota_bytes: int) -> None:
    """Raises `QuotaExceeded` if the plugin has more than that, of what has not expired."""
    if _used_bytes(db, plugin) > quota_bytes:
        _purge(db, plugin, PURGED_FOR_ROOM)
    if (used_bytes := _used_bytes(db, plugin)) > quota_bytes:
        raise QuotaExceeded(used_bytes, quota_bytes)


def _used_bytes(db: sqlite3.Connection, plugin: str) -> int:
    row = db.execute("SELECT bytes FROM usage WHERE plugin = ?", (plugin,)).fetchone()
    return 0 if row is None else int(row[0])


def _purge(db: sqlite3.Connection, plugin: str, at_most: int) -> None:
    """Delete of what has expired so many."""
    query = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE plugin = ? AND expires_ms <= ? LIMIT ?)"
    db.execute(query, (plugin, _now_ms(), at_most))
