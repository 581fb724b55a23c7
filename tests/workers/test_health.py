"""The server that probes and scrapes reach: real HTTP, well-meant and not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.probes import LIMIT_S, Probes
from warren.workers import health, vitals
from warren.workers.health import MAX_CONNECTIONS, MAX_HEAD_BYTES, CannotListen, answering_probes
from warren.workers.pulse import Pulse
from warren.workers.vitals import Report, Vitals

WELL = Report(None, started=True)


@pytest.fixture
def told() -> Vitals:
    """What the server answers from: of a process that is well."""
    vitals = Vitals()
    vitals.heard(0, WELL)
    return vitals


@pytest.fixture
def probes(told: Vitals) -> Iterator[Probes]:
    with answering_probes(told, "127.0.0.1", 0) as port:
        yield Probes(port)


def connected(probes: Probes) -> socket.socket:
    return socket.create_connection(("127.0.0.1", probes.port), timeout=LIMIT_S)


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def answer_to(probes: Probes, sent: bytes) -> bytes:
    with connected(probes) as connection:
        connection.sendall(sent)
        return said(connection)


@pytest.mark.parametrize("path", ["/live", "/ready", "/startup", "/ready?verbose"])
def test_a_process_that_is_well_is_answered_for_with_200(probes: Probes, path: str) -> None:
    answer = probes.ask(path)
    assert (answer.status, answer.text) == (200, "ok\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_is_not_well_is_503_with_the_reason_in_words(probes: Probes, told: Vitals) -> None:
    told.heard(0, Report("nothing comes from “warren.plugin.mole”"))
    assert probes.ask("/live").status == 200
    for path in ("/ready", "/startup"):
        answer = probes.ask(path)
        assert (answer.status, answer.text) == (503, "nothing comes from “warren.plugin.mole”\n")


def test_metrics_come_in_the_format_that_is_asked_for(probes: Probes) -> None:
    plain = probes.ask("/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "warren_ready 1.0\n" in plain.text
    open_metrics = probes.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0; q=0.5,text/plain;q=0.2")
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz", "//ready", "http://elsewhere/ready"])
def test_any_other_path_is_told_what_there_is(probes: Probes, path: str) -> None:
    answer = probes.ask(path)
    assert answer.status == 404
    assert answer.text == "there is nothing here; there is /live, /ready, /startup, /metrics\n"


@pytest.mark.parametrize("path", ["/live", "/metrics", "/nowhere"])
def test_head_gets_the_head_of_what_get_gets(probes: Probes, path: str) -> None:
    head, get = probes.ask(path, "HEAD"), probes.ask(path)
    assert (head.status, head.text) == (get.status, "")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.text.encode()))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused(probes: Probes, method: str) -> None:
    answer = probes.ask("/live", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_no_header_tells_what_the_server_is_made_of(probes: Probes) -> None:
    assert set(probes.ask("/live").headers) == {
        "Date", "Content-Type", "Content-Length", "Cache-Control", "Connection"
    }  # fmt: skip


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /live\r\n\r\n",
        b"GET /live HTTP/2.0\r\n\r\n",
        b"GET  /live HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        bytes(range(256)) + b"\r\n\r\n",
    ],
)
def test_garbage_is_a_bad_request(probes: Probes, garbage: bytes) -> None:
    assert answer_to(probes, garbage).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_headers_without_end_are_refused_once_they_are_too_many(probes: Probes) -> None:
    for size in (MAX_HEAD_BYTES, 1 << 20):
        answer = answer_to(probes, b"GET /live HTTP/1.1\r\nX-Long: " + b"x" * size)
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


def test_a_body_is_not_waited_for_and_costs_nobody_the_answer(probes: Probes) -> None:
    head = b"POST /live HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"
    assert answer_to(probes, head + b"x" * 300_000).startswith(b"HTTP/1.1 405 ")


def test_nothing_of_a_request_gets_into_the_headers_of_its_answer(probes: Probes) -> None:
    evil = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=2.0\nX-Evil: 1\r\n\r\n"
    head, _, _ = answer_to(probes, evil).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Evil" not in head


def test_who_hangs_up_his_half_still_gets_all_of_a_long_answer(probes: Probes, told: Vitals) -> None:
    reason = "x" * 5_000_000
    told.heard(0, Report(reason))
    with connected(probes) as connection:
        connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert len(said(connection)) > len(reason)


@pytest.mark.parametrize("sent", [b"", b"GET /live HT", b"GET /live HTTP/1.1\r\nHost: a\r\n"])
def test_who_is_slow_is_left(told: Vitals, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CONNECTION_LIMIT_S", 0.2)
    with answering_probes(told, "127.0.0.1", 0) as port:
        assert answer_to(Probes(port), sent) == b""


def test_who_reads_the_answer_too_slowly_is_left(told: Vitals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CONNECTION_LIMIT_S", 0.2)
    told.heard(0, Report("x" * 50_000_000))
    with answering_probes(told, "127.0.0.1", 0) as port, connected(Probes(port)) as connection:
        connection.sendall(b"GET /ready HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            connection.recv(1)
        assert Probes(port).ask("/live").status == 200
        with suppress(ConnectionResetError):
            assert len(said(connection)) < 49_000_000


def test_a_crowd_that_says_nothing_keeps_no_probe_from_its_answer(probes: Probes) -> None:
    crowd = [connected(probes) for _ in range(MAX_CONNECTIONS * 3)]
    try:
        assert probes.ask("/live").status == 200
        assert crowd[0].recv(1) == b""  # the first to come had to go
    finally:
        for connection in crowd:
            connection.close()


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as refused, answering_probes(Vitals(), "127.0.0.1", port):
            pass
    assert str(refused.value) == (
        f"cannot listen for probes at 127.0.0.1 port {port}: Address already in use; "
        "--health-host and --health-port choose another address"
    )


def test_a_host_that_is_none_is_said_to_be() -> None:
    with (
        pytest.raises(CannotListen, match=r"at nowhere\.invalid port 8080: "),
        answering_probes(Vitals(), "nowhere.invalid", 8080),
    ):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6 is not built in")
def test_it_listens_on_ipv6_too(told: Vitals) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with answering_probes(told, "::1", 0) as port, socket.create_connection(("::1", port), LIMIT_S) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        assert said(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_it_stops_at_once_even_while_somebody_is_connected(told: Vitals) -> None:
    with answering_probes(told, "127.0.0.1", 0) as port:
        connection = connected(Probes(port))
        Probes(port).ask("/live")
        began = time.monotonic()
    with connection:
        assert said(connection) == b""
    assert time.monotonic() - began < health.CONNECTION_LIMIT_S
    with pytest.raises(ConnectionRefusedError):
        connected(Probes(port))


async def test_a_stuck_event_loop_is_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "STUCK_S", 0.5)
    monkeypatch.setattr("warren.workers.pulse.PERIOD_S", 0.05)
    told = Vitals()
    with answering_probes(told, "127.0.0.1", 0) as port, Pulse(lambda report: told.heard(0, report)):
        probes = Probes(port)
        assert (await probes.until("/live", 200)).text == "ok\n"
        deadline = time.monotonic() + LIMIT_S
        while (answer := probes.ask("/live")).status == 200:  # this keeps the loop from turning
            assert time.monotonic() < deadline
        assert answer.status == 503
        assert answer.text.startswith("stuck: nothing was heard of it for ")
        await asyncio.sleep(0)
        assert (await probes.until("/live", 200)).text == "ok\n"
