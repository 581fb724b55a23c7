"""The host's side of a run: logs, messages, and the functions behind `host_call`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.guests import OK, ask, data, log_answer, wat
from tests.plugins.conftest import MakeSandbox
from warren.plugins import GuestMessage, HostFunctionError, Outcome
from warren.plugins.callbacks import HOST_CALL_FUEL
from warren.plugins.host import Caps, HostSession

Run = Callable[..., Any]


@pytest.fixture
def call(make_sandbox: MakeSandbox) -> Run:
    """Make one host call and give the outcome, with what the guest read as its only log line."""

    async def run(name: str | bytes, arguments: bytes = b"", function: Any = None, **options: Any) -> Outcome:
        body, segment = ask(name, arguments)
        functions = {} if function is None else {str(name): function}
        sandbox = await make_sandbox(wat(log_answer(body), more=segment), functions, **options)
        return await sandbox.run(b"{}")

    return run


def read(outcome: Outcome) -> Any:
    """What the guest read."""
    assert (outcome.kind, outcome.response) == ("ok", OK)
    return json.loads(outcome.logs[0].text)


def raising(error: BaseException) -> tuple[Any, Any]:
    """A host function that raises, as a function and as a coroutine function."""

    def at_once(_session: HostSession, _arguments: Any) -> None:
        raise error

    async def later(_session: HostSession, _arguments: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return at_once, later


async def test_get_time_gives_seconds_and_milliseconds(call: Run) -> None:
    time = read(await call("get_time"))["ok"]
    assert time["timestamp"] == time["unix_ms"] // 1000 > 1_700_000_000


async def test_a_host_function_is_given_the_value_and_its_value_is_given_back(call: Run) -> None:
    outcome = await call("echo", b'{"a":[1,"\xc3\xa4",null,1.5]}', lambda _session, value: value)
    assert read(outcome) == {"ok": {"a": [1, "ä", None, 1.5]}}
    [recorded] = outcome.host_calls
    assert (recorded.name, recorded.error) == ("echo", None)
    assert recorded.duration_ns > 0


async def test_no_arguments_are_none(call: Run) -> None:
    assert read(await call("echo", b"", lambda _session, value: value)) == {"ok": None}


async def test_a_host_function_may_wait(call: Run) -> None:
    async def double(_session: HostSession, value: Any) -> int:
        await asyncio.sleep(0)
        return int(value) * 2

    assert read(await call("double", b"21", double)) == {"ok": 42}


async def test_an_unknown_function_is_an_error_that_the_guest_reads(call: Run) -> None:
    outcome = await call("nope")
    assert read(outcome) == {"error": {"code": "unknown_function", "message": "there is no host function 'nope'"}}
    assert outcome.host_calls[0].error == "unknown_function: there is no host function 'nope'"


async def test_what_a_guest_says_is_cut_before_it_is_recorded(call: Run) -> None:
    outcome = await call("\x01" * 1500)
    assert len(outcome.host_calls[0].name) == 200
    assert len(outcome.host_calls[0].error or "") <= 200
    outcome = await call("send_message", json.dumps({"to": "A" * 1000, "topic": "ok.x"}).encode())
    assert len(read(outcome)["error"]["message"]) < 200


@pytest.mark.parametrize(
    "arguments",
    [b"{", b"\xff", b"NaN", b"-Infinity", b'"\\ud800"', b"[" * 1000, b"9" * 2000 + b"x", b"[1,]"],
)
async def test_arguments_that_are_not_json_are_an_error_that_the_guest_reads(arguments: bytes, call: Run) -> None:
    error = read(await call("echo", arguments, lambda _session, value: value))["error"]
    assert error["code"] == "invalid_arguments"
    assert error["message"].startswith("the arguments are not JSON: ")


@pytest.mark.parametrize("name", [b"\xff\xfe", "é".encode(), b"", b"a\x00b"])
async def test_any_bytes_can_be_asked_for_as_a_name(name: bytes, call: Run) -> None:
    assert read(await call(name))["error"]["code"] == "unknown_function"


async def test_a_host_function_can_answer_with_an_error(call: Run) -> None:
    for function in raising(HostFunctionError("not_found", "no such thing")):
        outcome = await call("look", b"", function)
        assert read(outcome) == {"error": {"code": "not_found", "message": "no such thing"}}
        assert outcome.host_calls[0].error == "not_found: no such thing"


@pytest.mark.parametrize("error", [KeyError("secret"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
async def test_a_host_function_that_breaks_is_an_internal_error_and_tells_the_guest_nothing(
    error: BaseException, call: Run, caplog: pytest.LogCaptureFixture
) -> None:
    for function in raising(error):
        caplog.clear()
        with caplog.at_level(logging.ERROR, "warren.plugins.host"):
            outcome = await call("look", b"", function)
        assert read(outcome) == {"error": {"code": "internal", "message": "the host function 'look' failed"}}
        assert "host function 'look' failed" in caplog.text


async def test_a_host_function_that_is_cancelled_or_breaks_badly_ends_the_run_only(call: Run) -> None:
    for error in (asyncio.CancelledError(), GeneratorExit()):
        for function in raising(error):
            outcome = await call("look", b"", function)
            assert outcome.kind == "unavailable"
            assert type(error).__name__ in (outcome.error or "")


@pytest.mark.parametrize("value", [object(), b"\xff", "\ud800"])
async def test_a_value_that_is_not_json_is_the_host_function_s_failure(
    value: Any, call: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def later(_session: HostSession, _arguments: Any) -> Any:
        return value

    for function in (lambda _session, _arguments: value, later):
        assert read(await call("odd", b"", function))["error"]["code"] == "internal"


async def test_infinite_numbers_reach_nobody(call: Run) -> None:
    assert read(await call("odd", b"", lambda _session, _arguments: [float("inf"), float("nan")])) == {
        "ok": [None, None]
    }
    outcome = await call("send_message", b'{"topic":"ok.x","payload":[1e999]}')
    assert outcome.messages == (GuestMessage(None, "ok.x", b"[null]"),)


async def test_the_time_in_host_functions_is_part_of_the_runs_and_told_apart(call: Run) -> None:
    async def wait(_session: HostSession, _arguments: Any) -> None:
        await asyncio.sleep(0.02)

    outcome = await call("wait", function=wait)
    assert 20_000 <= outcome.host_us <= outcome.duration_us
    assert outcome.host_us == outcome.host_calls[0].duration_ns // 1_000


async def test_host_calls_cost_fuel_for_the_call_and_each_byte(call: Run) -> None:
    outcomes = [await call("echo", b" " * length + b"1", lambda *_: None) for length in (0, 500)]
    assert outcomes[1].fuel - outcomes[0].fuel == 500
    assert outcomes[0].fuel > HOST_CALL_FUEL


async def test_host_calls_that_cost_more_than_there_is_end_the_run(make_sandbox: MakeSandbox) -> None:
    body, segment = ask("get_time")
    sandbox = await make_sandbox(wat(f"(loop (drop {body}) (br 0)) unreachable", more=segment), max_fuel=100_000)
    outcome = await sandbox.run(b"{}")
    assert (outcome.kind, outcome.fuel) == ("out_of_fuel", 100_000)
    assert 64 <= len(outcome.host_calls) < 100


async def test_a_message_is_part_of_the_outcome(call: Run) -> None:
    outcome = await call("send_message", b'{"to":"other","topic":"ok.x","payload":{"n": 12345678901234567890}}')
    assert read(outcome) == {"ok": None}
    assert outcome.messages == (GuestMessage("other", "ok.x", b'{"n":12345678901234567890}'),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (b"[]", "send_message takes an object of to, topic and payload"),
        (b'{"topic":"ok.x","more":1}', "send_message takes an object of to, topic and payload"),
        (b'{"topic":"ok.x","to":5}', "'to' is not the name of a plugin: '5'"),
        (b'{"topic":"ok.x","to":"Upper"}', "'to' is not the name of a plugin: 'Upper'"),
        (b'{"topic":"ok..x"}', "'topic' is not a topic: 'ok..x'"),
        (b'{"topic":"ok.*"}', "'topic' is not a topic: 'ok.*'"),
        (b'{"payload":1}', "'topic' is not a topic: 'None'"),
    ],
)
async def test_a_message_that_is_none_is_refused_to_the_guest(arguments: bytes, message: str, call: Run) -> None:
    outcome = await call("send_message", arguments)
    assert read(outcome) == {"error": {"code": "invalid_arguments", "message": message}}
    assert outcome.messages == ()


async def test_to_publish_what_the_manifest_does_not_list_ends_the_run(call: Run) -> None:
    outcome = await call("send_message", b'{"topic":"other.x"}')
    assert (outcome.kind, outcome.messages) == ("denied", ())
    assert outcome.error == "the plugin may not publish on 'other.x': no pattern in its [bus] publish"


@pytest.mark.parametrize("caps", [Caps(messages=4), Caps(message_bytes=20)])
async def test_too_many_messages_end_the_run(caps: Caps, make_sandbox: MakeSandbox) -> None:
    body, segment = ask("send_message", b'{"topic":"ok.x","payload":[1,2]}')
    sandbox = await make_sandbox(wat(f"(drop {body})" * 5 + "(call $answer)", more=segment), caps=caps)
    outcome = await sandbox.run(b"{}")
    assert (outcome.kind, outcome.messages) == ("output_too_large", ())
    assert "in one run" in (outcome.error or "")


@pytest.mark.parametrize(
    "ending",
    ["unreachable", "(i64.const 0)", "(loop (br 0)) unreachable", "(call $pack (i32.const 2048) (i32.const 44))"],
)
async def test_messages_of_a_run_that_did_not_end_well_are_dropped(ending: str, make_sandbox: MakeSandbox) -> None:
    body, segment = ask("send_message", b'{"topic":"ok.x","payload":1}')
    failed = data(2048, '{"success":false,"result":null,"error":"no"}')
    outcome = await (await make_sandbox(wat(f"(drop {body}) {ending}", more=segment + failed))).run(b"{}")
    assert outcome.kind != "ok"
    assert outcome.messages == ()


async def test_log_lines_carry_their_level_and_text(make_sandbox: MakeSandbox) -> None:
    lines = "".join(
        f"(call $log (i32.const {level}) (i32.const 1024) (i32.const 3))" for level in (-5, 0, 1, 2, 3, 4, 9)
    )
    outcome = await (await make_sandbox(wat(lines + "(call $answer)", more=data(1024, b"a\xffb")))).run(b"{}")
    assert [line.level for line in outcome.logs] == ["trace", "trace", "debug", "info", "warn", "error", "error"]
    assert {line.text for line in outcome.logs} == {"a\ufffdb"}
    assert outcome.logs[0].time_ns > 1_700_000_000 * 10**9


@pytest.mark.parametrize(("caps", "kept"), [(Caps(log_lines=3), 3), (Caps(log_bytes=17), 3)])
async def test_log_lines_beyond_the_cap_are_dropped_and_counted(
    caps: Caps, kept: int, make_sandbox: MakeSandbox
) -> None:
    say = "(call $say (i32.const 512) (i32.const 5))"
    outcome = await (await make_sandbox(wat(say * 10 + "(call $answer)"), caps=caps)).run(b"{}")
    assert outcome.kind == "ok"
    assert len(outcome.logs) == kept + 1
    assert outcome.logs[-1].text == f"{10 - kept} more lines were dropped: too much was logged"


async def test_logs_of_a_run_that_broke_are_kept(make_sandbox: MakeSandbox) -> None:
    outcome = await (await make_sandbox(wat("(call $say (i32.const 512) (i32.const 10)) unreachable"))).run(b"{}")
    assert (outcome.kind, [line.text for line in outcome.logs]) == ("trap", ['{"success"'])
