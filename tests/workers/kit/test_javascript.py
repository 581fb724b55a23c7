"""A project in JavaScript exports what its world has, or is not built: componentize-qjs would not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from warren.manifests import Policy
from warren.workers.kit.building import build
from warren.workers.kit.errors import BuildFailed
from warren.workers.kit.languages import language
from warren.workers.kit.project import create_project

HANDLER = "export const handler ="
LIFECYCLE = "export const lifecycle = { initialize() {}, healthCheck() {}, shutdown() {} };"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    javascript = language("javascript")
    create_project("hello", javascript, tmp_path / "hello")
    missing = javascript.missing(tmp_path / "hello")
    if missing is not None:
        pytest.skip(str(missing))
    return tmp_path / "hello"


def built(project: Path) -> None:
    build(project, plugins=None, debug=False, policy=Policy())


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("world", "exports", "reason"),
    [
        ("plugin", "const handler =", "plugin.js has no `export const handler = actions({ ... })`"),
        ("plugin", f"{LIFECYCLE}\n{HANDLER}", "write plugin-with-lifecycle after --world"),
        ("plugin-with-lifecycle", HANDLER, "needs `export const lifecycle = hooks({ ... })`"),
    ],
)
def test_exports_that_are_not_those_of_the_world_fail_the_build(
    project: Path, capfd: pytest.CaptureFixture[str], world: str, exports: str, reason: str
) -> None:
    replace(project / "toolchain.toml", '"plugin"', f'"{world}"')
    replace(project / "plugin.js", HANDLER, exports)
    with pytest.raises(BuildFailed):
        built(project)
    assert reason in capfd.readouterr().err


@pytest.mark.toolchain
def test_a_plugin_with_a_lifecycle_is_built_in_its_world(project: Path) -> None:
    replace(project / "toolchain.toml", '"plugin"', '"plugin-with-lifecycle"')
    replace(project / "plugin.js", HANDLER, f"{LIFECYCLE}\n{HANDLER}")
    built(project)
