"""Plugins that call plugins, in one process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.guests import OK, answering, ask, calling, data, echoing, log_answer, needing, wat, write_plugin
from warren.plugins import GuestMessage, Outcome, PluginCall, PluginManager, guest, host_function, sandbox
from warren.plugins.guest import guests

LIMIT_S = 20.0
PUBLISHES = '[bus]\npublish = ["#"]\n'
SPIN = "(loop $again (br $again)) (call $answer)"


async def run(manager: PluginManager, name: str, **options: Any) -> Outcome:
    return await manager.find(name).run(b'{"action":"go","data":null}', **options)


def read(outcome: Outcome) -> Any:
    """What the caller's guest was answered."""
    assert (outcome.kind, outcome.response) == ("ok", OK), outcome.error
    return json.loads(outcome.logs[-1].text)


async def test_a_plugin_calls_one_that_it_needs_and_gets_its_result(tmp_path: Path) -> None:
    write_plugin(tmp_path, "echo", echoing())
    write_plugin(tmp_path, "caller", calling("echo", "say", data={"a": [1, "ä"]}), needing("echo"))
    async with PluginManager(tmp_path) as manager:
        outcome = await run(manager, "caller")
        assert read(outcome) == {"ok": {"action": "say", "data": {"a": [1, "ä"]}}}
        assert [(info.name, info.execution_count) for info in manager.list_plugins()] == [("caller", 1), ("echo", 1)]
    [call] = outcome.host_calls
    assert call.name == "call_plugin"
    assert call.callee is not None
    assert (call.callee.plugin, call.callee.version, call.callee.outcome.kind) == ("echo", "1.0.0", "ok")


async def test_to_call_what_is_no_dependency_ends_the_run_as_denied(tmp_path: Path) -> None:
    write_plugin(tmp_path, "echo", echoing())
    write_plugin(tmp_path, "caller", calling("echo"))
    async with PluginManager(tmp_path) as manager:
        outcome = await run(manager, "caller")
        assert manager.find("echo").info().execution_count == 0
    assert outcome.kind == "denied"
    assert outcome.error == "the plugin may not call 'echo': it is none of its [[plugin.dependencies]]"


