"""Embedders' own host functions: how JSON becomes arguments, what is refused where, and who may call."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from tests.guests import OK, ask, log_answer, wat, write_plugin
from warren.manifests import Policy
from warren.plugins import (
    EmbedderFunction,
    HostFunctionError,
    HostFunctionRefused,
    HostRun,
    Outcome,
    PluginManager,
    SecurityViolation,
    host_function,
)

#: Within which what is waited for happens, on a busy machine.
LIMIT_S = 20.0

NETWORK = '[capabilities]\noptional = ["network"]\n'


class Order(BaseModel):
    article: str
    count: int = 1


@dataclass
class Bill:
    article: str
    day: date


class Call:
    """Runs a plugin that makes one host call, and logs what it got."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def outcome(
        self,
        function: EmbedderFunction[..., Any],
        arguments: Any = None,
        *,
        manifest: str = "",
        policy: Policy | None = None,
        timeout_s: float | None = None,
    ) -> Outcome:
        body, segment = ask(function.name, "" if arguments is None else json.dumps(arguments))
        path = write_plugin(self._folder, "caller", wat(log_answer(body), more=segment), manifest)
        async with PluginManager(host_functions=[function], policy=policy) as manager:
            plugin = await manager.load_plugin(path)
            return await plugin.run(b'{"action":"do","data":null}', timeout_s=timeout_s, depth=3)

    async def __call__(self, function: EmbedderFunction[..., Any], arguments: Any = None, **options: Any) -> Any:
        """What the guest reads."""
        outcome = await self.outcome(function, arguments, **options)
        assert (outcome.kind, outcome.response) == ("ok", OK), outcome.error
        return json.loads(outcome.logs[0].text)

    async def fault(self, function: EmbedderFunction[..., Any], arguments: Any = None) -> str:
        """Why the guest's arguments were refused."""
        answer = await self(function, arguments)
        assert answer["error"]["code"] == "invalid_arguments"
        return str(answer["error"]["message"])


@pytest.fixture
def call(tmp_path: Path) -> Call:
    return Call(tmp_path)


# How JSON becomes arguments.


@host_function()
def repeat(text: str, times: Annotated[int, Field(ge=1, le=3)] = 2) -> str:
    return text * times


async def test_the_keys_of_an_object_are_the_parameters(call: Call) -> None:
    assert await call(repeat, {"text": "ab", "times": 3}) == {"ok": "ababab"}


async def test_a_parameter_with_a_default_may_be_left_out(call: Call) -> None:
    assert await call(repeat, {"text": "ab"}) == {"ok": "abab"}


async def test_a_parameter_without_a_name_is_the_whole_value(call: Call) -> None:
    @host_function()
    def double(number: int, /) -> int:
        return number * 2

    assert await call(double, 21) == {"ok": 42}
    assert await call.fault(double, "21") == "double: Input should be a valid integer"
    assert await call.fault(double, [21]) == "double: Input should be a valid integer"


async def test_a_whole_value_may_be_a_model(call: Call) -> None:
    @host_function()
    def bill(order: Order, /) -> Bill:
        return Bill(f"{order.count} {order.article}", date(2026, 3, 1))

    assert await call(bill, {"article": "carrots"}) == {"ok": {"article": "1 carrots", "day": "2026-03-01"}}
    assert await call.fault(bill, {}) == "bill: 'article': Field required"


async def test_a_model_may_be_one_argument_of_several(call: Call) -> None:
    @host_function()
    async def price(order: Order, day: date) -> float:
        await asyncio.sleep(0)
        return order.count * day.day

    assert await call(price, {"order": {"article": "x", "count": 2}, "day": "2026-03-05"}) == {"ok": 10.0}
    assert "'order.count': Input should be" in await call.fault(
        price, {"order": {"article": "x", "count": "2"}, "day": "2026-03-05"}
    )


async def test_no_arguments_are_an_empty_object(call: Call) -> None:
    @host_function()
    def moon() -> str:
        return "full"

    assert await call(moon) == {"ok": "full"}
    assert await call(moon, {}) == {"ok": "full"}
    assert await call.fault(moon, [1]) == "moon takes no arguments"


async def test_parameters_may_be_called_what_a_model_has_already(call: Call) -> None:
    @host_function()
    def awkward(model_config: int, json: str, _schema: int, copy: None = None) -> list[Any]:
        return [model_config, json, _schema, copy]

    assert await call(awkward, {"model_config": 1, "json": "a", "_schema": 2}) == {"ok": [1, "a", 2, None]}


