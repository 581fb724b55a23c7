"""Cases that were tried, for people."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from rich.text import Text

from ..kit.case_runs import Tried
from ..kit.judging import Mismatch
from ..text import printable
from .json_data import json_text
from .output import stdout

_COLOURS: Final = {"-": "red", "+": "green", "@": "dim"}


def print_tried(one: Tried, folder: Path) -> None:
    """A line; and of one that does not hold what differs, and its log. `folder` is what file names are told from."""
    console = stdout()
    word, colour = ("failed", "bold red") if one.mismatches else ("passed", "green")
    place = printable(str(one.path.relative_to(folder)))
    line = Text.assemble((word, colour), f"  {place}: {printable(one.case.name)}  ", (f"{one.fuel:,} fuel", "dim"))
    console.print(line, soft_wrap=True)
    for mismatch in one.mismatches:
        for text in _difference(mismatch):
            console.print(text, soft_wrap=True)
    if one.mismatches:
        for line_of_log in one.ended.outcome.logs:
            console.print(Text(f"        log: {printable(line_of_log.text)}", "dim"), soft_wrap=True)


def print_counts(passed: int, failed: int) -> None:
    """A line; nothing where there were no cases."""
    if passed or failed:
        counts = f"{passed} passed" + (f", {failed} failed" if failed else "")
        stdout().print(Text(counts, "bold red" if failed else "bold green"))


def _difference(mismatch: Mismatch) -> list[Text]:
    """What was expected (-) and what there is (+), as the lines of a diff."""
    expected, actual = (json_text(value, indent=2).split("\n") for value in (mismatch.expected, mismatch.actual))
    if len(expected) == len(actual) == 1:
        lines = [f"-{expected[0]}", f"+{actual[0]}"]
    else:
        lines = list(difflib.unified_diff(expected, actual, lineterm="", n=2))[2:]
    texts = [Text(f"        {line}", _COLOURS.get(line[:1], "")) for line in lines]
    return [Text(f"        {mismatch.what}: expected (-), and got (+)"), *texts]
