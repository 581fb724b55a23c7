"""`http_request` on real sockets: what reaches a server, what comes back, and what is never connected to."""

from __future__ import annotations

import asyncio
import base64
import gzip
import socket
import ssl
import time
import zlib
from collections.abc import Sequence
from typing import Any, Final

import pytest
import trustme

from tests.plugins.web import Answer, Names, Web, in_turn, reply, saying, silence, web
from warren.manifests import Grant, Limits
from warren.plugins import AuditEvent, HostFunctionError
from warren.plugins.errors import GuestFault
from warren.plugins.host import Caps, HostSession
from warren.plugins.network import MAX_REDIRECTS, HttpRequests, resolve
from warren.plugins.network_client import MAX_RESPONSE_BYTES
from warren.plugins.network_request import MAX_REQUEST_BYTES

HOST: Final = "api.example.com"
LOOPBACK: Final = ("127.0.0.1",)
HERE: Final = Names({HOST: [LOOPBACK], "other.example.com": [LOOPBACK]})


def granting(*hosts: str, private: Sequence[str] = ("127.0.0.0/8",), **limits: Any) -> Grant:
    granted = Limits(**{"network_timeout_s": 30.0, **limits})
    network = frozenset({"network"})
    return Grant("tested", network, granted, network_hosts=hosts, private_networks=tuple(private))  # type: ignore[arg-type]


def session_of(grant: Grant, timeout_s: float = 30.0) -> HostSession:
    return HostSession(grant, {}, Caps(), began_ns=time.monotonic_ns(), timeout_s=timeout_s)


async def ask(here: Web, path: str = "/", *, http: HttpRequests | None = None, **arguments: Any) -> dict[str, Any]:
    """One request to the server, by the name of `HOST`, by a plugin that may."""
    session = session_of(granting(f"{HOST}:{here.port}"))
    url = f"http://{HOST}:{here.port}{path}"
    return await (http or HttpRequests(resolve=HERE))(session, {"url": url, **arguments})


async def denied(http: HttpRequests, grant: Grant, url: str, **arguments: Any) -> tuple[str, AuditEvent]:
    """The sentence and the audit event of a request that ends its run."""
    session = session_of(grant)
    with pytest.raises(GuestFault) as fault:
        await http(session, {"url": url, **arguments})
    assert fault.value.kind == "denied"
    event = session.finished_audit()[-1]
    assert event.power == "network_hosts"
    assert event.refusal is not None
    return fault.value.reason, event


async def failing(here: Web, **arguments: Any) -> HostFunctionError:
    with pytest.raises(HostFunctionError) as error:
        await ask(here, **arguments)
    return error.value


# What goes out and comes back.


async def test_a_request_reaches_its_server_whole_and_the_answer_comes_back() -> None:
    async with web(reply("grüß".encode(), "201 Created", content_type="text/plain", x_a="1")) as here:
        told = await ask(here, "/v1?q=ü", method="POST", headers={"X-Key": "k"}, body='{"a":1}')
    assert told == {
        "status": 201,
        "url": f"http://{HOST}:{here.port}/v1?q=%C3%BC",
        "headers": {"content-length": ["6"], "content-type": ["text/plain"], "x-a": ["1"]},
        "body": "grüß",
        "body_base64": None,
    }
    head, _, body = here.requests[0].partition("\r\n\r\n")
    assert body == '{"a":1}'
    assert head.splitlines() == [
        "POST /v1?q=%C3%BC HTTP/1.1",
        f"host: {HOST}:{here.port}",
        "accept: */*",
        "user-agent: warren",
        "x-key: k",
        "accept-encoding: gzip",
        "connection: close",
        "content-length: 7",
    ]


async def test_a_body_that_is_no_text_comes_in_base64_and_goes_in_base64() -> None:
    async with web(reply(b"\xff\x00")) as here:
        told = await ask(here, method="PUT", body_base64="AGE=")
    assert (told["body"], told["body_base64"]) == (None, "/wA=")
    assert here.requests[0].endswith("\r\n\r\n\x00a")


