"""The commands that the README prints, each as printed and in its order, with real workers on a real broker.

What is changed on the way: the broker's address, folders under /tmp, and what needs somebody at a terminal (`top` and
`listen --audit` stay until that one quits, `discard` asks).
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.broker import Broker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[2]
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)

#: Blocks that are about the machine or the checkout, by how they begin.
NOT_HERE: Final = ("make ", ". .venv")

#: The only one that is to fail, and says so.
BREAKS: Final = "--against"

#: What needs somebody there, and how it goes without: `timeout` ends with 124 what it has ended.
AT_A_TERMINAL: Final = (
    (r"^(warren top)$", r"\1 --once"),
    (r"^(warren dead discard)", r"\1 --yes"),
    (r"^(warren listen .* --audit.*)$", r"timeout 5 \1 || [ $? = 124 ]"),
)

LIMIT_S: Final = 60.0


class Terminal:
    """A shell in the checkout, with Warren's command on its path."""

    def __init__(self, broker_url: str, scratch: Path) -> None:
        self._url = broker_url
        self._scratch = scratch
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        prefix = f"readme-{secrets.token_hex(4)}"
        self._environment = os.environ | {
            "PATH": path, "WARREN_BROKER": broker_url, "WARREN_PREFIX": prefix, "COLUMNS": "100",
        }  # fmt: skip

    def as_run(self, block: str) -> str:
        here = block.replace("amqp://guest:guest@localhost", self._url).replace("/tmp/", f"{self._scratch}/")  # noqa: S108
        for printed, run in AT_A_TERMINAL:
            here = re.sub(printed, run, here, flags=re.MULTILINE)
        return here

    def run(self, block: str) -> subprocess.CompletedProcess[str]:
        """To its end, and to that of what it left in the background; it stops at the first failure."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{self.as_run(block)}wait\n"],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    @contextmanager
    def worker(self, block: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a block that ends with a worker, until that is no longer needed."""
        script = self.as_run(block).rstrip().replace("\nwarren worker", "\nexec warren worker")
        process = subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, env=self._environment)
        try:
            until = time.monotonic() + LIMIT_S
            while self.run("warren ps\n").returncode:
                assert process.poll() is None, "the worker ended"
                assert time.monotonic() < until, "no worker came"
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            assert process.wait(LIMIT_S) == 0


def is_worker(block: str) -> bool:
    return block.splitlines()[-1].startswith("warren worker")


def test_every_command_of_the_readme_runs_as_printed(broker: Broker, tmp_path: Path) -> None:
    terminal = Terminal(broker.url, tmp_path)
    blocks = [block for block in BLOCKS if not block.startswith(NOT_HERE)]
    [samples, trial] = [block for block in blocks if is_worker(block)]
    for block in blocks:
        if is_worker(block):
            continue
        with terminal.worker(trial if "rollout" in block else samples) as worker:
            ran = terminal.run(block)
            if "warren drain" in block:
                worker.wait(LIMIT_S)
        expected = 1 if BREAKS in block else 0
        assert ran.returncode == expected, f"{block}\n{ran.stdout}\n{ran.stderr}"