BAD_ARGUMENTS = {
    "one is missing": ({}, "repeat: 'text': Field required"),
    "one is of another type": ({"text": 5}, "repeat: 'text': Input should be a valid string"),
    "a number as text": ({"text": "a", "times": "2"}, "repeat: 'times': Input should be a valid integer"),
    "one is out of bounds": ({"text": "a", "times": 4}, "repeat: 'times': Input should be less than or equal to 3"),
    "one that is not known": ({"text": "a", "tmies": 3}, "repeat: 'tmies': there is no such argument"),
    "a field's inner name": ({"p0": "a"}, "repeat: 'text': Field required (and 1 more)"),
    "not an object": ("a", "repeat takes an object of text, times"),
    "several": ({"text": 1, "times": "x"}, "repeat: 'text': Input should be a valid string (and 1 more)"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
async def test_wrong_arguments_are_told_where_and_what(call: Call, arguments: Any, message: str) -> None:
    assert await call.fault(repeat, arguments) == message


def test_the_function_can_be_called_as_before() -> None:
    assert repeat("a", times=3) == "aaa"
    assert repeat.signature == "repeat(text: str, times: Annotated[int, Field(ge=1, le=3)] = 2) -> str"


# Results and errors.


async def test_a_wrong_result_is_logged_and_not_the_guests_to_see(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    @host_function()
    def secret() -> int:
        return "hunter2"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    answer = await call(secret)
    assert answer == {"error": {"code": "internal", "message": "the host function 'secret' failed"}}
    assert "Input should be a valid integer" in caplog.text


async def test_an_error_of_the_function_is_logged_and_not_the_guests_to_see(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    @host_function()
    async def breaks() -> None:
        raise RuntimeError("password=hunter2")

    outcome = await call.outcome(breaks)
    assert "hunter2" not in outcome.logs[0].text
    assert "hunter2" in caplog.text
    assert outcome.host_calls[0].error == "password=hunter2"


async def test_an_error_for_the_guest_is_the_guests_to_read(call: Call) -> None:
    @host_function()
    def find(key: str) -> str:
        raise HostFunctionError("not_found", f"there is no {key}")

    assert await call(find, {"key": "x"}) == {"error": {"code": "not_found", "message": "there is no x"}}


# The run that calls.


async def test_a_parameter_that_wants_the_run_is_given_it(call: Call) -> None:
    @host_function()
    def who(run: HostRun, greeting: str) -> list[Any]:
        return [greeting, run.plugin, run.depth, 0 < run.remaining_s <= 5]

    assert await call(who, {"greeting": "hello"}, timeout_s=5) == {"ok": ["hello", "caller", 3, True]}
    assert await call.fault(who, {"greeting": "hello", "run": {}}) == "who: 'run': there is no such argument"


async def test_what_the_guest_got_and_was_refused_is_audited(call: Call) -> None:
    @host_function()
    def read_ledger(page: int, *, run: HostRun) -> str:
        if page > 1:
            run.refuse(f"page {page}", "there is only one")
        run.used(f"page {page}")
        return "empty"

    used = await call.outcome(read_ledger, {"page": 1})
    assert [(one.power, one.asked, one.refusal) for one in used.audit] == [("read_ledger", "page 1", None)]
    refused = await call.outcome(read_ledger, {"page": 2})
    assert (refused.kind, refused.error) == ("denied", "read_ledger: there is only one")
    assert [(one.severity, one.asked, one.refusal) for one in refused.audit] == [
        ("warning", "page 2", "there is only one")
    ]


# Who may call.


@host_function(needs="network")
def look_up(name: str) -> str:
    return f"{name} is at 192.0.2.1"


async def test_a_capability_that_was_not_granted_ends_the_run_and_is_audited(call: Call) -> None:
    outcome = await call.outcome(look_up, {"name": "x"}, manifest=NETWORK)
    reason = "the plugin may not call 'look_up': it has not been granted the capability 'network'"
    assert (outcome.kind, outcome.error) == ("denied", reason)
    assert [(one.severity, one.power, one.asked, one.refusal) for one in outcome.audit] == [
        ("warning", "network", "look_up", reason)
    ]


async def test_who_was_granted_it_calls_and_that_is_audited(call: Call) -> None:
    outcome = await call.outcome(look_up, {"name": "x"}, manifest=NETWORK, policy=Policy(frozenset({"network"})))
    assert json.loads(outcome.logs[0].text) == {"ok": "x is at 192.0.2.1"}
    assert [(one.severity, one.power, one.asked) for one in outcome.audit] == [("debug", "network", "look_up")]


async def test_a_grant_without_its_being_asked_for_is_none(call: Call) -> None:
    outcome = await call.outcome(look_up, {"name": "x"}, policy=Policy(frozenset({"network"})))
    assert outcome.kind == "denied"


async def test_an_embedder_reads_a_violation(tmp_path: Path) -> None:
    body, segment = ask("look_up", '{"name":"x"}')
    async with PluginManager(host_functions=[look_up]) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "caller", wat(log_answer(body), more=segment)))
        with pytest.raises(SecurityViolation, match="has not been granted the capability 'network'"):
            await manager.execute_plugin("caller", "do")


# Time.


async def test_a_coroutine_that_takes_longer_than_its_run_is_cancelled(call: Call) -> None:
    cancelled = asyncio.Event()

    @host_function()
    async def takes_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    began = time.monotonic()
    outcome = await call.outcome(takes_for_ever, timeout_s=0.2)
    assert outcome.kind == "deadline_exceeded"
    assert time.monotonic() - began >= 0.2
    await asyncio.wait_for(cancelled.wait(), LIMIT_S)


async def test_the_time_that_it_took_is_told(call: Call) -> None:
    @host_function()
    async def waits() -> None:
        await asyncio.sleep(0.05)

    outcome = await call.outcome(waits)
    assert outcome.host_us >= 50_000
    assert [(one.name, one.error) for one in outcome.host_calls] == [("waits", None)]


async def test_what_blocks_may_run_in_a_thread_and_keeps_nobody_waiting(call: Call) -> None:
    turned = threading.Event()

    @host_function(in_thread=True)
    def blocks() -> bool:
        return turned.wait(LIMIT_S)

    running = asyncio.create_task(call(blocks))
    asyncio.get_running_loop().call_later(0.05, turned.set)  # which nobody would do, were the loop blocked
    assert await running == {"ok": True}


async def test_a_thread_that_takes_longer_does_not_keep_its_run(call: Call) -> None:
    go_on = threading.Event()

    @host_function(in_thread=True)
    def blocks() -> bool:
        return go_on.wait(LIMIT_S)

    try:
        assert (await call.outcome(blocks, timeout_s=0.1)).kind == "deadline_exceeded"
    finally:
        go_on.set()


# What cannot be a host function.


def untyped(x) -> int:  # type: ignore[no-untyped-def]
    return int(x)


def no_result(x: int):  # type: ignore[no-untyped-def]
    return x


def many(*numbers: int) -> int:
    return sum(numbers)


def keywords(**numbers: int) -> int:
    return sum(numbers.values())


def two_wholes(a: int, b: int, /) -> int:
    return a + b


def unreadable(lock: asyncio.Lock) -> None: ...


def unwritable() -> asyncio.Lock:
    return asyncio.Lock()


def unknown_type(x: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


async def waiting() -> None: ...


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a parameter without a type": (untyped, {}, "host function 'untyped': the parameter 'x' has no type"),
    "a result without a type": (no_result, {}, "its result has no type: where it gives none, write `-> None`"),
    "any number of arguments": (many, {}, r"\*numbers cannot be read from JSON: name each parameter"),
    "any number of keywords": (keywords, {}, r"\*numbers cannot be read from JSON: name each parameter"),
    "two whole values": (two_wholes, {}, "is the whole of what a guest gives, so there can be no other"),
    "a parameter that is no JSON": (unreadable, {}, "pydantic cannot read its parameters: .*Lock"),
    "a result that is no JSON": (unwritable, {}, "pydantic cannot write its result: .*Lock"),
    "a type that is not there": (unknown_type, {}, "its types cannot be read: name 'NotThere' is not defined"),
    "a coroutine in a thread": (waiting, {"in_thread": True}, "a coroutine function cannot run `in_thread`"),
    "a need that is no capability": (
        waiting,
        {"needs": "netwrok"},
        "'netwrok', which is no capability; there are netw",
    ),
    "a name that is none": (waiting, {"name": "a b"}, "host function 'a b': its name is not an identifier"),
    "a lambda": (lambda: None, {}, "host function '<lambda>': its name is not an identifier; give it one with `name=`"),
}


@pytest.mark.parametrize(("function", "options", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_a_host_function_is_refused_where_it_is_made(
    function: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(HostFunctionRefused, match=reason):
        host_function(**options)(function)


@pytest.mark.parametrize("name", ["get_time", "send_message", "call_plugin"])
def test_warrens_own_functions_cannot_be_replaced(name: str) -> None:
    with pytest.raises(HostFunctionRefused, match=f"'{name}': a host function of this name is Warren's own"):
        PluginManager(host_functions=[host_function(name=name)(waiting)])


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(HostFunctionRefused, match="'waiting': a host function of this name was given twice"):
        PluginManager(host_functions=[host_function()(waiting), host_function()(waiting)])


async def test_what_a_guest_says_is_not_in_the_log(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "warren.plugins")
    await call.fault(repeat, {"text": "a", "\x1b[31m\nmarmot": 1})
    assert "marmot" not in caplog.text


def test_the_signature_is_what_guests_give_and_get() -> None:
    @host_function(name="ledger")
    def read(run: HostRun, title: str = "a, 'b'") -> Order | None:
        return None

    assert read.signature == """ledger(title: str = "a, 'b'") -> Order | None"""