async def test_headers_that_come_several_times_are_all_there() -> None:
    async with web(saying(b"HTTP/1.1 204 No\r\nSet-Cookie: a=1\r\nset-cookie: b=2, c\r\n\r\n")) as here:
        told = await ask(here)
    assert (told["status"], told["headers"]) == (204, {"set-cookie": ["a=1", "b=2, c"]})


async def test_no_cookie_is_kept_and_no_connection() -> None:
    http = HttpRequests(resolve=HERE)
    async with web(reply(set_cookie="a=1")) as here:
        for _ in range(2):
            await ask(here, http=http)
    assert len(here.requests) == 2
    assert "cookie" not in here.requests[1]


async def test_nothing_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / ".netrc").write_text(f"machine {HOST} login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with web(reply()) as proxy, web(reply(b"straight")) as here:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        told = await ask(here)
    assert (told["body"], proxy.requests) == ("straight", [])
    assert "authorization" not in here.requests[0]


async def test_what_was_done_is_told_without_query_path_or_body() -> None:
    async with web(in_turn(reply(b"", "302 Found", location="/next?key=secret"), reply())) as here:
        session = session_of(granting(f"{HOST}:{here.port}"))
        url = f"http://{HOST}:{here.port}/path?key=secret"
        await HttpRequests(resolve=HERE)(session, {"url": url, "method": "POST", "body": "secret"})
    events = session.finished_audit()
    assert [(one.severity, one.power, one.asked, one.refusal) for one in events] == [
        ("debug", "network_hosts", f"POST http://{HOST}:{here.port}", None),
        ("debug", "network_hosts", f"GET http://{HOST}:{here.port}", None),
    ]


# What is denied.


async def test_without_the_capability_nothing_is_reached() -> None:
    names = Names({HOST: [LOOPBACK]})
    grant = Grant("tested", frozenset({"compute"}), Limits(), network_hosts=(HOST,))
    reason, event = await denied(HttpRequests(resolve=names), grant, f"https://{HOST}/v1?key=secret")
    assert reason == (
        "the plugin may not reach https://api.example.com:443: the plugin does not have the capability 'network'"
    )
    assert (event.severity, event.asked) == ("warning", "GET https://api.example.com:443")
    assert names.asked == []


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("https://evilapi.example.com/", "warning"),
        ("https://api.example.com.evil.net/", "warning"),
        ("https://api.example.com:8443/", "warning"),
        ("http://169.254.169.254/latest/meta-data/", "warning"),
        ("http://2130706433/", "critical"),
        ("http://0x7f.1/", "critical"),
        ("http://[::ffff:10.0.0.1]/", "critical"),
        ("file:///etc/passwd", "critical"),
        ("gopher://api.example.com/", "critical"),
    ],
)
async def test_a_host_that_was_not_granted_is_not_even_resolved(url: str, severity: str) -> None:
    names = Names({})
    _, event = await denied(HttpRequests(resolve=names), granting(HOST), url, method="DELETE")
    assert event.severity == severity
    assert event.asked.startswith("DELETE ")
    assert names.asked == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%lo"],
        ["8.8.8.8", "127.0.0.1"],
        ["2606:4700:4700::1111", "10.0.0.1"],
    ],
)
async def test_a_name_with_any_address_that_is_not_public_is_denied(addresses: list[str]) -> None:
    async with web(reply()) as here:
        grant = granting(f"{HOST}:{here.port}", private=())
        http = HttpRequests(resolve=Names({HOST: [addresses]}))
        reason, event = await denied(http, grant, f"http://{HOST}:{here.port}/")
    assert event.severity == "critical"
    assert f"its address {addresses[-1]} is " in reason
    assert here.requests == []


async def test_an_address_that_is_granted_as_a_host_still_has_to_be_in_an_opened_network() -> None:
    async with web(reply(b"ok")) as here:
        host, url = f"127.0.0.1:{here.port}", f"http://127.0.0.1:{here.port}/"
        reason, _ = await denied(HttpRequests(), granting(host, private=()), url)
        assert "loopback" in reason
        told = await HttpRequests()(session_of(granting(host)), {"url": url})
    assert told["body"] == "ok"


