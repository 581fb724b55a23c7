"""`warren schema`: the manifest's JSON Schema, as editors want it."""

from __future__ import annotations

import typer

from warren.manifests.plugin_schema import schema_text

from .exit_codes import ExitCode


def run() -> ExitCode:
    """Print it."""
    typer.echo(schema_text(), nl=False)
    return ExitCode.OK
