"""Running `warren`: in this process, or in one of its own where that makes a difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner

from warren.workers.cli.app import app

EXAMPLES: Final = Path(__file__).parents[3] / "plugins" / "examples"

#: The command, as a process.
COMMAND: Final = (sys.executable, "-m", "warren.workers.cli")

#: Where nobody listens: the port is reserved (RFC 6335), and on loopback nothing answers for it.
NO_BROKER: Final = "amqp://127.0.0.1:1"

LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its whole stdout, which has to be one JSON value."""
        return json.loads(self.out)


def warren(*arguments: str | Path, stdin: str = "") -> Ended:
    """Run the command in this process."""
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
    return Ended(result.exit_code, result.stdout, result.stderr)


def warren_process(*arguments: str | Path, stdin: str = "", **environment: str) -> Ended:
    """Run the command in a process of its own."""
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=os.environ | environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
