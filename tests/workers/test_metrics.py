"""What a worker counts, and how Prometheus reads it."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.guests import ask, wat, write_plugin
from tests.probes import Metrics
from warren.bus import Client, OutcomeKind, PublishRefused, PublishTimeout, Unroutable, connect
from warren.plugins import Outcome, PluginManager
from warren.workers.metrics import (
    DURATION,
    DURATIONS_US,
    FAMILIES,
    FUEL,
    GIVEN_BACK,
    IN_FLIGHT,
    MEMORY_BYTES,
    PUBLISH_FAILURES,
    REQUESTS,
    RETRIES,
    ROLLOUT_PERCENT,
    RUN_FUEL,
    Histogram,
    WorkerMetrics,
    add,
)
from warren.workers.prometheus import exposition
from warren.workers.settings import WorkerSettings
from warren.workers.vitals import READY, RESTARTS, Report, Vitals
from warren.workers.worker import Worker

LIMIT_S = 20.0

ROOT: Final = Path(__file__).parents[2]

OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(["ok", "failed", "trap"]),
    fuel=st.integers(0, 2 * FUEL[-1]) | st.sampled_from(FUEL),
    memory_bytes=st.integers(0, 2 * MEMORY_BYTES[-1]) | st.sampled_from(MEMORY_BYTES),
    duration_us=st.integers(1, 2 * DURATIONS_US[-1]) | st.sampled_from(DURATIONS_US),
)
SERVED = st.lists(st.tuples(st.sampled_from(["mole", "badger", ""]), OUTCOMES), max_size=20)


def counting(served: Sequence[tuple[str, Outcome]] = ()) -> WorkerMetrics:
    metrics = WorkerMetrics(in_flight=lambda: 7)
    metrics.expect("mole")
    for plugin, outcome in served:
        metrics.processed(plugin, outcome)
    return metrics


def scraped(*processes: WorkerMetrics) -> str:
    vitals = Vitals(len(processes))
    for place, metrics in enumerate(processes):
        vitals.heard(place, Report(None, started=True, metrics=metrics.snapshot()))
    return exposition(vitals)[0].decode()


@settings(deadline=None, max_examples=30)
@given(SERVED)
def test_a_bucket_counts_what_is_not_above_its_bound(served: list[tuple[str, Outcome]]) -> None:
    metrics = Metrics.parse(scraped(counting(served)))
    for plugin in ("mole", "badger", ""):
        for kind in ("ok", "failed", "trap"):
            runs = [outcome for whose, outcome in served if (whose, outcome.kind) == (plugin, kind)]
            labels = {"plugin": plugin, "outcome": kind}
            assert metrics.sum(REQUESTS.name, **labels) == len(runs)
            assert metrics.sum(f"{DURATION.name}_count", **labels) == len(runs)
            assert metrics.sum(f"{RUN_FUEL.name}_sum", **labels) == sum(run.fuel for run in runs)
            for bound in DURATIONS_US:
                within = metrics.sum(f"{DURATION.name}_bucket", le=str(bound / 1_000_000), **labels)
                assert within == sum(run.duration_us <= bound for run in runs)


@settings(deadline=None)
@given(SERVED, SERVED)
def test_snapshots_add_up_to_the_snapshot_of_all_of_it(
    some: list[tuple[str, Outcome]], others: list[tuple[str, Outcome]]
) -> None:
    apart = add((counting(some).snapshot(), counting(others).snapshot()))
    together = counting(some + others).snapshot()
    assert (together.pop(IN_FLIGHT.name), together.pop(ROLLOUT_PERCENT.name)) == ({(): 7}, {})  # gauges
    seconds, seconds_together = apart.pop(DURATION.name), together.pop(DURATION.name)
    assert apart == together
    assert seconds.keys() == seconds_together.keys()
    for labels, one in seconds.items():
        other = seconds_together[labels]
        assert isinstance(one, Histogram)
        assert isinstance(other, Histogram)
        assert one.counts == other.counts
        assert one.sum == pytest.approx(other.sum)


@settings(deadline=None)
@given(SERVED)
def test_a_snapshot_can_be_pickled_and_is_no_longer_changed(served: list[tuple[str, Outcome]]) -> None:
    metrics = counting(served)
    snapshot = metrics.snapshot()
    pickled = pickle.dumps(snapshot)
    metrics.processed("mole", Outcome("ok", duration_us=1))
    metrics.retried("mole")
    assert pickle.loads(pickled) == snapshot  # noqa: S301 - from just above


def test_the_format_is_right_to_the_strictest_parser_there_is() -> None:
    served = [("mole", Outcome("ok", duration_us=5, fuel=3)), ('ba"d\n', Outcome("trap", duration_us=1))]
    vitals = Vitals(2)
    for place in (0, 1):
        vitals.heard(place, Report(None, metrics=counting(served).snapshot()))
    text, content_type = exposition(vitals, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call]
    names = {family.name.removesuffix("_total") for family in FAMILIES}
    assert families.keys() == names | {"warren_ready", "warren_process_restarts"}
    assert all(family.documentation for family in families.values())


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=moon", "application/openmetrics-text;version=x.y"])
def test_an_odd_wish_for_a_format_is_answered_in_the_plain_one(accept: str) -> None:
    text, content_type = exposition(Vitals(), accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert Metrics.parse(text.decode()).sum("warren_ready") == 0


def test_a_process_is_a_label_only_where_there_are_several() -> None:
    assert Metrics.parse(scraped(counting())).values_of("process") == set()
    both = Metrics.parse(scraped(counting(), counting([("mole", Outcome("ok", duration_us=1))])))
    assert both.values_of("process") == {"1", "2"}
    assert both.sum(REQUESTS.name, process="2") == both.sum(REQUESTS.name) == 1


def test_what_was_refused_before_it_ran_has_no_duration() -> None:
    snapshot = counting([("mole", Outcome("rejected", error="not JSON"))]).snapshot()
    assert snapshot[REQUESTS.name] == {("mole", "rejected"): 1}
    assert snapshot[DURATION.name] == {("mole", "rejected"): Histogram((0,) * (len(DURATIONS_US) + 1), 0)}


def test_a_name_that_a_stranger_made_up_is_no_label() -> None:
    metrics = counting()
    metrics.dead_lettered("made-up-6f1c")
    metrics.dead_lettered(None)
    assert Metrics.parse(scraped(metrics)).values_of("plugin") == {"", "mole"}


def test_counters_that_alerts_look_at_stand_at_0_before_anything_has_happened() -> None:
    lines = scraped(counting()).splitlines()
    assert 'warren_dead_letters_total{plugin="mole"} 0.0' in lines
    assert 'warren_retries_total{plugin="mole"} 0.0' in lines
    assert 'warren_publish_failures_total{reason="timeout"} 0.0' in lines
    assert "warren_given_back_total 0.0" in lines


def test_publishes_that_failed_are_told_apart_by_their_reason() -> None:
    class Strange(PublishRefused):
        pass

    metrics = counting()
    for error in (Unroutable("", "a"), PublishRefused("", "a"), PublishTimeout("", "a", 1), Strange("", "a")):
        metrics.publish_failed(error)
    once = dict.fromkeys([("unroutable",), ("refused",), ("timeout",), ("other",)], 1)
    assert metrics.snapshot()[PUBLISH_FAILURES.name] == once


def numbers(worker: Worker, family: str) -> dict[tuple[str, ...], Any]:
    """What is not 0."""
    return {labels: value for labels, value in worker.metrics.snapshot()[family].items() if value}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - the worker tells nobody
            await asyncio.sleep(0.01)


async def test_a_worker_counts_what_becomes_of_its_requests(tmp_path: Path) -> None:
    send, text = ask("send_message", '{"to": null, "topic": "tunnels", "payload": 1}')
    write_plugin(tmp_path, "sender", wat(f"(drop {send}) (call $answer)", more=text), '[bus]\npublish = ["#"]\n')
    retry = '[retry]\nmax_attempts = 2\ninitial_delay_ms = 1\non = ["trap"]\n'
    write_plugin(tmp_path, "broken", wat("unreachable"), retry)
    url = f"memory://{tmp_path.name}"
    transport = await connect(url)
    async with PluginManager(tmp_path) as manager, Client(url, timeout_s=LIMIT_S) as client:
        worker = Worker(transport, manager, WorkerSettings(tmp_path, url, grace_s=LIMIT_S))
        assert worker.impediment() == "starting: not every mailbox is consumed yet"
        await worker.start()
        assert worker.impediment() is None
        called = [("sender", 3), ("broken", 1), ("nobody", 1)]
        results = [await client.call(name, "do") for name, times in called for _ in range(times)]
        assert results[-1].outcome is OutcomeKind.REJECTED
        await until(lambda: not worker.metrics.snapshot()[IN_FLIGHT.name][()])
        await worker.drain()
        assert worker.impediment() == "draining: no more requests are taken"
    await transport.close()
    assert numbers(worker, "warren_requests_total") == {
        ("sender", "ok"): 3,
        ("broken", "trap"): 2,
        ("", "rejected"): 1,
    }
    assert numbers(worker, "warren_guest_messages_total") == {("sender",): 3}
    assert numbers(worker, RETRIES.name) == {("broken",): 1}
    assert numbers(worker, "warren_dead_letters_total") == {("broken",): 1, ("",): 1}
    assert numbers(worker, GIVEN_BACK.name) == {}
    for labels, one in worker.metrics.snapshot()[DURATION.name].items():
        assert isinstance(one, Histogram)
        assert sum(one.counts) == {"sender": 3, "broken": 2, "": 0}[labels[0]]


def test_the_bounds_of_every_histogram_rise() -> None:
    assert all(low < high for bounds in (DURATIONS_US, FUEL, MEMORY_BYTES) for low, high in pairwise(bounds))


@pytest.mark.parametrize("document", ["README.md", "deploy/prometheus-alerts.yml"])
def test_documents_name_no_metric_that_there_is_not(document: str) -> None:
    prose = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"\bwarren_(?!v1\b)\w+", prose))
    there_are = {family.name for family in (*FAMILIES, READY, RESTARTS)}
    assert named <= there_are
    assert document != "README.md" or named == there_are
