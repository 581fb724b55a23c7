"""The fast path: messages and settlements framed by hand, on a channel of aio-pika's connection.

Connecting, authentication, TLS, heartbeats, and every request with an answer (open, declare, consume, cancel, close)
are left to aio-pika and aiormq. What comes many thousand times a second is not: deliveries, publishes, returns,
confirms and settlements pass through here, with no task, queue or object per frame.

The cost per message, in microseconds (CPython 3.11, a request of 300 bytes and its result; of about 80 in all, for
which see `warren.workers.worker`):

    a delivery: frames, properties, `Message`       7
    a publish: frames, one future for its confirm  10
    a confirm, an ack, and their share of a write   4

Publishes are pipelined: each has a number, by which the broker confirms it, alone or with all before it. Their time
limits share one timer, set for whichever ends first. Acks are gathered for a turn of the event loop and sent as one
(`multiple`) as far as nothing before them is still unsettled, since that would ack what is not done.

What this relies on inside aiormq, besides the stream factory that it documents (see `amqp_wire`):

1. It writes whole frames to the stream it was given, and reads nothing but frames from it.
2. A channel's `number` is its number on the wire, and it is opened, and switched to confirms, before it is handed out.
3. It never publishes, acks, nor numbers confirms on a channel of its own accord.

`why_not` checks what can be checked, on every channel; where it does not hold, messages take the plain path.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from importlib.metadata import version
from typing import Final

from aiormq.abc import AbstractChannel

from .amqp_channel import Publishing, Receiver, Settlement, Verdict
from .amqp_closing import ConnectionLost
from .amqp_codec import body_size, content_at, publish_frames, read_message
from .amqp_frames import (
    ACK,
    CLOSE,
    CONFIRM_OK,
    CONTENT_HEADER,
    DELIVER,
    FRAME_OVERHEAD,
    METHOD,
    NACK,
    OPEN_OK,
    REJECT,
    RETURN,
    method_frame,
    read_short,
)
from .amqp_wire import Tap
from .messages import Message

#: Versions of aiormq whose sources were read for what is relied on: from this one up to the next major one.
AIORMQ_MAJOR: Final = "7"

#: Deliveries that are handed over in one turn of the event loop. Many come at once, and handling them takes longer than
#: the broker needs to confirm the first: between two turns its word is read, and what is ready is sent.
TURN: Final = 64

#: basic.nack's second flag, and basic.ack's first.
_REQUEUE: Final = b"\2"
_MULTIPLE: Final = b"\1"
_SINGLE: Final = b"\0"


def why_not(raw: AbstractChannel, tap: Tap, *, confirms: bool) -> str | None:
    """Why messages cannot take the fast path on a channel, in words; None when they can."""
    if version("aiormq").split(".")[0] != AIORMQ_MAJOR:
        return f"aiormq {version('aiormq')} is not a version that it knows"
    if not tap.has_passed(raw.number, OPEN_OK):
        return "aiormq has not opened the channel through the stream it was given"
    if confirms and not tap.has_passed(raw.number, CONFIRM_OK):
        return "aiormq has not switched the channel to confirms"
    return None


class FastChannel:
    """`MessageChannel` by hand."""

    def __init__(self, raw: AbstractChannel, tap: Tap) -> None:
        self.raw = raw
        self._tap = tap
        self._number = raw.number
        self._frame_max = raw.connection.connection_tune.frame_max
        self._loop = asyncio.get_running_loop()
        self._over = False
        # Publishing.
        self._published = 0
        self._unconfirmed: dict[int, Publishing] = {}
        self._mandatory: dict[str, int] = {}
        self._returned: set[int] = set()
        self._twins: dict[str, asyncio.Event] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._next_end = math.inf
        self._ending: asyncio.TimerHandle | None = None
        # Consuming.
        self._receive: Receiver = _receive_nothing
        self._unsettled: dict[int, None] = {}
        self._no_ack = False
        self._acks: list[int] = []
        self._arrived: deque[tuple[bytes, bytes, bytes, bytes, int, bool]] = deque()
        # The message that is arriving: what its method frame said, then its content header, then its body.
        self._delivery: tuple[int, bool, bytes, bytes] | None = None
        self._header = b""
        self._missing = 0
        self._pieces: list[bytes] = []
        raw.closing.add_done_callback(self._on_closed)
        tap.attach(self._number, self)

    # Frames -------------------------------------------------------------------------------------------------------

    def take(self, kind: int, data: bytes, start: int, stop: int) -> int:
        """See `amqp_wire.Tapped`."""
        if kind == METHOD:
            method = int.from_bytes(data[start : start + 4])
            if not self._take_method(method, data, start + 4):
                return 0
            return self._take_content(data, stop + 1) if method == DELIVER else stop + 1
        self._take_part(kind, data, start, stop)
        return stop + 1

    def _take_content(self, data: bytes, at: int) -> int:
        """Take header and body of a delivery, where both are there, each in one frame: nearly always.

        Where the next frame begins; `at`, where it is not so.
        """
        content = content_at(data, at, self._number)
        if content is None:
            return at
        header_at, header_stop, body_stop = content
        self._header = data[header_at:header_stop]
        self._complete(data[header_stop + FRAME_OVERHEAD : body_stop])
        return body_stop + 1

    def _take_part(self, kind: int, data: bytes, start: int, stop: int) -> None:
        if kind == CONTENT_HEADER:
            self._header = data[start:stop]
            self._missing = body_size(self._header)
            if not self._missing:
                self._complete(b"")
            return
        piece = data[start:stop]
        self._missing -= len(piece)
        if self._missing:
            self._pieces.append(piece)
        elif self._pieces:
            self._pieces.append(piece)
            body, self._pieces = b"".join(self._pieces), []
            self._complete(body)
        else:
            self._complete(piece)

    def _take_method(self, method: int, data: bytes, at: int) -> bool:
        if method == DELIVER:
            at += 1 + data[at]  # the consumer's tag: there is one consumer on a channel
            tag = int.from_bytes(data[at : at + 8])
            exchange, key_at = read_short(data, at + 9)
            self._delivery = (tag, data[at + 8] != 0, exchange, read_short(data, key_at)[0])
        elif method == ACK:
            self._confirm(int.from_bytes(data[at : at + 8]), Verdict.CONFIRMED, multiple=data[at + 8] & 1 != 0)
        elif method == NACK:
            self._confirm(int.from_bytes(data[at : at + 8]), Verdict.REFUSED, multiple=data[at + 8] & 1 != 0)
        elif method == RETURN:
            self._delivery = None
        else:
            if method == CLOSE:  # aiormq answers soon; whatever is written after that ends the connection
                self._over = True
            return False
        return True

    def _complete(self, body: bytes) -> None:
        if self._delivery is None:
            self._note_return()
            return
        tag, redelivered, exchange, routing_key = self._delivery
        if not self._no_ack:
            self._unsettled[tag] = None
        if not self._arrived:
            self._loop.call_soon(self._hand_over)
        self._arrived.append((self._header, body, exchange, routing_key, tag, redelivered))

    def _hand_over(self) -> None:
        """Hand over the next few deliveries."""
        for _ in range(min(len(self._arrived), TURN)):
            header, body, exchange, routing_key, tag, redelivered = self._arrived.popleft()
            self._receive(read_message(header, body, exchange, routing_key), tag, redelivered)
        if self._arrived:
            self._loop.call_soon(self._hand_over)

    # Publishing ---------------------------------------------------------------------------------------------------

    def publish(self, publishing: Publishing) -> None:
        """See `MessageChannel`."""
        message_id, mandatory = publishing.message_id, publishing.mandatory
        frames = publish_frames(self._number, publishing.message, message_id, self._frame_max, mandatory=mandatory)
        if self._tap.has_room and not (mandatory and message_id in self._mandatory):
            self._publish(publishing, frames)
        else:
            later = asyncio.create_task(self._publish_later(publishing, frames))
            self._later.add(later)
            later.add_done_callback(self._later.discard)

    def _publish(self, publishing: Publishing, frames: bytes) -> None:
        if self._over:
            self._loop.call_soon(publishing.conclude, publishing, Verdict.LOST, self)
            return
        self._tap.write(frames)
        self._published += 1
        self._unconfirmed[self._published] = publishing
        if publishing.mandatory:
            self._mandatory[publishing.message_id] = self._published
        if publishing.deadline < self._next_end:
            self._end_at(publishing.deadline)

    async def _publish_later(self, publishing: Publishing, frames: bytes) -> None:
        """Wait until the broker reads, so that publishes stand in line here and not in the connection's buffer.

        Mandatory twins go one after the other: the message id tells which publish the broker returned.
        """
        message_id = publishing.message_id
        try:
            async with asyncio.timeout_at(publishing.deadline):
                await self._tap.room()
                while publishing.mandatory and message_id in self._mandatory:
                    await self._twins.setdefault(message_id, asyncio.Event()).wait()
        except ConnectionLost:
            publishing.conclude(publishing, Verdict.LOST, self)
        except TimeoutError:
            publishing.conclude(publishing, Verdict.TIMED_OUT, self)
        else:
            self._publish(publishing, frames)

    def _confirm(self, number: int, verdict: Verdict, *, multiple: bool) -> None:
        if not multiple:
            self._conclude(number, verdict)
            return
        confirmed = []
        for each in self._unconfirmed:  # in the order of their numbers
            if each > number:
                break
            confirmed.append(each)
        for each in confirmed:
            self._conclude(each, verdict)

    def _conclude(self, number: int, verdict: Verdict) -> None:
        publishing = self._unconfirmed.pop(number, None)
        if publishing is None:  # its time was up
            return
        if publishing.mandatory:
            del self._mandatory[publishing.message_id]
            if number in self._returned:
                self._returned.discard(number)
                verdict = Verdict.RETURNED
            if self._twins and (twin := self._twins.pop(publishing.message_id, None)):
                twin.set()
        publishing.conclude(publishing, verdict, self)

    def _note_return(self) -> None:
        """A message that no queue took. The broker's word that it is done with it follows."""
        message_id = read_message(self._header, b"", b"", b"").message_id
        number = self._mandatory.get(message_id or "")
        if number is not None:
            self._returned.add(number)

    def _end_at(self, deadline: float) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._next_end = deadline
        self._ending = self._loop.call_at(deadline, self._end_overdue)

    def _end_overdue(self) -> None:
        now = self._loop.time()
        for number in [each for each, one in self._unconfirmed.items() if one.deadline <= now]:
            self._conclude(number, Verdict.TIMED_OUT)
        self._next_end = math.inf
        if self._unconfirmed:
            self._end_at(min(one.deadline for one in self._unconfirmed.values()))

    # Consuming ----------------------------------------------------------------------------------------------------

    async def consume(self, queue: str, receive: Receiver, *, no_ack: bool = False) -> str:
        self._receive, self._no_ack = receive, no_ack
        consuming = await self.raw.basic_consume(queue, _leave_to_tap, no_ack=no_ack)
        return consuming.consumer_tag or ""

    def settle(self, tag: int, settlement: Settlement) -> None:
        if self._over:
            raise ConnectionLost
        if settlement is Settlement.ACK:
            if not self._acks:
                self._tap.before_write(self._write_acks)
            self._acks.append(tag)
            return
        del self._unsettled[tag]
        if settlement is Settlement.REJECT:
            self._tap.write(method_frame(self._number, REJECT, tag.to_bytes(8) + _SINGLE))
        else:
            self._tap.write(method_frame(self._number, NACK, tag.to_bytes(8) + _REQUEUE))

    def _write_acks(self) -> None:
        """One ack for all that has nothing unsettled before it, and one for each of the others."""
        tags, self._acks = set(self._acks), []
        if self._over:
            return
        first = []
        for tag in self._unsettled:
            if tag not in tags:
                break
            first.append(tag)
        for tag in tags:
            del self._unsettled[tag]
        if first:
            self._write_ack(first[-1], _MULTIPLE)
            tags.difference_update(first)
        for tag in tags:
            self._write_ack(tag, _SINGLE)

    def _write_ack(self, tag: int, flags: bytes) -> None:
        self._tap.write(method_frame(self._number, ACK, tag.to_bytes(8) + flags))

    # The end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if not self._over:
            self._tap.flush()
            self._over = True  # for the broker, a frame on a closed channel ends the connection
        await self.raw.close()

    def _on_closed(self, _: object) -> None:
        self._over = True
        if self._ending is not None:
            self._ending.cancel()
        for number in list(self._unconfirmed):
            self._conclude(number, Verdict.LOST)


def _receive_nothing(_message: Message, _tag: int, _redelivered: bool) -> None:  # noqa: FBT001 - a `Receiver`
    """Until it consumes."""


async def _leave_to_tap(_: object) -> None:
    """What aiormq is told to call with deliveries. None comes to it."""
