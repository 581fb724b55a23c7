"""`warren demo`: documents through the three sample plugins, on the embedded bus.

The first plugin is called; what it publishes wakes the second, whose event wakes the third. Their results are heard as
any application would hear them, and the traces that come with them are parts of one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from warren.bus import Client, Listener, Result, Span, Trace, TraceContext
from warren.manifests import Policy

from ..embedded import embedded
from ..samples import sample_documents, sample_plugins
from ..text import duration, printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import print_json
from .logs import configure_logging
from .output import print_error, stdout
from .policy import chosen_policy
from .result_view import exit_code, trace_data
from .waterfall import waterfall

#: In the order in which one wakes the next.
PIPELINE: Final = ("text_processor", "word_stats", "digest")

#: For one document to come through; milliseconds are usual.
LIMIT_S: Final = 30.0

KEYWORDS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Document:
    """A text and its name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of one document: a result from each plugin, as far as it came, and the trace of it all."""

    document: str
    results: tuple[Result, ...]
    trace: Trace

    @property
    def code(self) -> ExitCode:
        if len(self.results) < len(PIPELINE) and self.results[-1].ok:
            return ExitCode.TIMED_OUT
        return exit_code(self.results[-1].outcome)

    @property
    def error(self) -> str | None:
        """Why the document did not come through; None if it did."""
        last = self.results[-1]
        if self.code is ExitCode.TIMED_OUT:
            return f"nothing came after {last.plugin} within {LIMIT_S:g} s"
        return None if last.ok else f"{last.plugin} ended with {last.outcome}: {last.error}"

    def answer(self, plugin: str) -> dict[str, Any]:
        """What a plugin answered; nothing, if it was not reached."""
        answers = [result.result for result in self.results if result.plugin == plugin]
        return answers[0] if answers and isinstance(answers[0], dict) else {}


def run(files: list[Path], policy: Path | None, *, as_json: bool) -> int:
    """Run the pipeline, show what it gave."""
    configure_logging("warning", as_json=as_json)
    documents = [_read(path) for path in files or sample_documents()]
    passages = asyncio.run(_pass_all(documents, chosen_policy(policy)))
    if as_json:
        print_json({"documents": [_data(passage) for passage in passages]})
    else:
        _print(passages)
    return max(passage.code for passage in passages)


def _read(path: Path) -> Document:
    try:
        return Document(printable(path.name), path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        reason = f"{path} is not UTF-8 text: byte {error.object[error.start]:#04x} at offset {error.start:,}"
        raise WrongUsage(reason, "iconv -f latin1 -t utf-8 FILE would make it so, if it is Latin-1") from error


async def _pass_all(documents: list[Document], policy: Policy) -> list[Passage]:
    async with embedded(sample_plugins(), policy=policy) as here, here.client.results("#") as results:
        return [await _pass(here.client, results, document) for document in documents]


async def _pass(client: Client, heard: Listener[Result], document: Document) -> Passage:
    """One document at a time, so that whatever is heard meanwhile belongs to it."""
    context = TraceContext.new()
    start_ns, began_ns = time.time_ns(), time.perf_counter_ns()
    request = {"document": document.name, "text": document.text}
    results = [await client.call(PIPELINE[0], "process_data", request, trace=context)]
    with suppress(TimeoutError):  # the passage says so itself
        async with asyncio.timeout(LIMIT_S):
            while results[-1].ok and len(results) < len(PIPELINE):
                results.append(await anext(heard))
    name = f"demo {document.name}"
    whole = Span(name, context, None, "internal", start_ns, time.perf_counter_ns() - began_ns, {})
    traces = [result.trace for result in results if result.trace is not None]
    return Passage(document.name, tuple(results), Trace.merged(Trace(context.trace_id, (whole,)), *traces))


def _data(passage: Passage) -> dict[str, Any]:
    stats = passage.answer("word_stats")
    return {
        "document": passage.document,
        "words": stats.get("words"),
        "sentences": stats.get("sentences"),
        "keywords": [keyword["word"] for keyword in stats.get("keywords", ())],
        "digest": passage.answer("digest").get("digest"),
        "error": passage.error,
        "fuel": sum(result.fuel for result in passage.results),
        "duration_us": sum(result.duration_us for result in passage.results),
        "outcomes": {result.plugin: result.outcome for result in passage.results},
        "trace": trace_data(passage.trace),
    }


def _print(passages: list[Passage]) -> None:
    console = stdout()
    console.print(_table(passages))
    console.print()
    for passage in passages:
        if digest := passage.answer("digest").get("digest"):
            console.print(Text(printable(digest)))
    console.print()
    shown = passages[0]
    heading = Text.assemble(
        "The way of ", (printable(shown.document), "bold"), (f", trace {shown.trace.trace_id}", "dim")
    )
    console.print(heading)
    console.print(waterfall(shown.trace))
    for passage in passages:
        if passage.error:
            print_error(f"{passage.document}: {passage.error}")


def _table(passages: list[Passage]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("Document", style="bold")
    for heading in ("Words", "Sentences"):
        table.add_column(heading, justify="right")
    table.add_column("Keywords")
    for heading in ("Fuel", "Run time"):
        table.add_column(heading, justify="right")
    for passage in passages:
        data = _data(passage)
        table.add_row(
            Text(printable(passage.document)),
            _count(data["words"]),
            _count(data["sentences"]),
            Text(printable(", ".join(data["keywords"][:KEYWORDS_SHOWN]))),
            _count(data["fuel"]),
            duration(data["duration_us"]),
        )
    return table


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
