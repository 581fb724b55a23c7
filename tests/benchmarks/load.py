"""The load on workers: a backlog of requests to work off, a steady trickle, a burst, and very many in a row.

The results of a backlog are consumed as they come, and counted by a search in the bytes: a client that did more would
compete with the worker and the broker for the processor, and on a small machine it would decide the figures. (Rejected:
leaving them in their queue and asking for its depth. RabbitMQ then spends 40 % of a processor on collecting the garbage
of that queue alone, and a fast worker waits for it.) The first tenth of a backlog warms up.

A round trip is mostly the broker's, whose share of it drifts by more than workers differ: all workers are up together
then, and are called in turns of an eighth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from pamqp import commands

from tests.benchmarks.contenders import Contender, Worker, cpu_s
from tests.benchmarks.lineup import PREFETCH
from tests.benchmarks.trips import Answers, Caller, request
from tests.benchmarks.wire import TIMEOUT_S, Link
from warren.bus.topology import Exchange, Names, base_topology

#: The pace of round trips. No worker here is near its limit at that.
REQUESTS_PER_S: Final = 200

#: Round trips of one worker before it is the next one's turn.
TURN: Final = 25

BURST: Final = 2_000

#: Requests that are unanswered at a time when there are very many in a row: enough that no worker ever waits.
OUTSTANDING: Final = 2 * PREFETCH

#: How often memory is looked at on the way.
LEGS: Final = 10

#: A broker that uses less of a processor than this has nothing left to do. How often to look, and for how long.
SETTLED_SHARE: Final = 0.1
SETTLING_LOOK_S: Final = 0.5
SETTLING_LIMIT_S: Final = 10.0

#: How often results are counted; an end is seen this much too late at most.
COUNT_EVERY_S: Final = 0.005

#: How often the depth of a queue is asked for.
LOOK_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Round:
    """A backlog worked off, and then round trips. The broker's processor time, where known."""

    requests_per_s: float
    cpu_s_per_1000: float
    broker_cpu_s_per_1000: float | None
    round_trips_ms: list[float]


@dataclass(frozen=True, slots=True)
class Endurance:
    """A burst onto an idle worker, and very many requests in a row; memory before, on the way, and at the end."""

    burst_ms: list[float]
    round_trips_ms: list[float]
    rss_bytes: list[int]


@dataclass(frozen=True, slots=True)
class _Sample:
    """How far a worker was at one moment, and the processor time used by then."""

    results: int
    time_s: float
    cpu_s: float
    broker_cpu_s: float | None

    def until(self, end: _Sample, round_trips_ms: list[float]) -> Round:
        """What happened between this sample and a later one."""
        done = end.results - self.results
        per_s = done / (end.time_s - self.time_s)
        cpu_s_per_1000 = (end.cpu_s - self.cpu_s) / done * 1000
        if end.broker_cpu_s is None or self.broker_cpu_s is None:
            return Round(per_s, cpu_s_per_1000, None, round_trips_ms)
        return Round(per_s, cpu_s_per_1000, (end.broker_cpu_s - self.broker_cpu_s) / done * 1000, round_trips_ms)


