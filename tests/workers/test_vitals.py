"""What probes are answered, from what was heard of each process and when; the clock is the test's own."""

from __future__ import annotations

import pytest

from warren.plugins import Outcome
from warren.workers.metrics import REQUESTS, WorkerMetrics
from warren.workers.vitals import READY, RESTARTS, STARTING_S, STUCK_S, Report, Vitals

WELL = Report(None, started=True)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def counted(requests: int) -> Report:
    metrics = WorkerMetrics(in_flight=lambda: 3)
    for _ in range(requests):
        metrics.processed("mole", Outcome("ok", duration_us=1))
    return Report(None, started=True, metrics=metrics.snapshot())


def total(vitals: Vitals) -> float:
    values = [value for _, snapshot in vitals.metrics() for value in snapshot.get(REQUESTS.name, {}).values()]
    return sum(value for value in values if isinstance(value, (int, float)))


def test_a_process_that_is_being_started_is_live_and_neither_started_nor_ready(clock: Clock) -> None:
    vitals = Vitals(clock=clock)
    assert vitals.not_live() is None
    assert vitals.not_started() == vitals.not_ready() == "starting: the process is being started"
    clock.now_s += STARTING_S + 1
    assert vitals.not_live() == "stuck: nothing was heard of it for 91 s"


def test_a_process_that_serves_is_live_started_and_ready_as_long_as_it_is_heard(clock: Clock) -> None:
    vitals = Vitals(clock=clock)
    vitals.heard(0, WELL)
    clock.now_s += STUCK_S
    assert (vitals.not_live(), vitals.not_started(), vitals.not_ready()) == (None, None, None)
    clock.now_s += 1
    assert vitals.not_live() == vitals.not_ready() == "stuck: nothing was heard of it for 6 s"
    assert vitals.not_started() is None
    vitals.heard(0, WELL)
    assert (vitals.not_live(), vitals.not_ready()) == (None, None)


def test_a_process_that_cannot_serve_is_live_and_says_why_it_is_not_ready(clock: Clock) -> None:
    vitals = Vitals(clock=clock)
    vitals.heard(0, Report("the broker is away", started=True))
    assert (vitals.not_live(), vitals.not_started()) == (None, None)
    assert vitals.not_ready() == "the broker is away"


def test_of_several_processes_those_that_are_not_ready_are_named(clock: Clock) -> None:
    vitals = Vitals(3, clock)
    for place, impediment in enumerate([None, "the broker is away", "draining"]):
        vitals.heard(place, Report(impediment, started=True))
    assert vitals.not_ready() == "worker 2: the broker is away; worker 3: draining"
    ready = [snapshot[READY.name][()] for _, snapshot in vitals.metrics()]
    assert ready == [1, 0, 0]


def test_one_stuck_process_of_several_is_named(clock: Clock) -> None:
    vitals = Vitals(2, clock)
    vitals.heard(1, WELL)
    clock.now_s += STUCK_S + 1
    vitals.heard(0, WELL)
    assert vitals.not_live() == "worker 2: stuck: nothing was heard of it for 6 s"


def test_a_process_that_is_replaced_is_live_and_not_ready_until_the_next_one_serves(clock: Clock) -> None:
    vitals = Vitals(2, clock)
    vitals.heard(0, WELL)
    vitals.heard(1, WELL)
    vitals.ended(1)
    clock.now_s += STUCK_S
    vitals.heard(0, WELL)
    clock.now_s += STUCK_S
    assert vitals.not_live() is None
    assert vitals.not_ready() == "worker 2: starting: the process is being started"
    vitals.heard(1, WELL)
    assert vitals.not_ready() is None
    assert [snapshot[RESTARTS.name][()] for _, snapshot in vitals.metrics()] == [0, 1]


def test_a_process_that_has_ended_for_good_is_missed_by_nobody_while_the_others_drain(clock: Clock) -> None:
    vitals = Vitals(2, clock)
    vitals.heard(0, counted(2))
    vitals.heard(1, counted(3))
    vitals.ended(1, for_good=True)
    clock.now_s += STARTING_S * 10
    vitals.heard(0, Report("draining", started=True, metrics=counted(2).metrics))
    assert vitals.not_live() is None
    assert vitals.not_ready() == "worker 1: draining; worker 2: ended"
    assert total(vitals) == 5


def test_counters_go_on_from_where_a_process_that_died_left_them(clock: Clock) -> None:
    vitals = Vitals(2, clock)
    seen = []
    for place, requests in [(0, 4), (1, 10), (1, None), (1, 0), (1, 2), (1, None), (1, None), (0, 5), (1, 1)]:
        if requests is None:
            vitals.ended(place)
        else:
            vitals.heard(place, counted(requests))
        seen.append(total(vitals))
    assert seen == [4, 14, 14, 14, 16, 16, 16, 17, 18]
    assert [snapshot[RESTARTS.name][()] for _, snapshot in vitals.metrics()] == [0, 3]
