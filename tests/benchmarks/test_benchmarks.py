"""The benchmark runs to its end; what it measures in so short a run means nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import measure, report
from tests.broker import Broker


@pytest.mark.broker
async def test_a_short_run_measures_both_workers(broker: Broker, tmp_path: Path) -> None:
    options = argparse.Namespace(requests=100, rounds=1, round_trips=20)
    measured = await measure(broker.url, tmp_path, options)
    figures = json.loads(json.dumps(report(options, measured)))["workers"]
    assert all(figures[name][key] > 0 for name in ("plain aio-pika", "Warren") for key in ("requests_per_s", "p99_ms"))
