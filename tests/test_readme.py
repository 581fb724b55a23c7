"""What the README prints runs as it is printed, as far as it needs no broker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
BLOCKS: Final = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("using", "prints"), [("PluginManager(", "'characters'"), ("embedded(", "'running'")])
def test_a_program_of_the_readme_runs_as_printed(using: str, prints: str) -> None:
    [program] = [block for block in BLOCKS if using in block]
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert prints in ran.stdout


def test_a_plugin_takes_six_lines_of_python() -> None:
    [program] = [block for block in BLOCKS if "PluginManager(" in block]
    assert len([line for line in program.splitlines() if line]) == 6
