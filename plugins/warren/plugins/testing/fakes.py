"""What stands in for the web while a plugin is tested.

It is faked where `network` would connect, and no sooner: whether the plugin may ask at all is decided by the real
checks, and a refusal ends its run as it would anywhere.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json

from ..errors import GuestFault
from ..network import HttpRequests
from ..network_client import HttpAnswer
from ..network_request import HttpRequest

#: What every name resolves to: some address of the public internet, which the checks let pass. Nobody connects to it.
FAKE_ADDRESS: Final = "1.1.1.1"

_ENDS_WITH_HOST: Final = re.compile(r"[a-z]+://[^/*?#]+")


class NotFaked(AssertionError):
    """The plugin asked for a URL that it may reach, and that the test has no answer for."""


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request that the plugin was allowed to make."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class FakeWeb:
    """Answers by method and URL. The last one that fits counts."""

    def __init__(self) -> None:
        self.requests: list[WebRequest] = []
        self.not_faked: list[str] = []
        self._answers: list[tuple[str, re.Pattern[str], HttpAnswer]] = []

    def answer(self, method: str, url: str, body: Any, *, status: int, headers: Mapping[str, str]) -> None:
        """In `url` and `method` a `*` stands for anything. What is neither bytes nor text is sent as JSON.

        A URL that ends with its host is of the path `/`, as the plugin's is by the time that it is asked for.
        """
        if _ENDS_WITH_HOST.fullmatch(url):
            url += "/"
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else to_json(body)
        lowered = tuple((name.lower(), value) for name, value in headers.items())
        pattern = re.compile(re.escape(url).replace(r"\*", ".*"), re.DOTALL)
        self._answers.insert(0, (method.upper(), pattern, HttpAnswer(status, lowered, raw)))

    def begin(self) -> None:
        """A run does, and its requests are seen alone."""
        self.requests.clear()
        self.not_faked.clear()

    def http_request(self) -> HttpRequests:
        """The host function, real but for the connection."""
        return HttpRequests(resolve=_resolve, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), exchange=self._exchange)

    async def _exchange(
        self, request: HttpRequest, _addresses: Sequence[str], _tls: ssl.SSLContext | None
    ) -> HttpAnswer:
        url = request.target.url
        self.requests.append(WebRequest(request.method, url, dict(request.all_headers), request.body))
        for method, pattern, answer in self._answers:
            if method in {request.method, "*"} and pattern.fullmatch(url):
                return answer
        asked = f"{request.method} {url}"
        self.not_faked.append(asked)
        raise GuestFault("unavailable", f"{asked} is not faked: nothing answers it")


async def _resolve(_host: str, _port: int) -> Sequence[str]:
    return (FAKE_ADDRESS,)
