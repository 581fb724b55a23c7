"""A fleet of three to look at, and the picture of it that the README shows.

python -m tests.workers.cli.fleet_sample        draws workers/top.svg anew
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final

from rich.console import Console, RenderableType

from warren.bus import Answer, Heard
from warren.workers.cli.fleet_view import rates, survey_view
from warren.workers.cli.reports import WorkerReport
from warren.workers.cli.survey import Survey

PICTURE: Final = Path(__file__).parents[3] / "workers" / "top.svg"
PICTURE_WIDTH: Final = 120

NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

#: Requests that each worker served in the second between two looks, by plugin and version.
_SERVED: Final = {
    "burrow-1-4711-9f3a": {("digest", "1.0.0"): 871, ("text_processor", "1.2.0"): 2_204, ("word_stats", "1.0.0"): 912},
    "burrow-1-4712-03be": {("digest", "1.0.0"): 640, ("text_processor", "1.2.0"): 2_411, ("word_stats", "1.0.0"): 887},
    "burrow-2-391-c77d": {("digest", "1.0.0"): 455, ("text_processor", "1.3.0"): 303, ("word_stats", "1.0.0"): 0},
}
_IN_FLIGHT: Final = {"burrow-1-4711-9f3a": 41, "burrow-1-4712-03be": 57, "burrow-2-391-c77d": 3}
_FUEL: Final = {"digest": 18_402, "text_processor": 412_077, "word_stats": 96_311}
_BEFORE: Final = {"burrow-1-4711-9f3a": 310.0, "burrow-1-4712-03be": 310.0, "burrow-2-391-c77d": 2.0}


def fleet(second: int, *, silent: str | None = None) -> Survey:
    """What was seen in the first second, or the next."""
    workers = {name: _worker(name, second) for name in _SERVED}
    answers = {name: Answer(worker=name, answer={}) for name in workers}
    expected = {*workers, silent} if silent else set(workers)
    return Survey(
        workers,
        Heard(answers, expected),
        {"digest": 0, "text_processor": 38, "word_stats": 0},
        dead_letters=2,
        unrouted=0,
        taken_s=float(second),
    )


def _worker(name: str, second: int) -> WorkerReport:
    seconds = _BEFORE[name] + second
    plugins: list[dict[str, Any]] = [
        {
            "name": plugin,
            "version": version,
            "execution_count": int(served * seconds),
            "failure_count": 3 if plugin == "word_stats" and served > 900 else 0,
            "status": "stale" if version == "1.3.0" else "loaded",
            "fuel_p50": _FUEL[plugin] // 2,
            "fuel_p99": _FUEL[plugin],
            "memory_bytes_p50": 1 << 20,
            "memory_bytes_p99": 1_179_648,
        }
        for (plugin, version), served in _SERVED[name].items()
    ]
    host, pid, _ = name.rsplit("-", 2)
    return WorkerReport.model_validate(
        {
            "host": host,
            "pid": int(pid),
            "started": NOW - timedelta(seconds=seconds * 37),
            "warren": "0.3.0",
            "state": "draining" if name.endswith("c77d") else "serving",
            "in_flight": _IN_FLIGHT[name],
            "counters": {
                "requests": sum(plugin["execution_count"] for plugin in plugins),
                "retries": 12 if host == "burrow-1" else 0,
                "dead_letters": 2 if name.endswith("9f3a") else 0,
                "passed_on": 0 if name.endswith("c77d") else 118,
            },
            "plugins": plugins,
        }
    )


def view(width: int, *, silent: str | None = None) -> RenderableType:
    """What `warren top` shows of it."""
    before, after = fleet(0), fleet(1, silent=silent)
    return survey_view(after, width, rates(before, after), now=NOW)


def text(shown: RenderableType, width: int) -> str:
    """As a terminal of that width has it, without its colours."""
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(shown)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def picture() -> str:
    console = Console(file=StringIO(), width=PICTURE_WIDTH, record=True, color_system="truecolor", force_terminal=True)
    console.print(view(PICTURE_WIDTH))
    drawn = console.export_svg(title="warren top", unique_id="warren-top")
    # A picture in a page loads nothing from elsewhere; and spaces are for right alignment, wherever it is drawn.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    lines = (line.rstrip() for line in drawn.replace("<svg ", '<svg xml:space="preserve" ', 1).splitlines())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
