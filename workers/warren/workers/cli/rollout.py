"""The commands for rollouts: how they are doing on each worker, and orders to begin, to promote, to roll back."""
# ruff: noqa: PLC0415 - see `app`: the bus takes a while to import

from __future__ import annotations

from typing import Annotated

import typer

from .fleet import ORDER_S, QUESTION_S, OneWorker, PluginName, Version
from .options import DEFAULT_PREFIX, AnswerTimeout, AsJson, FleetBroker, Prefix
from .place import Place

rollout = typer.Typer(no_args_is_help=True, help="Watch and steer how a new version comes into use.")


@rollout.command()
def status(
    plugin: Annotated[str | None, typer.Argument(metavar="PLUGIN", help="This plugin's alone.")] = None,
    *,
    broker: FleetBroker,
    worker: OneWorker = None,
    timeout: AnswerTimeout = QUESTION_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Show the rollouts on each worker, with what was counted of both sides, and what was decided and why."""
    from .fleet_work import run_rollouts

    return run_rollouts(Place(broker, prefix, timeout), plugin, worker, as_json=as_json)


@rollout.command()
def start(
    plugin: PluginName,
    version: Version = None,
    *,
    broker: FleetBroker,
    percent: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, max=99, help="Requests of a hundred that it is to get.")
    ] = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--no-shadow", help="Run it beside the old one, and compare the answers.")
    ] = None,
    worker: OneWorker = None,
    timeout: AnswerTimeout = ORDER_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Begin the rollout of a version that is loaded: the highest, as its manifest says, unless told otherwise."""
    from .fleet_work import run_rollout

    place = Place(broker, prefix, timeout)
    what = {"step": "start", "version": version, "percent": percent, "shadow": shadow}
    return run_rollout(place, plugin, worker, as_json=as_json, **what)


@rollout.command()
def promote(
    plugin: PluginName,
    *,
    broker: FleetBroker,
    worker: OneWorker = None,
    timeout: AnswerTimeout = ORDER_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Have the new version get all requests."""
    from .fleet_work import run_rollout

    return run_rollout(Place(broker, prefix, timeout), plugin, worker, as_json=as_json, step="promote")


@rollout.command()
def back(
    plugin: PluginName,
    *,
    broker: FleetBroker,
    worker: OneWorker = None,
    timeout: AnswerTimeout = ORDER_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Have the new version get no more requests, also after it was promoted."""
    from .fleet_work import run_rollout

    return run_rollout(Place(broker, prefix, timeout), plugin, worker, as_json=as_json, step="roll_back")
