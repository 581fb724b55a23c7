"""The project's own promises: one namespace, its import contracts, its types, and a client that needs no sandbox."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
FOLDERS: Final = ("bus", "manifests", "plugins", "workers")

#: What `pip install warren` leaves out, by the names it is imported under.
WORKER_EXTRA: Final = (
    "jsonschema_rs",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "uvloop",
    "wasmtime",
    "watchfiles",
)

#: Imports a package and all that is in it, in an interpreter that refuses the modules named after it.
IMPORT_WITHOUT: Final = """
import importlib, pkgutil, sys
package, *refused = sys.argv[1:]
sys.modules.update(dict.fromkeys(refused))
for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    importlib.import_module(found.name)
"""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_warren_is_a_namespace_that_no_folder_owns() -> None:
    assert [str(path) for folder in FOLDERS for path in ROOT.glob(f"{folder}/warren/__init__.py")] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_package_says_that_it_is_typed(folder: str) -> None:
    assert (ROOT / folder / "warren" / folder / "py.typed").is_file()


def test_the_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("package", ["warren.bus", "warren.manifests"])
def test_the_light_client_imports_without_the_worker_extra(package: str) -> None:
    command = [sys.executable, "-c", IMPORT_WITHOUT, package, *WORKER_EXTRA]
    imported = subprocess.run(command, capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr


def test_the_changelog_has_the_version_that_is_built(project: dict[str, Any]) -> None:
    assert f"## [{project['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_lock_pins_every_distribution_with_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    pins = [line for line in lock.splitlines() if not line.startswith("#")]
    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)
    assert "://" not in lock
