"""`warren top`: the fleet, live. It asks as `warren ps` does, again and again, and shows what happened in between."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from warren.bus import Names, PublishError

from ..text import printable
from .exit_codes import ExitCode
from .fleet_view import Rates, rates, survey_view
from .fleet_work import fleet_at, verdict
from .json_data import print_json
from .logs import configure_logging
from .output import print_note, stdout
from .place import Place
from .survey import Survey, survey, survey_data

#: Shows a look, with the rates since the one before, and a word on what went wrong since, if something did.
Show = Callable[[Survey, Rates, str | None], None]


def run(place: Place, every_s: float, *, once: bool, as_json: bool) -> ExitCode:
    """Show it until somebody has seen enough; or once, and then it ends as `warren ps` does."""
    configure_logging("error", as_json=as_json)  # a line of the log would tear the picture
    with suppress(KeyboardInterrupt):
        return asyncio.run(_watch(place, every_s, once=once, as_json=as_json))
    return ExitCode.OK


async def _watch(place: Place, every_s: float, *, once: bool, as_json: bool) -> ExitCode:
    enough = asyncio.Event()
    async with fleet_at(place) as (transport, fleet):
        seen = await survey(transport, Names(place.prefix), fleet, timeout_s=place.timeout_s)
        rated, trouble = Rates(), None
        with _showing(enough, once=once, as_json=as_json) as show:
            while not enough.is_set():
                if not once:
                    show(seen, rated, trouble)
                with suppress(TimeoutError):
                    async with asyncio.timeout(every_s):
                        await enough.wait()
                before, trouble = seen, None
                try:
                    seen = await survey(transport, Names(place.prefix), fleet, timeout_s=place.timeout_s)
                except PublishError as error:  # the broker is away; it is waited for
                    trouble = str(error)
                else:
                    rated = rates(before, seen)
                if once:
                    show(seen, rated, trouble)
                    return verdict(place, seen.heard)
    return ExitCode.OK


@contextmanager
def _showing(enough: asyncio.Event, *, once: bool, as_json: bool) -> Iterator[Show]:
    """How it is shown: in place on a terminal, else one after the other."""
    console = stdout()
    if as_json:
        yield lambda seen, _rated, _trouble: print_json(survey_data(seen))
    elif once or not console.is_terminal:
        yield lambda seen, rated, trouble: _print(console, seen, rated, trouble)
    else:
        with Live(console=console, screen=True, auto_refresh=False) as live, _quitting(enough):
            yield lambda seen, rated, trouble: _draw(live, seen, rated, trouble)


def _print(console: Console, seen: Survey, rated: Rates, trouble: str | None) -> None:
    if trouble is not None:
        print_note(trouble)
        return
    console.print(survey_view(seen, console.width, rated))
    console.print()


def _draw(live: Live, seen: Survey, rated: Rates, trouble: str | None) -> None:
    foot = Text("q ends it", "dim") if trouble is None else Text(printable(trouble), "red")
    live.update(Group(survey_view(seen, live.console.width, rated), Text(), foot), refresh=True)


@contextmanager
def _quitting(enough: asyncio.Event) -> Iterator[None]:
    """Have the key q, or the end of the input, say that it is enough."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    loop, as_it_was = asyncio.get_running_loop(), termios.tcgetattr(keyboard)

    def read() -> None:
        keys = os.read(keyboard, 64)
        if not keys or b"q" in keys.lower():
            enough.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, as_it_was)