class Load:
    """Requests to one broker, under `names`, and their results."""

    def __init__(self, url: str, names: Names, link: Link, results: Results, broker_pid: int | None) -> None:
        self._url = url
        self._names = names
        self._link = link
        self._results = results
        self._broker_pid = broker_pid

    def round(
        self, contenders: Sequence[Contender], requests: int, round_trips: int, tell: Callable[[str], None]
    ) -> list[Round]:
        """Let each worker find a backlog, and then call all of them at `REQUESTS_PER_S`. `tell` hears whose turn it is.

        The rounds come in the order of the workers.
        """
        worked_off: list[tuple[_Sample, _Sample]] = []
        for each in contenders:
            tell(each.name)
            worked_off.append(self._work_off(each, requests))
        self._let_broker_settle()
        tell("round trips")
        round_trips_ms = self._round_trips_ms(contenders, round_trips)
        return [start.until(end, took_ms) for (start, end), took_ms in zip(worked_off, round_trips_ms, strict=True)]

    def _work_off(self, contender: Contender, requests: int) -> tuple[_Sample, _Sample]:
        """What is to be measured of a backlog begins and ends there."""
        self._fill(contender, requests)
        with contender.running() as worker:
            started, warm, done = (self._sample_at(results, worker) for results in (0, requests // 10, requests))
        # So few requests can be done before they are first counted; then the start is measured too.
        return (warm if warm.results < done.results else started), done

    def _round_trips_ms(self, contenders: Sequence[Contender], round_trips: int) -> list[list[float]]:
        with ExitStack() as stack:
            running = [(each, stack.enter_context(each.running())) for each in contenders]
            callers = [stack.enter_context(self._caller(each, worker)) for each, worker in running]
            for caller in callers:
                caller.calls_ms(1)  # it is up
            took_ms: list[list[float]] = [[] for _ in callers]
            for done in range(0, round_trips, TURN):
                for caller, so_far in zip(callers, took_ms, strict=True):
                    caller.calls_ms(1)  # it is awake
                    so_far.extend(caller.calls_ms(min(TURN, round_trips - done), per_s=REQUESTS_PER_S))
            return took_ms

    def endurance(self, contender: Contender, requests: int) -> Endurance:
        """A burst, and then so many requests in a row, to one process."""
        with contender.running() as worker, self._caller(contender, worker) as caller:
            caller.calls_ms(1)  # it is up
            burst_ms = caller.calls_ms(BURST)
            rss_bytes = [worker.rss_bytes()]
            round_trips_ms: list[float] = []
            for _ in range(LEGS):
                round_trips_ms += caller.calls_ms(requests // LEGS, outstanding=OUTSTANDING)
                rss_bytes.append(worker.rss_bytes())
            return Endurance(burst_ms, round_trips_ms, rss_bytes)

    @contextmanager
    def _caller(self, contender: Contender, worker: Worker) -> Iterator[Caller]:
        with Link(self._url) as link:
            yield Caller(link, self._names.requests, contender, worker)

    def _fill(self, contender: Contender, requests: int) -> None:
        """Requests in the worker's queue, and nothing else anywhere."""
        self._link.call(commands.Queue.Purge(queue=contender.queue), commands.Queue.PurgeOk)
        exchange, results = self._names.requests, self._results.queue
        self._link.send(b"".join(request(contender, exchange, number, results) for number in range(requests)))
        self._await(lambda: self._depth(contender.queue), requests, LOOK_EVERY_S)
        self._results.forget()

    def _let_broker_settle(self) -> None:
        """Wait until the broker has put away what it was given: the faster a worker, the more that is just then."""
        if self._broker_pid is None:
            time.sleep(SETTLING_LIMIT_S)
            return
        until = time.monotonic() + SETTLING_LIMIT_S
        used_s = cpu_s(self._broker_pid)
        while time.monotonic() < until:
            time.sleep(SETTLING_LOOK_S)
            before_s, used_s = used_s, cpu_s(self._broker_pid)
            if used_s - before_s < SETTLED_SHARE * SETTLING_LOOK_S:
                return

    def _sample_at(self, results: int, worker: Worker) -> _Sample:
        """The first sample with at least so many results."""
        counted = self._await(self._results.count, results, COUNT_EVERY_S, worker)
        now = time.perf_counter()
        broker_cpu_s = None if self._broker_pid is None else cpu_s(self._broker_pid)
        return _Sample(counted, now, worker.cpu_s(), broker_cpu_s)

    def _await(self, count: Callable[[], int], messages: int, every_s: float, worker: Worker | None = None) -> int:
        """The count of messages, once there are enough; raises TimeoutError when no more come."""
        so_far, changed = -1, 0.0
        while (counted := count()) < messages:
            now = time.monotonic()
            if counted != so_far:
                so_far, changed = counted, now
            if worker:
                worker.check_alive()
            if now - changed > TIMEOUT_S:
                raise TimeoutError(f"{so_far} of {messages} messages came, and no more for {TIMEOUT_S:g} s")
            time.sleep(every_s)
        return counted

    def _depth(self, queue: str) -> int:
        counted = self._link.call(commands.Queue.Declare(queue=queue, passive=True), commands.Queue.DeclareOk)
        return counted.message_count or 0


class Results:
    """Consumes the results in `queue`, and counts them."""

    def __init__(self, link: Link, queue: str) -> None:
        link.call(commands.Basic.Consume(queue=queue, no_ack=True), commands.Basic.ConsumeOk)
        self.queue = queue
        self._answers = Answers(link)
        self._seen: set[int] = set()

    def count(self) -> int:
        """How many requests have been answered since the last `forget`."""
        while numbers := self._answers.numbers(0.0):
            self._seen.update(numbers)
        return len(self._seen)

    def forget(self) -> None:
        """Begin anew."""
        self.count()
        self._seen.clear()


@contextmanager
def load(url: str, names: Names, contenders: Sequence[Contender], broker_pid: int | None = None) -> Iterator[Load]:
    """A load on the broker at `url`, with queues for all contenders, which are deleted afterwards."""
    results = f"{names.prefix}.bench"
    base = base_topology(names)
    queues: dict[str, Mapping[str, str | int]] = {queue.name: queue.arguments() for queue in base.queues}
    queues[results] = {}
    for contender in contenders:
        queues.update(contender.queues)
    with Link(url) as link, Link(url) as results_link:
        _declare(link, base.exchanges, queues)
        for contender in contenders:
            key = f"{contender.plugin}.*"
            bind = commands.Queue.Bind(queue=contender.queue, exchange=names.requests, routing_key=key)
            link.call(bind, commands.Queue.BindOk)
        try:
            yield Load(url, names, link, Results(results_link, results), broker_pid)
        finally:
            for name in queues:
                link.call(commands.Queue.Delete(queue=name), commands.Queue.DeleteOk)
            for exchange in base.exchanges:
                link.call(commands.Exchange.Delete(exchange=exchange.name), commands.Exchange.DeleteOk)


def _declare(link: Link, exchanges: Sequence[Exchange], queues: Mapping[str, Mapping[str, str | int]]) -> None:
    for exchange in exchanges:
        declare_exchange = commands.Exchange.Declare(
            exchange=exchange.name, exchange_type=exchange.kind, durable=True, arguments={**exchange.arguments()}
        )
        link.call(declare_exchange, commands.Exchange.DeclareOk)
    for name, arguments in queues.items():
        declare_queue = commands.Queue.Declare(queue=name, durable=True, arguments={**arguments})
        link.call(declare_queue, commands.Queue.DeclareOk)
