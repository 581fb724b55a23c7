"""The commands for a fleet: who is there, and orders to it. `fleet_work` is what they do, `top` the live one.

They stand at the top, beside `warren worker`, and not below a word of their own.
"""
# ruff: noqa: PLC0415 - see `app`: the bus takes a while to import

from __future__ import annotations

from typing import Annotated, Final

import typer

from .options import DEFAULT_PREFIX, AnswerTimeout, AsJson, FleetBroker, Prefix
from .place import Place

fleet = typer.Typer()

#: A question is answered in milliseconds; who takes longer is stuck.
QUESTION_S: Final = 2.0

#: A module that is new to its machine is compiled first.
RELOAD_S: Final = 60.0

ORDER_S: Final = 10.0

FLEET_PANEL: Final = "The fleet"

PluginName = Annotated[str, typer.Argument(metavar="PLUGIN", help="The plugin's name.")]
Version = Annotated[str | None, typer.Argument(metavar="VERSION", help="This version of it alone.")]
OneWorker = Annotated[
    str | None, typer.Option("--worker", metavar="WORKER", help="This worker alone, by the name that `ps` shows.")
]


@fleet.command(rich_help_panel=FLEET_PANEL)
def ps(
    *,
    broker: FleetBroker,
    timeout: AnswerTimeout = QUESTION_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """List workers, what they serve and what they have counted, and what waits in their mailboxes."""
    from .fleet_work import run_ps

    return run_ps(Place(broker, prefix, timeout), as_json=as_json)


@fleet.command(rich_help_panel=FLEET_PANEL)
def top(
    *,
    broker: FleetBroker,
    every: Annotated[float, typer.Option(metavar="S", min=0.1, help="Seconds from one look to the next.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look for that long, show it, and end.")] = False,
    timeout: AnswerTimeout = QUESTION_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Watch the workers, those with the most to do first, until q or Ctrl-C."""
    from .top import run

    return run(Place(broker, prefix, timeout), every, once=once, as_json=as_json)


@fleet.command(rich_help_panel=FLEET_PANEL)
def inspect(
    plugin: PluginName,
    *,
    broker: FleetBroker,
    worker: OneWorker = None,
    timeout: AnswerTimeout = QUESTION_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Show all that the workers know of a plugin: what it may, and what has become of its runs."""
    from .fleet_work import run_inspect

    return run_inspect(Place(broker, prefix, timeout), plugin, worker, as_json=as_json)


@fleet.command(rich_help_panel=FLEET_PANEL)
def reload(
    plugin: PluginName,
    version: Version = None,
    *,
    broker: FleetBroker,
    worker: OneWorker = None,
    timeout: AnswerTimeout = RELOAD_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Have workers load a plugin's files again. Where the new one is bad, the old one stays."""
    from .fleet_work import run_reload

    return run_reload(Place(broker, prefix, timeout), plugin, version, worker, as_json=as_json)


@fleet.command(rich_help_panel=FLEET_PANEL)
def unload(
    plugin: PluginName,
    version: Version = None,
    *,
    broker: FleetBroker,
    with_dependants: Annotated[
        bool, typer.Option("--with-dependants", help="And the plugins that need it, before it.")
    ] = False,
    worker: OneWorker = None,
    timeout: AnswerTimeout = ORDER_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Have workers take a plugin out of use; runs under way end well."""
    from .fleet_work import run_unload

    place = Place(broker, prefix, timeout)
    return run_unload(place, plugin, version, worker, with_dependants=with_dependants, as_json=as_json)


@fleet.command(rich_help_panel=FLEET_PANEL)
def drain(
    worker: Annotated[str | None, typer.Argument(metavar="WORKER", help="Its name, as `ps` shows it.")] = None,
    *,
    broker: FleetBroker,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    timeout: AnswerTimeout = ORDER_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Have a worker process take no more, finish what it has begun, and end for good."""
    from .fleet_work import run_drain

    return run_drain(Place(broker, prefix, timeout), worker, everything=everything, as_json=as_json)
