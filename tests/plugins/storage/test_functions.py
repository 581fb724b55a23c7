"""The host functions `storage_*`: what a guest may ask, what it is told, and what an operator is."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warren.manifests import Grant, Limits
from warren.plugins.errors import GuestFault
from warren.plugins.host import Caps, HostSession, for_shadows
from warren.plugins.storage import ENTRY_BYTES, Page, Storage, StorageFunctions, StorageUnavailable, Written
from warren.plugins.storage.functions import CALL_LIMIT_S, MAX_KEY_BYTES, MAX_PAGE, MAX_VALUE_BYTES, same_json

FUNCTIONS = ("storage_get", "storage_set", "storage_delete", "storage_list", "storage_compare_and_set")

#: Any JSON, its numbers those that JSON and Python have the same.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Guest:
    """One run of a plugin, which calls the functions as a guest does: with bytes, for bytes."""

    def __init__(self, functions: StorageFunctions, *, timeout_s: float = 20.0, **grant: Any) -> None:
        granted = Grant(**{"plugin": "tested", "capabilities": frozenset({"storage"}), "limits": Limits(), **grant})
        self.session = HostSession(
            granted, functions.by_name(), Caps(), began_ns=time.monotonic_ns(), timeout_s=timeout_s
        )

    async def say(self, name: str, arguments: bytes) -> bytes:
        answer = self.session.call(f"storage_{name}".encode(), arguments)
        return answer if isinstance(answer, bytes) else await answer

    async def ask(self, name: str, **arguments: Any) -> Any:
        """What a function gives. It must not be an error."""
        return json.loads(await self.say(name, json.dumps(arguments).encode()))["ok"]

    async def error(self, name: str, arguments: Any) -> tuple[str, str]:
        error = json.loads(await self.say(name, json.dumps(arguments).encode()))["error"]
        return error["code"], error["message"]

    @property
    def audit(self) -> list[tuple[str, str, str, str | None]]:
        events = self.session.finished_audit()
        return [(event.severity, event.power, event.asked, event.refusal) for event in events]


@pytest.fixture
async def functions(tmp_path: Path) -> AsyncIterator[StorageFunctions]:
    functions = StorageFunctions(f"sqlite://{tmp_path}/storage.db")
    yield functions
    await functions.close()


@pytest.fixture
def guest(functions: StorageFunctions) -> Guest:
    return Guest(functions)


async def test_what_was_set_can_be_got_listed_and_deleted(guest: Guest) -> None:
    assert await guest.ask("get", key="users/1") is None
    assert await guest.ask("set", key="users/1", value={"name": "Ada"}) is None
    assert await guest.ask("get", key="users/1") == {"value": {"name": "Ada"}}
    assert await guest.ask("list") == {"keys": ["users/1"], "cursor": None}
    assert await guest.ask("delete", key="users/1") is True
    assert await guest.ask("delete", key="users/1") is False
    assert await guest.ask("get", key="users/1") is None


async def test_null_is_a_value(guest: Guest) -> None:
    await guest.ask("set", key="key", value=None)
    assert await guest.ask("get", key="key") == {"value": None}


@given(JSON)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_json_value_comes_back_as_it_was(guest: Guest, value: Any) -> None:
    await guest.ask("set", key="key", value=value)
    assert repr(await guest.ask("get", key="key")) == repr({"value": value})


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"0",
            b"1.0",
            b"-0.0",
            b"1e+22",
            b"0.1",
            b"5e-324",
            b"12345678901234567890123456789",
            b'"\\u0000\xf0\x9f\x90\x87"',
        ),
        b'{"b":1,"a":[true,null,{"":""}]}',
        b"[" * 150 + b"]" * 150,
    ],
)
async def test_json_in_its_shortest_form_comes_back_byte_for_byte(text: bytes, guest: Guest) -> None:
    await guest.say("set", b'{"key":"key","value":' + text + b"}")
    assert await guest.say("get", b'{"key":"key"}') == b'{"ok":{"value":' + text + b"}}"


@pytest.mark.parametrize("value", ["1e999", "[-1e999]", '{"Infinity":[1e400]}'])
async def test_a_number_that_would_become_infinite_is_refused(value: str, guest: Guest) -> None:
    answer = json.loads(await guest.say("set", f'{{"key":"key","value":{value}}}'.encode()))
    assert answer["error"]["code"] == "invalid_arguments"
    assert answer["error"]["message"] == "a number in the value is too large to be kept: it would become infinite"
    await guest.ask("set", key="key", value=["Infinity", "-Infinity", "NaN"])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("get", None, "storage_get: Input should be"),
        ("get", [], "storage_get: Input should be"),
        ("get", {}, "storage_get: 'key': Field required"),
        ("get", {"key": 1}, "storage_get: 'key': Input should be a valid string"),
        ("get", {"key": ""}, "storage_get: 'key': an empty text is none"),
        ("get", {"key": "a", "plugin": "other"}, "storage_get: 'plugin': Extra inputs are not permitted"),
        ("set", {"key": "a"}, "storage_set: 'value': Field required"),
        ("set", {"key": "a", "value": 1, "ttl": 5}, "storage_set: 'ttl': Extra inputs are not permitted"),
        ("set", {"key": "a", "value": 1, "ttl_s": 0}, "storage_set: 'ttl_s': Input should be greater than 0"),
        ("set", {"key": "a", "value": 1, "ttl_s": -1}, "storage_set: 'ttl_s': Input should be greater than 0"),
        ("set", {"key": "a", "value": 1, "ttl_s": 1e300}, "storage_set: 'ttl_s': Input should be less than or equal"),
        ("set", {"key": "a", "value": 1, "ttl_s": True}, "storage_set: 'ttl_s': Input should be a valid number"),
        ("delete", {"key": ["a"]}, "storage_delete: 'key': Input should be a valid string"),
        ("list", {"limit": 0}, "storage_list: 'limit': Input should be greater than or equal to 1"),
        ("list", {"limit": MAX_PAGE + 1}, "storage_list: 'limit': Input should be less than or equal to 1000"),
        ("list", {"limit": 1.5}, "storage_list: 'limit': Input should be a valid integer"),
        ("list", {"cursor": 5}, "storage_list: 'cursor': Input should be a valid string"),
        ("compare_and_set", {"key": "a", "expected": 1}, "storage_compare_and_set: 'value': Field required"),
    ],
)
async def test_arguments_that_are_none_are_told_to_the_guest(
    name: str, arguments: Any, message: str, guest: Guest
) -> None:
    code, said = await guest.error(name, arguments)
    assert code == "invalid_arguments"
    assert said.startswith(message)


async def test_a_key_of_a_megabyte_is_too_long(guest: Guest) -> None:
    for name, more in (("get", {}), ("set", {"value": 1}), ("delete", {}), ("compare_and_set", {"value": 1})):
        code, message = await guest.error(name, {"key": "k" * 1_000_000, **more})
        assert code == "key_too_long"
        assert message.startswith("a key has at most 1,024 bytes in UTF-8; this one has 1,000,000: 'kkk")
        assert len(message) < 300
    assert (await guest.error("list", {"prefix": "k" * 1_000_000}))[0] == "key_too_long"


async def test_a_key_s_length_is_that_of_its_utf_8(guest: Guest) -> None:
    longest = "é" * (MAX_KEY_BYTES // 2)
    await guest.ask("set", key=longest, value=1)
    assert await guest.ask("get", key=longest) == {"value": 1}
    assert (await guest.error("get", {"key": longest + "x"}))[0] == "key_too_long"


async def test_a_value_may_be_as_long_as_is_said_and_no_longer(guest: Guest) -> None:
    longest = "v" * (MAX_VALUE_BYTES - 2)
    await guest.ask("set", key="key", value=longest)
    assert await guest.ask("get", key="key") == {"value": longest}
    for name in ("set", "compare_and_set"):
        code, message = await guest.error(name, {"key": "key", "value": longest + "x"})
        assert (code, message) == ("value_too_large", "a value has at most 524,288 bytes as JSON; this one has 524,289")


async def test_pages_are_bounded_and_the_cursor_leads_through_all(guest: Guest) -> None:
    keys = [f"k{number:03}" for number in range(250)]
    for key in keys:
        await guest.ask("set", key=key, value=1)
    await guest.ask("set", key="other", value=1)
    found, cursor = [], None
    while True:
        page = await guest.ask("list", prefix="k", cursor=cursor)
        assert len(page["keys"]) <= 100
        found += page["keys"]
        if (cursor := page["cursor"]) is None:
            break
    assert found == keys
    assert (await guest.ask("list", prefix="k", limit=2)) == {"keys": keys[:2], "cursor": keys[1]}


async def test_what_has_a_ttl_expires(guest: Guest) -> None:
    await guest.ask("set", key="key", value=1, ttl_s=0.0001)
    deadline = time.monotonic() + 20
    while await guest.ask("get", key="key") is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    assert await guest.ask("compare_and_set", key="key", value=2, ttl_s=3600) == {"swapped": True}


async def test_compare_and_set_without_expected_is_for_where_there_is_nothing(guest: Guest) -> None:
    assert await guest.ask("compare_and_set", key="key", value=None) == {"swapped": True}
    assert await guest.ask("compare_and_set", key="key", value=1) == {"swapped": False, "current": {"value": None}}
    assert await guest.ask("compare_and_set", key="key", expected=None, value=1) == {"swapped": True}
    assert await guest.ask("compare_and_set", key="none", expected=None, value=1) == {"swapped": False, "current": None}
    assert await guest.ask("compare_and_set", key="none", expected=1, value=1) == {"swapped": False, "current": None}


@pytest.mark.parametrize(
    ("stored", "expected", "same"),
    [
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        (1, 1.0, True),
        ([1, {"x": None}], [1.0, {"x": None}], True),
        (1, True, False),
        ([0], [False], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ("1", 1, False),
        (None, False, False),
        ({}, [], False),
        ("é", "e\u0301", False),
    ],
)
async def test_what_is_expected_is_compared_as_json(stored: Any, expected: Any, same: bool, guest: Guest) -> None:  # noqa: FBT001
    await guest.ask("set", key="key", value=stored)
    answer = await guest.ask("compare_and_set", key="key", expected=expected, value="new")
    assert answer == ({"swapped": True} if same else {"swapped": False, "current": {"value": stored}})
    assert same_json(stored, expected) is same is same_json(expected, stored)


async def test_many_runs_that_count_by_compare_and_set_lose_no_count(functions: StorageFunctions) -> None:
    async def add_one() -> None:
        guest = Guest(functions)
        answer = await guest.ask("compare_and_set", key="n", value=1)
        while not answer["swapped"]:
            before = answer["current"]["value"]
            answer = await guest.ask("compare_and_set", key="n", expected=before, value=before + 1)

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert await Guest(functions).ask("get", key="n") == {"value": 20}


async def test_without_the_capability_every_function_ends_the_run_and_is_told(functions: StorageFunctions) -> None:
    for name in FUNCTIONS:
        guest = Guest(functions, capabilities=frozenset({"compute", "network", "filesystem"}))
        with pytest.raises(GuestFault, match="the capability 'storage' is not granted to it") as caught:
            await guest.say(name.removeprefix("storage_"), b'{"key":"users/1","value":1}')
        assert caught.value.kind == "denied"
        assert guest.audit == [
            ("warning", "storage", f"{name.removeprefix('storage_')} users/1", caught.value.reason),
        ]


async def test_each_use_is_told(guest: Guest) -> None:
    await guest.ask("set", key="users/1", value=1)
    await guest.ask("get", key="users/1")
    await guest.ask("list", prefix="users/")
    await guest.ask("compare_and_set", key="users/1", value=1)
    await guest.ask("delete", key="users/1")
    assert [asked for _, _, asked, _ in guest.audit] == [
        "set users/1", "get users/1", "list users/", "compare_and_set users/1", "delete users/1",
    ]  # fmt: skip
    assert {(severity, power, refusal) for severity, power, _, refusal in guest.audit} == {("debug", "storage", None)}


async def test_beyond_the_quota_is_an_error_that_the_guest_reads_and_is_told(functions: StorageFunctions) -> None:
    guest = Guest(functions, limits=Limits(storage_bytes=ENTRY_BYTES + 4))
    await guest.ask("set", key="key", value=1)
    sentence = f"the plugin's storage would hold {ENTRY_BYTES + 5} bytes; its quota is {ENTRY_BYTES + 4}"
    for name, more in (("set", {}), ("compare_and_set", {"expected": 1})):
        assert await guest.error(name, {"key": "key", "value": 12, **more}) == ("quota_exceeded", sentence)
        assert guest.audit[-1] == ("warning", "storage", f"{name} key", sentence)
    assert await guest.ask("get", key="key") == {"value": 1}


async def test_a_plugin_reaches_its_own_entries_and_no_other_s(functions: StorageFunctions) -> None:
    await Guest(functions, plugin="other").ask("set", key="secret", value=1)
    mine = Guest(functions, plugin="mine")
    assert await mine.ask("list") == {"keys": [], "cursor": None}
    for key in ("secret", "other/secret", "other\0secret", "../other/secret"):
        assert await mine.ask("get", key=key) is None
        assert await mine.ask("compare_and_set", key=key, value=2) == {"swapped": True}
    assert await mine.ask("list", cursor="other") == {
        "keys": ["other\0secret", "other/secret", "secret"],
        "cursor": None,
    }
    assert await Guest(functions, plugin="other").ask("get", key="secret") == {"value": 1}


async def test_a_shadow_may_read_and_may_not_write(functions: StorageFunctions) -> None:
    called: list[str] = []
    harmless = for_shadows(functions.by_name(), called)
    session = Guest(functions).session
    assert await harmless["storage_get"](session, {"key": "key"}) is None
    assert (await harmless["storage_list"](session, {}))["keys"] == []
    for name in ("storage_set", "storage_delete", "storage_compare_and_set"):
        with pytest.raises(GuestFault, match="a shadow may not call"):
            harmless[name](session, {"key": "key", "value": 1})
    assert called == ["storage_set", "storage_delete", "storage_compare_and_set"]


class Deaf(Storage):
    """A storage that does not answer, and notes how long it was given."""

    def __init__(self) -> None:
        self.limits_s: list[float] = []

    async def get(self, plugin: str, key: bytes, *, timeout_s: float) -> bytes:
        self.limits_s.append(timeout_s)
        raise StorageUnavailable(f"/var/secret/path did not answer within {timeout_s} s")

    async def list(self, plugin: str, prefix: bytes, *, after: bytes, limit: int, timeout_s: float) -> Page:
        raise NotImplementedError

    async def write(self, plugin: str, key: bytes, value: bytes, **options: Any) -> Written:
        raise NotImplementedError

    async def close(self) -> None: ...


async def test_a_storage_that_is_away_is_the_host_s_fault_and_said_once_to_the_operator_alone(
    functions: StorageFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    functions._storage = deaf = Deaf()
    with caplog.at_level(logging.INFO, "warren.plugins.storage"):
        for _ in range(3):
            with pytest.raises(GuestFault) as caught:
                await Guest(functions).say("get", b'{"key":"key"}')
            assert (caught.value.kind, caught.value.reason) == (
                "unavailable", "what the plugin has stored cannot be had just now",
            )  # fmt: skip
        assert caplog.text.count("/var/secret/path") == 1
        await deaf.close()
        functions._storage = None
        await Guest(functions).ask("get", key="key")
    assert caplog.messages[-1] == "the storage can be had again"


async def test_a_call_waits_no_longer_than_its_limit_nor_than_its_run_has_left(functions: StorageFunctions) -> None:
    functions._storage = deaf = Deaf()
    for timeout_s in (1_000.0, 2.0):
        with pytest.raises(GuestFault):
            await Guest(functions, timeout_s=timeout_s).say("get", b'{"key":"key"}')
    whole, rest = deaf.limits_s
    assert whole == CALL_LIMIT_S
    assert 0 < rest < 1.8
    functions._storage = None
