"""What was built does what it should where nothing else of Warren is: no checkout, no development tools."""

from __future__ import annotations

import json
import shutil
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.wheel.packaging import ROOT, Distributions, Environment, build, install

# Filling an environment from an empty cache takes longer than a test may.
pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SAMPLES: Final = [
    f"{name}{suffix}" for name in ("digest", "text_processor", "word_stats") for suffix in (".toml", ".wasm")
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def worker(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What `pip install 'warren[worker]'` gives."""
    return install(f"{built.wheel}[worker]", tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def light(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What `pip install warren` gives."""
    return install(str(built.wheel), tmp_path_factory.mktemp("light"))


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """The sample plugins in one folder, as an operator has them."""
    for name in SAMPLES:
        shutil.copy(ROOT / "plugins" / "examples" / Path(name).stem / name, tmp_path)
    return tmp_path


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_four_packages_with_their_types_and_nothing_but_warren(built: Distributions) -> None:
    held = files(built.wheel)
    for package in ("bus", "manifests", "plugins", "workers"):
        assert {f"warren/{package}/__init__.py", f"warren/{package}/py.typed"} <= held
    assert {name.partition("/")[0] for name in held} == {"warren", f"warren-{VERSION}.dist-info"}
    assert "warren/__init__.py" not in held


def test_the_wheel_holds_the_demos_plugins_and_documents(built: Distributions) -> None:
    held = files(built.wheel)
    assert {f"warren/plugins/samples/{name}" for name in SAMPLES} <= held
    assert {"warren/workers/documents/CHANGELOG.md", "warren/workers/documents/README.md"} <= held


#: Where compilers leave things, beside what is packed.
LEFT_BEHIND: Final = (
    "rust/target",
    "c/template/.build",
    "c/template/build",
    "assemblyscript/node_modules/asc",
    "python/warren/warren_plugin/__pycache__",
)


def test_the_sdist_holds_the_workshop_and_builds_the_same_wheel(built: Distributions, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"warren-{VERSION}"
    assert {".ci", "Makefile", "requirements.lock", "tests"} <= {path.name for path in source.iterdir()}
    for name in LEFT_BEHIND:
        folder = source / "plugins" / "sdk" / name
        folder.mkdir(parents=True)
        (folder / "module.wasm").touch()
    assert files(build(source, tmp_path / "dist").wheel) == files(built.wheel)


def test_the_command_says_its_version(worker: Environment) -> None:
    assert VERSION in worker.run("warren", "--version")


def test_the_demo_needs_no_checkout_and_no_broker(worker: Environment) -> None:
    assert json.loads(worker.run("warren", "demo", "--json"))


def test_the_sample_plugins_pass_the_check(worker: Environment, plugins: Path) -> None:
    worker.run("warren", "check", plugins)


def test_a_plugin_is_called_in_the_embedded_worker(worker: Environment, plugins: Path) -> None:
    data = json.dumps({"text": "One rabbit. Two rabbits."})
    called = worker.run("warren", "call", "text_processor", "process_data", data, "--plugins", plugins, "--json")
    result = json.loads(called)
    assert (result["outcome"], result["plugin"]) == ("ok", "text_processor"), result


def test_the_light_install_has_no_sandbox(light: Environment) -> None:
    installed = {found["name"].lower() for found in json.loads(light.run("pip", "list", "--format", "json"))}
    assert "warren" in installed
    worker_extra = {"jsonschema-rs", "opentelemetry-sdk", "prometheus-client", "uvloop", "wasmtime", "watchfiles"}
    assert installed.isdisjoint(worker_extra)


def test_the_light_install_has_the_client_and_the_command(light: Environment) -> None:
    light.run("python", "-c", "from warren.bus import Client; import warren.manifests")
    assert VERSION in light.run("warren", "--version")


def test_a_light_install_that_is_to_run_plugins_says_what_to_install(light: Environment, plugins: Path) -> None:
    assert "warren[worker]" in light.complaint("warren", "worker", "--plugins", plugins)
