"""What a plugin may name in `[permissions]`: file globs, network hosts, environment variables.

Each check takes one entry and gives it back in its canonical form, or raises ValueError with the reason. Whoever
enforces a permission compares canonical forms, so what could be read in two ways is refused here: `..`, backslashes,
URLs, and addresses in octal, hexadecimal or fewer than four parts, which resolvers take for others.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

MAX_PATH_BYTES: Final = 1024

#: DNS's own limits (RFC 1035).
MAX_HOST_LENGTH: Final = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def relative_glob(entry: str) -> str:
    """A glob below the plugin's own directory: `data/*.txt`, `models/**`."""
    if not entry:
        raise ValueError("an empty path names nothing")
    if len(entry.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if not entry.isprintable():
        raise ValueError("the path holds a control character")
    if "\\" in entry:
        raise ValueError("the path holds a backslash; write '/'")
    if entry.startswith("/") or re.match(r"[A-Za-z]:", entry):
        raise ValueError("the path is absolute; paths are relative to the plugin's own directory")
    parts = entry.split("/")
    if ".." in parts:
        raise ValueError("the path holds '..', which could leave the plugin's own directory")
    if "." in parts or "" in parts[:-1]:
        raise ValueError("the path has an empty or '.' component; write it without")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("'**' stands for whole directories: 'data/**/x', not 'data/a**'")
    return entry


def network_host(entry: str) -> str:
    """A host name, `*.` before one (any host below it, not itself), or an address; `:port` may follow. Lower case."""
    if fault := _not_a_host(entry):
        raise ValueError(fault)
    host, port = split_port(entry.lower())
    if port is not None and not (_PORT.fullmatch(port) and int(port) < 65536):
        raise ValueError("the port is not a number from 1 to 65535")
    if host.startswith("["):
        _check_ipv6(host)
    elif re.search(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$", host):
        _check_ipv4(host)
    else:
        _check_name(host)
    return host if port is None else f"{host}:{port}"


def environment_variable(entry: str) -> str:
    """The name of an environment variable."""
    if not _VARIABLE.fullmatch(entry):
        raise ValueError("a variable's name has letters, digits and '_', and no digit first")
    return entry


def system_call(entry: str) -> str:
    """Always refused: a guest has no system calls, only host functions."""
    raise ValueError(f"Warren grants no system calls; remove {entry[:40]!r}")


def _not_a_host(entry: str) -> str | None:
    """What people write instead of a host."""
    if "://" in entry:
        return "give the host alone, without a scheme, like 'api.example.com'"
    if "/" in entry or "?" in entry:
        return "give the host alone, without a path"
    if "@" in entry:
        return "give the host alone, without user or password"
    if not entry.isascii():
        return "write an international name in its ASCII form ('xn--...')"
    if entry == "*":
        return "every host is too many; name them, or use '*.example.com'"
    return None


def stands_for(pattern: str, host: str) -> bool:
    """Whether a host as `network_host` gives it, without a port, stands for `host`: itself, or any below its `*.`."""
    return pattern == host or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def split_port(entry: str) -> tuple[str, str | None]:
    """Host and port of an entry, as they are written. Raises ValueError where they cannot be told apart."""
    if entry.startswith("["):
        host, bracket, rest = entry.partition("]")
        if rest and not rest.startswith(":"):
            raise ValueError("after ']' only ':port' may follow")
        return host + bracket, rest[1:] if rest else None
    host, colon, port = entry.partition(":")
    if ":" in port:
        raise ValueError("an IPv6 address stands in brackets, like '[2001:db8::1]'")
    return host, port if colon else None


def _check_ipv4(host: str) -> None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError("an IPv4 address has four decimal numbers without leading zeros, like '192.0.2.1'") from None


def _check_ipv6(host: str) -> None:
    try:
        address = ipaddress.IPv6Address(host[1:-1] if host.endswith("]") else "")
    except ValueError:
        raise ValueError("this is not an IPv6 address in brackets, like '[2001:db8::1]'") from None
    if address.scope_id or address.ipv4_mapped:
        raise ValueError("an IPv6 address has neither a zone nor an IPv4 address in it here; write the latter as such")
    if host != f"[{address}]":
        raise ValueError(f"write the IPv6 address in its shortest form, '[{address}]'")


def _check_name(host: str) -> None:
    name = host.removeprefix("*.")
    if "*" in name:
        raise ValueError("'*' may only stand first, as in '*.example.com'")
    if len(name) > MAX_HOST_LENGTH or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError("this is not a host name, like 'api.example.com'")
    if host != name and "." not in name:
        raise ValueError("'*' needs at least two labels after it, as in '*.example.com'")
