"""A result: as the JSON that `--json` prints, as a line of figures, and as an exit code."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from warren.bus import OutcomeKind, Result, Trace, encode_trace

from ..text import duration, printable, size
from .exit_codes import ExitCode

_EXIT_CODES = {OutcomeKind.OK: ExitCode.OK, OutcomeKind.FAILED: ExitCode.FAILED}

#: A trace is cut where it has to fit into a header, and here it has not.
_UNBOUNDED = 1 << 62


def exit_code(outcome: OutcomeKind) -> ExitCode:
    """0 for `ok`, 1 for `failed`, 3 for whatever ended without an answer."""
    return _EXIT_CODES.get(outcome, ExitCode.BAD_OUTCOME)


def result_data(result: Result) -> dict[str, Any]:
    """A result for `--json`."""
    return {
        "outcome": result.outcome,
        "response": {"success": result.success, "result": result.result, "error": result.error},
        "plugin": result.plugin,
        "version": result.version,
        "fuel": result.fuel,
        "memory_bytes": result.memory_bytes,
        "duration_us": result.duration_us,
        "attempt": result.attempt,
        "trace": trace_data(result.trace),
    }


def trace_data(trace: Trace | None) -> Any:
    """A trace for `--json`, in the shape of the header `warren-trace`."""
    if trace is None:
        return None
    return json.loads(encode_trace(trace, max_spans=_UNBOUNDED, max_bytes=_UNBOUNDED))


def figures(result: Result) -> Text:
    """What a run was and used, in one line. A request that was not run used nothing."""
    used = (
        f" · {duration(result.duration_us)} · {result.fuel:,} fuel · {size(result.memory_bytes)}" if result.fuel else ""
    )
    style = "green" if result.ok else "red"
    return Text.assemble(
        (f"{printable(result.plugin)} {printable(result.version or '')}".strip(), "dim"),
        (" · ", "dim"),
        (result.outcome, style),
        (used, "dim"),
        (f" · attempt {result.attempt}" if result.attempt > 1 else "", "dim"),
    )
