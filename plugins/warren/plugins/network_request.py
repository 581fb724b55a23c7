"""What a guest asks of `http_request`, read strictly, and what becomes of a request when it is redirected. Pure.

Headers that decide where a message ends, or whom it is for, are the host's: a guest that could write them could send a
second request inside the first, to whom it may not.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import HostFunctionError
from .host import invalid_arguments
from .module import shown
from .network_targets import Target, read_target, relative_to

HTTP_REQUEST: Final = "http_request"

#: Of the body, in bytes as they are sent.
MAX_REQUEST_BYTES: Final = 1 << 20

#: Of names and values of a request's headers together, in bytes: what servers commonly take.
MAX_HEADER_BYTES: Final = 16 << 10

_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")  # a token of RFC 9110 (5.6.2)
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")

#: Methods that are not a guest's: a tunnel to elsewhere, and what echoes headers (Fetch, 2.2.1).
_FORBIDDEN_METHODS: Final = frozenset({"CONNECT", "TRACE", "TRACK"})

_HOSTS_HEADERS: Final = frozenset(
    {
        "accept-encoding", "connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "te",
        "trailer", "transfer-encoding", "upgrade", "via",
    }
)  # fmt: skip

#: Which a redirect to another origin does not get to see.
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})

_OF_THE_BODY: Final = frozenset({"content-encoding", "content-language", "content-location", "content-type"})

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. The names of `headers` are in lower case, each there once, and the host's own are not among them."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """As they are sent."""
        defaults = {"accept": "*/*", "user-agent": "warren"}
        named = {name for name, _ in self.headers}
        length = (("content-length", str(len(self.body))),) if self.body or self.method in _WITH_BODY else ()
        return (
            ("host", self.target.authority),
            *((name, value) for name, value in defaults.items() if name not in named),
            *self.headers,
            ("accept-encoding", "gzip"),
            ("connection", "close"),
            *length,
        )


class Arguments(BaseModel):
    """What the guest gives; `timeout_s` None: as long as it may."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: str
    method: str = "GET"
    headers: dict[str, str] = Field(default_factory=dict, max_length=100)
    body: str | None = None
    body_base64: str | None = None
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    redirect: Literal["follow", "manual"] = "follow"


def read_arguments(arguments: Any) -> tuple[Arguments, HttpRequest]:
    """Raises `HostFunctionError` with what is wrong and where."""
    try:
        given = Arguments.model_validate(arguments)
    except ValidationError as error:
        raise invalid_arguments(HTTP_REQUEST, error) from None
    if not _METHOD.fullmatch(given.method) or given.method in _FORBIDDEN_METHODS:
        raise _invalid(f"'method' is not a method that may be used, in capitals: {shown(given.method)}")
    try:
        target = read_target(given.url)
    except ValueError as error:
        raise _invalid(f"'url': {error}") from None
    return given, HttpRequest(given.method, target, _headers(given.headers), _body(given))


def _headers(given: dict[str, str]) -> tuple[tuple[str, str], ...]:
    headers: dict[str, str] = {}
    for written, value in given.items():
        name = written.lower()
        if not _HEADER_NAME.fullmatch(written):
            raise _invalid(f"'headers': this is not the name of a header: {shown(written)}")
        if name in _HOSTS_HEADERS or name.startswith("proxy-"):
            raise _invalid(f"'headers': {shown(name)} is the host's to write")
        if name in headers:
            raise _invalid(f"'headers': {shown(name)} is there twice")
        if not _HEADER_VALUE.fullmatch(value):
            raise _invalid(f"'headers': the value of {shown(name)} holds a line break, or what is not ASCII")
        headers[name] = value.strip()
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADER_BYTES:
        raise _invalid(f"'headers': they have more than {MAX_HEADER_BYTES:,} bytes")
    return tuple(headers.items())


def _body(given: Arguments) -> bytes:
    if given.body is not None and given.body_base64 is not None:
        raise _invalid("'body' and 'body_base64' are both there; one of them is the body")
    try:
        body = base64.b64decode(given.body_base64 or "", validate=True) if given.body is None else given.body.encode()
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"'body_base64' is not base64: {error}") from None
    if len(body) > MAX_REQUEST_BYTES:
        raise HostFunctionError(
            "too_large", f"the body has {len(body):,} bytes; at most {MAX_REQUEST_BYTES:,} are sent"
        )
    return body


def redirected(request: HttpRequest, status: int, location: str | None) -> HttpRequest | None:
    """What follows on an answer (Fetch, 4.4); None if it is no redirect. Raises `HostFunctionError`."""
    if location is None or status not in {301, 302, 303, 307, 308}:
        return None
    try:
        target = relative_to(request.target, location.encode("latin-1").decode(errors="replace"))
    except ValueError as error:
        raise HostFunctionError(
            "bad_response", f"{request.target.origin} redirects to what is no URL: {error}"
        ) from None
    following = replace(request, target=target)
    dropped = frozenset[str]()
    if (status in {301, 302} and request.method == "POST") or (status == 303 and request.method not in {"GET", "HEAD"}):
        following = replace(following, method="GET", body=b"")
        dropped |= _OF_THE_BODY
    if not target.is_of_origin(request.target):
        dropped |= _CREDENTIALS
    return replace(following, headers=tuple(one for one in following.headers if one[0] not in dropped))


def _invalid(reason: str) -> HostFunctionError:
    return HostFunctionError("invalid_arguments", f"{HTTP_REQUEST}: {reason}")
