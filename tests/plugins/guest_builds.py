"""Building guests with `build.sh` where a test needs them anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "plugins" / "examples" / "build.sh"

#: sysexits.h's EX_UNAVAILABLE: what build.sh says when a tool is missing.
TOOL_MISSING: Final = 69


def build(folder: Path, tmp_path_factory: pytest.TempPathFactory, **variables: str) -> Path:
    """Where the module of the sources in `folder` now lies. Skips the test for want of a tool, with what to install."""
    out = tmp_path_factory.mktemp(folder.name)
    crates = tmp_path_factory.getbasetemp() / "crates"  # built once for all plugins in Rust
    tools = {"PYTHON": sys.executable, **os.environ, "CARGO_TARGET_DIR": str(crates), **variables}
    command = [str(BUILD), str(folder), str(out)]
    built = subprocess.run(command, env=tools, capture_output=True, text=True, check=False)
    if built.returncode == TOOL_MISSING:
        pytest.skip(built.stderr.strip())
    assert built.returncode == 0, built.stderr
    return out
