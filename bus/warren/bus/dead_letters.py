"""Dead letters: what they tell about a message that was given up, and that message as it was published first.

There are two kinds. A worker writes the one (`envelopes.dead_letter_message`), whose `warren-*` headers say what
happened. The broker makes the other of a message that took its workers down too often, or expired: `x-death` says why
(https://www.rabbitmq.com/docs/dlx#effects), and all else is as it was. Only the broker's have an `x-death`, whoever's
signature is on them: no worker has one in its letters.

Whoever sent the message wrote its headers, and hopes perhaps to have it replayed to where they may not publish. Nor is
`x-death` proof: RabbitMQ 3 adds to an entry that came with the message, and keeps what that says. What nobody can
forge of the broker's letters is the mailbox they died in, and their key, which is still the message's own.

Nothing is refused here. Anybody can put anything into the queue, and it has to be listed to be got rid of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from .envelopes import BROKERS_HEADERS, MORE_KEYS, ON_MESSAGE
from .errors import MalformedMessage
from .messages import DIRECT_REPLY_TO, EVENT_TYPE, RESULT_TYPE, Header, Message
from .topology import Names
from .trace import read_trace_context
from .wire import UNKNOWN, is_action, parse_json

#: Why the broker gave a message up, in RabbitMQ's words, and in a sentence.
BROKER_REASONS: Final[Mapping[str, str]] = {
    "delivery_limit": "it was delivered too often and never settled: it may take its worker down",
    "expired": "its time was over before a worker took it",
    "rejected": "a consumer rejected it",
    "maxlen": "its queue was full",
}

#: What a worker's letter tells of itself, over what its message may have had under the same names.
_TOLD: Final = (
    Header.OUTCOME,
    Header.ERROR,
    Header.PLUGIN,
    Header.VERSION,
    Header.ATTEMPT,
    Header.WORKER,
    Header.DIED,
    Header.RECORDING,
)
_ORIGIN: Final = frozenset(
    {Header.ORIGINAL_EXCHANGE, Header.ORIGINAL_KEY, Header.ORIGINAL_REPLY_TO, Header.ORIGINAL_EXPIRATION}
)

_NOT_REVIVED: Final = BROKERS_HEADERS | MORE_KEYS | _ORIGIN

#: The last millisecond of the year 9999. What died later did not.
_LATEST_MS: Final = 253_402_300_799_999

#: Hexadecimal digits of the id of a letter whose message has none.
_DIGEST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is known of a dead letter; `message` is all of it, as it was delivered.

    `outcome` is the worker's, or the broker's reason. `attempts` is None where nobody counted, `died_ms` (since 1970)
    where nobody told. `exchange` and `routing_key` are those it was published to first, None where nothing tells them.
    `version` is that of the plugin that ran, `version_requirement` what its sender asked for.
    """

    plugin: str
    action: str
    outcome: str
    error: str | None
    attempts: int | None
    worker: str | None
    version: str | None
    version_requirement: str | None
    died_ms: int | None
    trace_id: str | None
    exchange: str | None
    routing_key: str | None
    reply_to: str | None
    message: Message

    @property
    def id(self) -> str:
        """Its message's id. Letters of one message share it; so do those that have none and say the same."""
        if self.message.message_id:
            return self.message.message_id
        digest = hashlib.sha256(self.message.body)
        for part in (self.exchange, self.routing_key):
            digest.update(b"\0" + (part or "").encode(errors="replace"))
        return f"content-{digest.hexdigest()[:_DIGEST_DIGITS]}"

    @property
    def recording(self) -> bytes | None:
        """That of its last run, packed, where a worker told it. Who wrote the letter may have written anything."""
        recording = self.message.headers.get(Header.RECORDING)
        return recording if self.worker is not None and isinstance(recording, bytes) else None

    @property
    def answers_nobody(self) -> bool:
        """Who sent it waited by direct reply-to, and has long stopped waiting."""
        return self.reply_to is not None and self.reply_to.startswith(DIRECT_REPLY_TO)


