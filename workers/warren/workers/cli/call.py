"""`warren call`: one request, and its result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.highlighter import JSONHighlighter

from warren.bus import Client, Names, Result, request_message
from warren.manifests import VersionReq

from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import json_text, print_json, read_data
from .logs import configure_logging
from .output import print_error, stdout
from .result_view import exit_code, figures, result_data
from .waterfall import waterfall


@dataclass(frozen=True, slots=True)
class Call:
    """What the command line asked for. `where` is a folder of plugins to run here, or the URL of a broker."""

    plugin: str
    action: str
    data: str | None
    where: Path | str
    timeout_s: float
    version: str | None
    prefix: str
    host_functions: tuple[str, ...] = ()
    policy: Path | None = None
    secrets: tuple[Path, ...] = ()


def destination(plugins: Path | None, broker: str | None) -> Path | str:
    """The one of the two that is given. Raises `WrongUsage`."""
    match plugins, broker:
        case None, str():
            return broker
        case Path(), None:
            return plugins
        case None, None:
            hint = "--plugins DIR runs it here, --broker URL (or WARREN_BROKER) in whichever worker serves it"
            raise WrongUsage("where is the plugin?", hint)
        case _:
            raise WrongUsage("--plugins runs the plugin here and --broker elsewhere; give one of them")


def run(call: Call, log_level: str, *, trace: bool, as_json: bool, record: Path | None = None) -> ExitCode:
    """Call, print the result, and give the exit code its outcome has. `record` is where the run is to be recorded."""
    if call.version is not None:
        _check_requirement(call.version)
    data = read_data(call.data)
    configure_logging(log_level, as_json=as_json)
    result = asyncio.run(_call(call, data, record=record is not None))
    if as_json:
        print_json(result_data(result))
    else:
        _print(result, trace=trace)
    if record is not None:
        _save(call, data, result, record)
    return exit_code(result.outcome)


def _check_requirement(requirement: str) -> None:
    try:
        VersionReq.parse(requirement)
    except ValueError as error:
        raise WrongUsage(str(error)) from error


def _save(call: Call, data: Any, result: Result, path: Path) -> None:
    """Raises `WrongUsage` where there is no recording, and OSError."""
    from warren.plugins import unpack_recording  # noqa: PLC0415

    from .replay import save  # noqa: PLC0415

    if result.recording is None:
        hint = "a worker gives them with --record dead-letters,callers; a request that was rejected has none"
        raise WrongUsage("the result came without a recording", hint)
    request = request_message(Names(call.prefix), call.plugin, call.action, data).body
    save(unpack_recording(result.recording).with_request(request), path)


async def _call(call: Call, data: Any, *, record: bool) -> Result:
    if isinstance(call.where, str):
        async with Client(call.where, prefix=call.prefix, timeout_s=call.timeout_s) as client:
            return await _ask(client, call, data, record=record)
    # Here, so that a client with no sandbox can call workers elsewhere.
    from warren.plugins import enabled_functions  # noqa: PLC0415

    from ..embedded import embedded  # noqa: PLC0415
    from .policy import chosen_policy  # noqa: PLC0415

    functions = enabled_functions(call.host_functions)
    policy = chosen_policy(call.policy)
    async with embedded(
        call.where, policy=policy, timeout_s=call.timeout_s, host_functions=functions, secrets=call.secrets
    ) as here:
        return await _ask(here.client, call, data, record=record)


async def _ask(client: Client, call: Call, data: Any, *, record: bool) -> Result:
    try:
        return await client.call(call.plugin, call.action, data, version=call.version, record=record)
    except ValueError as error:
        raise WrongUsage(str(error)) from error


def _print(result: Result, *, trace: bool) -> None:
    console = stdout()
    if result.result is not None:
        console.print(JSONHighlighter()(json_text(result.result, indent=2)), soft_wrap=True)
    console.print(figures(result), soft_wrap=True)
    if trace and result.trace is not None:
        console.print()
        console.print(waterfall(result.trace))
    if result.error is not None:
        print_error(result.error)
