"""Building the distributions, and installing them where nothing else of Warren is.

What an environment holds is resolved from the wheel's own metadata, so that a dependency missing there is missed here;
the lock's versions are its constraints.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command printed. It has to succeed."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@dataclass(frozen=True, slots=True)
class Distributions:
    """Both distributions of one build."""

    wheel: Path
    sdist: Path


def build(source: Path, folder: Path) -> Distributions:
    """Both distributions of the project at `source`."""
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder, cwd=source)
    return Distributions(next(folder.glob("*.whl")), next(folder.glob("*.tar.gz")))


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment; its commands run in the folder beside it, out of the checkout's sight."""

    home: Path

    def run(self, command: str, *arguments: str | Path) -> str:
        """What a command of this environment printed. It has to succeed."""
        return run(self.home / "bin" / command, *arguments, cwd=self.home.parent)

    def complaint(self, command: str, *arguments: str | Path) -> str:
        """What a command of this environment complained of. It has to fail."""
        line = [self.home / "bin" / command, *arguments]
        ended = subprocess.run(line, cwd=self.home.parent, capture_output=True, text=True, check=False)
        assert ended.returncode != 0, ended.stdout
        return ended.stderr


def install(requirement: str, folder: Path) -> Environment:
    """A new environment in `folder` that holds `requirement` and what it asks for."""
    pins = [line.removesuffix("\\") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    environment = Environment(folder / "environment")
    run(sys.executable, "-m", "venv", environment.home, cwd=folder)
    environment.run("pip", "install", "--quiet", "--quiet", "--constraint", constraints, requirement)
    return environment