async def test_ipv6_is_spoken() -> None:
    try:
        async with web(reply(b"six"), host="::1") as here:
            grant = granting(f"[::1]:{here.port}", private=("::1/128",))
            told = await HttpRequests()(session_of(grant), {"url": f"http://[::1]:{here.port}/"})
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    assert told["body"] == "six"
    assert f"host: [::1]:{here.port}\r\n" in here.requests[0]


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing() -> None:
    names = Names({HOST: [LOOPBACK, ("127.0.0.2",)]})
    async with web(reply(b"checked")) as here:
        told = await ask(here, http=HttpRequests(resolve=names))
        assert (told["body"], names.asked) == ("checked", [HOST])  # asked once: the connection asked nobody
        with pytest.raises(HostFunctionError, match="connection_failed"):  # and where it leads now, nobody listens
            await ask(here, http=HttpRequests(resolve=names))


async def test_a_name_is_checked_anew_for_each_request() -> None:
    http = HttpRequests(resolve=Names({HOST: [LOOPBACK, ("10.0.0.1",)]}))
    async with web(reply(b"checked")) as here:
        await ask(here, http=http)
        await denied(http, granting(f"{HOST}:{here.port}"), f"http://{HOST}:{here.port}/")
    assert len(here.requests) == 1


async def test_the_next_address_is_taken_where_the_first_does_not_answer() -> None:
    async with web(reply(b"second")) as here:
        told = await ask(here, http=HttpRequests(resolve=Names({HOST: [("127.0.0.2", "127.0.0.1")]})))
    assert told["body"] == "second"


# Redirects.


async def test_a_redirect_is_followed_and_the_url_is_where_it_led() -> None:
    async with web(in_turn(reply(b"", "301 Moved", location="/b?c#d"), reply(b"there"))) as here:
        told = await ask(here, "/a")
    assert (told["body"], told["url"]) == ("there", f"http://{HOST}:{here.port}/b?c")


async def test_a_redirect_can_be_left_to_the_guest() -> None:
    async with web(reply(b"", "302 Found", location="http://10.0.0.1/")) as here:
        told = await ask(here, redirect="manual")
    assert (told["status"], told["headers"]["location"]) == (302, ["http://10.0.0.1/"])


@pytest.mark.parametrize(
    "location", ["http://evil.net/", "file:///etc/passwd", "//evil.net", "http://0x7f.1/", "http://localhost/"]
)
async def test_a_redirect_to_what_was_not_granted_is_denied(location: str) -> None:
    names = Names({HOST: [LOOPBACK]})
    async with web(reply(b"", "302 Found", location=location)) as here:
        url = f"http://{HOST}:{here.port}/"
        _, event = await denied(HttpRequests(resolve=names), granting(f"{HOST}:{here.port}"), url)
    assert HOST not in event.asked
    assert names.asked == [HOST]


async def test_a_redirect_to_a_granted_name_with_a_private_address_is_denied() -> None:
    names = Names({HOST: [LOOPBACK], "internal.example.com": [("169.254.169.254",)]})
    async with web(reply(b"", "307 Temporary", location="http://internal.example.com/")) as here:
        grant = granting(f"{HOST}:{here.port}", "internal.example.com")
        reason, _ = await denied(HttpRequests(resolve=names), grant, f"http://{HOST}:{here.port}/")
    assert "169.254.169.254 is link-local" in reason


async def test_a_redirect_to_the_same_name_is_resolved_and_checked_again() -> None:
    names = Names({HOST: [LOOPBACK, ("10.0.0.1",)]})
    async with web(reply(b"", "302 Found", location="/again")) as here:
        grant = granting(f"{HOST}:{here.port}")
        reason, _ = await denied(HttpRequests(resolve=names), grant, f"http://{HOST}:{here.port}/")
    assert "10.0.0.1 is private" in reason
    assert len(here.requests) == 1


