"""The host functions `storage_*`, on a real SQLite file: what a guest is answered, and what it may not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from warren.manifests import Grant, Limits
from warren.plugins import HostFunctionError
from warren.plugins.errors import GuestFault
from warren.plugins.host import Caps, HostSession, for_shadows
from warren.plugins.storage import StorageFunctions
from warren.plugins.storage.functions import MAX_KEY_BYTES, MAX_PAGE, MAX_VALUE_BYTES


def session_of(plugin: str = "keeper", *, granted: bool = True, storage_bytes: int = 1 << 20) -> HostSession:
    grant = Grant(plugin, frozenset({"storage"} if granted else ()), Limits(storage_bytes=storage_bytes))
    return HostSession(grant, {}, Caps(), began_ns=time.monotonic_ns(), timeout_s=30.0)


@pytest.fixture
async def functions(tmp_path: Path) -> AsyncIterator[StorageFunctions]:
    functions = StorageFunctions(f"sqlite:///{tmp_path / 'storage.db'}")
    yield functions
    await functions.close()


async def code_of(functions: StorageFunctions, name: str, arguments: Any, session: HostSession | None = None) -> str:
    """The code of the error that a guest reads."""
    with pytest.raises(HostFunctionError) as caught:
        await functions.by_name()[name](session or session_of(), arguments)
    return caught.value.code


async def test_what_was_set_is_there_for_every_later_run_of_the_plugin(functions: StorageFunctions) -> None:
    value = {"text": "ümläut\n", "numbers": [1, 2.5, -3], "nothing": None, "yes": True}
    assert await functions.get(session_of(), {"key": "a"}) is None
    await functions.set(session_of(), {"key": "a", "value": value})
    assert await functions.get(session_of(), {"key": "a"}) == {"value": value}
    assert await functions.delete(session_of(), {"key": "a"}) is True
    assert await functions.delete(session_of(), {"key": "a"}) is False


@pytest.mark.parametrize("key", ["a", "../keeper/a", "keeper\x00a", "keeper/a", "keeper:a", "%", "a\u0301"])
async def test_no_key_leads_to_another_plugins_entry(functions: StorageFunctions, key: str) -> None:
    await functions.set(session_of("keeper"), {"key": "a", "value": "secret"})
    assert await functions.get(session_of("thief"), {"key": key}) is None
    assert (await functions.list(session_of("thief"), {"prefix": ""}))["keys"] == []


async def test_keys_are_listed_in_pages(functions: StorageFunctions) -> None:
    for number in range(5):
        await functions.set(session_of(), {"key": f"user/{number}", "value": number})
    await functions.set(session_of(), {"key": "other", "value": 1})
    first = await functions.list(session_of(), {"prefix": "user/", "limit": 3})
    assert first["keys"] == ["user/0", "user/1", "user/2"]
    rest = await functions.list(session_of(), {"prefix": "user/", "limit": 3, "cursor": first["cursor"]})
    assert rest == {"keys": ["user/3", "user/4"], "cursor": None}


async def test_compare_and_set_swaps_only_what_was_expected(functions: StorageFunctions) -> None:
    assert await functions.compare_and_set(session_of(), {"key": "n", "value": 1}) == {"swapped": True}
    told = await functions.compare_and_set(session_of(), {"key": "n", "value": 2})
    assert told == {"swapped": False, "current": {"value": 1}}
    told = await functions.compare_and_set(session_of(), {"key": "n", "expected": 1.0, "value": {"a": 1, "b": 2}})
    assert told == {"swapped": True}
    written_otherwise = {"key": "n", "expected": {"b": 2, "a": 1}, "value": 3}
    assert await functions.compare_and_set(session_of(), written_otherwise) == {"swapped": True}
    assert await functions.get(session_of(), {"key": "n"}) == {"value": 3}


async def test_a_key_of_a_megabyte_is_refused(functions: StorageFunctions) -> None:
    assert await code_of(functions, "storage_set", {"key": "k" * (1 << 20), "value": 1}) == "key_too_long"
    await functions.set(session_of(), {"key": "k" * MAX_KEY_BYTES, "value": 1})


async def test_a_value_that_is_too_large_is_refused(functions: StorageFunctions) -> None:
    assert await code_of(functions, "storage_set", {"key": "k", "value": "x" * MAX_VALUE_BYTES}) == "value_too_large"


async def test_the_quota_holds_and_is_audited(functions: StorageFunctions) -> None:
    session = session_of(storage_bytes=10_000)
    await functions.set(session, {"key": "a", "value": "x" * 5_000})
    assert await code_of(functions, "storage_set", {"key": "b", "value": "x" * 6_000}, session) == "quota_exceeded"
    assert await functions.get(session, {"key": "b"}) is None
    assert session.finished_audit()[-2].refusal is not None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("storage_get", None),
        ("storage_get", {}),
        ("storage_get", {"key": 1}),
        ("storage_get", {"key": ""}),
        ("storage_get", {"key": "a", "plugin": "other"}),
        ("storage_set", {"key": "a"}),
        ("storage_set", {"key": "a", "value": 1, "ttl_s": 0}),
        ("storage_set", {"key": "a", "value": 1, "ttl_s": 1e300}),
        ("storage_list", {"limit": MAX_PAGE + 1}),
        ("storage_list", {"limit": True}),
    ],
)
async def test_wrong_arguments_are_told(functions: StorageFunctions, name: str, arguments: Any) -> None:
    assert await code_of(functions, name, arguments) == "invalid_arguments"


@pytest.mark.parametrize(
    "name", ["storage_get", "storage_set", "storage_delete", "storage_list", "storage_compare_and_set"]
)
async def test_without_the_capability_the_run_is_denied_and_nothing_is_opened(tmp_path: Path, name: str) -> None:
    file = tmp_path / "storage.db"
    functions, session = StorageFunctions(f"sqlite:///{file}"), session_of(granted=False)
    with pytest.raises(GuestFault) as caught:
        await functions.by_name()[name](session, {"key": "a", "value": 1})
    assert caught.value.kind == "denied"
    (event,) = session.finished_audit()
    assert (event.power, event.asked) == ("storage", f"{name.removeprefix('storage_')} a")
    assert not file.exists()


async def test_a_shadow_reads_and_writes_nothing(functions: StorageFunctions) -> None:
    await functions.set(session_of(), {"key": "a", "value": 1})
    called: list[str] = []
    shadowed = for_shadows(functions.by_name(), called)
    assert await shadowed["storage_get"](session_of(), {"key": "a"}) == {"value": 1}
    assert called == []
    for name in ("storage_set", "storage_delete", "storage_compare_and_set"):
        with pytest.raises(GuestFault):
            await shadowed[name](session_of(), {"key": "a", "value": 2})
    assert called == ["storage_set", "storage_delete", "storage_compare_and_set"]
    assert await functions.get(session_of(), {"key": "a"}) == {"value": 1}
