"""Where output goes: results to stdout, diagnostics to stderr, colours to terminals alone (and not with NO_COLOR)."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ..text import printable


def stdout() -> Console:
    """The console for what was asked for."""
    return Console(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """The console for everything else."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def print_error(message: str, hint: str | None = None) -> None:
    """`error: …` in red on stderr, and below it what to do. No line is broken: people search for them."""
    console = stderr()
    first, *others = message.split("\n")
    console.print(Text.assemble(("error: ", "bold red"), (printable(first), "red")), soft_wrap=True)
    for line in others:
        console.print(Text(printable(line), "red"), soft_wrap=True)
    if hint:
        console.print(Text(printable(hint)), soft_wrap=True)


def print_note(message: str) -> None:
    """A word beside the matter, dim on stderr."""
    stderr().print(Text(printable(message), "dim"), soft_wrap=True)
