"""The headers of a result, as fields: a dictionary only for whoever asks for one.

One is made for every request. Nearly all of them are written to the wire by `amqp_results`, which needs no dictionary,
and are read by nobody else here; for everyone else this is a mapping like any other.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .messages import Header, OutcomeKind
from .trace import TraceContext, trace_headers
from .wire import UNKNOWN, routing_word


@dataclass(frozen=True, slots=True, eq=False)
class ResultKind:
    """What results of the same plugin, version, action and outcome have in common."""

    headers: Mapping[str, Any]
    routing_key: str


@lru_cache(maxsize=1024)
def result_kind(plugin: str, action: str | None, outcome: OutcomeKind, version: str | None) -> ResultKind:
    """Made once for each. The results exchange has keys of three words: what is not a name stands as `unknown`."""
    headers = {Header.OUTCOME: outcome.value, Header.PLUGIN: plugin, Header.ACTION: action or UNKNOWN}
    if version is not None:
        headers[Header.VERSION] = version
    key = f"{routing_word(plugin)}.{routing_word(action)}.{outcome}"
    return ResultKind(headers, key)


@dataclass(slots=True, eq=False)  # equal to what has the same items, as mappings are
class ResultHeaders(Mapping[str, Any]):
    """See above. `context` is the result's own place in the trace, `trace_json` all of it that is known.

    `recording` is that of the run, for the few callers who ask for it.
    """

    kind: ResultKind
    fuel: int
    memory_bytes: int
    duration_us: int
    attempt: int
    context: TraceContext | None
    trace_json: str | None
    recording: bytes | None = None

    def _whole(self) -> dict[str, Any]:
        whole = {
            **(trace_headers(self.context) if self.context else {}),
            **self.kind.headers,
            Header.FUEL: self.fuel,
            Header.MEMORY: self.memory_bytes,
            Header.DURATION: self.duration_us,
            Header.ATTEMPT: self.attempt,
        }
        if self.trace_json is not None:
            whole[Header.TRACE] = self.trace_json
        if self.recording is not None:
            whole[Header.RECORDING] = self.recording
        return whole

    def __getitem__(self, name: str) -> Any:
        return self._whole()[name]

    def items(self) -> ItemsView[str, Any]:
        return self._whole().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())
