"""`execute_plugin`: values in, values out, and every outcome that is no result as an exception of its own."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from tests.guests import answering, ask, data, wat, write_plugin
from warren.plugins import (
    HostUnavailable,
    InvalidInput,
    PluginFailed,
    PluginManager,
    PluginNotFound,
    PluginTrapped,
    RequestRejected,
    ResourceLimit,
    RunFailed,
    SecurityViolation,
    UnexpectedAnswer,
    host_function,
)
from warren.plugins.errors import GuestFault
from warren.plugins.execution import RAISED
from warren.plugins.outcome import RunKind

#: Answers with the request itself: {"success":true,"result":REQUEST,"error":null}.
HEAD, TAIL = '{"success":true,"result":', ',"error":null}'
ECHO = wat(
    f"""(memory.copy (i32.const 8192) (i32.const 1024) (i32.const {len(HEAD)}))
    (memory.copy (i32.const {8192 + len(HEAD)}) (local.get $at) (local.get $length))
    (memory.copy (i32.add (i32.const {8192 + len(HEAD)}) (local.get $length)) (i32.const 1100) (i32.const {len(TAIL)}))
    (call $pack (i32.const 8192) (i32.add (local.get $length) (i32.const {len(HEAD) + len(TAIL)})))""",
    more=data(1024, HEAD) + data(1100, TAIL),
)


class Text(BaseModel):
    text: str
    written: dt.date = dt.date(2025, 1, 2)


class Echo(BaseModel):
    action: str
    data: Text


@dataclasses.dataclass
class Pair:
    action: str
    data: tuple[int, int]


async def test_a_model_goes_in_and_a_model_comes_out(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "echo", ECHO))
        got = await manager.execute_plugin("echo", "say", Text(text="dig"), output=Echo)
        assert got == Echo(action="say", data=Text(text="dig"))


@pytest.mark.parametrize(
    ("value", "output", "expected"),
    [
        (None, None, {"action": "say", "data": None}),
        ({"a": [1, 2.5, "ü", True]}, None, {"action": "say", "data": {"a": [1, 2.5, "ü", True]}}),
        ((1, 2), Pair, Pair("say", (1, 2))),
        (
            "NaN and Infinity are words here",
            dict[str, str],
            {"action": "say", "data": "NaN and Infinity are words here"},
        ),
        ({}, dict[str, str | dict[str, int]] | None, {"action": "say", "data": {}}),
        (1, Annotated[dict[str, str | int], Field(max_length=2)], {"action": "say", "data": 1}),
    ],
)
async def test_whatever_json_can_say_goes_in_and_whatever_pydantic_validates_comes_out(
    value: Any, output: Any, expected: Any, tmp_path: Path
) -> None:
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "echo", ECHO))
        assert await manager.execute_plugin("echo", "say", value, output=output) == expected


@pytest.mark.parametrize("value", [float("nan"), {"x": float("-inf")}, object(), {"x": {object()}}, "\ud800"])
async def test_what_json_cannot_say_never_reaches_a_guest(value: Any, tmp_path: Path) -> None:
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "echo", ECHO))
        with pytest.raises(InvalidInput, match=r"the input of 'say' for echo is not JSON: ") as raised:
            await manager.execute_plugin("echo", "say", value)
        assert (raised.value.plugin, raised.value.action) == ("echo", "say")
        assert manager.list_plugins()[0].execution_count == 0


async def test_an_answer_of_another_shape_is_the_caller_s_to_know(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "echo", ECHO))
        with pytest.raises(UnexpectedAnswer) as raised:
            await manager.execute_plugin("echo", "say", {"text": 5}, output=Echo)
        problem = "at result.data.text: Input should be a valid string"
        assert str(raised.value) == f"echo 1.0.0, 'say': the answer is not what was asked for: {problem}"
        assert raised.value.outcome.kind == "ok"


async def test_a_guest_that_says_no_is_quoted(tmp_path: Path) -> None:
    wasm = answering('{"success":false,"result":{"at":3},"error":"the burrow is full"}')
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "a", wasm))
        with pytest.raises(PluginFailed) as raised:
            await manager.execute_plugin("a", "dig")
        assert raised.value.reason == "the burrow is full"
        assert str(raised.value) == "a 1.0.0, 'dig': the burrow is full"
        await manager.load_plugin(write_plugin(tmp_path, "a", answering('{"success":false,"result":1,"error":null}')))
        with pytest.raises(PluginFailed, match=r"a 1\.0\.0, 'dig': failed"):
            await manager.execute_plugin("a", "dig")


@host_function()
async def deny() -> None:
    raise GuestFault("denied", "it is not yours")


@host_function()
async def break_down() -> None:
    raise GuestFault("unavailable", "the store is away")


ENDLESS = "(loop $l (br $l)) (i64.const 0)"
GROWING = "(drop (memory.grow (i32.const 30000))) unreachable"
ENDS: dict[str, tuple[bytes, str, type[RunFailed], RunKind]] = {
    "a trap": (wat("unreachable"), "", PluginTrapped, "trap"),
    "fuel": (wat(ENDLESS), "[resources]\nmax_fuel = 1000\n", ResourceLimit, "out_of_fuel"),
    "time": (
        wat(ENDLESS),
        '[capabilities]\nrequired = ["compute"]\n[resources]\ntimeout_seconds = 0.01\n',
        ResourceLimit,
        "deadline_exceeded",
    ),
    "memory": (wat(GROWING), "", ResourceLimit, "out_of_memory"),
    "output": (wat("(i64.const 0x7fffffff)"), "", ResourceLimit, "output_too_large"),
    "an unknown action": (wat(), "[actions.other]\n", RequestRejected, "rejected"),
    "what is forbidden": (
        wat(f"(drop {ask('deny')[0]}) (call $answer)", more=ask("deny")[1]),
        "",
        SecurityViolation,
        "denied",
    ),
    "the host": (
        wat(f"(drop {ask('break_down')[0]}) (call $answer)", more=ask("break_down")[1]),
        "",
        HostUnavailable,
        "unavailable",
    ),
}


@pytest.mark.parametrize(("wasm", "manifest", "error", "kind"), ENDS.values(), ids=ENDS.keys())
async def test_every_end_without_a_result_is_an_error_of_its_own(
    wasm: bytes, manifest: str, error: type[RunFailed], kind: RunKind, tmp_path: Path
) -> None:
    async with PluginManager(host_functions=[deny, break_down]) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "a", wasm, manifest))
        with pytest.raises(error) as raised:
            await manager.execute_plugin("a", "dig")
        assert type(raised.value) is error
        assert raised.value.outcome.kind == kind
        assert (raised.value.plugin, raised.value.version, raised.value.action) == ("a", "1.0.0", "dig")
        assert str(raised.value.outcome.error) in str(raised.value)
        if isinstance(raised.value, ResourceLimit):
            assert raised.value.limit == kind


def test_no_outcome_is_left_without_its_error() -> None:
    kinds = TypeAdapter(RunKind).json_schema()["enum"]
    assert set(kinds) - {"ok"} == set(RAISED)


async def test_who_is_asked_is_found_by_the_requirement(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        for version in ("1.0.0", "2.0.0"):
            wasm = answering(f'{{"success":true,"result":"{version}","error":null}}')
            await manager.load_plugin(write_plugin(tmp_path, "a", wasm, version=version, stem=version[0]))
        assert await manager.execute_plugin("a", "dig", output=str) == "2.0.0"
        assert await manager.execute_plugin("a", "dig", output=str, requirement="^1") == "1.0.0"
        with pytest.raises(PluginNotFound, match="no plugin 'b' is loaded"):
            await manager.execute_plugin("b", "dig")


async def test_a_shorter_time_limit_may_be_given(tmp_path: Path) -> None:
    async with PluginManager() as manager:
        manifest = '[capabilities]\nrequired = ["compute"]\n'
        await manager.load_plugin(write_plugin(tmp_path, "a", wat(ENDLESS), manifest))
        with pytest.raises(ResourceLimit) as raised:
            await manager.execute_plugin("a", "dig", timeout_s=0.01)
        assert raised.value.limit == "deadline_exceeded"