def read_dead_letter(names: Names, message: Message) -> DeadLetter:
    """What `message`, from the queue of dead letters, tells. What it tells wrongly it does not tell."""
    trace = read_trace_context(message.headers)
    read = _read_brokers if "x-death" in message.headers else _read_workers
    return replace(read(names, message), trace_id=trace.trace_id if trace else None)


def _read_workers(_: Names, message: Message) -> DeadLetter:
    headers = message.headers
    plugin = _text(headers.get(Header.PLUGIN)) or UNKNOWN
    exchange, key = _origin(headers)
    return DeadLetter(
        plugin=plugin,
        action=_action(message, plugin, key),
        outcome=_text(headers.get(Header.OUTCOME)) or UNKNOWN,
        error=_text(headers.get(Header.ERROR)),
        attempts=_count(headers.get(Header.ATTEMPT)),
        worker=_text(headers.get(Header.WORKER)),
        version=_text(headers.get(Header.VERSION)),
        version_requirement=_text(headers.get(Header.original(Header.VERSION))),
        died_ms=_time_ms(headers.get(Header.DIED)),
        trace_id=None,
        exchange=exchange,
        routing_key=key,
        reply_to=_text(headers.get(Header.ORIGINAL_REPLY_TO)),
        message=message,
    )


def _read_brokers(names: Names, message: Message) -> DeadLetter:
    headers = message.headers
    death = _latest_death(headers)
    queue = _text(death.get("queue")) or ""
    exchange, key = _brokers_origin(names, message, queue, _text(death.get("exchange")))
    plugin = _plugin(names, queue, exchange, key or "")
    reason = _text(death.get("reason")) or UNKNOWN
    return DeadLetter(
        plugin=plugin,
        action=_action(message, plugin, key),
        outcome=reason,
        error=BROKER_REASONS.get(reason),
        attempts=_count(headers.get(Header.ATTEMPT)),
        worker=None,
        version=None,
        version_requirement=_text(headers.get(Header.VERSION)),
        died_ms=_time_ms(_milliseconds(death.get("time"))),
        trace_id=None,
        exchange=exchange,
        routing_key=key,
        reply_to=message.reply_to,
        message=message,
    )


