"""`warren plugins`: the commands about a folder's plugins, with their arguments, options and help.

Alone it lists them: `plugins_list`. `plugins_show` is all about one, `plugins_functions` about what they could call.
"""
# ruff: noqa: PLC0415 - see `app`: the sandbox may not even be installed

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .failures import WrongUsage
from .options import AsJson, Plugins, PolicyFile, Secrets

plugins = typer.Typer(invoke_without_command=True)


@plugins.callback()
def list_(
    context: typer.Context,
    *,
    plugins: Annotated[
        Path | None,
        typer.Option(
            envvar="WARREN_PLUGINS", metavar="DIR", exists=True, file_okay=False, help="The folder the plugins are in."
        ),
    ] = None,
    policy: PolicyFile = None,
    secrets: Secrets = None,
    as_json: AsJson = False,
) -> int:
    """Load the plugins of a folder and list them; or show all there is to know of one."""
    if context.invoked_subcommand is not None:
        # What is given before the command holds for it as well.
        context.default_map = {context.invoked_subcommand: {"plugins": plugins, "policy": policy, "as_json": as_json}}
        return 0
    if plugins is None:
        raise WrongUsage("Missing option '--plugins' (env var: 'WARREN_PLUGINS').", "try: warren plugins --help")
    from .plugins_list import run

    return run(plugins, policy, tuple(secrets or ()), as_json=as_json)


@plugins.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name.")],
    *,
    plugins: Plugins,
    policy: PolicyFile = None,
    version: Annotated[
        str | None, typer.Option(metavar="REQ", help="The versions that will do, the highest of which is shown.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show a plugin without running it: what it can be asked for, what it may, and how it is set up."""
    from .plugins_show import run

    return run(plugins, name, version, policy, as_json=as_json)


@plugins.command()
def functions(*, as_json: AsJson = False) -> int:
    """List the host functions that installed distributions offer, for `warren worker --host-functions`.

    Each is imported for that.
    """
    from .plugins_functions import run

    return run(as_json=as_json)
