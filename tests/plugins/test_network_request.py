"""What `http_request` takes from a guest, what it refuses, and what a redirect makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from warren.plugins import HostFunctionError
from warren.plugins.network_request import MAX_HEADER_BYTES, MAX_REQUEST_BYTES, HttpRequest, read_arguments, redirected
from warren.plugins.network_targets import read_target

URL = "https://api.example.com/v1"


def read(**arguments: Any) -> HttpRequest:
    return read_arguments({"url": URL, **arguments})[1]


def test_a_url_alone_is_a_get_without_a_body() -> None:
    request = read()
    assert (request.method, request.body) == ("GET", b"")
    assert dict(request.all_headers) == {
        "host": "api.example.com",
        "accept": "*/*",
        "user-agent": "warren",
        "accept-encoding": "gzip",
        "connection": "close",
    }


def test_headers_are_sent_in_lower_case_and_the_defaults_give_way() -> None:
    headers = read(headers={"User-Agent": "mine", "X-Key": " a b\t"}).all_headers
    assert ("user-agent", "mine") in headers
    assert ("x-key", "a b") in headers
    assert ("user-agent", "warren") not in headers


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"body": "ü"}, b"\xc3\xbc"),
        ({"body_base64": "/wA="}, b"\xff\x00"),
        ({"body": ""}, b""),
        ({"body_base64": ""}, b""),
    ],
)
def test_a_body_is_text_or_bytes(given: dict[str, str], body: bytes) -> None:
    request = read(method="POST", **given)
    assert request.body == body
    assert ("content-length", str(len(body))) in request.all_headers


def test_the_host_header_has_the_port_where_it_is_not_the_schemes() -> None:
    assert ("host", "api.example.com:8443") in read(url="https://api.example.com:8443").all_headers
    assert ("host", "[2001:db8::1]") in read(url="http://[2001:db8::1]:80/").all_headers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (None, "valid dictionary"),
        ([], "valid dictionary"),
        ({}, "'url': Field required"),
        ({"url": 5}, "'url': Input should be a valid string"),
        ({"url": URL, "more": 1}, "'more': Extra inputs are not permitted"),
        ({"url": URL, "headers": {"a": 1}}, "valid string"),
        ({"url": URL, "headers": [["a", "b"]]}, "valid dictionary"),
        ({"url": URL, "headers": {str(n): "" for n in range(101)}}, "at most 100 items"),
        ({"url": URL, "timeout_s": 0}, "greater than 0"),
        ({"url": URL, "timeout_s": "5"}, "valid number"),
        ({"url": URL, "timeout_s": float("inf")}, "finite number"),
        ({"url": URL, "redirect": "always"}, "'follow' or 'manual'"),
        ({"url": URL, "body": "a", "body_base64": "YQ=="}, "one of them is the body"),
        ({"url": URL, "body_base64": "a"}, "is not base64"),
        ({"url": URL, "body_base64": "a b="}, "is not base64"),
        ({"url": URL, "body_base64": "é"}, "is not base64"),
        ({"url": "https://u:secret@api.example.com"}, "'url': the URL holds a user name"),
        ({"url": URL, "method": ""}, "'method'"),
        ({"url": URL, "method": "get"}, "in capitals: 'get'"),
        ({"url": URL, "method": "GET / HTTP/1.1\r\nX: y"}, "'method'"),
        ({"url": URL, "method": "GET\n"}, "'method'"),
        ({"url": URL, "method": "CONNECT"}, "'method'"),
        ({"url": URL, "method": "TRACE"}, "'method'"),
        ({"url": URL, "headers": {"": "x"}}, "not the name of a header"),
        ({"url": URL, "headers": {"a b": "x"}}, "not the name of a header"),
        ({"url": URL, "headers": {"a:": "x"}}, "not the name of a header"),
        ({"url": URL, "headers": {"a\r\nHost": "x"}}, "not the name of a header"),
        ({"url": URL, "headers": {"host ": "x"}}, "not the name of a header"),
        ({"url": URL, "headers": {"\u212aeep-alive": "x"}}, "not the name of a header"),
        ({"url": URL, "headers": {"a": "x\r\nHost: evil.net"}}, "a line break, or what is not ASCII"),
        ({"url": URL, "headers": {"a": "x\n y"}}, "a line break, or what is not ASCII"),
        ({"url": URL, "headers": {"a": "x\u0000"}}, "a line break, or what is not ASCII"),
        ({"url": URL, "headers": {"a": "x\u560d\u560a"}}, "a line break, or what is not ASCII"),
        ({"url": URL, "headers": {"a": "x", "A": "y"}}, "'a' is there twice"),
        ({"url": URL, "headers": {"a": "x" * MAX_HEADER_BYTES}}, "more than 16,384 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_what_is_wrong(arguments: Any, words: str) -> None:
    with pytest.raises(HostFunctionError) as refused:
        read_arguments(arguments)
    assert refused.value.code == "invalid_arguments"
    assert refused.value.message.startswith("http_request: ")
    assert words in refused.value.message
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "name",
    [
        "Host", "host", "Content-Length", "Transfer-Encoding", "TRANSFER-ENCODING", "Connection", "Keep-Alive",
        "Upgrade", "TE", "Trailer", "Expect", "HTTP2-Settings", "Accept-Encoding", "Via", "Proxy-Authorization",
        "proxy-connection",
    ],
)  # fmt: skip
def test_a_header_that_is_the_hosts_is_refused(name: str) -> None:
    with pytest.raises(HostFunctionError, match=f"'{name.lower()}' is the host's to write"):
        read(headers={name: "chunked"})


def test_a_body_that_is_too_large_is_refused() -> None:
    assert len(read(method="PUT", body="x" * MAX_REQUEST_BYTES).body) == MAX_REQUEST_BYTES
    with pytest.raises(HostFunctionError, match="too_large: the body has 1,048,577 bytes; at most 1,048,576 are sent"):
        read(method="PUT", body="x" * (MAX_REQUEST_BYTES + 1))


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 301, "GET"), ("POST", 302, "GET"), ("POST", 303, "GET"), ("POST", 307, "POST"), ("POST", 308, "POST"),
        ("PUT", 301, "PUT"), ("PUT", 302, "PUT"), ("PUT", 303, "GET"), ("GET", 303, "GET"), ("HEAD", 303, "HEAD"),
    ],
)  # fmt: skip
def test_a_redirect_keeps_the_method_as_browsers_do(method: str, status: int, then: str) -> None:
    request = read(method=method, body="x", headers={"content-type": "text/plain", "x-key": "k"})
    following = redirected(request, status, "/v2")
    assert following is not None
    assert following.method == then
    assert following.target.path == "/v2"
    kept = then == method
    assert following.body == (b"x" if kept else b"")
    assert dict(following.headers) == ({"content-type": "text/plain"} if kept else {}) | {"x-key": "k"}


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/elsewhere", True),
        ("https://api.example.com:443/", True),
        ("https://other.example.com/", False),
        ("http://api.example.com/", False),
        ("https://api.example.com:8443/", False),
    ],
)
def test_credentials_do_not_follow_a_redirect_to_another_origin(location: str, kept: bool) -> None:  # noqa: FBT001
    following = redirected(read(headers={"Authorization": "Bearer x", "Cookie": "a=b", "Accept": "*/*"}), 307, location)
    assert following is not None
    assert {"authorization", "cookie"}.isdisjoint(dict(following.headers)) is not kept
    assert ("accept", "*/*") in following.headers


@pytest.mark.parametrize(("status", "location"), [(200, "/x"), (201, "/x"), (300, "/x"), (304, "/x"), (302, None)])
def test_what_is_no_redirect_is_not_followed(status: int, location: str | None) -> None:
    assert redirected(read(), status, location) is None


def test_a_redirect_to_no_url_is_the_servers_fault_and_its_address_is_kept_secret() -> None:
    with pytest.raises(HostFunctionError) as refused:
        redirected(read(url="https://api.example.com/?key=secret"), 302, "https://u:secret@x.example/")
    assert refused.value.code == "bad_response"
    assert refused.value.message == (
        "https://api.example.com:443 redirects to what is no URL: "
        "the URL holds a user name; write an 'authorization' header"
    )


def test_a_redirect_may_be_written_in_utf_8() -> None:
    following = redirected(read(), 302, "/ü".encode().decode("latin-1"))
    assert following is not None
    assert following.target == read_target("https://api.example.com/%C3%BC")