@pytest.mark.parametrize(
    ("wasm", "code", "message"),
    [
        (answering('{"success":false,"result":null,"error":"too late"}'), "failed", "too late"),
        (answering('{"success":false,"result":null,"error":null}'), "failed", "callee ended as failed"),
        (wat("unreachable"), "trap", "the guest aborted (unreachable)"),
        (wat(SPIN), "out_of_fuel", "the guest used up its 10,000,000 units of fuel"),
        (calling("other"), "denied", "the plugin may not call 'other'"),
        (wat("(i64.const -1)"), "output_too_large", "the guest's answer has"),
    ],
)
async def test_every_end_of_the_callee_that_is_no_result_is_an_error_that_the_caller_reads(
    tmp_path: Path, wasm: bytes, code: str, message: str
) -> None:
    write_plugin(tmp_path, "callee", wasm)
    write_plugin(tmp_path, "caller", calling("callee"), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        outcome = await run(manager, "caller")
    error = read(outcome)["error"]
    assert error["code"] == code
    assert error["message"].startswith(message)
    assert (outcome.host_calls[0].error or "").startswith(code)


async def test_an_action_that_the_callee_does_not_declare_is_rejected(tmp_path: Path) -> None:
    write_plugin(tmp_path, "callee", manifest_extra="[actions.dig]")
    write_plugin(tmp_path, "caller", calling("callee", "fly"), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        assert read(await run(manager, "caller"))["error"]["code"] == "rejected"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Input should be a valid dictionary"),
        ({"plugin": "callee"}, "'action': Field required"),
        ({"plugin": "callee", "action": "do", "version": "1"}, "'version': Extra inputs are not permitted"),
        ({"plugin": 1, "action": "do"}, "'plugin': Input should be a valid string"),
        ({"plugin": "callee", "action": "a.b"}, "'action' cannot be an action: 'a.b'"),
        ({"plugin": "callee", "action": "on_message"}, "'on_message' is for messages: use send_message"),
        ({"plugin": "callee", "action": "do", "version_req": "newest"}, "newest"),
        ({"plugin": "callee", "action": "do", "version_req": "=1.0.0-rc.1"}, "names a pre-release"),
    ],
)
async def test_arguments_that_are_none_are_an_error_that_the_caller_reads(
    tmp_path: Path, arguments: Any, sentence: str
) -> None:
    body, segment = ask("call_plugin", json.dumps(arguments))
    write_plugin(tmp_path, "callee")
    write_plugin(tmp_path, "caller", wat(log_answer(body), more=segment), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        error = read(await run(manager, "caller"))["error"]
    assert error["code"] == "invalid_arguments"
    assert sentence in error["message"]


@pytest.mark.parametrize(
    ("declared", "asked", "version"),
    [
        ("^1", None, "1.5.0"),
        ("^1", "<1.5", "1.0.0"),
        ("*", "^2", "2.0.0"),
        ("^1", "^2", None),
        (">=3.0.0-rc.1", None, "3.0.0-rc.1"),
        (">=3.0.0-rc.1", "=3.0.0-rc.1", "3.0.0-rc.1"),
    ],
)
async def test_a_call_can_ask_for_less_than_the_manifest_and_for_nothing_else(
    tmp_path: Path, declared: str, asked: str | None, version: str | None
) -> None:
    for number, each in enumerate(("1.0.0", "1.5.0", "2.0.0", "3.0.0-rc.1")):
        write_plugin(tmp_path, "callee", version=each, stem=f"callee{number}")
    write_plugin(tmp_path, "caller", calling("callee", version_req=asked), needing("callee", requirement=declared))
    async with PluginManager(tmp_path) as manager:
        assert not manager.failures
        outcome = await run(manager, "caller")
    answer = read(outcome)
    callee = outcome.host_calls[0].callee
    assert (callee.version if callee else None) == version
    assert ("ok" in answer) == (version is not None)
    if version is None:
        assert answer["error"]["code"] == "rejected"
        assert "matches '^1, ^2'; loaded: 1.0.0, 1.5.0, 2.0.0" in answer["error"]["message"]


async def test_a_dependency_that_is_optional_and_not_there_is_rejected(tmp_path: Path) -> None:
    write_plugin(tmp_path, "caller", calling("callee"), needing("callee", optional=True))
    async with PluginManager(tmp_path) as manager:
        assert read(await run(manager, "caller")) == {
            "error": {"code": "rejected", "message": "no plugin 'callee' is loaded"}
        }


async def test_what_the_callee_publishes_is_held_back_with_its_callers_messages(tmp_path: Path) -> None:
    send, sent = ask("send_message", '{"topic":"from.callee","payload":1}')
    write_plugin(tmp_path, "callee", wat(f"(drop {send}) (call $answer)", more=sent), PUBLISHES)
    call, called = ask("call_plugin", '{"plugin":"callee","action":"do"}')
    own, owned = ask("send_message", '{"topic":"own","payload":2}', at=2048)
    for name, end in (("well", "(call $answer)"), ("badly", "unreachable")):
        body = f"(drop {call}) (drop {own}) (drop {call}) {end}"
        write_plugin(tmp_path, name, wat(body, more=called + owned), needing("callee") + PUBLISHES)
    async with PluginManager(tmp_path) as manager:
        well, badly = await run(manager, "well"), await run(manager, "badly")
    callees = GuestMessage(None, "from.callee", b"1", "callee")
    assert well.messages == (callees, GuestMessage(None, "own", b"2"), callees)
    assert (badly.kind, badly.messages) == ("trap", ())


async def test_what_the_callee_publishes_counts_for_its_caller(tmp_path: Path) -> None:
    send, sent = ask("send_message", '{"topic":"t","payload":1}')
    times = """(local $i i32)
      (loop $again (drop {}) (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const {})))) (call $answer)"""
    write_plugin(tmp_path, "callee", wat(times.format(send, 400), more=sent), PUBLISHES)
    call, called = ask("call_plugin", '{"plugin":"callee","action":"do"}')
    for count in (2, 3):
        write_plugin(tmp_path, f"caller{count}", wat(times.format(call, count), more=called), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        assert len((await run(manager, "caller2")).messages) == 800
        much = await run(manager, "caller3")
    assert much.kind == "output_too_large"
    assert "1,000 messages" in str(much.error)


async def test_the_callee_logs_as_itself_within_its_callers_bounds(tmp_path: Path) -> None:
    say = "(call $say (i32.const 1024) (i32.const 5)) (call $answer)"
    write_plugin(tmp_path, "callee", wat(say, more=data(1024, "hello")))
    write_plugin(tmp_path, "caller", calling("callee"), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        lines = (await run(manager, "caller")).logs
    assert [(line.plugin, line.text) for line in lines] == [("callee", "hello"), (None, '{"ok":1}')]


async def test_the_time_that_a_caller_has_left_bounds_the_callee(tmp_path: Path) -> None:
    write_plugin(
        tmp_path, "callee", wat(SPIN), '[capabilities]\nrequired = ["compute"]\n[resources]\nmax_fuel = 100000000'
    )
    write_plugin(tmp_path, "caller", calling("callee"), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        started = asyncio.get_running_loop().time()
        outcome = await run(manager, "caller", timeout_s=0.02)
        assert asyncio.get_running_loop().time() - started < 5
    assert outcome.kind == "deadline_exceeded" or read(outcome)["error"]["code"] == "deadline_exceeded"


async def test_a_caller_that_is_cancelled_takes_its_callee_along(tmp_path: Path) -> None:
    body, segment = ask("never")
    write_plugin(tmp_path, "callee", wat(log_answer(body), more=segment))
    write_plugin(tmp_path, "caller", calling("callee"), needing("callee"))
    waiting = asyncio.Event()

    @host_function()
    async def never() -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with PluginManager(tmp_path, host_functions=[never]) as manager:
        task = asyncio.create_task(run(manager, "caller"))
        await asyncio.wait_for(waiting.wait(), LIMIT_S)
        assert len(guests) == 2
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(LIMIT_S):
            while guests:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)


@pytest.mark.parametrize("depth", [0, 1, 3, 8])
async def test_plugins_that_call_each_other_come_to_an_end(tmp_path: Path, depth: int) -> None:
    write_plugin(tmp_path, "ping", calling("pong"), needing("pong"))
    write_plugin(tmp_path, "pong", calling("ping"), needing("ping", optional=True))
    async with PluginManager(tmp_path, call_depth=depth) as manager:
        assert not manager.failures
        outcome = await run(manager, "ping")
        counts = {info.name: info.execution_count for info in manager.list_plugins()}
    assert counts == {"ping": depth // 2 + 1, "pong": (depth + 1) // 2}
    deepest = [line for line in outcome.logs if "too_deep" in line.text]
    assert len(deepest) == 1
    assert f"through {depth + 1} plugins already" in deepest[0].text


async def test_a_call_that_came_through_plugins_before_has_less_depth_left(tmp_path: Path) -> None:
    write_plugin(tmp_path, "callee")
    write_plugin(tmp_path, "caller", calling("callee"), needing("callee"))
    async with PluginManager(tmp_path) as manager:
        assert "ok" in read(await run(manager, "caller", depth=7))
        assert read(await run(manager, "caller", depth=8))["error"]["code"] == "too_deep"


@pytest.mark.parametrize("depth", [-1, 9])
def test_a_depth_that_there_are_no_slots_for_cannot_be_had(depth: int) -> None:
    with pytest.raises(ValueError, match=f"0 to 8 deep, not {depth}"):
        PluginManager(call_depth=depth)


async def test_callers_that_have_every_slot_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (guest, sandbox):
        monkeypatch.setattr(module, "INSTANCE_SLOTS", 3)
    monkeypatch.setattr(guest, "CALL_SLOTS", 1)
    write_plugin(tmp_path, "ping", calling("pong"), needing("pong"))
    write_plugin(tmp_path, "pong", calling("ping"), needing("ping", optional=True))
    async with PluginManager(tmp_path) as manager, asyncio.timeout(LIMIT_S):
        outcomes = await asyncio.gather(*(run(manager, "ping") for _ in range(30)))
        counts = {info.name: info.execution_count for info in manager.list_plugins()}
    assert {outcome.kind for outcome in outcomes} == {"ok"}
    assert counts == {"ping": 5 * 30, "pong": 4 * 30}


async def test_what_is_recorded_of_calls_of_calls_is_bounded(tmp_path: Path) -> None:
    call, called = ask("call_plugin", '{"plugin":"below","action":"do"}')
    ten = f"{f'(drop {call})' * 10} (call $answer)"
    write_plugin(tmp_path, "below")
    for name, needed in (("middle", "below"), ("above", "middle")):
        call, called = ask("call_plugin", json.dumps({"plugin": needed, "action": "do"}))
        ten = f"{f'(drop {call})' * 10} (call $answer)"
        write_plugin(tmp_path, name, wat(ten, more=called), needing(needed))
    async with PluginManager(tmp_path) as manager:
        outcome = await run(manager, "above")
        assert manager.find("below").info().execution_count == 100

    def count(one: Outcome) -> int:
        return sum(1 + (count(call.callee.outcome) if call.callee else 0) for call in one.host_calls)

    assert len(outcome.host_calls) == 10
    assert 50 <= count(outcome) <= 64


class Remote:
    """Where plugins run that are not loaded here."""

    def __init__(self, outcome: Outcome) -> None:
        self.calls: list[PluginCall] = []
        self._outcome = outcome

    async def call(self, call: PluginCall) -> Outcome:
        self.calls.append(call)
        await asyncio.sleep(0)
        return self._outcome


async def test_a_plugin_that_is_not_loaded_here_is_called_elsewhere(tmp_path: Path) -> None:
    remote = Remote(Outcome("ok", OK))
    caller = calling("far", "do", data=[1], version_req="<1.5")
    write_plugin(tmp_path, "caller", caller, needing("far", requirement="^1", optional=True))
    async with PluginManager(tmp_path) as manager:
        manager.call_elsewhere(remote)
        assert read(await run(manager, "caller", timeout_s=5, depth=2)) == {"ok": 1}
        manager.call_elsewhere(None)
        assert read(await run(manager, "caller"))["error"]["code"] == "rejected"
    [call] = remote.calls
    assert (call.plugin, call.action, call.data, str(call.requirement), call.depth) == ("far", "do", [1], "^1, <1.5", 3)
    assert 0 < call.timeout_s <= 5
