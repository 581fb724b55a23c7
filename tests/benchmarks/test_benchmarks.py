"""The benchmark runs to its end, with the two workers that need nothing more; its timings decide nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.__main__ import WIDTH, Scale, measure, show, write
from tests.benchmarks.lineup import CELERY, PLAIN, TASKIQ, WARREN
from tests.benchmarks.load import Endurance, Round
from tests.benchmarks.plot import svg
from tests.benchmarks.report import Measured, Target
from tests.benchmarks.trips import NUMBER, TEXT_BYTES, numbered_text
from tests.benchmarks.wire import Link
from tests.broker import Broker

TINY = Scale(requests=100, rounds=2, round_trips=20, in_a_row=100)


def worker(name: str, requests_per_s: float, cpu_s_per_1000: float = 0.1, broker_cpu: float | None = 0.2) -> Measured:
    """A worker whose rounds were all the same."""
    return Measured(name, "1.0", "promises", [Round(requests_per_s, cpu_s_per_1000, broker_cpu, [1.0, 2.0, 3.0])] * 3)


@pytest.mark.broker
def test_a_short_run_measures_both_workers_and_writes_both_files(broker: Broker, tmp_path: Path) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=WIDTH)
    findings = measure(broker, TINY, ["warren"], tmp_path, console)
    show(findings, TINY, console)
    json_file, svg_file = tmp_path / "out" / "bench.json", tmp_path / "out" / "bench.svg"
    write(findings, TINY, {"python": "3", "cpus": 2}, json_file, svg_file)

    written: Any = json.loads(json_file.read_text())
    assert list(written["workers"]) == [PLAIN, WARREN]
    for each in written["workers"].values():
        assert len(each["rounds"]) == TINY.rounds
        assert each["figures"]["requests_per_s"] > 0
        assert each["figures"]["p99_ms"] >= each["figures"]["p50_ms"] > 0
        assert (each["figures"]["broker_cpu_s_per_1000"] is None) == (broker.pid is None)
    assert written["endurance"]["in_a_row_ms"]["count"] == TINY.in_a_row
    assert all(rss > 0 for rss in written["endurance"]["rss_bytes"])
    assert {row["reference"] for row in written["targets"]} == {PLAIN}
    assert WARREN in printed.getvalue()
    assert WARREN in svg_file.read_text()


def test_ratios_are_to_the_first_worker_and_missing_where_a_figure_is() -> None:
    ratios = report.ratios(worker(WARREN, 9000, 0.05, None), worker(PLAIN, 3000, 0.25))
    assert ratios["requests_per_s"] == pytest.approx(3.0)
    assert ratios["cpu_s_per_1000"] == pytest.approx(0.2)
    assert ratios["p99_ms"] == pytest.approx(1.0)
    assert ratios["broker_cpu_s_per_1000"] is None


def test_a_processor_time_too_short_to_be_seen_is_no_division_by_zero() -> None:
    assert report.ratio(0.1, 0.0) is None


def test_percentiles_are_those_of_all_round_trips_together() -> None:
    def rounds(*slowest_ms: float) -> list[Round]:
        return [Round(1.0, 0.1, None, [1.0] * 98 + [slow_ms] * 2) for slow_ms in slowest_ms]

    warren = Measured(WARREN, "1.0", "promises", rounds(50.0, 1.0, 1.0, 1.0, 1.0))
    assert (warren.figures()["p50_ms"], warren.figures()["p99_ms"]) == (1.0, 1.0)
    plain = Measured(PLAIN, "1.0", "promises", rounds(2.0, 2.0, 2.0, 2.0, 2.0))
    assert report.ratios(warren, plain)["p99_ms"] == pytest.approx(0.5)


def test_rounds_are_summed_up_by_their_median_and_ratios_by_that_of_the_rounds_own() -> None:
    def rounds(*speeds: float) -> list[Round]:
        return [Round(speed, 0.1, None, [speed / 1000] * 100) for speed in speeds]

    warren = Measured(WARREN, "1.0", "promises", rounds(1000.0, 9000.0, 2000.0))
    assert warren.figures()["requests_per_s"] == 2000.0
    # The machine was three times as fast in the second round, and half as fast in the last.
    plain = Measured(PLAIN, "1.0", "promises", rounds(500.0, 3000.0, 250.0))
    assert report.ratios(warren, plain)["requests_per_s"] == pytest.approx(3.0)


def test_a_target_is_judged_by_the_ratio_as_it_is_shown() -> None:
    at_least, at_most = Target("requests_per_s", PLAIN, "≥", 3.0), Target("p50_ms", PLAIN, "≤", 1.0)
    assert at_least.is_met(2.996)
    assert not at_least.is_met(2.99)
    assert at_most.is_met(1.004)
    assert not at_most.is_met(1.01)


def test_only_workers_that_took_part_are_judged() -> None:
    judged = report.judged([worker(PLAIN, 3000), worker(WARREN, 9000), worker(CELERY, 1000)])
    assert [(target.reference, target.figure, target.is_met(found)) for target, found in judged] == [
        (PLAIN, "requests_per_s", True),
        (CELERY, "requests_per_s", True),
        (PLAIN, "cpu_s_per_1000", False),
        (PLAIN, "p50_ms", True),
        (PLAIN, "p99_ms", True),
    ]
    assert report.judged([worker(PLAIN, 3000), worker(TASKIQ, 2000)]) == []


def test_tables_show_figures_with_ratios_terms_and_verdicts() -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=WIDTH)
    workers = [worker(PLAIN, 3000, broker_cpu=None), worker(WARREN, 8000)]
    console.print(report.figures_table(workers), report.terms_table(workers), report.targets_table(workers))
    words = " ".join(printed.getvalue().split())
    assert "Warren 8,000 (2.67x)" in words
    assert "Warren 1.0 promises" in words
    assert "requests/s plain aio-pika 2.67x ≥ 3.00x not met" in words


def test_endurance_tells_when_the_burst_was_answered_and_what_memory_did() -> None:
    burst, _, memory = report.endurance_lines(Endurance([10.0, 20.0, 30.0], [1.0] * 10, [2**20, 3 * 2**20]))
    assert "all answered in 30 ms" in burst
    assert memory.endswith("1.0, 3.0")


def test_the_plot_is_an_image_with_a_bar_for_each_figure_the_fastest_on_top() -> None:
    plot = svg([worker(PLAIN, 3000), worker("a <b> & c", 500), worker(WARREN, 9000)], "foot")
    drawn = ET.fromstring(plot)  # noqa: S314 - our own
    space = {"svg": "http://www.w3.org/2000/svg"}
    bars = drawn.findall("svg:rect", space)
    names = [text.text for text in drawn.findall("svg:text", space) if "name" in text.get("class", "").split()]
    widths = [float(bar.get("width", "")) for bar in bars]
    assert names == [WARREN, PLAIN, "a <b> & c"]
    assert len(bars) == 6
    assert widths[0] > widths[1] > widths[2]


def test_a_request_has_its_number_and_its_size() -> None:
    text = numbered_text(1234567)
    assert len(text) == TEXT_BYTES
    assert NUMBER.findall(text.encode()) == [b"1234567"]


def test_a_broker_behind_tls_is_declined() -> None:
    with pytest.raises(ValueError, match="use amqp://"):
        Link("amqps://guest:guest@localhost")
