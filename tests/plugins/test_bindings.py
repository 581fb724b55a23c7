"""The raw bindings refuse to work with a wasmtime that they were not checked against."""

from __future__ import annotations

import subprocess
import sys

from warren.plugins.bindings import CHECKED_VERSIONS

FAKED = """
import importlib.metadata as metadata
real = metadata.version
metadata.version = lambda name: "51.0.0" if name == "wasmtime" else real(name)
import warren.plugins.bindings
"""


def test_an_unknown_version_of_wasmtime_is_refused_at_import() -> None:
    done = subprocess.run([sys.executable, "-c", FAKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: wasmtime 51.0.0 is installed, but this Warren was checked against {CHECKED_VERSIONS[-1]} only; "
        f"install it with: pip install 'wasmtime=={CHECKED_VERSIONS[-1]}'"
    )


def test_a_bad_access_is_a_trap_even_when_faulthandler_is_enabled_later() -> None:
    """Otherwise the handler would take the signal by which wasmtime catches it, and end the process."""
    program = """
import asyncio, faulthandler, sys
from tests.guests import wat, write_plugin
from warren.plugins import PluginManager
from pathlib import Path
async def main(folder):
    async with PluginManager() as manager:
        faulthandler.enable()
        plugin = await manager.load_plugin(write_plugin(folder, "a", wat("(i64.load (i32.const -8))")))
        print((await plugin.run(b"{}")).error)
import tempfile
with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the guest accessed memory out of bounds\n"
