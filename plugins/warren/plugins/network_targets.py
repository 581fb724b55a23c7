"""Where a URL leads, and whether a plugin may go there. Pure: no name is resolved here.

A URL is read once, strictly, into scheme, host, port and path, and the connection is made to these: there is no second
parser that could see another host. What two parsers read in two ways is not read at all: backslashes, white space,
control characters, user names, hosts in any but their canonical form. (Rejected: to make hosts canonical as browsers
do. The permissions refuse the odd forms, so whoever writes one cannot mean a host that is listed.)

An entry `host:port` stands for that port alone; one without a port for the scheme's own, 80 or 443. Neither says
anything of the scheme.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin

from warren.manifests.permissions import network_host, split_port, stands_for

#: RFC 9110 (4.1) asks for 8,000 octets to be supported at the least.
MAX_URL_LENGTH: Final = 8_192

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?")

#: What may stand in a path and query as it is (RFC 3986); anything else is percent-encoded as UTF-8.
_PLAIN: Final = "/?%:@!$&'()*+,;=-._~[]"


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for, and of whom. `flaw`: why no permission can stand for it, whatever it lists.

    `host` is canonical where there is no flaw, and an IPv6 address is in brackets. `path` has the query with it.
    """

    scheme: str
    host: str
    port: int
    path: str
    flaw: str | None = None

    @property
    def origin(self) -> str:
        """Without path, query and anything else that may be secret: for people."""
        return f"{self.scheme}://{self.host}:{self.port}" if self.host else f"{self.scheme}:"

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def is_of_origin(self, other: Target) -> bool:
        """Whether both are of one scheme, host and port."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)


def read_target(url: str) -> Target:
    """Raises ValueError with the reason for what is no URL, or one that can be read in two ways."""
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"the URL is longer than {MAX_URL_LENGTH:,} characters")
    if " " in url or not url.isprintable():
        raise ValueError("the URL holds white space or a control character; percent-encode it")
    if "\\" in url:
        raise ValueError("the URL holds a backslash; write '/', or '%5C'")
    scheme, colon, rest = url.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        raise ValueError("the URL has no scheme; begin with 'https://'")
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        return Target(scheme, "", 0, "", flaw="only http and https are spoken")
    if not rest.startswith("//"):
        raise ValueError(f"'//' has to follow '{scheme}:' in the URL")
    authority, path = _split(rest[2:])
    return _target(scheme, authority, path)


def _split(rest: str) -> tuple[str, str]:
    without_fragment = rest.partition("#")[0]
    end = re.search(r"[/?]|$", without_fragment)
    assert end is not None  # noqa: S101 - the end is always there
    return without_fragment[: end.start()], without_fragment[end.start() :]


def _target(scheme: str, authority: str, path: str) -> Target:
    if "@" in authority:
        raise ValueError("the URL holds a user name; write an 'authorization' header")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or int(parts["port"] or 1) > 65_535:
        raise ValueError("the URL has no host, or a port that is no number from 1 to 65535")
    host, port = parts["host"], int(parts["port"] or DEFAULT_PORTS[scheme])
    path = quote(path if path.startswith("/") else f"/{path}", safe=_PLAIN)
    try:
        canonical = network_host(host)
    except ValueError as error:
        return Target(scheme, host, port, path, flaw=str(error))
    flaw = "this names no single host" if canonical.startswith("*") else None
    return Target(scheme, canonical, port, path, flaw)


def relative_to(base: Target, location: str) -> Target:
    """Where a redirect leads. Raises ValueError as `read_target` does."""
    if not location.isprintable() or "\\" in location:
        raise ValueError("it holds a backslash or a control character")
    return read_target(urljoin(base.url, location))


def refusal(target: Target, network_hosts: Iterable[str]) -> str | None:
    """Why it must not be reached; None if one of the entries, each in its canonical form, stands for it."""
    if target.flaw:
        return target.flaw
    if any(_stands_for(entry, target) for entry in network_hosts):
        return None
    return "it is not among the network_hosts that the plugin was granted"


def _stands_for(entry: str, target: Target) -> bool:
    host, port = split_port(entry)
    return target.port == int(port or DEFAULT_PORTS[target.scheme]) and stands_for(host, target.host)
