"""What a dead letter tells, whoever made it, and the message it was."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus import (
    DeadLetter,
    DeadLetterFilter,
    Header,
    MalformedMessage,
    Message,
    Names,
    OutcomeKind,
    TraceContext,
    dead_letter_message,
    event_message,
    read_dead_letter,
    request_message,
    result_message,
    retry_message,
    revived,
)

NAMES: Final = Names("test")
HOUR_MS: Final = 3_600_000


def buried(
    message: Message,
    *,
    context: TraceContext | None = None,
    version: str | None = "1.2.3",
    recording: bytes | None = None,
) -> DeadLetter:
    """`message` as a worker gives it up."""
    letter = dead_letter_message(
        NAMES,
        message,
        plugin="digest",
        outcome=OutcomeKind.TRAP,
        error="unreachable",
        attempt=2,
        worker="host-1",
        version=version,
        context=context,
        recording=recording,
    )
    return read_dead_letter(NAMES, letter)


def dropped(message: Message, reason: str = "delivery_limit", queue: str = "test.plugin.digest") -> DeadLetter:
    """`message` as RabbitMQ gives it up (seen on 3.10)."""
    death = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": 1_700_000_000,
        "exchange": message.exchange,
        "routing-keys": [message.routing_key],
    }
    first = {
        "x-first-death-exchange": message.exchange,
        "x-first-death-queue": queue,
        "x-first-death-reason": reason,
    }
    earlier = message.headers.get("x-death", [])
    headers = {**message.headers, **first, "x-death": [death, *earlier], "x-delivery-count": 7}
    return read_dead_letter(NAMES, replace(message, exchange=NAMES.dead, expiration_ms=None, headers=headers))


def request(**options: Any) -> Message:
    return request_message(NAMES, "digest", "act", {"a": 1}, **options)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
HEADERS = st.dictionaries(
    TEXT.filter(lambda name: not name.startswith(("warren-", "x-")))
    | st.sampled_from([Header.VERSION, Header.DEADLINE, Header.FROM, Header.HOPS, Header.CAUSATION, Header.ERROR]),
    st.none() | TEXT | st.integers() | st.binary(max_size=4) | st.lists(st.integers(), max_size=2),
    max_size=6,
)
MESSAGES = st.builds(
    Message,
    body=st.binary(max_size=20),
    exchange=TEXT,
    routing_key=TEXT,
    type=st.none() | st.sampled_from(["warren.request", "warren.event", "theirs"]),
    message_id=st.none() | TEXT,
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT,
    content_type=st.none() | TEXT,
    timestamp_s=st.none() | st.integers(0, 2**40),
    headers=HEADERS,
    other=st.dictionaries(st.sampled_from(["app_id", "content_encoding"]), TEXT, max_size=2),
)
CONTEXTS = st.just(TraceContext.new())


@given(MESSAGES, st.none() | st.sampled_from(["1.2.3"]))
def test_what_a_worker_gave_up_is_revived_as_it_was(message: Message, version: str | None) -> None:
    assert revived(buried(message, version=version)) == message


@given(MESSAGES, CONTEXTS)
def test_what_a_worker_gave_up_in_a_trace_is_revived_as_it_was_when_it_had_brought_one(
    message: Message, context: TraceContext
) -> None:
    traced = replace(message, headers={**message.headers, "traceparent": TraceContext.new().traceparent})
    assert revived(buried(traced, context=context)) == traced
    assert revived(buried(message, context=context)).headers["traceparent"] == context.traceparent


#: What may come to a mailbox by one exchange or the other, without any doubt by which.
PLACES: Final = (
    ("test.requests", "digest.act"),
    ("test.events", "text.done"),
    ("test.events", "digest.is.done"),
    ("test.direct", "test.plugin.digest"),
)


@given(MESSAGES, st.sampled_from(PLACES))
def test_what_the_broker_gave_up_is_revived_as_it_was(message: Message, place: tuple[str, str]) -> None:
    placed = replace(message, exchange=place[0], routing_key=place[1])
    assert revived(dropped(placed)) == placed


def forged_death(**more: str) -> dict[str, Any]:
    """An entry that RabbitMQ 3 would add to, and otherwise keep."""
    death = {"queue": "test.plugin.digest", "reason": "delivery_limit", "count": 0, "routing-keys": ["theirs"]}
    return death | more


FORGED: Final[dict[str, Any]] = {
    Header.ORIGINAL_EXCHANGE: "amq.topic",
    Header.ORIGINAL_KEY: "theirs",
    Header.ORIGINAL_REPLY_TO: "theirs",
    Header.WORKER: "host-1",
    "CC": ["theirs"],
    "BCC": ["theirs"],
}


@pytest.mark.parametrize("place", PLACES[:3])
def test_what_headers_claim_of_their_origin_is_believed_of_no_message_that_the_broker_gave_up(
    place: tuple[str, str],
) -> None:
    again = revived(dropped(replace(request(), exchange=place[0], routing_key=place[1], headers=FORGED)))
    assert (again.exchange, again.routing_key, again.reply_to) == (*place, None)
    assert again.headers == {Header.WORKER: "host-1"}


@pytest.mark.parametrize("exchange", ["test.direct", "", "test.control", "test.dead", "amq.topic"])
def test_a_death_that_came_with_the_message_takes_it_nowhere_else(exchange: str) -> None:
    letter = dropped(request()).message
    headers = {**letter.headers, **FORGED, "x-death": [forged_death(exchange=exchange)]}
    with pytest.raises(MalformedMessage, match="nothing in it that can be believed"):
        revived(read_dead_letter(NAMES, replace(letter, headers=headers)))


def test_a_request_that_says_it_was_an_event_reaches_the_one_plugin_all_the_same() -> None:
    letter = dropped(request()).message
    headers = {**letter.headers, "x-death": [forged_death(exchange="test.events")]}
    again = revived(read_dead_letter(NAMES, replace(letter, headers=headers)))
    assert (again.exchange, again.routing_key) == ("test.requests", "digest.act")


def test_a_workers_letter_is_not_the_brokers_whatever_death_came_with_its_message() -> None:
    headers = FORGED | {"x-death": [forged_death(exchange="test.events")], Header.ERROR: "mine"}
    again = revived(buried(replace(request(), headers=headers)))
    assert (again.exchange, again.routing_key, again.reply_to) == ("test.requests", "digest.act", None)
    assert again.headers == {Header.WORKER: "host-1", Header.ERROR: "mine"}


@given(MESSAGES, st.booleans())
def test_retries_leave_nothing_behind_in_what_is_revived(message: Message, by_broker: bool) -> None:  # noqa: FBT001
    retried = retry_message(NAMES, message, plugin="digest", attempt=3, delay_ms=5, version="1.2.3", passed_on=7)
    expired = dropped(retried, "expired", "test.retry.digest.5").message
    back = replace(expired, exchange=NAMES.direct, routing_key="test.plugin.digest")
    letter = dropped(back) if by_broker else buried(back)
    assert revived(letter) == message
    assert letter.outcome == ("delivery_limit" if by_broker else "trap")


def test_a_letter_tells_the_version_that_ran_last_and_no_other() -> None:
    retried = retry_message(NAMES, request(version="^1"), plugin="digest", attempt=2, delay_ms=5, version="1.0.0")
    letter = buried(retried, version="1.2.3")
    assert (letter.version, letter.version_requirement) == ("1.2.3", "^1")
    assert Header.RESOLVED_VERSION not in letter.message.headers


def test_the_recording_of_a_run_is_in_its_letter_and_not_in_what_is_revived() -> None:
    message = request()
    letter = buried(message, recording=b"\xff\x00")
    assert letter.recording == b"\xff\x00"
    assert revived(letter) == message


def test_a_recording_that_a_request_brought_along_is_nobodys() -> None:
    forged = request()
    forged = replace(forged, headers={**forged.headers, Header.RECORDING: b"\xffforged"})
    assert buried(forged).recording is None
    assert buried(forged, recording=b"\xffours").recording == b"\xffours"
    assert dropped(forged).recording is None  # no worker has signed that


def test_a_message_that_died_twice_is_revived_as_it_was() -> None:
    message = request(version="^1", trace=TraceContext.new())
    again = revived(buried(message, context=TraceContext.new()))
    assert revived(dropped(revived(buried(again)))) == message


def test_a_result_that_found_no_one_is_revived_with_what_it_tells() -> None:
    result = result_message(
        NAMES,
        request(reply_to="gone"),
        plugin="digest",
        action="act",
        outcome=OutcomeKind.OK,
        body=b"{}",
        version="1.0.0",
        attempt=3,
    )
    letter = buried(result)
    assert (letter.action, letter.exchange, letter.routing_key) == ("act", "", "gone")
    assert revived(letter) == result


def test_what_a_workers_letter_tells() -> None:
    context = TraceContext.new()
    before_ms = time.time_ns() // 1_000_000
    letter = buried(request(message_id="id", version="^1", reply_to="somebody"), context=context)
    assert letter.died_ms is not None
    assert before_ms <= letter.died_ms
    assert replace(letter, died_ms=None, message=Message(b"", message_id="id")) == DeadLetter(
        plugin="digest",
        action="act",
        outcome="trap",
        error="unreachable",
        attempts=2,
        worker="host-1",
        version="1.2.3",
        version_requirement="^1",
        died_ms=None,
        trace_id=context.trace_id,
        exchange="test.requests",
        routing_key="digest.act",
        reply_to="somebody",
        message=Message(b"", message_id="id"),
    )
    assert letter.id == "id"


def test_what_the_brokers_letter_tells() -> None:
    letter = dropped(request(version="^1"))
    assert (letter.plugin, letter.action, letter.outcome) == ("digest", "act", "delivery_limit")
    assert (letter.worker, letter.version, letter.version_requirement, letter.attempts) == (None, None, "^1", None)
    assert (letter.exchange, letter.routing_key, letter.died_ms) == ("test.requests", "digest.act", 1_700_000_000_000)
    assert "it may take its worker down" in (letter.error or "")


@pytest.mark.parametrize(
    ("queue", "plugin"), [("test.plugin.stats", "stats"), ("test.unrouted", "digest"), ("somebodys", "digest")]
)
def test_the_brokers_letter_is_of_the_plugin_whose_mailbox_it_was_or_whose_it_was_for(queue: str, plugin: str) -> None:
    assert dropped(request(), "expired", queue).plugin == plugin


def test_the_action_of_what_came_otherwise_than_through_the_requests_exchange_is_found() -> None:
    event = event_message(NAMES, sender="a", to=None, topic="text.done", payload_json=b"1", trace=None)
    direct = replace(request(), exchange="", routing_key="test.plugin.digest")
    assert (dropped(event).plugin, dropped(event).action) == ("digest", "on_message")
    assert buried(direct).action == dropped(direct).action == "act"
    assert buried(replace(direct, body=b"\xff")).action == "unknown"


def test_a_time_is_read_from_the_memory_bus_too() -> None:
    died = datetime(2024, 5, 1, tzinfo=UTC)
    letter = read_dead_letter(NAMES, Message(b"", headers={"x-death": [{"reason": "expired", "time": died}]}))
    assert letter.died_ms == int(died.timestamp()) * 1_000


def test_a_caller_who_has_gone_is_not_answered_and_a_queue_is() -> None:
    for give_up in (buried, dropped):
        assert revived(give_up(request(reply_to="amq.rabbitmq.reply-to.g1h2AA"))).reply_to is None
        assert revived(give_up(request(reply_to="mine"))).reply_to == "mine"


def test_what_is_revived_does_not_expire_again() -> None:
    assert revived(buried(request(expiration_ms=5))).expiration_ms is None


@pytest.mark.parametrize("headers", [{}, {Header.WORKER: "w"}, {"x-death": [{"exchange": "there"}]}])
def test_what_does_not_tell_where_it_is_from_cannot_be_revived(headers: dict[str, Any]) -> None:
    letter = read_dead_letter(NAMES, Message(b"?", "test.dead", "test.dead", headers=headers))
    assert (letter.exchange, letter.routing_key) == (None, None)
    with pytest.raises(MalformedMessage, match="where it was published first"):
        revived(letter)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
TOLD_HEADERS = [value for name, value in vars(Header).items() if name.isupper()]
DEATH = st.dictionaries(st.sampled_from(["reason", "queue", "time", "exchange", "routing-keys"]), ANYTHING)


@given(
    st.dictionaries(st.sampled_from(TOLD_HEADERS), ANYTHING, max_size=6),
    st.none() | ANYTHING | st.lists(DEATH, max_size=2),
    st.binary(max_size=10),
    st.none() | st.text(max_size=5),
)
def test_whatever_is_in_the_queue_is_read(headers: dict[str, Any], deaths: Any, body: bytes, key: str | None) -> None:
    letter = read_dead_letter(
        NAMES, Message(body, "x", key or "", message_id=key, headers={**headers, "x-death": deaths})
    )
    assert letter.id
    assert letter.plugin
    assert letter.action
    assert datetime.fromtimestamp((letter.died_ms or 0) / 1_000, UTC).year <= 9999


def test_letters_of_messages_without_an_id_have_one_that_is_made_of_what_they_say() -> None:
    nameless = Message(b"a", "test.requests", "digest.act")
    letter, twin, other = (buried(each) for each in (nameless, nameless, replace(nameless, body=b"b")))
    assert letter.id == twin.id != other.id
    assert letter.id.startswith("content-")


@pytest.mark.parametrize(
    ("options", "admitted"),
    [
        ({}, True),
        ({"plugins": {"digest", "other"}}, True),
        ({"plugins": {"other"}}, False),
        ({"outcomes": {"delivery_limit"}}, True),
        ({"outcomes": {"trap"}}, False),
        ({"older_than_ms": HOUR_MS}, True),
        ({"older_than_ms": 3 * HOUR_MS}, False),
        ({"newer_than_ms": HOUR_MS}, False),
        ({"newer_than_ms": 3 * HOUR_MS, "older_than_ms": HOUR_MS}, True),
        ({"plugins": {"digest"}, "outcomes": {"trap"}}, False),
    ],
)
def test_a_filter_admits_what_meets_all_of_it(options: dict[str, Any], admitted: bool) -> None:  # noqa: FBT001
    two_hours_later = 1_700_000_000_000 + 2 * HOUR_MS
    assert DeadLetterFilter(**options).admits(dropped(request()), two_hours_later) is admitted


def test_what_does_not_tell_when_it_died_is_of_no_age() -> None:
    letter = read_dead_letter(NAMES, Message(b""))
    assert DeadLetterFilter().admits(letter, 0)
    assert not DeadLetterFilter(older_than_ms=0).admits(letter, 0)
    assert not DeadLetterFilter(newer_than_ms=0).admits(letter, 0)
