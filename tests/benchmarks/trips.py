"""Round trips: requests sent at a pace, and the time that each answer takes.

One loop on one thread sends what is due and reads what has come. A request carries its number in its text, which every
worker gives back, so an answer is known by a search in the received bytes, whatever it is wrapped in.
"""

from __future__ import annotations

import re
import time
from typing import Final

from pamqp import commands

from tests.benchmarks.contenders import Contender, Worker
from tests.benchmarks.wire import TIMEOUT_S, Link, publication

#: The bytes of a request as Warren's wire has it. Envelopes of other libraries come on top of the same text.
REQUEST_BYTES: Final = 300
TEXT_BYTES: Final = REQUEST_BYTES - len('{"action": "echo", "data": ""}')

NUMBER: Final = re.compile(rb"#(\d{7})#")

#: The longest part of a number that the end of what was received can hold.
CUT_BYTES: Final = 8

#: How long to wait for an answer before looking whether the worker lives.
LOOK_EVERY_S: Final = 1.0


def numbered_text(number: int) -> str:
    """The text of a request."""
    return f"#{number:07d}#".ljust(TEXT_BYTES, "x")


def request(contender: Contender, exchange: str, number: int, reply_to: str) -> bytes:
    """The frames of a request, as this worker wants it."""
    wrapped = contender.envelope(numbered_text(number), reply_to)
    return publication(exchange, f"{contender.plugin}.echo", wrapped.body, wrapped.properties)


class Answers:
    """The answers that come by a link, known by the numbers of their requests."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._received = b""

    def numbers(self, timeout_s: float) -> list[int]:
        """Those that have come; empty when nothing does within that time, and also when a part of one did."""
        self._received = self._received[-CUT_BYTES:] + self._link.receive(timeout_s)
        return [int(number) for number in NUMBER.findall(self._received)]


class Caller:
    """Sends requests for one worker and times its answers, which come to an exclusive queue of its own."""

    def __init__(self, link: Link, exchange: str, contender: Contender, worker: Worker) -> None:
        self._replies = str(link.call(commands.Queue.Declare(exclusive=True), commands.Queue.DeclareOk).queue)
        link.call(commands.Basic.Consume(queue=self._replies, no_ack=True), commands.Basic.ConsumeOk)
        self._link = link
        self._answers = Answers(link)
        self._exchange = exchange
        self._contender = contender
        self._worker = worker
        self._next = 0

    def calls_ms(self, count: int, *, per_s: int | None = None, outstanding: int | None = None) -> list[float]:
        """The time that each of so many calls took, in the order of the answers.

        They are sent `per_s` a second, or with `outstanding` of them unanswered at a time, or else at once.
        """
        first, requests = self._next_requests(count)
        sent_at: dict[int, float] = {}
        took_ms: list[float] = []
        start = now = heard = time.perf_counter()
        while len(took_ms) < count:
            sent = len(took_ms) + len(sent_at)
            due = min(count, int((now - start) * per_s) + 1 if per_s else len(took_ms) + (outstanding or count))
            if due > sent:
                sent_at.update(dict.fromkeys(range(first + sent, first + due), time.perf_counter()))
                self._link.send(b"".join(requests[sent:due]))
            wait_s = start + due / per_s - time.perf_counter() if per_s and due < count else LOOK_EVERY_S
            numbers = self._answers.numbers(wait_s)
            now = time.perf_counter()
            for number in numbers:
                if number in sent_at:
                    took_ms.append((now - sent_at.pop(number)) * 1000)
                    heard = now
            if now - heard > LOOK_EVERY_S:
                self._check(now - heard)
        return took_ms

    def _next_requests(self, count: int) -> tuple[int, list[bytes]]:
        """The number of the first one, and the frames of all."""
        first, self._next = self._next, self._next + count
        numbers = range(first, self._next)
        return first, [request(self._contender, self._exchange, number, self._replies) for number in numbers]

    def _check(self, silent_s: float) -> None:
        self._worker.check_alive()
        if silent_s > TIMEOUT_S:
            raise TimeoutError(f"{self._contender.name} has not answered for {TIMEOUT_S:g} s")
