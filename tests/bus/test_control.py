"""Orders, answers and announcements: what is read, what is refused, and with which words."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus import (
    MAX_ANSWER_BYTES,
    MAX_CONTROL_BYTES,
    ORDERS,
    Announcement,
    Answer,
    Drain,
    MalformedMessage,
    Message,
    Names,
    Ping,
    Problem,
    Reload,
    WorkerState,
    announcement_message,
    answer_message,
    is_stale,
    order_message,
    problem,
    read_announcement,
    read_answer,
    read_order,
)

CASES: Final = tomllib.loads((Path(__file__).parent / "orders.toml").read_text())
NAMES: Final = Names("warren")

ANNOUNCED: Final = Announcement(
    worker="host-1-ab12",
    host="host",
    pid=1,
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    warren="0.3.0",
    state=WorkerState.SERVING,
    plugins={"digest": ("1.0.0", "1.1.0")},
)


@pytest.mark.parametrize("case", CASES["read"], ids=lambda case: case["body"])
def test_an_order_is_read_as_it_was_written(case: dict[str, Any]) -> None:
    order = read_order(Message(case["body"].encode()))
    assert order.name == case["order"]
    assert order.model_dump(exclude_unset=True) == case.get("fields", {})


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["body"])
def test_what_is_no_order_is_refused_with_what_is_wrong(case: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage) as refused:
        read_order(Message(case["body"].encode()))
    assert str(refused.value).startswith(case["says"])
    assert len(str(refused.value)) < 500


def test_every_order_has_a_case() -> None:
    assert {case["order"] for case in CASES["read"]} == set(ORDERS)


@given(st.binary())
def test_no_bytes_do_more_than_be_refused(body: bytes) -> None:
    for read in (read_order, read_announcement):
        with pytest.raises(MalformedMessage):
            read(Message(body))


def test_an_order_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(MalformedMessage, match=r"an order of 262,145 bytes; at most 262,144 are read"):
        read_order(Message(b"x" * (MAX_CONTROL_BYTES + 1)))


def test_an_order_comes_back_from_its_message_and_expires_with_its_sender() -> None:
    order = Reload(plugin="digest", worker="w-1")
    message = order_message(NAMES, order, valid_s=1.5, reply_to="me", correlation_id="1")
    assert (message.exchange, message.type, message.expiration_ms) == ("warren.control", "warren.order", 1_500)
    assert read_order(message) == order


def test_an_order_is_stale_when_its_time_was_over_before_it_was_read() -> None:
    message = replace(order_message(NAMES, Drain(), valid_s=5), timestamp_s=1_000)
    assert not is_stale(message, 1_008_000)
    assert is_stale(message, 1_008_001)
    assert not is_stale(replace(message, expiration_ms=10**300), 1_008_001)
    assert not is_stale(replace(message, timestamp_s=None), 1_008_001)


def test_an_answer_goes_to_whoever_asked_and_comes_back() -> None:
    question = order_message(NAMES, Ping(), valid_s=1, reply_to="me", correlation_id="1")
    answer = Answer(worker="w-1", peers=("w-2",), answer={"state": "serving"})
    message = answer_message(question, answer)
    assert message is not None
    assert (message.exchange, message.routing_key, message.correlation_id) == ("", "me", "1")
    assert read_answer(message) == answer
    assert answer_message(replace(question, reply_to=None), answer) is None


def test_an_answer_that_is_too_large_says_that_instead() -> None:
    question = order_message(NAMES, Ping(), valid_s=1, reply_to="me", correlation_id="1")
    message = answer_message(question, Answer(worker="w-1", answer={"much": "x" * MAX_ANSWER_BYTES}))
    assert message is not None
    told = read_answer(message)
    assert (told.problem, told.answer) == (Problem.TOO_LARGE, None)
    assert str(told.error).startswith("the answer takes 1,048,")


def test_what_cannot_be_said_of_a_malformed_order_is_said_all_the_same() -> None:
    assert problem("w-1", Problem.MALFORMED, "broken: \ud800").error == "broken: ?"


def test_an_announcement_comes_back_as_it_was() -> None:
    message = announcement_message(NAMES, ANNOUNCED, valid_s=5)
    assert (message.exchange, message.expiration_ms) == ("warren.control", 5_000)
    assert read_announcement(message) == ANNOUNCED


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"state": "asleep"}, "state: Input should be 'serving', 'draining' or 'gone'"),
        ({"plugins": {"Digest": ["1.0.0"]}}, "plugins.Digest.[key]: String should match pattern"),
        ({"plugins": {"digest": "1.0.0"}}, "plugins.digest: Input should be a valid array"),
        ({"pid": "1"}, "pid: Input should be a valid integer"),
        ({"mood": "good"}, "mood: there is no such field"),
    ],
)
def test_an_announcement_of_another_shape_is_refused(changed: dict[str, Any], says: str) -> None:
    body = ANNOUNCED.model_dump(mode="json") | changed
    with pytest.raises(MalformedMessage) as refused:
        read_announcement(Message(json.dumps(body).encode()))
    assert str(refused.value).startswith(f"not an announcement: {says}")


def test_more_plugins_than_can_be_heard_are_not_announced() -> None:
    many = ANNOUNCED.model_copy(update={"plugins": {f"p{number}": ("1.0.0",) for number in range(20_000)}})
    with pytest.raises(ValueError, match="at most 262,144 are heard"):
        announcement_message(NAMES, many, valid_s=5)