async def test_credentials_stay_with_the_origin_that_they_were_for() -> None:
    async with web(reply()) as there, web(saying(b"")) as here:
        grant = granting(f"{HOST}:{here.port}", f"other.example.com:{there.port}")
        here_redirects = reply(b"", "307 T", location=f"http://other.example.com:{there.port}/")
        async with web(here_redirects) as first:
            grant = granting(f"{HOST}:{first.port}", f"other.example.com:{there.port}")
            await HttpRequests(resolve=HERE)(
                session_of(grant),
                {"url": f"http://{HOST}:{first.port}/", "headers": {"Authorization": "Bearer x", "X-Other": "y"}},
            )
    assert "authorization: Bearer x\r\n" in first.requests[0]
    assert "authorization" not in there.requests[0]
    assert "x-other: y\r\n" in there.requests[0]


async def test_redirects_without_end_end() -> None:
    async with web(reply(b"", "302 Found", location="/")) as here:
        error = await failing(here)
    assert error.code == "too_many_redirects"
    assert len(here.requests) == MAX_REDIRECTS + 1


# Bounds.


async def endless(writer: asyncio.StreamWriter, piece: bytes = b"x" * 65_536) -> None:
    while True:
        writer.write(piece)
        await writer.drain()


async def test_a_body_of_a_gigabyte_is_given_up_when_it_is_too_large() -> None:
    async def gigabyte(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
        await endless(writer)

    async with web(gigabyte) as here:
        error = await failing(here)
        await here.left.wait()
    assert str(error) == "too_large: the answer has more than 4,194,304 bytes"


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (b"8000\r\n" + b"y" * 0x8000 + b"\r\n", "more than 4,194,304 bytes"),
        (b"1\r\nx\r\n" * 10_000, "in more than 20,000 pieces"),
    ],
)
async def test_a_body_without_a_length_is_given_up_when_it_is_too_large(piece: bytes, words: str) -> None:
    async def forever(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await endless(writer, piece)

    async with web(forever) as here:
        error = await failing(here)
    assert error.code == "too_large"
    assert words in error.message


async def test_answers_that_are_no_answers_yet_are_given_up_when_they_are_too_many() -> None:
    async with web(lambda writer: endless(writer, b"HTTP/1.1 100 \r\n\r\n" * 1_000)) as here:
        error = await failing(here)
    assert str(error) == "too_large: more than 262,144 bytes came before the answer's body"


async def test_the_largest_body_is_taken() -> None:
    async with web(reply(b"x" * MAX_RESPONSE_BYTES)) as here:
        assert len((await ask(here))["body"]) == MAX_RESPONSE_BYTES


def zipped(raw: bytes, **headers: str) -> Answer:
    return reply(raw, content_encoding="gzip", content_type="text/plain", **headers)


async def test_gzip_is_undone_and_what_it_said_is_true_no_longer_is_not_told() -> None:
    text = b"dig " * 100_000
    async with web(zipped(gzip.compress(text[:1000]) + gzip.compress(text[1000:]))) as here:
        told = await ask(here)
    assert told["body"].encode() == text
    assert told["headers"] == {"content-type": ["text/plain"]}


async def test_a_gzip_bomb_does_not_go_off() -> None:
    bomb = zlib.compressobj(9, wbits=31)
    raw = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(1024)) + bomb.flush()
    assert len(raw) < 2 << 20
    async with web(zipped(raw)) as here:
        error = await failing(here)
    assert error.code == "too_large"


async def test_a_bomb_in_a_bomb_is_not_opened() -> None:
    raw = gzip.compress(gzip.compress(bytes(1 << 20)))
    async with web(reply(raw, content_encoding="gzip, gzip")) as here:
        told = await ask(here)
    assert base64.b64decode(told["body_base64"]) == raw
    assert told["headers"]["content-encoding"] == ["gzip, gzip"]


@pytest.mark.parametrize("raw", [gzip.compress(b"x" * 999)[:-4], gzip.compress(b"x") + b"\x1f", b"no gzip", b"\x1f"])
async def test_gzip_that_is_broken_is_a_bad_response(raw: bytes) -> None:
    async with web(zipped(raw)) as here:
        assert (await failing(here)).code == "bad_response"


