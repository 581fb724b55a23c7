"""Liveness, readiness and metrics of real worker processes, as an orchestrator and Prometheus see them."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest
import wasmtime

from tests.broker import Broker, free_ports
from tests.guests import ALLOCATE, HEAP_AT, OK, OK_AT, data, wat, write_plugin
from tests.probes import LIMIT_S, watched
from warren.bus import Client, OutcomeKind

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

#: As WASI has it: user data, the clock's kind, which clock, for how long (25 s), to what precision, relative.
NAP: Final = bytes(16) + (1).to_bytes(8, "little") + (25_000_000_000).to_bytes(8, "little") + bytes(16)

SLEEPER: Final = f"""
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const {HEAP_AT}))
  {data(OK_AT, OK)}
  {data(64, NAP)}
  {ALLOCATE}
  (func (export "handle_request") (param i32 i32) (result i64)
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 200)))
    (i64.or (i64.shl (i64.const {OK_AT}) (i64.const 32)) (i64.const {len(OK)}))))
"""


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_broker_that_goes_and_comes_changes_readiness_and_never_liveness(
    broker: Broker, prefix: str, tmp_path: Path, processes: str
) -> None:
    write_plugin(tmp_path, "plain")
    async with watched(broker, prefix, tmp_path, "--processes", processes) as worker:
        await broker.stop()
        try:
            unready = await worker.probes.until("/ready", 503)
            assert (await worker.probes.get("/live")).status == 200
            assert (await worker.probes.get("/startup")).status == 200
            assert (await worker.probes.metrics()).sum("warren_ready") < int(processes)
        finally:
            await broker.start()
        assert "broker is away" in unready.text or "nothing comes from" in unready.text
        await worker.probes.until("/ready", 200)
        assert (await worker.probes.get("/live")).status == 200
        async with Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client:
            assert (await client.call("plain", "do")).outcome is OutcomeKind.OK


async def test_a_worker_that_drains_is_live_and_not_ready(broker: Broker, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "sleeper", bytes(wasmtime.wat2wasm(SLEEPER)))
    async with (
        watched(broker, prefix, tmp_path, "--processes", "2", "--grace-s", "20") as worker,
        Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        call = asyncio.ensure_future(client.call("sleeper", "sleep"))
        await worker.probes.until_counted(1, "warren_in_flight")
        worker.process.process.terminate()
        unready = await worker.probes.until("/ready", 503)
        assert re.search(r"worker [12]: (draining: no more requests are taken|ended)", unready.text), unready.text
        assert (await worker.probes.get("/live")).status == 200
        call.cancel()
        for child in worker.children():
            with suppress(psutil.NoSuchProcess):
                child.kill()
        await worker.process.process.wait()


@pytest.mark.parametrize("processes", ["1", "3"])
async def test_metrics_add_up_to_the_requests_that_were_sent(
    broker: Broker, prefix: str, tmp_path: Path, processes: str
) -> None:
    write_plugin(tmp_path, "plain")
    write_plugin(tmp_path, "broken", wat("unreachable"))
    async with watched(broker, prefix, tmp_path, "--processes", processes) as worker:
        async with Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client:
            sent = [("plain", 300), ("broken", 20), ("nobody-6f1c", 7)]
            await asyncio.gather(*(client.call(plugin, "do") for plugin, times in sent for _ in range(times)))
        metrics = await worker.probes.until_counted(327, "warren_requests_total")
        assert metrics.sum("warren_requests_total", plugin="plain", outcome="ok") == 300
        assert metrics.sum("warren_requests_total", plugin="broken", outcome="trap") == 20
        assert metrics.sum("warren_requests_total", plugin="", outcome="rejected") == 7
        assert metrics.sum("warren_requests_total") == 327
        assert metrics.sum("warren_run_duration_seconds_count") == 320
        assert metrics.sum("warren_run_duration_seconds_bucket", le="+Inf") == 320
        assert 0 < metrics.sum("warren_run_duration_seconds_sum") < LIMIT_S * 320
        assert metrics.sum("warren_run_memory_bytes_sum", plugin="plain") == 300 * 2 * 65_536
        assert metrics.sum("warren_dead_letters_total") == 27
        assert metrics.sum("warren_given_back_total") == metrics.sum("warren_publish_failures_total") == 0
        assert metrics.sum("warren_ready") == int(processes)
        assert "nobody-6f1c" not in metrics.values_of("plugin")


async def test_a_process_that_was_killed_is_replaced_and_its_counts_are_kept(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    async with (
        watched(broker, prefix, tmp_path, "--processes", "2") as worker,
        Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client,
    ):
        await asyncio.gather(*(client.call("plain", "do") for _ in range(100)))
        await worker.probes.until_counted(100, "warren_requests_total", outcome="ok")
        worker.children()[0].kill()
        unready = await worker.probes.until("/ready", 503)
        assert re.fullmatch(r"worker [12]: starting: .*\n", unready.text)
        assert (await worker.probes.get("/live")).status == 200
        assert (await worker.probes.metrics()).sum("warren_requests_total", outcome="ok") == 100
        await worker.probes.until("/ready", 200)
        await asyncio.gather(*(client.call("plain", "do") for _ in range(50)))
        metrics = await worker.probes.until_counted(150, "warren_requests_total", outcome="ok")
        assert metrics.sum("warren_requests_total", outcome="ok") == 150
        assert metrics.sum("warren_process_restarts_total") == 1


async def test_a_frozen_process_is_not_live_and_is_named(broker: Broker, prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with watched(broker, prefix, tmp_path, "--processes", "2") as worker:
        frozen = worker.children()[1]
        frozen.send_signal(signal.SIGSTOP)
        try:
            for path in ("/live", "/ready"):
                stuck = await worker.probes.until(path, 503)
                assert re.fullmatch(r"worker [12]: stuck: nothing was heard of it for \d+ s\n", stuck.text)
        finally:
            frozen.send_signal(signal.SIGCONT)
        await worker.probes.until("/live", 200)
        await worker.probes.until("/ready", 200)


async def test_a_port_that_is_taken_ends_a_worker_at_once_with_a_reason(prefix: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    (port,) = free_ports(1)
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with listener:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "warren.workers.cli", "worker", "--plugins", str(tmp_path)),
            *("--broker", "amqp://127.0.0.1:1", "--health-port", str(port), "--processes", "2"),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 2
    assert f"cannot listen for probes at 127.0.0.1 port {port}: Address already in use" in said.decode()
    assert "Traceback" not in said.decode()
