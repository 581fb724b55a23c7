"""What workers and operators say to one another on the control exchange: orders, answers, announcements.

    order         to every worker, or to the one it names; it asks, or has something changed
    answer        of one worker, to the order's `reply_to` with its `correlation_id`
    announcement  of one worker to all: it is there, with these plugins; in the end, that it is gone

An order is a class below, and `ORDERS` knows them by name: another one is another class in that list, and a handler in
the workers. All of it is JSON, strictly: what is not known is refused by its name.

None of it is work, so none of it is kept. Each message expires when whoever sent it has stopped waiting, and what has
been handed to a worker that was frozen meanwhile is stale (`is_stale`) when it goes on.

The broker's permissions are the only lock: who may write to the control exchange may give orders.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from .errors import MalformedMessage
from .messages import ANNOUNCEMENT_TYPE, ANSWER_TYPE, ORDER_TYPE, Header, Message, new_message_id
from .topology import Names
from .wire import first_fault, json_type, parse_json, sayable

#: Of an order or an announcement. A hundred plugins take some 4 KiB of the latter.
MAX_CONTROL_BYTES: Final = 256 << 10

#: Of an answer. All there is to know of one plugin takes some 4 KiB, its schemas aside.
MAX_ANSWER_BYTES: Final = 1 << 20

#: How long an answer is worth having, once it is there.
ANSWER_TTL_MS: Final = 10_000

#: What the clocks of two machines may differ by before an order seems stale that is not.
CLOCK_SKEW_MS: Final = 2_000

WorkerName = Annotated[str, Field(min_length=1, max_length=255)]
PluginName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
PluginVersion = Annotated[str, Field(min_length=1, max_length=256)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Model = TypeVar("_Model", bound=_Wire)


# Orders -----------------------------------------------------------------------------------------------------------


class Order(_Wire):
    """What every order has: a name, and the worker that is meant; all of them, where it names none."""

    name: ClassVar[str]

    #: Whether it changes anything. Then a worker may be set to refuse it, and a stale one is not obeyed.
    changes: ClassVar[bool] = False

    worker: WorkerName | None = None


class Ping(Order):
    """Who is there?"""

    name = "ping"


class ListPlugins(Order):
    """What does each serve, and how much?"""

    name = "list"


class Inspect(Order):
    """All there is to know of a plugin's versions."""

    name = "inspect"

    plugin: PluginName


class Reload(Order):
    """Load a plugin's files again; of the version that a request without a requirement gets, unless it names one."""

    name = "reload"
    changes = True

    plugin: PluginName
    version: PluginVersion | None = None


class Unload(Order):
    """Take a plugin, or one version of it, out of use; what needs it first, where it says so."""

    name = "unload"
    changes = True

    plugin: PluginName
    version: PluginVersion | None = None
    with_dependants: bool = False


class ListRollouts(Order):
    """Which new versions are rolled out, and how are they doing?"""

    name = "rollouts"

    plugin: PluginName | None = None


class StepRollout(Order):
    """Begin the rollout of a version, promote it, or roll it back.

    To `start`: without a version that of the highest; `percent` and `shadow` take the place of what its manifest says.
    """

    name = "rollout"
    changes = True

    plugin: PluginName
    step: Literal["start", "promote", "roll_back"]
    version: PluginVersion | None = None
    percent: Annotated[float, Field(ge=0.01, le=99)] | None = None
    shadow: bool | None = None


class Drain(Order):
    """Take no more, finish, and end."""

    name = "drain"
    changes = True


#: Every order, by its name.
ORDERS: Final[Mapping[str, type[Order]]] = MappingProxyType(
    {order.name: order for order in (Ping, ListPlugins, Inspect, Reload, Unload, ListRollouts, StepRollout, Drain)}
)


def order_message(
    names: Names, order: Order, *, valid_s: float, reply_to: str | None = None, correlation_id: str | None = None
) -> Message:
    """An order for the control exchange, to be obeyed within `valid_s` or not at all."""
    return Message(
        to_json({"order": order.name} | order.model_dump(exclude_none=True)),
        names.control,
        order.name,
        ORDER_TYPE,
        new_message_id(),
        correlation_id,
        reply_to,
        expiration_ms=max(1, math.ceil(valid_s * 1_000)),
        timestamp_s=int(time.time()),
    )


def read_order(message: Message) -> Order:
    """The order in a message. Raises MalformedMessage."""
    _check_size(message, "an order")
    body = parse_json(message.body)
    if not isinstance(body, dict):
        raise MalformedMessage(f'an order must be an object {{"order": …}}, not {json_type(body)}')
    named = "order" in body
    name = body.pop("order", None)
    order = ORDERS.get(name) if isinstance(name, str) else None
    if order is None:
        what = f"there is no order {name!r:.100}" if named else '"order" is missing'
        raise MalformedMessage(f"{what}; there are {', '.join(ORDERS)}")
    return _read(order, to_json(body), f"not an order to {name}")