async def test_an_empty_answer_that_says_gzip_is_empty() -> None:
    async with web(zipped(b"")) as here:
        assert (await ask(here, method="HEAD"))["body"] == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200_000,
        b"HTTP/1.1 302 Found\r\nlocation: http://u@x/\r\ncontent-length: 0\r\n\r\n",
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_a_bad_response(raw: bytes) -> None:
    async with web(saying(raw)) as here:
        assert (await failing(here)).code == "bad_response"


async def test_a_request_that_is_too_large_is_not_begun() -> None:
    async with web(reply()) as here:
        error = await failing(here, method="POST", body="x" * (MAX_REQUEST_BYTES + 1))
    assert (error.code, here.requests) == ("too_large", [])


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [drip, silence])
async def test_an_answer_that_takes_too_long_is_given_up_and_its_connection_closed(answer: Answer) -> None:
    async with web(answer) as here:
        error = await failing(here, timeout_s=0.2)
        await here.left.wait()
    assert str(error) == f"timeout: waited for http://{HOST}:{here.port} longer than 0.2 s"


@pytest.mark.parametrize(
    ("asked", "granted", "left"), [(None, 0.2, 9.0), (9.0, 0.2, 9.0), (9.0, 9.0, 0.2), (None, 9.0, 0.2)]
)
async def test_nobody_waits_longer_than_the_limit_or_the_run_allows(
    asked: float | None, granted: float, left: float
) -> None:
    async with web(silence) as here:
        session = session_of(granting(f"{HOST}:{here.port}", network_timeout_s=granted), left)
        url = f"http://{HOST}:{here.port}/"
        with pytest.raises(HostFunctionError, match=r"timeout: .* longer than 0\.(2|1\d+) s"):  # or what is left of it
            await HttpRequests(resolve=HERE)(session, {"url": url, "timeout_s": asked})


