"""The host functions `storage_*`: what of a plugin's own storage a guest can read and change.

    storage_get      {"key"}                                    ->  {"value": …}, or null where there is none
    storage_set      {"key", "value", "ttl_s"?}                 ->  null
    storage_delete   {"key"}                                    ->  whether there was one
    storage_list     {"prefix"?, "limit"?, "cursor"?}           ->  {"keys": […], "cursor": … or null}
    storage_compare_and_set
                     {"key", "expected"?, "value", "ttl_s"?}    ->  {"swapped": true},
                                                                    or {"swapped": false, "current": as of storage_get}

Whose storage it is nobody says: it is that of the plugin whose run it is, by its name, for all its versions. A key is
any text, compared byte by byte; nothing in it has a meaning, and so there is no way out by one. Values are compared as
JSON: `expected` need not be written as the value was, and without it there must be no entry.

A storage that hangs is the host's fault, and is to be told as such: so no call waits for the last tenth of its run's
time, by whose end the run would be out of time.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from ..errors import GuestFault, HostFunctionError
from ..host import HostFunction, HostSession, changes_nothing, invalid_arguments
from ..module import shown
from .errors import QuotaExceeded, StorageMisconfigured, StorageUnavailable
from .opening import check_storage_url, default_storage_url, open_storage
from .port import NOTHING, Storage, Written

_log = logging.getLogger(__name__)

CAPABILITY: Final = "storage"

MAX_KEY_BYTES: Final = 1_024

#: Half of what a host call can carry, so that one that is too large is an error, and not the end of the run.
MAX_VALUE_BYTES: Final = 512 << 10

#: Ten years; what is to be kept for longer does not expire.
MAX_TTL_S: Final = 10 * 365 * 86_400

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000

#: What one call waits for the storage at most, and the part of its run's time that it may wait for.
CALL_LIMIT_S: Final = 5.0
SHARE_OF_RUN: Final = 0.9


class _Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Key(_Arguments):
    key: str


class _Set(_Key):
    value: Any
    ttl_s: Annotated[float, Field(gt=0, le=MAX_TTL_S)] | None = None


class _CompareAndSet(_Set):
    expected: Any = None


class _List(_Arguments):
    prefix: str = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: str | None = None


Wanted = TypeVar("Wanted", bound=_Arguments)
T = TypeVar("T")


class StorageFunctions:
    """The host functions over one storage, which is opened when it is first needed. For one event loop."""

    def __init__(self, url: str | None = None) -> None:
        """Without a URL it is that of `default_storage_url`. Raises `StorageMisconfigured` for one that is none."""
        if url is not None:
            check_storage_url(url)
        self._url = url
        self._storage: Storage | None = None
        self._opening = asyncio.Lock()
        self._is_away = False

    async def open(self) -> Storage:
        """The storage. Raises `StorageMisconfigured`."""
        async with self._opening:
            if self._storage is None:
                self._storage = await open_storage(self._url or default_storage_url())
            return self._storage

    async def close(self) -> None:
        """Close it, if it was opened. Idempotent."""
        storage, self._storage = self._storage, None
        if storage is not None:
            await storage.close()

    def by_name(self) -> Mapping[str, HostFunction]:
        """All of them."""
        return {
            "storage_get": self.get,
            "storage_set": self.set,
            "storage_delete": self.delete,
            "storage_list": self.list,
            "storage_compare_and_set": self.compare_and_set,
        }

    @changes_nothing
    async def get(self, session: HostSession, arguments: Any) -> dict[str, Any] | None:
        wanted = _begin(session, "get", _Key, arguments)
        plugin, limit_s = session.grant.plugin, _limit_s(session)
        return _entry(await self._do(lambda storage: storage.get(plugin, wanted.key.encode(), timeout_s=limit_s)))

    async def set(self, session: HostSession, arguments: Any) -> None:
        wanted = _begin(session, "set", _Set, arguments)
        await self._write(session, "set", wanted.key, _text(wanted.value), ttl_ms=_ttl_ms(wanted))

    async def delete(self, session: HostSession, arguments: Any) -> bool:
        wanted = _begin(session, "delete", _Key, arguments)
        return (await self._write(session, "delete", wanted.key, NOTHING)).existed

    @changes_nothing
    async def list(self, session: HostSession, arguments: Any) -> dict[str, Any]:
        wanted = _begin(session, "list", _List, arguments)
        plugin, limit_s = session.grant.plugin, _limit_s(session)
        prefix, after = wanted.prefix.encode(), (wanted.cursor or "").encode()
        page = await self._do(
            lambda storage: storage.list(plugin, prefix, after=after, limit=wanted.limit, timeout_s=limit_s)
        )
        cursor = None if page.after is None else page.after.decode()
        return {"keys": [key.decode() for key in page.keys], "cursor": cursor}

    async def compare_and_set(self, session: HostSession, arguments: Any) -> dict[str, Any]:
        wanted = _begin(session, "compare_and_set", _CompareAndSet, arguments)
        value, ttl_ms = _text(wanted.value), _ttl_ms(wanted)
        is_to_be_there = "expected" in wanted.model_fields_set
        expected = _text(wanted.expected) if is_to_be_there else NOTHING
        while True:
            written = await self._write(session, "compare_and_set", wanted.key, value, ttl_ms=ttl_ms, expected=expected)
            if written.done:
                return {"swapped": True}
            current = _entry(written.current)
            if current is None or not is_to_be_there or not same_json(current["value"], wanted.expected):
                return {"swapped": False, "current": current}
            expected = written.current  # which is what was expected, in other words

    async def _write(
        self,
        session: HostSession,
        verb: str,
        key: str,
        value: bytes,
        *,
        ttl_ms: int | None = None,
        expected: bytes | None = None,
    ) -> Written:
        plugin, quota_bytes, limit_s = session.grant.plugin, session.grant.limits.storage_bytes, _limit_s(session)
        try:
            return await self._do(
                lambda storage: storage.write(
                    plugin,
                    key.encode(),
                    value,
                    quota_bytes=quota_bytes,
                    timeout_s=limit_s,
                    ttl_ms=ttl_ms,
                    expected=expected,
                )
            )
        except QuotaExceeded as error:
            session.refused(CAPABILITY, f"{verb} {key}", str(error))
            raise HostFunctionError("quota_exceeded", str(error)) from None

    async def _do(self, work: Callable[[Storage], Awaitable[T]]) -> T:
        """What a storage does, or the end of the run if it cannot: why is for the operator, and in the log."""
        try:
            done = await work(self._storage or await self.open())
        except (StorageMisconfigured, StorageUnavailable) as error:
            if not self._is_away:
                _log.warning("%s", error)
            self._is_away = True
            raise GuestFault("unavailable", "what the plugin has stored cannot be had just now") from error
        if self._is_away:
            _log.info("the storage can be had again")
        self._is_away = False
        return done


def _begin(session: HostSession, verb: str, model: type[Wanted], arguments: Any) -> Wanted:
    """What is asked for, if the plugin may. Raises `GuestFault` where it may not, and `HostFunctionError`."""
    key = _key_in(arguments)
    if CAPABILITY not in session.grant.capabilities:
        reason = "the plugin may not use storage: the capability 'storage' is not granted to it"
        session.refused(CAPABILITY, f"{verb} {key}", reason)
        raise GuestFault("denied", reason)
    try:
        wanted = model.model_validate(arguments)
    except ValidationError as error:
        raise invalid_arguments(f"storage_{verb}", error) from None
    if (length := len(key.encode())) > MAX_KEY_BYTES:
        reason = f"a key has at most {MAX_KEY_BYTES:,} bytes in UTF-8; this one has {length:,}: {shown(key)}"
        raise HostFunctionError("key_too_long", reason)
    if not key and model is not _List:
        raise _invalid(f"storage_{verb}: 'key': an empty text is none")
    session.used(CAPABILITY, f"{verb} {key}")
    return wanted


def _key_in(arguments: Any) -> str:
    """The key, or the prefix, that is asked for, as far as there is one."""
    values = cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else {}
    key = values.get("key", values.get("prefix"))
    return key if isinstance(key, str) else ""


def _limit_s(session: HostSession) -> float:
    """How long the storage may take now."""
    return min(CALL_LIMIT_S, session.remaining_s * SHARE_OF_RUN)


def _ttl_ms(wanted: _Set) -> int | None:
    return None if wanted.ttl_s is None else math.ceil(wanted.ttl_s * 1_000)


def _text(value: Any) -> bytes:
    """A value as it is stored: JSON. Raises `HostFunctionError`."""
    text = to_json(value, inf_nan_mode="constants")
    if len(text) > MAX_VALUE_BYTES:
        reason = f"a value has at most {MAX_VALUE_BYTES:,} bytes as JSON; this one has {len(text):,}"
        raise HostFunctionError("value_too_large", reason)
    if b"Infinity" in text:
        try:
            from_json(text, allow_inf_nan=False)
        except ValueError:
            raise _invalid("a number in the value is too large to be kept: it would become infinite") from None
    return text


def _entry(text: bytes) -> dict[str, Any] | None:
    return None if text == NOTHING else {"value": from_json(text)}


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: the order of members does not matter, and 1 is 1.0, but not true."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(same_json, one, other))
        case (bool(), _) | (_, bool()):
            return one is other
    return bool(one == other)


def _invalid(reason: str) -> HostFunctionError:
    return HostFunctionError("invalid_arguments", reason)