def revived(letter: DeadLetter) -> Message:
    """The message as it was published first: to its exchange with its key, with its ids, its body and its headers.

    Some things are not as they were, each for a reason:
    - the attempts are counted from one again, and no version is preferred: whoever replays has mended what was wrong,
      or hopes so;
    - a direct reply-to address is dropped: that caller has stopped waiting, and the result is published instead, for
      whoever listens. A queue of somebody's own stays the address: it may be there still;
    - `CC` and `BCC` are dropped: nobody else's queue is to get it, and what they name got it the first time;
    - it does not expire, as with RabbitMQ's own dead-lettering: the time it had is over;
    - it leaves behind the recording of its last run;
    - it stays in the trace of the run that it died of, where it had brought none.

    Properties that could not be read are lost, and what says so (`warren-unreadable`) is left: such a message is
    refused again rather than run without them.

    Raises MalformedMessage for a letter that does not tell where it is from.
    """
    if letter.exchange is None or letter.routing_key is None:
        raise MalformedMessage("nothing in it that can be believed tells where it was published first")
    message = letter.message
    headers = dict(message.headers)
    if letter.worker is not None:
        for name in _TOLD:
            headers.pop(name, None)
        for name in (*_TOLD, Header.TRACEPARENT, Header.TRACESTATE):
            if Header.original(name) in headers:
                headers[name] = headers.pop(Header.original(name))
    headers.pop(Header.RESOLVED_VERSION, None)
    if message.type != RESULT_TYPE:  # where it tells how often its request was tried
        headers.pop(Header.ATTEMPT, None)
        headers.pop(Header.PASSED_ON, None)
    return replace(
        message,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        reply_to=None if letter.answers_nobody else letter.reply_to,
        expiration_ms=None,
        headers={name: value for name, value in headers.items() if name not in _NOT_REVIVED},
    )


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: of one of these plugins and outcomes (any, if there are none), and of that age.

    A letter that does not tell when its message died is of no age.
    """

    plugins: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    older_than_ms: int | None = None
    newer_than_ms: int | None = None

    def admits(self, letter: DeadLetter, now_ms: int) -> bool:
        return (
            (not self.plugins or letter.plugin in self.plugins)
            and (not self.outcomes or letter.outcome in self.outcomes)
            and self._admits_age(None if letter.died_ms is None else now_ms - letter.died_ms)
        )

    def _admits_age(self, age_ms: int | None) -> bool:
        if age_ms is None:
            return self.older_than_ms is None and self.newer_than_ms is None
        is_old_enough = self.older_than_ms is None or age_ms >= self.older_than_ms
        return is_old_enough and (self.newer_than_ms is None or age_ms <= self.newer_than_ms)


def _origin(headers: Mapping[str, Any]) -> tuple[str, str] | tuple[None, None]:
    exchange, key = _text(headers.get(Header.ORIGINAL_EXCHANGE)), _text(headers.get(Header.ORIGINAL_KEY))
    return (None, None) if exchange is None or key is None else (exchange, key)


def _brokers_origin(
    names: Names, message: Message, queue: str, claimed: str | None
) -> tuple[str, str] | tuple[None, None]:
    """Where a message was published first that the broker found dead in `queue`, and that it claims to have come by.

    A key that is the mailbox's name has what a worker sent again, whose word the headers then are, or what was put
    there by somebody who may. Of what else claims to be an event, what may be a request to this plugin is taken for
    one: as that it can reach this plugin only.
    """
    key = message.routing_key
    is_mailbox = queue.startswith(names.mailbox(""))
    if is_mailbox and key == queue:
        exchange, first_key = _origin(message.headers)
        return (names.direct, key) if exchange is None or first_key is None else (exchange, first_key)
    if claimed == names.events and is_mailbox:
        plugin, _, action = key.partition(".")
        is_request = plugin == queue.removeprefix(names.mailbox("")) and "." not in action
        return names.requests if is_request else names.events, key
    return (names.requests, key) if claimed == names.requests else (None, None)


def _latest_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newest entry of `x-death`, which is the first one."""
    latest = _first(headers.get("x-death"))
    return latest if isinstance(latest, dict) else {}


def _plugin(names: Names, queue: str, exchange: str | None, key: str) -> str:
    """Whose mailbox a message died in; or whose it was for, where there was no mailbox."""
    if queue.startswith(names.mailbox("")):
        return queue.removeprefix(names.mailbox("")) or UNKNOWN
    return key.partition(".")[0] or UNKNOWN if exchange == names.requests else UNKNOWN


def _action(message: Message, plugin: str, key: str | None) -> str:
    """What was asked for: the routing key tells, or the body of what was put straight into a mailbox."""
    if message.type == EVENT_TYPE:
        return ON_MESSAGE
    if message.type == RESULT_TYPE:
        return _text(message.headers.get(Header.ACTION)) or UNKNOWN
    if key is not None and key.startswith(f"{plugin}."):
        return key.removeprefix(f"{plugin}.") or UNKNOWN
    try:
        body = parse_json(message.body)
    except MalformedMessage:
        return UNKNOWN
    action = body.get("action") if isinstance(body, dict) else None
    return action if isinstance(action, str) and is_action(action) else UNKNOWN


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str) else None


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _time_ms(value: Any) -> int | None:
    milliseconds = _count(value)
    return milliseconds if milliseconds is not None and milliseconds <= _LATEST_MS else None


def _milliseconds(value: Any) -> int | None:
    """Of a time of AMQP's, in whole seconds since 1970; on the memory bus it is a datetime."""
    seconds = _count(int(value.timestamp()) if isinstance(value, datetime) else value)
    return None if seconds is None else seconds * 1_000
