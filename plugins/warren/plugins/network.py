"""The host function `http_request`: a plugin talks HTTP to the hosts that it was granted.

    {"url": ..., "method": "GET", "headers": {name: value}, "body": text, "body_base64": bytes, "timeout_s": ...,
     "redirect": "follow" or "manual"}
    ->  {"status": ..., "url": ..., "headers": {name: [values]}, "body": text or null, "body_base64": bytes or null}

Before each connection, and so for each redirect, these are asked, in this order: has the plugin the capability, is the
host among those that it was granted, and is every address that the name has the public internet's, or in a network
that the operator opened. A no ends the run as `denied`. The connection is then made to the addresses that were checked,
and to no others: a name that has another address a moment later gains nothing.

The guest is suspended meanwhile, nobody else is, and when its run ends the connection does. A plugin has so many
connections at once as its limits say, in each worker process; who comes later waits, first come, first served.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final, NoReturn

from warren.manifests import Grant

from .errors import GuestFault, HostFunctionError
from .host import HostSession
from .network_addresses import first_forbidden
from .network_client import HttpAnswer, exchange, system_trust
from .network_request import HttpRequest, read_arguments, redirected
from .network_targets import Target, refusal
from .outcome import AuditSeverity

#: Half of what browsers follow (Fetch, 4.4): each has its own connection, on the one time limit.
MAX_REDIRECTS: Final = 10

#: All addresses of a host, for a port, in the order in which they are to be tried. Raises OSError when it has none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

#: See `network_client.exchange`.
Exchange = Callable[[HttpRequest, Sequence[str], ssl.SSLContext | None], Awaitable[HttpAnswer]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class HttpRequests:
    """The host function. It counts connections for as long as it lives: have one in a process.

    `tls` is for hosts with certificates of one's own; by default the system's and certifi's are trusted. `exchange` is
    what talks to a host once all is checked.
    """

    def __init__(
        self, *, resolve: Resolve = resolve, tls: ssl.SSLContext | None = None, exchange: Exchange = exchange
    ) -> None:
        self._resolve = resolve
        self._tls = tls
        self._exchange = exchange
        self._lines: dict[tuple[str, int], asyncio.Semaphore] = {}

    async def __call__(self, session: HostSession, arguments: Any) -> dict[str, Any]:
        """Raises `GuestFault` for what the plugin may not do, and `HostFunctionError` for what the guest can handle."""
        given, request = read_arguments(arguments)
        self._check_granted(session, request)
        limits = session.grant.limits
        limit_s = min(given.timeout_s or limits.network_timeout_s, limits.network_timeout_s, session.remaining_s)
        waits_for = f" for one of the plugin's {limits.max_network_connections} connections"
        try:
            async with asyncio.timeout(limit_s), self._line(session.grant):
                waits_for = f" for {request.target.origin}"
                return await self._follow(session, request, follows=given.redirect == "follow")
        except TimeoutError:
            raise HostFunctionError("timeout", f"waited{waits_for} longer than {limit_s:.3g} s") from None

    def _line(self, grant: Grant) -> asyncio.Semaphore:
        most = grant.limits.max_network_connections
        return self._lines.setdefault((grant.plugin, most), asyncio.Semaphore(most))

    async def _follow(self, session: HostSession, request: HttpRequest, *, follows: bool) -> dict[str, Any]:
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._checked_addresses(session, request)
            answer = await self._exchange(
                request, addresses, self._trust() if request.target.scheme == "https" else None
            )
            following = redirected(request, answer.status, answer.header("location")) if follows else None
            if following is None:
                return _told(request.target, answer)
            self._check_granted(session, following)
            request = following
        raise HostFunctionError("too_many_redirects", f"there were more than {MAX_REDIRECTS} redirects")

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = system_trust()
        return self._tls

    def _check_granted(self, session: HostSession, request: HttpRequest) -> None:
        if "network" not in session.grant.capabilities:
            _deny(session, request, "the plugin does not have the capability 'network'")
        if reason := refusal(request.target, session.grant.network_hosts):
            _deny(session, request, reason, "critical" if request.target.flaw else "warning")

    async def _checked_addresses(self, session: HostSession, request: HttpRequest) -> Sequence[str]:
        addresses = await self._addresses(request.target)
        if forbidden := first_forbidden(addresses, session.grant.private_networks):
            address, special = forbidden
            reason = f"its address {address} is {special}, which is not in the private_networks that were granted"
            _deny(session, request, reason, "critical")
        session.used("network_hosts", _asked(request))
        return addresses

    async def _addresses(self, target: Target) -> Sequence[str]:
        with contextlib.suppress(ValueError):
            return (str(ip_address(target.host.strip("[]"))),)
        try:
            addresses = await self._resolve(target.host, target.port)
        except OSError as error:
            raise HostFunctionError("not_resolved", f"{target.host}: {error.strerror or error}") from None
        if not addresses:
            raise HostFunctionError("not_resolved", f"{target.host} has no address")
        return addresses


def _asked(request: HttpRequest) -> str:
    return f"{request.method} {request.target.origin}"


def _deny(session: HostSession, request: HttpRequest, reason: str, severity: AuditSeverity = "warning") -> NoReturn:
    session.refused("network_hosts", _asked(request), reason, severity=severity)
    raise GuestFault("denied", f"the plugin may not reach {request.target.origin}: {reason}")


def _told(target: Target, answer: HttpAnswer) -> dict[str, Any]:
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        headers.setdefault(name, []).append(value)
    told: dict[str, Any] = {"status": answer.status, "url": target.url, "headers": headers}
    try:
        return {**told, "body": answer.body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {**told, "body": None, "body_base64": base64.b64encode(answer.body).decode()}