async def test_a_resolver_that_does_not_answer_is_given_up() -> None:
    async def never(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    session = session_of(granting(HOST))
    with pytest.raises(HostFunctionError, match="timeout"):
        await HttpRequests(resolve=never)(session, {"url": f"https://{HOST}", "timeout_s": 0.05})


async def test_a_plugin_has_so_many_connections_at_once_and_who_waits_is_served_in_turn() -> None:
    go_on = asyncio.Event()

    async def held(writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await reply()(writer)

    async with web(held) as here:
        http = HttpRequests(resolve=HERE)
        grant = granting(f"{HOST}:{here.port}", max_network_connections=2)

        def asking(number: int) -> Any:
            return http(session_of(grant), {"url": f"http://{HOST}:{here.port}/{number}"})

        tasks = [asyncio.ensure_future(asking(number)) for number in range(6)]
        while here.connections < 2:  # noqa: ASYNC110 - a bounded wait for a condition
            await asyncio.sleep(0.001)
        with pytest.raises(HostFunctionError, match=r"for one of the plugin's 2 connections longer than 0\.1 s"):
            await http(session_of(grant), {"url": f"http://{HOST}:{here.port}/late", "timeout_s": 0.1})
        go_on.set()
        await asyncio.gather(*tasks)
    assert here.most_connections == 2
    paths = [one.split()[1] for one in here.requests]
    assert sorted(paths[:2]) == ["/0", "/1"]
    assert sorted(paths) == [f"/{number}" for number in range(6)]


async def test_one_plugin_does_not_wait_for_anothers_connections() -> None:
    http = HttpRequests(resolve=HERE)
    async with web(silence) as silent, web(reply(b"ok")) as here:
        grant = granting(f"{HOST}:{silent.port}", max_network_connections=1)
        waiting = asyncio.ensure_future(http(session_of(grant), {"url": f"http://{HOST}:{silent.port}/"}))
        await silent.asked.wait()
        other = Grant("other", grant.capabilities, grant.limits, network_hosts=(f"{HOST}:{here.port}",),
                      private_networks=grant.private_networks)  # fmt: skip
        assert (await http(session_of(other), {"url": f"http://{HOST}:{here.port}/"}))["body"] == "ok"
        waiting.cancel()
        await silent.left.wait()


# What fails.


async def test_a_port_that_nobody_listens_on_is_an_error_that_the_guest_reads() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await failing(Web(taken.getsockname()[1]))
    assert error.code == "connection_failed"


async def test_a_connection_that_is_reset_is_an_error_that_the_guest_reads() -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx")
        await writer.drain()
        writer.transport.abort()

    async with web(reset) as here:
        assert (await failing(here)).code in {"connection_failed", "bad_response"}


@pytest.mark.parametrize("names", [Names({}), Names({HOST: [()]})])
async def test_a_name_that_nobody_has_is_an_error_that_the_guest_reads(names: Names) -> None:
    with pytest.raises(HostFunctionError, match=r"not_resolved: api\.example\.com"):
        await HttpRequests(resolve=names)(session_of(granting(HOST)), {"url": f"https://{HOST}"})


async def test_the_systems_resolver_gives_every_address_once() -> None:
    addresses = await resolve("localhost", 80)
    assert set(addresses) & {"127.0.0.1", "::1"}
    assert len(addresses) == len(set(addresses))
    with pytest.raises(HostFunctionError, match="not_resolved"):
        await HttpRequests()(session_of(granting("nobody.invalid")), {"url": "https://nobody.invalid"})


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA, *addresses: str) -> HttpRequests:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return HttpRequests(resolve=Names({HOST: [addresses or LOOPBACK]}), tls=context)


async def ask_tls(here: Web, http: HttpRequests, host: str = HOST) -> dict[str, Any]:
    grant = granting(f"{host}:{here.port}")
    return await http(session_of(grant), {"url": f"https://{host}:{here.port}/"})


async def test_a_certificate_is_checked_for_the_name_while_the_connection_is_to_the_address(
    authority: trustme.CA,
) -> None:
    seen: list[str | None] = []
    context = serving(authority, HOST)
    context.sni_callback = lambda _ssl, name, _context: seen.append(name)
    async with web(reply(b"safe"), tls=context) as here:
        assert (await ask_tls(here, trusting(authority)))["body"] == "safe"
    assert seen == [HOST]
    assert f"host: {HOST}:{here.port}\r\n" in here.requests[0]


async def test_a_certificate_may_be_an_addresss_own(authority: trustme.CA) -> None:
    async with web(reply(b"safe"), tls=serving(authority, "127.0.0.1")) as here:
        assert (await ask_tls(here, trusting(authority), "127.0.0.1"))["body"] == "safe"


async def failing_tls(here: Web, http: HttpRequests) -> str:
    with pytest.raises(HostFunctionError) as error:
        await ask_tls(here, http)
    assert error.value.code == "tls_failed"
    return error.value.message


async def test_a_certificate_of_another_name_is_refused(authority: trustme.CA) -> None:
    async with web(reply(), tls=serving(authority, "127.0.0.1", "other.example.com")) as here:
        assert "Hostname mismatch" in await failing_tls(here, trusting(authority))
    assert here.requests == []


async def test_a_certificate_of_nobody_known_is_refused(authority: trustme.CA) -> None:
    async with web(reply(), tls=serving(authority, HOST)) as here:
        assert "certificate" in await failing_tls(here, HttpRequests(resolve=HERE))
    assert here.requests == []


async def test_a_server_that_speaks_no_tls_is_told_apart() -> None:
    async with web(saying(b"HTTP/1.1 400 No TLS here\r\n\r\n" * 10)) as here:
        session = session_of(granting(f"{HOST}:{here.port}"))
        request = asyncio.ensure_future(
            HttpRequests(resolve=HERE)(session, {"url": f"https://{HOST}:{here.port}/", "timeout_s": 0.5})
        )
        with pytest.raises(HostFunctionError) as error:
            await request
    assert error.value.code in {"tls_failed", "timeout"}


async def test_a_handshake_that_never_ends_leaves_no_connection() -> None:
    async with web(silence) as here:
        session = session_of(granting(f"{HOST}:{here.port}"))
        with pytest.raises(HostFunctionError, match="timeout"):
            await HttpRequests(resolve=HERE)(session, {"url": f"https://{HOST}:{here.port}/", "timeout_s": 0.2})
        await here.left.wait()