def is_stale(message: Message, now_ms: int | None = None) -> bool:
    """Whether its time was over before it came to be read. One that does not say when it was sent has no age."""
    if message.timestamp_s is None or message.expiration_ms is None:
        return False
    sent_before_ms = (message.timestamp_s + 1) * 1_000  # whole seconds, rounded down
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return now_ms > sent_before_ms + message.expiration_ms + CLOCK_SKEW_MS


# Answers ----------------------------------------------------------------------------------------------------------


class Problem(StrEnum):
    """Why an order was not obeyed."""

    MALFORMED = "malformed"
    REFUSED = "refused"
    NOT_FOUND = "not_found"
    FAILED = "failed"
    BUSY = "busy"
    TOO_LARGE = "too_large"


class Answer(_Wire):
    """What one worker says to an order: an `answer`, or a `problem` with its `error` in a sentence.

    `peers` are the other workers that it knows to be alive.
    """

    worker: WorkerName
    peers: tuple[WorkerName, ...] = ()
    answer: dict[str, Any] | None = None
    problem: Problem | None = None
    error: str | None = None


def answer_message(order: Message, answer: Answer) -> Message | None:
    """To whoever gave the order; None where nobody waits for it. One that is too large says that instead."""
    if order.reply_to is None:
        return None
    body = answer.model_dump_json(exclude_none=True).encode()
    if len(body) > MAX_ANSWER_BYTES:
        error = f"the answer takes {len(body):,} bytes; at most {MAX_ANSWER_BYTES:,} are sent"
        told = Answer(worker=answer.worker, problem=Problem.TOO_LARGE, error=error)
        body = told.model_dump_json(exclude_none=True).encode()
    return Message(
        body,
        routing_key=order.reply_to,
        type=ANSWER_TYPE,
        message_id=new_message_id(),
        correlation_id=order.correlation_id or order.message_id,
        expiration_ms=ANSWER_TTL_MS,
        timestamp_s=int(time.time()),
        headers={Header.WORKER: answer.worker},
    )


def problem(worker: str, kind: Problem, error: str, peers: tuple[str, ...] = ()) -> Answer:
    """An answer that is none, of a sentence that can be said."""
    return Answer(worker=worker, peers=peers, problem=kind, error=sayable(error))


def read_answer(message: Message) -> Answer:
    """Raises MalformedMessage."""
    if message.type != ANSWER_TYPE:
        raise MalformedMessage(f"not an answer: its type is {message.type!r:.100}")
    return _read(Answer, message.body, "not an answer")


# Announcements ----------------------------------------------------------------------------------------------------


class WorkerState(StrEnum):
    """`draining`: it takes no more. `gone`: it has said goodbye."""

    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"


class Announcement(_Wire):
    """A worker, as it tells the others of itself. `plugins` has each plugin's versions, the lowest first."""

    worker: WorkerName
    host: WorkerName
    pid: int
    started: AwareDatetime
    warren: PluginVersion
    state: WorkerState
    plugins: dict[PluginName, tuple[PluginVersion, ...]]


def announcement_message(names: Names, announcement: Announcement, *, valid_s: float) -> Message:
    """For the control exchange; the next one comes within `valid_s`. Raises ValueError where it cannot be told."""
    body = announcement.model_dump_json().encode()
    if len(body) > MAX_CONTROL_BYTES:
        raise ValueError(f"an announcement takes {len(body):,} bytes; at most {MAX_CONTROL_BYTES:,} are heard")
    return Message(
        body,
        names.control,
        announcement.state,
        ANNOUNCEMENT_TYPE,
        new_message_id(),
        expiration_ms=max(1, math.ceil(valid_s * 1_000)),
        timestamp_s=int(time.time()),
        headers={Header.WORKER: announcement.worker},
    )


def read_announcement(message: Message) -> Announcement:
    """Raises MalformedMessage."""
    _check_size(message, "an announcement")
    return _read(Announcement, message.body, "not an announcement")


def _check_size(message: Message, what: str) -> None:
    if len(message.body) > MAX_CONTROL_BYTES:
        raise MalformedMessage(f"{what} of {len(message.body):,} bytes; at most {MAX_CONTROL_BYTES:,} are read")


def _read(model: type[_Model], body: bytes, otherwise: str) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as invalid:
        raise MalformedMessage(f"{otherwise}: {first_fault(invalid)}") from None
