"""What the commands for a fleet do: ask all workers, wait for a bounded time, and say who did not answer.

exit code 0   all that are known of have answered, and could
          1   one of them could not, or refused to; or none of them has such a plugin
          2   there is no worker at all
          5   one that is known to be there did not answer in time
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from warren.bus import (
    Answer,
    Drain,
    Fleet,
    Heard,
    Inspect,
    ListRollouts,
    Names,
    Order,
    Problem,
    Reload,
    StepRollout,
    Transport,
    Unload,
    connect,
)

from .exit_codes import ExitCode
from .failures import WrongUsage
from .fleet_view import answer_line, inspected, rollouts_view, survey_view
from .json_data import print_json
from .logs import configure_logging
from .output import print_error, stdout
from .place import Place
from .survey import by_worker, problems, shortfalls, survey, survey_data

#: To reach the broker; how long workers may take to answer is another matter.
CONNECT_LIMIT_S: Final = 10.0


@asynccontextmanager
async def fleet_at(place: Place) -> AsyncIterator[tuple[Transport, Fleet]]:
    """A connection to a broker, and the fleet there. Raises `BusError`."""
    transport = await connect(place.broker, timeout_s=CONNECT_LIMIT_S, name="warren fleet")
    try:
        async with Fleet(transport, Names(place.prefix)) as fleet:
            yield transport, fleet
    finally:
        await transport.close()


def run_ps(place: Place, *, as_json: bool) -> ExitCode:
    async def look() -> ExitCode:
        async with fleet_at(place) as (transport, fleet):
            seen = await survey(transport, Names(place.prefix), fleet, timeout_s=place.timeout_s)
        if as_json:
            print_json(survey_data(seen))
        elif seen.workers:
            console = stdout()
            console.print(survey_view(seen, console.width))
        return verdict(place, seen.heard)

    configure_logging("warning", as_json=as_json)
    return asyncio.run(look())


def run_inspect(place: Place, plugin: str, worker: str | None, *, as_json: bool) -> ExitCode:
    heard = _ask(place, _order(Inspect, plugin=plugin, worker=worker), as_json=as_json)
    if as_json:
        print_json({"plugin": plugin, **_data(heard)})
    else:
        answers = [answer for answer in by_worker(heard.answers.values()) if answer.answer is not None]
        if answers:
            stdout().print(inspected(answers, time.time()), soft_wrap=True)
    return verdict(place, heard)


def run_reload(place: Place, plugin: str, version: str | None, worker: str | None, *, as_json: bool) -> ExitCode:
    return _run(place, _order(Reload, plugin=plugin, version=version, worker=worker), as_json=as_json)


def run_unload(
    place: Place, plugin: str, version: str | None, worker: str | None, *, with_dependants: bool, as_json: bool
) -> ExitCode:
    order = _order(Unload, plugin=plugin, version=version, worker=worker, with_dependants=with_dependants)
    return _run(place, order, as_json=as_json)


def run_rollouts(place: Place, plugin: str | None, worker: str | None, *, as_json: bool) -> ExitCode:
    heard = _ask(place, _order(ListRollouts, plugin=plugin, worker=worker), as_json=as_json)
    if as_json:
        print_json({"plugin": plugin, **_data(heard)})
    else:
        answers = [answer for answer in by_worker(heard.answers.values()) if answer.answer is not None]
        if answers:
            stdout().print(rollouts_view(answers), soft_wrap=True)
    return verdict(place, heard)


def run_rollout(place: Place, plugin: str, worker: str | None, *, as_json: bool, **step: Any) -> ExitCode:
    return _run(place, _order(StepRollout, plugin=plugin, worker=worker, **step), as_json=as_json)


def run_drain(place: Place, worker: str | None, *, everything: bool, as_json: bool) -> ExitCode:
    if (worker is None) is not everything:
        hint = "name one, as `warren ps` shows it, or give --all"
        raise WrongUsage("--all means every worker, and a name means one" if everything else "which worker?", hint)
    return _run(place, _order(Drain, worker=worker), as_json=as_json)


def _order(kind: type[Order], **fields: Any) -> Order:
    """Raises `WrongUsage` for what cannot be said in an order."""
    try:
        return kind(**fields)
    except ValueError as error:
        name = fields.get("plugin", fields.get("worker"))
        raise WrongUsage(f"{name!r:.100} cannot be meant by an order to {kind.name}: {_first_line(error)}") from error


def _first_line(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    return str(error) if errors is None else str(errors(include_url=False)[0]["msg"])


def _run(place: Place, order: Order, *, as_json: bool) -> ExitCode:
    heard = _ask(place, order, as_json=as_json)
    if as_json:
        print_json({"order": order.name, **_data(heard)})
    else:
        for answer in by_worker(heard.answers.values()):
            if answer.answer is not None:
                stdout().print(answer_line(order, answer), soft_wrap=True)
    return verdict(place, heard)


def _ask(place: Place, order: Order, *, as_json: bool) -> Heard:
    async def ask() -> Heard:
        async with fleet_at(place) as (_, fleet):
            return await fleet.ask(order, timeout_s=place.timeout_s)

    configure_logging("warning", as_json=as_json)
    return asyncio.run(ask())


def _data(heard: Heard) -> dict[str, Any]:
    answers = [answer for answer in by_worker(heard.answers.values()) if answer.answer is not None]
    return {"answers": [{"worker": one.worker, **(one.answer or {})} for one in answers], **shortfalls(heard)}


def verdict(place: Place, heard: Heard) -> ExitCode:
    """Say on stderr what is lacking, and how it ended."""
    if not heard.expected:
        there = f"no worker answers on this broker under the prefix {place.prefix!r}"
        print_error(there, "`warren worker` starts one; --prefix or WARREN_PREFIX names another installation")
        return ExitCode.USAGE
    lacking, failed = _sorted_out(heard)
    for answer in failed:
        print_error(f"{answer.worker}: {answer.error}")
    if heard.silent:
        waited = f"within {place.timeout_s:g} s; it may be stuck, or frozen, or just gone"
        for name in heard.silent:
            print_error(f"{name}: no answer {waited}")
    if failed:
        return ExitCode.FAILED
    if heard.silent:
        return ExitCode.TIMED_OUT
    return ExitCode.FAILED if lacking else ExitCode.OK


def _sorted_out(heard: Heard) -> tuple[list[Answer], list[Answer]]:
    """Who does not have the plugin, and who failed. Not to have it is no failure, while another one has it."""
    faulty = problems(heard)
    lacking = [answer for answer in faulty if answer.problem is Problem.NOT_FOUND]
    if len(lacking) == len(heard.answers):
        return lacking, faulty
    return [], [answer for answer in faulty if answer.problem is not Problem.NOT_FOUND]
