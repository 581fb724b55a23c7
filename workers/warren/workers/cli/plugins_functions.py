"""`warren plugins functions`: the host functions that installed distributions offer, and what each needs."""

from __future__ import annotations

import inspect
from typing import Any

from rich.text import Text

from warren.plugins import InstalledFunction, installed_functions

from ..text import printable
from .exit_codes import ExitCode
from .json_data import print_json
from .output import print_error, print_note, stdout


def run(*, as_json: bool) -> ExitCode:
    """All of them, and why some cannot be enabled."""
    found = installed_functions()
    if as_json:
        print_json({"functions": [_data(one) for one in found]})
    else:
        _print(found)
    return ExitCode.FAILED if any(one.error for one in found) else ExitCode.OK


def _data(one: InstalledFunction) -> dict[str, Any]:
    function = one.function
    return {
        "name": one.name,
        "distribution": one.distribution,
        "signature": None if function is None else function.signature,
        "needs": [] if function is None else sorted(function.needs),
        "changes_nothing": function is not None and function.changes_nothing,
        "description": _description(one),
        "error": one.error,
    }


def _description(one: InstalledFunction) -> str:
    return "" if one.function is None else inspect.cleandoc(one.function.__doc__ or "").partition("\n")[0]


def _print(found: list[InstalledFunction]) -> None:
    if not found:
        print_note("no installed distribution offers host functions (entry points 'warren.host_functions')")
    good = [one for one in found if one.error is None]
    if good:
        stdout().print(Text("\n\n").join(map(_paragraph, good)), soft_wrap=True)
    for one in found:
        if one.error is not None:
            print_error(f"{one.name}: {one.error}")


def _paragraph(one: InstalledFunction) -> Text:
    data = _data(one)
    text = Text.assemble((printable(data["signature"]), "bold"))
    if data["description"]:
        text.append(f"\n  {printable(data['description'])}")
    facts = {
        "needs": ", ".join(data["needs"]) or "no capability",
        "shadows": "may call it" if data["changes_nothing"] else "",
        "from": data["distribution"],
    }
    for fact, value in facts.items():
        if value:
            text.append(f"\n  {fact:<14}", "dim").append(printable(value))
    return text
