"""One HTTP/1.1 exchange with an address that has been checked: the only module that uses httpcore.

The name is not resolved again: the connection is made to the addresses given, while `Host`, SNI and the certificate's
check keep the name. Nothing is kept between two exchanges: no connection, no cookie; and nothing comes from the
environment: no proxy, no password. What a server may send is bounded as it comes in, before and after decompression.

Rejected: httpx, which stands on httpcore. It reads URLs by a parser of its own, finds proxies and passwords in the
environment, keeps cookies, and decompresses each piece whole, `gzip, gzip, gzip` included, whatever comes out of it.
Rejected: to keep connections. The next run would use one to an address that was checked for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpcore

from .errors import HostFunctionError
from .network_request import HttpRequest

#: Of an answer's body, in bytes: as it comes, and again decompressed. A guest gets it as JSON, in memory of its own.
MAX_RESPONSE_BYTES: Final = 4 << 20

#: What comes before the body, in bytes: h11 takes 100 KiB of headers, but any number of `100 Continue` before them, 20
#: µs each, and gives nobody a turn meanwhile.
MAX_HEAD_BYTES: Final = 256 << 10

#: Pieces that a body may come in, which is what a chunk is at the least: each takes some 25 µs to read.
MAX_PIECES: Final = 20_000

#: For one address, where a name may have several: broken IPv6 must not take the time that IPv4 needs.
CONNECT_TIMEOUT_S: Final = 5.0

#: Decompressed at once, between two turns of the event loop: half a millisecond's work.
_PIECE_BYTES: Final = 128 << 10


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What the server said; the names of `headers` are in lower case, in the order in which they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value."""
        return next((value for one, value in self.headers if one == name), None)


def system_trust() -> ssl.SSLContext:
    """TLS that is verified with the system's certificates and certifi's. Takes some 20 ms."""
    return httpcore.default_ssl_context()


async def exchange(request: HttpRequest, addresses: Sequence[str], tls: ssl.SSLContext | None) -> HttpAnswer:
    """Send one request to the first of the addresses that takes the connection.

    Without `tls` only http is spoken. Without a time limit of its own: cancel it. Raises `HostFunctionError`:
    `connection_failed`, `tls_failed`, `bad_response`, `too_large`.
    """
    target = request.target
    line = _Line(addresses)
    host = target.host.strip("[]").encode()
    url = httpcore.URL(scheme=target.scheme, host=host, port=target.port, target=target.path)
    connection = httpcore.AsyncHTTPConnection(url.origin, ssl_context=tls, network_backend=line)
    sent = httpcore.Request(
        request.method.encode(),
        url,
        headers=[(name.encode(), value.encode()) for name, value in request.all_headers],
        content=request.body,
        extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
    )
    try:
        response = await connection.handle_async_request(sent)
        line.is_past_head = True
        return await _read(response)
    except (httpcore.ProtocolError, zlib.error) as error:
        raise HostFunctionError("bad_response", f"{target.origin} does not answer in HTTP: {error}") from None
    except httpcore.NetworkError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            reason = getattr(error.__cause__, "verify_message", "") or error.__cause__.reason or error.__cause__
            raise HostFunctionError("tls_failed", f"no TLS with {target.origin}: {reason}") from None
        raise HostFunctionError(
            "connection_failed", f"{target.origin}: {str(error) or 'the connection broke'}"
        ) from None
    except httpcore.TimeoutException:
        reason = f"no address of {target.origin} took a connection within {CONNECT_TIMEOUT_S:g} s"
        raise HostFunctionError("connection_failed", reason) from None
    finally:
        await line.hang_up()


class _Line(httpcore.AsyncNetworkBackend):
    """Connects to one of the addresses, whatever host it is asked for, and ends what it has begun."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.is_past_head = False
        self._addresses = addresses
        self._network: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()  # pyright: ignore[reportAttributeAccessIssue]
        self._stream: httpcore.AsyncNetworkStream | None = None
        self._head_bytes = 0

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - what this is here for
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore. Raises what the last address does."""
        *others, last = self._addresses
        for address in others:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                self._stream = await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
                break
        else:
            self._stream = await self._network.connect_tcp(last, port, timeout, local_address, socket_options)
        return _Bounded(self._stream, self)

    def count(self, length: int) -> None:
        """So much came. Raises `HostFunctionError` when the head is too large."""
        if not self.is_past_head:
            self._head_bytes += length
            if self._head_bytes > MAX_HEAD_BYTES:
                raise HostFunctionError(
                    "too_large", f"more than {MAX_HEAD_BYTES:,} bytes came before the answer's body"
                )

    async def hang_up(self) -> None:
        """Close the connection, below TLS: httpcore leaves it open when it is cancelled in the handshake."""
        if self._stream is not None:
            await self._stream.aclose()


class _Bounded(httpcore.AsyncNetworkStream):
    """A stream whose line counts what is read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, line: _Line) -> None:
        self._stream = stream
        self._line = line
        self.write = stream.write  # type: ignore[method-assign]
        self.aclose = stream.aclose  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        data = await self._stream.read(max_bytes, timeout)
        self._line.count(len(data))
        return data

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return _Bounded(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._line)


async def _read(response: httpcore.Response) -> HttpAnswer:
    headers = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
    codings = [value.strip().lower() for name, value in headers if name == "content-encoding"]
    is_gzip = codings == ["gzip"]
    body = bytearray()
    async for piece in _gunzipped(_received(response)) if is_gzip else _received(response):
        body += piece
        if len(body) > MAX_RESPONSE_BYTES:
            raise _too_large()
    if is_gzip:  # what these say is true no longer
        headers = [(name, value) for name, value in headers if name not in {"content-encoding", "content-length"}]
    return HttpAnswer(response.status, tuple(headers), bytes(body))


async def _received(response: httpcore.Response) -> AsyncIterator[bytes]:
    received = pieces = 0
    async for piece in response.aiter_stream():
        received, pieces = received + len(piece), pieces + 1
        if received > MAX_RESPONSE_BYTES:
            raise _too_large()
        if pieces > MAX_PIECES:
            raise HostFunctionError("too_large", f"the answer came in more than {MAX_PIECES:,} pieces")
        yield piece
        await asyncio.sleep(0)  # many small pieces can lie in one read


async def _gunzipped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    gunzip = _Gunzip()
    async for piece in pieces:
        for more in gunzip.feed(piece):
            yield more
            await asyncio.sleep(0)
    if not gunzip.is_whole:
        raise HostFunctionError("bad_response", "the compressed body ends in the middle")


class _Gunzip:
    """Decompresses in bounded pieces. A body may be several members, one after the other (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        #: Whether what came has ended where a member ends; nothing at all has, as the answer to HEAD.
        self.is_whole = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._member.decompress(data, _PIECE_BYTES)
            yield piece
            data = self._member.unconsumed_tail
            self.is_whole = self._member.eof
            if self._member.eof:
                data = self._member.unused_data
                self._member = zlib.decompressobj(wbits=31)
            elif len(piece) == _PIECE_BYTES:  # there may be more of what went in before
                continue
            if not data:
                return


def _too_large() -> HostFunctionError:
    return HostFunctionError("too_large", f"the answer has more than {MAX_RESPONSE_BYTES:,} bytes")
